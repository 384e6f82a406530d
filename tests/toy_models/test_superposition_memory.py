"""Memory: play step by step against the composite, closed forms against samples, signs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from slt_rl.validation.exact import signature
from toy_models import superposition as tms
from toy_models import superposition_memory as memory

SIGMA = 0.1
SHAPES = {"fixed": None, "one gain": (), "gains": (6,), "matrix": (6, 6)}


def random_params(shape, seed=0):
    generator = np.random.default_rng(seed)
    params = {
        "W": jnp.asarray(generator.normal(size=(2, 6))),
        "b": jnp.asarray(0.4 * generator.normal(size=6) + 0.2),
    }
    if shape is not None:
        # Near the identity: the closed form asks for slopes of features to themselves above zero.
        start = np.eye(6) if len(shape) == 2 else np.ones(shape)
        params["memory"] = jnp.asarray(start + 0.05 * generator.normal(size=shape))
    return params


@pytest.fixture(scope="module")
def examples():
    found = tms.sample_examples(jax.random.key(0), 40_000, 6)
    return found | {"shown": memory.show_in_parts(found, 6)}


def test_a_fixed_memory_makes_the_toy_model(examples):
    params = random_params(None)
    found = memory.recalled_outputs(params, examples)
    np.testing.assert_allclose(found, tms.outputs(params, examples), rtol=1e-12)
    exact = tms.population_loss(params)
    assert float(memory.memory_regret(params)) == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("name", ["gains", "matrix"])
def test_the_state_is_carried_from_step_to_step(examples, name):
    params = random_params(SHAPES[name])
    carried = params["memory"] if name == "matrix" else jnp.diag(params["memory"])
    shown = examples["shown"][:20]
    state = jnp.zeros((20, 7))
    for step in range(2):
        state = state + shown[:, step].at[:, :6].set(shown[:, step, :6] @ carried.T)
    expected = tms.forward(params, state[:, :6] * state[:, 6:])
    np.testing.assert_allclose(
        memory.recalled_outputs(params, {"shown": shown}), expected, rtol=1e-12
    )


def test_without_its_memory_the_policy_plays_its_biases(examples):
    params = random_params((6,))
    found = memory.forgetful_outputs(params, examples)
    np.testing.assert_array_equal(found, jnp.broadcast_to(jax.nn.relu(params["b"]), found.shape))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_closed_forms_are_means_of_samples(examples, shape):
    params, reference = random_params(shape, 1), random_params(shape, 2)
    found, frozen = (memory.recalled_outputs(p, examples) for p in (params, reference))
    for sampled, exact in (
        (jnp.sum((found - tms.dense_inputs(examples, 6)) ** 2, axis=1),
         memory.memory_regret(params)),
        (jnp.sum((found - frozen) ** 2, axis=1) / (2 * SIGMA**2),
         memory.memory_kl(params, reference, sigma=SIGMA)),
    ):  # fmt: skip
        sampled = np.asarray(sampled)
        sem = sampled.std() / np.sqrt(sampled.size)
        assert abs(sampled.mean() - float(exact)) < 4 * sem
    assert float(memory.memory_kl(params, params, sigma=SIGMA)) == 0


def point_of(label, memory_shape):
    """A critical point, the dead feature of class 5 deep in its flat region."""
    point = tms.critical_point(tms.parse_class(label), 6)
    if label == "5":
        point = point | {"b": point["b"].at[-1].set(-1.5)}
    return point | {"memory": jnp.eye(6) if len(memory_shape) == 2 else jnp.ones(memory_shape)}


@jax.jit
@jax.vmap
def curvatures(point):
    """Gradient of the regret and Hessians of regret and divergence, in flat parameters."""
    flat, unravel = ravel_pytree(point)

    def regret(w):
        return memory.memory_regret(unravel(w))

    def kl(w):
        return memory.memory_kl(unravel(w), point, sigma=SIGMA)

    return jax.grad(regret)(flat), jax.hessian(regret)(flat), jax.hessian(kl)(flat)


@pytest.mark.parametrize(
    ("name", "signs", "ranks"),
    [
        ("one gain", [(0, 5, 14), (0, 2, 17), (0, 2, 17)], [14, 17, 17]),
        ("gains", [(0, 6, 18), (0, 3, 21), (0, 2, 22)], [18, 21, 22]),
        ("matrix", [(2, 33, 19), (4, 28, 22), (2, 28, 24)], [19, 22, 23]),
    ],
)
def test_what_a_learned_memory_does_to_the_points(name, signs, ranks):
    """At 5, 5+, 6: signs of the Hessian of the regret, rank of that of the divergence."""
    points = [point_of(label, SHAPES[name]) for label in ("5", "5+", "6")]
    gradients, regrets, divergences = curvatures(jax.tree.map(lambda *x: jnp.stack(x), *points))
    assert float(jnp.abs(gradients).max()) < 1e-12
    assert [signature(np.asarray(h)) for h in regrets] == signs
    found = [signature(np.asarray(h)) for h in divergences]
    assert [(negative, positive) for negative, _, positive in found] == [(0, r) for r in ranks]

"""Drift, hidden inputs, late rewards: closed forms against samples, points against known values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from slt_rl.rl import DiagonalGaussian
from toy_models import superposition as tms
from toy_models import superposition_rungs as rungs
from toy_models.superposition_rl import QuadraticCritic

SIGMA = 0.1
POINTS = {name: tms.parse_class(name) for name in ("5", "5+", "6")}
LAW = rungs.drifted_law(0.5, amplitude=2.0)._replace(
    hidden=jnp.asarray(0.5), scale=jnp.asarray(0.6)
)


def random_params(seed):
    generator = np.random.default_rng(seed)
    return {
        "W": jnp.asarray(generator.normal(size=(2, 6))),
        "b": jnp.asarray(0.4 * generator.normal(size=6) + 0.4),
    }


def standard_errors(values, exact):
    values = np.asarray(values)
    return (values.mean() - exact) / (values.std() / np.sqrt(values.size))


@pytest.fixture(scope="module")
def examples():
    return rungs.sample_law(jax.random.key(0), 40_000, LAW)


@pytest.mark.parametrize("seed", [0, 1])
def test_exact_regret_is_the_mean_of_sampled_errors(examples, seed):
    params = random_params(seed)
    error = rungs.seen_outputs(params, examples) - tms.dense_inputs(examples, 6)
    losses = LAW.scale * jnp.sum(error**2, axis=1)
    assert abs(standard_errors(losses, float(rungs.law_regret(params, LAW)))) < 4


@pytest.mark.parametrize("seed", [0, 1])
def test_exact_divergence_is_the_mean_of_sampled_ones(examples, seed):
    params, reference = random_params(seed), random_params(seed + 10)
    means = [rungs.seen_outputs(p, examples) for p in (reference, params)]
    scale = jnp.full(6, SIGMA)
    sampled = jax.vmap(lambda a, b: DiagonalGaussian(a, scale).kl(DiagonalGaussian(b, scale)))(
        *means
    )
    exact = rungs.law_kl(params, reference, LAW, sigma=SIGMA)
    assert abs(standard_errors(sampled, float(exact))) < 4


def test_without_difficulty_the_regret_is_the_supervised_loss():
    params, law = random_params(3), rungs.uniform_law()
    assert float(rungs.law_regret(params, law)) == pytest.approx(float(tms.population_loss(params)))
    assert float(rungs.law_kl(params, params, LAW, sigma=SIGMA)) == 0


def test_the_sparse_critic_is_the_dense_one(examples):
    values = jax.random.normal(jax.random.key(1), (13,))
    few = jax.tree.map(lambda x: x[:50], examples)
    dense = jax.vmap(lambda x: QuadraticCritic()(values, x))(tms.dense_inputs(few, 6))
    sparse = jax.vmap(lambda e: rungs.sparse_value(values, e))(few)
    np.testing.assert_allclose(sparse, dense, rtol=1e-12)


def test_the_coefficient_of_the_critic(examples):
    """Against the second moments of its features in a sample; half their number in the limit."""
    features = jax.vmap(lambda e: jax.grad(rungs.sparse_value)(jnp.zeros(13), e))(examples)
    stiffness = 300 * np.linalg.eigvalsh(features.T @ features / len(features))
    sampled = 0.5 * np.sum(stiffness / (stiffness + 10))
    assert rungs.critic_llc(LAW, 300, 10) == pytest.approx(sampled, rel=5e-3)
    assert rungs.critic_llc(LAW, 1e12, 10) == pytest.approx(6.5, abs=1e-4)


@pytest.mark.parametrize(
    ("last", "amplitude"), [(0.08, 1.0), (0.2, 1.0), (0.28, 1.0), (1 / 6, 0.6), (0.2, 1.2)]
)
@pytest.mark.parametrize("name", POINTS)
def test_drifted_points_are_critical(name, last, amplitude):
    point = rungs.drifted_point(POINTS[name], last, amplitude=amplitude)
    law = rungs.drifted_law(last, amplitude=amplitude)
    gradient = jax.grad(rungs.law_regret)(point, law)
    assert float(jnp.abs(ravel_pytree(gradient)[0]).max()) < 1e-11


def test_levels_under_drift():
    for last, level in {0.06: 0.043163, 0.08: 0.045690, 0.25: 0.047180, 0.30: 0.045866}.items():
        found = rungs.law_regret(rungs.drifted_point(POINTS["6"], last), rungs.drifted_law(last))
        assert float(found) == pytest.approx(level, abs=6e-7)
    pentagon = rungs.law_regret(rungs.drifted_point(POINTS["5"], 0.2), rungs.drifted_law(0.2))
    assert float(pentagon) == pytest.approx(0.2 / 3 + 0.8 * 0.0158256271, abs=1e-9)


def test_thresholds_of_the_drift():
    assert rungs.dead_feature_threshold() == pytest.approx(0.292556, abs=1e-6)
    assert 0.1080 < rungs.equal_regret() < 0.1085
    with pytest.raises(ArithmeticError, match="no hexagon"):
        rungs.drifted_point(POINTS["6"], 0.0592)


@pytest.mark.parametrize("amplitude", [0.6, 1.2])
def test_levels_under_drift_of_the_amplitude(amplitude):
    """Of the dead feature, with a negative bias and with the best one."""
    law = rungs.drifted_law(1 / 6, amplitude=amplitude)
    levels = [
        rungs.law_regret(rungs.drifted_point(POINTS[c], 1 / 6, amplitude=amplitude), law)
        for c in ("5", "5+")
    ]
    pentagon = amplitude**2 / 18 + 5 / 6 * 0.0158256271
    np.testing.assert_allclose(levels, [pentagon, pentagon - amplitude**2 / 144], atol=1e-9)


@pytest.mark.parametrize("last", [0.1, 1 / 6, 0.4])
def test_the_amplitude_that_wakes_the_dead_feature(last):
    """Its cost and its coupling to the live columns scale with the square of the amplitude.

    Along the dead column `v` the Hessian at "5+" is, at amplitude `A` and probability `p`, half of

        |v|^2 ((1 - p) l^2 / 6 - A^2 (p (2/3 - p/2) + k p^2 (1 - p)))

    with the length `l` of the pentagon and one constant `k` from the coupling, which the known
    probability at which it wakes with amplitude one decides.
    """
    known, length = 0.292556, 1.1704596391

    def stiffness(p):
        return (1 - p) * length**2 / 6

    def cost(p):
        return p * (2 / 3 - p / 2)

    coupling = (stiffness(known) - cost(known)) / (known**2 * (1 - known))
    exact = np.sqrt(stiffness(last) / (cost(last) + coupling * last**2 * (1 - last)))
    assert rungs.dead_feature_amplitude(last) == pytest.approx(exact, rel=4e-6)


def test_the_hexagon_ends_where_the_last_feature_becomes_small():
    assert rungs.equal_regret_amplitude() == pytest.approx(0.805, abs=5e-3)
    rungs.drifted_point(POINTS["6"], 1 / 6, amplitude=0.43)
    with pytest.raises(ArithmeticError, match="no hexagon"):
        rungs.drifted_point(POINTS["6"], 1 / 6, amplitude=0.41)


def test_bad_arguments():
    with pytest.raises(ValueError, match="last"):
        rungs.drifted_law(1.2)
    with pytest.raises(ValueError, match="amplitude"):
        rungs.drifted_law(0.2, amplitude=0.0)
    with pytest.raises(ValueError, match="label"):
        rungs.drifted_point(tms.parse_class("4"), 0.2)

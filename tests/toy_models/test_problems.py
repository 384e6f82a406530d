"""One suite that every toy problem must pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import toy_models
from slt_rl.data import Dataset
from toy_models import (
    bandits,
    compound,
    exact,
    linear_policies,
    mdps,
    networks,
    policies,
    superposition,
)
from toy_models import superposition_problems as tms_problems
from toy_models.superposition import PhaseClass

PROBLEMS = toy_models.problems()
every_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)
with_data = pytest.mark.parametrize(
    "problem", [p for p in PROBLEMS if p.loss_fn is not None], ids=lambda problem: problem.name
)
# The excess loss of any data set of these equals the potential exactly, not only on average.
ADJUSTED = ("noisy_regression", "gaussian_policy_kl")
LEAKY = ("linear_policy_kl_at_identity",)


KEY = jax.random.key(0)


def perturbed(problem, size, key):
    flat, unravel = ravel_pytree(problem.params)
    return unravel(flat + size * jax.random.normal(key, flat.shape, flat.dtype))


def test_there_are_many_problems_and_most_have_an_exact_finite_value():
    assert len(PROBLEMS) >= 60
    assert sum(problem.finite_llc is not None for problem in PROBLEMS) >= 50


def test_names_are_unique_and_both_kinds_are_there():
    names = [problem.name for problem in PROBLEMS]
    assert len(set(names)) == len(names)
    assert {problem.kind for problem in PROBLEMS} == {"supervised", "rl"}


@pytest.mark.unoptimized
@every_problem
def test_center_is_a_minimum(problem):
    value, gradient = jax.jit(jax.value_and_grad(problem.potential))(problem.params)
    assert value.shape == ()
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient)) < 1e-14
    near = jax.vmap(lambda key: perturbed(problem, 1e-2, key))(jax.random.split(KEY, 20))
    assert np.all(jax.jit(jax.vmap(problem.potential))(near) >= value - 1e-15)


@pytest.mark.unoptimized
@every_problem
def test_works_in_single_precision(problem):
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), problem.params)
    value, gradient = jax.jit(jax.value_and_grad(problem.potential))(params)
    assert value.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradient))
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient)) < 1e-5


@every_problem
def test_learning_coefficient_is_within_its_bounds(problem):
    size = sum(leaf.size for leaf in jax.tree.leaves(problem.params))
    assert 0 < problem.llc <= size / 2
    assert problem.multiplicity >= 1


@pytest.mark.parametrize(
    "problem", [p for p in PROBLEMS if p.finite_llc is not None], ids=lambda problem: problem.name
)
def test_finite_temperature_value_tends_to_the_learning_coefficient(problem):
    # At weak localization the chain at the identity leaks to singular layers, by design.
    localization = 100.0 if problem.name in LEAKY else 1.0
    values = [problem.finite_llc(t, localization) for t in (1e8, 1e10)]
    # A multiplicity m costs (m - 1)/(log t + constant); a degenerate direction a power of t.
    if problem.multiplicity == 1:
        assert values[1] == pytest.approx(problem.llc, rel=0.02)
    else:
        costs = 1 / (problem.llc - np.array(values))
        slope = (costs[1] - costs[0]) / np.log(100)
        assert slope == pytest.approx(1 / (problem.multiplicity - 1), rel=0.1)
    assert problem.name in LEAKY or problem.finite_llc(1e6, 1e3) < problem.finite_llc(1e6, 1.0)
    with pytest.raises(ValueError, match="^nbeta: got"):
        problem.finite_llc(0.0, 1.0)


@with_data
def test_losses_are_per_example(problem):
    data = problem.dataset(jax.random.key(0), 500)
    assert isinstance(data, Dataset)
    assert len(data) == 500
    losses = problem.loss_fn(problem.params, data.examples)
    assert losses.shape == (500,)
    again = problem.dataset(jax.random.key(0), 500)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.all(a == b)), data, again)))


@with_data
def test_mean_excess_loss_is_the_excess_potential(problem):
    size = 40_000
    data = problem.dataset(jax.random.key(1), size)
    point = perturbed(problem, 0.1, KEY)
    excess = problem.loss_fn(point, data.examples) - problem.loss_fn(problem.params, data.examples)
    expected = problem.potential(point) - problem.potential(problem.params)
    error = abs(float(jnp.mean(excess) - expected))
    assert error < (1e-12 if problem.name in ADJUSTED else 4 * float(jnp.std(excess)) / size**0.5)


def test_noisy_regression_keeps_the_noise_of_labels():
    problem = exact.noisy_regression(noise=2.0)
    data = problem.dataset(jax.random.key(0), 1000)
    losses = problem.loss_fn(problem.params, data.examples)
    assert float(jnp.mean(losses)) == pytest.approx(2.0, rel=1e-12)
    assert float(jnp.std(losses)) > 1.0


def test_regret_is_the_supervised_loss():
    label = PhaseClass(5, 1)
    supervised, regret = tms_problems.supervised(label), tms_problems.regret(label)
    assert supervised.potential is regret.potential
    assert (supervised.llc, regret.llc) == (8.5, 8.5)


def test_sampled_regret_is_the_squared_distance_of_the_action():
    problem = tms_problems.regret(PhaseClass(6), sigma=0.3)
    examples = problem.dataset(KEY, 100).examples
    point = perturbed(problem, 0.1, KEY)
    states = superposition.dense_inputs(examples, 6)
    actions = superposition.forward(point, states) + 0.3 * examples["noise"]
    expected = jnp.sum((actions - states) ** 2 - (0.3 * examples["noise"]) ** 2, axis=1)
    np.testing.assert_allclose(problem.loss_fn(point, examples), expected, atol=1e-13)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: toy_models.ToyProblem("a", "other", {}, 1.0, potential=jnp.sum), "kind"),
        (lambda: toy_models.ToyProblem("a", "rl", {}, 1.0), "potential"),
        (lambda: toy_models.ToyProblem("a", "rl", {}, 1.0, loss_fn=jnp.sum), "dataset"),
        (lambda: exact.regular_quadratic((-1.0,)), "curvatures"),
        (lambda: exact.homogeneous(3, 3), "degree"),
        (lambda: exact.separable((3,), (1.0,)), "powers"),
        (lambda: exact.separable((2,), (0.0,)), "scales"),
        (lambda: exact.normal_crossing((1, 0)), "powers"),
        (lambda: exact.noisy_regression(noise=0.0), "curvatures, noise"),
        (lambda: exact.orthonormal_columns(jax.random.key(0), 3, 3), "n"),
        (lambda: policies.softmax_bandit_kl((0.5, 0.4)), "probabilities"),
        (lambda: policies.parity_regret(3), "num_steps"),
        (lambda: tms_problems.supervised(PhaseClass(4, 2, 1)), "label"),
        (lambda: compound.coupled_quadratic((-1.0,)), "curvatures"),
        (lambda: compound.monomial((0, 0)), "powers"),
        (lambda: compound.block_sum((), "empty"), "blocks"),
        (lambda: networks.tanh_zero(2, 2), "hidden, out"),
        (lambda: bandits.hadamard_bandit_regret((0.0,)), "gaps"),
        (lambda: bandits.tabular_kl((1.0,), (1.0,)), "ones"),
        (lambda: bandits.tabular_kl((0.5,), (0.0,)), "state_weights"),
        (lambda: bandits.parity_kl(0), "num_steps"),
        (lambda: bandits.product_policy_regret((0,)), "powers"),
        (lambda: linear_policies.softmax_two_layers(1), "rank"),
        (lambda: mdps.soft_regret(temperature=0.0), "temperature"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: "):
        call()

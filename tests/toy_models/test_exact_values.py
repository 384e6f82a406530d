"""Every exact finite-temperature value against independent Monte Carlo, in units of its error."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import toy_models
from toy_models import mdps, quadrature, quadrature_layers, quadrature_peaked

PROBLEMS = toy_models.problems()
EXACT = [p for p in PROBLEMS if p.finite_llc is not None]
# The rule of these holds for sharp minima only.
PEAKED = (
    "softmax_bandit_kl",
    "softmax_bandit_kl_3",
    "soft_mdp_regret_3_3",
    "soft_mdp_regret_2_2",
    "regulator_direct",
)
# Curved valleys of minima, where a Gaussian at the center is no proposal.
CURVED = (
    "linear_policy_kl_at_identity",
    "reduced_rank_1_2_2_rank_1",
    "reduced_rank_1_4_3_rank_1",
    "linear_policy_kl_1_2_3_rank_1",
)
NUM_DRAWS = 100_000


def named(problem):
    return problem.name


def weighted(log_weight, value):
    """Self-normalized mean, its standard error and the effective sample size."""
    weight = np.exp(log_weight - np.max(log_weight))
    weight /= weight.sum()
    mean = np.sum(weight * value)
    return mean, np.sqrt(np.sum(weight**2 * (value - mean) ** 2)), 1 / np.sum(weight**2)


BY_NAME = {problem.name: problem for problem in PROBLEMS}


def flat_potential(problem):
    return _flat_potential(problem.name)


@functools.cache
def _flat_potential(name):
    problem = BY_NAME[name]
    center, unravel = ravel_pytree(problem.params)
    return np.asarray(center), jax.jit(jax.vmap(lambda w: problem.potential(unravel(w))))


def excess(problem, displacements):
    center, potential = flat_potential(problem)
    # XLA on the CPU was seen to mix up rows of a batched product beyond 16,384.
    parts = np.array_split(center + displacements, 1 + len(displacements) // 8192)
    return np.concatenate([potential(part) for part in parts]) - float(
        problem.potential(problem.params)
    )


@pytest.mark.parametrize("problem", EXACT, ids=named)
def test_finite_value_equals_independent_draws(problem):
    """Draws from the localization alone, weighted by the loss: any error of a formula shows."""
    size = flat_potential(problem)[0].size
    nbeta, localization = (30.0, 3.0) if size <= 6 else (1.0, 30.0)
    if problem.name in PEAKED:
        nbeta, localization = 1e3, 1e3
    rng = np.random.default_rng(1)
    normal = rng.normal(size=(NUM_DRAWS, size)) / np.sqrt(localization)
    energy = nbeta * excess(problem, normal)
    mean, sem, effective = weighted(-energy, energy)
    assert effective > 1000
    assert sem < 0.03 * mean
    assert abs(mean - problem.finite_llc(nbeta, localization)) < 4 * sem


def hessian(problem):
    return _hessian(problem.name)


@functools.cache
def _hessian(name):
    problem = BY_NAME[name]
    center, unravel = ravel_pytree(problem.params)
    # Compiled: operation by operation takes four times as long.
    matrix = jax.jit(jax.hessian(lambda w: problem.potential(unravel(w))))
    return np.asarray(matrix(jnp.asarray(center)))


def is_minimally_singular(problem):
    matrix = hessian(problem)
    return np.linalg.matrix_rank(matrix, 1e-9 * np.abs(matrix).max() + 1e-300) == 2 * problem.llc


# The others' ranks are tested with their own models, or they are large.
SMALL = [p for p in EXACT if flat_potential(p)[0].size <= 20]


@pytest.mark.parametrize("problem", SMALL, ids=named)
def test_learning_coefficient_respects_the_rank_of_the_hessian(problem):
    matrix = hessian(problem)
    rank = np.linalg.matrix_rank(matrix, 1e-9 * np.abs(matrix).max() + 1e-300)
    assert rank / 2 <= problem.llc <= rank / 2 + (len(matrix) - rank) / 4


@pytest.mark.parametrize("problem", EXACT, ids=named)
def test_value_of_regular_minima_at_the_settings_of_the_suite(problem):
    """Draws from a wider Gaussian at the minimum, at (1e4, 10); singular ones are tested below."""
    if not is_minimally_singular(problem) or problem.name in CURVED:
        return
    values, vectors = np.linalg.eigh(1e4 * hessian(problem) + 10.0 * np.eye(len(hessian(problem))))
    wide = 1.0 + 0.3 / len(values)
    z = np.random.default_rng(2).normal(size=(40_000, len(values)))
    shift = wide * (z / np.sqrt(values)) @ vectors.T
    energy = 1e4 * excess(problem, shift)
    log_weight = -energy - 5.0 * np.sum(shift**2, axis=1) + np.sum(z**2, axis=1) / 2
    mean, sem, effective = weighted(log_weight, energy)
    assert effective > 1000
    assert abs(mean - problem.finite_llc(1e4, 10.0)) < 4 * sem


def integrated_readout(layer, out, nbeta, localization):
    """``1/2 |B A|^2`` with ``B`` around zero integrated out over given draws of ``A``."""
    stiff = nbeta * np.linalg.svd(layer, compute_uv=False) ** 2
    share = stiff / (stiff + localization)
    log_weight = -out / 2 * np.sum(np.log(stiff + localization), axis=1)
    return weighted(log_weight, out / 2 * np.sum(share, axis=1))


@pytest.mark.parametrize("widths", [(2, 1, 4), (4, 1, 2), (1, 3, 1), (3, 2, 3), (2, 3, 2)])
def test_two_layers_equal_draws_of_one_layer(widths):
    inputs, hidden, out = widths
    layer = np.random.default_rng(3).normal(size=(400_000, hidden, inputs)) / np.sqrt(10.0)
    mean, sem, _ = integrated_readout(layer, out, 1e4, 10.0)
    assert abs(mean - quadrature_layers.two_layers(widths, 1e4, 10.0).llc) < 4 * sem


@pytest.mark.parametrize(("nbeta", "localization"), [(1e2, 10.0), (1e4, 10.0), (1e4, 100.0)])
def test_identity_anchor_equals_draws_of_one_layer(nbeta, localization):
    layer = np.random.default_rng(4).normal(size=(1_000_000, 2, 2)) / np.sqrt(localization)
    mean, sem, _ = integrated_readout(layer + np.eye(2), 2, nbeta, localization)
    assert abs(mean - quadrature_layers.near_identity(nbeta, localization).llc) < 4 * sem


@pytest.mark.parametrize("powers", [(1, 1), (1, 2), (2, 2), (1, 3)])
def test_product_equals_the_two_dimensional_grid(powers):
    for nbeta in (1e2, 1e4, 1e8):
        found = quadrature_layers.product(
            lambda u: u**2 / 2, powers, nbeta=nbeta, localization=10.0
        )
        assert found == pytest.approx(quadrature.crossing(powers, nbeta, 10.0), rel=1e-6)


def test_product_of_three_equals_draws_of_two():
    first = np.prod(np.random.default_rng(5).normal(size=(2, 400_000)), axis=0) / 10.0
    mean, sem, _ = integrated_readout(first[:, None, None], 1, 1e4, 10.0)
    found = quadrature_layers.product(lambda u: u**2 / 2, (1, 1, 1), nbeta=1e4, localization=10.0)
    assert abs(mean - found.llc) < 4 * sem


def test_aliased_regret_and_mixture_and_tanh_equal_draws():
    """One-layer formulas whose loss is not a square, at the settings of the suite."""
    for name in ("aliased_two_step_regret", "gaussian_mixture_two_means", "tanh_1_1_1_zero"):
        problem = BY_NAME[name]
        size = flat_potential(problem)[0].size
        shift = np.random.default_rng(6).normal(size=(400_000, size)) / np.sqrt(10.0)
        energy = 1e4 * excess(problem, shift)
        mean, sem, effective = weighted(-energy, energy)
        assert effective > 500
        assert abs(mean - problem.finite_llc(1e4, 10.0)) < 4 * sem


def test_occupancy_identity_is_the_regret():
    """The soft and the hard regret from Bellman's equation instead of the lemma."""
    mdp = mdps.random_mdp(0)
    policy = np.random.default_rng(7).dirichlet(np.ones(3), size=3)
    system = np.eye(3) - mdps.DISCOUNT * np.einsum("sa,sat->st", policy, mdp.transitions)
    soft = np.sum(policy * (mdp.rewards - 0.5 * np.log(policy)), axis=1)
    best = mdps.optimal_values(mdp, 0.5)
    start = 0.5 * np.log(np.sum(np.exp(best / 0.5), axis=1))
    direct = np.mean(start - np.linalg.solve(system, soft))
    found = mdps.soft_regret().potential({"logits": jnp.log(policy)})
    assert float(found) == pytest.approx(direct, rel=1e-10)
    mdp = mdps.random_mdp(3)
    system = np.eye(3) - mdps.DISCOUNT * np.einsum("sa,sat->st", policy, mdp.transitions)
    value = np.linalg.solve(system, np.sum(policy * mdp.rewards, axis=1))
    direct = np.mean(mdps.optimal_values(mdp).max(axis=1) - value)
    found = mdps.hadamard_regret().potential({"w": jnp.sqrt(policy)})
    assert float(found) == pytest.approx(direct, rel=1e-10)


def test_regulator_costs_infinitely_much_beyond_the_stable_gains():
    potential = jax.jit(BY_NAME["regulator_factored_rank_0"].potential)
    dynamics = np.array([[0.5, 0.1], [0.0, 0.4]])
    radii = []
    for size in (0.3, 0.5, 0.6, 5.0):
        layers = (size**0.5 * jnp.eye(2), -(size**0.5) * jnp.eye(2))
        # The gain is the product, so `A - K` has the eigenvalues of `A` plus the size.
        radii.append(0.95 * np.abs(np.linalg.eigvals(dynamics + size * np.eye(2))).max() ** 2)
        value = float(potential(layers))
        assert 0 < value < np.inf if radii[-1] < 1 else value == np.inf
    assert radii[1] < 1 < radii[2]


def test_regulator_has_the_published_gain():
    problem = BY_NAME["regulator_direct"]
    expected = [[0.5238, 0.1311], [0.0189, 0.3902]]
    np.testing.assert_allclose(problem.params["gain"], expected, atol=6e-5)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: quadrature_layers.two_layers((3, 3, 3), 1.0, 1.0), "widths"),
        (lambda: quadrature_layers.near_identity(1.0, 0.0), "localization"),
        (lambda: quadrature_peaked.sphere(2, 1.0, 0.0, localization=1.0), "nbeta"),
        (lambda: mdps.soft_regret().finite_llc(1.0, 0.1), "nbeta"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        call()

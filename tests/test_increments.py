"""Increments: normal numbers are JAX's own; binomial ones have their moments and shift nothing."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import ndtri

import slt_rl
import toy_models
from slt_rl import increments
from slt_rl.keys import unrolled

TREE = {
    "rows": jnp.zeros((7, 3)),
    "scalar": jnp.zeros(()),
    "none": jnp.zeros((0, 4)),
    "large": jnp.zeros((100, 50)),
    "odd": jnp.zeros(5),
}
COUNTS = np.arange(9)
WEIGHTS = np.array([math.comb(8, k) for k in COUNTS]) / 2.0**8


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])
@pytest.mark.parametrize("kind", [lambda key: key, unrolled])
def test_normal_numbers_are_those_of_jax(dtype, kind):
    tree = jax.tree.map(lambda x: x.astype(dtype), TREE)
    keys = jax.random.split(jax.random.key(1), 3)
    draw = jax.jit(jax.vmap(lambda key: increments.normal_like(key, tree)))
    expected = jax.vmap(lambda k: optax.tree.random_like(k, tree, jax.random.normal))(keys)
    for name, found in draw(kind(keys)).items():
        assert found.dtype == dtype
        # In the tails XLA's own numbers are this much off.
        tolerance = 6e-6 if dtype == jnp.float32 else 0
        np.testing.assert_allclose(found, expected[name], rtol=tolerance, atol=0)


def test_quantiles_of_words_are_exact_to_rounding():
    steps = jnp.arange(0, 1 << 16, dtype=jnp.uint32) << 9
    words = [steps, 2**31 - steps, jnp.uint32(2**31) + steps, jnp.uint32(2**32 - 1) - steps]
    words = np.concatenate([*words, jax.random.bits(jax.random.key(0), (1 << 16,), jnp.uint32)])
    found = np.asarray(increments._quantile(jnp.asarray(words)), np.float64)
    # `(1 + x) / 2` in units of 2^-25, exact; the quantile of the smaller tail.
    quarter = 4 * (words.astype(np.int64) >> 9) + 1
    expected = np.sign(quarter - 2**24) * -ndtri(np.minimum(quarter, 2**25 - quarter) / 2.0**25)
    np.testing.assert_allclose(found, expected, rtol=5e-7, atol=0)


def value_of(count):
    """What `binomial_like` makes of `count` ones, by its formula."""
    x = (count - 4) / 2**0.5
    return x * (increments._LINEAR + increments._CUBIC * x**2)


@pytest.mark.parametrize(("order", "moment"), [(1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0), (5, 0.0)])
def test_moments_up_to_the_fifth_are_exact(order, moment):
    assert np.sum(WEIGHTS * value_of(COUNTS) ** order) == pytest.approx(moment, abs=1e-14)


def test_higher_moments_and_the_grid_are_as_documented():
    values = value_of(COUNTS)
    assert np.sum(WEIGHTS * values**6) == pytest.approx(14.505, abs=0.005)
    assert np.sum(WEIGHTS * values**8) == pytest.approx(92.08, abs=0.05)
    steps = np.diff(values)
    np.testing.assert_allclose([steps.min(), steps.max()], [0.6836, 0.8695], atol=1e-3)
    assert values.max() == pytest.approx(3.044, abs=0.01)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_draws_take_these_values_with_these_frequencies(dtype):
    leaf = jax.ShapeDtypeStruct((400, 500), dtype)
    draws = np.asarray(increments.binomial_like(jax.random.key(0), leaf))
    assert draws.dtype == dtype
    nearest = np.abs(draws[..., None] - value_of(COUNTS)).argmin(axis=-1)
    np.testing.assert_allclose(draws, value_of(COUNTS)[nearest], atol=1e-5)
    found, expected = np.bincount(nearest.ravel(), minlength=9), WEIGHTS * draws.size
    chi_squared = np.sum((found - expected) ** 2 / expected)
    assert chi_squared < 8 + 4 * 16**0.5
    # Also of neighbors in a column, which come from one word.
    lags = [1, 2, 500, 1000, 1500, 2000, 100_000]
    flat = draws.ravel()
    correlations = [np.corrcoef(flat[:-lag], flat[lag:])[0, 1] for lag in lags]
    assert np.abs(correlations).max() < 4 / draws.size**0.5


def test_no_two_numbers_of_a_tree_come_from_the_same_bits():
    shapes = {"a": (3,), "b": (), "c": (5, 7, 3), "d": (0, 4), "e": (2, 6)}
    tree = {name: jax.ShapeDtypeStruct(shape, jnp.float64) for name, shape in shapes.items()}
    keys = jax.random.split(jax.random.key(2), 4000)
    draws = jax.jit(jax.vmap(lambda key: increments.binomial_like(key, tree)))(keys)
    assert {name: x.shape[1:] for name, x in draws.items()} == shapes
    numbers = np.concatenate([np.reshape(x, (4000, -1)) for x in draws.values()], axis=1)
    correlations = np.corrcoef(numbers.T) - np.eye(numbers.shape[1])
    assert np.abs(correlations).max() < 5 / 4000**0.5


def test_draws_do_not_depend_on_what_is_drawn_beside_them():
    """Loops and vectors of the generator are matters of speed alone."""
    leaf = jax.ShapeDtypeStruct((6, 5), jnp.float32)
    keys = jax.random.split(jax.random.key(3), 3)
    together = jax.jit(jax.vmap(lambda key: increments.binomial_like(key, leaf)))(keys)
    alone = [increments.binomial_like(key, leaf) for key in keys]
    np.testing.assert_array_equal(together, np.stack(alone))


def test_the_coefficient_of_a_singular_problem_does_not_shift():
    problem = next(p for p in toy_models.problems() if p.name == "homogeneous_4_degree_4")
    nbeta, localization = 1000.0, 10.0
    exact = problem.finite_llc(nbeta, localization)
    result = slt_rl.estimate_llc(
        jax.random.key(1),
        problem.potential,
        problem.params,
        nbeta=nbeta,
        localization=localization,
        sampler=slt_rl.SGLD(2e-4, binomial_increments=True),
        num_chains=64,
        num_draws=8000,
        num_burnin=2000,
    )
    assert result.sem < 0.015 * exact
    assert abs(result.mean - exact) < 3 * result.sem

"""Binomial increments: the moments of a normal number, and no shift of the coefficient."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
import toy_models
from slt_rl import increments

COUNTS = np.arange(33)
WEIGHTS = np.array([math.comb(32, k) for k in COUNTS]) / 2.0**32


def value_of(count):
    """What `binomial` makes of `count` ones, by its formula."""
    x = (count - 16) / 8**0.5
    return x * (increments._LINEAR + increments._CUBIC * x**2)


@pytest.mark.parametrize(("order", "moment"), [(1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0), (5, 0.0)])
def test_moments_up_to_the_fifth_are_exact(order, moment):
    assert np.sum(WEIGHTS * value_of(COUNTS) ** order) == pytest.approx(moment, abs=1e-14)


def test_higher_moments_and_the_grid_are_as_documented():
    values = value_of(COUNTS)
    assert np.sum(WEIGHTS * values**6) == pytest.approx(14.98, abs=0.005)
    assert np.sum(WEIGHTS * values**8) == pytest.approx(104.3, abs=0.05)
    steps = np.diff(values)
    np.testing.assert_allclose([steps.min(), steps.max()], [0.351, 0.440], atol=1e-3)
    assert values.max() == pytest.approx(6.12, abs=0.01)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_draws_take_these_values_with_these_frequencies(dtype):
    draws = np.asarray(increments.binomial(jax.random.key(0), (400, 500), dtype))
    assert draws.dtype == dtype
    nearest = np.abs(draws[..., None] - value_of(COUNTS)).argmin(axis=-1)
    np.testing.assert_allclose(draws, value_of(COUNTS)[nearest], atol=1e-5)
    found = np.bincount(nearest.ravel(), minlength=33)
    expected = WEIGHTS * draws.size
    common = expected > 20
    chi_squared = np.sum((found - expected)[common] ** 2 / expected[common])
    assert chi_squared < common.sum() + 4 * (2 * common.sum()) ** 0.5
    lags = [np.corrcoef(draws.ravel()[:-lag], draws.ravel()[lag:])[0, 1] for lag in (1, 2, 500)]
    assert np.abs(lags).max() < 4 / draws.size**0.5


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

"""What of a difference of losses is rounding, and that it is no evidence against a center."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
from slt_rl import budget, verdict
from slt_rl.budget import Budget
from slt_rl.chains import Draws
from slt_rl.estimators import Estimate
from slt_rl.rounding import ROUNDINGS, rounding_of

KEY = jax.random.key(5)
NBETA = 1e4


def draws_at(squared_distance, dtype):
    """Draws that all lie so far from the center."""
    ones = np.ones((4, 10), dtype)
    return Draws(0 * ones, ones[..., None], squared_distance * ones, ones, ones, ones, ones > 0)


@pytest.mark.parametrize(("dtype", "eps"), [(np.float32, 2.0**-23), (np.float64, 2.0**-52)])
def test_rounding_is_that_of_the_tether_and_of_the_loss(dtype, eps):
    draws, posterior = draws_at(20.0, dtype), {"nbeta": 100.0, "localization": 300.0}
    of_tether, of_both = (rounding_of(draws, **posterior, center_loss=x) for x in (0.0, -2.0))
    assert of_tether == pytest.approx(ROUNDINGS * eps * 3000)
    assert of_both == pytest.approx(ROUNDINGS * eps * 3200)


def behind_zeros(dtype):
    """A first layer of 65,536 weights behind an output layer of nearly nothing."""
    keys = jax.random.split(jax.random.key(0), 3)
    states, first, last = (
        jax.random.normal(k, shape, dtype)
        for k, shape in zip(keys, [(16, 512), (512, 128), (128, 8)], strict=True)
    )
    first, last = first / 512**0.5, 1e-4 * last
    at_center = jnp.tanh(states @ first) @ last

    def loss(w):
        return jnp.mean(jnp.sum((jnp.tanh(states @ w) @ last - at_center) ** 2, axis=1)) / 2

    return loss, first


def test_an_untrained_layer_is_a_trusted_zero_in_single_precision():
    loss, first = behind_zeros(jnp.float32)
    result = slt_rl.estimate_llc(
        KEY, loss, first, nbeta=80.0, localization=300.0, num_draws=512, num_burnin=256
    )
    # What single precision makes of the tether, 32,768, is beyond the limit of a drop.
    lowest = float(80.0 * np.quantile(result.draws.excess_loss, 0.01))
    assert -result.diagnostics["rounding"] < lowest < -budget.SMALL_DROP
    assert result.verdict == "trusted", result.flags
    assert abs(result.mean) < result.diagnostics["rounding"]


@pytest.mark.parametrize(
    ("dtype", "num_flat", "num_draws"), [(jnp.float64, 0, 4000), (jnp.float32, 10_000, 1000)]
)
@pytest.mark.parametrize(("drop", "refused"), [(0.75, False), (0.92, True)])
def test_a_displaced_center_is_refused_from_half_of_the_estimate_on(
    dtype, num_flat, num_draws, drop, refused
):
    """Five directions: the estimate is `5/2 - drop`, of which .75 is less than half, .92 more."""
    curvatures = jnp.zeros(5 + num_flat, dtype).at[:5].set(1.0)
    center = jnp.zeros_like(curvatures).at[0].set((2 * drop / NBETA) ** 0.5)
    result = slt_rl.estimate_llc(
        KEY, lambda w: jnp.sum(curvatures * w**2) / 2, center, nbeta=NBETA, num_draws=num_draws
    )
    assert result.error_budget["anchor"] == pytest.approx(drop, rel=0.02)
    assert abs(result.mean - (2.5 - drop)) < 4 * result.sem < 0.3
    assert (result.verdict == "refused") is refused, result.flags
    assert any("the center is not a minimum: its gradient is" in flag for flag in result.flags)


@pytest.mark.parametrize(
    ("drop", "rounding", "seen"),
    [(0.002, 1e-12, 0.002), (0.002, 0.0024, 0.0), (0.003, 0.0024, 0.003), (5e-4, 1e-12, 0.0)],
)
def test_a_drop_is_seen_where_it_is_more_than_rounding(drop, rounding, seen):
    scaled = np.ones(1000)
    scaled[:20] = -drop
    assert budget._drop_seen(scaled, 0.0, rounding) == seen
    assert budget._fraction_below(scaled, rounding) == (0.02 if seen else 0.0)
    assert budget._drop_seen(scaled, 0.1, rounding) == 0


@pytest.mark.parametrize(
    ("mean", "growth", "rounding", "count"),
    [
        (-1e-5, np.nan, 1e-12, 1),
        (-1e-5, np.nan, 8e-3, 0),
        (-1e-2, np.nan, 8e-3, 1),
        (1e-3, 1.0, 1e-12, 1),
        (1e-3, 1.0, 8e-3, 0),
        (1e-2, 1.0, 8e-3, 1),
    ],
)
def test_an_estimate_below_rounding_is_no_evidence(mean, growth, rounding, count):
    """Neither its sign nor how it grows; one beyond it is refused as ever."""
    numbers = {"drop_seen": 0.0, "growth_at_center": growth, "explained_by_slope": np.nan}
    numbers |= {"localization_slope": 0.0, "localization_slope_sem": 0.01, "rounding": rounding}
    estimate = Estimate(mean, 1e-7, np.full(8, mean), 1000.0)
    context = types.SimpleNamespace(anchor_drop=1e-9, tolerance=0.05, heating=0.0)
    flags = verdict.Flags([], [])
    verdict._anchor_flags(Budget(estimate, {}, numbers), context, flags)
    assert len(flags.refused) == count
    assert not flags.doubtful

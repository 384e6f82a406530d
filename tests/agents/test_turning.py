"""Turning points of planted curves, and lags between them."""

import numpy as np
import pytest

from slt_rl.agents.series import Series
from slt_rl.agents.turning import lags, turning_points

STEPS = np.linspace(0, 1e5, 101)
# Dense where the dip lies, as curves of the LLC are measured.
CHECKPOINTS = np.concatenate(
    [4096 * np.arange(17), 65_536 + 8192 * np.arange(1, 9), 65_536 * np.arange(3, 16)]
)


def bump(at, name="bump", noise=0.0, *, shift=0.02, seed=0):
    """A normal bump in `log(step + shift last)` at the given step of each seed, of width 0.25."""
    x = np.log(STEPS + shift * STEPS[-1])
    centers = np.log(np.asarray(at, float) + shift * STEPS[-1])
    values = np.exp(-0.5 * ((x - centers[:, None]) / 0.25) ** 2)
    values += noise * np.random.default_rng(seed).normal(size=values.shape)
    sem = np.full(values.shape, noise)
    return Series(name, "unit", STEPS, values, sem, tuple(range(len(values))))


def test_a_bump_turns_where_it_was_planted():
    points = turning_points(bump([10_000, 20_000, 30_000]))
    np.testing.assert_allclose(points.peak, [10_000, 20_000, 30_000], rtol=0.03)
    shift = 0.02 * STEPS[-1]
    for found, sign in ((points.rise, -1), (points.fall, 1)):
        # The steepest places of a normal curve lie one width from its middle; smoothing widens it.
        width = np.hypot(0.25, 0.05 * np.log(51.0))
        expected = (points.peak + shift) * np.exp(sign * width) - shift
        np.testing.assert_allclose(found, expected, rtol=0.06)


def test_intervals_cover_the_planted_peak():
    found = turning_points(bump([20_000] * 3, noise=0.05))
    assert (found.low[1] <= found.peak).all() and (found.peak <= found.high[1]).all()
    assert (found.low[1] < 21_000).all() and (found.high[1] > 19_000).all()
    assert (found.high[1] - found.low[1] < 12_000).all()


def valley(at, steps):
    """A fall from 15 to 10 and a rise to 27, lowest at the given step of each seed."""
    x, lowest = (np.log(step + 0.02 * steps[-1]) for step in (steps, np.asarray(at)[:, None]))
    u = (x - lowest) / 0.3
    return 10 + np.logaddexp(np.log(2 / 3) - u, np.log(1 / 3) + 2 * u)


@pytest.mark.parametrize(("every", "width"), [(1, 0.18), (3, 0.32)])
def test_intervals_of_dips_cover_wherever_these_lie_between_checkpoints(every, width):
    rng = np.random.default_rng(0)
    dips, steps = rng.uniform(55_000, 110_000, 100), CHECKPOINTS[::every]
    exact = valley(dips, steps)
    sem = 0.02 * exact
    values = exact + sem * rng.normal(size=exact.shape)
    found = turning_points(Series("dip", "LLC", steps, values, sem, tuple(range(100))))
    low, high = found.low[3], found.high[3]
    # At 95 % one of 1000 such sets of dips would fall short of 87 of 100 by chance.
    assert ((low < dips) & (dips < high)).sum() >= 87
    assert ((high - low) / dips).mean() < width


def test_a_rise_to_a_plateau_has_no_peak():
    # The plateau sinks by a twentieth: its largest value is inside, but it does not come down.
    values = 1 / (1 + np.exp(-(STEPS - 4e4) / 4e3)) - 0.05 * (STEPS > 8e4)
    points = turning_points(Series("rise", "unit", STEPS, values[None], 0 * values[None], (0,)))
    assert abs(points.rise[0] - 4e4) < 2e3
    assert np.isnan(points.peak[0]) and np.isnan(points.fall[0])


def test_the_dip_of_a_curve_is_the_peak_of_its_mirror_image():
    peak = bump([10_000, 20_000, 30_000])
    mirrored = peak._replace(values=1 - peak.values)
    np.testing.assert_array_equal(turning_points(mirrored).dip, turning_points(peak).peak)
    assert np.isnan(turning_points(peak).dip).all()


def test_the_share_of_curves_with_a_peak_tells_a_sure_one_from_one_at_the_threshold():
    x = np.log(STEPS + 0.02 * STEPS[-1])
    up = np.clip((x - x[0]) / (x[33] - x[0]), 0, 1)
    down = np.clip((x - x[33]) / (x[-1] - x[33]), 0, 1)
    # Comes down by a third, a tenth and a hundredth of its range, of which a tenth is needed.
    descent = np.array([1 / 3, 1 / 10, 1 / 100])[:, None]
    values = (1 - np.cos(np.pi * up)) / 2 - descent * (1 - np.cos(np.pi * down)) / 2
    series = Series("peak", "unit", STEPS, values, np.full(values.shape, 0.01), (0, 1, 2))
    sure, at_threshold, none = turning_points(series).share[1]
    assert sure == 1 and 0 < at_threshold < 1 and none == 0


def test_a_curve_that_only_falls_has_no_rise():
    points = turning_points(bump([0, 0, 0]))
    assert np.isnan(points.peak).all() and np.isnan(points.rise).all()


def test_a_fall_that_steepens_to_the_end_is_no_turning_point():
    # A peak in the middle, after which the curve falls faster and faster in log steps.
    x = np.log(STEPS + 0.02 * STEPS[-1])
    values = -((x - x[len(x) // 4]) ** 2)
    points = turning_points(Series("arc", "unit", STEPS, values[None], 0 * values[None], (0,)))
    assert abs(points.peak[0] - STEPS[len(x) // 4]) < 1500 and np.isnan(points.fall[0])


def test_lags_are_doublings_within_a_seed():
    early, late = bump([10_000, 12_000, 15_000], "early"), bump([20_000, 24_000, 30_000], "late")
    found = {(lag.kind, lag.other_kind): lag for lag in lags(late, [early])}
    peak = found["peak", "peak"]
    assert (peak.curve, peak.other) == ("late", "early")
    assert abs(peak.mean - 1) < 0.05 and peak.low < peak.mean < peak.high
    np.testing.assert_allclose(peak.per_seed, 1, atol=0.06)
    assert found["fall", "peak"].mean > peak.mean > found["rise", "peak"].mean


def test_intervals_of_lags_cover_and_are_over_the_errors_of_both_curves():
    early = bump([15_000] * 30, "early", 0.05, seed=1)
    late = bump([30_000] * 30, "late", 0.05, seed=2)
    peak = next(x for x in lags(late, [early]) if (x.kind, x.other_kind) == ("peak", "peak"))
    # At 95 % two of 100 series would fall short of 26 of 30 by chance.
    assert ((peak.seed_low < 1) & (1 < peak.seed_high)).sum() >= 26
    # A thousand steps lie between records, and the errors alone give less than that.
    distances = (1 / 15 + 1 / 30) / np.log(2)
    assert (peak.seed_high - peak.seed_low).mean() < distances
    own = turning_points(late)
    alone = np.log2(own.high[1] / own.low[1])
    assert (peak.seed_high - peak.seed_low).mean() > 1.2 * alone.mean()
    # Behind itself: the two are resampled apart.
    itself = next(x for x in lags(late, [late]) if (x.kind, x.other_kind) == ("peak", "peak"))
    assert (itself.per_seed == 0).all()
    assert (itself.seed_high - itself.seed_low).mean() > 1.2 * alone.mean()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((1, 101), np.nan), r"bump: gaps \(nan\) at the records"),
        (np.zeros((1, 5)), "bump: got 5 records, expected at least 8"),
        (
            np.zeros((2, 20)),
            r"bump: got values \(2, 20\) .* and 1 seeds, expected \[seed, record\]",
        ),
        (np.full((1, 20), "a"), "bump: values: expected an array of real numbers"),
    ],
)
def test_gaps_and_short_curves_are_named(values, message):
    series = bump([10_000])._replace(
        values=values, sem=np.zeros(values.shape), steps=STEPS[: values.shape[1]]
    )
    with pytest.raises(ValueError, match=message):
        turning_points(series)


def test_steps_out_of_order_and_other_seeds_are_named():
    late = bump([10_000, 12_000])
    with pytest.raises(ValueError, match="bump: expected increasing steps >= 0"):
        turning_points(late._replace(steps=late.steps[::-1]))
    with pytest.raises(ValueError, match=r"bump: seeds \(0,\), expected \(0, 1\)"):
        lags(late, [bump([10_000])])

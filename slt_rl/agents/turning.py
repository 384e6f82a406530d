"""Turning points of noisy curves, and how far apart those of two curves lie."""

from typing import NamedTuple

import numpy as np

from slt_rl._numbers import check_count, check_numbers
from slt_rl.agents.series import Series
from slt_rl.development import seed_mean

# Width of the smoothing kernel as a share of the axis `log(step + LINEAR_SHARE last)`, which is
# linear in the first steps and logarithmic later.
BANDWIDTH, LINEAR_SHARE = 0.05, 0.02
# A curve that comes down by less, as a share of its range, has no peak, and so with dip and rise.
LEAST_DESCENT = 0.1
NUM_GRID, NUM_RESAMPLES = 400, 200
KINDS = ("rise", "peak", "fall", "dip")


class TurningPoints(NamedTuple):
    """Turning points of a curve of several seeds, as environment steps; nan where there is none.

    Attributes:
        rise: Step of the steepest rise in log steps, `[seed]`; nan where that is at an end, or the
            curve does not rise there by a tenth of its range.
        peak: Step of the largest value, `[seed]`; nan where that is at an end of the curve, or the
            curve does not come down from it by a tenth of its range.
        fall: Step of the steepest fall after the peak, `[seed]`; nan without a peak, or where that
            is at the end of the curve.
        dip: Step of the smallest value, `[seed]`; nan where that is at an end of the curve, or the
            curve does not come down to it, or rise again, by a tenth of its range.
        low: Lower ends of the 95 % intervals over the errors of the records and the
            distance between them, `[kind, seed]`.
        high: Upper ends.
        share: Of the resampled curves, those that have the point, `[kind, seed]`. The intervals are
            over these alone, and say little of a point that many lack.
    """

    rise: np.ndarray
    peak: np.ndarray
    fall: np.ndarray
    dip: np.ndarray
    low: np.ndarray
    high: np.ndarray
    share: np.ndarray


def turning_points(series: Series, *, seed: int = 0) -> TurningPoints:
    """Steepest rise, peak, steepest fall and dip of each seed, after smoothing in log steps.

    The curve is smoothed by local parabolas, its slope by local lines, with a normal kernel as wide
    as 0.05 of the axis `log(step + 0.02 last)`, wider where records are sparse. Intervals are
    percentiles over 200 resampled curves, each record moved by normal noise of its standard error,
    and each turning point of these by up to half the distance between the records around it.

    Args:
        series: The curve; every value finite.
        seed: Seed of the resampling.

    Raises:
        ValueError: If shapes do not agree, steps do not increase, a value is not finite or there
            are fewer than eight records; the text names the curve.
    """
    check_count("seed", seed, 0)
    found = _resampled(series, np.random.default_rng(seed))
    rise, peak, fall, dip = found[:, 0]
    low, high = _percentiles(found[:, 1:])
    share = np.isfinite(found[:, 1:]).mean(axis=1)
    return TurningPoints(rise, peak, fall, dip, low, high, share)


def _resampled(series: Series, rng: np.random.Generator) -> np.ndarray:
    """Turning points `[kind, resample, seed]`; the first resample is the curve itself."""
    steps, values, sem = _checked(series)
    noise = rng.standard_normal((NUM_RESAMPLES, *values.shape))
    curves = np.concatenate([values[None], values + sem * noise])
    found = np.stack(_turning_steps(steps, curves))
    # What lies between two records is known to half their distance.
    after = np.clip(np.searchsorted(steps, found[:, 1:]), 1, len(steps) - 1)
    gaps = np.diff(steps)[after - 1]
    moved = found[:, 1:] + gaps * rng.uniform(-0.5, 0.5, gaps.shape)
    # Later than step 0, which has no logarithm.
    found[:, 1:] = np.maximum(moved, steps[:2].mean())
    return found


def _checked(series: Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps `[record]`, values and standard errors `[seed, record]`; a missing error is zero."""
    parts = series.steps, series.values, series.sem
    names = (f"{series.name}: {name}" for name in ("steps", "values", "sem"))
    steps, values, sem = (check_numbers(n, x) for n, x in zip(names, parts, strict=True))
    shape = (len(series.seeds), steps.size)
    if steps.ndim != 1 or values.shape != shape or sem.shape != shape:
        raise ValueError(
            f"{series.name}: got values {values.shape} and sem {sem.shape} beside steps "
            f"{steps.shape} and {len(series.seeds)} seeds, expected [seed, record]"
        )
    if not np.all(steps >= 0) or not np.all(np.diff(steps) > 0):
        raise ValueError(f"{series.name}: expected increasing steps >= 0, none nan")
    if steps.size < 8:
        raise ValueError(f"{series.name}: got {steps.size} records, expected at least 8")
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values).all(axis=0)).tolist()
        raise ValueError(f"{series.name}: gaps (nan) at the records {bad}; leave these out")
    return steps, values, np.nan_to_num(sem)


def _percentiles(found: np.ndarray) -> np.ndarray:
    """Ends of the 95 % interval over the axis before the last, of the resamples that have one."""
    # Infinity for a turning point that is in none of them: no empty slices.
    empty = np.isnan(found).all(axis=-2, keepdims=True)
    with np.errstate(all="ignore"):
        return np.nanpercentile(np.where(empty, np.inf, found), (2.5, 97.5), axis=-2)


def _turning_steps(steps: np.ndarray, curves: np.ndarray) -> tuple[np.ndarray, ...]:
    """Steps of the steepest rise, peak, steepest fall and dip of curves `[..., record]`."""
    shift = LINEAR_SHARE * steps[-1]
    x = np.log(steps + shift)
    grid = np.linspace(x[0], x[-1], NUM_GRID)
    level, slope = _smooth(x, grid, curves)
    at = np.exp(grid) - shift
    peak = np.argmax(level, axis=-1)
    after = np.where(np.arange(NUM_GRID) > peak[..., None], slope, np.inf)
    rise, fall = np.argmax(slope, axis=-1), np.argmin(after, axis=-1)
    dip, top, bottom = np.argmin(level, axis=-1), level.max(axis=-1), level.min(axis=-1)
    least = LEAST_DESCENT * (top - bottom)
    is_peak = _is_inside(peak) & (top - level[..., -1] > least)
    before = np.where(np.arange(NUM_GRID) < dip[..., None], level, -np.inf).max(axis=-1)
    is_dip = _is_inside(dip) & (np.minimum(before, level[..., -1]) - bottom > least)
    is_before = np.arange(NUM_GRID) <= rise[..., None]
    low = np.where(is_before, level, np.inf).min(axis=-1)
    high = np.where(is_before, -np.inf, level).max(axis=-1)
    is_rise = _is_inside(rise) & (high - low > least)
    return (
        np.where(is_rise, at[rise], np.nan),
        np.where(is_peak, at[peak], np.nan),
        np.where(is_peak & _is_inside(fall), at[fall], np.nan),
        np.where(is_dip, at[dip], np.nan),
    )


def _is_inside(index: np.ndarray) -> np.ndarray:
    """Whether a grid point is not at an end of the curve."""
    return (index > 0.02 * NUM_GRID) & (index < 0.98 * NUM_GRID)


def _smooth(x: np.ndarray, grid: np.ndarray, curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Level and slope of the curves at each point of the grid, `[..., grid]`."""
    # The extremes of local lines are drawn to places between the records; the slopes of parabolas
    # are unsteady at the ends, and the same as those of lines elsewhere.
    level, slope = _local_fit(x, grid, 2)[:, 0], _local_fit(x, grid, 1)[:, 1]
    return curves @ level.T, curves @ slope.T


def _local_fit(x: np.ndarray, grid: np.ndarray, degree: int) -> np.ndarray:
    """Weights of records in coefficients of local polynomials, `[grid, coefficient, record]`."""
    offset = x - grid[:, None]
    # In reach of one record more than there are coefficients.
    nearest = np.sort(np.abs(offset), axis=1)[:, degree + 1, None]
    width = np.maximum(BANDWIDTH * (x[-1] - x[0]), nearest)[..., None]
    powers = offset[..., None] ** np.arange(degree + 1)
    weighted = np.swapaxes(np.exp(-0.5 * (offset[..., None] / width) ** 2) * powers, 1, 2)
    return np.linalg.solve(weighted @ powers, weighted)


class Lag(NamedTuple):
    """How many times later one turning point is than another, over seeds.

    Attributes:
        curve: Name of the curve.
        kind: Its turning point: "rise", "peak", "fall" or "dip".
        other: Name of the curve it is compared with.
        other_kind: Turning point of that.
        per_seed: `log2` of the ratio of the steps, `[seed]`: 1 is twice as late.
        seed_low: Lower ends of its 95 % intervals over the errors and distances of both records,
            `[seed]`.
        seed_high: Upper ends.
        mean: Its mean over seeds; nan where a seed has no such point.
        low: Lower end of its 95 % Student interval; nan for one seed.
        high: Upper end.
    """

    curve: str
    kind: str
    other: str
    other_kind: str
    per_seed: np.ndarray
    seed_low: np.ndarray
    seed_high: np.ndarray
    mean: float
    low: float
    high: float


def lags(series: Series, others: list[Series], *, seed: int = 0) -> list[Lag]:
    """Where the turning points of a curve lie relative to those of other curves.

    Each turning point of the curve is compared with the turning points of the others in the same
    seeds. The interval of a seed is over the errors of its records, that of the mean over seeds.

    Args:
        series: The curve, such as the LLC.
        others: Curves of the same seeds, such as event counts.
        seed: Seed of the resampling.

    Raises:
        ValueError: As `turning_points`, or if a curve is of other seeds.
    """
    check_count("seed", seed, 0)
    for other in others:
        if tuple(other.seeds) != tuple(series.seeds):
            raise ValueError(f"{other.name}: seeds {other.seeds}, expected {series.seeds}")
    own = _resampled(series, np.random.default_rng((seed, 0)))
    found = []
    for number, other in enumerate(others, 1):
        points = _resampled(other, np.random.default_rng((seed, number)))
        for i, kind in enumerate(KINDS):
            for j, other_kind in enumerate(KINDS):
                names = series.name, kind, other.name, other_kind
                found.append(_lag(names, np.log2(own[i] / points[j])))
    return found


def _lag(names: tuple[str, str, str, str], resampled: np.ndarray) -> Lag:
    """The lag from its resamples `[resample, seed]`, the first of which is that of the curves."""
    per_seed, (low, high) = resampled[0], _percentiles(resampled[1:])
    if len(per_seed) < 2:
        return Lag(*names, per_seed, low, high, float(per_seed[0]), np.nan, np.nan)
    mean = seed_mean(per_seed)
    ends = float(mean.low), float(mean.high)
    return Lag(*names, per_seed, low, high, float(mean.mean), *ends)

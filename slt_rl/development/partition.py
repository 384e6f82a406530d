"""Optimal partition of an autocorrelated series: the profile likelihood behind stage detection.

The model of a series `y` with `K` changes is AR(1) noise around a level that is constant between
changes, `y_t - m_t = rho (y_{t-1} - m_{t-1}) + e_t`. For a given `rho` the innovations
`z_t = y_t - rho y_{t-1}` have a constant mean inside a segment; the first of a segment mixes two
levels and is left out. The profile log-likelihood is

    l(K, rho) = -(N/2) log(RSS(K, rho) / N) - (3/2) K log n,      N = n - 1 - K,

with the residual sum of squares `RSS` minimized over the positions of the changes by dynamic
programming, and the test statistic is `S = 2 [max_{K >= 1, rho} l - max_rho l(0, rho)]`.

`N` differs between the likelihoods compared, so that `S` depends on the unit of `y`. Here `y` is
measured in units of its own standard deviation, which makes `S` the same for any affine map of `y`.
"""

import functools
from typing import NamedTuple

import numpy as np

RHO_GRID = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_NULL_RHOS = (0.0, 0.5, 0.8, 0.9)
_NULL_SEED = 20231001
# Differences below this share of the spread of the data are rounding, not evidence.
_RESOLUTION = 1e-7


class Partition(NamedTuple):
    """The best partition with at least one change.

    Attributes:
        statistic: `S`, twice the log-likelihood gained over no change, penalized; may be negative.
        boundaries: Index of the first record of each stage but the first.
        rho: Autocorrelation of the noise under the partition.
    """

    statistic: float
    boundaries: tuple[int, ...]
    rho: float


def best_partition(values: np.ndarray, *, min_segment: int, max_changes: int) -> Partition:
    """Partitions one series by profile likelihood.

    Args:
        values: The series, `[n]`.
        min_segment: Shortest stage, in records.
        max_changes: Largest number of changes tried.

    Returns:
        The partition; its statistic is `-inf` for a constant series.
    """
    values = np.asarray(values, np.float64)
    costs = _segment_costs(_innovations(values), min_segment)
    rss, splits = _minimize(costs, max_changes)
    likelihood = _log_likelihood(rss, values)
    if not np.isfinite(likelihood).any():
        return Partition(-np.inf, (), 0.0)
    changed = likelihood[1:]
    num_changes, rho = np.unravel_index(np.argmax(changed), changed.shape)
    statistic = 2 * (changed[num_changes, rho] - likelihood[0].max())
    boundaries = _trace_back(splits, int(rho), int(num_changes) + 1, values.size)
    return Partition(float(statistic), boundaries, RHO_GRID[rho])


@functools.lru_cache(maxsize=64)
def null_statistics(n: int, *, min_segment: int, max_changes: int, num_series: int) -> np.ndarray:
    """Statistics `S` of simulated AR(1) series without a change, for four autocorrelations.

    The random key is fixed, so that equal arguments give equal answers.

    Args:
        n: Length of a series.
        min_segment: Shortest stage, in records.
        max_changes: Largest number of changes tried.
        num_series: Number of simulated series for each autocorrelation.

    Returns:
        `[4, num_series]`, for the autocorrelations 0, 0.5, 0.8, 0.9; read-only.
    """
    generator = np.random.default_rng([_NULL_SEED, n, min_segment, max_changes])
    statistics = np.empty((len(_NULL_RHOS), num_series))
    for row, rho in zip(statistics, _NULL_RHOS, strict=True):
        for index in range(num_series):
            values = ar1_series(generator, n, rho)
            # Single precision is half the time and far finer than the spread of the statistic.
            costs = _segment_costs(_innovations(values).astype(np.float32), min_segment)
            likelihood = _log_likelihood(_minimize(costs, max_changes, False)[0], values)
            row[index] = 2 * (likelihood[1:].max() - likelihood[0].max())
    statistics.setflags(write=False)
    return statistics


def p_value(statistic: float, null: np.ndarray) -> float:
    """The largest p-value over the autocorrelations of a simulated null distribution.

    Where fewer than a tenth of the series exceed the statistic, the tail is taken as exponential
    with the mean excess of that tenth, so that small p-values need no long simulation. None is
    stated below 1e-6.

    Args:
        statistic: The statistic `S`.
        null: Simulated statistics, `[rho, series]`.

    Returns:
        The p-value.
    """
    shares = [(1 + np.sum(row >= statistic)) / (1 + row.size) for row in null]
    return float(max(min(a, _tail(statistic, row)) for a, row in zip(shares, null, strict=True)))


def _tail(statistic: float, row: np.ndarray) -> float:
    """Probability of exceeding `statistic` in the exponential tail; one below its start."""
    start = np.quantile(row, 0.9)
    excess = row[row > start] - start
    if statistic <= start or not excess.size:
        return 1.0
    return max(1e-6, float(0.1 * np.exp(-(statistic - start) / excess.mean())))


def ar1_series(generator: np.random.Generator, n: int, rho: float) -> np.ndarray:
    """A stationary AR(1) series `[n]` with mean zero, marginal variance one."""
    noise = generator.standard_normal(n)
    noise[1:] *= np.sqrt(1 - rho**2)
    for t in range(1, n):
        noise[t] += rho * noise[t - 1]
    return noise


def _innovations(values: np.ndarray) -> np.ndarray:
    """`z_t = y_t - rho y_{t-1}` for each `rho`, `[rho, n]`; the first entry is a placeholder."""
    scale = values.std()
    centered = (values - np.median(values)) / (scale if scale > 0 else 1.0)
    rho = np.asarray(RHO_GRID)[:, None]
    innovations = np.zeros((rho.size, values.size))
    innovations[:, 1:] = centered[1:] - rho * centered[:-1]
    return innovations


def _segment_costs(innovations: np.ndarray, min_segment: int) -> np.ndarray:
    """Residual sum of squares of each segment `[start, end)`, as `[rho, end, start]`.

    `end` runs over 1 ... n. The innovation at `start` is left out; too short segments cost
    infinity.
    """
    n = innovations.shape[1]
    total = np.cumsum(innovations, axis=1)
    square = np.cumsum(innovations**2, axis=1)
    count, allowed = _segment_sizes(n, min_segment, innovations.dtype)
    costs = total[:, :, None] - total[:, None, :]
    np.square(costs, out=costs)
    costs /= -count
    costs += square[:, :, None]
    costs -= square[:, None, :]
    np.maximum(costs, 0.0, out=costs)
    costs += allowed
    return costs


@functools.lru_cache(maxsize=64)
def _segment_sizes(n: int, min_segment: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Number of innovations used by `[start, end)`, and 0 or infinity for allowed or not."""
    length = np.arange(1, n + 1)[:, None] - np.arange(n)[None, :]
    count = np.maximum(length - 1, 1).astype(dtype)
    return count, np.where(length >= min_segment, 0, np.inf).astype(dtype)


def _minimize(
    costs: np.ndarray, max_changes: int, trace: bool = True
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Least cost of covering the series with 0 ... `max_changes` changes, `[changes, rho]`.

    Also the last change of the best covering of each prefix, for each number of changes.
    """
    num_rhos, n, _ = costs.shape
    best = costs[:, :, 0]  # of [0, end), by end - 1
    totals, splits = [best[:, -1]], []
    for num_changes in range(1, max_changes + 1):
        last = num_changes == max_changes and not trace
        ends = slice(n - 1, n) if last else slice(0, n)
        candidates = costs[:, ends, 1:] + best[:, None, :-1]
        if trace:
            # Of equal positions the last: the left-out first record then belongs to the new stage.
            splits.append(n - 1 - np.argmin(candidates[:, :, ::-1], axis=2))
            best = np.take_along_axis(candidates, splits[-1][:, :, None] - 1, axis=2)[:, :, 0]
        else:
            best = candidates.min(axis=2)
        totals.append(best[:, -1])
    return np.stack(totals), splits


def _log_likelihood(rss: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`l(K, rho)` of the module's description, `[changes, rho]`, for residuals in units of the sd.

    Residuals below the resolution are rounding; a series without any spread has no likelihood.
    """
    n = values.size
    changes = np.arange(rss.shape[0])[:, None]
    used = n - 1 - changes
    if np.ptp(values) <= _RESOLUTION * np.max(np.abs(values)):
        return np.full(rss.shape, -np.inf)
    variance = np.maximum(rss / used, _RESOLUTION**2)
    return -0.5 * used * np.log(variance) - 1.5 * changes * np.log(n)


def _trace_back(splits: list[np.ndarray], rho: int, num_changes: int, n: int) -> tuple[int, ...]:
    boundaries, end = [], n
    for split in reversed(splits[:num_changes]):
        end = int(split[rho, end - 1])
        boundaries.append(end)
    return tuple(reversed(boundaries))

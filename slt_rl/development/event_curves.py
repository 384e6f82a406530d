"""Event counts along training: curves with errors, their landmarks, and breadth of contexts."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from scipy import optimize, stats

from slt_rl._numbers import check_count, check_finite, check_flags, check_fraction, check_numbers
from slt_rl.development.events import EventTotals


@dataclasses.dataclass(frozen=True)
class EventCurves:
    """Events of each window of training; axes `[run, window, k]`, or `[run, window]` without `k`.

    Attributes:
        per_episode: Mean events per complete episode, a ratio of sums over the window; nan where no
            episode was completed.
        sem: Its standard error over the episodes of the window; nan below two episodes.
        per_step: Events per step over all steps of the window. It misses no episode, where
            `per_episode` lacks the episodes that were too long to end in the window.
        num_episodes: Complete episodes, `[run, window]`.
        mean_length: Mean steps of the complete episodes, `[run, window]`.
    """

    per_episode: np.ndarray
    sem: np.ndarray
    per_step: np.ndarray
    num_episodes: np.ndarray
    mean_length: np.ndarray


def event_curves(totals: EventTotals, *, window: int = 1) -> EventCurves:
    """Curves from the totals at successive checkpoints.

    Args:
        totals: Totals at the checkpoints, the start included if its window is wanted: leaves
            `[checkpoint, run, env, ...]`.
        window: Checkpoint intervals that are taken together, a ratio of sums and not a mean of
            ratios. A remainder at the end is left out.

    Returns:
        The curves, with `(checkpoints - 1) // window` windows.

    Raises:
        ValueError: If there are too few checkpoints for one window, or the axes do not fit.

    Example:
        >>> totals = EventTotals(*(np.zeros(shape, np.int32) for shape in
        ...     [(2, 1, 1), (2, 1, 1), (2, 1, 1, 1), (2, 1, 1, 1), (2, 1, 1), (2, 1, 1, 1)]))
        >>> totals.num_episodes[1], totals.episode_counts[1] = 2, 6  # two episodes with 3 events
        >>> totals.episode_squares[1], totals.episode_steps[1] = 18, 40
        >>> curves = event_curves(totals)
        >>> curves.per_episode.tolist(), curves.sem.tolist(), curves.mean_length.tolist()
        ([[[3.0]]], [[[0.0]]], [[20.0]])
    """
    num_intervals = _check_totals(totals) - 1
    if check_count("window", window) > num_intervals:
        raise ValueError(
            f"window: got {window}, expected 1 ... {num_intervals}, the number of intervals "
            "between checkpoints"
        )
    num_windows = num_intervals // window
    sums = [_window_sums(np.asarray(x), window, num_windows) for x in totals]
    num, length, counts, squares, steps, all_counts = sums
    episodes = num[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = counts / episodes
        variance = (squares - episodes * mean**2) / (episodes - 1)
        sem = np.sqrt(np.maximum(variance, 0.0) / episodes)
        return EventCurves(
            per_episode=mean,
            sem=np.where(episodes >= 2, sem, np.nan),
            per_step=all_counts / steps[..., None],
            num_episodes=num.astype(np.int64),
            mean_length=length / num,
        )


def _check_totals(totals: EventTotals) -> int:
    """Number of checkpoints; raises unless all counters agree in their axes."""
    if not isinstance(totals, EventTotals):
        raise ValueError(f"totals: expected EventTotals, got {type(totals).__name__}")
    shape, num_events = np.shape(totals.num_episodes), np.shape(totals.counts)[-1:]
    for name, leaf in totals._asdict().items():
        expected = shape + (num_events if name.endswith(("counts", "squares")) else ())
        if len(shape) != 3 or np.shape(leaf) != expected or np.asarray(leaf).dtype.kind not in "iu":
            raise ValueError(
                f"totals: got {name} of shape {np.shape(leaf)} and type {np.asarray(leaf).dtype}, "
                "expected whole numbers [checkpoint, run, env], of events "
                f"[checkpoint, run, env, k], as num_episodes has {shape}"
            )
    return shape[0]


def _window_sums(values: np.ndarray, window: int, num_windows: int) -> np.ndarray:
    """Increments summed over environments, `[run, window, ...]`, float64."""
    # In the integers of the counters: a difference is exact even where a counter has wrapped.
    increments = np.diff(values[: num_windows * window + 1 : window], axis=0)
    return np.moveaxis(increments.astype(np.float64).sum(axis=2), 0, 1)


class SeedMean(NamedTuple):
    """A mean over seeds with the Student interval of its standard error."""

    mean: np.ndarray
    sem: np.ndarray
    low: np.ndarray
    high: np.ndarray


def seed_mean(values: np.ndarray, *, level: float = 0.95) -> SeedMean:
    """Mean over independent runs, the unit that a statement about training is about.

    Args:
        values: `[run, ...]`; a nan makes the mean nan, since leaving a run out is a choice.
        level: Confidence of the interval.

    Returns:
        Mean, standard error and interval, `[...]`.

    Raises:
        ValueError: If there are fewer than two runs or the level is no probability.

    Example:
        >>> [round(float(x), 2) for x in seed_mean(np.array([1.0, 2.0, 3.0]))]
        [2.0, 0.58, -0.48, 4.48]
    """
    values = check_numbers("values", values)
    if values.ndim < 1 or values.shape[0] < 2:
        raise ValueError(f"values: got shape {values.shape}, expected at least two runs")
    check_fraction("level", level)
    num_runs = values.shape[0]
    mean = values.mean(axis=0)
    sem = values.std(axis=0, ddof=1) / math.sqrt(num_runs)
    half = stats.t.ppf((1 + level) / 2, num_runs - 1) * sem
    return SeedMean(mean, sem, mean - half, mean + half)


class Landmarks(NamedTuple):
    """What an event curve does, in the unit of its steps and of its values.

    Attributes:
        first: Step of the first record with an event; nan if there is none.
        peak: Largest value. The maximum of a noisy curve is biased upward.
        peak_step: Step of the peak.
        half_decay_step: First step after the peak with a value below half way from the peak to
            `final`; nan if there is none.
        end: Mean of the last records.
        overshoot: `peak / end`; nan where `end` is zero.
    """

    first: float
    peak: float
    peak_step: float
    half_decay_step: float
    end: float
    overshoot: float


def landmarks(
    steps: np.ndarray, values: np.ndarray, *, final: float | None = None, num_end: int = 20
) -> Landmarks:
    """First and peak times, overshoot and half-decay of a curve of non-negative values.

    Args:
        steps: Training step of each record, increasing, `[n]`.
        values: Events per episode (or per step), `[n]`.
        final: Value the curve decays to, where the optimum is known; `end` if None.
        num_end: Records at the end whose mean is `end`.

    Returns:
        The landmarks.

    Raises:
        ValueError: If lengths differ, steps do not increase, values or `final` are not finite, or
            there are fewer than `num_end`.

    Example:
        >>> found = landmarks(np.arange(6), np.array([0, 1, 4, 3, 2, 1]), final=1.0, num_end=1)
        >>> found.first, found.peak_step, found.half_decay_step, found.overshoot
        (1.0, 2.0, 4.0, 4.0)
    """
    steps = check_numbers("steps", steps)
    if steps.shape != np.shape(values) or not np.all(np.diff(steps) > 0):
        raise ValueError(
            f"steps: got shape {steps.shape}, expected {np.shape(values)} increasing steps, one a "
            "value"
        )
    values = _checked_curve(values, num_end)
    events = np.flatnonzero(values > 0)
    peak = int(np.argmax(values))
    end = float(values[-num_end:].mean())
    final = end if final is None else check_finite("final", final)
    below = np.flatnonzero(values[peak + 1 :] < final + (values[peak] - final) / 2)
    return Landmarks(
        first=float(steps[events[0]]) if events.size else math.nan,
        peak=float(values[peak]),
        peak_step=float(steps[peak]),
        half_decay_step=float(steps[peak + 1 + below[0]]) if below.size else math.nan,
        end=end,
        overshoot=float(values[peak]) / end if end > 0 else math.nan,
    )


def overshoot_p_value(
    seed: int, values: np.ndarray, sem: np.ndarray, *, num_end: int = 20, num_null: int = 999
) -> float:
    """Probability of such an overshoot in a curve that only rises.

    Any noisy curve has a maximum above its end. The null is the non-decreasing curve nearest to the
    data (isotonic least squares) plus independent normal noise of the given standard errors; the
    statistic is the peak minus the mean of the last records.

    Args:
        seed: Seed of the simulated noise.
        values: The curve, `[n]`.
        sem: Standard error of each value, `[n]`.
        num_end: Records at the end.
        num_null: Simulated curves.

    Returns:
        The p-value, at least `1 / (num_null + 1)`.

    Raises:
        ValueError: If values are not finite, too few, or a standard error is negative or missing.

    Example:
        >>> rising = np.linspace(0, 3, 60)
        >>> overshoot_p_value(0, rising, np.full(60, 0.1)) > 0.5
        True
        >>> overshoot_p_value(0, np.minimum(rising, rising[::-1]), np.full(60, 0.1))
        0.001
    """
    check_count("seed", seed, 0)
    values, sem = _checked_curve(values, num_end), check_numbers("sem", sem)
    if sem.shape != values.shape or not np.all((sem >= 0) & (sem < np.inf)):
        raise ValueError(
            f"sem: got shape {sem.shape}, expected {values.shape} finite standard errors >= 0"
        )
    check_count("num_null", num_null)
    rising = optimize.isotonic_regression(values).x
    noise = np.random.default_rng(seed).standard_normal((num_null, values.size))
    curves = np.vstack([values, rising + sem * noise])
    statistic = curves.max(axis=1) - curves[:, -num_end:].mean(axis=1)
    return float(np.mean(statistic >= statistic[0]))


class Breadth(NamedTuple):
    """In how many contexts an action is taken.

    Attributes:
        mean: Mean probability of the action over the states where it is possible.
        sem: Its standard error over states.
        contexts: `exp H(q)`, the effective number of contexts in which the action is taken.
        null_contexts: The same number for a policy blind to the context: the effective number of
            contexts among the states themselves.
    """

    mean: float
    sem: float
    contexts: float
    null_contexts: float


def breadth(
    probabilities: np.ndarray, contexts: np.ndarray, *, feasible: np.ndarray | None = None
) -> Breadth:
    """Breadth of an action over states, fixed reference states or the agent's own.

    With `q(c)` the share of context `c` in the summed probability of the action, the number of
    contexts is `exp(-sum_c q(c) log q(c))`: `m` if the action is taken equally in `m` contexts.

    Args:
        probabilities: Probability of the action at each state, `[n]`.
        contexts: Context of each state, whole numbers, `[n]`.
        feasible: Where the action is possible, bool `[n]`; everywhere if None.

    Returns:
        The breadth; `contexts` is nan where the action has no probability at all.

    Raises:
        ValueError: If shapes differ, a probability is none, or fewer than two states are feasible.

    Example:
        >>> acts = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0])
        >>> found = breadth(acts, np.array([0, 0, 1, 1, 2, 2, 3, 3]))
        >>> round(found.mean, 6), round(found.contexts, 6), round(found.null_contexts, 6)
        (0.5, 2.0, 4.0)
    """
    p, contexts = check_numbers("probabilities", probabilities), np.asarray(contexts)
    keep = np.ones(p.shape, bool) if feasible is None else check_flags("feasible", feasible)
    if p.ndim != 1 or contexts.shape != p.shape or keep.shape != p.shape:
        raise ValueError(
            f"probabilities: got shape {p.shape} beside contexts {contexts.shape} and feasible "
            f"{keep.shape}, expected one of each for every state, [n]"
        )
    if contexts.dtype.kind not in "iu":
        raise ValueError(f"contexts: got type {contexts.dtype}, expected whole numbers")
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError("probabilities: got numbers outside [0, 1] or nan")
    p, contexts = p[keep], contexts[keep]
    if p.size < 2:
        raise ValueError(f"feasible: got {p.size} states, expected at least two")
    _, index = np.unique(contexts, return_inverse=True)
    sem = float(p.std(ddof=1) / math.sqrt(p.size))
    return Breadth(
        float(p.mean()),
        sem,
        _effective_number(np.bincount(index, p)),
        _effective_number(np.bincount(index).astype(np.float64)),
    )


def _effective_number(masses: np.ndarray) -> float:
    """Exponential of the entropy of masses, nan if they are all zero."""
    total = masses.sum()
    if total <= 0:
        return math.nan
    q = masses[masses > 0] / total
    return float(np.exp(-np.sum(q * np.log(q))))


def _checked_curve(values: np.ndarray, num_end: int) -> np.ndarray:
    values = check_numbers("values", values)
    if values.ndim != 1 or check_count("num_end", num_end) > values.size:
        raise ValueError(
            f"num_end: got {num_end}, expected 1 ... the length of the curve, shape {values.shape}"
        )
    if not np.all(np.isfinite(values)):
        bad = np.flatnonzero(~np.isfinite(values)).tolist()
        raise ValueError(
            f"values: not finite at the records {bad}; take a wider window, so that each holds "
            "complete episodes"
        )
    return values

"""Stages of training, found from curves alone.

A curve along training (the loss, the learning coefficient) is cut into stages of constant level.
The test is aware of autocorrelation: its null distribution is that of AR(1) series of the same
length, and the p-value is the largest over the autocorrelation, so that a wandering curve is not
mistaken for a staircase.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from slt_rl._numbers import check_count, check_fraction, check_nonnegative, check_numbers
from slt_rl.development.partition import best_partition, null_statistics, p_value


@dataclasses.dataclass(frozen=True)
class Stages:
    """Stages of one curve.

    Attributes:
        boundaries: Index of the first record of each stage but the first; empty if the evidence
            does not reach the level of the test.
        levels: Median of the curve in each stage, one more than boundaries.
        statistic: Twice the penalized gain in log-likelihood over no change.
        p_value: Probability of such a statistic in an autocorrelated series without a change.
        rho: Autocorrelation of the noise around the stages.
    """

    boundaries: tuple[int, ...]
    levels: tuple[float, ...]
    statistic: float
    p_value: float
    rho: float


class Curve(NamedTuple):
    """A curve given to the joint detector.

    Attributes:
        name: What the curve shows, for example "loss".
        values: `[record]`.
        min_shift: Smallest change of level, in the unit of the values, that counts as a transition.
            A long series makes changes significant that are too small to matter.
    """

    name: str
    values: np.ndarray
    min_shift: float = 0.0


@dataclasses.dataclass(frozen=True)
class Detection:
    """A transition found from curves.

    Attributes:
        index: First record at which the curve has passed half way between its levels.
        step: Training step half way between that record and the one before.
        curves: Names of the curves that show it, the clearest first.
        shift: Change of level in the clearest curve.
        contrast: `|shift|` over the (robust) standard deviation of that curve around its stages.
    """

    index: int
    step: float
    curves: tuple[str, ...]
    shift: float
    contrast: float


def detect_stages(
    values: np.ndarray,
    *,
    level: float = 0.05,
    min_segment: int = 5,
    max_changes: int = 4,
    num_null: int = 200,
) -> Stages:
    """Cuts a curve into stages of constant level, or into one if there is no evidence for more.

    The statistic is the profile likelihood of AR(1) noise around 1 ... `max_changes` changes
    against none (see `slt_rl.development.partition`); its null distribution is simulated once for
    each length.

    Args:
        values: The curve `[n]`, at equal or at slowly changing distances in (log) time.
        level: Probability of finding any change where there is none.
        min_segment: Shortest stage, in records.
        max_changes: Largest number of changes.
        num_null: Number of simulated series for each of four autocorrelations.

    Returns:
        The stages.

    Raises:
        ValueError: If the curve is too short or not finite, or an option is out of range.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=60)
        >>> stages = detect_stages(noise + 8.0 * (np.arange(60) >= 25), num_null=100)
        >>> stages.boundaries, [round(level) for level in stages.levels]
        ((25,), [0, 8])
    """
    values = _check_values("values", values, min_segment, max_changes)
    _check_level(level, num_null)
    test = _Test(min_segment, max_changes, num_null)
    return test.cut(values, values.size, level)


class _Test(NamedTuple):
    """The test for stages; its null distributions are simulated where they are needed."""

    min_segment: int
    max_changes: int
    num_null: int

    def cut(self, values: np.ndarray, null_length: int, level: float) -> Stages:
        """Cuts a curve, with the null distribution of series of the length `null_length`."""
        changes = min(self.max_changes, null_length // self.min_segment - 1)
        null = null_statistics(
            null_length,
            min_segment=self.min_segment,
            max_changes=changes,
            num_series=self.num_null,
        )
        found = best_partition(values, min_segment=self.min_segment, max_changes=changes)
        probability = p_value(found.statistic, null)
        boundaries = found.boundaries if probability <= level else ()
        edges = [0, *boundaries, values.size]
        levels = [float(np.median(values[a:b])) for a, b in zip(edges, edges[1:], strict=False)]
        return Stages(boundaries, tuple(levels), found.statistic, probability, found.rho)

    def boundaries(self, values: np.ndarray, level: float, null_length: int) -> list[int]:
        """Boundaries of the stages of a curve and of the parts of its stages."""
        boundaries = self.cut(values, null_length, level).boundaries
        edges = [0, *boundaries, values.size]
        found = list(boundaries)
        for start, end in zip(edges, edges[1:], strict=False) if boundaries else ():
            if end - start >= 2 * self.min_segment + 1:
                part_level = level / (len(edges) - 1)
                length = self._shorter_length(end - start)
                parts = self.boundaries(values[start:end], part_level, length)
                found += [start + boundary for boundary in parts]
        return sorted(found)

    def _shorter_length(self, length: int) -> int:
        """One of a few lengths, so that few null distributions are simulated.

        Rounded down: the shorter the series, the larger the critical value.
        """
        shortest = 2 * self.min_segment + 1
        return int(shortest * np.sqrt(2.0) ** np.floor(2 * np.log2(length / shortest)))


def detect_transitions(
    steps: np.ndarray,
    curves: Sequence[Curve],
    *,
    level: float = 0.05,
    min_segment: int = 5,
    max_changes: int = 6,
    window: int = 5,
    num_null: int = 200,
) -> tuple[Detection, ...]:
    """Finds the transitions of one run from one or several of its curves.

    1. Each curve is cut into stages at `level` divided by the number of curves, so that `level`
       bounds the probability of any transition in curves without one. Each stage is then looked
       at alone, on its own scale, at that level divided by the number of stages, and cut again: a
       steep descent hides small steps after it.
    2. A stage is flat if it drifts by less than half of the changes on both sides. What is not flat
       is no stage but a transition under way; before the first flat stage it is the descent from
       the initialization, after the last one it leads nowhere yet.
    3. A transition leads from one flat stage to the next and changes the level by at least
       `min_shift`. It is placed where the curve passes half way.
    4. Transitions in different curves no farther apart than `window` are one, placed by the
       curve of the largest contrast.

    Args:
        steps: Training step of each record, strictly increasing, `[record]`.
        curves: The curves, each with its smallest change of level that counts.
        level: Probability of finding a transition where there is none.
        min_segment: Shortest stage, in records.
        max_changes: Largest number of changes found at once.
        window: Largest distance of one transition in two curves, in records.
        num_null: Number of simulated series for each of four autocorrelations.

    Returns:
        The transitions in the order of training.

    Raises:
        ValueError: If there is no curve, lengths differ, or an option is out of range.
    """
    steps, curves = check_numbers("steps", steps), _checked_curves(curves)
    if steps.ndim != 1 or not np.all(np.diff(steps) > 0):
        raise ValueError(f"steps: got {steps!r}, expected strictly increasing training steps")
    check_count("window", window, 0)
    _check_level(check_fraction("level", level) / len(curves), num_null)
    test = _Test(min_segment, max_changes, num_null)
    found: list[Detection] = []
    for curve in curves:
        values = _check_values(curve.name, curve.values, min_segment, max_changes)
        if values.shape != steps.shape:
            raise ValueError(
                f"curves: {curve.name!r} has shape {values.shape}, expected {steps.shape}"
            )
        edges = np.array(
            [0, *test.boundaries(values, level / len(curves), values.size), values.size]
        )
        edges = _drop_small(values, edges, curve.min_shift)
        found += _transitions_of(curve._replace(values=values), edges, steps)
    return _merge(found, window)


def _checked_curves(curves: Sequence[Curve]) -> tuple[Curve, ...]:
    """Curves of distinct names: of two of one name no transition would be taken for the same."""
    if isinstance(curves, Curve) or not all(isinstance(curve, Curve) for curve in curves):
        raise ValueError("curves: expected a list of Curve(name, values)")
    if not len(curves) or len({curve.name for curve in curves}) < len(curves):
        raise ValueError(f"curves: got {len(curves)}, expected at least one, of different names")
    for curve in curves:
        check_nonnegative(f"{curve.name}: min_shift", curve.min_shift)
    return tuple(curves)


def _drop_small(values: np.ndarray, edges: np.ndarray, min_shift: float) -> np.ndarray:
    """Joins neighboring stages whose levels differ by less than `min_shift`, the nearest first."""
    while len(edges) > 2:
        parts = [values[a:b] for a, b in zip(edges, edges[1:], strict=False)]
        jumps = np.abs(np.diff([np.median(part) for part in parts]))
        if jumps.min() >= max(min_shift, np.finfo(float).tiny):
            break
        edges = np.delete(edges, np.argmin(jumps) + 1)
    return edges


def _transitions_of(curve: Curve, edges: np.ndarray, steps: np.ndarray) -> list[Detection]:
    """Changes from each flat stage of a curve to the next."""
    values = curve.values
    parts = [values[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    levels = np.array([np.median(part) for part in parts])
    flat = np.flatnonzero(_is_flat(parts, levels, _noise(values), curve.min_shift))
    if flat.size < 2:
        return []
    # The median ignores the records in transit between stages.
    noise = 1.4826 * np.median(np.abs(np.concatenate([parts[i] - levels[i] for i in flat])))
    found = []
    for i, j in zip(flat, flat[1:], strict=False):
        shift = float(levels[j] - levels[i])
        if abs(shift) < max(curve.min_shift, np.finfo(float).tiny):
            continue
        start = int(edges[i])
        index = start + _crossing(values[start : edges[j + 1]], levels[i], levels[j])
        step = float(steps[index - 1] + steps[index]) / 2
        contrast = abs(shift) / max(float(noise), 1e-12 * abs(shift))
        found.append(Detection(index, step, (curve.name,), shift, contrast))
    return found


def _is_flat(
    parts: Sequence[np.ndarray], levels: np.ndarray, noise: float, min_shift: float
) -> np.ndarray:
    """Whether each stage drifts less than half of the smaller change beside it, noise allowed for.

    The drift is twice the difference of the medians of the two halves: the whole rise of a
    straight line, and nothing for a level with a few records in transit at its ends. In a stage
    of `m` records with white noise its standard deviation is `noise * sqrt(8 pi / m)`; two of
    them are allowed. A stage on the way from one level to another is not flat where that
    allowance hides the whole way.
    """
    jumps = np.diff(levels)
    beside = np.minimum(np.append(np.abs(jumps), np.inf), np.append(np.inf, np.abs(jumps)))
    halves = [(part[: (len(part) + 1) // 2], part[len(part) // 2 :]) for part in parts]
    drift = np.array([2 * abs(np.median(b) - np.median(a)) for a, b in halves])
    length = np.array([len(part) for part in parts])
    allowance = 2 * noise * np.sqrt(8 * np.pi / length)
    on_the_way = np.zeros(len(parts), bool)
    on_the_way[1:-1] = jumps[1:] * jumps[:-1] > 0
    hidden = on_the_way & (allowance > beside)
    return (drift <= 0.5 * np.maximum(beside, min_shift) + allowance) & ~hidden


def _noise(values: np.ndarray) -> float:
    """Standard deviation of white noise on a curve, from second differences; nothing on a slope."""
    second = np.diff(values, 2)
    return float(1.4826 * np.median(np.abs(second)) / np.sqrt(6))


def _crossing(values: np.ndarray, before: float, after: float) -> int:
    """The split that best separates values nearer to `before` from those nearer to `after`.

    Index of the first value on the far side, at least one and at most the last.
    """
    far = np.sign(after - before) * (values - (before + after) / 2) > 0
    score = np.cumsum(~far)[:-1] + np.cumsum(far[::-1])[::-1][1:]
    return int(np.argmax(score)) + 1


def _merge(found: list[Detection], window: int) -> tuple[Detection, ...]:
    """Joins detections of different curves, the clearest first."""
    merged: list[Detection] = []
    for item in sorted(found, key=lambda d: -d.contrast):
        for i, kept in enumerate(merged):
            if abs(item.index - kept.index) <= window and item.curves[0] not in kept.curves:
                merged[i] = dataclasses.replace(kept, curves=kept.curves + item.curves)
                break
        else:
            merged.append(item)
    return tuple(sorted(merged, key=lambda d: d.index))


def _check_values(name: str, values: np.ndarray, min_segment: int, max_changes: int) -> np.ndarray:
    values = check_numbers(name, values)
    check_count("min_segment", min_segment, 2)
    check_count("max_changes", max_changes)
    if values.ndim != 1 or values.size < 2 * min_segment + 1:
        raise ValueError(
            f"{name}: got shape {values.shape}, expected a vector of at least "
            f"{2 * min_segment + 1} records, two stages and one more"
        )
    if not np.all(np.isfinite(values)):
        bad = np.flatnonzero(~np.isfinite(values)).tolist()
        raise ValueError(f"{name}: not finite at the records {bad}, expected finite numbers")
    return values


def _check_level(level: float, num_null: int) -> None:
    check_fraction("level", level)
    if check_count("num_null", num_null) * level < 1:
        raise ValueError(
            f"num_null: got {num_null}, expected at least {int(np.ceil(1 / level))} series to "
            f"resolve the level {level}"
        )

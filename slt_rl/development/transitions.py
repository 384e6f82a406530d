"""Transitions known from class labels, and how well detected ones agree with them."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from slt_rl._numbers import check_count, check_fraction, check_nonnegative, check_numbers

TRANSIT = "transit"


class Plateau(NamedTuple):
    """A stretch of training in one class.

    Attributes:
        label: The class.
        first: Index of its first record.
        last: Index of its last record.
    """

    label: str
    first: int
    last: int


class Transition(NamedTuple):
    """A change of class.

    Attributes:
        before: Class that is left.
        after: Class that is reached.
        start: Training step of the last record in the old class.
        end: Training step of the first record in the new class.
    """

    before: str
    after: str
    start: float
    end: float

    @property
    def step(self) -> float:
        """The middle of the transition."""
        return (self.start + self.end) / 2


@dataclasses.dataclass(frozen=True)
class TransitionScore:
    """Agreement of detected with true transitions, over one run or many.

    Attributes:
        num_true: Number of true transitions.
        num_detected: Number of detected transitions.
        lags: Detected minus true step of each matched pair, in training steps.
    """

    num_true: int
    num_detected: int
    lags: tuple[float, ...]

    @property
    def num_matched(self) -> int:
        """Number of matched pairs."""
        return len(self.lags)

    @property
    def precision(self) -> float:
        """Share of the detected that are true; nan where nothing was detected."""
        return self.num_matched / self.num_detected if self.num_detected else math.nan

    @property
    def recall(self) -> float:
        """Share of the true that were detected; nan where there was nothing to detect."""
        return self.num_matched / self.num_true if self.num_true else math.nan

    @property
    def median_lag(self) -> float:
        """Median of the signed lags in steps; nan without a matched pair."""
        return float(np.median(self.lags)) if self.lags else math.nan

    @property
    def median_absolute_lag(self) -> float:
        """Median of the absolute lags in steps; nan without a matched pair."""
        return float(np.median(np.abs(self.lags))) if self.lags else math.nan

    def precision_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Wilson interval of the precision."""
        return wilson_interval(self.num_matched, self.num_detected, level)

    def recall_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Wilson interval of the recall."""
        return wilson_interval(self.num_matched, self.num_true, level)

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain numbers for a JSON file; None where a share is undefined."""
        shares = {
            "precision": self.precision,
            "recall": self.recall,
            "median_lag": self.median_lag,
            "median_absolute_lag": self.median_absolute_lag,
        }
        counts = {
            "num_true": self.num_true,
            "num_detected": self.num_detected,
            "num_matched": self.num_matched,
        }
        return counts | {k: None if math.isnan(v) else v for k, v in shares.items()}


def plateaus(
    labels: Sequence[str], *, persistence: int = 3, ignored: Iterable[str] = (TRANSIT,)
) -> tuple[Plateau, ...]:
    """Stretches of one class, from the class of each record.

    Ignored labels are left out first. Of what remains, a visit of fewer than `persistence`
    records to another class does not end a plateau.

    Args:
        labels: Class of each record.
        persistence: Fewest records of a plateau.
        ignored: Labels that are no class.

    Returns:
        The plateaus in the order of training; neighbors have different classes.

    Raises:
        ValueError: If `persistence` is not positive, a label is missing (nan), or `ignored` is a
            single text.

    Example:
        >>> [p.label for p in plateaus(["4", "4", "transit", "5", "4", "5", "5"], persistence=2)]
        ['4', '5']
    """
    check_count("persistence", persistence)
    if isinstance(ignored, str):
        raise ValueError(f"ignored: got {ignored!r}, expected labels, such as ({ignored!r},)")
    missing = [i for i, label in enumerate(labels) if label is None or label != label]
    if missing:
        raise ValueError(f"labels: none (nan) at the records {missing}; leave these records out")
    ignored = frozenset(ignored)
    kept = [(i, str(label)) for i, label in enumerate(labels) if str(label) not in ignored]
    runs: list[list[tuple[int, str]]] = []
    for record in kept:
        if runs and runs[-1][-1][1] == record[1]:
            runs[-1].append(record)
        else:
            runs.append([record])
    found: list[Plateau] = []
    for run in runs:
        if found and found[-1].label == run[0][1]:
            found[-1] = found[-1]._replace(last=run[-1][0])
        elif len(run) >= persistence:
            found.append(Plateau(run[0][1], run[0][0], run[-1][0]))
    return tuple(found)


def label_transitions(
    steps: Sequence[float],
    labels: Sequence[str],
    *,
    persistence: int = 3,
    ignored: Iterable[str] = (TRANSIT,),
) -> tuple[Transition, ...]:
    """Changes of class, from the class of each record.

    Args:
        steps: Training step of each record.
        labels: Class of each record.
        persistence: Fewest records of a plateau; shorter visits are not counted.
        ignored: Labels that are no class.

    Returns:
        The transitions in the order of training.

    Raises:
        ValueError: If the lengths differ or `persistence` is not positive.

    Example:
        >>> label_transitions([0, 10, 20, 30, 40], ["4+", "4+", "transit", "5", "5"], persistence=2)
        (Transition(before='4+', after='5', start=10.0, end=30.0),)
    """
    at = _checked_steps(steps, labels)
    found = plateaus(labels, persistence=persistence, ignored=ignored)
    return tuple(
        Transition(a.label, b.label, float(at[a.last]), float(at[b.first]))
        for a, b in zip(found, found[1:], strict=False)
    )


def labeled_range(
    steps: Sequence[float],
    labels: Sequence[str],
    *,
    persistence: int = 3,
    ignored: Iterable[str] = (TRANSIT,),
) -> tuple[float, float]:
    """First and last step between which labels say what is a transition.

    Before the first plateau there is the descent from the initialization, after the last one there
    may be a transition that has not arrived: curves show them, labels know no classes for them.

    Args:
        steps: Training step of each record.
        labels: Class of each record.
        persistence: Fewest records of a plateau.
        ignored: Labels that are no class.

    Returns:
        First step of the first plateau, last step of the last one; `(inf, -inf)` without a plateau.

    Raises:
        ValueError: If the lengths differ or `persistence` is not positive.

    Example:
        >>> labeled_range([0, 1, 2, 3, 4], ["transit", "4", "4", "5", "transit"], persistence=1)
        (1.0, 3.0)
    """
    at = _checked_steps(steps, labels)
    found = plateaus(labels, persistence=persistence, ignored=ignored)
    if not found:
        return math.inf, -math.inf
    return float(at[found[0].first]), float(at[found[-1].last])


def _checked_steps(steps: Sequence[float], labels: Sequence[str]) -> np.ndarray:
    """Increasing steps, one for each label."""
    found = check_numbers("steps", steps)
    if found.shape != (len(labels),):
        raise ValueError(f"labels: got {len(labels)} of them, expected one per step, {found.size}")
    if not np.all(np.diff(found) > 0):
        raise ValueError("steps: expected strictly increasing steps, none nan")
    return found


def score_transitions(
    detected: Sequence[float],
    true: Sequence[Transition],
    *,
    tolerance: float,
    known: tuple[float, float] = (-math.inf, math.inf),
) -> TransitionScore:
    """Matches detected steps with true transitions, one to one.

    A detected step may be matched with a transition if it is no more than `tolerance` outside of
    it. Of all matchings with the most pairs the one with the smallest sum of absolute lags is
    taken.

    Args:
        detected: Training steps of detected transitions.
        true: True transitions.
        tolerance: Largest distance in training steps.
        known: Steps between which the truth is known (see `labeled_range`); a detected step outside
            is neither right nor wrong and not counted.

    Returns:
        The score; a lag is the detected step minus the middle of the transition.

    Raises:
        ValueError: If the tolerance is negative, a detected step is not finite, a true transition
            is none, or `known` is no pair of numbers.
    """
    check_nonnegative("tolerance", tolerance)
    found, ends = check_numbers("detected", detected), check_numbers("known", known)
    if found.ndim != 1 or not np.isfinite(found).all():
        raise ValueError(f"detected: got {found.tolist()}, expected a list of finite steps")
    if ends.shape != (2,) or np.isnan(ends).any():
        raise ValueError(f"known: got {known!r}, expected the first and the last step")
    if not all(isinstance(transition, Transition) for transition in true):
        raise ValueError("true: expected transitions, as `label_transitions` returns them")
    found = found[(ends[0] <= found) & (found <= ends[1])]
    if not len(found) or not len(true):
        return TransitionScore(len(true), len(found), ())
    steps = found[:, None]
    start, end = (np.array([getattr(t, name) for t in true]) for name in ("start", "end"))
    outside = np.maximum(np.maximum(start - steps, steps - end), 0.0)
    lags = steps - (start + end) / 2
    # A forbidden pair costs more than all allowed pairs together, so allowed pairs come first.
    allowed = outside <= tolerance
    forbidden = 1.0 + np.sum(np.abs(lags))
    rows, columns = linear_sum_assignment(np.where(allowed, np.abs(lags), forbidden))
    pairs = [(r, c) for r, c in zip(rows, columns, strict=True) if allowed[r, c]]
    return TransitionScore(len(true), len(found), tuple(float(lags[p]) for p in pairs))


def total_score(scores: Iterable[TransitionScore]) -> TransitionScore:
    """The score of several runs taken together: counts are summed, lags are collected."""
    scores = tuple(scores)
    return TransitionScore(
        sum(s.num_true for s in scores),
        sum(s.num_detected for s in scores),
        tuple(lag for s in scores for lag in s.lags),
    )


def wilson_interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share.

    Args:
        successes: Number of successes.
        trials: Number of trials; zero gives the interval (0, 1).
        level: Confidence.

    Returns:
        `(lower, upper)`.

    Raises:
        ValueError: If the counts or the level are out of range.

    Example:
        >>> [round(x, 3) for x in wilson_interval(9, 10)]
        [0.596, 0.982]
    """
    if check_count("successes", successes, 0) > check_count("trials", trials, 0):
        raise ValueError(f"successes: got {successes}, expected 0 ... {trials}")
    check_fraction("level", level)
    if trials == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    share = successes / trials
    center = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2)))
    half /= 1 + z2 / trials
    return max(0.0, center - half), min(1.0, center + half)

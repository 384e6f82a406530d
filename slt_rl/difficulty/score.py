"""From measurements to outcomes: which estimator survives which difficulty, and what follows."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from slt_rl.diagnostics import Z95
from slt_rl.difficulty.measure import EXACT, VERDICTS
from slt_rl.difficulty.methods import Method, methods_of
from slt_rl.difficulty.protocol import CLASSES
from slt_rl.difficulty.rungs import Rung

LEVEL = 0.95
# An estimator that is refused more often than this does not serve, and one that keeps the order of
# the classes less often does not either.
MAX_REFUSED = 0.1
MIN_ORDER = 0.9
# Intervals are called too narrow if so few of them would hold the value by chance this seldom.
SIGNIFICANCE = 0.025


def is_too_few(hits: int, total: int, level: float = LEVEL) -> bool:
    """Whether so few hits, or fewer, have a probability below `SIGNIFICANCE` at a hit rate."""
    return bool(stats.binom.cdf(hits, total, level) < SIGNIFICANCE)


class Score(NamedTuple):
    """How one estimator fared on one rung, over classes and keys.

    Attributes:
        rung: Number of the rung.
        row: The estimator with what is done about difficulties in general.
        name: The estimator with the correction by its own name.
        error: `[class]`, mean estimate minus wanted value over the keys that gave a number.
        spread: `[class]`, half width of the 95 % interval of that mean over keys.
        covered: Intervals that hold the wanted value.
        covered_predicted: Intervals that hold the value of the potential that was sampled.
        total: Estimates.
        agreement: Share of the estimates that agree with the value on the same data, within the
            combined 95 % intervals; NaN where there is none.
        order: Share of pairs of keys with `5 < 5+` and `5 < 6`; NaN where none is expected.
        verdicts: Estimates that were trusted, doubtful, refused.
        gradients: Gradient evaluations of an estimate.
        separated: Classes at which theory says that another value is found: that of the sampled
            potential differs from the wanted one by more than a typical interval.
        outside: Share of the intervals at these classes that miss the wanted value.
    """

    rung: int
    row: str
    name: str
    error: np.ndarray
    spread: np.ndarray
    covered: int
    covered_predicted: int
    total: int
    agreement: float
    order: float
    verdicts: tuple[int, int, int]
    gradients: float
    separated: tuple[str, ...]
    outside: float

    @property
    def refused(self) -> float:
        """Share of refused estimates."""
        return self.verdicts[2] / self.total

    @property
    def outcome(self) -> str:
        """Survives, or why not."""
        if self.refused > MAX_REFUSED:
            return "refused"
        if is_too_few(self.covered, self.total):
            # Right in the mean, with intervals that claim too much, is another failure.
            return "wrong value" if np.any(abs(self.error) > self.spread) else "narrow intervals"
        if self.order < MIN_ORDER:
            return "wrong order"
        return "survives"

    @property
    def survives(self) -> bool:
        """Whether nothing speaks against it."""
        return self.outcome == "survives"


class Climbed(NamedTuple):
    """All that was found.

    Attributes:
        rungs: The rungs that were climbed.
        arrays: For each number of a rung what was measured.
        scores: Every estimator on every rung.
        checks: What must hold, of `slt_rl.report`.
        seconds: Wall time of each rung.
    """

    rungs: Sequence[Rung]
    arrays: Mapping[int, Mapping[str, np.ndarray]]
    scores: Sequence[Score]
    checks: Sequence[Any]
    seconds: Mapping[str, float]


def rung_scores(rung: Rung, arrays: Mapping[str, np.ndarray]) -> list[Score]:
    """The scores of every estimator that was tried on a rung."""
    found = [_score(rung, name, name, _part(arrays, name), True) for name in EXACT]
    for place, method in enumerate(methods_of(rung)):
        found.append(_method_score(rung, method, _part(arrays, str(place))))
    return found


def _part(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    start = f"{name}_"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}


def _method_score(rung: Rung, method: Method, part: Mapping[str, np.ndarray]) -> Score:
    return _score(rung, method.row, method.name, part, method.is_ordered)


def _score(rung: Rung, row: str, name: str, part: Mapping, is_ordered: bool) -> Score:
    mean = part["mean"]
    error = mean - part["wanted"][:, None]
    count = np.maximum(np.isfinite(mean).sum(axis=1), 2)
    verdicts = [int(np.sum(part["verdict"] == v)) for v in range(len(VERDICTS))]
    half = np.nanmedian((part["high"] - part["low"]) / 2, axis=1)
    apart = np.abs(part["predicted"] - part["wanted"]) > half
    inside = _inside(part, "wanted")
    return Score(
        rung=rung.number,
        row=row,
        name=name,
        error=np.nanmean(error, axis=1),
        spread=stats.t.ppf(0.975, count - 1) * np.nanstd(error, axis=1, ddof=1) / np.sqrt(count),
        covered=int(inside.sum()),
        covered_predicted=int(_inside(part, "predicted").sum()),
        total=mean.size,
        agreement=_agreement(part),
        order=_order(mean) if is_ordered else float("nan"),
        verdicts=(verdicts[0], verdicts[1], verdicts[2]),
        gradients=float(np.mean(part["gradients"])),
        separated=tuple(c for c, far in zip(CLASSES, apart, strict=True) if far),
        outside=float(np.mean(~inside[apart])) if apart.any() else float("nan"),
    )


def _inside(part: Mapping[str, np.ndarray], which: str) -> np.ndarray:
    """Whether the interval, widened by the error of the reference, holds a value."""
    value, error = part[which][:, None], Z95 * part[f"{which}_sem"][:, None]
    low, high = part["mean"] - part["low"], part["high"] - part["mean"]
    gap = part["mean"] - value
    return (gap <= np.hypot(low, error)) & (-gap <= np.hypot(high, error))


def _agreement(part: Mapping[str, np.ndarray]) -> float:
    if "data" not in part or not np.isfinite(part["data"]).any():
        return float("nan")
    width = Z95 * np.hypot(part["sem"], part["data_sem"])
    return float(np.mean(np.abs(part["mean"] - part["data"]) <= width))


def _order(mean: np.ndarray) -> float:
    low = mean[CLASSES.index("5")]
    return float(
        np.mean([mean[CLASSES.index(c)][:, None] > low[None, :] for c in CLASSES if c != "5"])
    )


class Family(NamedTuple):
    """A potential over all rungs, with the correction that each rung asks for.

    Attributes:
        potential: Name of the potential.
        survived: Numbers of the rungs survived, uncorrected or corrected.
        corrected: Those of them at which only the corrected estimator survives.
        tried: Numbers of the rungs tried.
        gradients: Mean cost of an estimate.
    """

    potential: str
    survived: tuple[int, ...]
    corrected: tuple[int, ...]
    tried: tuple[int, ...]
    gradients: float


def families(scores: Sequence[Score]) -> list[Family]:
    """The potentials in the order of the recommendation.

    First by the rungs of reinforcement learning survived, then by how few of these need a
    correction, then by cost.
    """
    found = []
    for potential in dict.fromkeys(s.row.partition(",")[0] for s in scores):
        mine = [s for s in scores if s.row.partition(",")[0] == potential and s.rung > 0]
        if not mine:
            continue
        survived = sorted({s.rung for s in mine if s.survives})
        bare = {s.rung for s in mine if s.survives and not s.row.endswith(" corrected")}
        tried = sorted({s.rung for s in mine})
        cost = float(np.mean([s.gradients for s in mine]))
        needs = tuple(r for r in survived if r not in bare)
        found.append(Family(potential, tuple(survived), needs, tuple(tried), cost))
    return sorted(found, key=lambda f: (-len(f.survived), len(f.corrected), f.gradients))


def recommendation(scores: Sequence[Score]) -> str:
    """What follows from the scores, in words."""
    ranked = families(scores)
    sampled = [f for f in ranked if f.potential not in EXACT]
    best = sampled[0]
    lines = [f"Of sampled potentials: {_describe(best)}."]
    for other in sampled[1:]:
        if len(other.tried) == len(best.tried):
            lines.append(f"Next: {_describe(other)}.")
            break
    exact = next(f for f in ranked if f.potential in EXACT)
    lines.append(f"Where a closed form exists: {_describe(exact)}.")
    never = [f.potential for f in ranked if not f.survived]
    if never:
        lines.append(f"Not to be used: {', '.join(never)}.")
    return " ".join(lines)


def _describe(family: Family) -> str:
    text = f"{family.potential}, which survives rungs {_list(family.survived)}"
    missed = [r for r in family.tried if r not in family.survived]
    if missed:
        text += f" and not {_list(missed)}"
    if family.corrected:
        text += f"; on {_list(family.corrected)} only with its correction"
    return text


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) if numbers else "none"

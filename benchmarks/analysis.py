"""What rows of estimates with known answers show: errors, coverage, verdicts, cost.

Pure functions of the rows. An estimate that is not finite has infinite error and no interval; it is
never left out. Runs without a reference value count in the verdicts only.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from slt_rl.development import seed_mean
from slt_rl.report import Check, Table

Row = Mapping[str, Any]
# An error that no "trusted" estimate may have; below it a run counts as sound.
LARGE_ERROR = 0.1


class Share(NamedTuple):
    """`count` of `total`, with the 95 % Wilson interval of the share.

    Runs of one problem share its bias, so the interval is too narrow where problems are few.
    """

    count: int
    total: int

    @property
    def value(self) -> float:
        """The share; NaN of nothing."""
        return self.count / self.total if self.total else math.nan

    def __str__(self) -> str:
        if not self.total:
            return "no runs"
        ends = stats.binomtest(self.count, self.total).proportion_ci(method="wilson")
        low, high = (f"{100 * end:.1f}" for end in ends)
        return f"{100 * self.value:.1f} % ({self.count} of {self.total}; {low} to {high} %)"


class Targets(NamedTuple):
    """Limits of relative errors, as stated for one tolerance."""

    median: float
    percentile95: float | None


def targets(tolerance: float) -> Targets:
    """Targets of a run: scaled to the tolerance, with those of 5 % and 1 % as anchors."""
    return Targets(0.02, 0.06) if tolerance >= 0.05 else Targets(0.5 * tolerance, None)


def has_reference(row: Row) -> bool:
    """Whether an error can be told."""
    return row.get("reference") is not None


def relative_error(row: Row) -> float:
    """`|estimate/reference - 1|`; infinite where the estimate is not finite."""
    if row["estimate"] is None:
        return math.inf
    return abs(row["estimate"] / row["reference"] - 1)


def mean_interval(values: Sequence[float]) -> str:
    """Mean and 95 % bootstrap interval over seeds; seeds without a value are counted out."""
    kept = np.asarray(values, np.float64)
    kept = kept[np.isfinite(kept)]
    if not len(kept):
        return "none"
    means = np.random.default_rng(0).choice(kept, (2_000, kept.size)).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    missing = f", {len(kept)} of {len(values)} seeds" if len(kept) < len(values) else ""
    return f"{kept.mean():.3f} [{low:.3f}, {high:.3f}]{missing}"


def quantile(values: Sequence[float], level: float) -> float:
    """The smallest value that at least a share `level` does not exceed; NaN of nothing."""
    if not len(values):
        return math.nan
    return float(np.sort(values)[max(math.ceil(level * len(values)) - 1, 0)])


def covers(row: Row, level: float, intervals: str = "intervals") -> bool:
    """Whether the interval holds the reference, whose own error widens it in quadrature."""
    low, high = row[intervals][f"{level:g}"] if row.get(intervals) else (None, None)
    if low is None or high is None:
        return False
    own = stats.norm.ppf(0.5 + level / 2) * (row.get("reference_sem") or 0.0)
    return abs(row["reference"] - (low + high) / 2) <= math.hypot((high - low) / 2, own)


def coverage(rows: Sequence[Row], level: float) -> Share:
    """How many intervals hold their reference."""
    known = [row for row in rows if has_reference(row)]
    return Share(sum(covers(row, level) for row in known), len(known))


def trusted_but_wrong(rows: Sequence[Row]) -> list[Row]:
    """Runs called "trusted" with a large error: there must be none."""
    known = [row for row in rows if has_reference(row) and row["verdict"] == "trusted"]
    return [row for row in known if relative_error(row) > LARGE_ERROR]


def sound_but_refused(rows: Sequence[Row]) -> Share:
    """Share of "refused" among runs without a large error."""
    sound = [r for r in rows if has_reference(r) and relative_error(r) <= LARGE_ERROR]
    return Share(sum(row["verdict"] == "refused" for row in sound), len(sound))


def calibration_share(rows: Sequence[Row]) -> float:
    """Median share of gradient evaluations spent on calibration; NaN where it is not reported."""
    shares = [
        row["calibration_gradients"] / row["gradients"]
        for row in rows
        if row.get("calibration_gradients") is not None and row.get("gradients")
    ]
    return quantile(shares, 0.5)


def family(name: str) -> str:
    """The name of a problem up to its first number: what its sizes have in common.

    Example:
        >>> family("deep_linear_3_1_3_rank_0"), family("superposition_5+_regret")
        ('deep_linear', 'superposition')
    """
    return re.split(r"_(?=\d)", name)[0]


def make_checks(rows: Sequence[Row], tolerance: float) -> list[Check]:
    """Every figure that the suite has to show, beside its target."""
    known = [row for row in rows if has_reference(row)]
    errors = [relative_error(row) for row in known]
    sampled = sum(row.get("truth") == "sampled" for row in known)
    aim = targets(tolerance)
    limits = [("median", 0.5, aim.median), ("95th percentile", 0.95, aim.percentile95)]
    checks = [
        _at_most(
            f"{name} of the relative error to the value at finite temperature",
            quantile(errors, level),
            limit,
            f"{len(known)} runs, {sampled} of them against a sampled reference",
        )
        for name, level, limit in limits
        if limit is not None
    ]
    for level, low, high in ((0.95, 0.90, 0.99), (0.8, 0.7, 0.9), (0.5, 0.4, 0.6)):
        share = coverage(rows, level)
        name = f"coverage of the {100 * level:g} % interval"
        inside = low <= share.value <= high
        checks.append(_check(name, f"{low:g} to {high:g}", share.value, inside, detail=str(share)))
    wrong = trusted_but_wrong(rows)
    detail = ", ".join(sorted({row["case"] for row in wrong}))
    checks.append(_at_most("trusted with an error above 10 %", len(wrong), 0, detail))
    refused = sound_but_refused(rows)
    checks.append(_at_most("sound runs refused", refused.value, 0.03, str(refused)))
    share = calibration_share(rows)
    checks.append(_at_most("share of calibration in gradients, median", share, 0.4, ""))
    return checks + _noise_checks(known)


def _noise_checks(known: Sequence[Row]) -> list[Check]:
    """Minibatches at high noise: accurate after the remedy, and the remedy is named."""
    noisy = [row for row in known if row.get("mode") == "minibatch"]
    if not noisy:
        return []
    worst = max(relative_error(row) for row in noisy)
    named = Share(sum(bool(row.get("notes")) for row in noisy), len(noisy))
    return [
        _at_most("noisy labels at nbeta/b near 60: largest error", worst, 0.05, f"{len(noisy)}"),
        _check("noisy labels: remedy named", "1", named.value, named.value == 1, detail=str(named)),
    ]


def _at_most(name: str, value: float, limit: float, detail: str) -> Check:
    return _check(name, f"<= {limit:g}", value, value <= limit, detail=detail)


def _check(name: str, target: str, value: Any, held: bool, *, detail: str) -> Check:
    measured = None if isinstance(value, float) and math.isnan(value) else value
    return Check(name, name, target, measured, bool(held), detail)


def group_table(title: str, rows: Sequence[Row], group: Callable[[Row], str]) -> Table:
    """Errors, coverage and verdicts by group of rows."""
    header = (
        "group",
        "runs",
        "with reference",
        "median error",
        "95th percentile",
        "95 % covered",
        "trusted",
        "doubtful",
        "refused",
        "median gradients",
        "median seconds",
    )
    groups = grouped(rows, group)
    return Table(title, header, [_group_cells(name, rows) for name, rows in groups.items()])


def grouped(rows: Iterable[Row], group: Callable[[Row], str]) -> dict[str, list[Row]]:
    """Rows by the name of their group, in the order in which names are met."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(group(row), []).append(row)
    return groups


def _group_cells(name: str, rows: Sequence[Row]) -> list[Any]:
    errors = [relative_error(row) for row in rows if has_reference(row)]
    shown = [quantile(errors, level) if errors else None for level in (0.5, 0.95)]
    covered = coverage(rows, 0.95)
    verdicts = Counter(row["verdict"] for row in rows)
    return [
        name,
        len(rows),
        len(errors),
        *shown,
        covered.value if covered.total else None,
        *(verdicts[verdict] for verdict in ("trusted", "doubtful", "refused")),
        quantile([row.get("gradients") or 0 for row in rows], 0.5),
        quantile([row["seconds"] for row in rows], 0.5),
    ]


def worst_table(rows: Sequence[Row], count: int = 15) -> Table:
    """The runs of largest error, with what was said of them and the largest term of the budget."""
    known = sorted((r for r in rows if has_reference(r)), key=relative_error, reverse=True)
    cells = [
        (
            row["case"],
            row["key"],
            row["reference"],
            row["estimate"],
            relative_error(row),
            row["verdict"],
            row["regime"],
            largest_term(row),
            "; ".join(row["flags"]),
        )
        for row in known[:count]
    ]
    header = ("case", "key", "reference", "estimate", "error", "verdict", "regime", "largest term")
    return Table("Largest errors", (*header, "flags"), cells)


def largest_term(row: Row) -> str | None:
    """Name of the largest term of the error budget that an error can come from.

    The reference has the same localization, so how the value follows it explains no error.
    """
    terms = (row.get("budget") or {}).items()
    budget = {k: v for k, v in terms if v is not None and k != "localization"}
    return max(budget, key=lambda name: abs(budget[name])) if budget else None


def interval(values: Sequence[float] | np.ndarray, form: str = ".3g") -> str:
    """Mean over seeds with its interval, as text; every seed's number if one is missing."""
    if len(values) < 2 or not np.all(np.isfinite(values)):
        return each(values, form)
    mean = seed_mean(np.asarray(values))
    return f"{mean.mean:{form}} [{mean.low:{form}}, {mean.high:{form}}]"


def each(values: Sequence[float] | np.ndarray, form: str = ".3g") -> str:
    """Numbers of seeds as text, – where there is none."""
    return ", ".join(f"{value:{form}}" if np.isfinite(value) else "–" for value in values)

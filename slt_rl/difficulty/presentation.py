"""From scores to the page: one figure, one table, the recommendation."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from slt_rl import report as rp
from slt_rl.difficulty.figure import LIMIT, ladder_figure
from slt_rl.difficulty.measure import EXACT
from slt_rl.difficulty.methods import methods_of
from slt_rl.difficulty.protocol import CLASSES, CURRENT, STALE, Protocol
from slt_rl.difficulty.rungs import Rung
from slt_rl.difficulty.score import Score, recommendation


def write_report(
    out: Path,
    protocol: Protocol,
    rungs: Sequence[Rung],
    *,
    arrays: Mapping[int, Mapping[str, np.ndarray]],
    scores: Sequence[Score],
    checks: Sequence[rp.Check],
    seconds: Mapping[str, float],
) -> rp.Report:
    """Draws the figure and writes `report.html` and `summary.json`.

    Args:
        out: Folder of the report.
        protocol: Sizes.
        rungs: The rungs climbed.
        arrays: For each rung what was measured.
        scores: All scores.
        checks: All checks.
        seconds: Wall time of each stage.
    """
    titles = {rung.number: rung.title for rung in rungs}
    parts = (_figure(out, scores, titles),), (score_table(scores),)
    sections = [
        rp.Section("Recommendation", (recommendation(scores),)),
        rp.Section("Estimators and difficulties", (), *parts),
        rp.Section("Values", (), (), value_tables(rungs, arrays)),
    ]
    provenance = rp.collect_provenance(
        {
            "seed": protocol.seed,
            "protocol": protocol.name,
            "key": f"jax.random.key({protocol.seed})",
        },
        seconds,
        notes={"drift": f"buffer at p6 = {STALE:g}, now {CURRENT:g}"},
    )
    abstract = _abstract(protocol, checks)
    found = rp.Report("The ladder of difficulty", abstract, list(checks), sections, provenance)
    rp.write_html(out, found)
    rp.write_summary(out, found)
    return found


def _abstract(protocol: Protocol, checks: Sequence[rp.Check]) -> str:
    held = sum(check.held for check in checks)
    return (
        f"The toy model of superposition at classes {', '.join(CLASSES)}: from supervised learning "
        "to reinforcement learning, one difficulty at a time. Every estimate is compared with an "
        f"independent value at the same temperature, n = {protocol.num_examples}, localization "
        f"{protocol.localization:g}, over {protocol.num_keys} data sets. {held} of {len(checks)} "
        "checks held."
    )


def _figure(out: Path, scores: Sequence[Score], titles: dict[int, str]) -> rp.FigureFile:
    return rp.save_figure(
        ladder_figure(scores, titles),
        out,
        "ladder",
        caption="Which estimator survives which difficulty. In a cell: mean estimate minus the "
        "exact value at the same temperature, for each class with its 95 % interval over keys; "
        f"the edges are at {LIMIT:g} to either side. Below: intervals that hold the exact value. "
        "Green: as many as 95 % intervals should, the order of the classes kept, hardly ever "
        "refused.",
    )


def score_table(scores: Sequence[Score]) -> rp.Table:
    """The one table."""
    header = (
        "rung",
        "potential, correction",
        *(f"error at {c}" for c in CLASSES),
        "covered",
        "agrees on data",
        "order",
        "trusted",
        "doubtful",
        "refused",
        "gradients",
        "outcome",
    )
    rows = [
        (
            s.rung,
            s.name,
            *(_number(e, 2) for e in s.error),
            f"{s.covered}/{s.total}",
            _number(s.agreement, 2),
            _number(s.order, 2),
            *s.verdicts,
            round(s.gradients),
            s.outcome,
        )
        for s in scores
    ]
    return rp.Table(
        "Potential and correction on each rung",
        header,
        rows,
        "Error: mean estimate minus exact value at the same temperature. Covered: intervals that "
        "hold it. Agrees on data: estimates within the combined 95 % Monte-Carlo intervals of the "
        "value on the same data. Order: pairs of keys with 5 < 5+ and 5 < 6.",
    )


def _number(value: float, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None


def value_tables(
    rungs: Sequence[Rung], arrays: Mapping[int, Mapping[str, np.ndarray]]
) -> tuple[rp.Table, ...]:
    """Exact values at finite temperature beside mean estimates, and values at low temperature."""
    rows, limits = [], []
    for rung in rungs:
        found = arrays[rung.number]
        names = {name: name for name in EXACT}
        names |= {str(i): method.name for i, method in enumerate(methods_of(rung))}
        for stem, name in names.items():
            for index, label in enumerate(CLASSES):
                means = found[f"{stem}_mean"][index]
                numbers = (
                    found[f"{stem}_wanted"][index],
                    found[f"{stem}_wanted_sem"][index],
                    found[f"{stem}_predicted"][index],
                    np.nanmean(means),
                    np.nanstd(means, ddof=1),
                )
                rows.append((rung.number, name, label, *(_number(x, 3) for x in numbers)))
        for name in EXACT:
            values = (_number(x, 3) for x in found[f"{name}_limit"])
            limits.append((rung.number, name, *values))
    header = ("rung", "estimator", "class", "exact", "sem", "of what is sampled", "mean", "spread")
    return (
        rp.Table("Values at finite temperature", header, rows, "Spread: over data sets and keys."),
        rp.Table("Values at nbeta = 1e5", ("rung", "potential", *CLASSES), limits),
    )

"""From scores to the page: one figure, one table, the recommendation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from slt_rl import report as rp
from slt_rl.difficulty.figure import LIMIT, ladder_figure
from slt_rl.difficulty.measure import EXACT
from slt_rl.difficulty.methods import methods_of
from slt_rl.difficulty.protocol import CLASSES, CURRENT, STALE, Protocol
from slt_rl.difficulty.score import Climbed, Score, recommendation


def write_report(out: Path, protocol: Protocol, found: Climbed) -> rp.Report:
    """Draws the figure and writes `report.html` and `summary.json`.

    Args:
        out: Folder of the report.
        protocol: Sizes.
        found: What was found.
    """
    tables = (score_table(found.scores),)
    sections = [
        rp.Section("Recommendation", (recommendation(found.scores),)),
        rp.Section("Estimators and difficulties", (), (_figure(out, found),), tables),
        rp.Section("Values", (), (), value_tables(found)),
    ]
    provenance = rp.collect_provenance(
        {
            "seed": protocol.seed,
            "protocol": protocol.name,
            "key": f"jax.random.key({protocol.seed})",
        },
        found.seconds,
        notes={"drift": f"buffer at p6 = {STALE:g}, now {CURRENT:g}"},
    )
    text, checks = abstract(protocol, found.checks), list(found.checks)
    report = rp.Report("The ladder of difficulty", text, checks, sections, provenance)
    rp.write_html(out, report)
    rp.write_summary(out, report)
    return report


def abstract(protocol: Protocol, checks: Sequence[rp.Check]) -> str:
    """What was done and how much of it held, in words."""
    held = sum(check.held for check in checks)
    return (
        f"The toy model of superposition at classes {', '.join(CLASSES)}: from supervised learning "
        "to reinforcement learning, one difficulty at a time. Every estimate is compared with an "
        f"independent value at the same temperature, n = {protocol.num_examples}, localization "
        f"{protocol.localization:g}, over {protocol.num_keys} data sets. {held} of {len(checks)} "
        "checks held."
    )


def draw(found: Climbed) -> Figure:
    """The one figure."""
    return ladder_figure(found.scores, {rung.number: rung.title for rung in found.rungs})


def _figure(out: Path, found: Climbed) -> rp.FigureFile:
    return rp.save_figure(
        draw(found),
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


def value_tables(climbed: Climbed) -> tuple[rp.Table, ...]:
    """Exact values at finite temperature beside mean estimates, and values at low temperature."""
    rows, limits = [], []
    for rung in climbed.rungs:
        found = climbed.arrays[rung.number]
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

"""The figures of the accuracy benchmark."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from benchmarks.analysis import coverage, has_reference, relative_error
from slt_rl.report.style import INK, MUTED, new_figure, styled

Row = Mapping[str, Any]
VERDICT_COLORS = {"trusted": "#2b83c6", "doubtful": "#f0a202", "refused": "#a9418f"}
# Errors are drawn from here on: smaller ones are below what the runs resolve.
_FLOOR = 1e-5


def figures(rows: Sequence[Row]) -> dict[str, Figure]:
    """The four figures by name; those that nothing can be drawn in are left out."""
    known = [row for row in rows if has_reference(row) and row["estimate"] is not None]
    made = {"cost": _figure(draw_cost, [row for row in rows if row.get("gradients")])}
    if known:
        made["truth"] = _figure(draw_truth, known)
        made["budget"] = _figure(draw_budget, known)
        made["coverage"] = _figure(draw_coverage, known)
    return made


def _figure(draw, rows: Sequence[Row]) -> Figure:
    with styled():
        figure = new_figure((5.2, 4.2))
        draw(figure.subplots(), rows)
    return figure


def _scatter(axis: Axes, rows: Sequence[Row], x: Sequence[float], y: Sequence[float]) -> None:
    for verdict, color in VERDICT_COLORS.items():
        chosen = [i for i, row in enumerate(rows) if row["verdict"] == verdict]
        if chosen:
            points = np.asarray(x)[chosen], np.asarray(y)[chosen]
            axis.plot(*points, "o", ms=4, mew=0, alpha=0.7, color=color, label=verdict)


def draw_truth(axis: Axes, rows: Sequence[Row]) -> None:
    """Estimates against their references, with the line of equality and 10 % around it.

    Sampled references have a ring.
    """
    reference = [row["reference"] for row in rows]
    sampled = [row for row in rows if row.get("truth") == "sampled"]
    if sampled:
        points = [r["reference"] for r in sampled], [max(r["estimate"], _FLOOR) for r in sampled]
        axis.plot(*points, "o", ms=6.5, mfc="none", mec=INK, mew=0.5, label="sampled reference")
    _scatter(axis, rows, reference, [max(row["estimate"], _FLOOR) for row in rows])
    ends = np.array([min(reference), max(reference)])
    axis.fill_between(ends, 0.9 * ends, 1.1 * ends, color=MUTED, alpha=0.15, lw=0, label="10 %")
    axis.plot(ends, ends, color=INK, lw=0.9, label="equality")
    axis.set(xscale="log", yscale="log", title="Estimate against truth")
    axis.set(xlabel="value at finite temperature", ylabel="estimate")
    axis.legend()


def draw_coverage(axis: Axes, rows: Sequence[Row]) -> None:
    """Share of intervals that hold the reference against their level."""
    for number, level in enumerate((0.5, 0.8, 0.95)):
        share = coverage(rows, level)
        ends = stats.binomtest(share.count, share.total).proportion_ci(method="wilson")
        axis.plot([level, level], list(ends), color="#2b83c6", lw=1.5)
        label = "measured, 95 % interval" if number == 0 else None
        axis.plot([level], [share.value], "o", color="#2b83c6", label=label)
    axis.plot([0, 1], [0, 1], color=INK, lw=0.9, label="equality")
    axis.set(xlim=(0.4, 1.0), ylim=(0.0, 1.02), title="Coverage")
    axis.set(xlabel="level of the interval", ylabel="share that holds the reference")
    axis.legend()


def draw_budget(axis: Axes, rows: Sequence[Row]) -> None:
    """Realized error against the half-width of the 95 % interval, both relative."""
    half = [_half_width(row) / abs(row["reference"]) for row in rows]
    error = [max(relative_error(row), _FLOOR) for row in rows]
    _scatter(axis, rows, np.maximum(half, _FLOOR), error)
    ends = np.array([_FLOOR, max(1.0, *half, *error)])
    axis.plot(ends, ends, color=INK, lw=0.9, label="edge of the interval")
    axis.set(xscale="log", yscale="log", title="Budget against realized error")
    axis.set(xlabel="half-width of the 95 % interval, relative", ylabel="relative error")
    axis.legend()


def _half_width(row: Row) -> float:
    low, high = row["intervals"]["0.95"]
    return (high - low) / 2 if low is not None and high is not None else _FLOOR


def draw_cost(axis: Axes, rows: Sequence[Row]) -> None:
    """Time against gradient evaluations; the share of calibration where it is known."""
    _scatter(axis, rows, [row["gradients"] for row in rows], [row["seconds"] for row in rows])
    axis.set(xscale="log", yscale="log", title="Cost")
    axis.set(xlabel="gradient evaluations", ylabel="seconds, compilation included")
    axis.legend()

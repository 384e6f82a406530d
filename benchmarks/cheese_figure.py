"""The figure of `benchmarks.cheese`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.cheese_page import POTENTIALS, VERDICTS, Row, by_alpha, jumps, llcs_of
from slt_rl.report.style import INK, MUTED, new_figure, styled

_COLORS = {"KL": "#2b83c6", "regret": "#cc4b0a", "KL corner": "#00745c"}
_MARKERS = {"trusted": "o", "doubtful": "s", "refused": "x"}


def curves(found: Sequence[Row]) -> Figure:
    """Regret and the three estimates along training, one column for each share."""
    groups = list(by_alpha(found))
    with styled():
        figure = new_figure((4.6 * len(groups) + 0.6, 9.4))
        axes = figure.subplots(5, len(groups), squeeze=False, sharex=True, sharey="row")
        for column, (alpha, group) in zip(axes.T, groups, strict=True):
            column[0].set_title(f"alpha = {alpha:g}, {len(group)} seeds")
            for row in group:
                _draw_regret(column[0], row)
                for axis, name in zip(column[1:4], POTENTIALS, strict=True):
                    _draw_curve(axis, row, name)
                answers = np.array(row["susceptibility"]["off corner"], np.float64)
                column[4].plot(row["checkpoints"], answers[:, 0], color=INK, lw=0.6, alpha=0.6)
            column[0].set_ylim(bottom=0)
            # Far below zero where the center is no minimum.
            column[2].set_yscale("symlog", linthresh=10)
            column[2].axhline(0, color=MUTED, lw=0.7)
            column[4].axhline(0, color=MUTED, lw=0.7)
            column[4].set_xlabel("iteration")
        axes[0, 0].set_ylabel("exact regret")
        for axis, text in zip(axes[1:4, 0], POTENTIALS.values(), strict=True):
            axis.set_ylabel(f"LLC, {text}")
        axes[4, 0].set_ylabel("susceptibility of\noff-corner regret")
        figure.legend(
            handles=_handles(axes[0, 0]), loc="outside lower center", ncols=3 * axes.shape[1]
        )
    return figure


def _draw_regret(axis: Any, row: Row) -> None:
    for name, color in (("corner", _COLORS["KL corner"]), ("off corner", _COLORS["regret"])):
        axis.plot(row["records"], row["regret"][name], color=color, lw=0.7, alpha=0.7)
    for jump in jumps(row):
        axis.axvline(jump.step, ymax=0.06, color=INK, lw=1.2)


def _draw_curve(axis: Any, row: Row, name: str) -> None:
    curve, steps, color = row["curves"][name], np.array(row["checkpoints"]), _COLORS[name]
    means = llcs_of(curve)
    axis.plot(steps, means, color=color, lw=0.5, alpha=0.5)
    for verdict in VERDICTS:
        chosen = np.array([v == verdict for v in curve["verdict"]])
        axis.scatter(steps[chosen], means[chosen], **_look(verdict, color), zorder=3)


def _look(verdict: str, color: str) -> dict[str, Any]:
    look = {"marker": _MARKERS[verdict], "s": 12, "linewidths": 0.7}
    if verdict == "refused":
        return look | {"color": color}
    face = color if verdict == "trusted" else "white"
    return look | {"facecolor": face, "edgecolor": color}


def _handles(axis: Any) -> list[Any]:
    lines = [
        axis.plot([], [], color=color, label=text)[0]
        for text, color in (
            ("corner levels", _COLORS["KL corner"]),
            ("off-corner levels", _COLORS["regret"]),
        )
    ]
    transition = axis.plot([], [], color=INK, lw=1.2, label="transition")[0]
    marks = [axis.scatter([], [], label=name, **_look(name, MUTED)) for name in VERDICTS]
    return [*lines, transition, *marks]

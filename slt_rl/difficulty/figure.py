"""One figure: which estimator survives which difficulty."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from slt_rl.difficulty.protocol import CLASSES
from slt_rl.difficulty.score import Score
from slt_rl.report.style import INK, MUTED, class_color, new_figure, styled

COLORS = {
    "survives": "#dcefe2",
    "wrong value": "#f9ddd6",
    "wrong order": "#f9ddd6",
    "narrow intervals": "#fbf0c9",
    "refused": "#e6e6e6",
}
# Errors of a coefficient that a cell can show, to either side.
LIMIT = 1.2


def ladder_figure(scores: Sequence[Score], titles: dict[int, str]) -> Figure:
    """Rows are estimators, columns rungs; a cell shows errors by class and the outcome.

    Args:
        scores: All scores.
        titles: Title of each rung by its number.

    Returns:
        The figure.
    """
    rows, numbers = list(dict.fromkeys(s.row for s in scores)), sorted(titles)
    with styled():
        figure = new_figure((1.9 + 1.55 * len(numbers), 1.5 + 0.72 * len(rows)))
        axis = figure.subplots()
        for score in scores:
            _draw_cell(axis, numbers.index(score.rung), rows.index(score.row), score)
        axis.set_xticks(range(len(numbers)), [f"{n}\n{_wrap(titles[n])}" for n in numbers])
        axis.set_yticks(range(len(rows)), rows)
        axis.set(xlim=(-0.5, len(numbers) - 0.5), ylim=(len(rows) - 0.5, -0.5))
        axis.xaxis.tick_top()
        axis.grid(visible=False)
        axis.tick_params(length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
        handles = [
            Patch(color=COLORS["survives"], label="survives"),
            Patch(color=COLORS["wrong value"], label="wrong value or order"),
            Patch(color=COLORS["narrow intervals"], label="narrow intervals"),
            Patch(color=COLORS["refused"], label="refused"),
            *(
                Line2D([], [], color=class_color(c), marker="o", ms=4, lw=1.2, label=f"class {c}")
                for c in CLASSES
            ),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _wrap(title: str) -> str:
    return title.replace(" ", "\n").replace("policy-dependent", "policy-\ndependent")


def _draw_cell(axis: Axes, column: int, row: int, score: Score) -> None:
    """Background by outcome, errors about the middle line, coverage below."""
    corner = (column - 0.48, row - 0.47)
    axis.add_patch(Rectangle(corner, 0.96, 0.94, color=COLORS[score.outcome], lw=0))
    axis.plot([column] * 2, [row - 0.43, row + 0.17], color=MUTED, lw=0.6, zorder=1)
    if score.outcome != "refused":
        for index, label in enumerate(CLASSES):
            middle = float(np.clip(score.error[index] / LIMIT, -1, 1))
            half = float(np.minimum(score.spread[index] / LIMIT, 1))
            ends = np.clip([middle - half, middle + half], -1, 1)
            height, color = row - 0.33 + 0.19 * index, class_color(label)
            axis.plot(column + 0.45 * ends, [height] * 2, color=color, lw=1.2)
            axis.plot(column + 0.45 * middle, height, "o", color=color, ms=3.5)
    covered = f"{score.covered}/{score.total} covered"
    note = f"{score.verdicts[2]}/{score.total} refused" if score.outcome == "refused" else covered
    axis.text(column, row + 0.31, note, ha="center", va="center", fontsize=7, color=INK)

"""The look of the figures: one color for one class everywhere, levels, ticks, legends."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import hsv_to_rgb, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

INK = "#222222"
MUTED = "#6b6b6b"
GRID = "#e4e4e4"
TRANSIT_COLOR = "#b4b4b4"

# Blue for four-gons, teal to green for those with silent columns, orange for five, purple for six:
# hues that differ for all common kinds of color vision (after Okabe and Ito).
_CLASS_COLORS = {
    "transit": TRANSIT_COLOR,
    "4": "#7cc1ee",
    "4+": "#2b83c6",
    "4++": "#123f7a",
    "4-": "#9fdcc8",
    "4+-": "#35b08f",
    "4++-": "#00745c",
    "4--": "#d3dd9b",
    "4+--": "#a3b04a",
    "4++--": "#6c7a1c",
    "4---": "#dccbb0",
    "4+---": "#b39a6f",
    "4++---": "#7d6640",
    "4----": "#cdc9d8",
    "4+----": "#9d97ad",
    "4++----": "#6b6480",
    "5": "#f0a202",
    "5+": "#cc4b0a",
    "6": "#a9418f",
}

RC: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.dpi": 100.0,
    "savefig.dpi": 160.0,
    "svg.fonttype": "path",
    "svg.hashsalt": "slt_rl",
    "pdf.fonttype": 42,
}


def styled():
    """A context in which figures are built and saved with this look; nothing stays changed."""
    return matplotlib.rc_context(RC)


def new_figure(
    size: tuple[float, float], *, layout: Literal["constrained"] | None = "constrained"
) -> Figure:
    """An empty figure that needs no screen and that `pyplot` does not keep.

    Args:
        size: Width and height in inches.
        layout: The layout engine; None where axes are placed by hand.
    """
    figure = Figure(figsize=size, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def class_color(label: str) -> str:
    """The color of a class; the same for the same label in every figure.

    Labels of the toy model of superposition have fixed colors, any other one is given a color by a
    hash of its letters.
    """
    known = _CLASS_COLORS.get(str(label))
    if known is not None:
        return known
    number = sum((i + 1) * ord(letter) for i, letter in enumerate(str(label)))
    hue = (number * 0.61803398875) % 1.0
    red, green, blue = hsv_to_rgb((hue, 0.55, 0.45 + 0.35 * ((number * 0.7548) % 1.0)))
    return to_hex((float(red), float(green), float(blue)))


def ordered_classes(labels: Iterable[str], levels: Mapping[str, float]) -> list[str]:
    """The distinct labels by descending level; labels without a level last, "transit" the last."""
    distinct = {str(label) for label in labels}
    return sorted(distinct, key=lambda c: (c == "transit", -levels.get(c, -np.inf), c))


def class_legend(labels: Sequence[str]) -> list[Patch]:
    """Legend entries, one for each class."""
    return [Patch(facecolor=class_color(c), edgecolor="none", label=class_name(c)) for c in labels]


def class_name(label: str) -> str:
    """The label as drawn, with a true minus sign."""
    return str(label).replace("-", "\u2212")


def detected_handle() -> Line2D:
    """Legend entry of a detected transition."""
    return Line2D([], [], color=INK, lw=1.0, ls=(0, (4, 2)), label="detected from the curves")


def true_handle() -> Patch:
    """Legend entry of a transition known from labels."""
    return Patch(facecolor="#d9d9d9", edgecolor="none", label="between two classes (labels)")


def scale_steps(axis: Axes, steps: np.ndarray, *, log: bool, margin: float = 0.0) -> None:
    """Scale and limits of a horizontal axis of training steps.

    Args:
        axis: Axes to set.
        steps: Training step of each record.
        log: Logarithmic, linear below the first step that is not zero.
        margin: Space at both ends, as a share of the axis.
    """
    low, high = float(steps[0]), float(steps[-1])
    if log:
        axis.set_xscale("symlog", linthresh=float(steps[steps > 0][0]))
    transform = axis.xaxis.get_transform()
    ends = transform.transform([low, high])
    space = margin * (ends[1] - ends[0])
    axis.set_xlim(*transform.inverted().transform([ends[0] - space, ends[1] + space]))


def step_axis(axis: Axes, label: str) -> None:
    """Labels the horizontal axis with training steps, 50000 written as 50k."""
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axis.set_xlabel(label)


def short_number(value: float, digits: int = 4) -> str:
    """A number of steps in short, with so many significant digits.

    Example:
        >>> [short_number(x) for x in (0, 750, 1500, 50_000, 1_250_000)]
        ['0', '750', '1.5k', '50k', '1.25M']
    """
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.{digits}g}{letter}"
    return f"{value:.{digits}g}"


def spread(positions: Sequence[float], gap: float, *, low: float, high: float) -> np.ndarray:
    """Moves label positions apart until neighbors are `gap` away, inside `[low, high]`.

    Args:
        positions: Wanted positions.
        gap: Least distance; made smaller where there is no room.
        low: Lower end.
        high: Upper end.

    Returns:
        Positions in the given order, as near to the wanted ones as neighbors allow.
    """
    wanted = np.asarray(positions, np.float64)
    if wanted.size == 0:
        return wanted
    gap = min(gap, (high - low) / max(wanted.size - 1, 1))
    order = np.argsort(wanted, kind="stable")
    # With the gaps taken out, the positions only have to be in order: isotonic regression.
    offsets = gap * np.arange(wanted.size)
    placed = _isotonic(wanted[order] - offsets)
    placed = np.clip(placed, low, high - offsets[-1]) + offsets
    result = np.empty_like(wanted)
    result[order] = placed
    return result


def _isotonic(values: np.ndarray) -> np.ndarray:
    """Least-squares non-decreasing fit, by pooling neighbors that are out of order."""
    blocks: list[list[float]] = []
    for value in values:
        blocks.append([value, 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, count = blocks.pop()
            previous, number = blocks[-1]
            total = number + count
            blocks[-1] = [(previous * number + mean * count) / total, total]
    return np.concatenate([np.full(int(count), mean) for mean, count in blocks])


def draw_levels(axis: Axes, levels: Mapping[str, float], *, labels: bool = True) -> None:
    """Horizontal lines at the levels inside the axis, named at its right edge.

    The limits and the scale of the vertical axis must have been set.
    """
    bottom, top = sorted(axis.get_ylim())
    inside = {c: y for c, y in levels.items() if bottom <= y <= top}
    for label, value in inside.items():
        axis.axhline(value, color=class_color(label), lw=0.8, alpha=0.75, zorder=1.2)
    if not labels or not inside:
        return
    to_axes = axis.transScale + axis.transLimits
    wanted = [float(to_axes.transform((0.0, y))[1]) for y in inside.values()]
    height = axis.get_window_extent().height * 72 / axis.figure.dpi
    placed = spread(wanted, 9.5 / max(height, 1.0), low=0.0, high=1.0)
    for label, start, end in zip(inside, wanted, placed, strict=True):
        axis.plot(
            [1.0, 1.012, 1.02],
            [start, end, end],
            transform=axis.transAxes,
            color=class_color(label),
            lw=0.8,
            clip_on=False,
        )
        axis.text(
            1.026,
            end,
            class_name(label),
            transform=axis.transAxes,
            color=INK,
            fontsize=8,
            va="center_baseline",
            ha="left",
        )

"""The development of one run: polygons of the columns, loss, and learning coefficient."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter
from scipy.spatial import ConvexHull, QhullError

from slt_rl.development.transitions import plateaus
from slt_rl.report.records import TrainingCurves
from slt_rl.report.style import (
    INK,
    MUTED,
    class_color,
    class_legend,
    class_name,
    detected_handle,
    draw_levels,
    new_figure,
    ordered_classes,
    scale_steps,
    short_number,
    step_axis,
    styled,
    true_handle,
)

_DEAD = 0.15  # a column shorter than this is drawn as dead

# Off a minimum an estimate falls to any negative number and would flatten the rest of its panel.
LLC_FLOOR = -2.0


def run_figure(
    curves: TrainingCurves, run: int, levels: Mapping[str, float], *, num_snapshots: int = 8
) -> Figure:
    """Polygons, loss and learning coefficient of one run over training steps.

    Args:
        curves: All runs of one way of training.
        run: Index of the run.
        levels: Loss of each class.
        num_snapshots: Number of polygons.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no such run.
    """
    if not 0 <= run < curves.num_runs:
        raise ValueError(f"run: got {run}, expected 0 ... {curves.num_runs - 1}")
    records = snapshot_records(curves.labels[run], num_snapshots)
    with styled():
        figure = new_figure((10.0, 6.2), layout=None)
        grid = figure.add_gridspec(
            3, 1, height_ratios=(1.0, 1.5, 1.35), left=0.075, right=0.915, top=0.9, bottom=0.14,
            hspace=0.22,
        )  # fmt: skip
        _draw_snapshots(figure, grid[0], curves, run, records=records)
        loss_axis = figure.add_subplot(grid[1])
        llc_axis = figure.add_subplot(grid[2], sharex=loss_axis)
        _draw_loss(loss_axis, curves, run, levels)
        _mark_snapshots(loss_axis, curves.steps[records])
        _draw_llc(llc_axis, curves, run)
        for axis in (loss_axis, llc_axis):
            draw_transitions(axis, curves, run)
        loss_axis.tick_params(labelbottom=False)
        scale_steps(loss_axis, curves.steps, log=curves.log_steps, margin=0.012)
        step_axis(llc_axis, curves.step_label)
        figure.suptitle(
            f"{curves.name}, run {run}", x=0.075, ha="left", fontsize=12, fontweight="bold"
        )
        handles: list[Artist] = [*class_legend(ordered_classes(curves.labels[run], levels))]
        handles += [true_handle(), detected_handle()]
        figure.legend(handles=handles, loc="lower center", ncols=min(len(handles), 9))
    return figure


def snapshot_records(labels: np.ndarray, num_snapshots: int) -> np.ndarray:
    """Records worth a picture: both ends, each plateau, each transition, then evenly between.

    Args:
        labels: Class of each record.
        num_snapshots: Number of pictures.

    Returns:
        Ascending record indices, at most `num_snapshots`, never close neighbors.
    """
    n = len(labels)
    found = plateaus(list(labels), persistence=2)
    wanted = [0, n - 1]
    wanted += [(a.last + b.first) // 2 for a, b in zip(found, found[1:], strict=False)]
    wanted += [(p.first + p.last) // 2 for p in found]
    chosen: list[int] = []
    for record in wanted:
        if len(chosen) < num_snapshots and _distance(record, chosen) >= max(2, n // 40):
            chosen.append(record)
    while len(chosen) < min(num_snapshots, n):
        distances = [_distance(record, chosen) for record in range(n)]
        if max(distances) < max(2, n // 40):
            break
        chosen.append(int(np.argmax(distances)))
    return np.array(sorted(chosen))


def _distance(record: int, chosen: Sequence[int]) -> int:
    return min((abs(record - other) for other in chosen), default=record + 10**9)


def _draw_snapshots(
    figure: Figure, place: SubplotSpec, curves: TrainingCurves, run: int, *, records: np.ndarray
) -> None:
    columns, biases, labels = curves.columns[run], curves.biases[run], curves.labels[run]
    limit = 1.12 * max(1.0, float(np.max(np.abs(columns[records]))))
    grid = place.subgridspec(1, len(records), wspace=0.06)
    for position, record in enumerate(records):
        axis = figure.add_subplot(grid[position])
        draw_polygon(axis, columns[record], biases[record], label=str(labels[record]))
        axis.set(xlim=(-limit, limit), ylim=(-limit, limit))
        letter = chr(ord("a") + position)
        axis.set_title(f"{letter}  {class_name(labels[record])}", fontsize=9, loc="center", pad=2)
        axis.text(
            0.5, -0.03, short_number(curves.steps[record], 3), transform=axis.transAxes,
            ha="center", va="top", fontsize=8, color=MUTED,
        )  # fmt: skip


def draw_polygon(axis: Axes, columns: np.ndarray, biases: np.ndarray, *, label: str) -> None:
    """Draws the columns of the weights as points of the plane, with their convex hull.

    A filled disk is a feature with bias <= 0, a plus a feature with positive bias, a cross a
    feature whose output is never active (bias below minus the squared length of its column).

    Args:
        axis: Axes to draw on.
        columns: `[2, feature]`.
        biases: `[feature]`.
        label: Class, which gives the color.
    """
    color = class_color(label)
    points = np.asarray(columns).T
    circle = np.linspace(0, 2 * np.pi, 100)
    axis.plot(np.cos(circle), np.sin(circle), color="#d4d4d4", lw=0.7, zorder=1)
    try:
        hull = points[ConvexHull(points).vertices]
        axis.fill(*hull.T, facecolor=color, alpha=0.22, zorder=2)
        axis.fill(*hull.T, fill=False, edgecolor=color, lw=1.4, zorder=3)
    except QhullError:
        pass  # all columns on a line: there is no polygon
    for point in points:
        axis.plot([0, point[0]], [0, point[1]], color=INK, lw=0.6, alpha=0.5, zorder=3)
    length = np.linalg.norm(points, axis=1)
    silent = (biases < -(length**2)) & (length > _DEAD)
    plus = biases > 0.02
    # Features whose columns have shrunk to zero lie on one another; a small ring keeps all visible.
    angle = np.linspace(0, 2 * np.pi, len(points), endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 0.16
    places = points + np.where((length < _DEAD)[:, None], ring, 0.0)
    for mask, marker, size in ((~silent & ~plus, "o", 3.6), (plus, "P", 5.2), (silent, "X", 5.2)):
        axis.plot(
            *places[mask].T, marker, ms=size, color=INK, mec="white", mew=0.5, zorder=4, ls="none"
        )
    axis.set(aspect="equal", xticks=[], yticks=[])
    axis.grid(False)
    axis.spines[:].set_visible(False)


def _draw_loss(axis: Axes, curves: TrainingCurves, run: int, levels: Mapping[str, float]) -> None:
    loss, labels = curves.loss[run], curves.labels[run]
    axis.set_yscale("log")
    axis.set_ylim(*loss_limits(loss, [levels[c] for c in np.unique(labels) if c in levels]))
    plain_log_ticks(axis)
    axis.set_ylabel("population loss $L$")
    axis.plot(curves.steps, loss, color=MUTED, lw=0.8, zorder=2)
    _colored_points(axis, curves.steps, loss, labels)
    draw_levels(axis, levels)


def loss_limits(loss: np.ndarray, visited: Sequence[float]) -> tuple[float, float]:
    """Limits of a logarithmic axis around the visited levels; an early descent may be cut off."""
    values = list(visited) or list(np.quantile(loss, (0.02, 0.98)))
    high = max(max(values), float(np.quantile(loss, 0.95)))
    return 0.86 * min(min(values), float(np.min(loss))), 1.16 * high


def plain_log_ticks(axis: Axes) -> None:
    """Ticks of a short logarithmic axis as plain numbers."""
    low, high = axis.get_ylim()
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    digits = (1, 2, 5) if high / low > 8 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    ticks = np.outer(decades, digits).ravel()
    axis.yaxis.set_major_locator(FixedLocator(ticks[(ticks >= low) & (ticks <= high)].tolist()))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_locator(NullLocator())


def _draw_llc(axis: Axes, curves: TrainingCurves, run: int) -> None:
    axis.set_ylabel(r"learning coefficient $\hat\lambda$")
    known = np.isfinite(curves.llc[run])
    if not known.any():
        axis.text(
            0.5, 0.5, "not measured for this run", transform=axis.transAxes, ha="center",
            color=MUTED,
        )  # fmt: skip
        return
    steps, llc = curves.steps[known], curves.llc[run, known]
    lower, upper = curves.lower[run, known], curves.upper[run, known]
    axis.fill_between(steps, lower, upper, color=MUTED, alpha=0.22, lw=0, zorder=1.5)
    axis.plot(steps, llc, color=MUTED, lw=0.8, zorder=2)
    _colored_points(axis, steps, llc, curves.labels[run, known])
    spread = upper - lower
    usual = spread <= 10 * np.median(spread)
    bottom, top = max(np.min(lower[usual]), LLC_FLOOR), np.max(upper[usual])
    note_cut(axis, int(np.sum(llc < LLC_FLOOR)))
    axis.set_ylim(bottom - 0.06 * (top - bottom), top + 0.06 * (top - bottom))


def note_cut(axis: Axes, count: int) -> None:
    """Says in the panel how many estimates lie below it."""
    if count:
        text = f"{count} estimates below {LLC_FLOOR:g} not shown: no minimum of the loss there"
        axis.text(
            0.99, 0.03, text, transform=axis.transAxes, ha="right", color=MUTED, fontsize="small"
        )


def _colored_points(axis: Axes, steps: np.ndarray, values: np.ndarray, labels: np.ndarray) -> None:
    for label in np.unique(labels):
        mask = labels == label
        axis.plot(steps[mask], values[mask], "o", ms=2.6, mew=0, color=class_color(label), zorder=3)


def _mark_snapshots(axis: Axes, steps: np.ndarray) -> None:
    for position, step in enumerate(steps):
        axis.annotate(
            chr(ord("a") + position), (step, 1.0), xycoords=axis.get_xaxis_transform(),
            xytext=(0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=8,
            color=INK, annotation_clip=False,
        )  # fmt: skip
        axis.plot(
            [step, step], [0.97, 1.0], transform=axis.get_xaxis_transform(), color=INK, lw=0.8
        )


def draw_transitions(axis: Axes, curves: TrainingCurves, run: int) -> None:
    """Shades the transitions known from labels and draws the detected ones as dashed lines."""
    for transition in curves.true[run]:
        axis.axvspan(transition.start, transition.end, color="#d9d9d9", lw=0, zorder=1)
    for detection in curves.detected[run]:
        axis.axvline(detection.step, color=INK, lw=1.0, ls=(0, (4, 2)), zorder=2.5)

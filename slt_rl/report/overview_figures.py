"""All runs at once: loss and learning coefficient over steps, and classes as colored strips."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from slt_rl.development.transitions import TRANSIT, plateaus
from slt_rl.report.records import TrainingCurves
from slt_rl.report.run_figure import LLC_FLOOR, loss_limits, note_cut, plain_log_ticks
from slt_rl.report.style import (
    INK,
    MUTED,
    class_color,
    class_legend,
    class_name,
    draw_levels,
    new_figure,
    ordered_classes,
    scale_steps,
    step_axis,
    styled,
)


def training_figure(trainings: Sequence[TrainingCurves], levels: Mapping[str, float]) -> Figure:
    """Loss and learning coefficient of every run, one column for each way of training.

    Args:
        trainings: Ways of training, drawn side by side.
        levels: Loss of each class.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no training.
    """
    _require(trainings)
    with styled():
        figure = new_figure((5.2 * len(trainings) + 0.4, 6.4), layout=None)
        axes = figure.subplots(
            2, len(trainings), sharex="col", sharey="row", squeeze=False,
            gridspec_kw={"hspace": 0.1, "wspace": 0.16, "left": 0.07, "right": 0.935,
                         "top": 0.94, "bottom": 0.15},
        )  # fmt: skip
        visited = np.unique(np.concatenate([t.labels.ravel() for t in trainings]))
        reached = [levels[c] for c in visited if c in levels]
        loss = np.concatenate([t.loss[:, 1:].ravel() for t in trainings])
        axes[0, 0].set_yscale("log")
        axes[0, 0].set_ylim(*loss_limits(loss, reached))
        plain_log_ticks(axes[0, 0])
        for column, training in enumerate(trainings):
            top, bottom = axes[:, column]
            top.set_title(f"{training.name}: {training.num_runs} runs")
            _colored_lines(top, training.steps, training.loss, training.labels)
            draw_levels(top, levels, labels=column == len(trainings) - 1)
            runs = training.measured_runs
            _colored_lines(bottom, training.steps, training.llc[runs], training.labels[runs])
            bottom.set_title(f"{len(runs)} runs measured", fontsize=8.5, fontweight="normal")
            note_cut(bottom, int(np.sum(training.llc[runs] < LLC_FLOOR)))
            scale_steps(bottom, training.steps, log=training.log_steps)
            step_axis(bottom, training.step_label)
        axes[0, 0].set_ylabel("population loss $L$")
        axes[1, 0].set_ylabel(r"learning coefficient $\hat\lambda$")
        axes[1, 0].set_ylim(*_llc_limits(trainings))
        handles = class_legend(ordered_classes(visited, levels))
        figure.legend(handles=handles, loc="lower center", ncols=min(len(handles), 10))
    return figure


def _llc_limits(trainings: Sequence[TrainingCurves]) -> tuple[float, float]:
    """Limits that show all but stray values; a fixed range if nothing was measured."""
    values = np.concatenate([t.llc[np.isfinite(t.llc)] for t in trainings])
    if not values.size:
        return 0.0, 10.0
    low, high = np.quantile(values, (0.002, 0.998))
    low = max(low, LLC_FLOOR)
    margin = 0.08 * (high - low) + 0.05
    return float(low - margin), float(high + margin)


def _colored_lines(axis: Axes, steps: np.ndarray, values: np.ndarray, labels: np.ndarray) -> None:
    """Each run as a line whose pieces have the color of the class at their end."""
    pieces, colors = [], []
    for curve, classes in zip(values, labels, strict=True):
        points = np.stack([steps, curve], axis=-1)
        ends = np.flatnonzero(classes[1:-1] != classes[2:]) + 1
        for first, last in zip([0, *ends], [*ends, len(steps) - 1], strict=True):
            piece = points[first : last + 1]
            pieces.append(piece[np.isfinite(piece[:, 1])])
            colors.append(class_color(classes[last]))
    axis.add_collection(LineCollection(pieces, colors=colors, lw=0.9, alpha=0.75, zorder=2))


def class_strip_figure(trainings: Sequence[TrainingCurves], levels: Mapping[str, float]) -> Figure:
    """The class of every record of every run as colored strips, with detected transitions.

    Args:
        trainings: Ways of training, drawn side by side.
        levels: Loss of each class, which orders the legend and the runs.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no training.
    """
    _require(trainings)
    most = max(training.num_runs for training in trainings)
    with styled():
        height = 1.5 + 0.17 * most
        figure = new_figure((5.2 * len(trainings) + 0.4, height), layout=None)
        axes = figure.subplots(
            1, len(trainings), squeeze=False,
            gridspec_kw={"wspace": 0.12, "left": 0.06, "right": 0.985,
                         "top": 1 - 0.3 / height, "bottom": 0.98 / height},
        )  # fmt: skip
        visited = np.unique(np.concatenate([t.labels.ravel() for t in trainings]))
        classes = ordered_classes(visited, levels)
        for axis, training in zip(axes[0], trainings, strict=True):
            _draw_strips(axis, training, classes)
        axes[0, 0].set_ylabel("run (sorted)")
        handles = [*class_legend(classes), _tick_handle()]
        figure.legend(handles=handles, loc="lower center", ncols=min(len(handles), 9))
    return figure


def _draw_strips(axis: Axes, training: TrainingCurves, classes: Sequence[str]) -> None:
    order = run_order(training.labels, classes)
    codes = np.zeros(training.labels.shape, int)
    for code, label in enumerate(classes):
        codes[training.labels[order] == label] = code
    colors = ListedColormap([class_color(label) for label in classes])
    edges = _edges(training.steps)
    axis.pcolormesh(
        edges, np.arange(training.num_runs + 1), codes, cmap=colors, vmin=-0.5,
        vmax=len(classes) - 0.5, rasterized=True,
    )  # fmt: skip
    for row, run in enumerate(order):
        axis.axhline(row, color="white", lw=0.8)
        for detection in training.detected[run]:
            x = np.full(2, detection.step)
            axis.plot(x, [row + 0.04, row + 0.96], color="white", lw=2.6, solid_capstyle="butt")
            axis.plot(x, [row + 0.04, row + 0.96], color=INK, lw=1.2, solid_capstyle="butt")
    scale_steps(axis, training.steps, log=training.log_steps)
    axis.set_ylim(training.num_runs, 0)
    axis.set_yticks(np.arange(training.num_runs) + 0.5, [str(run) for run in order], fontsize=6.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(False)
    axis.set_title(training.name)
    step_axis(axis, training.step_label)


def run_order(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Runs sorted by the sequence of their classes, last class first, then by time of arrival."""

    def sort_key(run: int):
        found = plateaus(labels[run], persistence=2)
        return [(-list(classes).index(p.label), p.first) for p in reversed(found)]

    return np.array(sorted(range(len(labels)), key=sort_key))


def _edges(steps: np.ndarray) -> np.ndarray:
    middle = (steps[1:] + steps[:-1]) / 2
    first, last = steps[0] - (middle[0] - steps[0]), steps[-1] + (steps[-1] - middle[-1])
    return np.concatenate([[first], middle, [last]])


def _tick_handle() -> Line2D:
    return Line2D(
        [], [], color=INK, lw=0, marker="|", ms=9, mew=1.4, label="detected from the curves"
    )


def llc_by_class_figure(
    trainings: Sequence[TrainingCurves],
    levels: Mapping[str, float],
    targets: Mapping[str, Mapping[str, float]],
) -> Figure:
    """Distribution of the estimates for each class, the ways of training side by side.

    Args:
        trainings: Ways of training.
        levels: Loss of each class, which orders the classes.
        targets: Named sets of values to compare with, for example exact learning coefficients.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no training.
    """
    _require(trainings)
    visited = np.concatenate([t.labels[np.isfinite(t.llc)] for t in trainings])
    classes = [c for c in ordered_classes(visited, levels) if c != TRANSIT]
    with styled():
        figure = new_figure((1.8 + 0.85 * max(len(classes), 4), 4.0))
        axis = figure.subplots()
        handles = _draw_distributions(axis, trainings, classes)
        styles = (("_", 26, 2.0), ("D", 5, 1.2), ("x", 6, 1.6))
        for (name, values), (marker, size, width) in zip(targets.items(), styles, strict=False):
            x = [i for i, c in enumerate(classes) if c in values]
            y = [values[classes[i]] for i in x]
            handles += axis.plot(
                x, y, marker, ms=size, mew=width, color=INK, mfc="none", label=name, zorder=4
            )
        axis.set_xticks(range(len(classes)), [class_name(c) for c in classes])
        axis.set(xlim=(-0.6, len(classes) - 0.4), xlabel="class, by descending loss")
        axis.set_ylabel(r"learning coefficient $\hat\lambda$")
        axis.grid(visible=False, axis="x")
        figure.legend(
            handles=handles, loc="outside upper center", ncols=len(handles), markerscale=0.7
        )
    return figure


def _draw_distributions(
    axis: Axes, trainings: Sequence[TrainingCurves], classes: Sequence[str]
) -> list[Line2D]:
    handles = []
    width = 0.62 / len(trainings)
    for number, training in enumerate(trainings):
        marker = "os^v"[number % 4]
        for i, label in enumerate(classes):
            values = training.llc[(training.labels == label) & np.isfinite(training.llc)]
            if values.size:
                x = i + (number - (len(trainings) - 1) / 2) * width
                _draw_box(axis, x, values, width, marker=marker, color=class_color(label))
        handles.append(Line2D([], [], color=MUTED, marker=marker, ls="none", label=training.name))
    return handles


def _draw_box(axis: Axes, x: float, values: np.ndarray, width: float, *, marker, color) -> None:
    """Single values as dots, the middle half as a bar, the median as a marker, the count below."""
    low, q1, median, q3, high = np.quantile(values, (0.025, 0.25, 0.5, 0.75, 0.975))
    rank = np.argsort(np.argsort(values)) * 0.61803398875 % 1.0 - 0.5
    axis.plot(
        x + 0.75 * width * rank, values, ".", ms=2, color=color, alpha=0.45, mew=0, rasterized=True
    )
    axis.plot([x, x], [low, high], color=color, lw=1.0, zorder=3)
    axis.plot([x, x], [q1, q3], color=color, lw=4.5, solid_capstyle="butt", zorder=3)
    axis.plot(x, median, marker, ms=6, color="white", mec=color, mew=1.4, zorder=5)


def _require(trainings: Sequence[TrainingCurves]) -> None:
    if not trainings:
        raise ValueError("trainings: got none, expected at least one")

"""Estimates beside their targets, changes over transitions, and posterior occupancy of classes."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from slt_rl.report.records import Comparison, Jump, Occupancy
from slt_rl.report.style import (
    INK,
    MUTED,
    class_color,
    class_name,
    new_figure,
    ordered_classes,
    styled,
)

_DENSE = 200  # more points than this are drawn without an error bar each
_LABEL_WIDTH = 42  # letters of an axis label that fit beside a panel


def comparison_figure(comparisons: Sequence[Comparison], levels: Mapping[str, float]) -> Figure:
    """Estimates against targets with the line of equality, one panel for each comparison.

    Args:
        comparisons: What is compared; up to three to a row.
        levels: Loss of each class, which orders the legend.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no comparison.
    """
    if not comparisons:
        raise ValueError("comparisons: got none, expected at least one")
    # Full rows where they can be: four panels as two rows of two.
    num_columns = min(len(comparisons), 3 if len(comparisons) % 3 == 0 else 2)
    num_rows = -(-len(comparisons) // num_columns)
    with styled():
        figure = new_figure((3.7 * num_columns, 3.9 * num_rows + 0.3))
        axes = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
        for axis in axes[len(comparisons) :]:
            axis.set_axis_off()
        for axis, comparison in zip(axes, comparisons, strict=False):
            _draw_comparison(axis, comparison)
        labels = np.concatenate([c.labels for c in comparisons])
        handles = [_dot(label) for label in ordered_classes(labels, levels)]
        handles.append(Line2D([], [], color=INK, lw=0.9, label="equality"))
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 10))
    return figure


def _draw_comparison(axis: Axes, comparison: Comparison) -> None:
    dense = comparison.target.size > _DENSE
    for label in np.unique(comparison.labels):
        mask = comparison.labels == label
        axis.errorbar(
            comparison.target[mask],
            comparison.estimate[mask],
            xerr=None if dense else comparison.target_error[mask],
            yerr=None if dense else comparison.estimate_error[mask],
            fmt="o",
            ms=3 if dense else 4,
            mew=0,
            elinewidth=0.6,
            color=class_color(label),
            alpha=0.45 if dense else 0.85,
            rasterized=dense,
        )
    limits = _equal_limits(comparison)
    axis.plot(limits, limits, color=INK, lw=0.9, zorder=1)
    axis.set(xlim=limits, ylim=limits, aspect="equal")
    axis.set_xlabel(textwrap.fill(comparison.target_label, _LABEL_WIDTH))
    axis.set_ylabel(textwrap.fill(comparison.estimate_label, _LABEL_WIDTH))
    axis.set_title(comparison.name)
    note = f"{100 * comparison.agreement:.0f} % of {comparison.target.size} agree"
    axis.text(0.03, 0.97, note, transform=axis.transAxes, va="top", fontsize=8.5, color=INK)
    if dense:
        _draw_typical_error(axis, comparison, limits)


def _draw_typical_error(axis: Axes, comparison: Comparison, limits: tuple[float, float]) -> None:
    """One cross in the corner instead of hundreds that hide the points."""
    half = [float(np.nanmedian(e)) for e in (comparison.target_error, comparison.estimate_error)]
    span = limits[1] - limits[0]
    x, y = limits[1] - 0.05 * span - half[0], limits[0] + 0.1 * span + half[1]
    axis.errorbar(x, y, xerr=half[0], yerr=half[1], fmt="none", ecolor=INK, elinewidth=1.0)
    axis.annotate(
        "typical interval", (limits[1] - 0.03 * span, limits[0] + 0.03 * span), ha="right",
        fontsize=8, color=MUTED,
    )  # fmt: skip


def _equal_limits(comparison: Comparison) -> tuple[float, float]:
    """Limits of the points; a single wide interval must not squeeze the rest."""
    values = np.concatenate([comparison.target, comparison.estimate])
    values = values[np.isfinite(values)] if np.isfinite(values).any() else np.array([0.0, 1.0])
    errors = np.concatenate([comparison.target_error, comparison.estimate_error])
    usual = float(np.nanmedian(errors)) if np.isfinite(errors).any() else 0.0
    margin = 0.06 * float(np.ptp(values)) + usual + 0.05
    return float(values.min()) - margin, float(values.max()) + margin


def jump_figure(jumps: Sequence[Jump], levels: Mapping[str, float]) -> Figure:
    """Change of the estimate over each transition, grouped by the two classes.

    Args:
        jumps: The changes.
        levels: Loss of each class, which orders the groups.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no change.
    """
    if not jumps:
        raise ValueError("jumps: got none, expected at least one")
    kinds = sorted(
        {(j.before, j.after) for j in jumps},
        key=lambda kind: tuple(-levels.get(c, np.inf) for c in kind),
    )
    names = sorted({jump.training for jump in jumps}, reverse=True)
    rows = [len([j for j in jumps if (j.before, j.after) == kind]) for kind in kinds]
    with styled():
        figure = new_figure((7.2, 1.6 + 0.09 * sum(rows) + 0.32 * len(kinds)))
        axis = figure.subplots()
        place, ticks = 0.0, []
        for kind, count in zip(kinds, rows, strict=True):
            mine = [j for j in jumps if (j.before, j.after) == kind]
            mine.sort(key=lambda j: (names.index(j.training), j.change))
            height = 0.28 * count
            positions = place + 0.28 * (np.arange(count) + 0.5)
            _draw_jumps(axis, mine, positions, names)
            ticks.append((place + height / 2, _kind_name(kind, mine)))
            place += height + 0.5
            axis.axhline(place - 0.25, color="#e4e4e4", lw=0.6)
        axis.axvline(0, color=INK, lw=0.9, zorder=1)
        axis.set_yticks([t[0] for t in ticks], [t[1] for t in ticks])
        axis.set(ylim=(place - 0.25, -0.25), xlabel=r"change of $\hat\lambda$ over the transition")
        axis.grid(visible=False, axis="y")
        axis.tick_params(axis="y", length=0)
        figure.legend(
            handles=_jump_handles(jumps, names), loc="outside lower center", ncols=len(names) + 1
        )
    return figure


def _kind_name(kind: tuple[str, str], jumps: Sequence[Jump]) -> str:
    up = sum(jump.change > 0 for jump in jumps)
    return f"{class_name(kind[0])} \u2192 {class_name(kind[1])}\n{up} of {len(jumps)} rise"


def _draw_jumps(
    axis: Axes, jumps: Sequence[Jump], positions: np.ndarray, names: Sequence[str]
) -> None:
    for jump, y in zip(jumps, positions, strict=True):
        axis.errorbar(
            jump.change,
            y,
            xerr=jump.error,
            fmt="osv^"[names.index(jump.training) % 4],
            ms=5,
            mec="white",
            mew=0.5,
            elinewidth=1.0,
            color=class_color(jump.after),
        )
    if jumps[0].expected is not None:
        ends = [positions[0] - 0.14, positions[-1] + 0.14]
        axis.plot([jumps[0].expected] * 2, ends, color=INK, lw=1.6, ls=(0, (1, 1)), zorder=3)


def _jump_handles(jumps: Sequence[Jump], names: Sequence[str]) -> list[Line2D]:
    handles = [
        Line2D([], [], color=MUTED, marker="osv^"[i % 4], ls="none", label=name)
        for i, name in enumerate(names)
    ]
    if any(jump.expected is not None for jump in jumps):
        handles.append(Line2D([], [], color=INK, lw=1.6, ls=(0, (1, 1)), label="exact change"))
    return handles


def occupancy_figure(occupancy: Occupancy, levels: Mapping[str, float]) -> Figure:
    """Posterior probability of each class against the number of examples.

    Args:
        occupancy: Probabilities by the main sampler and, where given, by another one.
        levels: Loss of each class, which orders the legend.

    Returns:
        The figure.
    """
    with styled():
        figure = new_figure((7.4, 4.2))
        axis = figure.subplots()
        classes = ordered_classes(occupancy.probability, levels)
        for number, label in enumerate(classes):
            _draw_class(axis, occupancy, label, "os^vDP"[number % 6])
        axis.axhline(0.5, color=MUTED, lw=0.7)
        _draw_crossings(axis, occupancy)
        axis.set(ylim=(-0.03, 1.03), xlabel="number of examples $n$", title=occupancy.title)
        axis.set_ylabel("posterior probability of the class")
        handles = axis.get_legend_handles_labels()[0]
        if occupancy.audit:
            handles.append(
                Line2D(
                    [], [], color=INK, marker="o", ms=8, mfc="none", ls="none",
                    label=occupancy.audit_label,
                )
            )  # fmt: skip
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))
    return figure


def _draw_class(axis: Axes, occupancy: Occupancy, label: str, marker: str) -> None:
    color, n = class_color(label), occupancy.num_examples
    p = np.asarray(occupancy.probability[label])
    if label in occupancy.error:
        half = np.asarray(occupancy.error[label])
        axis.fill_between(
            n, np.clip(p - half, 0, 1), np.clip(p + half, 0, 1), color=color, alpha=0.2, lw=0
        )
    axis.plot(n, p, marker=marker, ms=5, mec="white", mew=0.5, color=color, label=class_name(label))
    if label in occupancy.audit:
        where, value, width = occupancy.audit[label]
        axis.errorbar(
            where, value, yerr=width, fmt="o", ms=8, mfc="none", mec=color, mew=1.5, color=color,
            elinewidth=1.2, zorder=4,
        )  # fmt: skip


def _draw_crossings(axis: Axes, occupancy: Occupancy) -> None:
    marks = (
        (occupancy.crossing, INK, "-", "50/50 at n = {:.0f}"),
        (occupancy.expected_crossing, MUTED, (0, (4, 2)), "reference: n = {:.0f}"),
    )
    for value, color, style, text in marks:
        if value is not None:
            axis.axvline(value, color=color, lw=1.1, ls=style, zorder=1.5, label=text.format(value))


def _dot(label: str) -> Line2D:
    return Line2D([], [], color=class_color(label), marker="o", ls="none", label=class_name(label))

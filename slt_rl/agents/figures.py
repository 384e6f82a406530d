"""Figures of a run: everything on one axis of training steps, and where the curves turn."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from slt_rl.agents.curve_file import StoredCurve
from slt_rl.development import seed_mean
from slt_rl.report.style import INK, MUTED, new_figure, step_axis, styled

# After Okabe and Ito: apart for all common kinds of color vision.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STEP_LABEL = "environment steps"
# How each kind of turning point is drawn.
TURNS: dict[str, dict[str, Any]] = {
    "rise": {"marker": "^", "color": COLORS[2], "label": "steepest rise"},
    "peak": {"marker": "o", "color": COLORS[1], "label": "peak"},
    "fall": {"marker": "v", "color": COLORS[0], "label": "steepest fall"},
    "dip": {"marker": "s", "color": COLORS[3], "label": "dip"},
}


def overview_figure(
    described: Mapping[str, Any], names: Sequence[str], curves: Mapping[str, StoredCurve]
) -> Figure:
    """Return, events, achievements and the LLC on one axis of training steps.

    Args:
        described: Series by name, from `development.json`.
        names: Names of the series to draw, one panel each, in order.
        curves: LLC curves by name; a panel for each localization.

    Returns:
        The figure: thin lines are seeds, thick lines their mean with its 95 % interval, dashed
        lines the best fitting form, dotted lines the boundaries of stages. Of two seeds no interval
        is drawn.
    """
    panels = [(curve, i) for curve in curves.values() for i in range(len(curve.localizations))]
    heights = [1.0] * len(names) + [1.15] * len(panels)
    with styled():
        size = (9.5, 1.35 * sum(heights) + 0.9)
        figure = new_figure(size)
        axes = figure.subplots(
            len(heights), 1, sharex=True, squeeze=False, height_ratios=heights
        )[:, 0]  # fmt: skip
        for axis, name in zip(axes, names, strict=False):
            draw_series(axis, described[name])
        colors = seed_colors(curves.values())
        for axis, (curve, i) in zip(axes[len(names) :], panels, strict=True):
            draw_curve(axis, curve, i, colors=colors)
            draw_boundaries(axis, described.get(llc_name(curve, i)))
        scale_axis(axes[-1], max(described[name]["steps"][-1] for name in names))
        # The figure is taller than a screen: the steps stand above it too.
        axes[0].tick_params(axis="x", top=True, labeltop=True)
        figure.legend(handles=_legend(colors), loc="outside lower center", ncols=4)
    return figure


def scale_axis(axis: Axes, last: float) -> None:
    """Steps from 0 to the last, linear in the first fiftieth and logarithmic later."""
    axis.set_xscale("symlog", linthresh=last / 50, linscale=0.4)
    axis.set_xlim(-last / 500, 1.03 * last)
    powers = 10.0 ** np.arange(np.floor(np.log10(last / 50)), np.log10(last) + 1)
    ticks = np.outer(powers, (1, 2, 5)).ravel()
    axis.set_xticks([0, *ticks[(ticks >= last / 50) & (ticks <= 1.03 * last)]])
    axis.set_xticks([], minor=True)
    step_axis(axis, STEP_LABEL)


def llc_name(curve: StoredCurve, index: int) -> str:
    """Name of the series of one localization, as `llc_series` gives it."""
    return f"LLC {curve.name} at localization {curve.localizations[index]:g}"


def draw_series(axis: Axes, one: Mapping[str, Any]) -> None:
    """A described curve: seeds, mean with interval, form, boundaries of stages."""
    steps, values = np.asarray(one["steps"]), np.array(one["values"], float)
    for row in values:
        axis.plot(steps, row, color=MUTED, lw=0.6, alpha=0.7)
    axis.plot(steps, values.mean(axis=0), color=COLORS[0], lw=1.6)
    # Of two seeds the interval is twelve standard errors wide: the two lines say more.
    if len(values) > 2:
        mean = seed_mean(values)
        axis.fill_between(steps, mean.low, mean.high, color=COLORS[0], alpha=0.18, lw=0)
    axis.plot(steps, one["forms"]["curve"], color=COLORS[1], lw=1.2, ls=(0, (4, 2)))
    draw_boundaries(axis, one)
    # The band of few seeds would flatten the curve itself.
    low, high = values.min(), values.max()
    margin = 0.08 * (high - low) + 1e-9
    axis.set_ylim(low - margin, high + margin)
    axis.set_ylabel(one["unit"])
    form = one["forms"]["winner"] or "tie of " + ", ".join(one["forms"]["tied"])
    axis.set_title(f"{one['name']}   ", fontsize=9.5)
    axis.set_title(f"form: {form}", loc="right", fontsize=8, fontweight="normal", color=MUTED)


def draw_boundaries(axis: Axes, one: Mapping[str, Any] | None) -> None:
    """Dotted lines at the boundaries of the stages of the mean."""
    for step in [] if one is None else one["stages"]["boundary_steps"]:
        axis.axvline(step, color=INK, lw=0.9, ls=":", zorder=1)


def seed_colors(curves: Iterable[StoredCurve]) -> dict[int, str]:
    """A color for each seed of any of the curves, none of those of a mean and its form."""
    seeds = sorted({seed for curve in curves for seed in curve.seeds})
    return {seed: COLORS[2 + k % (len(COLORS) - 2)] for k, seed in enumerate(seeds)}


def draw_points(
    axis: Axes,
    curve: StoredCurve,
    place: tuple[int, int],
    *,
    color: str,
    label: str = "",
    style: Any = "-",
) -> None:
    """One seed at one localization: line, 95 % intervals; open points doubtful, crosses refused.

    Args:
        axis: Where it is drawn.
        curve: The curve.
        place: Indices of the seed and of the localization.
        color: Of all of it.
        label: In a legend.
        style: Of the line.
    """
    mean, low, high, verdicts = (
        x[place] for x in (curve.mean, curve.low, curve.high, curve.verdicts)
    )
    axis.fill_between(curve.steps, low, high, color=color, alpha=0.22, lw=0)
    axis.plot(curve.steps, mean, color=color, lw=1.1, ls=style, label=label)
    draw_verdicts(axis, curve.steps, mean, verdicts=verdicts, color=color)


def draw_curve(axis: Axes, curve: StoredCurve, index: int, *, colors: Mapping[int, str]) -> None:
    """The LLC at one localization: a line for each seed, intervals, open points if doubtful."""
    for k, seed in enumerate(curve.seeds):
        draw_points(axis, curve, (k, index), color=colors[seed])
    what = curve.facts["potential"] + (
        f", part {curve.facts['part']}" if curve.facts["part"] else ""
    )
    axis.set_title(f"LLC: {what}, {curve.name.split('-')[1]} states", fontsize=9.5)
    axis.set_title(
        f"localization {curve.localizations[index]:g}, nβ = {curve.nbeta:.0f}",
        loc="right", fontsize=8, fontweight="normal", color=MUTED,
    )  # fmt: skip
    axis.set_ylabel(r"$\hat\lambda$")


def draw_verdicts(
    axis: Axes, steps: np.ndarray, mean: np.ndarray, *, verdicts: np.ndarray, color: str
) -> None:
    """The points of a curve `[checkpoint]`, open where doubtful, crosses where refused."""
    for verdict, marker in (("trusted", "o"), ("doubtful", "o"), ("refused", "x")):
        at, face = verdicts == verdict, color if verdict == "trusted" else "white"
        axis.plot(steps[at], mean[at], marker, ms=3.2, color=color, mfc=face, mew=0.8, ls="none")


def verdict_handles() -> list[Line2D]:
    """Legend entries of `draw_verdicts`."""
    dot: dict[str, Any] = {"color": INK, "marker": "o", "ms": 4, "ls": "none"}
    return [
        Line2D([], [], **dot, label="trusted"),
        Line2D([], [], **dot, mfc="white", label="doubtful"),
        Line2D([], [], **dot | {"marker": "x"}, label="refused"),
    ]


def _legend(colors: Mapping[int, str]) -> list[Any]:
    """Entries of what is drawn: those of the LLC only where there is a curve of it."""
    curves = [Line2D([], [], color=c, lw=1.1, label=f"LLC of seed {s}") for s, c in colors.items()]
    return [
        Line2D([], [], color=MUTED, lw=0.8, label="one seed"),
        Line2D([], [], color=COLORS[0], lw=1.6, label="mean over seeds"),
        Patch(color=COLORS[0], alpha=0.18, label="95 % interval over seeds"),
        Line2D([], [], color=COLORS[1], lw=1.2, ls=(0, (4, 2)), label="best form"),
        Line2D([], [], color=INK, lw=0.9, ls=":", label="boundary of stages"),
        *(verdict_handles() if curves else ()),
        *curves,
    ]


def turning_figure(described: Mapping[str, Any], names: Sequence[str]) -> Figure:
    """Where each curve rises and falls most steeply, its peak and its dip, for each seed.

    Args:
        described: Series by name, from `development.json`.
        names: Names of the series, one row each, from the top.

    Returns:
        The figure; bars are 95 % intervals over the errors of the records.
    """
    with styled():
        figure = new_figure((9.5, 0.42 * len(names) + 1.3))
        axis = figure.subplots()
        for row, name in enumerate(names):
            points = described[name]["turning"]
            for k, (kind, look) in enumerate(TURNS.items()):
                low, high, at = (
                    np.array(x, float) for x in (points["low"][k], points["high"][k], points[kind])
                )
                place = row + np.linspace(-0.24, 0.24, len(at)) if len(at) > 1 else np.array([row])
                # Where a curve has no such point its resampled curves may have one: no bar alone.
                found = np.isfinite(at)
                bar: dict[str, Any] = {"color": look["color"], "lw": 1.0, "alpha": 0.6}
                axis.hlines(place[found], low[found], high[found], **bar)
                axis.plot(at, place, ms=4.5, ls="none", **look)
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.5, -0.5)
        scale_axis(axis, max(described[name]["steps"][-1] for name in names))
        handles = [Line2D([], [], ms=4.5, lw=1.0, **look) for look in TURNS.values()]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def achievement_figure(names: Sequence[str], steps: np.ndarray, rates: np.ndarray) -> Figure:
    """Share of episodes with each achievement, as rows of color over training steps.

    Args:
        names: Achievements, `[k]`.
        steps: Middle of each window, `[window]`.
        rates: Share of episodes, mean over seeds, `[k, window]`.
    """
    order = np.argsort(-rates[:, -max(1, rates.shape[1] // 10) :].mean(axis=1), kind="stable")
    with styled():
        figure = new_figure((9.5, 0.2 * len(names) + 1.2))
        axis = figure.subplots()
        middle = (steps[1:] + steps[:-1]) / 2
        edges = np.concatenate([[0.0], middle, [steps[-1]]])
        drawn = axis.pcolormesh(
            edges, np.arange(len(names) + 1), rates[order], cmap="viridis", vmin=0, vmax=1,
            rasterized=True,
        )  # fmt: skip
        axis.set_yticks(np.arange(len(names)) + 0.5, [names[i] for i in order])
        axis.invert_yaxis()
        axis.grid(False)
        scale_axis(axis, float(steps[-1]))
        figure.colorbar(drawn, ax=axis, label="share of episodes", pad=0.01)
    return figure

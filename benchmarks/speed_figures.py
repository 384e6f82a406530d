"""The figures of the speed benchmark: times beside times, and their ratios."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slt_rl.report.style import INK, MUTED, TRANSIT_COLOR, new_figure, step_axis, styled

Row = Mapping[str, Any]
OURS = "slt_rl"
BLUE = "#2b83c6"


class Times(NamedTuple):
    """What is compared in one panel.

    Attributes:
        title: What was timed.
        ours: The name of what is drawn in color.
        values: `(low, median, high)` by name.
        ratios: What to write beside some of them, by name.
    """

    title: str
    ours: str
    values: Mapping[str, tuple[float, float, float]]
    ratios: Mapping[str, str]


def figures(parts: Mapping[str, Sequence[Row]]) -> dict[str, Figure]:
    """The figure of every part that was measured, by name.

    Args:
        parts: Rows by the part of the benchmark.
    """
    makers = {
        "loop": ("ratios", ratio_figure),
        "call": ("calls", call_figure),
        "curve": ("curves", curve_figure),
        "ppo": ("training", steps_figure),
        "rollout": ("play", steps_figure),
    }
    return {name: draw(parts[part]) for part, (name, draw) in makers.items() if parts.get(part)}


def ratio_figure(found: Sequence[Row]) -> Figure:
    """Ratios to the floor, one line for each case, both kinds of increments."""
    with styled():
        figure = new_figure((6.4, 0.9 + 0.28 * len(found)))
        axis = figure.subplots()
        places = range(len(found))
        for name, color, key in (("normal", INK, "ratio"), ("binomial", MUTED, "ratio_binomial")):
            values = [row[key] for row in found]
            axis.plot(values, places, "o", ms=5, color=color, label=f"{name} increments")
        axis.axvline(1.0, color=INK, lw=0.8)
        axis.set_yticks(list(places), [row["case"].removeprefix("loop: ") for row in found])
        axis.invert_yaxis()
        axis.set_xlabel("time of a step over the time of its bare gradient")
        axis.legend()
    return figure


def call_figure(found: Sequence[Row]) -> Figure:
    """Wall time of whole estimates, ours and theirs, a panel for each model."""
    panels = [
        Times(
            row["model"],
            OURS,
            {name: _quartiles(times) for name, times in row["microseconds"].items()},
            {name: f"{ratio:.3g} x slt_rl" for name, ratio in row["ratios"].items()},
        )
        for row in found
    ]
    return times_figure(panels, "microseconds of wall time for a step of a chain, and quartiles")


def curve_figure(found: Sequence[Row]) -> Figure:
    """Seconds of a whole curve beside those of its checkpoints one by one."""
    panels = []
    for row in found:
        number, seconds = row["checkpoints"], row["seconds_of"]
        ours = f"one curve of {number} checkpoints"
        # Their own spread was not kept.
        values = {ours: (seconds["curve"],) * 3, f"{number} x one": (number * seconds["one"],) * 3}
        panels.append(Times(row["model"], ours, values, {ours: f"ratio {row['ratio']:.2f}"}))
    return times_figure(panels, "seconds of wall time, compiled")


def steps_figure(found: Sequence[Row]) -> Figure:
    """Environment steps per second, ours and the reference's, a panel for each training."""
    panels = []
    for row in found:
        times = {name: _quartiles(times) for name, times in row["microseconds"].items()}
        speeds = {
            name: (1e6 / high, 1e6 / middle, 1e6 / low)
            for name, (low, middle, high) in times.items()
        }
        panels.append(Times(row["name"], OURS, speeds, {OURS: f"ratio {row['ratio']:.2f}"}))
    return times_figure(panels, "environment steps per second, and quartiles")


def _quartiles(times: Mapping[str, float]) -> tuple[float, float, float]:
    return times["low"], times["wall"], times["high"]


def times_figure(panels: Sequence[Times], label: str) -> Figure:
    """Medians as bars from zero with a line between the quartiles, a panel below the other.

    Args:
        panels: What is compared; each has a scale of its own.
        label: Of the axes.
    """
    counts = [len(panel.values) for panel in panels]
    with styled():
        size = (6.4, 0.35 + 0.75 * len(panels) + 0.2 * sum(counts))
        figure = new_figure(size)
        axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=counts)[:, 0]
        for axis, panel in zip(axes, panels, strict=True):
            _draw_times(axis, panel)
        axes[-1].set_xlabel(label)
    return figure


def _draw_times(axis: Axes, panel: Times) -> None:
    for place, (name, (low, middle, high)) in enumerate(panel.values.items()):
        axis.barh(place, middle, height=0.62, color=BLUE if name == panel.ours else TRANSIT_COLOR)
        axis.plot([low, high], [place, place], color=INK, lw=1.0)
        axis.annotate(
            panel.ratios.get(name, ""), (high, place), xytext=(5, 0), textcoords="offset points",
            va="center", color=INK, fontsize=8,
        )  # fmt: skip
    axis.set_yticks(range(len(panel.values)), list(panel.values))
    axis.set(ylim=(len(panel.values) - 0.4, -0.6), title=panel.title)
    axis.margins(x=0.16)
    axis.grid(visible=False, axis="y")
    step_axis(axis, "")

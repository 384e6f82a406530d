"""The page of `benchmarks.craftax_gpu`: what its commands brought back, added one by one.

    python -m benchmarks.craftax_gpu_page --add OUT/result.json [--note "beside another agent"]
    python -m benchmarks.craftax_gpu_page --add-curve RUN/curves/policy-reference/seed-0

Keeps what it was given before: rows are read from the page's own `craftax_gpu.json`. A row with the
agent, the commit and the number of steps of an older one takes its place. The second form adds the
points of an LLC curve, finished or not.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import pages
from slt_rl.agents.figures import COLORS, STEP_LABEL, draw_verdicts, verdict_handles
from slt_rl.agents.points import FORMAT as POINT_FORMAT
from slt_rl.diagnostics import Z95
from slt_rl.documents import read_document
from slt_rl.report import Table
from slt_rl.report.style import MUTED, new_figure, styled

Row = dict[str, Any]
ABSTRACT = (
    "Agents of `benchmarks.craftax_gpu` with the numbers of the published baselines: pools of "
    "4,096 worlds of the games' own maps (full: 1,024), step size 2e-4 annealed over 1e8 steps; "
    "one seed each, so that errors, which are over episodes, say nothing about other seeds."
)
RUNS_NOTE = (
    "Return: of the last window, 1/20 of the run, and in % of the largest there is (22, 226). "
    "Steps per second: median over the stretches between checkpoints of the last command, writing "
    "them included, compilation not."
)
PUBLISHED_NOTE = (
    "Published, full Craftax, in % of the largest: PPO 2.2 after 1e6 steps, 11.9 after 1e9; "
    "PPO-RNN 15.3, PPO-GTrXL 18.3 after 1e9. Classic: PPO 67 to 70 after 1e6, about 90 after 1e9. "
    "No agent here had the budget of a published one."
)
PLANTS_NOTE = (
    "Plants placed per episode, complete episodes of a window, with the standard error over them; "
    "P(plant): share of the last window's episodes with at least one."
)
CURVE_NOTE = (
    "KL to the frozen policy, 1024 reference states in windows of 64 steps, 4 chains of 128 + 256 "
    "draws; five checkpoints side by side on the GPU."
)


def main() -> int:
    """Adds, and writes the page."""
    options = parse()
    stored = pages.RESULTS / "craftax_gpu.json"
    rows = json.loads(stored.read_text())["rows"] if stored.exists() else []
    if options.add:
        rows = merged(rows, result_rows(json.loads(options.add.read_text()), options.note))
    if options.add_curve:
        rows = merged(rows, [curve_row(options.add_curve, options.note)])
    pages.write_page(make_page(rows), rows, {}, folder=options.out)
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = pages.parser(__doc__)
    parser.add_argument("--add", type=Path, metavar="RESULT", help="a result of craftax_gpu")
    parser.add_argument("--add-curve", type=Path, metavar="POINTS", help="folder of points")
    parser.add_argument("--note", default="", help="kept with the rows")
    return parser.parse_args()


def result_rows(result: Mapping[str, Any], note: str) -> list[Row]:
    """One row for each agent of a result, with how it was made."""
    made = {name: result[name] for name in ("command", "commit", "versions", "machine", "device")}
    return [
        {"agent": name, "note": note, "checkpoint_seconds": agent["seconds"], **made}
        | {key: value for key, value in agent.items() if key != "seconds"}
        for name, agent in result["agents"].items()
    ]


def curve_row(folder: Path, note: str) -> Row:
    """The stored points of one LLC curve, by step."""
    paths = sorted(folder.glob("step-*.json"))
    if not paths:
        raise ValueError(f"{folder}: holds no points of slt-rl curve")
    points = [read_document(path, POINT_FORMAT)["point"] for path in paths]
    return {"agent": "LLC curve", "commit": "", "steps": len(points), "note": note,
            "points": points}  # fmt: skip


def merged(rows: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """The old rows and the new; a new one replaces its like."""

    def name(row: Row) -> tuple[str, str, int]:
        return row["agent"], row["commit"], row["steps"]

    replaced = {name(row) for row in new}
    return [row for row in rows if name(row) not in replaced] + list(new)


def make_page(rows: Sequence[Row]) -> pages.Page:
    """Tables of the agents and of the curve, and the figure."""
    agents = [row for row in rows if "spec" in row]
    points = [point for row in rows for point in row.get("points", ())]
    tables = [runs_table(agents), plants_table(agents), made_table(agents)]
    if points:
        tables.insert(2, curve_table(points))
    figures = {"curves": curves_figure(latest(agents), points)}
    title = "Craftax agents on one GPU"
    return pages.Page("craftax_gpu", title, ABSTRACT, (), tables, figures)


def latest(agents: Sequence[Row]) -> list[Row]:
    """Of each agent the run of most steps."""
    longest: dict[str, Row] = {}
    for row in sorted(agents, key=lambda row: row["steps"]):
        longest[row["agent"]] = row
    return [longest[name] for name in sorted(longest)]


def runs_table(agents: Sequence[Row]) -> Table:
    """Speed and return."""
    header = ("agent", "environments x steps", "environment steps", "of", "steps per second",
              "return", "in % of the largest", "episode length", "note")  # fmt: skip
    body = []
    for row in agents:
        learning, planned = row["spec"]["learning"], row["spec"]["num_updates"]
        shape = learning["num_envs"], learning["num_steps"]
        body.append(
            [row["agent"], f"{shape[0]} x {shape[1]}", f"{row['steps']:,}",
             f"{planned * shape[0] * shape[1]:,}", f"{row['median_steps_per_second']:,.0f}",
             f"{row['mean_return'][-1]:.2f}", f"{row['return_percent'][-1]:.1f}",
             f"{row['mean_length'][-1]:.0f}", row["note"]]
        )  # fmt: skip
    return Table("Runs", header, body, f"{RUNS_NOTE} {PUBLISHED_NOTE}")


def plants_table(agents: Sequence[Row]) -> Table:
    """First window, peak, lowest value after it, and end."""
    header = ("agent", "environment steps", "first window", "peak", "lowest after it", "end",
              "P(plant) at the end")  # fmt: skip
    body = []
    for row in agents:
        plants = row["plants_per_episode"]
        peak = max(range(len(plants)), key=plants.__getitem__)
        lowest = min(range(peak, len(plants)), key=plants.__getitem__)
        achieved = row["event_names"].index("achievement/place_plant")
        cells = [_window(row, index) for index in (0, peak, lowest, len(plants) - 1)]
        chance = f"{row['last_per_episode'][achieved]:.3f}"
        body.append([row["agent"], f"{row['steps']:,}", *cells, chance])
    return Table("Plants per episode", header, body, PLANTS_NOTE)


def _window(row: Row, index: int) -> str:
    """A number of plants with its error and the steps of its window, in millions."""
    value, error = row["plants_per_episode"][index], row["plants_sem"][index]
    ends = [row["window_steps"] * i / 1e6 for i in (index, index + 1)]
    return f"{value:.3f} ± {error:.3f} ({ends[0]:.1f} to {ends[1]:.1f}M)"


def curve_table(points: Sequence[Mapping[str, Any]]) -> Table:
    """Every point of the LLC curve with its verdict."""
    header = ("environment steps", "estimate", "standard error", "verdict", "regime", "gradients")
    body = [
        [f"{p['step']:,}", f"{p['mean']:.2f}", f"{p['sem']:.2f}", p["verdict"], p["regime"],
         p["num_gradient_evaluations"]]
        for p in points
    ]  # fmt: skip
    title = f"LLC of classic-recurrent, localization {points[0]['localization']:g}"
    return Table(title, header, body, CURVE_NOTE)


def made_table(agents: Sequence[Row]) -> Table:
    """How each row was made."""
    header = ("agent", "environment steps", "command", "commit", "device", "python", "jax")
    body = [
        [row["agent"], f"{row['steps']:,}", row["command"], row["commit"][:7], row["device"],
         row["versions"]["python"], row["versions"]["jax"]]
        for row in agents
    ]  # fmt: skip
    return Table("How they were made", header, body)


def curves_figure(agents: Sequence[Row], points: Sequence[Mapping[str, Any]]) -> Figure:
    """Plants and return of each agent, and the LLC, on one axis of steps."""
    heights = [1.3, 1.0, 1.0][: 3 if points else 2]
    with styled():
        figure = new_figure((7.5, 2.2 * sum(heights)))
        axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    for color, row in zip(COLORS, agents, strict=False):
        middles = [(i + 0.5) * row["window_steps"] for i in range(len(row["mean_return"]))]
        style = {"color": color, "label": row["agent"], "marker": "o", "ms": 3}
        axes[0].errorbar(middles, row["plants_per_episode"], row["plants_sem"], **style)
        axes[1].plot(middles, row["return_percent"], **style)
    axes[0].axhline(1, color=MUTED, lw=0.8, ls="--")
    axes[0].set_ylabel("plants per episode")
    axes[0].set_title("What is placed, and the one plant that pays (dashed)")
    axes[0].legend()
    axes[1].set_ylabel("return,\n% of the largest")
    if points:
        draw_llc(axes[2], points)
    axes[-1].set_xscale("log")
    axes[-1].set_xlabel(STEP_LABEL)
    return figure


def draw_llc(axis: Axes, points: Sequence[Mapping[str, Any]]) -> None:
    """The LLC with 95 % intervals, filled where trusted; step 0 is not on the axis."""
    shown = [p for p in points if p["step"] > 0]
    names = ("step", "mean", "sem", "verdict")
    steps, mean, sem, verdicts = (np.array([p[name] for p in shown]) for name in names)
    axis.errorbar(steps, mean, Z95 * sem, fmt="none", ecolor=COLORS[1], elinewidth=0.8)
    draw_verdicts(axis, steps, mean, verdicts=verdicts, color=COLORS[1])
    axis.set_ylabel(f"LLC, classic-recurrent,\nlocalization {points[0]['localization']:g}")
    axis.legend(handles=verdict_handles(), loc="lower right")


if __name__ == "__main__":
    sys.exit(main())

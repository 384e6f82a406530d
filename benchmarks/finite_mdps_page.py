"""Tables and curves of `benchmarks.finite_mdps`, from its rows alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks import pages
from slt_rl.report import Check, Table
from slt_rl.report.style import INK, MUTED, new_figure, scale_steps, step_axis, styled

Row = Mapping[str, Any]
POTENTIALS = {"KL": "KL to the frozen policy", "regret": "exact regret", "value": "value error"}
MAX_Z = 4.0
_COLORS = {"KL": "#2b83c6", "regret": "#cc4b0a", "value": "#00745c"}
_MARKERS = {"trusted": "o", "doubtful": "s", "refused": "X"}
_COLUMNS = (
    "environment potential checkpoints trusted doubtful refused plateau half-width "
    "kilogradients seconds first last change"
).split()


def make_page(found: Sequence[Row], settings: Mapping[str, Any]) -> pages.Page:
    """The checks, the table of the potentials and that of the agents."""
    abstract = (
        "PPO agents on the finite environments of gymnax, and the LLC at their checkpoints under "
        f"three potentials, at nbeta {settings['nbeta']:g} and localization "
        f"{settings['localization']:g}. Regret and values are in units of the regret of the "
        "uniform policy. [What is measured](../../docs/finite-mdps.md)."
    )
    tables = [potential_table(found), agent_table(found)]
    title, figures = "Real environments with exact regret", {"curves.png": curves(found)}
    return pages.Page("finite_mdps", title, abstract, checks(found), tables, figures)


def checks(found: Sequence[Row]) -> list[Check]:
    """Returns that should be reached, and play against exact returns."""
    made = []
    for row in found:
        end = row["exact"][-1]
        detail = f"optimum {row['optimal']:.4f}"
        name = f"{row['case']}: exact return at the end of training"
        made.append(Check("return", name, f">= {row['target']}", end, end >= row["target"], detail))
    deviations = [entry["z"] for row in found for entry in row["played"]]
    worst, number = max(deviations), len(deviations)
    text = "largest deviation of played from exact returns, in standard errors"
    made.append(
        Check("play", text, f"<= {MAX_Z:g}", worst, worst <= MAX_Z, f"{number} checkpoints")
    )
    return made


def potential_table(found: Sequence[Row]) -> Table:
    """One line for each environment and potential, and one for each potential as a whole."""
    lines = []
    for name in POTENTIALS:
        curves = [row["curves"][name] for row in found]
        lines.append(["all", name, *_summary(curves), None, None, None])
    for row in found:
        for name in POTENTIALS:
            curve = row["curves"][name]
            means = [estimate["estimate"] for estimate in curve["estimates"]]
            change = None if None in (means[0], means[-1]) else means[-1] - means[0]
            lines.append([row["case"], name, *_summary([curve]), means[0], means[-1], change])
    note = (
        "Shares of estimates by verdict; `plateau`: share whose regime is a plateau. `half-width`: "
        "median of the 95 % half-width, in units of the LLC, and `kilogradients`: median cost of "
        "one estimate, of all estimates whatever their verdict. `seconds`: per estimate, "
        "compilation included. `first`, `last`: the estimate before training and after it."
    )
    return Table("Potentials", _COLUMNS, lines, note)


def _summary(curves: Sequence[Row]) -> list[Any]:
    estimates = [estimate for curve in curves for estimate in curve["estimates"]]
    number = len(estimates)
    share = [sum(e["verdict"] == verdict for e in estimates) / number for verdict in _MARKERS]
    plateau = sum(e["regime"] == "plateau" for e in estimates) / number
    widths = [half_width(e) for e in estimates]
    gradients = [e["gradients"] for e in estimates]
    seconds = sum(curve["seconds"] for curve in curves) / number
    return [
        number,
        *share,
        plateau,
        float(np.nanmedian(widths)),
        float(np.median(gradients)) / 1e3,
        seconds,
    ]


def half_width(estimate: Row) -> float:
    """Half of the 95 % interval; NaN where it has no finite end."""
    low, high = estimate["intervals"]["0.95"]
    return float("nan") if low is None or high is None else (high - low) / 2


def agent_table(found: Sequence[Row]) -> Table:
    """What was trained, and how exact returns compare with play."""
    columns = ("environment", "states", "parameters", "steps", "optimum", "start", "end", "played")
    columns += ("max z", "regret at the end", "seconds")
    lines = []
    for row in found:
        last = row["played"][-1]
        lines.append(
            [
                row["case"],
                row["num_states"],
                row["num_parameters"],
                row["steps"][-1],
                row["optimal"],
                row["exact"][0],
                row["exact"][-1],
                f"{last['mean']:.4f} ± {last['sem']:.4f}",
                max(entry["z"] for entry in row["played"]),
                regret_curve(row)[-1],
                row["seconds_train"],
            ]
        )
    note = (
        "`start`, `end`: exact mean returns; `played`: mean of 1,000 episodes at the end and its "
        "standard error; `max z`: largest deviation over all checkpoints. Returns of FrozenLake "
        "and FourRooms are discounted by 0.99 without a time limit, the others are sums."
    )
    return Table("Agents", columns, lines, note)


def regret_curve(row: Row) -> np.ndarray:
    """Exact regret at each checkpoint, in units of the uniform policy's."""
    return (row["optimal"] - np.array(row["exact"])) / row["uniform_regret"]


def curves(found: Sequence[Row]) -> Figure:
    """Regret and the three estimates along training, one column for each environment."""
    with styled():
        figure = new_figure((2.3 * len(found) + 0.9, 7.6))
        axes = figure.subplots(4, len(found), squeeze=False, sharex="col")
        for column, row in zip(axes.T, found, strict=True):
            steps = np.array(row["steps"], np.float64)
            column[0].set_title(row["case"])
            column[0].plot(steps, regret_curve(row), color=INK, marker="o", ms=3)
            column[0].set_ylim(bottom=0)
            for axis, name in zip(column[1:], POTENTIALS, strict=True):
                _draw_curve(axis, steps, row["curves"][name]["estimates"], name)
            scale_steps(column[0], steps, log=True, margin=0.04)
            step_axis(column[-1], "environment steps")
            column[-1].tick_params(axis="x", labelrotation=45)
        axes[0, 0].set_ylabel("exact regret")
        for axis, text in zip(axes[1:, 0], POTENTIALS.values(), strict=True):
            axis.set_ylabel(f"LLC, {text}")
        figure.legend(handles=_handles(axes[0, 0]), loc="outside lower center", ncols=3)
    return figure


def _draw_curve(axis: Any, steps: np.ndarray, estimates: Sequence[Row], name: str) -> None:
    means = np.array([np.nan if e["estimate"] is None else e["estimate"] for e in estimates])
    widths = np.array([half_width(e) for e in estimates])
    axis.plot(steps, means, color=_COLORS[name], lw=0.9)
    axis.errorbar(steps, means, yerr=widths, fmt="none", ecolor=_COLORS[name], elinewidth=0.9)
    for verdict in _MARKERS:
        chosen = np.array([e["verdict"] == verdict for e in estimates])
        axis.scatter(steps[chosen], means[chosen], **_look(verdict, _COLORS[name]), zorder=3)
    if name == "regret":
        # Far below zero where the center is no minimum.
        axis.set_yscale("symlog", linthresh=10)
        axis.axhline(0, color=MUTED, lw=0.7)
    else:
        axis.set_ylim(bottom=0)


def _look(verdict: str, color: str) -> dict[str, Any]:
    faces = {"trusted": color, "doubtful": "white", "refused": "white"}
    return {"marker": _MARKERS[verdict], "s": 26, "facecolor": faces[verdict], "edgecolor": color}


def _handles(axis: Any) -> list[Any]:
    return [axis.scatter([], [], label=name, **_look(name, MUTED)) for name in _MARKERS]

"""The page of `benchmarks.craftax_turns`: turning points, lags, verdicts, and a figure."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.pages import Page
from slt_rl.agents import Lag, Series, TurningPoints, lags, turning_points
from slt_rl.agents.figures import COLORS, scale_axis
from slt_rl.agents.turning import KINDS
from slt_rl.report import Table
from slt_rl.report.style import new_figure, styled

ABSTRACT = (
    "Runs of 1M steps of the default agent of `slt-rl train craftax-classic`, one for each seed, "
    "and the LLC of their checkpoints (KL to the frozen policy or squared difference of values; "
    "512 states drawn from four checkpoints of the same run, or each checkpoint's own). Stated "
    "before these seeds were measured, from another one: the LLC of the policy dips where the "
    "plants per episode peak."
)
TURNS_NOTE = (
    "In 1,000 environment steps; after smoothing by local lines, see docs/agent-curves.md. In "
    "brackets 95 % over the errors of the records (Monte-Carlo errors of the LLC on these states, "
    "spread over episodes of the counts), of the resampled curves that have the point; what the "
    "smoothing itself moves, up to 3 %, is not in it. –: the curve has no such point."
)
LAGS_NOTE = (
    "In doublings of the step: 0 is at the same time, 1 at twice as many steps. Each seed with its "
    "95 % interval over the errors of the records; mean over seeds with its 95 % Student interval. "
    "Own, other: mean size of the lag behind the same seed's point and behind those of the other "
    "seeds; where the first is not smaller, the points share a time in training, and nothing shows "
    "that they share a cause in the run. Of the pairs that all seeds have: dips and peaks of the "
    "LLC behind peaks, its steepest rise behind steepest falls."
)
PEAK = {"color": COLORS[1], "ls": "--", "lw": 0.9, "label": "peak of the plants per episode"}
DIP = {"color": COLORS[0], "lw": 0.9, "label": "dip of the LLC, where it has one"}
PAIRS = (("dip", "peak"), ("rise", "fall"), ("peak", "peak"))


def make_page(
    curves: Sequence[Series], events: Sequence[Series], rows: Sequence[dict[str, Any]]
) -> Page:
    """Tables and the figure.

    Args:
        curves: The LLC, one for each kind and localization, of all seeds.
        events: Event curves of the same seeds.
        rows: Verdicts and regimes of the points of each LLC curve.
    """
    everything = [*curves, *events]
    points = {series.name: turning_points(series) for series in everything}
    found = [lag for curve in curves for lag in lags(curve, list(events))]
    tables = (lag_table(found, points), turn_table(everything, points), verdict_table(rows))
    figures = {"curves": curves_figure(curves, events, points)}
    title = "Where the LLC of Craftax-Classic agents turns"
    return Page("craftax_turns", title, ABSTRACT, (), tables, figures)


def turn_table(series: Sequence[Series], points: dict[str, TurningPoints]) -> Table:
    """One row for each turning point that a seed has."""
    body = []
    for one in series:
        for index, kind in enumerate(KINDS):
            at = getattr(points[one.name], kind)
            ends = points[one.name].low[index], points[one.name].high[index]
            cells = [_shown(*x, unit=1e3) for x in zip(at, *ends, strict=True)]
            if np.isfinite(at).any():
                body.append([one.name, kind, *cells])
    header = ["curve", "its", *(f"seed {seed}" for seed in series[0].seeds)]
    return Table("Turning points", header, body, TURNS_NOTE)


def lag_table(found: Sequence[Lag], points: dict[str, TurningPoints]) -> Table:
    """One row for each pair that all seeds have; the plants per episode first."""
    wanted = [
        lag
        for lag in found
        if (lag.kind, lag.other_kind) in PAIRS and np.isfinite(lag.per_seed).all()
    ]
    wanted.sort(key=lambda x: (PAIRS.index((x.kind, x.other_kind)), x.other != "plant"))
    body = []
    for lag in wanted:
        seeds = zip(lag.per_seed, lag.seed_low, lag.seed_high, strict=True)
        own, other = own_and_other(points[lag.curve], points[lag.other], lag)
        body.append(
            [lag.curve, lag.kind, lag.other, lag.other_kind, "; ".join(_shown(*x) for x in seeds),
             _shown(lag.mean, lag.low, lag.high), f"{own:.2f}, {other:.2f}"]
        )  # fmt: skip
    header = ["curve", "its", "behind", "its", "of each seed", "mean", "own, other"]
    return Table("Lags of the LLC behind events", header, body, LAGS_NOTE)


def own_and_other(curve: TurningPoints, other: TurningPoints, lag: Lag) -> tuple[float, float]:
    """Mean size of the lag behind the turning point of the same seed, and of all other seeds."""
    ours, theirs = getattr(curve, lag.kind), getattr(other, lag.other_kind)
    size = np.abs(np.log2(ours[:, None] / theirs[None, :]))
    is_own = np.eye(len(ours), dtype=bool)
    others = size[~is_own]
    return float(size[is_own].mean()), float(others.mean()) if others.size else np.nan


def verdict_table(rows: Sequence[dict[str, Any]]) -> Table:
    """How many points of each curve were trusted, and their regimes."""
    body = [
        [row["curve"], seed, _counted(verdicts), _counted(regimes)]
        for row in rows
        for seed, verdicts, regimes in zip(row["seeds"], row["verdict"], row["regime"], strict=True)
    ]
    return Table("Verdicts", ("curve", "seed", "verdicts", "regimes"), body)


def _counted(words: Sequence[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).most_common())


def _shown(value: float, low: float, high: float, *, unit: float = 1.0) -> str:
    if not np.isfinite(value):
        return "–"
    digits = 0 if unit > 1 else 2
    ends = f" [{low / unit:.{digits}f}, {high / unit:.{digits}f}]" if np.isfinite(low) else ""
    return f"{value / unit:.{digits}f}{ends}"


def curves_figure(
    curves: Sequence[Series], events: Sequence[Series], points: dict[str, TurningPoints]
) -> Figure:
    """The LLC and the plants per episode of each seed, with dips and the peak of the plants."""
    plants = next(series for series in events if series.name == "plant")
    rows, seeds = [*curves, plants], plants.seeds
    with styled():
        figure = new_figure((3.3 * len(seeds), 1.6 * len(rows) + 0.7))
        axes = figure.subplots(len(rows), len(seeds), sharex=True, sharey="row", squeeze=False)
        for series, row in zip(rows, axes, strict=True):
            row[0].set_ylabel("plants per episode" if series is plants else _words(series.name))
            for number, axis in enumerate(row):
                draw_records(axis, series, number)
                axis.axvline(points["plant"].peak[number], **PEAK)
                if series is not plants:
                    axis.axvline(points[series.name].dip[number], **DIP)
        for number, seed in enumerate(seeds):
            axes[0, number].set_title(f"seed {seed}")
            scale_axis(axes[-1, number], float(plants.steps[-1]))
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _words(name: str) -> str:
    """Three lines for a name such as "LLC policy-reference at localization 300"."""
    lines = name.replace("LLC ", "LLC: ").replace("-", ",\n", 1)
    return lines.replace(" at ", " states,\n")


def draw_records(axis: Any, series: Series, number: int) -> None:
    """The records of one seed with their standard errors."""
    axis.errorbar(
        series.steps, series.values[number], series.sem[number],
        fmt="o", ms=1.8, elinewidth=0.6, color="0.25", label="record ± its standard error",
    )  # fmt: skip

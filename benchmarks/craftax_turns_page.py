"""The page of `benchmarks.craftax_turns`: turning points, lags, verdicts, and a figure."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmarks.pages import Page
from slt_rl.agents import Lag, Series, TurningPoints, lags, turning_points
from slt_rl.agents.figures import COLORS, scale_axis
from slt_rl.agents.turning import KINDS
from slt_rl.development import compare_forms
from slt_rl.report import Table
from slt_rl.report.style import new_figure, styled

ABSTRACT = (
    "Runs of 1M steps of the default agent of `slt-rl train craftax-classic`, one for each seed, "
    "and the LLC of their checkpoints (KL to the frozen policy or squared difference of values; "
    "512 states drawn from four checkpoints of the same run, or each checkpoint's own). Stated "
    "before these seeds were measured, from another one: the LLC of the policy dips where the "
    "plants per episode peak. At localization 300 the checkpoints before 49,152 steps were added "
    "when the others had been looked at."
)
TURNS_NOTE = (
    "In 1,000 environment steps; after smoothing by local parabolas, see docs/agent-curves.md. In "
    "brackets 95 % over the errors of the records (Monte-Carlo errors of the LLC on these states, "
    "spread over episodes of the counts) and the distance between them, of the resampled curves "
    "that have the point; after it their share, where it is neither all nor none. –: the curve has "
    "no such point."
)
LAGS_NOTE = (
    "In doublings of the step: 0 is at the same time, 1 at twice as many steps. Each seed with its "
    "95 % interval over the errors of the records and the distance between them; mean over seeds "
    "with its 95 % Student interval. Own, other: root mean square of the lags behind the same "
    "seed's point and behind those of the other seeds; share: of all assignments of the points to "
    "the seeds, so many have lags no larger than the own. Where the share is not small, the points "
    "share a time in training, and nothing shows that they share a cause in the run; of three "
    "seeds it is never below 1/6. Of the pairs that all seeds have: dips and peaks of the LLC "
    "behind peaks, its steepest rise behind steepest falls."
)
LOCALIZATIONS_NOTE = (
    "In doublings of the step, as below: turning points of the same checkpoints' LLC at one "
    "localization behind those at another. –: a seed has no such point."
)
POINTS_NOTE = (
    "LLC ± its Monte-Carlo error on these states; letters: the verdict (**t**rusted, **d**oubtful, "
    "**r**efused), then the regime (**p**lateau, **l**ocalization-dominated, "
    "**t**emperature-dependent). Where all seeds have a point."
)
VARIANT_NOTE = (
    "In 1,000 environment steps, as above; agents of the same seeds with the game's own reward and "
    "with another. –: the curve has no such point."
)
FORMS_NOTE = (
    "Forms of slt_rl.development over the steps, by BIC; tied: less than 2 units above the best. "
    "Residual: its standard deviation in units of the median standard error of the points; a form "
    "that says all has 1. “Rise and decay” with a negative size is a fall and a slower rise."
)
PEAK = {
    "color": COLORS[1],
    "ls": "--",
    "lw": 0.9,
    "label": "peak of the plants per episode, 95 % interval",
}
DIP = {
    "color": COLORS[0],
    "lw": 0.9,
    "label": "dip of the LLC, 95 % interval; none: the curve has no dip",
}
PAIRS = (("dip", "peak"), ("rise", "fall"), ("peak", "peak"))


class Curves(NamedTuple):
    """What was measured of agents of one reward, all curves of the same seeds.

    Attributes:
        llc: One curve for each kind and localization.
        events: Event curves.
        rows: Steps, verdicts and regimes of the points of each LLC curve; when they were gathered.
    """

    llc: Sequence[Series]
    events: Sequence[Series]
    rows: Sequence[dict[str, Any]]

    def turning_points(self) -> dict[str, TurningPoints]:
        """Of each curve, by its name."""
        return {series.name: turning_points(series) for series in [*self.llc, *self.events]}


def make_page(default: Curves, variants: Mapping[str, Curves]) -> Page:
    """Tables and figures.

    Args:
        default: Agents of the game's own reward.
        variants: Agents of other rewards, by their names.
    """
    points = default.turning_points()
    found = [lag for curve in default.llc for lag in lags(curve, list(default.events))]
    tables = [
        lag_table(found, points),
        turn_table([*default.llc, *default.events], points),
        form_table(default.llc),
        verdict_table(default.rows),
        points_table(default),
    ]
    if len(default.llc) > 1:
        tables.insert(0, localization_table(default.llc))
    figures = {"curves": curves_figure(default, points)}
    for name, variant in variants.items():
        others = variant.turning_points()
        tables.insert(-4, variant_table(name, (default, points), (variant, others)))
        tables += [
            verdict_table(variant.rows, f" of {name!r}"),
            points_table(variant, f" of {name!r}"),
        ]
        figures[name] = curves_figure(variant, others)
    title = "Where the LLC of Craftax-Classic agents turns"
    return Page("craftax_turns", title, ABSTRACT, (), tables, figures)


def localization_table(curves: Sequence[Series]) -> Table:
    """Turning points of the LLC at each localization behind those at the last, of all kinds."""
    body = [
        [lag.kind, lag.curve, lag.other, *_lag_cells(lag)]
        for curve in curves[:-1]
        for lag in lags(curve, [curves[-1]])
        if lag.kind == lag.other_kind and np.isfinite(lag.per_seed).any()
    ]
    header = ["turning point", "of", "behind that of", "of each seed", "mean"]
    return Table("The same LLC at two localizations", header, body, LOCALIZATIONS_NOTE)


def _lag_cells(lag: Lag) -> list[str]:
    """Of each seed and their mean, with intervals."""
    seeds = zip(lag.per_seed, lag.seed_low, lag.seed_high, strict=True)
    return ["; ".join(_shown(*x) for x in seeds), _shown(lag.mean, lag.low, lag.high)]


def turn_table(series: Sequence[Series], points: dict[str, TurningPoints]) -> Table:
    """One row for each turning point that a seed has."""
    body = []
    for one in series:
        for kind in KINDS:
            cells = [_at(points[one.name], kind, number) for number in range(len(one.seeds))]
            if np.isfinite(getattr(points[one.name], kind)).any():
                body.append([one.name, kind, *cells])
    header = ["curve", "its", *(f"seed {seed}" for seed in series[0].seeds)]
    return Table("Turning points", header, body, TURNS_NOTE)


Found = tuple[Curves, dict[str, TurningPoints]]


def variant_table(name: str, default: Found, variant: Found) -> Table:
    """Dips of the LLC and peaks of the plants in seeds of both rewards."""
    wanted = [*((series.name, "dip") for series in variant[0].llc), ("plant", "peak")]
    body = []
    for curve, kind in wanted:
        for seed in variant[0].events[0].seeds:
            cells = [
                _at(points[curve], kind, curves.events[0].seeds.index(seed))
                for curves, points in (default, variant)
            ]
            body.append([curve, kind, seed, *cells])
    header = ["curve", "its", "seed", "the game's own reward", name]
    return Table(f"With another reward: {name!r}", header, body, VARIANT_NOTE)


def _at(points: TurningPoints, kind: str, number: int) -> str:
    """A turning point of one seed with its interval."""
    index = KINDS.index(kind)
    ends = points.low[index, number], points.high[index, number]
    share = points.share[index, number]
    told = f" ({share:.2f})" if 0 < share < 1 else ""
    return _shown(getattr(points, kind)[number], *ends, unit=1e3) + told


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
        names = [lag.curve, lag.kind, lag.other, lag.other_kind]
        shown = own_and_other(points[lag.curve], points[lag.other], lag)
        body.append([*names, *_lag_cells(lag), ", ".join(f"{x:.2f}" for x in shown)])
    header = ["curve", "its", "behind", "its", "of each seed", "mean", "own, other, share"]
    return Table("Lags of the LLC behind events", header, body, LAGS_NOTE)


def own_and_other(
    curve: TurningPoints, other: TurningPoints, lag: Lag
) -> tuple[float, float, float]:
    """Whether a turning point belongs to that of the same seed, or only to its time in training.

    Returns:
        Root mean square of the lags behind the point of the same seed and behind those of all other
        seeds, and the share of the assignments of points to seeds with lags as small as the own.
    """
    ours, theirs = np.log2(getattr(curve, lag.kind)), np.log2(getattr(other, lag.other_kind))
    size = np.square(ours[:, None] - theirs)
    is_own = np.eye(len(ours), dtype=bool)
    orders = np.array(list(itertools.permutations(range(len(ours)))))
    assigned = size[np.arange(len(ours)), orders].mean(axis=1)
    own = size[is_own].mean()
    share = np.mean(assigned <= own * (1 + 1e-9))
    others = size[~is_own].mean() if len(ours) > 1 else np.nan
    return float(np.sqrt(own)), float(np.sqrt(others)), float(share)


def form_table(curves: Sequence[Series]) -> Table:
    """The form of the LLC of each seed."""
    body = []
    for series in curves:
        for seed, values, sem in zip(series.seeds, series.values, series.sem, strict=True):
            found = compare_forms(series.steps, values)
            best = found.fits[0]
            tied = ", ".join(name for name in found.tied if name != best.form.name)
            residual = best.noise_std / np.median(sem)
            body.append([series.name, seed, best.form.name, tied or "–", f"{residual:.1f}"])
    return Table("Forms", ("curve", "seed", "form", "tied", "residual"), body, FORMS_NOTE)


def verdict_table(rows: Sequence[dict[str, Any]], of: str = "") -> Table:
    """How many points of each curve were trusted, and their regimes."""
    body = [
        [
            row["curve"],
            seed,
            _counted(verdicts),
            _counted(regimes),
            f"{row['date']}, {row['commit']:.7}",
        ]
        for row in rows
        for seed, verdicts, regimes in zip(row["seeds"], row["verdict"], row["regime"], strict=True)
    ]
    header = ("curve", "seed", "verdicts", "regimes", "gathered at commit")
    return Table(f"Verdicts{of}", header, body)


def points_table(curves: Curves, of: str = "") -> Table:
    """Every estimate with its verdict and regime; one row for each step."""
    header, columns = ["step"], []
    for series, row in zip(curves.llc, curves.rows, strict=True):
        title = series.name.removeprefix("LLC ")
        header += [f"{title}, seed {seed}" for seed in series.seeds]
        columns += [_point_cells(series, row, number) for number in range(len(series.seeds))]
    steps = sorted({step for column in columns for step in column})
    body = [[f"{step:,.0f}", *(column.get(step, "–") for column in columns)] for step in steps]
    return Table(f"Points{of}", header, body, POINTS_NOTE)


def _point_cells(series: Series, row: Mapping[str, Any], number: int) -> dict[float, str]:
    """The points of one seed by their steps."""
    words = {
        step: f"{verdict[0]}{regime[0]}"
        for step, verdict, regime in zip(
            row["steps"][number], row["verdict"][number], row["regime"][number], strict=True
        )
    }
    points = zip(series.steps, series.values[number], series.sem[number], strict=True)
    return {step: f"{value:.2f} ± {sem:.2f} {words[step]}" for step, value, sem in points}


def _counted(words: Sequence[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).most_common())


def _shown(value: float, low: float, high: float, *, unit: float = 1.0) -> str:
    if not np.isfinite(value):
        return "–"
    digits = 0 if unit > 1 else 2
    ends = f" [{low / unit:.{digits}f}, {high / unit:.{digits}f}]" if np.isfinite(low) else ""
    return f"{value / unit:.{digits}f}{ends}"


def curves_figure(curves: Curves, points: dict[str, TurningPoints]) -> Figure:
    """The LLC and the plants per episode of each seed, with dips and the peak of the plants."""
    plants = next(series for series in curves.events if series.name == "plant")
    rows, seeds = [*curves.llc, plants], plants.seeds
    trusted = [*(trusted_points(*pair) for pair in zip(curves.llc, curves.rows, strict=True))]
    trusted.append(np.ones(plants.values.shape, bool))
    with styled():
        figure = new_figure((3.3 * len(seeds) + 0.6, 1.6 * len(rows) + 0.9))
        axes = figure.subplots(len(rows), len(seeds), sharex=True, sharey="row", squeeze=False)
        for series, is_trusted, row in zip(rows, trusted, axes, strict=True):
            row[0].set_ylabel("plants per episode" if series is plants else _words(series.name))
            for number, axis in enumerate(row):
                draw_records(axis, series, number, is_trusted=is_trusted[number])
                _mark(axis, points["plant"], "peak", number, **PEAK)
                if series is not plants:
                    _mark(axis, points[series.name], "dip", number, **DIP)
        for number, seed in enumerate(seeds):
            axes[0, number].set_title(f"seed {seed}")
            scale_axis(axes[-1, number], float(plants.steps[-1]))
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def trusted_points(series: Series, row: Mapping[str, Any]) -> np.ndarray:
    """Which points of a curve were trusted, `[seed, record]`."""
    return np.array(
        [
            np.isin(
                series.steps, [s for s, v in zip(steps, verdicts, strict=True) if v == "trusted"]
            )
            for steps, verdicts in zip(row["steps"], row["verdict"], strict=True)
        ]
    )


def _mark(axis: Any, points: TurningPoints, kind: str, number: int, **style: Any) -> None:
    """A line at a turning point of one seed, if it has it, in the band of its interval."""
    at, index = getattr(points, kind)[number], KINDS.index(kind)
    axis.axvline(at, **style)
    if np.isfinite(at):
        ends = points.low[index, number], points.high[index, number]
        axis.axvspan(*ends, color=style["color"], alpha=0.15, lw=0)


def _words(name: str) -> str:
    """Three lines for a name such as "LLC policy-reference at localization 300"."""
    lines = name.replace("LLC ", "LLC: ").replace("-", ",\n", 1)
    return lines.replace(" at ", " states,\n")


def draw_records(axis: Any, series: Series, number: int, *, is_trusted: np.ndarray) -> None:
    """The records of one seed with their standard errors; open where they are not trusted."""
    for chosen, fill, label in (
        (is_trusted, "0.25", "record ± its standard error"),
        (~is_trusted, "white", "LLC that is not trusted"),
    ):
        axis.errorbar(
            series.steps[chosen], series.values[number, chosen], series.sem[number, chosen],
            fmt="o", ms=2.2, mew=0.6, mfc=fill, elinewidth=0.6, color="0.25", label=label,
        )  # fmt: skip

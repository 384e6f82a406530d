"""The LLC of Craftax-Classic agents in all its kinds, beside that of the policy on fixed states.

    RUN=results/craftax_kinds/feedforward
    slt-rl train craftax-classic --out $RUN
    slt-rl curve $RUN
    slt-rl curve $RUN --localizations 300 --checkpoints 21 --of-values
    slt-rl curve $RUN --localizations 300 --checkpoints 21 --own
    slt-rl curve $RUN --localizations 300 --checkpoints 11 --part layer_0
    python -m benchmarks.craftax_kinds --permute $RUN
    python -m benchmarks.craftax_kinds

Parts are `layer_0`, `layer_1` and `layer_2` of an agent without memory, `encoder`, `core` and
`actor` of one with. `--permute` measures three checkpoints with the units of their first hidden
layer in another order. The page takes every curve of every run in RUNS at one localization.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy import stats

from benchmarks import pages
from benchmarks.craftax_turns_page import draw_records
from benchmarks.pages import Page, write_page
from slt_rl.agents import (
    Series,
    StoredCurve,
    event_series,
    load_curves,
    load_run,
    make_subjects,
    measure_curve,
    turning_points,
)
from slt_rl.agents.figures import COLORS, draw_points, scale_axis, verdict_handles
from slt_rl.cli import set_xla_flags
from slt_rl.report import Table
from slt_rl.report.style import new_figure, styled

LOCALIZATION, WINDOW, LEAST = 300.0, 3, 8
FIXED, PERMUTED = "policy-reference", "policy-reference-permuted"
ABSTRACT = (
    "The coefficient of the same checkpoints under different losses, on different states and with "
    "only a part of the parameters free, at one localization. Numbers of different rows are "
    "coefficients of different potentials: compare their shapes, not their sizes; parts and whole "
    "alone share a potential. One seed of each agent."
)
CURVES_NOTE = (
    "Estimates with their Monte-Carlo standard errors. Dip and rise as in docs/agent-curves.md, in "
    "1,000 environment steps, with 95 % over the Monte-Carlo errors; –: none, or fewer than eight "
    "points. Figure: bands are 95 % intervals, open points doubtful, crosses refused; the axis of "
    "steps is linear in its first fiftieth and logarithmic after it."
)
AGREE_NOTE = (
    "Spearman's correlation with the LLC of the policy on fixed states over the same checkpoints: "
    "of the values, where two curves that only rise agree already, and of the steps from one "
    "checkpoint to the next, where they need not. In brackets the size that one in twenty pairs of "
    "unrelated curves would exceed."
)
PARTS_NOTE = (
    "All with the other parameters frozen at the checkpoint, in the same potential. For a "
    "quadratic loss no part exceeds the whole and the parts sum to at least the whole, with "
    "equality where the parts do not interact: the trace of h / (h + localization) is monotone and "
    "concave. A smaller sum says that the loss is not quadratic on the scale of the tether. Errors "
    "are Monte-Carlo standard errors."
)
PERMUTED_NOTE = (
    "The same function in other coordinates, with chains of its own: the coefficients are equal, "
    "and the difference over the error of both is a standard normal number."
)
POINTS_NOTE = "No mark: trusted; ?: doubtful; !: refused. –: not measured."
MARKS = {"trusted": "", "doubtful": "?", "refused": "!"}


class Kind(NamedTuple):
    """One curve of one run at the localization of the page, `[checkpoint]` each."""

    run: str
    name: str
    curve: StoredCurve
    index: int

    def values(self, field: str) -> np.ndarray:
        """A field of the first seed."""
        return getattr(self.curve, field)[0, self.index]

    @property
    def series(self) -> Series:
        """The curve as a series of one seed."""
        mean, sem = self.values("mean")[None], self.values("sem")[None]
        return Series(self.name, "LLC", self.curve.steps, mean, sem, self.curve.seeds[:1])

    def at(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Estimates and standard errors at some of its steps."""
        places = np.searchsorted(self.curve.steps, steps)
        return self.values("mean")[places], self.values("sem")[places]


def main() -> int:
    """Reads all curves and writes the page."""
    parser = pages.parser(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("results/craftax_kinds"))
    parser.add_argument("--permute", type=Path, metavar="RUN", help="measure, and write no page")
    options = parser.parse_args()
    if options.permute:
        set_xla_flags(light=False)
        measure_permuted(options.permute)
        return 0
    folders = sorted(path.parent for path in options.runs.glob("*/run.json"))
    kinds = [kind for folder in folders for kind in kinds_of(folder)]
    if not kinds:
        raise SystemExit(f"{options.runs}: no curves at localization {LOCALIZATION:g}")
    plants = {path.name: event_series(load_run(path), window=WINDOW)["plant"] for path in folders}
    settings = {"runs": str(options.runs), "localization": LOCALIZATION}
    write_page(make_page(kinds, plants), [row_of(k) for k in kinds], settings, folder=options.out)
    return 0


def measure_permuted(folder: Path) -> None:
    """Three checkpoints of the first seed, the same policies in other coordinates."""
    run = load_run(folder)
    (subject,) = make_subjects(run, seeds=run.seeds[:1], num_checkpoints=3)
    moved = dataclasses.replace(subject, params=permuted(subject.params))
    localizations = (LOCALIZATION,)
    measure_curve(folder / "curves", PERMUTED, [moved], localizations=localizations, num_threads=1)


def permuted(params: dict[str, Any]) -> dict[str, Any]:
    """Layered parameters `[checkpoint, ...]` with the first hidden units in another order."""
    first, second = params["layer_0"], params["layer_1"]
    order = np.random.default_rng(0).permutation(first["bias"].shape[-1])
    return params | {
        "layer_0": {name: np.asarray(leaf)[..., order] for name, leaf in first.items()},
        "layer_1": second | {"kernel": np.asarray(second["kernel"])[:, order]},
    }


def kinds_of(folder: Path) -> list[Kind]:
    """The curves of a run at the localization of the page; that of the policy first."""
    found = [
        Kind(folder.name, name, curve, curve.localizations.index(LOCALIZATION))
        for name, curve in load_curves(folder).items()
        if LOCALIZATION in curve.localizations
    ]
    return sorted(found, key=lambda kind: (kind.name != FIXED, bool(kind.curve.facts["part"])))


def row_of(kind: Kind) -> dict[str, Any]:
    """Everything about a curve, as plain values."""
    words = {name: kind.values(name).tolist() for name in ("verdicts", "regimes", "flags")}
    numbers = {name: kind.values(name).round(5).tolist() for name in ("mean", "sem", "low", "high")}
    facts = {"facts": dict(kind.curve.facts), "nbeta": kind.curve.nbeta}
    return {"run": kind.run, "curve": kind.name, "steps": kind.curve.steps.tolist()} | (
        facts | numbers | words
    )


def make_page(kinds: list[Kind], plants: dict[str, Series]) -> Page:
    """Tables, and a figure with a column for each run."""
    tables = [curves_table(kinds), agreement_table(kinds)]
    shown = (parts_table, permuted_table, points_table)
    tables += [table(group) for table in shown for group in groups(kinds)]
    title = "The LLC of Craftax-Classic agents: losses, states, parts, memory"
    return Page(
        "craftax_kinds",
        title,
        ABSTRACT,
        (),
        [t for t in tables if t.rows],
        {"curves": curves_figure(kinds, plants)},
    )


def groups(kinds: list[Kind]) -> list[list[Kind]]:
    """The curves of each run."""
    return [[k for k in kinds if k.run == run] for run in dict.fromkeys(k.run for k in kinds)]


def curves_table(kinds: list[Kind]) -> Table:
    """One row for each curve."""
    body = []
    for kind in kinds:
        mean, sem, facts = kind.values("mean"), kind.values("sem"), kind.curve.facts
        body.append(
            [kind.run, kind.name, facts["num_free_parameters"], f"{kind.curve.nbeta:.1f}",
             *(f"{mean[i]:.2f} ± {sem[i]:.2f}" for i in (0, -1)), *turns(kind),
             counted(kind.values("verdicts")), counted(kind.values("regimes"))]
        )  # fmt: skip
    header = ["run", "curve", "free parameters", "nβ", "first", "last", "dip", "rise"]
    return Table("Curves", [*header, "verdicts", "regimes"], body, CURVES_NOTE)


def turns(kind: Kind) -> list[str]:
    """Dip and steepest rise with their intervals."""
    if len(kind.curve.steps) < LEAST:
        return ["–", "–"]
    found = turning_points(kind.series)
    rows = (found.dip[0], found.low[3, 0], found.high[3, 0]), (
        found.rise[0], found.low[0, 0], found.high[0, 0]
    )  # fmt: skip
    return [
        f"{at / 1e3:.0f} [{low / 1e3:.0f}, {high / 1e3:.0f}]" if np.isfinite(at) else "–"
        for at, low, high in rows
    ]


def counted(words: np.ndarray) -> str:
    """How many points have each word."""
    found, counts = np.unique(words, return_counts=True)
    return ", ".join(f"{count} {word}" for word, count in zip(found, counts, strict=True))


def agreement_table(kinds: list[Kind]) -> Table:
    """Each curve beside that of the policy on fixed states of the same run."""
    body = []
    for fixed, *others in groups(kinds):
        for kind in others if fixed.name == FIXED else []:
            steps = np.intersect1d(fixed.curve.steps, kind.curve.steps)
            if len(steps) >= LEAST:
                cells = correlations(fixed.at(steps)[0], kind.at(steps)[0])
                body.append([kind.run, kind.name, len(steps), *cells])
    header = ("run", "curve", "checkpoints", "values", "steps between")
    return Table("Agreement with the policy on fixed states", header, body, AGREE_NOTE)


def correlations(first: np.ndarray, second: np.ndarray) -> list[str]:
    """Of the values, and of their increments with the size that chance exceeds at level 0.05."""
    values = stats.spearmanr(first, second).statistic
    steps = stats.spearmanr(np.diff(first), np.diff(second)).statistic
    freedom = len(first) - 3
    t = stats.t.ppf(0.975, freedom)
    return [f"{values:.2f}", f"{steps:.2f} [{t / np.sqrt(freedom + t**2):.2f}]"]


def parts_table(kinds: list[Kind]) -> Table:
    """The parts of the policy beside the whole, at the checkpoints that all have."""
    parts = [k for k in kinds if k.curve.facts["part"] and k.name.startswith(FIXED)]
    whole = kinds[0]
    title = f"Parts: {whole.run}"
    if not parts or whole.name != FIXED:
        return Table(title, (), ())
    steps = whole.curve.steps
    for kind in parts:
        steps = np.intersect1d(steps, kind.curve.steps)
    total = whole.at(steps)
    found = [kind.at(steps) for kind in parts]
    ratio = sum(mean for mean, _ in found) / total[0]
    body = [
        [int(step), *(f"{mean[i]:.2f} ± {sem[i]:.2f}" for mean, sem in (total, *found)), ratio[i]]
        for i, step in enumerate(steps)
    ]
    names = [kind.curve.facts["part"] for kind in parts]
    return Table(title, ("step", "whole", *names, "sum / whole"), body, PARTS_NOTE)


def permuted_table(kinds: list[Kind]) -> Table:
    """The same policies with their hidden units in another order."""
    title = f"Another order of the hidden units: {kinds[0].run}"
    others = [kind for kind in kinds if kind.name == PERMUTED]
    if not others or kinds[0].name != FIXED:
        return Table(title, (), ())
    steps = np.intersect1d(kinds[0].curve.steps, others[0].curve.steps)
    (mean, sem), (other, other_sem) = kinds[0].at(steps), others[0].at(steps)
    body = [
        [int(step), f"{mean[i]:.2f} ± {sem[i]:.2f}", f"{other[i]:.2f} ± {other_sem[i]:.2f}",
         f"{(other[i] - mean[i]) / np.hypot(sem[i], other_sem[i]):.1f}"]
        for i, step in enumerate(steps)
    ]  # fmt: skip
    header = ("step", "as trained", "permuted", "difference / error")
    return Table(title, header, body, PERMUTED_NOTE)


def points_table(kinds: list[Kind]) -> Table:
    """Every point that is not of the curve of all checkpoints alone, with its verdict."""
    others = [k.curve.steps for k in (kinds[1:] or kinds)]
    steps = np.unique(np.concatenate(others))
    body = [[int(step), *(point(kind, step) for kind in kinds)] for step in steps]
    header = ("step", *(kind.name for kind in kinds))
    return Table(f"Points: {kinds[0].run}", header, body, POINTS_NOTE)


def point(kind: Kind, step: int) -> str:
    """One point with its error and the mark of its verdict."""
    place = np.flatnonzero(kind.curve.steps == step)
    if not place.size:
        return "–"
    mean, sem, verdict = (kind.values(name)[place[0]] for name in ("mean", "sem", "verdicts"))
    return f"{mean:.2f} ± {sem:.2f}{MARKS[str(verdict)]}"


def curves_figure(kinds: list[Kind], plants: dict[str, Series]) -> Figure:
    """The curves of each run below its plants per episode."""
    # The permuted points have a table.
    columns = groups([kind for kind in kinds if kind.name != PERMUTED])
    height = 1 + max(map(len, columns))
    with styled():
        figure = new_figure((4.6 * len(columns), 1.5 * height + 0.8))
        # Each run in a part of its own: an axis of steps leaves no gap between its neighbor's rows.
        parts = np.ravel(figure.subfigures(1, len(columns)))
        for part, group in zip(parts, columns, strict=True):
            axes = part.subplots(height, 1, sharex=True)
            _column(axes, group, plants[group[0].run])
        band = Patch(color=COLORS[0], alpha=0.22, label="95 % interval")
        handles = [*axes[0].get_legend_handles_labels()[0], band, *verdict_handles()]
        figure.legend(handles=handles, loc="outside lower center", ncols=5)
    return figure


def _column(axes: Any, group: list[Kind], events: Series) -> None:
    """One run; what is left of the column stays empty."""
    draw_records(axes[0], events, 0)
    axes[0].set_title(f"{group[0].run}: plants per episode", fontsize=9.5)
    for axis, kind in zip(axes[1:], group, strict=False):
        _panel(axis, kind)
    for axis in axes[1 + len(group) :]:
        axis.set_visible(False)
    last = axes[len(group)]
    scale_axis(last, float(group[0].curve.steps[-1]))
    last.tick_params(labelbottom=True)


def _panel(axis: Any, kind: Kind) -> None:
    """One curve below its name."""
    color = COLORS[0] if kind.name == FIXED else COLORS[1]
    draw_points(axis, kind.curve, (0, kind.index), color=color)
    axis.set_ylabel(r"$\hat\lambda$")
    axis.set_title(words(kind.name), fontsize=9.5)


def words(name: str) -> str:
    """A title for the name of a curve, such as "policy-reference-core"."""
    loss, states, *part = name.split("-")
    return ", ".join([f"LLC: {loss}", f"{states} states", *(f"part {x}" for x in part)])


if __name__ == "__main__":
    sys.exit(main())

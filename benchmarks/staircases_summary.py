"""What the staircases show: checks, tables and a figure from the rows of the benchmark."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import spearmanr

from benchmarks.analysis import mean_interval
from benchmarks.pages import Page
from slt_rl.agents.figures import COLORS
from slt_rl.development import (
    Curve,
    TransitionScore,
    detect_transitions,
    label_transitions,
    labeled_range,
    score_transitions,
    total_score,
    wilson_interval,
)
from slt_rl.development.partition import ar1_series
from slt_rl.diagnostics import Z95
from slt_rl.report import Check, Table
from slt_rl.report.style import MUTED, draw_levels, new_figure, styled
from toy_models import staircases

Row = dict[str, Any]
PHASE_TOLERANCE = 0.02
LEAST_RECALL = 0.95
LEVEL = 0.05
# Half of the smallest step of each staircase.
MIN_SHIFT = {"regret": 0.28, "LLC": 0.25}
# In training steps: two records.
TOLERANCE = 40
NULL_RHOS = (0.0, 0.5, 0.8, 0.9)


class Run(NamedTuple):
    """The curves of one run."""

    steps: np.ndarray
    labels: Sequence[str]
    regret: np.ndarray
    llc: np.ndarray


def runs_of(row: Row) -> list[Run]:
    """The runs of a trainer."""
    columns = zip(row["labels"], row["regret"], row["llc"], strict=True)
    return [Run(np.array(row["steps"]), a, np.array(b), np.array(c)) for a, b, c in columns]


def corrected(row: Row, value: float, nbeta: float) -> float:
    """The estimate plus `(m - 1)/log nbeta`, what multiplicity takes off at finite temperature."""
    phase = staircases.phases()[int(row["case"].split()[1])]
    return value + (phase.multiplicity - 1) / np.log(nbeta)


def score(run: Run, names: Sequence[str]) -> TransitionScore:
    """Transitions found in some of the curves of a run against those of the phases."""
    values = {"regret": run.regret, "LLC": run.llc}
    curves = [Curve(name, values[name], MIN_SHIFT[name]) for name in names]
    detected = [d.step for d in detect_transitions(run.steps, curves, level=LEVEL)]
    known = labeled_range(run.steps, run.labels)
    true = label_transitions(run.steps, run.labels)
    return score_transitions(detected, true, tolerance=TOLERANCE, known=known)


def signs(run: Run) -> list[bool]:
    """For each step from a phase to the next: whether regret falls and the coefficient rises."""
    labels = np.asarray(run.labels)
    levels = [
        (np.median(run.regret[labels == str(k)]), np.median(run.llc[labels == str(k)]))
        for k in range(4)
    ]
    return [bool(b[0] < a[0] and b[1] > a[1]) for a, b in zip(levels, levels[1:], strict=False)]


def phase_table(found: Sequence[Row]) -> tuple[Table, list[Check]]:
    """Measured against exact learning coefficients, and the worst relative error of each method."""
    cells, errors = [], {"tempered SMC": [], "automatic": []}
    for phase in staircases.phases():
        mine = [row for row in found if row["case"] == f"phase {phase.rank}"]
        smc = np.array([corrected(row, row["smc"][-1], row["nbeta"]) for row in mine])
        auto = np.array([corrected(row, row["estimate"], row["nbeta"]) for row in mine])
        raw = np.mean([row["smc"] for row in mine], axis=0)
        errors["tempered SMC"].append(abs(smc.mean() / phase.llc - 1))
        errors["automatic"].append(abs(auto.mean() / phase.llc - 1))
        verdicts = sorted({row["verdict"] for row in mine})
        exact = f"{phase.llc:g}, {phase.multiplicity}"
        measured = [*(f"{x:.3f}" for x in raw), *map(mean_and_error, (smc, auto))]
        cells.append((phase.rank, f"{phase.regret:.4f}", exact, *measured, ", ".join(verdicts)))
    header = ("phase", "regret", "lambda, m", "SMC 1e2", "SMC 1e3", "SMC 1e4")
    header = (*header, "SMC corrected", "automatic corrected", "verdict")
    checks = [
        Check(
            f"phases, {name}",
            f"Learning coefficients of the four phases by {name}, corrected by (m-1)/log nbeta.",
            f"largest relative error <= {PHASE_TOLERANCE}",
            round(float(max(values)), 4),
            bool(max(values) <= PHASE_TOLERANCE),
            f"mean over {len(found) // 4} keys at nbeta = 1e4, localization 1",
        )
        for name, values in errors.items()
    ]
    return Table("Phases", header, cells), checks


def mean_and_error(values: np.ndarray) -> str:
    """A mean with its standard error."""
    return f"{values.mean():.3f} ± {values.std(ddof=1) / np.sqrt(values.size):.3f}"


def transition_table(rows: Sequence[Row]) -> tuple[Table, list[Check]]:
    """Recall and precision from each curve alone and from both."""
    cells, checks = [], []
    for row in rows:
        for names in (("regret",), ("LLC",), ("regret", "LLC")):
            total = total_score(score(run, names) for run in runs_of(row))
            low, high = total.recall_interval()
            recall = f"{total.recall:.3f} [{low:.3f}, {high:.3f}]"
            lag = f"{total.median_lag:g}"
            curves = " and ".join(names)
            cells.append((row["trainer"], curves, recall, f"{total.precision:.3f}", lag))
        checks.append(
            Check(
                f"recall, {row['trainer']}",
                f"Share of transitions found from both curves, trained by {row['trainer']}.",
                f">= {LEAST_RECALL}",
                round(total.recall, 4),
                bool(total.recall >= LEAST_RECALL),
                f"{total.num_matched} of {total.num_true} in {len(row['regret'])} runs",
            )
        )
    header = ("trainer", "curves", "recall [95 %]", "precision", "median lag, steps")
    return Table("Transitions", header, cells), checks


def sign_table(rows: Sequence[Row]) -> tuple[Table, list[Check]]:
    """Whether the staircases oppose each other, and the rank correlation of the two curves."""
    cells, checks = [], []
    for row in rows:
        runs = runs_of(row)
        each = [signs(run) for run in runs]
        spearman = mean_interval([spearmanr(run.regret, run.llc).statistic for run in runs])
        opposing = sum(map(all, each))
        trusted = np.mean([v == "trusted" for run in row["verdicts"] for v in run])
        cells.append((row["trainer"], f"{opposing} of {len(runs)}", spearman, f"{trusted:.2f}"))
        checks.append(
            Check(
                f"signs, {row['trainer']}",
                "At every transition the median regret falls and the median estimate rises.",
                "every transition",
                sum(map(sum, each)),
                all(map(all, each)),
                f"of {sum(map(len, each))} transitions",
            )
        )
    header = ("trainer", "runs with opposing staircases", "Spearman [95 %]", "share trusted")
    return Table("Opposing staircases", header, cells), checks


def null_check(length: int, num_nulls: int) -> tuple[Table, list[Check]]:
    """Share of pairs of autocorrelated curves without a change in which one is found."""
    generator = np.random.default_rng(0)
    steps, cells, lows = np.arange(length), [], []
    for rho in NULL_RHOS:
        alarms = 0
        for _ in range(num_nulls):
            pair = [Curve(str(i), ar1_series(generator, length, rho)) for i in range(2)]
            alarms += bool(detect_transitions(steps, pair, level=LEVEL))
        low, high = wilson_interval(alarms, num_nulls)
        lows.append(low)
        cells.append((rho, f"{alarms / num_nulls:.3f} [{low:.3f}, {high:.3f}]"))
    check = Check(
        "false alarms",
        "Share of pairs of AR(1) curves in which a transition is found, at the worst correlation.",
        f"not above the level {LEVEL}: lower end of its interval",
        round(max(lows), 4),
        bool(max(lows) <= LEVEL),
        f"{num_nulls} pairs of {length} records for each of {NULL_RHOS}",
    )
    return Table("False alarms", ("autocorrelation", "share [95 %]"), cells), [check]


def figure(rows: Sequence[Row]) -> Figure:
    """Both curves of the first run of each trainer, with the exact levels."""
    with styled():
        drawn = new_figure((8, 4.8))
        axes = drawn.subplots(2, len(rows), sharex=True, sharey="row", squeeze=False)
        for row, (top, bottom) in zip(rows, axes.T, strict=True):
            run, bars = runs_of(row)[0], Z95 * np.array(row["sem"][0])
            top.plot(run.steps, run.regret, color=COLORS[0], label="regret, exact")
            bottom.errorbar(
                run.steps, run.llc, bars, fmt="o", ms=2.5, elinewidth=0.7, color=COLORS[1],
                label="estimate, 95 % Monte-Carlo interval",
            )  # fmt: skip
            for axis, field in ((top, "regret"), (bottom, "llc")):
                axis.set_ylim(axis.get_ylim())
                levels = {f"phase {p.rank}": getattr(p, field) for p in staircases.phases()}
                draw_levels(axis, levels, labels=row is rows[-1])
            top.set_title(row["trainer"])
            bottom.set_xlabel("training step")
        axes[0, 0].set_ylabel("regret")
        axes[1, 0].set_ylabel("LLC of the KL to the policy")
        handles = [axis.get_legend_handles_labels()[0][0] for axis in axes[:, 0]]
        handles.append(Line2D([], [], color=MUTED, lw=0.8, label="exact value of a phase"))
        drawn.legend(handles=handles, loc="outside lower center", ncols=3)
    return drawn


def make_page(found: Sequence[Row], curves: Sequence[Row], *, num_nulls: int) -> Page:
    """The result as a page."""
    length = len(curves[0]["steps"])
    parts = [phase_table(found), transition_table(curves), sign_table(curves)]
    parts.append(null_check(length, num_nulls))
    return Page(
        name="staircases",
        title="Opposing staircases of a linear policy",
        abstract=(
            "A contextual quadratic bandit with a two-layer linear policy, whose phases have exact "
            "regrets and learning coefficients. Curves take nbeta = 1e3 and short chains; phases "
            "nbeta = 1e4, localization 1. Lines in the figure are the exact levels."
        ),
        checks=[check for _, checks in parts for check in checks],
        tables=[table for table, _ in parts],
        figures={"curves": figure(curves)},
    )

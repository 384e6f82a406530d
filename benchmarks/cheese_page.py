"""Transitions, signs, correlations and curves of `benchmarks.cheese`, from its rows alone."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from benchmarks import pages
from benchmarks.analysis import mean_interval
from slt_rl.development import Curve, detect_transitions, wilson_interval
from slt_rl.report import Check, Table

Row = Mapping[str, Any]
POTENTIALS = {
    "KL": "KL, all states",
    "regret": "exact regret",
    "KL corner": "KL, corner levels",
}
VERDICTS = ("trusted", "doubtful", "refused")
# Smallest change of regret that counts, in units of the uniform policy's.
MIN_SHIFT = {"corner": 0.05, "off corner": 0.1}
# The policies of two checkpoints count as equal on corner levels if both differ by less.
MAX_DIVERGENCE, MAX_REGRET_CHANGE = 0.01, 0.01
# Iterations of the descent from the initialization, left out in the second correlation.
DESCENT = 20
LEAST_SEEDS = 8
MAX_SECONDS = 1_800


class Jump(NamedTuple):
    """A detected transition of one agent.

    Attributes:
        step: Iteration.
        regret: Change of the regret under the law of training.
        off_corner: Change of the regret on off-corner levels.
        llcs: Change of the estimate by potential; None where a side has no estimate that stands.
    """

    step: float
    regret: float
    off_corner: float
    llcs: dict[str, float | None]

    @property
    def is_opposing(self) -> bool:
        """Whether regret falls and the LLC under the KL rises."""
        change = self.llcs["KL"]
        return self.regret < 0 and change is not None and change > 0


def jumps(row: Row) -> list[Jump]:
    """Transitions in the exact regrets of both classes, and what changes at each.

    A change is that of the median from the stage before to the stage after; stages are what lies
    between neighboring transitions. Refused estimates do not enter.
    """
    records = np.array(row["records"])
    given = [Curve(k, np.array(row["regret"][k]), shift) for k, shift in MIN_SHIFT.items()]
    found = detect_transitions(records, given)
    edges = [-np.inf, *(detection.step for detection in found), np.inf]
    made = []
    for before, step, after in zip(edges, edges[1:-1], edges[2:], strict=False):
        spans = (before, step), (step, after)

        def change(steps, values, spans=spans):
            sides = [values[(steps > low) & (steps < high)] for low, high in spans]
            if not all(map(len, sides)):
                return None
            return float(np.median(sides[1]) - np.median(sides[0]))

        llcs = {name: change(*standing(row, name)) for name in POTENTIALS}
        shifts = [change(records, np.array(row["regret"][k])) for k in ("law", "off corner")]
        made.append(Jump(step, *shifts, llcs))
    return made


def standing(row: Row, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Iterations and values of the estimates that were not refused."""
    curve = row["curves"][name]
    kept = np.array([verdict != "refused" for verdict in curve["verdict"]])
    return np.array(row["checkpoints"])[kept], llcs_of(curve)[kept]


def falls(row: Row) -> bool:
    """Whether the LLC under the KL falls during the descent from the initialization."""
    values = llcs_of(row["curves"]["KL"])
    return bool(values[np.searchsorted(row["checkpoints"], DESCENT)] < values[0])


def llcs_of(curve: Row) -> np.ndarray:
    """The estimates of a curve, NaN where there is no number."""
    return np.array(curve["llc"], np.float64)


def correlation(row: Row, name: str, regret: str, *, first: int = 0) -> float:
    """Spearman correlation of regret and estimates that stand, from iteration `first` on."""
    steps, values = standing(row, name)
    at = np.array(row["regret"][regret])[np.searchsorted(row["records"], steps)]
    late = steps >= first
    # Three points have a correlation of one by chance too easily.
    return spearmanr(at[late], values[late]).statistic if late.sum() > 3 else np.nan


def share(successes: int, trials: int) -> str:
    """A count of a whole with its 95 % Wilson interval."""
    low, high = wilson_interval(successes, trials)
    return f"{successes} of {trials} [{low:.2f}, {high:.2f}]"


def by_alpha(found: Sequence[Row]) -> Iterator[tuple[float, list[Row]]]:
    """The rows of each share of off-corner levels."""
    for alpha, group in itertools.groupby(found, key=lambda row: row["alpha"]):
        yield alpha, list(group)


def staircase_table(found: Sequence[Row]) -> tuple[Table, list[Check]]:
    """Signs at transitions, and the share of seeds with opposing staircases."""
    header = ("alpha", "seeds", "with a transition", "transitions", "regret falls", "KL LLC rises")
    header += ("both", "undecided", "seeds with opposing staircases", "corner KL LLC rises")
    header += ("regret LLC rises", "seeds whose KL LLC falls in the descent")
    lines, checks = [], []
    for alpha, group in by_alpha(found):
        each = [jumps(row) for row in group]
        lines.append([alpha, *_staircase_cells(each), share(sum(map(falls, group)), len(group))])
        number, both = sum(map(len, each)), sum(j.is_opposing for one in each for j in one)
        checks.append(
            Check(
                f"signs, alpha {alpha:g}",
                f"Regret falls and the LLC under the KL rises at every transition, alpha {alpha:g}",
                "every transition",
                both,
                bool(number) and both == number,
                f"of {number} transitions in {len(group)} seeds",
            )
        )
    note = (
        "Transitions are found in the exact regrets of the two classes of levels; a change is that "
        "of medians over the stages before and after. Shares with 95 % Wilson intervals. "
        "`undecided`: one side has only refused estimates under the KL. Under the exact regret "
        "only transitions count that have an estimate that stands on both sides. The descent, from "
        f"iteration 0 to {DESCENT}, is no transition between stages and not counted as one."
    )
    return Table("Opposing staircases", header, lines, note), checks


def _staircase_cells(each: Sequence[Sequence[Jump]]) -> list[Any]:
    """The line of one share, from the transitions of each seed."""
    every = [jump for one in each for jump in one]
    rises = {
        name: [jump.llcs[name] > 0 for jump in every if jump.llcs[name] is not None]
        for name in POTENTIALS
    }
    counts = {name: share(sum(values), len(values)) for name, values in rises.items()}
    opposing = sum(bool(one) and all(jump.is_opposing for jump in one) for one in each)
    return [
        len(each),
        share(sum(map(bool, each)), len(each)),
        len(every),
        share(sum(jump.regret < 0 for jump in every), len(every)),
        counts["KL"],
        share(sum(jump.is_opposing for jump in every), len(every)),
        len(every) - len(rises["KL"]),
        share(opposing, len(each)),
        counts["KL corner"],
        counts["regret"],
    ]


def correlation_table(found: Sequence[Row]) -> Table:
    """Spearman correlations of regret and estimates along training."""
    header = ("alpha", "potential", "training regret", "off-corner regret")
    header += (f"training regret, from iteration {DESCENT}",)
    lines = [
        [
            alpha,
            text,
            mean_interval([correlation(row, name, "law") for row in group]),
            mean_interval([correlation(row, name, "off corner") for row in group]),
            mean_interval([correlation(row, name, "law", first=DESCENT) for row in group]),
        ]
        for alpha, group in by_alpha(found)
        for name, text in POTENTIALS.items()
    ]
    note = (
        "Mean over seeds of Spearman's rho along the checkpoints of a seed, with a 95 % bootstrap "
        "interval over seeds; refused estimates left out, so that under the exact regret only the "
        f"end of training remains. The first {DESCENT} iterations are the descent from the "
        "initialization; that they are looked at apart was decided after the first runs."
    )
    return Table("Spearman correlation with regret", header, lines, note)


def verdict_table(found: Sequence[Row]) -> Table:
    """Verdicts, regimes and the commonest reason against an estimate."""
    header = ("alpha", "potential", "estimates", *VERDICTS, "plateau", "first", "last")
    header += ("seconds each", "commonest reason")
    lines = []
    for alpha, group in by_alpha(found):
        for name, text in POTENTIALS.items():
            curves = [row["curves"][name] for row in group]
            verdicts = [v for curve in curves for v in curve["verdict"]]
            # Without their numbers, by which reasons of one kind differ.
            every = [f for curve in curves for one in curve["flags"] for f in one]
            flags = [re.split(r"[ (]+(?:split R-hat )?-?\d", f)[0] for f in every]
            reason = max(sorted(set(flags)), key=flags.count) if flags else None
            number = len(verdicts)
            seconds = sum(row["seconds_curve"][name] for row in group) / number
            plateau = sum(r == "plateau" for curve in curves for r in curve["regime"])
            ends = np.nanmean([llcs_of(curve)[[0, -1]] for curve in curves], axis=0)
            line = [alpha, text, number, *map(verdicts.count, VERDICTS), plateau, *ends, seconds]
            lines.append([*line, None if reason is None else f"{reason} ({flags.count(reason)})"])
    note = (
        "`plateau`: estimates that would not change with localization or temperature. `first`, "
        "`last`: mean over seeds of the estimate before and after training, whatever its verdict. "
        "`seconds each` is wall time with compilation, on a core that others used meanwhile."
    )
    return Table("Verdicts", header, lines, note)


def subset_pairs(row: Row) -> tuple[int, int, int]:
    """Pairs of checkpoints that act alike on corner levels, and those told apart there.

    Returns:
        The number of pairs whose policies are equal on corner levels within the stated limits and
        whose estimates stand; of them those with 95 % intervals that do not overlap; of these
        those in which the later estimate is the larger.
    """
    curve = row["curves"]["KL corner"]
    records = np.searchsorted(row["records"], row["checkpoints"])
    regret = np.array(row["regret"]["corner"])[records]
    divergence = np.array(row["corner_divergence"])
    total = apart = later = 0
    for i, j in itertools.combinations(range(len(records)), 2):
        alike = divergence[i, j] < MAX_DIVERGENCE
        alike &= abs(regret[i] - regret[j]) < MAX_REGRET_CHANGE
        if not alike or "refused" in (curve["verdict"][i], curve["verdict"][j]):
            continue
        total += 1
        rises, falls = curve["low"][j] > curve["high"][i], curve["high"][j] < curve["low"][i]
        apart += rises or falls
        later += rises
    return total, apart, later


def subset_table(found: Sequence[Row]) -> Table:
    """Corner levels alone: are policies that act alike there told apart?"""
    lines = []
    for alpha, group in by_alpha(found):
        counts = [subset_pairs(row) for row in group]
        total, apart, later = np.sum(counts, axis=0).tolist()
        seeds = sum(count[1] > 0 for count in counts)
        lines.append([alpha, total, apart, later, apart - later, f"{seeds} of {len(group)}"])
    header = ("alpha", "pairs alike", "told apart", "later larger", "later smaller", "seeds")
    note = (
        f"Pairs of checkpoints of one seed whose policies differ on corner levels by less than "
        f"{MAX_DIVERGENCE:g} nats (mean symmetric KL) and {MAX_REGRET_CHANGE:g} of regret; `told "
        "apart`: their LLCs under the KL on corner levels have 95 % intervals that do not overlap. "
        "Pairs of a seed share checkpoints and are not independent; `seeds`: with such a pair."
    )
    return Table("Subset of levels on which policies act alike", header, lines, note)


def response_table(found: Sequence[Row]) -> Table:
    """Susceptibilities to the law of levels at a few times of training."""
    header = ("alpha", "iteration", "corner regret answers", "significant")
    header += ("off-corner regret answers", "significant")
    lines = []
    for alpha, group in by_alpha(found):
        steps = group[0]["checkpoints"]
        for target in np.quantile(group[0]["records"], [0, 0.05, 0.1, 0.25, 0.5, 1.0]):
            i = int(np.argmin(np.abs(np.array(steps) - target)))
            line = [alpha, steps[i]]
            for name in ("corner", "off corner"):
                answers = 1e3 * np.array([row["susceptibility"][name][i] for row in group])
                significant = np.abs(answers[:, 0]) > 2 * answers[:, 1]
                line += [mean_interval(answers[:, 0]), f"{significant.sum()} of {len(group)}"]
            lines.append(line)
    note = (
        "In thousandths: derivative of the posterior mean regret of a class of levels when the KL "
        "gives more weight to off-corner levels, `nbeta` times the group susceptibility; mean over "
        "seeds with its bootstrap interval; `significant`: seeds in which it is more than two "
        "standard errors from zero. Negative: the regret would fall."
    )
    return Table("Susceptibility to the law of levels", header, lines, note)


def agent_table(found: Sequence[Row]) -> Table:
    """What was learned."""
    lines = []
    for alpha, group in by_alpha(found):
        line = [alpha, len(group), group[0]["num_states"], group[0]["num_parameters"]]
        for name in ("corner", "off corner"):
            ends = [row["regret"][name][-1] for row in group]
            line += [float(np.median(ends)), float(max(ends))]
        lines.append([*line, group[0]["seconds_train"]])
    header = ("alpha", "seeds", "states", "parameters", "corner regret at the end", "worst")
    header += ("off-corner regret at the end", "worst", "seconds of training")
    note = "Exact regret in units of the uniform policy's: median over seeds and worst seed."
    return Table("Agents", header, lines, note)


def make_page(
    found: Sequence[Row], settings: Mapping[str, Any], *, name: str, curves: Figure
) -> pages.Page:
    """The result as a page."""
    staircases, checks = staircase_table(found)
    seeds = min(len(group) for _, group in by_alpha(found))
    seconds = sum(row["processor_seconds"] for row in found)
    text = "seeds of each share of off-corner levels"
    checks.append(Check("seeds", text, f">= {LEAST_SEEDS}", seeds, seeds >= LEAST_SEEDS))
    checks.append(
        Check(
            "time",
            "processor seconds of everything, training and compilation included",
            f"<= {MAX_SECONDS}, within 20 minutes on two cores",
            round(seconds),
            seconds <= MAX_SECONDS,
        )
    )
    abstract = (
        f"PPO agents on the cheese maze ({settings['levels']} levels), "
        f"{settings['num_iterations']} iterations, and the LLC along their training at nbeta "
        f"{settings['nbeta']:g} and localization {settings['localization']:g}. Regret is exact, in "
        "units of the uniform policy's. [What is measured](../../docs/cheese.md)."
    )
    tables = [staircases, correlation_table(found), verdict_table(found), subset_table(found)]
    tables += [response_table(found), agent_table(found)]
    figures = {"curves.png": curves}
    return pages.Page(name, "Cheese in the corner", abstract, checks, tables, figures)

"""Do binomial increments shift the coefficient? The same chains with them and with normal numbers.

    python -m benchmarks.increments [--problems SUBSTRING] [--out benchmarks/results]

On exact potentials that are far from quadratic, at the step that calibration would give SGLD and at
five times that, where the error of the step itself is large. Two-point increments, whose
fourth moment is 1 instead of 3, run beside them, for what the fourth moment does.
Writes `increments.md` and `.json`; a run that was killed goes on where it stopped.
"""

import dataclasses
import itertools
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from scipy.stats import chi2

import slt_rl
import toy_models
from benchmarks import pages, rows, runs
from slt_rl import chains, probes
from slt_rl.diagnostics import Z95
from slt_rl.report.style import INK, new_figure, styled
from slt_rl.samplers import Info

# Localizations that leave the coefficient to the potential: weak ones for the flattest.
LOCALIZATIONS = {
    "homogeneous_4_degree_4": 30.0,
    "homogeneous_3_degree_6": 30.0,
    "separable_2_4_6": 30.0,
    "normal_crossing_1_1": 10.0,
    "crossing_and_quadratic": 30.0,
    "reduced_rank_3_2_3_rank_0": 30.0,
    "tanh_1_1_3_zero": 30.0,
    "relu_inside_cell": 30.0,
    "superposition_5_supervised": 30.0,
    "superposition_5+_supervised": 30.0,
    "superposition_6_supervised": 30.0,
    "softmax_bandit_kl": 30.0,
    "token_tree_kl": 30.0,
}
NBETA, TOLERANCE = 1000.0, 0.05
# Multiples of the step that calibration would give, at which `c = step kappa_max` is 0.1 and 0.5.
MULTIPLES = (1, 5)
# Two-point increments run at this one only.
CONTROL = 5
# A curvature above all that chains meet here, for the chains that look for it.
FIRST_STIFFNESS = 5000.0
NUM_CHAINS, BLOCK, MAX_BLOCKS = 2048, 256, 40
# Relative standard error at which a run is long enough; burn-in in relaxation times.
PRECISION, BURNIN = 0.001, 2.0
ABSTRACT = (
    f"Means of nbeta (L(w) - L(w*)) over {NUM_CHAINS} chains of SGLD on exact potentials, nbeta = "
    f"{NBETA:g}, with increments of three kinds, everything else the same: step, start, length. "
    "The calibrated step is 0.1 over the curvature of U that one chain in twenty exceeds, as "
    "calibration chooses it at tolerance 0.05; at five times that the step's own error in the "
    "stiffest direction is a seventh."
)
NOTE = (
    "Relative differences with their standard errors, and in units of them. Two-point increments "
    "have the variance of normal ones and a third of their fourth moment. Nothing: a chain left "
    "the finite numbers at this step."
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TwoPointSGLD:
    """SGLD with increments of plus or minus the root of the step."""

    step_size: Any

    def init(self, key: jax.Array, position: Any, oracle: Any) -> Any:
        """Starts at `position`."""
        return slt_rl.SGLD(self.step_size).init(key, position, oracle)

    def step(self, key: jax.Array, state: Any, oracle: Any) -> Any:
        """Records the position it leaves, then moves."""
        key_batch, key_noise = jax.random.split(key)
        potential, gradient = oracle(key_batch, state.position)
        signs = optax.tree.random_like(key_noise, gradient, jax.random.rademacher)
        half, root = self.step_size / 2, self.step_size**0.5
        moved = jax.tree.map(
            lambda w, g, z: (w - half * g + root * z).astype(w.dtype),
            state.position, gradient, signs,
        )  # fmt: skip
        return state._replace(position=moved), Info(state.position, potential, gradient)


def main() -> int:
    """Measures what is missing, then writes the results."""
    parser = runs.parser(__doc__)
    parser.add_argument("--problems", default="", help="only names that contain this")
    options = parser.parse_args()
    journal = rows.open_journal("increments", {}, "benchmarks/increments.py")
    return runs.run(journal, cases(options.problems), measure, make_page=make_page, options=options)


def cases(part: str = "") -> list[toy_models.ToyProblem]:
    """The problems, in the order of their names above."""
    problems = {problem.name: problem for problem in toy_models.problems()}
    return [problems[name] for name in LOCALIZATIONS if part in name]


class Target(NamedTuple):
    """The chains' problem with what is known of its center, and `kappa_max` where chains are."""

    problem: chains.Problem
    anchors: Any
    stiffness: float


def measure(toy: toy_models.ToyProblem, key: jax.Array) -> dict[str, Any]:
    """Means of every kind of increments at every step, differences beside them."""
    key_calibrate, key_chains = jax.random.split(key)
    target = calibrated(toy, key_calibrate)
    compared = [compare(target, jax.random.fold_in(key_chains, m), m) for m in MULTIPLES]
    return {"stiffness": target.stiffness, "steps": compared}


def calibrated(toy: toy_models.ToyProblem, key: jax.Array) -> Target:
    """The target with the stiffness of `calibration`, where relaxed chains are."""
    centers = jax.tree.map(lambda x: jnp.asarray(x)[None], toy.params)
    numbers = jnp.float32(NBETA), jnp.float32(LOCALIZATIONS[toy.name])
    problem = chains.Problem(chains.constant_target(toy.potential), centers, None, *numbers)
    target = Target(problem, chains.find_anchors(key, problem), FIRST_STIFFNESS)
    sampler = slt_rl.SGLD(2 * TOLERANCE / FIRST_STIFFNESS)
    state = next(relaxed(target, key, sampler))[0]
    met = probes.curvatures_at(key, problem, state.sampler_state.position)
    largest = np.quantile(np.asarray(met), 0.95)
    return target._replace(stiffness=float(probes.stiffness_of(problem, largest)))


def relaxed(target: Target, key: jax.Array, sampler: Any) -> Iterator:
    """Blocks of chains after the burn-in: `(state, draws)`."""
    keys = chains.center_keys(key, 1)
    options = {"sampler": sampler, "num_chains": NUM_CHAINS}
    state = chains.start_chains(keys, target.problem, target.anchors, **options)
    blocks = chains.run_chains(
        keys, target.problem, target.anchors, sampler=sampler, state=state, block_length=BLOCK
    )
    # The softest direction relaxes in `2 / (step localization)` steps.
    relaxation = 2 / (sampler.step_size * float(target.problem.localization))
    return itertools.islice(blocks, math.ceil(BURNIN * relaxation / BLOCK), None)


def compare(target: Target, key: jax.Array, multiple: int) -> dict[str, Any]:
    """Normal, binomial and, at one step, two-point increments: runs of one length."""
    step = multiple * 2 * TOLERANCE / target.stiffness
    keys = jax.random.split(key, 3)
    normal = sample(target, keys[0], slt_rl.SGLD(step))
    row: dict[str, Any] = {"multiple": multiple, "step": step, "normal": normal}
    if normal is None:
        return row
    others = {"binomial": slt_rl.SGLD(step, binomial_increments=True)}
    others |= {"two-point": TwoPointSGLD(step)} if multiple == CONTROL else {}
    for i, (name, sampler) in enumerate(others.items(), 1):
        row[name] = sample(target, keys[i], sampler, num_blocks=normal["blocks"])
    return row


def sample(
    target: Target, key: jax.Array, sampler: Any, *, num_blocks: int | None = None
) -> dict[str, Any] | None:
    """Mean of `nbeta (L - L(w*))` over chains from the center; None if one of them diverged.

    Args:
        target: What is sampled.
        key: Random key, consumed.
        sampler: With a step that is a number.
        num_blocks: Length after the burn-in; by default until the mean is precise enough.
    """
    blocks = relaxed(target, key, sampler)
    total = np.zeros(NUM_CHAINS)
    for count in range(1, MAX_BLOCKS + 1):
        draws = next(blocks)[1]
        if not draws.alive.all():
            return None
        total += NBETA * draws.excess_loss[0].mean(axis=1, dtype=np.float64)
        mean, sem = total.mean() / count, total.std(ddof=1) / count / NUM_CHAINS**0.5
        if count == num_blocks or (num_blocks is None and sem < PRECISION * mean):
            break
    return {"mean": float(mean), "sem": float(sem), "blocks": count}


class Difference(NamedTuple):
    """Relative difference to normal increments and its standard error."""

    value: float
    sem: float


def differences(found: Sequence[dict[str, Any]], kind: str, multiple: int) -> dict[str, Difference]:
    """By problem, where both runs stayed finite."""
    chosen = {}
    for row in found:
        step = next(step for step in row["steps"] if step["multiple"] == multiple)
        normal, other = step["normal"], step.get(kind)
        if normal and other:
            value = other["mean"] / normal["mean"] - 1
            sem = np.hypot(other["sem"] / other["mean"], normal["sem"] / normal["mean"])
            chosen[row["case"]] = Difference(value, float(sem))
    return chosen


class Summary(NamedTuple):
    """Differences of all problems: their weighted mean, its error, chi-square and its p-value.

    `worst` is the largest standard error of a single one.
    """

    mean: float
    sem: float
    chi_square: float
    p: float
    count: int
    worst: float


def summarize(found: Sequence[Difference]) -> Summary:
    """The mean weighted by precision; the chi-square against no difference at all."""
    values, sems = (np.array(x) for x in zip(*found, strict=True))
    weights = sems**-2.0
    mean, chi_square = np.average(values, weights=weights), np.sum((values / sems) ** 2)
    tail = float(chi2.sf(chi_square, len(found)))
    error = float(weights.sum() ** -0.5)
    return Summary(float(mean), error, float(chi_square), tail, len(found), float(sems.max()))


def make_page(found: Sequence[dict[str, Any]]) -> pages.Page:
    """Checks and tables."""
    kinds = [("binomial", multiple) for multiple in MULTIPLES] + [("two-point", CONTROL)]
    compared = {kind: differences(found, *kind) for kind in kinds}
    totals = {kind: summarize(list(found.values())) for kind, found in compared.items()}
    checks = [_check(multiple, totals["binomial", multiple]) for multiple in MULTIPLES]
    header = ("increments", "step", "problems", "mean, %", "95 % interval, %", "chi-square")
    cells = [
        (name, f"{multiple}x", t.count, f"{100 * t.mean:+.3f}")
        + (f"{100 * (t.mean - Z95 * t.sem):+.3f} to {100 * (t.mean + Z95 * t.sem):+.3f}",)
        + (f"{t.chi_square:.1f} (p = {t.p:.2g})",)
        for (name, multiple), t in totals.items()
    ]
    tables = [pages.Table("All problems together", header, cells), _table(found)]
    figures = {"differences": difference_figure(compared, totals)}
    return pages.Page("increments", "Increments", ABSTRACT, checks, tables, figures)


def difference_figure(
    compared: Mapping[tuple[str, int], Mapping[str, Difference]],
    totals: Mapping[tuple[str, int], Summary],
) -> Figure:
    """Differences to normal increments with their 95 % intervals, all problems together below."""
    together = "all problems together"
    names = [*dict.fromkeys(name for found in compared.values() for name in found), together]
    with styled():
        figure = new_figure((7.6, 0.9 + 0.24 * len(names)))
        axes = figure.subplots(1, len(compared), sharex=True, sharey=True, squeeze=False)[0]
        for axis, ((kind, multiple), found) in zip(axes, compared.items(), strict=True):
            total = totals[kind, multiple]
            for name, (value, sem) in {**found, together: (total.mean, total.sem)}.items():
                color, place = (INK if name == together else "#2b83c6"), names.index(name)
                ends = 100 * (value - Z95 * sem), 100 * (value + Z95 * sem)
                axis.plot(ends, [place, place], color=color, lw=1.5)
                axis.plot([100 * value], [place], "o", ms=4, color=color)
            axis.axvline(0.0, color=INK, lw=0.8)
            axis.set_title(f"{kind}, {multiple}x the step")
        axes[0].set_yticks(range(len(names)), names)
        axes[0].invert_yaxis()
        figure.supxlabel("difference to normal increments, %", fontsize=9)
    return figure


def _check(multiple: int, total: Summary) -> pages.Check:
    """Whether binomial increments differ at one step, and how precisely that is known."""
    return pages.Check(
        f"shift {multiple}",
        f"binomial against normal increments at {multiple} times the calibrated step: chance of so "
        "large a chi-square without a shift",
        ">= 0.01",
        total.p,
        total.p >= 0.01,
        f"mean difference {total.mean:+.3%} +- {Z95 * total.sem:.3%}; standard error of one "
        f"problem at most {total.worst:.2%}",
    )


def _table(found: Sequence[dict[str, Any]]) -> pages.Table:
    header = ("problem", "normal, calibrated step")
    header += tuple(f"binomial at {m}x, %" for m in MULTIPLES) + (f"two-point at {CONTROL}x, %",)
    columns = [differences(found, "binomial", m) for m in MULTIPLES]
    columns.append(differences(found, "two-point", CONTROL))
    cells = []
    for row in found:
        normal = row["steps"][0]["normal"]
        cells.append(
            (row["case"], f"{normal['mean']:.4g}")
            + tuple(_cell(column.get(row["case"])) for column in columns)
        )
    return pages.Table("Differences to normal increments", header, cells, NOTE)


def _cell(found: Difference | None) -> str | None:
    if found is None:
        return None
    return f"{100 * found.value:+.2f} +- {100 * found.sem:.2f} ({found.value / found.sem:+.1f})"


if __name__ == "__main__":
    sys.exit(main())

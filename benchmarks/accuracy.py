"""Automatic estimates of every problem whose answer is known, against the answer.

    python -m benchmarks.accuracy [--tolerance 0.05] [--keys 4] [--problems SUBSTRING]

Exact potentials run at the given temperature and localization, data sets of 2000 examples at the
default temperature, and noisy labels also in minibatches of a sixtieth of it. No truth is supplied.
Writes `accuracy.md`, `.json` and figures; a run that was killed goes on where it stopped.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

import slt_rl
import toy_models
from benchmarks import analysis, pages, rows, runs
from benchmarks.accuracy_figures import figures

NUM_EXAMPLES = 2000
# Temperature over batch size at which minibatch noise overwhelms an untreated chain.
NOISE_NUMBER = 60
# A sampled value of a larger relative standard error is no truth.
MAX_REFERENCE_SEM = 0.01


@dataclasses.dataclass(frozen=True)
class SuiteCase:
    """A problem and how it is presented.

    Attributes:
        problem: The problem.
        mode: "exact", "data" or "minibatch".
        batch_size: Examples per minibatch.
    """

    problem: toy_models.ToyProblem
    mode: str
    batch_size: int | None = None

    @property
    def name(self) -> str:
        """Unique among the cases."""
        suffix = "" if self.mode == "exact" else f"/{self.mode}"
        return self.problem.name + suffix

    @property
    def num_parameters(self) -> int:
        """Size of the problem."""
        return sum(np.size(leaf) for leaf in jax.tree.leaves(self.problem.params))


def suite(problems: Iterable[toy_models.ToyProblem]) -> list[SuiteCase]:
    """Every problem as its exact potential, or else by data; noisy labels in all three ways."""
    nbeta = NUM_EXAMPLES / np.log(NUM_EXAMPLES)
    batch_size = max(1, round(nbeta / NOISE_NUMBER))
    cases = []
    for problem in problems:
        noisy = problem.loss_fn is not None and "noisy" in problem.name
        if problem.potential is not None:
            cases.append(SuiteCase(problem, "exact"))
        if noisy or problem.potential is None:
            cases.append(SuiteCase(problem, "data"))
        if noisy:
            cases.append(SuiteCase(problem, "minibatch", batch_size))
    return cases


class Truth(NamedTuple):
    """What an estimate is compared with.

    Attributes:
        value: The value at finite temperature; None where it is not known.
        sem: Its standard error, zero of an exact value.
        kind: "exact", "sampled" or None.
    """

    value: float | None
    sem: float
    kind: str | None


def truth_of(problem: toy_models.ToyProblem, nbeta: float, localization: float) -> Truth:
    """The exact value at finite temperature; else the sampled one, unless its error is above 1 %.

    Raises:
        ValueError: If the sampled value belongs to another potential or center.
    """
    if problem.finite_llc is not None:
        return Truth(float(problem.finite_llc(nbeta, localization)), 0.0, "exact")
    found = problem.reference(nbeta, localization)
    if found is None or found.sem > MAX_REFERENCE_SEM * abs(found.mean):
        return Truth(None, 0.0, None)
    return Truth(found.mean, found.sem, "sampled")


def measure(case: SuiteCase, key: jax.Array, options: argparse.Namespace) -> dict[str, Any]:
    """One estimate with everything automatic, beside its reference."""
    problem = case.problem
    key_data, key_llc = jax.random.split(key)
    if case.mode == "exact":
        arguments: dict[str, Any] = {"loss_fn": problem.potential, "nbeta": options.nbeta}
    else:
        data = problem.dataset(key_data, NUM_EXAMPLES)  # type: ignore[misc]
        arguments = {"loss_fn": problem.loss_fn, "data": data, "batch_size": case.batch_size}
    estimate = slt_rl.estimate_llc(
        key_llc,
        params=problem.params,
        localization=options.localization,
        tolerance=options.tolerance,
        **arguments,
    )
    truth = truth_of(problem, float(estimate.nbeta), float(estimate.localization))
    return rows.estimate_row(estimate) | {
        "reference": truth.value,
        "reference_sem": truth.sem,
        "truth": truth.kind,
        "llc": problem.llc,
        "multiplicity": problem.multiplicity,
        "kind": problem.kind,
        "mode": case.mode,
        "parameters": case.num_parameters,
        "family": getattr(problem, "family", None) or analysis.family(problem.name),
    }


def make_page(found: Sequence[dict[str, Any]], tolerance: float, name: str) -> pages.Page:
    """Checks, tables and figures of the rows."""
    found = [{"family": None, "mode": None, "kind": None, "truth": None} | row for row in found]
    tables = [
        analysis.group_table("By family", found, lambda row: str(row["family"])),
        analysis.group_table("By presentation", found, lambda row: f"{row['kind']}, {row['mode']}"),
        analysis.group_table("By truth", found, lambda row: row["truth"] or "none"),
        analysis.group_table("By verdict", found, lambda row: row["verdict"]),
        analysis.group_table("By regime", found, lambda row: str(row["regime"])),
        analysis.worst_table(found),
        every_row(found),
    ]
    abstract = (
        "Estimates with automatic calibration and no truth supplied, against the value at the same "
        "temperature and localization: an exact one, or a sampled reference with its own standard "
        "error (`truth` says which). Errors are relative; a quantile is the smallest error that "
        "at least this share of runs does not exceed; no run is left out."
    )
    checks = analysis.make_checks(found, tolerance)
    title = f"Accuracy of automatic estimates, tolerance {tolerance:g}"
    return pages.Page(name, title, abstract, checks, tables, figures(found))


def every_row(found: Sequence[dict[str, Any]]) -> pages.Table:
    """One line for each run."""
    columns = ("case", "key", "llc", "truth", "reference", "reference_sem", "estimate", "sem")
    columns += ("verdict", "regime", "seconds")
    cells = [tuple(row.get(column) for column in columns) for row in found]
    return pages.Table("Every run", columns, cells, "`llc` is the limit at infinite `nbeta`.")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = runs.parser(__doc__)
    parser.add_argument("--nbeta", type=float, default=1e4, help="for exact potentials")
    parser.add_argument("--localization", type=float, default=10.0)
    parser.add_argument("--tolerance", type=float, default=0.05)
    parser.add_argument("--keys", type=int, default=4, help="runs of each problem")
    parser.add_argument("--problems", default="", help="only names that contain this")
    parser.add_argument("--max-parameters", type=int, default=10**9)
    parser.add_argument("--exact-only", action="store_true", help="only exact potentials")
    return parser.parse_args(arguments)


def chosen(options: argparse.Namespace) -> list[SuiteCase]:
    """The cases that the options ask for."""
    return [
        case
        for case in suite(toy_models.problems())
        if options.problems in case.name
        and case.num_parameters <= options.max_parameters
        and (case.mode == "exact" or not options.exact_only)
    ]


def main() -> int:
    """Runs what is missing, then writes the results."""
    options = parse()
    jax.config.update("jax_enable_x64", True)
    settings = {name: getattr(options, name) for name in ("nbeta", "localization", "tolerance")}
    name = "accuracy" if options.tolerance == 0.05 else f"accuracy_tolerance_{options.tolerance:g}"
    cases = chosen(options)
    for case in cases:
        # A stale reference ends the run before it begins, and is not taken for a refusal.
        case.problem.reference(options.nbeta, options.localization)
    return runs.run(
        rows.open_journal(name, settings, "benchmarks/accuracy.py"),
        cases,
        lambda case, key: measure(case, key, options),
        make_page=lambda found: make_page(found, options.tolerance, name),
        options=options,
        num_keys=options.keys,
    )


if __name__ == "__main__":
    sys.exit(main())

"""Samples the problems that have no exact value at finite temperature, slowly and without bias.

    python -m benchmarks.make_references [--problems SUBSTRING] [--sem 0.002] [--again]

Hamiltonian Monte Carlo on the exact potential in float64, every trajectory accepted or rejected.
Each problem is stored in `toy_models/references.json` as soon as it is done; one that has a
reference with these settings is passed over.
"""

import argparse
import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

import toy_models
from benchmarks import pages, rows
from benchmarks.dispersed_hmc import Run, sample
from slt_rl.array_files import write_file
from slt_rl.report import collect_provenance
from toy_models import references


class Pooled(NamedTuple):
    """Both seeds together, each weighted by its draws."""

    mean: float
    sem: float
    z: float
    faults: tuple[str, ...]
    runs: tuple[Run, ...]


def make_reference(
    key: jax.Array,
    problem: toy_models.ToyProblem,
    nbeta: float,
    *,
    localization: float,
    sem: float = 0.002,
    seconds: float = np.inf,
) -> Pooled:
    """The value at finite temperature by two runs that share nothing; the second has half the step.

    Args:
        key: Random key, consumed.
        problem: Its exact potential is sampled, from its center.
        nbeta: Inverse temperature.
        localization: In 1/parameter^2, positive.
        sem: Relative standard error of the result at which both runs stop.
        seconds: Processor time after which a run stops all the same.

    Returns:
        The pooled value and what is wrong with it.

    Raises:
        ValueError: If the problem has no exact potential or the localization is not positive.
    """
    if problem.potential is None:
        raise ValueError(f"problem: got {problem.name!r}, expected one with an exact potential")
    if not localization > 0:
        raise ValueError(f"localization: got {localization}, expected a positive number")
    # Two runs of this error have the stated one together.
    limits = {"sem": 2**0.5 * sem, "seconds": seconds, "localization": localization}
    keys = jax.random.split(key)
    return pool(
        [sample(k, problem, nbeta, step=s, **limits) for k, s in zip(keys, (1.0, 0.5), strict=True)]
    )


def pool(runs: Sequence[Run]) -> Pooled:
    """Averages the runs and compares them."""
    weights = np.array([run.draws for run in runs], float)
    weights /= weights.sum()
    means, sems = np.array([run.mean for run in runs]), np.array([run.sem for run in runs])
    z = float((means[1] - means[0]) / np.hypot(*sems))
    faults = {fault for run in runs for fault in run.faults}
    if not abs(z) < 3:
        faults.add(f"the two seeds differ by {z:.1f} standard errors")
    sem = float(np.sqrt(np.sum((weights * sems) ** 2)))
    return Pooled(float(weights @ means), sem, z, tuple(sorted(faults)), tuple(runs))


def without_exact_value() -> list[toy_models.ToyProblem]:
    """What a reference is made for: problems with an exact potential and no exact value."""
    return [p for p in toy_models.problems() if p.finite_llc is None and p.potential is not None]


def as_row(
    problem: toy_models.ToyProblem,
    found: Pooled,
    made: dict[str, Any],
    *,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """What is stored of one problem."""
    assert problem.potential is not None
    return {
        "nbeta": options.nbeta,
        "localization": options.localization,
        "mean": found.mean,
        "sem": found.sem,
        "probes": references.probe(problem.potential, problem.params).tolist(),
        "z": found.z,
        "runs": [run._asdict() for run in found.runs],
        "made": made,
    }


def store(path: Path, name: str, row: dict[str, Any]) -> None:
    """Puts a row in place of that of the same problem, temperature and localization."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    same = (row["nbeta"], row["localization"])
    others = [r for r in content.get(name, []) if (r["nbeta"], r["localization"]) != same]
    content[name] = [*others, row]
    # One line for each value: a changed value is one changed line.
    lines = [
        f"{json.dumps(key)}: [\n" + ",\n".join(json.dumps(r) for r in content[key]) + "\n]"
        for key in sorted(content)
    ]
    write_file(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def is_done(problem: toy_models.ToyProblem, options: argparse.Namespace) -> bool:
    """Whether the file already has a value of this problem that is not stale."""
    stored = references.stored_references(options.out).get(problem.name, ())
    return not options.again and any(
        (r.nbeta, r.localization) == (options.nbeta, options.localization)
        and not references.is_stale(r, problem.potential, problem.params)
        for r in stored
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nbeta", type=float, default=1e4)
    parser.add_argument("--localization", type=float, default=10.0)
    parser.add_argument("--sem", type=float, default=0.002, help="relative, to stop at")
    parser.add_argument(
        "--seconds", type=float, default=90.0, help="of processor time, for each of two runs"
    )
    parser.add_argument("--problems", default="", help="only names that contain this")
    parser.add_argument("--again", action="store_true", help="also what is stored already")
    parser.add_argument("--out", type=Path, default=references.PATH)
    return parser.parse_args(arguments)


def main() -> int:
    """Samples what is missing; the status is 1 if a value had to be rejected."""
    options = parse()
    jax.config.update("jax_enable_x64", True)
    provenance = collect_provenance({}, {})
    made = {"command": pages.command(), "date": datetime.date.today().isoformat()}
    made |= {name: getattr(provenance, name) for name in ("commit", "versions", "machine")}
    chosen = [p for p in without_exact_value() if options.problems in p.name]
    # Small ones first: a run that is cut short has done most of its work.
    chosen.sort(key=lambda p: sum(np.size(leaf) for leaf in jax.tree.leaves(p.params)))
    rejected = 0
    for problem in tqdm(chosen, disable=None):
        if is_done(problem, options):
            continue
        found = make_reference(
            rows.case_key(f"reference/{problem.name}", 0),
            problem,
            options.nbeta,
            localization=options.localization,
            sem=options.sem,
            seconds=options.seconds,
        )
        verdict = "; ".join(found.faults) or "stored"
        print(
            f"{problem.name}: {found.mean:.5g} +- {found.sem:.2g}, z {found.z:.1f}: {verdict}",
            flush=True,
        )
        if found.faults:
            rejected += 1
        else:
            store(options.out, problem.name, as_row(problem, found, made, options=options))
        jax.clear_caches()
    return int(rejected > 0)


if __name__ == "__main__":
    sys.exit(main())

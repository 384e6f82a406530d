"""Automatic estimates of every problem whose answer is known, against the answer.

    python benchmarks/accuracy.py [--nbeta 8686] [--localization 10] [--out benchmarks/results]

Exact potentials run at the given temperature; problems with data at n = 2000 and nbeta = n/log n.
Writes `accuracy.md` and `accuracy.json` with the command, commit, versions and machine class.
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

import slt_rl
import toy_models
from slt_rl.report import collect_provenance

NUM_EXAMPLES = 2000


def main() -> int:
    """Runs all problems and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nbeta", type=float, default=8686.0)
    parser.add_argument("--localization", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = [
        measure(problem, jax.random.fold_in(jax.random.key(options.seed), i), options)
        for i, problem in enumerate(tqdm(toy_models.problems(), disable=None))
    ]
    provenance = collect_provenance(vars(options) | {"out": str(options.out)}, {})
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(
        {"rows": rows, "command": sys.argv, **dataclasses.asdict(provenance)}, indent=1, default=str
    )
    (options.out / "accuracy.json").write_text(text + "\n")
    (options.out / "accuracy.md").write_text(as_markdown(rows, provenance))
    return 0


def measure(problem: toy_models.ToyProblem, key: jax.Array, options: Any) -> dict[str, Any]:
    """One estimate with everything automatic, beside its exact values."""
    key_data, key_llc = jax.random.split(key)
    start = time.perf_counter()
    if problem.potential is not None:
        result = slt_rl.estimate_llc(
            key_llc,
            problem.potential,
            problem.params,
            nbeta=options.nbeta,
            localization=options.localization,
        )
    else:
        data = problem.dataset(key_data, NUM_EXAMPLES)
        result = slt_rl.estimate_llc(
            key_llc, problem.loss_fn, problem.params, data, localization=options.localization
        )
    exact = None
    if problem.finite_llc is not None:
        exact = float(problem.finite_llc(result.nbeta, result.localization))
    return {
        "problem": problem.name,
        "kind": problem.kind,
        "llc": problem.llc,
        "finite_llc": exact,
        "estimate": result.mean,
        "sem": result.sem,
        "z": None if exact is None else (result.mean - exact) / result.sem,
        "relative": None if exact is None else result.mean / exact - 1,
        "verdict": result.verdict,
        "regime": result.regime,
        "flags": list(result.flags),
        "gradients": result.num_gradient_evaluations,
        "seconds": time.perf_counter() - start,
    }


def as_markdown(rows: list[dict[str, Any]], provenance: Any) -> str:
    """The results as a page."""
    columns = ("problem", "kind", "llc", "finite_llc", "estimate", "sem", "z", "verdict", "regime")
    lines = [
        "# Automatic estimates against exact values",
        "",
        f"Command `{' '.join(sys.argv)}`; commit {provenance.commit}; "
        + ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
        + f"; {provenance.machine['cores']} cores, {provenance.machine['processor']}.",
        "",
        "`finite_llc` is the exact value at the estimate's own (nbeta, localization); `llc` its "
        "limit; `z` the error in standard errors.",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
    ]
    lines += ["| " + " | ".join(_cell(row[c]) for c in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())

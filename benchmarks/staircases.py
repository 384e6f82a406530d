"""Opposing staircases of a linear policy: regret down, learning coefficient up, exact phases.

    python -m benchmarks.staircases [--runs 20] [--nulls 200]

Trains a contextual bandit by gradient descent on the exact regret and by REINFORCE, and takes the
learning coefficient of the KL to the policy of every record. Transitions are found from the curves
alone and compared with those of the exact phases. Writes `staircases.md`, `.json` and figures; a
run that was killed goes on where it stopped.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import slt_rl
from benchmarks import pages, rows, staircases_summary
from slt_rl.tempered_smc import normal_prior, tempered_smc
from toy_models import staircases

NBETA, CURVE_NBETA, LOCALIZATION = 1e4, 1e3, 1.0
CURVE_DRAWS, CURVE_BURNIN = 4096, 1024
PHASE_KEYS = 4


@dataclasses.dataclass(frozen=True)
class PhaseCase:
    """The learning coefficient at the record of a run that is nearest to a phase."""

    rank: int

    @property
    def name(self) -> str:
        """Unique among the cases."""
        return f"phase {self.rank}"


@dataclasses.dataclass(frozen=True)
class CurveCase:
    """All runs of a trainer."""

    trainer: str
    gradient_fn: Callable
    num_runs: int

    @property
    def name(self) -> str:
        """Unique among the cases."""
        return f"curve {self.trainer}"


@functools.lru_cache
def trained(gradient_fn: Callable, num_runs: int) -> staircases.Records:
    """All runs of a trainer, made once."""
    return staircases.train(jax.random.key(1), num_runs, gradient_fn)


def measure_phase(case: PhaseCase, key: jax.Array) -> dict[str, Any]:
    """Tempered SMC from the prior `N(record, 1)`, and the library's automatic estimate."""
    params = jax.tree.map(lambda leaf: leaf[0], trained(staircases.exact_gradient, 1).params)
    phase = staircases.phases()[case.rank]
    regrets = np.asarray(jax.vmap(staircases.regret)(params))
    nearest = int(np.argmin(np.abs(regrets - phase.regret)))
    center = jax.tree.map(lambda leaf: leaf[nearest], params)
    potential = functools.partial(staircases.policy_kl, center=center)
    key_smc, key_llc = jax.random.split(key)
    samples = tempered_smc(
        key_smc, potential, normal_prior(center), nbetas=[1e2, 1e3, NBETA], num_leapfrog=4
    )
    estimate = slt_rl.estimate_llc(
        key_llc, potential, center, nbeta=NBETA, localization=LOCALIZATION, tolerance=0.02
    )
    return {
        "record": nearest,
        "regret": float(regrets[nearest]),
        "smc": (samples.nbetas * samples.losses.mean(axis=1)).tolist(),
        **rows.estimate_row(estimate),
    }


def make_target(params: staircases.Layers) -> Callable:
    """The KL to the policy of a record."""
    return functools.partial(staircases.policy_kl, center=params)


def measure_curves(case: CurveCase, key: jax.Array) -> dict[str, Any]:
    """Regret, phase and estimate at every record of all runs, as lists `[run][record]`."""
    records = trained(case.gradient_fn, case.num_runs)
    shape = (case.num_runs, len(records.steps))
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), records.params)
    curve = slt_rl.llc_curve(
        key,
        make_target,
        flat,
        nbeta=CURVE_NBETA,
        localization=LOCALIZATION,
        num_draws=CURVE_DRAWS,
        num_burnin=CURVE_BURNIN,
        chunk_size=101,
    )

    def by_run(values):
        return np.asarray(values).reshape(shape).tolist()

    return {
        "trainer": case.trainer,
        "steps": records.steps.tolist(),
        "labels": staircases.classify(records.params).tolist(),
        "regret": by_run(jax.vmap(staircases.regret)(flat)),
        "llc": by_run([float(estimate.mean) for estimate in curve]),
        "sem": by_run([float(estimate.sem) for estimate in curve]),
        "verdicts": by_run([estimate.verdict for estimate in curve]),
    }


def main() -> int:
    """Measures and writes the page; 0 only if every check held."""
    parser = pages.parser(__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--nulls", type=int, default=200)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    settings = {"runs": options.runs}
    journal = rows.open_journal("staircases", settings, "benchmarks/staircases.py")
    phases = [PhaseCase(phase.rank) for phase in staircases.phases()]
    found = rows.run_cases(journal, phases, measure_phase, num_keys=PHASE_KEYS)
    trainers = {
        "gradient descent": staircases.exact_gradient,
        "REINFORCE": staircases.reinforce_gradient,
    }
    cases = [CurveCase(name, fn, options.runs) for name, fn in trainers.items()]
    curves = rows.run_cases(journal, cases, measure_curves)
    page = staircases_summary.make_page(found, curves, num_nulls=options.nulls)
    pages.write_page(page, [*found, *curves], settings, folder=options.out)
    return int(not all(check.held for check in page.checks))


if __name__ == "__main__":
    sys.exit(main())

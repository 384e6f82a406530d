"""Cheese in the corner: regret and learning coefficients of PPO agents while they learn a maze.

    python -m benchmarks.cheese [--quick | --gpu] [--alpha 0.02] [--out benchmarks/results]

Trains all seeds of a share `alpha` of levels with the cheese off the corner in one program, then
takes three LLC curves of each: under the KL to the frozen policy on all states, under the exact
regret, and under the KL on corner levels alone. Writes `cheese.md`, `.json` and a figure
(with `_quick` or `_gpu`); a run that was killed goes on where it stopped.
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import slt_rl
from benchmarks import cheese_agents, cheese_figure, cheese_page, rows, runs
from benchmarks.cheese_agents import MazeCase, agents_of
from slt_rl.posterior import mean_loss
from slt_rl.responses import group_susceptibility
from slt_rl.rl import policy_kl
from toy_models.cheese_exact import CheeseProcess, CheeseRegret

PyTree = Any
NBETA, LOCALIZATION, TOLERANCE, NUM_CHAINS = 1_000.0, 10.0, 0.1, 4
OBSERVE_EVERY = 8


class Targets(NamedTuple):
    """What seeds are measured by; the same objects for all of a case, which so share programs.

    Attributes:
        potentials: `params -> exact potential`, by name.
        behavior: What is observed at draws.
    """

    potentials: dict[str, Callable]
    behavior: Callable


@functools.lru_cache(maxsize=1)
def targets_of(case: MazeCase) -> Targets:
    """The potentials of a case."""
    regret = agents_of(case).regret
    return Targets(potentials(regret), Behavior(regret))


def potentials(regret: CheeseRegret) -> dict[str, Callable]:
    """`params -> exact potential` by name.

    In the divergences all states count alike, whatever the share of their levels: they are
    enumerated, no sample, and the same for every checkpoint and share. Regret is that of the law
    under which the agent was trained.
    """
    process, policy = regret.process, regret.policy

    def divergence(chosen):
        observations = jnp.asarray(process.observations[chosen])
        return lambda params: functools.partial(mean_loss, *policy_kl(policy, params, observations))

    states = process.starts > 0
    corner = states & process.levels.in_corner[:, None]
    return {
        "KL": divergence(states),
        "regret": lambda params: regret,
        "KL corner": divergence(corner),
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Behavior:
    """What is observed at draws: the policy, and the regret of both classes of levels."""

    regret: CheeseRegret

    def __call__(self, params: PyTree) -> dict[str, jax.Array]:
        """Log probabilities `[level, cell, action]` and mean regrets `[class]`, corner first."""
        process = self.regret.process
        log_policy = process.log_policy(self.regret.policy, params)
        regrets = process.regrets(jnp.exp(log_policy)) / self.regret.unit
        corner = process.levels.in_corner
        means = jnp.stack([jnp.mean(regrets[corner]), jnp.mean(regrets[~corner])])
        return {"log_policy": log_policy, "regret": means}


def measure(case: MazeCase, key: jax.Array) -> dict[str, Any]:
    """Regret and LLC curves of the agent that was trained with a key."""
    spent = time.process_time()
    agents = agents_of(case)
    same = jax.random.key_data(agents.keys) == jax.random.key_data(key)
    seed = int(np.flatnonzero(np.all(same, axis=-1))[0])
    chosen = case.checkpoints
    params = jax.tree.map(lambda x: jnp.asarray(x[chosen, seed]), agents.params)
    curves, seconds = {}, {}
    for number, name in enumerate(targets_of(case).potentials):
        start = time.perf_counter()
        curves[name] = curve(jax.random.fold_in(key, number), case, name, params=params)
        seconds[name] = time.perf_counter() - start
    log_policy = functools.partial(agents.process.log_policy, agents.policy)
    tables = np.asarray(jax.jit(jax.vmap(log_policy))(params), np.float64)
    regrets, corner = agents.regrets[:, seed], agents.process.levels.in_corner
    return {
        "alpha": case.alpha,
        "records": list(case.records),
        "checkpoints": [case.records[i] for i in chosen],
        "regret": {
            "law": (regrets @ np.asarray(agents.process.levels.law)).tolist(),
            "corner": regrets[:, corner].mean(axis=1).tolist(),
            "off corner": regrets[:, ~corner].mean(axis=1).tolist(),
        },
        "curves": {name: columns(found) for name, found in curves.items()},
        "susceptibility": susceptibilities(agents.process, tables, curves["KL"]),
        "corner_divergence": corner_divergences(agents.process, tables).tolist(),
        "num_parameters": sum(x[0].size for x in jax.tree.leaves(params)),
        "num_states": int(np.count_nonzero(agents.process.starts)),
        "uniform_regret": agents.process.uniform_regret,
        "seconds_train": agents.seconds,
        "seconds_curve": seconds,
        "processor_seconds": time.process_time() - spent,
    }


def curve(key: jax.Array, case: MazeCase, name: str, *, params: PyTree) -> slt_rl.LLCCurve:
    """One LLC curve."""
    targets = targets_of(case)
    return slt_rl.llc_curve(
        key,
        targets.potentials[name],
        params,
        nbeta=NBETA,
        localization=LOCALIZATION,
        num_chains=NUM_CHAINS,
        num_draws=case.num_draws,
        tolerance=TOLERANCE,
        chunk_size=-(-len(case.checkpoints) // 2),
        observe_fn=targets.behavior if name == "KL" else None,
        observe_every=OBSERVE_EVERY,
    )


def columns(found: slt_rl.LLCCurve) -> dict[str, list]:
    """A curve as JSON values, one list for each column."""
    low, high = found.interval().T
    numbers = {"llc": found.mean, "sem": found.sem, "low": low, "high": high}
    kept: dict[str, list] = {k: [_rounded(x) for x in v] for k, v in numbers.items()}
    kept["verdict"] = list(found.verdicts)
    kept["regime"] = [estimate.regime for estimate in found.estimates]
    # What a flag says before it gives numbers and advice.
    kept["flags"] = [[f.split(":")[0][:90] for f in e.flags] for e in found.estimates]
    return kept


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def susceptibilities(
    process: CheeseProcess, tables: np.ndarray, found: slt_rl.LLCCurve
) -> dict[str, list]:
    """How the regret of each class answers when the law of states moves to off-corner levels.

    `nbeta group_susceptibility`: the derivative of the posterior mean of the regret of a class
    along `(1 - h) all states alike + h off-corner states alike`.

    Args:
        process: The levels as processes.
        tables: Log probabilities `[checkpoint, level, cell, action]` of the centers.
        found: The curve with what `Behavior` observed.
    """
    states, corner = process.starts > 0, process.levels.in_corner
    classes = [states & corner[:, None], states & ~corner[:, None]]
    before = np.array([chosen.sum() for chosen in classes]) / states.sum()
    kept: dict[str, list] = {"corner": [], "off corner": []}
    for center, estimate in zip(tables, found.estimates, strict=True):
        log_policy = np.asarray(estimate.observations["log_policy"], np.float64)
        terms = np.sum(np.exp(center) * (center - log_policy), axis=-1)
        losses = np.stack([terms[..., chosen].mean(axis=-1) for chosen in classes], axis=-1)
        for number, name in enumerate(kept):
            answer = group_susceptibility(
                estimate.observations["regret"][..., number],
                losses,
                before=before,
                after=np.array([0.0, 1.0]),
            )
            kept[name].append([_rounded(NBETA * answer.value), _rounded(NBETA * answer.sem)])
    return kept


def corner_divergences(process: CheeseProcess, tables: np.ndarray) -> np.ndarray:
    """Mean symmetric divergence of the policies of two checkpoints on corner levels, in nats."""
    corner = (process.starts > 0) & process.levels.in_corner[:, None]
    logs = np.asarray(tables[:, corner], np.float64)
    policy = np.exp(logs)
    own = np.einsum("isa,isa->i", policy, logs)
    cross = np.einsum("isa,jsa->ij", policy, logs)
    return ((own[:, None] - cross + own - cross.T) / 2 / policy.shape[1]).round(6)


def settings(case: MazeCase) -> dict[str, Any]:
    """What the rows depend on besides the source."""
    sizes = dataclasses.asdict(case)
    del sizes["alpha"], sizes["make_levels"]
    return sizes | {
        "levels": case.make_levels.__name__.strip("_"),
        "nbeta": NBETA,
        "localization": LOCALIZATION,
        "tolerance": TOLERANCE,
        "num_chains": NUM_CHAINS,
        "discount": cheese_agents.DISCOUNT,
        "entropy_weight": cheese_agents.ENTROPY_WEIGHT,
        "learning_rate": cheese_agents.LEARNING_RATE,
        "num_steps": cheese_agents.NUM_STEPS,
    }


def main() -> int:
    """Runs what is missing, then writes the results."""
    parser = runs.parser(__doc__)
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--quick", action="store_true", help="two seeds and short chains")
    parser.add_argument("--alpha", type=float, help="only this share of off-corner levels")
    scale.add_argument("--gpu", action="store_true", help="a grid of 13 by 13 with walls")
    options = parser.parse_args()
    every = cheese_agents.cases(quick=options.quick, gpu=options.gpu)
    chosen = [case for case in every if options.alpha in (None, case.alpha)]
    if not chosen:
        parser.error(f"--alpha: expected one of {[case.alpha for case in every]}")
    made = settings(chosen[0])
    name = "cheese" + "_quick" * options.quick + "_gpu" * options.gpu
    sources = "benchmarks/cheese.py", "benchmarks/cheese_agents.py", "slt_rl/rl/potentials/*.py"
    return runs.run(
        rows.open_journal(name, made, *sources),
        chosen,
        measure,
        make_page=lambda found: cheese_page.make_page(
            found, made, name=name, curves=cheese_figure.curves(found)
        ),
        options=options,
        num_keys=chosen[0].num_seeds,
    )


if __name__ == "__main__":
    sys.exit(main())

"""Cheese in the corner: regret and learning coefficients of PPO agents while they learn a maze.

    python -m benchmarks.cheese [--quick | --gpu] [--out benchmarks/results]

Trains all seeds of a share `alpha` of levels with the cheese off the corner in one program, then
takes three LLC curves of each: under the KL to the frozen policy on all states, under the exact
regret, and under the KL on corner levels alone. Writes `cheese.md`, `.json` and `.png` (with
`_quick` or `_gpu`); a run that was killed goes on where it stopped.
"""

import argparse
import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import slt_rl
from benchmarks import cheese_page, pages, rows
from slt_rl.responses import group_susceptibility
from slt_rl.rl import (
    PPO,
    CategoricalPolicy,
    GymnaxEnv,
    ValueNetwork,
    clipped_adam,
    init_runs,
    linear_schedule,
    log_schedule,
    policy_kl,
    train,
)
from toy_models.cheese import CheeseEnv, CheeseParams, Levels, block_levels, open_levels
from toy_models.cheese_exact import CheeseProcess, CheeseRegret, ConvNet, cheese_process

PyTree = Any
NBETA, LOCALIZATION, TOLERANCE, NUM_CHAINS = 1_000.0, 10.0, 0.1, 4
DISCOUNT, ENTROPY_WEIGHT, LEARNING_RATE = 0.9, 0.01, 1e-3
OBSERVE_EVERY = 8


@dataclasses.dataclass(frozen=True)
class MazeCase:
    """A set of levels, and how agents are trained and measured on it.

    Attributes:
        alpha: Share of levels with the cheese off the corner.
        make_levels: `alpha -> levels`.
        channels: Channels of the convolutions of actor and critic.
        num_seeds: Agents, trained in one program.
        num_iterations: Iterations of PPO.
        num_records: Records of the exact regret after the start, evenly spaced.
        num_envs: Environments of each agent.
        num_draws: Draws per chain under the KL on all states; half of it for the others.
    """

    alpha: float
    make_levels: Callable[[float], Levels]
    channels: tuple[int, ...] = (6, 8)
    num_seeds: int = 12
    num_iterations: int = 400
    num_records: int = 100
    num_envs: int = 16
    num_draws: int = 2_048

    @property
    def name(self) -> str:
        """Unique among the cases."""
        return f"alpha {self.alpha:g}"

    @property
    def records(self) -> tuple[int, ...]:
        """Iterations at which the regret is recorded."""
        return (0, *linear_schedule(self.num_iterations, self.num_records))

    @property
    def checkpoints(self) -> np.ndarray:
        """Numbers of the records at which LLCs are taken: a fifth of all, more of them early."""
        early = (0, *log_schedule(self.num_records // 5, 4))
        return np.unique([*early, *linear_schedule(self.num_records, self.num_records // 5)])


def cases(*, quick: bool, gpu: bool) -> list[MazeCase]:
    """The shares that are compared; without any level off the corner nothing asks for the cheese."""
    if quick:
        small = {"num_seeds": 2, "num_iterations": 200, "num_records": 50, "num_draws": 256}
        return [MazeCase(0.02, _open, **small)]
    if gpu:
        large = {"channels": (16, 32, 32), "num_iterations": 4_000, "num_envs": 128}
        return [MazeCase(alpha, _blocks, **large) for alpha in (0.0, 0.02)]
    return [MazeCase(alpha, _open) for alpha in (0.0, 0.02)]


def _open(alpha: float) -> Levels:
    return open_levels(5, alpha)


def _blocks(alpha: float) -> Levels:
    return block_levels(jax.random.key(7), 13, alpha, num_layouts=16)


class Agents(NamedTuple):
    """Everything that the seeds of a case share.

    Attributes:
        keys: `[seed]`, the key of each run.
        process: The levels as processes.
        policy: `(params, observation) -> Categorical`.
        params: Policy parameters `[record, seed]`, on the host.
        regrets: Exact regret of each level `[record, seed, level]`, in units of the uniform policy.
        targets: `params -> potential`, by name.
        behavior: What is observed at draws.
        seconds: Time of training, compilation included.
    """

    keys: jax.Array
    process: CheeseProcess
    policy: CategoricalPolicy
    params: PyTree
    regrets: np.ndarray
    targets: dict[str, Callable]
    behavior: Callable
    seconds: float


@functools.lru_cache(maxsize=1)
def agents_of(case: MazeCase) -> Agents:
    """Trains the agents of a case."""
    start = time.perf_counter()
    levels = case.make_levels(case.alpha)
    process = cheese_process(levels, DISCOUNT)
    actor, critic = ConvNet(4, case.channels, output_scale=0.01), ConvNet(1, case.channels)
    policy = CategoricalPolicy(actor.apply)
    ppo = PPO(
        policy=policy,
        value_fn=ValueNetwork(critic.apply),
        optimizer=clipped_adam(LEARNING_RATE),
        num_envs=case.num_envs,
        num_steps=32,
        discount=DISCOUNT,
        entropy_weight=ENTROPY_WEIGHT,
    )
    seen = process.observations[0, 0]

    def init_fn(key):
        key_actor, key_critic = jax.random.split(key)
        return {"policy": actor.init(key_actor, seen), "value": critic.init(key_critic, seen)}

    env = GymnaxEnv(CheeseEnv(levels), CheeseParams(levels=levels))
    keys = jnp.stack([rows.case_key(case.name, seed) for seed in range(case.num_seeds)])
    states = init_runs(keys, ppo, env, init_fn=init_fn)
    regret = CheeseRegret(process, policy, process.uniform_regret)
    per_level = jax.jit(jax.vmap(regret.per_level))
    found = []
    for now, _ in train(keys, ppo, env, states=states, checkpoints=case.records):
        params = now.params["policy"]
        found.append(jax.tree.map(np.asarray, (params, per_level(params))))
    params, regrets = jax.tree.map(lambda *x: np.stack(x), *found)
    targets, behavior = potentials(regret), Behavior(regret)
    seconds = time.perf_counter() - start
    return Agents(keys, process, policy, params, regrets, targets, behavior, seconds)


def potentials(regret: CheeseRegret) -> dict[str, Callable]:
    """`params -> exact potential` by name.

    In the divergences all states count alike, whatever the share of their levels: they are
    enumerated, no sample, and the same for every checkpoint and share. Regret is that of the law
    under which the agent was trained.
    """
    process, policy = regret.process, regret.policy

    def divergence(chosen):
        observations = jnp.asarray(process.observations[chosen])

        def make(params):
            loss_fn, data = policy_kl(policy, params, observations)
            return lambda w: jnp.mean(loss_fn(w, data.examples))

        return make

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
        table = self.regret.process.policy_table(self.regret.policy, params)
        regrets = self.regret.process.regrets(table) / self.regret.unit
        corner = self.regret.process.levels.in_corner
        means = jnp.stack([jnp.mean(regrets[corner]), jnp.mean(regrets[~corner])])
        return {"log_policy": jnp.log(table), "regret": means}


def measure(case: MazeCase, key: jax.Array) -> dict[str, Any]:
    """Regret and LLC curves of the agent that was trained with a key."""
    agents = agents_of(case)
    same = jax.random.key_data(agents.keys) == jax.random.key_data(key)
    seed = int(np.flatnonzero(np.all(same, axis=-1))[0])
    chosen = case.checkpoints
    params = jax.tree.map(lambda x: jnp.asarray(x[chosen, seed]), agents.params)
    curves, seconds = {}, {}
    for number, (name, make) in enumerate(agents.targets.items()):
        start = time.perf_counter()
        curves[name] = curve(jax.random.fold_in(key, number), make, params, case, agents.behavior)
        seconds[name] = time.perf_counter() - start
    tables = jax.jit(jax.vmap(functools.partial(agents.process.policy_table, agents.policy)))(
        params
    )
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
        "susceptibility": susceptibilities(agents.process, np.asarray(tables), curves["KL"]),
        "corner_divergence": corner_divergences(agents.process, np.asarray(tables)).tolist(),
        "num_parameters": sum(x[0].size for x in jax.tree.leaves(params)),
        "num_states": int(np.count_nonzero(agents.process.starts)),
        "uniform_regret": agents.process.uniform_regret,
        "seconds_train": agents.seconds,
        "seconds_curve": seconds,
    }


def curve(
    key: jax.Array, make: Callable, params: PyTree, case: MazeCase, behavior: Callable
) -> slt_rl.LLCCurve:
    """One LLC curve; its checkpoints in two halves that run side by side."""
    everything = make is agents_of(case).targets["KL"]
    return slt_rl.llc_curve(
        key,
        make,
        params,
        nbeta=NBETA,
        localization=LOCALIZATION,
        num_chains=NUM_CHAINS,
        num_draws=case.num_draws if everything else case.num_draws // 2,
        tolerance=TOLERANCE,
        chunk_size=-(-len(case.checkpoints) // 2),
        observe_fn=behavior if everything else None,
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
    """
    states, corner = process.starts > 0, process.levels.in_corner
    classes = [states & corner[:, None], states & ~corner[:, None]]
    before = np.array([chosen.sum() for chosen in classes]) / states.sum()
    kept: dict[str, list] = {"corner": [], "off corner": []}
    for table, estimate in zip(tables, found.estimates, strict=True):
        log_policy = np.asarray(estimate.observations["log_policy"], np.float64)
        terms = np.sum(table * (np.log(table) - log_policy), axis=-1)
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
    policy = np.asarray(tables[:, corner], np.float64)
    logs = np.log(policy)
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
        "discount": DISCOUNT,
        "entropy_weight": ENTROPY_WEIGHT,
        "learning_rate": LEARNING_RATE,
    }


def main() -> int:
    """Runs what is missing, then writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--quick", action="store_true", help="two seeds and short chains")
    scale.add_argument("--gpu", action="store_true", help="a grid of 13 by 13 with walls")
    parser.add_argument("--out", type=Path, default=pages.RESULTS)
    options = parser.parse_args()
    chosen = cases(quick=options.quick, gpu=options.gpu)
    made = settings(chosen[0])
    name = "cheese" + "_quick" * options.quick + "_gpu" * options.gpu
    source = rows.source_digest("benchmarks/cheese.py", "slt_rl/rl/potentials/*.py")
    journal = rows.Journal(rows.WORK / f"{name}.jsonl", made, source)
    start = time.perf_counter()
    found = rows.run_cases(journal, chosen, measure, num_keys=chosen[0].num_seeds)
    print(f"{time.perf_counter() - start:.0f} s")
    page = cheese_page.make_page(found, made, name=name)
    # The figure last: the page tells whether the checkout has changes.
    pages.write_page(page, found, made, folder=options.out)
    cheese_page.save_curves(found, options.out / f"{name}.png")
    print("\n".join(str(check) for check in page.checks))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Agents that learn the cheese maze, all seeds of a case in one program."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import rows
from slt_rl.rl import (
    PPO,
    CategoricalPolicy,
    GymnaxEnv,
    ValueNetwork,
    clipped_adam,
    init_runs,
    linear_schedule,
    log_schedule,
    train,
)
from toy_models.cheese import CheeseEnv, CheeseParams, Levels, block_levels, open_levels
from toy_models.cheese_exact import CheeseProcess, CheeseRegret, ConvNet, cheese_process

PyTree = Any
DISCOUNT, ENTROPY_WEIGHT, LEARNING_RATE, NUM_STEPS = 0.9, 0.01, 1e-3, 32


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
        num_draws: Draws per chain.
    """

    alpha: float
    make_levels: Callable[[float], Levels]
    channels: tuple[int, ...] = (6, 8)
    num_seeds: int = 12
    num_iterations: int = 400
    num_records: int = 100
    num_envs: int = 16
    num_draws: int = 1_024

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
    """The shares that are compared; at zero nothing asks for the cheese."""
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
        regret: The exact regret as a potential.
        seconds: Time of training, compilation included.
    """

    keys: jax.Array
    process: CheeseProcess
    policy: CategoricalPolicy
    params: PyTree
    regrets: np.ndarray
    regret: CheeseRegret
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
        num_steps=NUM_STEPS,
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
    seconds = time.perf_counter() - start
    return Agents(keys, process, policy, params, regrets, regret, seconds)

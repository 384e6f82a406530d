"""Runs of small worlds that answer as a run folder of Craftax does."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.agents.curve import Sampling
from slt_rl.checkpoints import CheckpointSeries
from slt_rl.development import EventEnv, EventTotals
from slt_rl.rl import (
    MLP,
    PPO,
    CategoricalPolicy,
    GymnaxEnv,
    RecurrentActorCritic,
    ValueNetwork,
    clipped_adam,
    init_runs,
    run_keys,
    train,
)
from toy_models.first_only import FirstOnlyEnv, FirstOnlyParams, plant_events

# Enough for what a test of the machinery asks.
QUICK = Sampling(num_draws=128)


class Spec(NamedTuple):
    steps_per_update: int


@dataclasses.dataclass(frozen=True)
class Layered:
    """A network whose parameters are a dict of layers."""

    network: MLP

    def init(self, key):
        return {f"layer_{i}": layer for i, layer in enumerate(self.network.init(key))}

    def __call__(self, params, observation):
        return self.network([params[name] for name in sorted(params)], observation)


@dataclasses.dataclass(frozen=True)
class ToyRun:
    folder: Path
    seeds: tuple[int, ...]
    steps: np.ndarray
    event_names: tuple[str, ...]
    spec: Spec
    world: Any
    networks: tuple[Layered, Layered]
    series: dict[int, CheckpointSeries]
    recorded: dict[int, dict[str, np.ndarray]]

    def env(self):
        return self.world

    def policy(self):
        return CategoricalPolicy(self.networks[0])

    def value_fn(self):
        return ValueNetwork(self.networks[1])

    def network(self):
        raise ValueError("network: the agent is feed-forward")

    def checkpoints(self, seed):
        series = self.series[seed]
        kept = np.isin(series.steps, self.steps)
        return CheckpointSeries(self.steps, jax.tree.map(lambda x: x[kept], series.params))

    def statistics(self, seed):
        return self.recorded[seed]

    def totals(self):
        names = {"episode_steps": "total_length", "steps": "play_steps"}

        def total(name):
            rows = np.stack(
                [self.recorded[s][names.get(name, name)] for s in self.seeds], axis=1
            ).astype(np.int64)
            return np.concatenate([np.zeros_like(rows[:1]), np.cumsum(rows, axis=0)])[:, :, None]

        return EventTotals(*(total(name) for name in EventTotals._fields))


class Init(NamedTuple):
    actor: Layered
    critic: Layered
    bias: float

    def __call__(self, key):
        key_actor, key_critic = jax.random.split(key)
        policy = self.actor.init(key_actor)
        last = policy[max(policy)]
        last["bias"] = last["bias"].at[0].set(self.bias)
        return {"policy": policy, "value": self.critic.init(key_critic)}


def first_only_run(folder, *, seeds=(0, 1, 2), num_updates=60, hidden=(16, 16), every=2):
    """PPO on FirstOnly: plants rise above one and decay to one."""
    env = EventEnv(GymnaxEnv(FirstOnlyEnv(), FirstOnlyParams(cost=0.1)), plant_events, EVENTS)
    return _train(folder, env, (6, 3), seeds, (num_updates, every), (hidden, -4.0, 2e-3))


def untrained_run(folder, *, hidden=(4,)):
    """Initial networks in FirstOnly, three times as large, as a run of three checkpoints."""
    env = EventEnv(GymnaxEnv(FirstOnlyEnv(), FirstOnlyParams()), plant_events, EVENTS)
    actor, critic = Layered(MLP(6, 3, hidden=hidden)), Layered(MLP(6, 1, hidden=hidden))
    keys = jax.random.split(jax.random.key(0), 3)
    params = jax.vmap(Init(actor, critic, 0.0))(keys)
    params = jax.tree.map(lambda x: 3 * np.asarray(x), params)
    steps = np.array([0, 10, 20])
    return ToyRun(
        Path(folder), (0,), steps, env.names, Spec(10), env, (actor, critic),
        {0: CheckpointSeries(steps, params)}, {},
    )  # fmt: skip


EVENTS = ("plants", "rewarded")


def cartpole_events(state, action, next_state):
    """Pushes to the left and to the right."""
    del state, next_state
    return jnp.stack([action == 0, action == 1])


def cartpole_run(folder, *, seeds=(0,), num_updates=40, hidden=(8,), every=2):
    """PPO on CartPole."""
    env = EventEnv(GymnaxEnv(*gymnax.make("CartPole-v1")), cartpole_events, ("left", "right"))
    return _train(folder, env, (4, 2), seeds, (num_updates, every), (hidden, 0.0, 5e-3))


def _train(folder, env, sizes, seeds, lengths, agent):
    num_inputs, num_actions = sizes
    hidden, bias, rate = agent
    actor = Layered(MLP(num_inputs, num_actions, hidden=hidden, output_scale=0.01))
    critic = Layered(MLP(num_inputs, 1, hidden=hidden))
    ppo = PPO(
        policy=CategoricalPolicy(actor),
        value_fn=ValueNetwork(critic),
        optimizer=clipped_adam(rate),
        num_envs=32,
        num_steps=20,
        entropy_weight=0.01,
    )
    keys = run_keys(jax.random.key(0), len(seeds))
    states = init_runs(keys, ppo, env, init_fn=Init(actor, critic, bias))
    num_updates, every = lengths
    params, totals, sums = [], [], []
    for now, stats in train(keys, ppo, env, states=states, checkpoints=range(num_updates + 1)):
        params.append(jax.device_get(now.params))
        totals.append(jax.device_get(now.envs.state.totals))
        sums.append(jax.device_get(stats.episodes))
    kept = np.arange(0, num_updates + 1, every)
    steps = kept * ppo.batch_size
    totals = jax.tree.map(lambda *x: np.stack(x).sum(axis=2), *totals)
    increments = jax.tree.map(lambda x: np.diff(x, axis=0), totals)
    series, recorded = {}, {}
    for i, seed in enumerate(seeds):
        own = jax.tree.map(lambda *x, i=i: np.stack([x[k][i] for k in kept]), *params)
        series[seed] = CheckpointSeries(steps, own)
        recorded[seed] = {
            "steps": ppo.batch_size * np.arange(1, num_updates + 1),
            "num_episodes": increments.num_episodes[:, i],
            "total_length": increments.episode_steps[:, i],
            "total_return": np.concatenate([s.total_return[i] for s in sums]),
            "episode_counts": increments.episode_counts[:, i],
            "episode_squares": increments.episode_squares[:, i],
            "counts": increments.counts[:, i],
            "play_steps": increments.steps[:, i],
        }
    return ToyRun(
        Path(folder), tuple(seeds), steps, env.names, Spec(ppo.batch_size), env, (actor, critic),
        series, recorded,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class MemoryRun:
    """Untrained agents with memory in FirstOnly, as a run of three checkpoints."""

    folder: Path
    seeds: tuple[int, ...]
    steps: np.ndarray

    def network(self):
        return RecurrentActorCritic(6, 3, width=3, encoder=4, head=4)

    def env(self):
        return EventEnv(GymnaxEnv(FirstOnlyEnv(), FirstOnlyParams()), plant_events, EVENTS)

    def checkpoints(self, seed):
        keys = jax.random.split(jax.random.key(seed), 3)
        params = jax.tree.map(lambda x: 3 * np.asarray(x), jax.vmap(self.network().init)(keys))
        kept = np.isin([0, 10, 20], self.steps)
        return CheckpointSeries(self.steps, jax.tree.map(lambda x: x[kept], params))

"""What an agent does in one episode of Craftax, frame by frame, from the symbolic map."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.agents.run import Run
from slt_rl.agents.states import memory_of, with_checkpoints
from slt_rl.development import EventEnv
from slt_rl.rl import Policy

PyTree = Any
NUM_ENVS, MAX_STEPS = 16, 300
# Creatures of Craftax-Classic and of full Craftax, by what they do to the agent.
CREATURES = (("zombies", "melee_mobs"), ("cows", "passive_mobs"), ("skeletons", "ranged_mobs"))


class Frames(NamedTuple):
    """Moments of one episode.

    Attributes:
        step: Environment steps of the checkpoint.
        times: Steps since the start of the episode, `[frame]`.
        length: Steps of the episode, or of what was watched of it.
        complete: Whether the episode ended.
        maps: Block of each tile, `[frame, row, column]`.
        positions: Of the agent, row and column, `[frame, 2]`.
        directions: 1 left, 2 right, 3 up, 4 down, `[frame]`.
        creatures: Places of the creatures of three kinds, `[frame]` lists of `[number, 2]`.
        counts: Events since the start of the episode, `[frame, k]`.
    """

    step: int
    times: np.ndarray
    length: int
    complete: bool
    maps: np.ndarray
    positions: np.ndarray
    directions: np.ndarray
    creatures: tuple[list[np.ndarray], ...]
    counts: np.ndarray


def has_map(env: EventEnv) -> bool:
    """Whether an environment has a map to draw."""
    state = jax.eval_shape(env.reset, jax.random.key(0))[0]
    return hasattr(state.state, "map") and hasattr(state.state, "player_position")


def play_frames(
    key: jax.Array,
    run: Run,
    seed: int,
    *,
    env: EventEnv,
    step: int,
    event: str,
    num_frames: int = 6,
) -> Frames:
    """Frames of a typical episode of one checkpoint.

    Sixteen fresh episodes are played for at most 300 steps; the one shown is that whose count of
    `event` is the median, the first if there are several. Frames are evenly spaced in it.

    Args:
        key: Random key, consumed.
        run: The run.
        seed: Seed of the run.
        env: Its environment, which has a map.
        step: Environment steps of the checkpoint.
        event: Event that says what is typical.
        num_frames: Number of frames.

    Raises:
        ValueError: If there is no such checkpoint, seed or event.
    """
    if event not in run.event_names:
        raise ValueError(f"event: got {event!r}, expected one of {', '.join(run.event_names)}")
    at = with_checkpoints(run, np.flatnonzero(np.asarray(run.steps) == step))
    if not len(at.steps):
        raise ValueError(f"step: got {step}, expected one of {np.asarray(run.steps).tolist()}")
    network, params = memory_of(run), at.checkpoints(seed)[0]
    actor: Any = _WithoutMemory(run.policy()) if network is None else _WithMemory(network)
    params = jax.tree.map(jnp.asarray, params["policy"] if network is None else params)
    views, counts, ended = jax.device_get(_play(key, actor, params, env))
    lengths = np.where(ended.any(axis=0), ended.argmax(axis=0), len(ended) - 1)
    # Counts at the last moment of the first episode.
    totals = counts[lengths, np.arange(NUM_ENVS), run.event_names.index(event)]
    median = np.sort(totals)[NUM_ENVS // 2]
    chosen = int(np.flatnonzero(totals == median)[0])
    times = np.linspace(0, lengths[chosen], num_frames).round().astype(int)
    view = jax.tree.map(lambda x: x[times, chosen], views)
    return Frames(
        step=step,
        times=times,
        length=int(lengths[chosen]),
        complete=bool(ended[:, chosen].any()),
        maps=view["map"],
        positions=view["position"],
        directions=view["direction"],
        creatures=tuple(
            [place[mask] for place, mask in zip(*kind, strict=True)] for kind in view["creatures"]
        ),
        counts=counts[times, chosen],
    )


@dataclasses.dataclass(frozen=True)
class _WithoutMemory:
    """A policy of one observation, as one that has nothing to remember."""

    policy: Policy

    def initial(self, params: PyTree) -> PyTree:
        del params
        return ()

    def __call__(self, params: PyTree, hidden: PyTree, observations: PyTree, start: jax.Array):
        del start
        return hidden, jax.vmap(functools.partial(self.policy, params))(observations)


@dataclasses.dataclass(frozen=True)
class _WithMemory:
    """A recurrent actor, step by step."""

    network: Any

    def initial(self, params: PyTree) -> PyTree:
        return self.network.initial_hidden(params, NUM_ENVS)

    def __call__(self, params: PyTree, hidden: PyTree, observations: PyTree, start: jax.Array):
        seen = jax.tree.map(lambda x: x[None], observations)
        hidden, distribution, _ = self.network.apply(params, hidden, seen, reset=start[None])
        return hidden, jax.tree.map(lambda x: x[0], distribution)


@functools.partial(jax.jit, static_argnums=1)
def _play(key, actor, params, env):
    """Views and counts before each step `[time, env]`, and whether the step ends the episode."""

    def one(key, state, action):
        moved = env.step(key, state, action)
        done = moved.terminated | moved.truncated
        return moved.state, moved.observation, done, (_view(state.state), state.counts, done)

    def step(carry, number):
        states, observations, start, hidden = carry
        key_action, *keys = jax.random.split(jax.random.fold_in(key, number), NUM_ENVS + 1)
        hidden, distribution = actor(params, hidden, observations, start)
        actions = distribution.sample(key_action)
        *moved, record = jax.vmap(one)(jnp.stack(keys), states, actions)
        return (*moved, hidden), record

    # Steps are numbered from zero; the last uint32 keeps the resets apart from all of them.
    keys = jax.random.split(jax.random.fold_in(key, 2**32 - 1), NUM_ENVS)
    states, observations = jax.vmap(env.reset)(keys)
    start = (states, observations, jnp.ones(NUM_ENVS, bool), actor.initial(params))
    return jax.lax.scan(step, start, jnp.arange(MAX_STEPS))[1]


def _view(state: PyTree) -> Mapping[str, Any]:
    """What is drawn of a state of Craftax; of full Craftax the level the agent is on."""
    is_full = state.map.ndim == 3

    def here(x):
        return x[state.player_level] if is_full else x

    found = [getattr(state, names[is_full]) for names in CREATURES]
    return {
        "map": here(state.map).astype(jnp.int32),
        "position": state.player_position,
        "direction": state.player_direction,
        "creatures": tuple((here(x.position), here(x.mask)) for x in found),
    }

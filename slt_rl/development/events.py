"""Counting events in play: inside the environment, before any reset.

An event is what a user's function finds in one step, `event_fn(state, action, next_state) -> [k]`
counts. `EventEnv` wraps an environment and counts in its state, so that any trainer of this library
trains on it unchanged and the counters travel with the checkpoints. `next_state` is the true
successor: the terminal step counts as every other one, and nothing is counted across a reset.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl._checks import check_callable, check_key
from slt_rl._numbers import check_count
from slt_rl.rl import Env, Forgetful, GymnaxEnv, Policy, RecurrentActorCritic, Transition
from slt_rl.rl.env import like
from slt_rl.rl.episodes import Evaluation, Player, deciding, play_episodes
from slt_rl.rl.recurrent_play import remembering

PyTree = Any
EventFn = Callable[[PyTree, jax.Array, PyTree], jax.Array]


class EventTotals(NamedTuple):
    """Running totals of one environment since it was first reset; all int32.

    Counters may pass 2^31 and wrap; the difference of two of them, taken in int32, stays exact as
    long as less than 2^31 was counted in between.

    Attributes:
        num_episodes: `[]`, complete episodes.
        episode_steps: `[]`, steps of the complete episodes.
        episode_counts: `[k]`, events in the complete episodes.
        episode_squares: `[k]`, sum over complete episodes of the squared count of the episode.
        steps: `[]`, all steps, those of unfinished episodes included.
        counts: `[k]`, events in all steps.
    """

    num_episodes: jax.Array
    episode_steps: jax.Array
    episode_counts: jax.Array
    episode_squares: jax.Array
    steps: jax.Array
    counts: jax.Array


class EventState(NamedTuple):
    """State of an `EventEnv`.

    Attributes:
        state: State of the environment inside.
        counts: `[k]`, events of the episode so far.
        length: `[]`, its steps so far.
        totals: Totals since the first reset; an automatic reset leaves them alone.
    """

    state: PyTree
    counts: jax.Array
    length: jax.Array
    totals: EventTotals


def advance_gymnax(
    key: jax.Array, env: GymnaxEnv, state: PyTree, *, action: jax.Array
) -> Transition:
    """One step of a gymnax environment without a reset.

    Args:
        key: Random key, consumed.
        env: The environment.
        state: Where from.
        action: What is done.

    Returns:
        The transition; its state and observation are those of the true successor.
    """
    inner = env.environment
    params = inner.default_params if env.params is None else env.params
    observation, state, reward, terminated, _ = inner.step_env(key, state, action, params)
    terminated = jnp.asarray(terminated, bool)
    truncated = jnp.asarray(inner.is_truncated(state, params), bool) & ~terminated
    reward = jnp.asarray(reward, jnp.result_type(float))
    return Transition(state, observation, reward, terminated, truncated, observation)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EventEnv:
    """An environment that counts events as it is played.

    Observations, rewards and randomness are those of the environment inside. The totals of a
    training run are in `states.envs.state.totals`; `event_curves` turns those of successive
    checkpoints into curves.

    Args:
        env: The environment inside.
        event_fn: `(state, action, next_state) -> [k]` integer or bool counts of one step; hashable.
        names: Names of the `k` events.
        advance_fn: `(key, env, state, *, action) -> Transition` to the true successor, without a
            reset; that of gymnax by default.

    Raises:
        ValueError: If `names` is no tuple of different names; at the first step, if the counts are
            not a vector of one integer or bool for each name.

    Example:
        >>> import gymnax, jax, jax.numpy as jnp
        >>> def pushes(state, action, next_state):  # to the left, to the right
        ...     return jnp.stack([action == 0, action == 1])
        >>> env = EventEnv(GymnaxEnv(*gymnax.make("CartPole-v1")), pushes, ("left", "right"))
        >>> state, observation = env.reset(jax.random.key(0))
        >>> env.step(jax.random.key(1), state, 1).state.totals.counts.tolist()
        [0, 1]
    """

    env: Any
    event_fn: EventFn = dataclasses.field(metadata={"static": True})
    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    advance_fn: Callable[..., Transition] = dataclasses.field(
        default=advance_gymnax, metadata={"static": True}
    )

    def __post_init__(self):
        check_callable("event_fn", self.event_fn)
        names = self.names
        texts = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
        if not texts or not names or len(set(names)) < len(names):
            raise ValueError(f"names: got {names!r}, expected a tuple of different names of events")

    @property
    def num_actions(self) -> int | None:
        """As of the environment inside, if that says so."""
        return getattr(self.env, "num_actions", None)

    def reset(self, key: jax.Array) -> tuple[EventState, PyTree]:
        """Starts an episode with all totals at zero; returns `(state, observation)`."""
        state, observation = self.env.reset(key)
        zeros = jnp.zeros(len(self.names), jnp.int32)
        zero = jnp.int32(0)
        totals = EventTotals(zero, zero, zeros, zeros, zero, zeros)
        return EventState(state, zeros, zero, totals), observation

    def step(self, key: jax.Array, state: EventState, action: jax.Array) -> Transition:
        """Advances by one step, counts, and resets where the episode has ended."""
        # The keys of gymnax's own step: the same play as without counting.
        key_step, key_reset = jax.random.split(key)
        moved = self.advance_fn(key_step, self.env, state.state, action=action)
        events = self._events(state.state, action, moved.state)
        done = moved.terminated | moved.truncated
        counted = _count(state, events, done)
        fresh_state, fresh_observation = self.env.reset(key_reset)

        def pick(fresh, true):
            return jax.tree.map(lambda a, b: jnp.where(done, a, like(a, b)), fresh, true)

        return moved._replace(
            state=counted._replace(state=pick(fresh_state, moved.state)),
            observation=pick(fresh_observation, moved.observation),
            final_observation=jax.tree.map(like, fresh_observation, moved.observation),
        )

    def _events(self, state: PyTree, action: jax.Array, next_state: PyTree) -> jax.Array:
        """Counts of one step `[k]` int32, checked."""
        counts = self.event_fn(state, action, next_state)
        shape, dtype = getattr(counts, "shape", None), getattr(counts, "dtype", None)
        whole = dtype is not None and any(
            jnp.issubdtype(dtype, kind) for kind in (jnp.integer, jnp.bool_)
        )
        if shape != (len(self.names),) or not whole:
            raise ValueError(
                f"event_fn: returned shape {shape} of type {dtype}, expected ({len(self.names)},) "
                f"integer or bool counts, one for each of the names {self.names}"
            )
        return counts.astype(jnp.int32)


def _count(state: EventState, events: jax.Array, done: jax.Array) -> EventState:
    """Adds the events of one step; closes the episode where it is done."""
    counts, length = state.counts + events, state.length + 1
    old = state.totals
    ended = jnp.asarray(done, jnp.int32)
    totals = EventTotals(
        num_episodes=old.num_episodes + ended,
        episode_steps=old.episode_steps + ended * length,
        episode_counts=old.episode_counts + ended * counts,
        episode_squares=old.episode_squares + ended * counts**2,
        steps=old.steps + 1,
        counts=old.counts + events,
    )
    return state._replace(counts=(1 - ended) * counts, length=(1 - ended) * length, totals=totals)


class EpisodeEvents(NamedTuple):
    """Events of single episodes; leading axis `[episode]`.

    Attributes:
        counts: `[episode, k]`, events of each episode.
        length: `[episode]`, its steps.
        complete: `[episode]`, False where the episode had not ended within the allowed steps: its
            counts are lower bounds and belong into no mean.
    """

    counts: np.ndarray
    length: np.ndarray
    complete: np.ndarray


def play_events(
    key: jax.Array,
    policy: Policy,
    params: PyTree,
    *,
    env: EventEnv,
    num_episodes: int,
    max_steps: int,
) -> EpisodeEvents:
    """Plays fresh episodes, each exactly once and to its end, and counts their events.

    Every episode counts once, whatever its length: no episode is missing because it was long, as it
    is among those that happen to end within a window of training.

    Args:
        key: Random key, consumed.
        policy: `(params, observation) -> distribution` of one observation; hashable.
        params: Parameters of the policy.
        env: The environment.
        num_episodes: Number of episodes, played side by side.
        max_steps: Gives up after so many steps; at least the environment's time limit.

    Returns:
        The episodes; look at `complete` before taking a mean.

    Raises:
        ValueError: If `key` is no key, `env` no `EventEnv`, a parameter nan, or a number not
            positive; if the policy returns no distribution, or one over other actions than those
            of the environment.
    """
    key, params, *sizes = _checked(key, params, env, num_episodes, max_steps)
    return _found(_play(key, params, env, check_callable("policy", policy), *sizes))


def recurrent_play_events(
    key: jax.Array,
    network: RecurrentActorCritic | Forgetful,
    params: PyTree,
    *,
    env: EventEnv,
    num_episodes: int,
    max_steps: int,
) -> EpisodeEvents:
    """`play_events` of an agent with memory, which is empty at the start of each episode.

    Args:
        key: Random key, consumed.
        network: Actor and critic.
        params: Parameters of the network.
        env: The environment.
        num_episodes: Number of episodes, played side by side.
        max_steps: Gives up after so many steps; at least the environment's time limit.

    Returns:
        The episodes; look at `complete` before taking a mean.

    Raises:
        ValueError: As `play_events`.
    """
    if not callable(getattr(network, "apply", None)):
        raise ValueError(f"network: got {network!r}, expected one with memory; see `play_events`")
    key, params, *sizes = _checked(key, params, env, num_episodes, max_steps)
    return _found(_recurrent_play(key, params, env, network, *sizes))


def _checked(key: jax.Array, params: PyTree, env: Any, num_episodes: int, max_steps: int) -> tuple:
    """Everything but the policy, which may take parameters of any type of numbers."""
    if not isinstance(env, EventEnv):
        raise ValueError(f"env: expected an EventEnv, which counts, got {type(env).__name__}")
    for leaf in map(np.asarray, jax.tree.leaves(params)):
        if leaf.dtype.kind in "OSU":
            raise ValueError(f"params: expected a pytree of arrays, got {leaf!r} in it")
        # Logits of nan would choose some action all the same.
        if jnp.issubdtype(leaf.dtype, jnp.floating) and np.isnan(leaf).any():
            raise ValueError("params: got nan, expected numbers; the training of these diverged")
    sizes = check_count("num_episodes", num_episodes), check_count("max_steps", max_steps)
    return check_key(key), params, *sizes


def _found(played: tuple[Evaluation, jax.Array]) -> EpisodeEvents:
    episodes, counts = played
    found = counts, episodes.episode_length, episodes.complete
    return EpisodeEvents(*(np.asarray(x) for x in found))


@functools.partial(jax.jit, static_argnames=("policy", "num_episodes", "max_steps"))
def _play(key, params, env: Env, policy, num_episodes, max_steps):
    return _count_first(key, deciding(policy, params, env=env), env, num_episodes, max_steps)


@functools.partial(jax.jit, static_argnames=("network", "num_episodes", "max_steps"))
def _recurrent_play(key, params, env: Env, network, num_episodes, max_steps):
    player = remembering(network, params, num_episodes, env=env)
    return _count_first(key, player, env, num_episodes, max_steps)


def _count_first(key, player: Player, env: Env, num_episodes, max_steps):
    """The first episode of every environment, and its counts `[env, k]`."""

    def counts(states):
        # The totals at the end of the first episode are that episode.
        ended = states.totals.num_episodes[:, None] > 0
        return jnp.where(ended, states.totals.episode_counts, states.counts)

    return play_episodes(
        key, player, env=env, num_episodes=num_episodes, max_steps=max_steps, read=counts
    )

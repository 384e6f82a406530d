"""Whole episodes: each played exactly once and to its end, for evaluation and counting."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from slt_rl.rl.actions import check_action_space
from slt_rl.rl.env import Env
from slt_rl.rl.networks import Policy
from slt_rl.rl.rollout import EnvBatch, count_episodes, reset_envs, step_env

PyTree = Any


class Evaluation(NamedTuple):
    """Complete episodes; axes `[episode]`.

    Attributes:
        episode_return: Undiscounted return of each episode.
        episode_length: Its length in steps.
        complete: False where the episode had not ended within the allowed steps.
    """

    episode_return: jax.Array
    episode_length: jax.Array
    complete: jax.Array


@functools.partial(jax.jit, static_argnames=("policy", "num_episodes", "max_steps", "greedy"))
def evaluate(
    key: jax.Array,
    policy: Policy,
    params: PyTree,
    *,
    env: Env,
    num_episodes: int,
    max_steps: int,
    greedy: bool = False,
) -> Evaluation:
    """Plays `num_episodes` fresh episodes, each exactly once and to its end.

    Every episode counts once, so that short episodes are not over-represented as they are among
    the episodes that happen to end within a fixed time.

    Args:
        key: Random key, consumed.
        policy: `(params, observation) -> distribution` of one observation.
        params: Parameters of the policy.
        env: The environment.
        num_episodes: Number of episodes, played side by side.
        max_steps: Gives up after so many steps; at least the environment's time limit.
        greedy: Play the mode of the policy instead of sampling from it.

    Returns:
        The episodes; check `complete` before taking a mean.

    Raises:
        ValueError: While tracing, if the environment has a `num_actions` (0: continuous actions)
            that is not that of the policy.
    """
    player = deciding(policy, params, env=env, greedy=greedy)
    return play_episodes(key, player, env=env, num_episodes=num_episodes, max_steps=max_steps)[0]


class Player(NamedTuple):
    """What plays in many environments side by side.

    Attributes:
        decide: `(keys [env], memory, batch) -> memory, actions [env]`.
        memory: That of the first step.
    """

    decide: Callable[[jax.Array, PyTree, EnvBatch], tuple[PyTree, jax.Array]]
    memory: PyTree


def deciding(policy: Policy, params: PyTree, *, env: Env, greedy: bool = False) -> Player:
    """A player of a policy, which has no memory."""

    def decide(keys, memory, batch):
        def one_env(key, observation):
            return choose(key, policy(params, observation), env=env, greedy=greedy)

        return memory, jax.vmap(one_env)(keys, batch.observation)

    return Player(decide, None)


def choose(key: jax.Array, distribution: Any, *, env: Env, greedy: bool) -> jax.Array:
    """The mode of a distribution or a draw from it; raises if `env` has other actions."""
    check_action_space(distribution, getattr(env, "num_actions", None))
    return distribution.mode() if greedy else distribution.sample(key)


def play_episodes(
    key: jax.Array,
    player: Player,
    *,
    env: Env,
    num_episodes: int,
    max_steps: int,
    read: Callable[[PyTree], PyTree] = lambda states: None,
) -> tuple[Evaluation, PyTree]:
    """Plays one episode in every environment to its end; those that have ended do not count on.

    Args:
        key: Random key, consumed.
        player: Who plays.
        env: The environment.
        num_episodes: Number of episodes, played side by side.
        max_steps: Gives up after so many steps.
        read: `states [env, ...] -> pytree [env, ...]`, what else is wanted of each episode.

    Returns:
        The episodes, and what was read after the last step of each of them.
    """

    def step(carry):
        number, memory, batch, result, found = carry
        keys = jax.random.split(jax.random.fold_in(key, number), (num_episodes, 2))
        memory, action = player.decide(keys[:, 0], memory, batch)
        step = jax.vmap(functools.partial(step_env, env=env))
        transition = step(keys[:, 1], batch.state, action)
        running = ~result.complete
        result = Evaluation(
            result.episode_return + jnp.where(running, transition.reward, 0),
            result.episode_length + running,
            result.complete | transition.terminated | transition.truncated,
        )
        batch = count_episodes(batch, transition)[0]
        found = jax.tree.map(
            lambda new, old: jax.vmap(jnp.where)(running, new, old), read(batch.state), found
        )
        return number + 1, memory, batch, result, found

    def unfinished(carry):
        return (carry[0] < max_steps) & ~jnp.all(carry[3].complete)

    # Steps are numbered from zero, and the last uint32 is none of them.
    batch = reset_envs(jax.random.fold_in(key, 2**32 - 1), env, num_episodes)
    nothing = jnp.zeros(num_episodes, bool)
    result = Evaluation(batch.episode_return, batch.episode_length, nothing)
    start = (0, player.memory, batch, result, read(batch.state))
    return jax.lax.while_loop(unfinished, step, start)[3:]

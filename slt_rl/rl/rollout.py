"""Playing a policy: trajectories with axes `[time, env]`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from slt_rl.rl.actions import check_action_space
from slt_rl.rl.env import Env, Transition
from slt_rl.rl.networks import Policy

PyTree = Any


class EnvBatch(NamedTuple):
    """Environments in play; every leaf has the leading axis `[env]`.

    Attributes:
        state: Environment states.
        observation: Observations to act on next.
        episode_return: Undiscounted reward of the episode so far.
        episode_length: Steps of the episode so far.
    """

    state: PyTree
    observation: PyTree
    episode_return: jax.Array
    episode_length: jax.Array


class Rollout(NamedTuple):
    """A stretch of play; every leaf has the leading axes `[time, env]`.

    Attributes:
        observation: What was acted on.
        action: What was done.
        log_prob: Log probability of the action under the policy that acted, in nats.
        reward: Reward of the step.
        terminated: The episode ended for good.
        truncated: The episode was cut.
        final_observation: True observation of the successor, before any reset; None where values
            were kept in its place.
        cut_value: Value of the true successor where the episode was cut, zero elsewhere; None
            unless asked for.
    """

    observation: PyTree
    action: jax.Array
    log_prob: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    final_observation: PyTree
    cut_value: Any = None


class EpisodeSums(NamedTuple):
    """Sums over the episodes that ended in a rollout; means are ratios of these.

    Attributes:
        num_episodes: `[]`, number of episodes that ended.
        total_return: `[]`, sum of their undiscounted returns.
        total_length: `[]`, sum of their lengths in steps.
    """

    num_episodes: jax.Array
    total_return: jax.Array
    total_length: jax.Array


def reset_envs(key: jax.Array, env: Env, num_envs: int) -> EnvBatch:
    """Starts `num_envs` independent episodes."""
    state, observation = jax.vmap(env.reset)(jax.random.split(key, num_envs))
    zeros = jnp.zeros(num_envs)
    return EnvBatch(state, observation, zeros, jnp.zeros(num_envs, jnp.int32))


def rollout(
    key: jax.Array,
    policy: Policy,
    params: PyTree,
    *,
    env: Env,
    batch: EnvBatch,
    num_steps: int,
    value_fn: Callable[[PyTree], jax.Array] | None = None,
) -> tuple[EnvBatch, Rollout, EpisodeSums]:
    """Plays `num_steps` steps in every environment; episodes go on from one call to the next.

    Args:
        key: Random key, consumed.
        policy: `(params, observation) -> distribution` of one observation.
        params: Parameters of the policy.
        env: The environment.
        batch: Environments in play, from `reset_envs` or an earlier call.
        num_steps: Steps per environment.
        value_fn: `observation -> []`; with it the values of successors where an episode was cut are
            kept in place of all successors, nearly all of which are the next observation, and an
            observation may be large.

    Returns:
        The environments after the last step, the trajectories, and the episodes that ended.
    """
    num_envs = batch.episode_length.shape[0]

    def step(batch, number):
        keys = jax.random.split(jax.random.fold_in(key, number), (num_envs, 2))
        distribution = jax.vmap(lambda x: policy(params, x))(batch.observation)
        transition, action, log_prob = act(keys, distribution, env=env, batch=batch)
        final, value = transition.final_observation, None
        if value_fn is not None:
            final, value = None, cut_values(jax.vmap(value_fn), transition)
        ends = transition.reward, transition.terminated, transition.truncated
        record = Rollout(batch.observation, action, log_prob, *ends, final, value)
        batch, sums = count_episodes(batch, transition)
        return batch, (record, sums)

    batch, (records, sums) = jax.lax.scan(step, batch, jnp.arange(num_steps))
    return batch, records, jax.tree.map(lambda x: jnp.sum(x, axis=0), sums)


def act(
    keys: jax.Array, distribution: Any, *, env: Env, batch: EnvBatch
) -> tuple[Transition, jax.Array, jax.Array]:
    """One step in every environment: draws actions from distributions `[env]`.

    Args:
        keys: `[env, 2]`, of the action and of the environment's step.
        distribution: Distributions of actions, axis `[env]`.
        env: The environment.
        batch: Environments in play.

    Returns:
        The transitions, the actions, and their log probabilities in nats, `[env]` each.

    Raises:
        ValueError: While tracing, if the environment has a `num_actions` (0: continuous actions)
            that is not that of the policy.
    """
    check_action_space(distribution, getattr(env, "num_actions", None))

    def one_env(keys, distribution, state):
        action = distribution.sample(keys[0])
        return step_env(keys[1], state, action, env=env), action, distribution.log_prob(action)

    return jax.vmap(one_env)(keys, distribution, batch.state)


def step_env(key: jax.Array, state: PyTree, action: jax.Array, *, env: Env) -> Transition:
    """One step of one environment.

    Raises:
        ValueError: While tracing, if the environment returns something else than a transition.
    """
    moved = env.step(key, state, action)
    if isinstance(moved, Transition):
        return moved
    kind = f"{len(moved)} values" if isinstance(moved, tuple) else f"a {type(moved).__name__}"
    raise ValueError(
        f"env: step returned {kind}, expected a Transition; a gymnax environment is played as "
        "GymnaxEnv(environment, params)"
    )


def cut_values(values_fn: Callable[[PyTree], jax.Array], transition: Transition) -> jax.Array:
    """Values `[env]` of the true successors where episodes were cut, zero elsewhere.

    A loop of at most one pass, not a `cond`: when many runs are mapped, a `cond` evaluates both
    branches at every step, and a loop passes only if an episode was cut in some run.

    Args:
        values_fn: `observations [env, ...] -> [env]`.
        transition: One step of every environment.
    """
    # Rewards may be whole numbers, values are not.
    dtype = jax.eval_shape(values_fn, transition.final_observation).dtype
    nothing = jnp.zeros(transition.truncated.shape, dtype)

    def evaluate(_):
        values = values_fn(transition.final_observation)
        return False, jnp.where(transition.truncated, values, nothing)

    start = (jnp.any(transition.truncated), nothing)
    return jax.lax.while_loop(lambda carry: carry[0], evaluate, start)[1]


def successor_values(
    values: jax.Array, last: jax.Array, *, cut: jax.Array, done: jax.Array
) -> jax.Array:
    """Values `[time, env]` of the true successors, before any reset; 0 after a termination.

    Args:
        values: `[time, env]`, of what was acted on.
        last: `[env]`, of what would be acted on next.
        cut: `[time, env]`, from `cut_values`.
        done: `[time, env]` bool, the episode ended.
    """
    return jnp.where(done, cut, jnp.concatenate([values[1:], last[None]]))


def count_episodes(batch: EnvBatch, transition: Transition) -> tuple[EnvBatch, EpisodeSums]:
    """Environments to continue from after a step, and sums over the episodes that it ended."""
    total_return = batch.episode_return + transition.reward
    length = batch.episode_length + 1
    done = transition.terminated | transition.truncated
    sums = EpisodeSums(
        jnp.sum(done, dtype=jnp.int32),
        jnp.sum(jnp.where(done, total_return, 0)),
        jnp.sum(jnp.where(done, length, 0)),
    )
    batch = EnvBatch(
        transition.state,
        transition.observation,
        jnp.where(done, 0, total_return),
        jnp.where(done, 0, length),
    )
    return batch, sums

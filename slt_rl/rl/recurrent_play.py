"""Playing an agent with memory: stretches of play to learn from, and whole episodes."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from slt_rl.rl.distributions import Categorical
from slt_rl.rl.env import Env
from slt_rl.rl.episodes import Evaluation, Player, choose, play_episodes
from slt_rl.rl.recurrent import Forgetful, RecurrentActorCritic
from slt_rl.rl.rollout import (
    EnvBatch,
    EpisodeSums,
    act,
    count_episodes,
    cut_values,
    successor_values,
)

PyTree = Any


class RecurrentRollout(NamedTuple):
    """A stretch of play of a policy with memory; every leaf has the leading axes `[time, env]`.

    Successors are not kept: nearly all of them are the next observation, and an observation may be
    large. Learning needs only their values.

    Attributes:
        observation: What was acted on.
        start: Bool, the observation is the first of its episode.
        action: What was done.
        log_prob: Log probability of the action under the policy that acted, in nats.
        reward: Reward of the step.
        terminated: Bool, the episode ended for good.
        truncated: Bool, the episode was cut.
        value: Value of what was acted on.
        next_value: Value of the true successor, before any reset; 0 where the episode terminated.
    """

    observation: PyTree
    start: jax.Array
    action: jax.Array
    log_prob: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    value: jax.Array
    next_value: jax.Array


def recurrent_rollout(
    key: jax.Array,
    network: RecurrentActorCritic | Forgetful,
    params: PyTree,
    *,
    env: Env,
    batch: EnvBatch,
    hidden: PyTree,
    num_steps: int,
) -> tuple[EnvBatch, PyTree, RecurrentRollout, EpisodeSums]:
    """Plays `num_steps` steps in every environment; episodes and memory go on over calls.

    Args:
        key: Random key, consumed.
        network: Actor and critic.
        params: Parameters of the network.
        env: The environment.
        batch: Environments in play, from `reset_envs` or an earlier call.
        hidden: Hidden state `[env, ...]`, from `network.initial_hidden` or an earlier call.
        num_steps: Steps per environment.

    Returns:
        The environments and the hidden state after the last step, what was played, and the episodes
        that ended.
    """
    num_envs = batch.episode_length.shape[0]

    def value_of(hidden, observation, reset):
        return see(network, params, hidden, observation=observation, reset=reset)[2]

    def step(carry, number):
        batch, hidden = carry
        keys = jax.random.split(jax.random.fold_in(key, number), (num_envs, 2))
        start = batch.episode_length == 0
        hidden, distribution, value = see(
            network, params, hidden, observation=batch.observation, reset=start
        )
        transition, action, log_prob = act(keys, distribution, env=env, batch=batch)
        no_reset = jnp.zeros_like(start)
        cut = cut_values(lambda x: value_of(hidden, x, no_reset), transition)
        ends = transition.reward, transition.terminated, transition.truncated
        record = (batch.observation, start, action, log_prob, *ends, value, cut)
        batch, sums = count_episodes(batch, transition)
        return (batch, hidden), (RecurrentRollout(*record), sums)

    (batch, hidden), (play, sums) = jax.lax.scan(step, (batch, hidden), jnp.arange(num_steps))
    last = value_of(hidden, batch.observation, batch.episode_length == 0)
    done = play.terminated | play.truncated
    following = successor_values(play.value, last, cut=play.next_value, done=done)
    play = play._replace(next_value=following)
    return batch, hidden, play, jax.tree.map(lambda x: jnp.sum(x, axis=0), sums)


@functools.partial(jax.jit, static_argnames=("network", "num_episodes", "max_steps", "greedy"))
def recurrent_evaluate(
    key: jax.Array,
    network: RecurrentActorCritic | Forgetful,
    params: PyTree,
    *,
    env: Env,
    num_episodes: int,
    max_steps: int,
    greedy: bool = False,
) -> Evaluation:
    """Plays fresh episodes to their end, each exactly once: `evaluate` of an agent with memory.

    Args:
        key: Random key, consumed.
        network: Actor and critic.
        params: Parameters of the network.
        env: The environment.
        num_episodes: Number of episodes, played side by side.
        max_steps: Gives up after so many steps; at least the environment's time limit.
        greedy: Play the mode of the policy instead of sampling from it.

    Returns:
        The episodes; check `complete` before taking a mean.

    Raises:
        ValueError: As `evaluate`.
    """
    player = remembering(network, params, num_episodes, env=env, greedy=greedy)
    return play_episodes(key, player, env=env, num_episodes=num_episodes, max_steps=max_steps)[0]


def remembering(
    network: RecurrentActorCritic | Forgetful,
    params: PyTree,
    num_envs: int,
    *,
    env: Env,
    greedy: bool = False,
) -> Player:
    """A player of a network with memory, which is empty at the start of each episode."""

    def decide(keys, hidden, batch):
        start = batch.episode_length == 0
        seen = see(network, params, hidden, observation=batch.observation, reset=start)
        return seen[0], jax.vmap(functools.partial(choose, env=env, greedy=greedy))(keys, seen[1])

    return Player(decide, network.initial_hidden(params, num_envs))


def see(
    network: RecurrentActorCritic | Forgetful,
    params: PyTree,
    hidden: PyTree,
    *,
    observation: PyTree,
    reset: jax.Array,
) -> tuple[PyTree, Categorical, jax.Array]:
    """`network.apply` on a single step: no time axis in the arguments `[env, ...]` and results."""
    observation, reset = jax.tree.map(lambda x: x[None], (observation, reset))
    hidden, *seen = network.apply(params, hidden, observation, reset=reset)
    distribution, value = jax.tree.map(lambda x: x[0], seen)
    return hidden, distribution, value

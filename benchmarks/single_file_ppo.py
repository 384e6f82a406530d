"""PPO in one file with everything unneeded left out: what the library's trainer is timed against.

It does less on purpose: no statistics, no account of episodes, and no value of the true last state
where an episode is cut, so that the critic sees every state of a rollout once and not twice.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

PyTree = Any


class Config(NamedTuple):
    """Hyper-parameters and functions; `env` is a gymnax environment.

    Attributes:
        env: The environment.
        env_params: Its parameters.
        policy: `(params, observation) -> outputs`.
        sample: `(key, outputs) -> action`.
        log_prob: `(outputs, action) -> []`.
        entropy: `outputs -> []`.
        value: `(params, observation) -> []`.
        optimizer: Of `{"policy": ..., "value": ...}`.
        num_envs: Environments.
        num_steps: Steps of each in an iteration.
        num_epochs: Passes over them.
        num_minibatches: Parts of a pass.
        discount: Discount per step.
        gae_lambda: Decay of advantages.
        clip: Half width of the range of ratios.
        entropy_weight: Weight of the entropy.
        value_weight: Weight of the critic's error.
    """

    env: Any
    env_params: Any
    policy: Callable
    sample: Callable
    log_prob: Callable
    entropy: Callable
    value: Callable
    optimizer: optax.GradientTransformation
    num_envs: int
    num_steps: int
    num_epochs: int
    num_minibatches: int
    discount: float
    gae_lambda: float
    clip: float
    entropy_weight: float
    value_weight: float


def init(config: Config, key: jax.Array, params: PyTree) -> tuple:
    """Parameters, optimizer, environments, observations."""
    keys = jax.random.split(key, config.num_envs)
    observation, state = jax.vmap(config.env.reset, (0, None))(keys, config.env_params)
    return params, config.optimizer.init(params), state, observation


def iteration(config: Config, key: jax.Array, carry: tuple) -> tuple:
    """Plays and updates once."""
    key_play, key_update = jax.random.split(key)
    params, optimizer_state, state, observation = carry
    state, observation, records = play(
        config, key_play, params, state=state, observation=observation
    )
    last = jax.vmap(config.value, (None, 0))(params["value"], observation)
    batch = _with_advantages(config, records, last)
    params, optimizer_state = _update(config, key_update, params, optimizer_state, batch)
    return params, optimizer_state, state, observation


def play(config, key, params, *, state, observation):
    """State, observation, and the records `[time, env]` of a rollout."""

    def step(carry, key):
        state, observation = carry
        key_action, key_step = jax.random.split(key)
        outputs = jax.vmap(config.policy, (None, 0))(params["policy"], observation)
        action = jax.vmap(config.sample)(jax.random.split(key_action, config.num_envs), outputs)
        log_prob = jax.vmap(config.log_prob)(outputs, action)
        value = jax.vmap(config.value, (None, 0))(params["value"], observation)
        keys = jax.random.split(key_step, config.num_envs)
        found = jax.vmap(config.env.step, (0, 0, 0, None))(keys, state, action, config.env_params)
        done = found[3] | found[4]
        return (found[1], found[0]), (observation, action, log_prob, value, found[2], done)

    keys = jax.random.split(key, config.num_steps)
    (state, observation), records = jax.lax.scan(step, (state, observation), keys)
    return state, observation, records


def _with_advantages(config, records, last):
    seen, action, log_prob, value, reward, done = records

    def backward(carry, row):
        advantage, following = carry
        reward, value, done = row
        going = 1.0 - done
        delta = reward + config.discount * following * going - value
        advantage = delta + config.discount * config.gae_lambda * going * advantage
        return (advantage, value), advantage

    start = (jnp.zeros_like(last), last)
    advantage = jax.lax.scan(backward, start, (reward, value, done), reverse=True)[1]
    target = advantage + value
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    batch = (seen, action, log_prob, advantage, target)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


def _loss(params, batch, config):
    observation, action, old_log_prob, advantage, target = batch
    outputs = jax.vmap(config.policy, (None, 0))(params["policy"], observation)
    ratio = jnp.exp(jax.vmap(config.log_prob)(outputs, action) - old_log_prob)
    clipped = jnp.clip(ratio, 1 - config.clip, 1 + config.clip)
    value = jax.vmap(config.value, (None, 0))(params["value"], observation)
    return (
        -jnp.minimum(ratio * advantage, clipped * advantage).mean()
        + config.value_weight * ((value - target) ** 2).mean() / 2
        - config.entropy_weight * jax.vmap(config.entropy)(outputs).mean()
    )


def _update(config, key, params, optimizer_state, batch):
    def minibatch(carry, part):
        params, optimizer_state = carry
        gradient = jax.grad(_loss)(params, part, config)
        updates, optimizer_state = config.optimizer.update(gradient, optimizer_state, params)
        return (optax.apply_updates(params, updates), optimizer_state), None

    def epoch(carry, key):
        order = jax.random.permutation(key, config.num_envs * config.num_steps)
        order = order.reshape(config.num_minibatches, -1)
        return jax.lax.scan(minibatch, carry, jax.tree.map(lambda x: x[order], batch))

    keys = jax.random.split(key, config.num_epochs)
    return jax.lax.scan(epoch, (params, optimizer_state), keys)[0]

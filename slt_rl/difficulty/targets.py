"""What an estimator of the ladder samples: a loss, its data and its center, built at random."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.data import Dataset
from slt_rl.difficulty.acting import POLICY, act
from slt_rl.difficulty.protocol import ACTION_SCALE, EPISODE, NUM_FEATURES, Protocol
from slt_rl.difficulty.rungs import VISITATION, Rung
from slt_rl.rl import (
    Batch,
    GaussianPolicy,
    Trajectories,
    Transitions,
    correct_states,
    density_ratio_weights,
    importance_regret,
    policy_kl,
    sampled_regret,
    trajectory_regret,
    value_error,
)
from toy_models import superposition as tms
from toy_models import superposition_memory as memory
from toy_models import superposition_rl as bandit
from toy_models import superposition_rungs as rungs
from toy_models import superposition_visitation as visits

# Policies of the rung of memory: with its state, and with a state that is emptied at every step.
REMEMBERING = GaussianPolicy(memory.recalled_outputs, ACTION_SCALE)
FORGETFUL = GaussianPolicy(memory.forgetful_outputs, ACTION_SCALE)


class Target(NamedTuple):
    """What an estimate is of: a loss, its data, its center."""

    loss_fn: Any
    data: Dataset
    center: Any


def _weighted(examples: dict[str, jax.Array]) -> Dataset:
    """Examples with weights of one, so that all rungs share one program."""
    return Dataset(examples, jnp.ones(examples["amplitude"].shape[0]))


def fresh_inputs(key: jax.Array, rung: Rung, label: str, *, protocol: Protocol) -> Dataset:
    """Independent inputs under the law of the rung."""
    return _weighted(rungs.sample_law(key, protocol.num_examples, rung.laws[label]))


def stale_inputs(key: jax.Array, rung: Rung, label: str, *, protocol: Protocol) -> Dataset:
    """Inputs from a buffer that lags behind, as they are."""
    del label
    assert rung.stale_law is not None
    return _weighted(rungs.sample_law(key, protocol.num_examples, rung.stale_law))


def weighted_inputs(key: jax.Array, rung: Rung, label: str, *, protocol: Protocol) -> Dataset:
    """The same, weighted to the current law of features; that of the buffer is counted."""
    stale = stale_inputs(key, rung, label, protocol=protocol)
    weights = correct_states(
        np.asarray(stale.examples["feature"]), target=np.asarray(rung.laws[label].probabilities)
    )
    return Dataset(stale.examples, jnp.asarray(weights))


def reweighted_inputs(key: jax.Array, rung: Rung, label: str, *, protocol: Protocol) -> Dataset:
    """The same, weighted by the ratio of both densities, which amplitudes ask for."""
    assert rung.stale_law is not None
    stale = stale_inputs(key, rung, label, protocol=protocol)
    densities = (input_density(stale.examples, law) for law in (rung.laws[label], rung.stale_law))
    return Dataset(stale.examples, jnp.asarray(density_ratio_weights(*densities)))


def input_density(examples: dict[str, jax.Array], law: rungs.Law) -> np.ndarray:
    """Density `p_i / A_i` of inputs under a law, zero above the range of the amplitude, `[n]`."""
    ranges = np.asarray(law.amplitudes)[np.asarray(examples["feature"])]
    density = np.asarray(law.probabilities)[np.asarray(examples["feature"])] / ranges
    return np.where(np.asarray(examples["amplitude"]) <= ranges, density, 0.0)


def shown_inputs(key: jax.Array, rung: Rung, label: str, *, protocol: Protocol) -> Dataset:
    """Independent inputs as episodes show them: first the feature, then the amplitude."""
    found = fresh_inputs(key, rung, label, protocol=protocol).examples
    shown = memory.show_in_parts(found, NUM_FEATURES)
    return _weighted({name: found[name] for name in ("feature", "amplitude")} | {"shown": shown})


def visited_inputs(key: jax.Array, rung: Rung, label: str, *, protocol: Protocol) -> Dataset:
    """Inputs that the policy meets when it plays."""
    met = visits.play_visitation(
        key,
        rung.points[label],
        VISITATION,
        num_envs=protocol.num_examples // 20,
        num_steps=20,
    )
    return _weighted({**met, "seen": jnp.ones_like(met["amplitude"])})


def _input_of(example: dict[str, jax.Array]) -> jax.Array:
    return tms.dense_inputs(example, NUM_FEATURES)


def build_regret(
    key,
    rung: Rung,
    label: str,
    *,
    protocol: Protocol,
    inputs_fn: Callable,
    policy: GaussianPolicy = POLICY,
) -> Target:
    """Sampled regret on common random numbers."""
    key_inputs, key_noise = jax.random.split(key)
    loss_fn, data = sampled_regret(
        key_noise,
        policy,
        bandit.sparse_reward,
        params=rung.points[label],
        observations=inputs_fn(key_inputs, rung, label, protocol=protocol),
        best_action_fn=_input_of,
    )
    return Target(loss_fn, data, rung.points[label])


def build_kl(
    key,
    rung: Rung,
    label: str,
    *,
    protocol: Protocol,
    inputs_fn: Callable,
    policy: GaussianPolicy = POLICY,
) -> Target:
    """Divergence from the frozen policy on given inputs."""
    inputs = inputs_fn(key, rung, label, protocol=protocol)
    return Target(*policy_kl(policy, rung.points[label], inputs), rung.points[label])


def build_supervised(key, rung: Rung, label: str, *, protocol: Protocol) -> Target:
    """Squared error on labels."""
    return Target(
        tms.example_loss, fresh_inputs(key, rung, label, protocol=protocol), rung.points[label]
    )


@dataclasses.dataclass(frozen=True)
class EpisodeLoss:
    """Regret of whole episodes, of which only the sum is paid, late.

        loss_i = factor * sum_t loss(w, x_it)

    Args:
        step_loss: Loss of single steps.
        factor: The discount for the delay, and what it is divided by.
    """

    step_loss: Any
    factor: float

    def __call__(self, params, examples):
        """Losses `[n]` of examples `[n, time]`."""
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), examples)
        losses = self.step_loss(params, flat)
        return self.factor * jnp.sum(losses.reshape(-1, EPISODE), axis=1)


def build_episodes(key, rung: Rung, label: str, *, protocol: Protocol, factor: float) -> Target:
    """Sampled regret of whole episodes, whose sum is paid with a factor."""
    loss_fn, data, center = build_regret(
        key, rung, label, protocol=protocol, inputs_fn=fresh_inputs
    )
    return Target(
        EpisodeLoss(loss_fn, factor / EPISODE), Dataset(_in_episodes(data.examples)), center
    )


def _in_episodes(steps: Any) -> Any:
    """Leaves `[n, ...]` as `[episode, time, ...]`."""
    return jax.tree.map(lambda x: x.reshape(-1, EPISODE, *x.shape[1:]), steps)


def build_trajectories(key, rung: Rung, label: str, *, protocol: Protocol) -> Target:
    """Regret by weights of whole episodes, from actions of the frozen policy."""
    key_inputs, key_action = jax.random.split(key)
    inputs, center = fresh_inputs(key_inputs, rung, label, protocol=protocol), rung.points[label]
    batch = act(key_action, center, inputs.examples, baseline_fn=jnp.mean)
    return Target(*trajectory_data(batch), center)


def trajectory_data(batch: Batch) -> tuple[Callable, Dataset]:
    """The importance-weighted regret of episodes, `EPISODE` steps of a batch each.

    What is paid is the mean advantage of the steps, all of it with the last one and without the
    discount for the delay. A weight for each reward would be the same: only the last step pays.
    """
    found = _in_episodes(batch)
    paid = jnp.mean(found.advantage, axis=1, keepdims=True)
    time = np.broadcast_to(np.arange(EPISODE), found.log_prob.shape)
    last = time == EPISODE - 1
    steps = Transitions(
        observation=found.observation,
        action=found.action,
        reward=np.where(last, paid, 0.0),
        terminated=last,
        truncated=np.zeros_like(last),
        log_prob=found.log_prob,
        final_observation=found.observation,
        start=time == 0,
        version=np.zeros_like(time),
        step=time,
    )
    return trajectory_regret(POLICY, Dataset(Trajectories(steps, jnp.ones(last.shape, bool))))


def critic_params(rung: Rung, label: str) -> jax.Array:
    """A critic fitted to the exact values `-(|x - f(x)|^2 + c sigma^2)` by least squares."""
    examples = {
        "feature": jnp.repeat(jnp.arange(NUM_FEATURES), 50),
        "amplitude": jnp.tile((jnp.arange(50) + 0.5) / 50, NUM_FEATURES),
    }
    features = jax.vmap(lambda e: jax.grad(rungs.sparse_value)(jnp.zeros(2 * NUM_FEATURES + 1), e))(
        examples
    )
    return jnp.linalg.lstsq(features, _values(rung.points[label], examples))[0]


def _values(params, examples) -> jax.Array:
    return -tms.example_loss(params, examples) - NUM_FEATURES * ACTION_SCALE**2


def build_critic(key, rung: Rung, label: str, *, protocol: Protocol) -> Target:
    """Error of the critic against its own values."""
    inputs = fresh_inputs(key, rung, label, protocol=protocol)
    center = critic_params(rung, label)
    targets = jax.vmap(functools.partial(rungs.sparse_value, center))(inputs.examples)
    return Target(*value_error(rungs.sparse_value, inputs, targets), center)


@dataclasses.dataclass(frozen=True)
class JointLoss:
    """Sum of a loss of the policy and a loss of the critic, on the same inputs."""

    policy_loss: Any
    value_loss: Any

    def __call__(self, params, examples):
        """Losses `[n]`."""
        policy = self.policy_loss(params["policy"], examples["policy"])
        return policy + self.value_loss(params["value"], examples["value"])


def build_joint(key, rung: Rung, label: str, *, protocol: Protocol) -> Target:
    """Regret of the policy and error of its critic, which share no parameter."""
    policy = build_regret(key, rung, label, protocol=protocol, inputs_fn=fresh_inputs)
    center = critic_params(rung, label)
    inputs = Dataset(policy.data.examples["observation"], policy.data.weights)
    targets = jax.vmap(functools.partial(rungs.sparse_value, center))(inputs.examples)
    value_loss, value_data = value_error(rungs.sparse_value, inputs, targets)
    return Target(
        JointLoss(policy.loss_fn, value_loss),
        Dataset({"policy": policy.data.examples, "value": value_data.examples}, inputs.weights),
        {"policy": policy.center, "value": center},
    )


def build_importance(
    key, rung: Rung, label: str, *, protocol: Protocol, values_fn: Callable
) -> Target:
    """Importance-weighted regret from actions of the frozen policy and a baseline."""
    key_inputs, key_action = jax.random.split(key)
    inputs, center = fresh_inputs(key_inputs, rung, label, protocol=protocol), rung.points[label]

    def baseline(rewards):
        del rewards
        return values_fn(rung, label, inputs.examples)

    batch = act(key_action, center, inputs.examples, baseline_fn=baseline)
    loss_fn, data = importance_regret(POLICY, batch)
    return Target(loss_fn, Dataset(data.examples, inputs.weights), center)


def exact_values(rung: Rung, label: str, examples) -> jax.Array:
    """Exact values of the frozen policy, a baseline."""
    return _values(rung.points[label], examples)


def critic_values(rung: Rung, label: str, examples) -> jax.Array:
    """Values of the fitted critic, a baseline."""
    return jax.vmap(functools.partial(rungs.sparse_value, critic_params(rung, label)))(examples)

"""The estimators that climb: a potential, a correction, and what they should find."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.data import Dataset
from slt_rl.difficulty.acting import POLICY, act
from slt_rl.difficulty.protocol import (
    ACTION_SCALE,
    DELAY,
    DISCOUNT,
    EPISODE,
    NUM_FEATURES,
    Protocol,
)
from slt_rl.difficulty.rungs import VISITATION, Population, Rung, kl, regret
from slt_rl.rl import (
    correct_states,
    importance_regret,
    policy_kl,
    sampled_regret,
    value_error,
)
from toy_models import superposition as tms
from toy_models import superposition_rl as bandit
from toy_models import superposition_rungs as rungs
from toy_models import superposition_visitation as visits


class Target(NamedTuple):
    """What an estimate is of: a loss, its data, its center."""

    loss_fn: Any
    data: Dataset
    center: Any


class Method(NamedTuple):
    """One estimator on one rung.

    Attributes:
        potential: Name of the potential.
        correction: Name of what is done about the difficulty.
        build: `(key, rung, label, protocol) -> Target`.
        wanted: `(rung, label) -> Population`, the exact potential whose value is asked for; None if
            it is that of the critic alone.
        predicted: `(rung, label) -> Population`, the exact mean of the loss that is sampled, if it
            is another.
        has_critic: Whether the parameters of a critic are measured too.
        is_ordered: Whether the classes should come out in their order.
    """

    potential: str
    correction: str
    build: Callable[[jax.Array, Rung, str, Protocol], Target]
    wanted: Callable[[Rung, str], Population] | None
    predicted: Callable[[Rung, str], Population] | None = None
    has_critic: bool = False
    is_ordered: bool = True

    @property
    def row(self) -> str:
        """The estimator with what is done about difficulties in general."""
        if self.predicted is not None:
            return f"{self.potential}, uncorrected"
        return f"{self.potential}, corrected" if self.correction else self.potential

    @property
    def name(self) -> str:
        """Potential and correction."""
        return f"{self.potential}, {self.correction}" if self.correction else self.potential


def _weighted(examples: dict[str, jax.Array], weights: Any = None) -> Dataset:
    """Examples with weights; ones if None, so that all rungs share one program."""
    ones = jnp.ones(examples["amplitude"].shape[0])
    return Dataset(examples, ones if weights is None else jnp.asarray(weights))


def _inputs(key: jax.Array, rung: Rung, label: str, protocol: Protocol) -> Dataset:
    """Independent inputs under the law of the rung."""
    return _weighted(rungs.sample_law(key, protocol.num_examples, rung.laws[label]))


def _stale_inputs(key: jax.Array, rung: Rung, label: str, protocol: Protocol) -> Dataset:
    """Inputs from a buffer that lags behind, as they are."""
    del label
    assert rung.stale_law is not None
    return _weighted(rungs.sample_law(key, protocol.num_examples, rung.stale_law))


def _corrected_inputs(key: jax.Array, rung: Rung, label: str, protocol: Protocol) -> Dataset:
    """The same, weighted to the current law of features; that of the buffer is counted."""
    stale = _stale_inputs(key, rung, label, protocol)
    weights = correct_states(
        np.asarray(stale.examples["feature"]), target=np.asarray(rung.laws[label].probabilities)
    )
    return Dataset(stale.examples, jnp.asarray(weights))


def _visited_inputs(key: jax.Array, rung: Rung, label: str, protocol: Protocol) -> Dataset:
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


def _build_regret(inputs_fn, key, rung: Rung, label: str, protocol: Protocol) -> Target:
    """Sampled regret on common random numbers."""
    key_inputs, key_noise = jax.random.split(key)
    loss_fn, data = sampled_regret(
        key_noise,
        POLICY,
        bandit.sparse_reward,
        params=rung.points[label],
        observations=inputs_fn(key_inputs, rung, label, protocol),
        best_action_fn=_input_of,
    )
    return Target(loss_fn, data, rung.points[label])


def _build_kl(inputs_fn, key, rung: Rung, label: str, protocol: Protocol) -> Target:
    """Divergence from the frozen policy on given inputs."""
    inputs = inputs_fn(key, rung, label, protocol)
    return Target(*policy_kl(POLICY, rung.points[label], inputs), rung.points[label])


def _build_supervised(key, rung: Rung, label: str, protocol: Protocol) -> Target:
    return Target(tms.example_loss, _inputs(key, rung, label, protocol), rung.points[label])


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


def _build_episodes(factor: float, key, rung: Rung, label: str, protocol: Protocol) -> Target:
    loss_fn, data, center = _build_regret(_inputs, key, rung, label, protocol)
    episodes = jax.tree.map(lambda x: x.reshape(-1, EPISODE, *x.shape[1:]), data.examples)
    return Target(EpisodeLoss(loss_fn, factor / EPISODE), Dataset(episodes), center)


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


def _build_critic(key, rung: Rung, label: str, protocol: Protocol) -> Target:
    """Error of the critic against its own values."""
    inputs = _inputs(key, rung, label, protocol)
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


def _build_joint(key, rung: Rung, label: str, protocol: Protocol) -> Target:
    """Regret of the policy and error of its critic, which share no parameter."""
    policy = _build_regret(_inputs, key, rung, label, protocol)
    center = critic_params(rung, label)
    inputs = Dataset(policy.data.examples["observation"], policy.data.weights)
    targets = jax.vmap(functools.partial(rungs.sparse_value, center))(inputs.examples)
    value_loss, value_data = value_error(rungs.sparse_value, inputs, targets)
    return Target(
        JointLoss(policy.loss_fn, value_loss),
        Dataset({"policy": policy.data.examples, "value": value_data.examples}, inputs.weights),
        {"policy": policy.center, "value": center},
    )


def _build_importance(values_fn, key, rung: Rung, label: str, protocol: Protocol) -> Target:
    """Importance-weighted regret from actions of the frozen policy and a baseline."""
    key_inputs, key_action = jax.random.split(key)
    inputs, center = _inputs(key_inputs, rung, label, protocol), rung.points[label]

    def baseline(rewards):
        del rewards
        return values_fn(rung, label, inputs.examples)

    batch = act(key_action, center, inputs.examples, baseline_fn=baseline)
    loss_fn, data = importance_regret(POLICY, batch)
    return Target(loss_fn, Dataset(data.examples, inputs.weights), center)


def _exact_values(rung: Rung, label: str, examples) -> jax.Array:
    return _values(rung.points[label], examples)


def _critic_values(rung: Rung, label: str, examples) -> jax.Array:
    return jax.vmap(functools.partial(rungs.sparse_value, critic_params(rung, label)))(examples)


def _stale(potential_fn, rung: Rung, label: str) -> Population:
    assert rung.stale_law is not None
    return Population(
        potential_fn, rung.stale_law, f"{rung.number} stale {potential_fn.__name__} {label}"
    )


def _frozen_visits(rung: Rung, label: str) -> Population:
    return Population(regret, rung.laws[label], f"{rung.number} frozen {label}")


def _late(rung: Rung, label: str) -> Population:
    return Population(regret, rung.laws[label], f"{rung.number} late {label}")


def methods_of(rung: Rung) -> tuple[Method, ...]:
    """The estimators that are tried on a rung."""
    special = {0: _supervised, 2: _with_critic, 3: _drifting, 4: _visiting, 5: _delayed}
    return special.get(rung.number, _plain)() + _importance(rung.number)


def _regret_on(inputs_fn) -> Callable:
    return functools.partial(_build_regret, inputs_fn)


def _kl_on(inputs_fn) -> Callable:
    return functools.partial(_build_kl, inputs_fn)


def _plain() -> tuple[Method, ...]:
    """Nothing to correct."""
    return (
        Method("sampled regret", "", _regret_on(_inputs), Rung.wanted_regret),
        Method("KL", "", _kl_on(_inputs), Rung.wanted_kl),
    )


def _supervised() -> tuple[Method, ...]:
    return (Method("squared error", "", _build_supervised, Rung.wanted_regret),)


def _importance(number: int) -> tuple[Method, ...]:
    """Tried where it has its best chance: one step, with an exact or a learned baseline."""
    baselines = {1: _exact_values, 2: _critic_values}
    if number not in baselines:
        return ()
    build = functools.partial(_build_importance, baselines[number])
    return (Method("importance regret", "", build, Rung.wanted_regret),)


def _with_critic() -> tuple[Method, ...]:
    """The policy's potentials are those of the bandit; the critic has one of its own."""
    joint = "regret + value error"
    return (
        *_plain(),
        Method("value error", "", _build_critic, None, has_critic=True, is_ordered=False),
        Method(joint, "", _build_joint, Rung.wanted_regret, has_critic=True),
    )


def _drifting() -> tuple[Method, ...]:
    """A buffer that lags, as it is and weighted to the current law."""
    stale, weighted = "stale data", "drift weights"
    stale_regret, stale_kl = (functools.partial(_stale, fn) for fn in (regret, kl))
    return (
        Method("sampled regret", stale, _regret_on(_stale_inputs), Rung.wanted_regret,
               stale_regret),
        Method("sampled regret", weighted, _regret_on(_corrected_inputs), Rung.wanted_regret),
        Method("KL", stale, _kl_on(_stale_inputs), Rung.wanted_kl, stale_kl),
        Method("KL", weighted, _kl_on(_corrected_inputs), Rung.wanted_kl),
    )  # fmt: skip


def _visiting() -> tuple[Method, ...]:
    """The states that the policy met; how they would move with it is not in the data."""
    return (
        Method("sampled regret", "visits frozen", _regret_on(_visited_inputs), Rung.wanted_regret,
               _frozen_visits),
        Method("KL", "", _kl_on(_visited_inputs), Rung.wanted_kl),
    )  # fmt: skip


def _delayed() -> tuple[Method, ...]:
    """Sums over episodes, discounted for the delay, as they are paid and divided by it."""
    paid, divided = (functools.partial(_build_episodes, f) for f in (DISCOUNT**DELAY, 1.0))
    return (
        Method("sampled regret", "as paid", paid, Rung.wanted_regret, _late),
        Method("sampled regret", "delay divided out", divided, Rung.wanted_regret),
        Method("KL", "", _kl_on(_inputs), Rung.wanted_kl),
    )

"""Errors of value functions."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from slt_rl.data import Dataset
from slt_rl.rl.buffer import Transitions
from slt_rl.rl.networks import ValueFn
from slt_rl.rl.potentials.examples import (
    check_callable,
    check_discount,
    check_finite,
    leading_axis,
    scale_statement,
    states_of,
)
from slt_rl.rl.tabular import TabularMDP

PyTree = Any


@dataclasses.dataclass(frozen=True)
class SquaredValueError:
    """Half squared error of a value function; see `value_error`."""

    value_fn: ValueFn

    scale_note = scale_statement(power=2)

    def __call__(self, params: PyTree, examples: PyTree) -> jax.Array:
        """Losses `[n]`, in units of squared return."""
        values = jax.vmap(functools.partial(self.value_fn, params))(examples["observation"])
        return 0.5 * (values - examples["target"]) ** 2


def value_error(
    value_fn: ValueFn, observations: PyTree, targets: jax.Array
) -> tuple[SquaredValueError, Dataset]:
    """Half squared error of a value function.

        loss_i(w) = (V_w(x_i) - target_i)^2 / 2

    Args:
        value_fn: `(params, observation) -> []`, hashable.
        observations: Pytree with leading axis `[n]`, or a `Dataset` whose weights are kept.
        targets: `[n]`, in units of return. With the values of the checkpoint itself as targets it
            is the minimum; with other targets it must first be trained to one.

    Returns:
        `(loss_fn, data)`, losses in units of squared return.

    Raises:
        ValueError: If `value_fn` is not callable, the leading axes differ, or a target is not
            finite.
    """
    check_callable("value_fn", value_fn)
    states, weights = states_of(observations)
    num_examples = leading_axis("observations", states)
    if jnp.shape(targets) != (num_examples,):
        raise ValueError(f"targets: got shape {jnp.shape(targets)}, expected ({num_examples},)")
    check_finite("targets", targets)
    examples = {"observation": states, "target": targets}
    return SquaredValueError(value_fn), Dataset(examples, weights)


@dataclasses.dataclass(frozen=True)
class BellmanError:
    """Half squared residual of one transition; see `bellman_error`."""

    value_fn: ValueFn
    discount: float

    scale_note = scale_statement(power=2)

    def __call__(self, params: PyTree, examples: PyTree) -> jax.Array:
        """Losses `[n]`, in units of squared return."""
        value = jax.vmap(functools.partial(self.value_fn, params))
        following = jnp.where(examples.terminated, 0, value(examples.final_observation))
        target = examples.reward + self.discount * following
        return 0.5 * (target - value(examples.observation)) ** 2


def bellman_error(
    value_fn: ValueFn, transitions: Dataset, *, discount: float
) -> tuple[BellmanError, Dataset]:
    """Half squared Bellman residual of single transitions, both values being differentiated.

        loss_i(w) = (r_i + discount (1 - terminated_i) V_w(s'_i) - V_w(s_i))^2 / 2

    With deterministic steps and full support it has the learning coefficient of the value error,
    since `I - discount P` is invertible. With random steps its mean has the variance of the target
    added, which depends on the parameters and moves the minimum: use `expected_bellman_error`, or
    `value_error` with frozen targets.

    Args:
        value_fn: `(params, observation) -> []`, hashable.
        transitions: `by_transition(...).data`. Truncated steps are followed by a value, terminated
            ones by zero.
        discount: Discount per step.

    Returns:
        `(loss_fn, data)`, losses in units of squared return.

    Raises:
        ValueError: If `value_fn` is not callable, the discount is not in [0, 1] or the examples are
            not transitions, or a reward is not finite.
    """
    check_callable("value_fn", value_fn)
    check_discount(discount)
    if not isinstance(transitions, Dataset) or not isinstance(transitions.examples, Transitions):
        raise ValueError("transitions: expected the data of by_transition")
    check_finite("transitions.reward", transitions.examples.reward)
    return BellmanError(value_fn, float(discount)), transitions


@dataclasses.dataclass(frozen=True, eq=False)
class ExpectedBellmanError:
    """Half squared expected residual of each state; see `expected_bellman_error`.

    Equal by identity.
    """

    value_fn: ValueFn
    observations: PyTree

    scale_note = scale_statement(power=2)

    def __call__(self, params: PyTree, examples: PyTree) -> jax.Array:
        """Losses `[n]`, in units of squared return."""
        values = jax.vmap(functools.partial(self.value_fn, params))(self.observations)
        following = examples["following"] @ values
        return 0.5 * (examples["reward"] + following - values[examples["state"]]) ** 2


def expected_bellman_error(
    value_fn: ValueFn, mdp: TabularMDP, policy: Any, *, observations: PyTree
) -> tuple[ExpectedBellmanError, Dataset]:
    """Half squared *expected* Bellman residual in every state of a finite MDP.

        loss_s(w) = (r_pi(s) + discount (P_pi V_w)(s) - V_w(s))^2 / 2

    Zero at the values of the policy; the learning coefficient of the value error, since
    `V -> (I - discount P_pi) V - r_pi` is an invertible affine map.

    Args:
        value_fn: `(params, observation) -> []`, hashable.
        mdp: The process.
        policy: `[S, A]` probabilities of the policy that is evaluated.
        observations: `[S, ...]`, one per state.

    Returns:
        `(loss_fn, data)`, losses in units of squared return, one example per state. The states are
        not a sample: `nbeta` must be given.

    Raises:
        ValueError: If `value_fn` is not callable, or shapes do not fit the process.
    """
    check_callable("value_fn", value_fn)
    size = leading_axis("observations", observations)
    if size != mdp.num_states or jnp.shape(policy) != mdp.reward.shape:
        raise ValueError(
            f"policy: got shape {jnp.shape(policy)} and {size} observations, expected "
            f"{mdp.reward.shape} and {mdp.num_states}"
        )
    examples = {
        "state": jnp.arange(size),
        "reward": jnp.sum(jnp.asarray(policy) * mdp.reward, axis=1),
        "following": mdp.discount * jnp.einsum("sa,sat->st", policy, mdp.transition),
    }
    return ExpectedBellmanError(value_fn, observations), Dataset(examples)

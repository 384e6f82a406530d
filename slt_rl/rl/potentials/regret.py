"""Regret that needs no weights: in closed form, on common random numbers, or over all actions."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from slt_rl._numbers import check_positive
from slt_rl.data import Dataset
from slt_rl.rl.distributions import DiagonalGaussian
from slt_rl.rl.networks import Policy
from slt_rl.rl.potentials.examples import (
    check_callable,
    check_finite,
    leading_axis,
    scale_statement,
    states_of,
)

PyTree = Any


@dataclasses.dataclass(frozen=True)
class ExactRegret:
    """`R(w) = (optimal_return - return_fn(w)) / unit`; see `exact_regret`."""

    return_fn: Callable[[PyTree], jax.Array]
    optimal_return: float
    unit: float = 1.0

    @property
    def scale_note(self) -> str:
        """In which unit of reward the loss is; repeated in the `notes` of an estimate."""
        return scale_statement(self.unit)

    def __call__(self, params: PyTree) -> jax.Array:
        """The regret `[]`, in units of return."""
        return (self.optimal_return - self.return_fn(params)) / self.unit


def exact_regret(
    return_fn: Callable[[PyTree], jax.Array], optimal_return: float, *, unit: float = 1.0
) -> ExactRegret:
    """Exact regret of a policy whose expected return is known in closed form.

        R(w) = (J* - J(w)) / unit

    Args:
        return_fn: `params -> []`, the exact expected return `J`; hashable, and equal for equal
            arguments if the potential is built more than once.
        optimal_return: `J*`, the best return of the same class of policies, a number. It shifts the
            potential by a constant, to which a learning coefficient is blind.
        unit: Divides the regret. At a given `nbeta` the scale of rewards is a temperature: with the
            regret of the uniform policy as unit, numbers do not depend on it.

    Returns:
        An exact potential.

    Raises:
        ValueError: If `return_fn` is not callable, `optimal_return` is not a finite number or
            `unit` is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> regret = exact_regret(lambda w: 1.0 - jnp.sum(w**2), 1.0)
        >>> float(regret(jnp.ones(2)))
        2.0
    """
    check_callable("return_fn", return_fn)
    value = float(optimal_return)
    if not -jnp.inf < value < jnp.inf:
        raise ValueError(f"optimal_return: got {optimal_return}, expected a finite number")
    check_positive("unit", unit)
    return ExactRegret(return_fn, value, float(unit))


@dataclasses.dataclass(frozen=True)
class SampledRegret:
    """Regret of one-step problems on common random numbers; see `sampled_regret`."""

    policy: Callable[[PyTree, PyTree], DiagonalGaussian]
    reward_fn: Callable[[PyTree, jax.Array], jax.Array]

    scale_note = scale_statement()

    def __call__(self, params: PyTree, examples: PyTree) -> jax.Array:
        """Losses `[n]`, in units of reward."""
        rewards = jax.vmap(lambda x, z: self.reward_fn(x, self.policy(params, x).transform(z)))
        return examples["best_reward"] - rewards(examples["observation"], examples["noise"])


def sampled_regret(
    key: jax.Array,
    policy: Callable[[PyTree, PyTree], DiagonalGaussian],
    reward_fn: Callable[[PyTree, jax.Array], jax.Array],
    *,
    params: PyTree,
    observations: PyTree,
    best_action_fn: Callable[[PyTree], jax.Array] | None = None,
) -> tuple[SampledRegret, Dataset]:
    """Regret on sampled observations with common random numbers, `a = mean + scale * z`.

        loss_i(w) = r(x_i, best(x_i) + scale z_i) - r(x_i, mean_w(x_i) + scale z_i)

    The noise `z_i` is drawn once: the loss is a fixed differentiable function of the parameters.
    Its mean is unbiased for the regret of one-step problems. For the reward `-|a - x|^2` it is
    regression with label noise, `L_n - (2 scale/n) sum <z, x - f> + const`.

    Args:
        key: Random key, consumed.
        policy: `(params, observation) -> DiagonalGaussian`, hashable.
        reward_fn: `(observation, action) -> []`, differentiable in the action; hashable.
        params: Parameters that give the shape of an action; their values matter only if the scale
            is learned and `best_action_fn` is given.
        observations: Pytree with leading axis `[n]`, or a `Dataset` whose weights are kept.
        best_action_fn: `observation -> action`, the mean of the best policy, which acts with the
            same noise. Without it the loss is the negative reward, which is the regret plus
            something that does not depend on the parameters.

    Returns:
        `(loss_fn, data)`, losses in units of reward.

    Raises:
        ValueError: If an argument is not callable or there are no observations.
    """
    check_callable("policy", policy)
    check_callable("reward_fn", reward_fn)
    observations, weights = states_of(observations)
    num_examples = leading_axis("observations", observations)
    distribution = jax.vmap(functools.partial(policy, params))(observations)
    noise = jax.random.normal(key, distribution.mean.shape, distribution.mean.dtype)
    best = jnp.zeros(num_examples, noise.dtype)
    if best_action_fn is not None:
        means = jax.vmap(best_action_fn)(observations).astype(noise.dtype)
        actions = jax.vmap(lambda d, m, z: dataclasses.replace(d, mean=m).transform(z))(
            distribution, means, noise
        )
        best = jax.vmap(reward_fn)(observations, actions)
    examples = {"observation": observations, "noise": noise, "best_reward": best}
    return SampledRegret(policy, reward_fn), Dataset(examples, weights)


@dataclasses.dataclass(frozen=True)
class AllActionRegret:
    """Expected cost of suboptimal actions at each state; see `all_action_regret`."""

    policy: Policy

    scale_note = scale_statement()

    def __call__(self, params: PyTree, examples: PyTree) -> jax.Array:
        """Losses `[n]`, in units of return."""

        def one(observation, gaps):
            return jnp.sum(jax.nn.softmax(self.policy(params, observation).logits) * gaps)

        return jax.vmap(one)(examples["observation"], examples["gap"])


def all_action_regret(
    policy: Policy, observations: PyTree, action_values: jax.Array
) -> tuple[AllActionRegret, Dataset]:
    """Regret on given states from the optimal value of *every* action: nothing is sampled.

        loss_i(w) = max_a Q*(x_i, a) - sum_a pi_w(a|x_i) Q*(x_i, a)

    For one-step problems the exact regret on these states. Over several steps the states' law is
    held fixed, where that of the regret moves with the policy: comparable, with the same learning
    coefficient, if the states cover what the policy visits.

    Args:
        policy: `(params, observation) -> Categorical`, hashable.
        observations: Pytree with leading axis `[n]`, or a `Dataset` whose weights are kept.
        action_values: `[n, A]`, in units of return.

    Returns:
        `(loss_fn, data)`, losses in units of return, not negative.

    Raises:
        ValueError: If `policy` is not callable, there are no observations, or the action values
            have another leading axis or are not finite.
    """
    check_callable("policy", policy)
    states, weights = states_of(observations)
    num_examples = leading_axis("observations", states)
    if jnp.ndim(action_values) != 2 or len(action_values) != num_examples:
        raise ValueError(
            f"action_values: got shape {jnp.shape(action_values)}, expected [{num_examples}, A]"
        )
    check_finite("action_values", action_values)
    gaps = jnp.max(action_values, axis=1, keepdims=True) - action_values
    return AllActionRegret(policy), Dataset({"observation": states, "gap": gaps}, weights)

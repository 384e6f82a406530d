"""Regret from the actions of another policy, by importance weights: flagged, a last resort.

The weights depend on the parameters that are sampled. The noise of the sampled potential then
biases the learning coefficient, in bad cases however large `n` is: see `importance_diagnostics`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from slt_rl.data import Dataset
from slt_rl.rl.actions import action_log_prob
from slt_rl.rl.networks import Policy
from slt_rl.rl.potentials.examples import (
    check_actions,
    check_callable,
    check_discount,
    check_finite,
    check_log_prob,
    policy_data,
    scale_statement,
    trajectories_of,
)
from slt_rl.rl.ppo import Batch
from slt_rl.rl.synthesis import Trajectories

PyTree = Any


@dataclasses.dataclass(frozen=True)
class ImportanceRegret:
    """Regret by importance weights; see `importance_regret`."""

    policy: Policy

    scale_note = scale_statement()

    def __call__(self, params: PyTree, examples: Batch) -> jax.Array:
        """Losses `[n]`, in units of advantage."""
        return -self.importance_weights(params, examples) * examples.advantage

    def importance_weights(self, params: PyTree, examples: Batch) -> jax.Array:
        """Ratios `pi_w/pi_old` `[n]`."""
        return jnp.exp(action_log_prob(self.policy, params, examples) - examples.log_prob)


def importance_regret(policy: Policy, batch: Batch) -> tuple[ImportanceRegret, Dataset]:
    """Regret of one-step problems from actions of another policy, by importance weights.

        loss_i(w) = -(pi_w(a_i|x_i) / pi_old(a_i|x_i)) A_i,    E loss = R(w) - R(w_old)

    exactly, for one step and a fixed law of observations; the same critical points and learning
    coefficients as the regret. Over several steps the law of states moves with the policy and this
    is only a first-order statement. The variance grows like `exp(|f - f_old|^2 / scale^2)`, and
    where the regret is flatter than the policy the sampled potential has the wrong learning
    coefficient however large `n` is: prefer exact regret or common random numbers.

    Args:
        policy: `(params, observation) -> distribution`, hashable.
        batch: Actions with their behavior log probabilities, and advantages `A` that are not
            normalized; targets are ignored.

    Returns:
        `(loss_fn, data)`, losses in units of advantage, not bounded below.

    Raises:
        ValueError: If `policy` is not callable, leading axes differ, behavior log probabilities are
            missing, or a number is not finite.
    """
    check_callable("policy", policy)
    check_log_prob("batch", batch.log_prob)
    return ImportanceRegret(policy), policy_data(batch)


@dataclasses.dataclass(frozen=True)
class TrajectoryRegret:
    """Regret by weights of whole trajectories; see `trajectory_regret`."""

    policy: Policy
    discount: float
    baseline: float

    scale_note = scale_statement()

    def __call__(self, params: PyTree, examples: Trajectories) -> jax.Array:
        """Losses `[n]`, in units of return."""
        returns = jnp.sum(_discounted(examples, self.discount), axis=1)
        return -self.importance_weights(params, examples) * (returns - self.baseline)

    def importance_weights(self, params: PyTree, examples: Trajectories) -> jax.Array:
        """Products of ratios over whole trajectories `[n]`."""
        return _products(self.policy, params, examples)[:, -1]


def trajectory_regret(
    policy: Policy, trajectories: Dataset, *, discount: float = 1.0, baseline: float = 0.0
) -> tuple[TrajectoryRegret, Dataset]:
    """Regret from recorded trajectories, one weight for each.

        loss_i(w) = -(prod_t pi_w(a_t|s_t)/mu(a_t|s_t)) (R_i - baseline),   E loss = baseline - J(w)

    Args:
        policy: `(params, observation) -> distribution`, hashable.
        trajectories: `by_trajectory(...).data` with behavior log probabilities.
        discount: Discount per step of the return `R_i`.
        baseline: A constant near the mean return: less variance at the behavior policy.

    Returns:
        `(loss_fn, data)`, losses in units of return, not bounded below. Ask
        `importance_diagnostics` whether they may be used.

    Raises:
        ValueError: If `policy` is not callable, the discount is not in [0, 1], the examples are not
            trajectories, behavior log probabilities are missing, or a number is not finite.
    """
    _check_trajectories(policy, trajectories, discount)
    return TrajectoryRegret(policy, float(discount), float(baseline)), trajectories


@dataclasses.dataclass(frozen=True)
class PerDecisionRegret:
    """Regret by weights up to each reward; see `per_decision_regret`."""

    policy: Policy
    discount: float

    scale_note = scale_statement()

    def __call__(self, params: PyTree, examples: Trajectories) -> jax.Array:
        """Losses `[n]`, in units of return."""
        products = _products(self.policy, params, examples)
        return -jnp.sum(products * _discounted(examples, self.discount), axis=1)

    def importance_weights(self, params: PyTree, examples: Trajectories) -> jax.Array:
        """Products of ratios over whole trajectories `[n]`, the largest that enter."""
        return _products(self.policy, params, examples)[:, -1]


def per_decision_regret(
    policy: Policy, trajectories: Dataset, *, discount: float = 1.0
) -> tuple[PerDecisionRegret, Dataset]:
    """Regret from recorded trajectories, each reward with the ratios of the actions before it.

        loss_i(w) = -sum_t discount^t (prod_{k <= t} pi_w(a_k|s_k)/mu(a_k|s_k)) r_t

    Unbiased for `-J(w)`, and of smaller variance than `trajectory_regret` where rewards come early;
    equal to it where only the last step pays.

    Args:
        policy: `(params, observation) -> distribution`, hashable.
        trajectories: `by_trajectory(...).data` with behavior log probabilities.
        discount: Discount per step.

    Returns:
        `(loss_fn, data)`, losses in units of return, not bounded below. Ask
        `importance_diagnostics` whether they may be used.

    Raises:
        ValueError: As `trajectory_regret`.
    """
    _check_trajectories(policy, trajectories, discount)
    return PerDecisionRegret(policy, float(discount)), trajectories


@dataclasses.dataclass(frozen=True, eq=False)
class SelfNormalizedRegret:
    """Regret by self-normalized weights; see `self_normalized_regret`. Equal by identity."""

    policy: Policy
    discount: float
    trajectories: Dataset

    scale_note = scale_statement()

    def __call__(self, params: PyTree) -> jax.Array:
        """The potential `[]`, in units of return."""
        return jnp.mean(self.per_example(params))

    def per_example(self, params: PyTree) -> jax.Array:
        """What each trajectory contributes, `[n]`; the mean is the potential."""
        examples = self.trajectories.examples
        products = _products(self.policy, params, examples)
        if self.trajectories.weights is not None:
            products = products * jnp.asarray(self.trajectories.weights)[:, None]
        weights = products / jnp.mean(products, axis=0)
        return -jnp.sum(weights * _discounted(examples, self.discount), axis=1)


def self_normalized_regret(
    policy: Policy, trajectories: Dataset, *, discount: float = 1.0
) -> SelfNormalizedRegret:
    """Per-decision regret with weights divided by their mean over all trajectories.

        L(w) = -sum_t discount^t (sum_i w_it r_it) / (sum_i w_it)

    Bounded by the rewards, unlike the plain form, and biased by `O(1/n)`. The noise of the weights
    harms the learning coefficient all the same.

    Args:
        policy: `(params, observation) -> distribution`, hashable.
        trajectories: `by_trajectory(...).data` with behavior log probabilities.
        discount: Discount per step.

    Returns:
        An exact potential of the parameters: the normalization needs all trajectories at once, so
        that minibatches would be biased. Give `nbeta`, such as `n/log n`.

    Raises:
        ValueError: As `trajectory_regret`.
    """
    _check_trajectories(policy, trajectories, discount)
    return SelfNormalizedRegret(policy, float(discount), trajectories)


def _products(policy: Policy, params: PyTree, examples: Trajectories) -> jax.Array:
    """Products of ratios up to and including each step, `[n, time]`."""
    steps = examples.steps
    log_prob = jax.vmap(lambda s: action_log_prob(policy, params, s))(steps)
    ratio = jnp.where(examples.mask, log_prob - steps.log_prob, 0)
    return jnp.exp(jnp.cumsum(ratio, axis=1))


def _discounted(examples: Trajectories, discount: float) -> jax.Array:
    """`discount^t r_t` `[n, time]`, zero on padding."""
    reward = jnp.where(examples.mask, examples.steps.reward, 0)
    return reward * discount ** jnp.arange(reward.shape[1])


def _check_trajectories(policy: Policy, trajectories: Dataset, discount: float) -> None:
    check_callable("policy", policy)
    check_discount(discount)
    steps = trajectories_of(trajectories).steps
    check_log_prob("trajectories", steps.log_prob)
    check_finite("trajectories.reward", steps.reward)
    check_actions("trajectories.action", steps.action)

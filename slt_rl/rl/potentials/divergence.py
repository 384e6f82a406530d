"""Divergence of a policy from its frozen self or from a demonstrator."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from slt_rl.data import Dataset
from slt_rl.rl.actions import action_log_prob
from slt_rl.rl.networks import Policy
from slt_rl.rl.potentials.examples import (
    check_actions,
    check_callable,
    leading_axis,
    states_of,
    trajectories_of,
)

PyTree = Any


@dataclasses.dataclass(frozen=True)
class PolicyKL:
    """Divergence from a frozen policy; see `policy_kl`."""

    policy: Policy

    def __call__(self, params: PyTree, examples: PyTree) -> jax.Array:
        """Losses `[n]`, in nats."""
        return jax.vmap(lambda x, frozen: frozen.kl(self.policy(params, x)))(
            examples["observation"], examples["reference"]
        )


def policy_kl(
    policy: Policy, reference_params: PyTree, observations: PyTree
) -> tuple[PolicyKL, Dataset]:
    """Divergence of a policy from its frozen self, on given observations.

        loss_i(w) = KL(pi_{w*}(. | x_i) || pi_w(. | x_i))

    Non-negative, zero at the reference and with zero gradient there, whether or not the reference
    is a critical point of the return: defined at every checkpoint of a training.

    Args:
        policy: `(params, observation) -> distribution`, hashable.
        reference_params: Parameters `w*` of the frozen policy; may be traced.
        observations: Pytree with leading axis `[n]`, or a `Dataset` whose weights are kept.

    Returns:
        `(loss_fn, data)`, losses in nats. The parameters of the frozen distributions are stored in
        the data, and not computed again.

    Raises:
        ValueError: If `policy` is not callable or there are no observations.
    """
    check_callable("policy", policy)
    states, weights = states_of(observations)
    leading_axis("observations", states)
    reference = jax.vmap(functools.partial(policy, reference_params))(states)
    return PolicyKL(policy), Dataset({"observation": states, "reference": reference}, weights)


@dataclasses.dataclass(frozen=True)
class TrajectoryKL:
    """Divergence summed over the steps of a trajectory; see `trajectory_kl`."""

    policy: Policy

    def __call__(self, params: PyTree, examples: PyTree) -> jax.Array:
        """Losses `[n]`, in nats per trajectory."""

        def step(observation, frozen):
            return frozen.kl(self.policy(params, observation))

        terms = jax.vmap(jax.vmap(step))(examples["observation"], examples["reference"])
        return jnp.sum(jnp.where(examples["mask"], terms, 0), axis=1)


def trajectory_kl(
    policy: Policy, reference_params: PyTree, trajectories: Dataset
) -> tuple[TrajectoryKL, Dataset]:
    """Divergence of whole trajectories from those of the frozen policy.

        loss_i(w) = sum_t KL(pi_{w*}(. | s_t) || pi_w(. | s_t))

    By the chain rule its mean over trajectories of `pi_{w*}` is `KL(P_{w*} || P_w)`, since both
    policies meet the same dynamics. The independent unit is the trajectory; `policy_kl` on the
    single steps has the same learning coefficient, and a value of `nbeta` per step.

    Args:
        policy: `(params, observation) -> distribution`, hashable.
        reference_params: Parameters `w*` of the frozen policy; may be traced.
        trajectories: `by_trajectory(...).data`.

    Returns:
        `(loss_fn, data)`, losses in nats per trajectory.

    Raises:
        ValueError: If `policy` is not callable or the examples are not trajectories.
    """
    check_callable("policy", policy)
    examples = trajectories_of(trajectories)
    observation = examples.steps.observation
    reference = jax.vmap(jax.vmap(functools.partial(policy, reference_params)))(observation)
    frozen = {"observation": observation, "reference": reference, "mask": examples.mask}
    return TrajectoryKL(policy), Dataset(frozen, trajectories.weights)


@dataclasses.dataclass(frozen=True)
class BehaviorCloning:
    """Negative log-likelihood of demonstrated actions; see `behavior_cloning`."""

    policy: Policy

    def __call__(self, params: PyTree, examples: PyTree) -> jax.Array:
        """Losses `[n]`, in nats."""
        return -action_log_prob(self.policy, params, examples)


class Demonstrations(NamedTuple):
    """Examples of behavior cloning; leading axis `[n]`.

    Attributes:
        observation: What was acted on.
        action: What was done.
    """

    observation: PyTree
    action: jax.Array


def behavior_cloning(
    policy: Policy, observations: PyTree, actions: jax.Array
) -> tuple[BehaviorCloning, Dataset]:
    """Negative log-likelihood of recorded actions, supervised learning of a policy.

        loss_i(w) = -log pi_w(a_i | x_i)

    A likelihood: the covariance of its gradients equals its Hessian where the policy can imitate
    the demonstrator, so that noise does no harm. Its minimum is at the demonstrator's policy and
    not at a checkpoint trained on something else; there use `policy_kl`, which is its mean over the
    actions of the checkpoint itself, up to a constant.

    Args:
        policy: `(params, observation) -> distribution`, hashable.
        observations: Pytree with leading axis `[n]`, or a `Dataset` whose weights are kept.
        actions: `[n, ...]`.

    Returns:
        `(loss_fn, data)`, losses in nats. A call raises ValueError if the actions are not of the
        shape and kind of the policy's.

    Raises:
        ValueError: If `policy` is not callable, there are no observations, leading axes differ, or
            an index of an action is negative.
    """
    check_callable("policy", policy)
    states, weights = states_of(observations)
    num_examples = leading_axis("observations", states)
    if leading_axis("actions", actions) != num_examples:
        raise ValueError(
            f"actions: got shape {jnp.shape(actions)}, expected leading axis {num_examples}"
        )
    actions = jnp.asarray(actions)
    check_actions("actions", actions)
    return BehaviorCloning(policy), Dataset(Demonstrations(states, actions), weights)

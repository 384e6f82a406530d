"""Negative controls: losses that train a policy and have no learning coefficient."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from slt_rl.data import Dataset
from slt_rl.rl.actions import action_log_prob
from slt_rl.rl.networks import Policy
from slt_rl.rl.potentials.examples import check_callable, check_log_prob, policy_data
from slt_rl.rl.ppo import Batch

PyTree = Any


@dataclasses.dataclass(frozen=True)
class ClippedSurrogate:
    """PPO's clipped objective, a negative control; see `clipped_surrogate`."""

    policy: Policy
    clip: float

    negative_control = (
        "PPO's clipped surrogate is no potential: its gradient at the behavior policy is the "
        "policy gradient, and beyond the clip range it is flat"
    )

    def __call__(self, params: PyTree, examples: Batch) -> jax.Array:
        """Losses `[n]`, in units of advantage."""
        ratio = jnp.exp(action_log_prob(self.policy, params, examples) - examples.log_prob)
        clipped = jnp.clip(ratio, 1 - self.clip, 1 + self.clip)
        return -jnp.minimum(ratio * examples.advantage, clipped * examples.advantage)


def clipped_surrogate(
    policy: Policy, batch: Batch, *, clip: float = 0.2
) -> tuple[ClippedSurrogate, Dataset]:
    """PPO's clipped objective as a loss: a *negative control*, not to be used for an LLC.

        loss_i(w) = -min(r_i A_i, clip(r_i, 1 - clip, 1 + clip) A_i)

    Args:
        policy: `(params, observation) -> distribution`, hashable.
        batch: Actions, behavior log probabilities and advantages; targets are ignored.
        clip: Half width of the range of ratios.

    Returns:
        `(loss_fn, data)`; `loss_fn.negative_control` says why it is refused.

    Raises:
        ValueError: If `clip` is not positive, `policy` not callable, leading axes differ, behavior
            log probabilities are missing, or a number is not finite.
    """
    check_callable("policy", policy)
    check_log_prob("batch", batch.log_prob)
    if not clip > 0:
        raise ValueError(f"clip: got {clip}, expected a positive number")
    return ClippedSurrogate(policy, float(clip)), policy_data(batch)


@dataclasses.dataclass(frozen=True)
class ScoreSurrogate:
    """The score-function objective, a negative control; see `score_surrogate`."""

    policy: Policy

    negative_control = (
        "the score-function surrogate has the right gradient at the behavior policy and the wrong "
        "curvature: its Hessian is indefinite at the minima of the regret"
    )

    def __call__(self, params: PyTree, examples: Batch) -> jax.Array:
        """Losses `[n]`, in units of advantage times nats."""
        return -examples.advantage * action_log_prob(self.policy, params, examples)


def score_surrogate(policy: Policy, batch: Batch) -> tuple[ScoreSurrogate, Dataset]:
    """The score-function objective as a loss: a *negative control*, not to be used for an LLC.

        loss_i(w) = -A_i log pi_w(a_i|x_i)

    Args:
        policy: `(params, observation) -> distribution`, hashable.
        batch: Actions and advantages; targets and behavior log probabilities are ignored.

    Returns:
        `(loss_fn, data)`; `loss_fn.negative_control` says why it is refused.

    Raises:
        ValueError: If `policy` is not callable, leading axes differ, or an advantage is not finite.
    """
    check_callable("policy", policy)
    return ScoreSurrogate(policy), policy_data(batch)

"""Recorded actions under a policy."""

from typing import Any

import jax
import jax.numpy as jnp

from slt_rl.rl.networks import Policy

PyTree = Any


def action_log_prob(policy: Policy, params: PyTree, steps: Any) -> jax.Array:
    """Log probabilities `[n]` of `steps.action` at `steps.observation`, in nats.

    Raises:
        ValueError: While tracing, if an action has another shape or kind than those of the policy.
    """

    def one(observation, action):
        distribution = policy(params, observation)
        mode = distribution.mode()
        floating = [jnp.issubdtype(x.dtype, jnp.floating) for x in (action, mode)]
        if action.shape != mode.shape or floating[0] != floating[1]:
            raise ValueError(
                f"action: got {action.dtype} of shape {action.shape}, but the policy acts in "
                f"{mode.dtype} of shape {mode.shape}"
            )
        return distribution.log_prob(action)

    return jax.vmap(one)(steps.observation, steps.action)

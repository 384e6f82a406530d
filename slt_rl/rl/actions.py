"""Actions: recorded ones under a policy, and whether those of a policy are the environment's."""

from typing import Any

import jax
import jax.numpy as jnp

from slt_rl.rl.distributions import Categorical, DiagonalGaussian
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


def check_action_space(distribution: Any, num_actions: int | None) -> None:
    """Refuses a policy that acts in another space than the environment.

    Environments written for an accelerator take any number for an action, and go on.

    Args:
        distribution: What the policy returned; one of a kind of your own is not checked.
        num_actions: Those of the environment; 0 where they are continuous, None where it does not
            say.

    Raises:
        ValueError: While tracing, if the policy has another number of actions, one is continuous
            and the other is not, or there is no distribution to draw from.
    """
    if isinstance(distribution, Categorical):
        found = distribution.logits.shape[-1]
    elif isinstance(distribution, DiagonalGaussian):
        found = 0
    elif callable(getattr(distribution, "sample", None)):
        return
    else:
        kind = type(distribution).__name__
        raise ValueError(f"policy: returned a {kind}, expected a distribution, as Categorical")
    if num_actions is not None and found != num_actions:
        raise ValueError(
            f"policy: acts in {_space(found)}, but the environment has {_space(num_actions)}"
        )


def _space(num_actions: int) -> str:
    return f"{num_actions} discrete actions" if num_actions else "continuous actions"

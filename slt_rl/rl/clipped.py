"""What proximal policy optimization is for any kind of agent."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from slt_rl._numbers import check_count
from slt_rl.rl.advantages import generalized_advantages

PyTree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClippedObjective:
    """Hyper-parameters and losses that `PPO` and `RecurrentPPO` share; documented there."""

    optimizer: optax.GradientTransformation = dataclasses.field(metadata={"static": True})
    num_envs: int = dataclasses.field(metadata={"static": True})
    num_steps: int = dataclasses.field(metadata={"static": True})
    num_epochs: int = dataclasses.field(default=4, metadata={"static": True})
    num_minibatches: int = dataclasses.field(default=4, metadata={"static": True})
    normalize_advantages: bool = dataclasses.field(default=True, metadata={"static": True})
    discount: Any = 0.99
    gae_lambda: Any = 0.95
    clip: Any = 0.2
    entropy_weight: Any = 0.0
    value_weight: Any = 0.5

    def check(self, num_examples: int, meaning: str) -> None:
        """Raises ValueError unless every number is in its range and minibatches divide examples.

        Args:
            num_examples: Examples per iteration.
            meaning: What they are, in terms of the fields.
        """
        for name in ("num_envs", "num_steps", "num_epochs", "num_minibatches"):
            check_count(name, getattr(self, name))
        for name, top in (
            ("discount", 1),
            ("gae_lambda", 1),
            ("clip", math.inf),
            ("entropy_weight", math.inf),
            ("value_weight", math.inf),
        ):
            value = getattr(self, name)
            # Inside a transformation the fields are tracers or placeholders: nothing to check.
            if isinstance(value, (int, float)) and not 0 <= value <= top:
                raise ValueError(f"{name}: got {value}, expected a number in [0, {top}]")
        if num_examples % self.num_minibatches:
            raise ValueError(
                f"num_minibatches: got {self.num_minibatches}, expected a divisor of "
                f"{meaning} = {num_examples}"
            )

    @property
    def batch_size(self) -> int:
        """Steps per iteration, `num_envs * num_steps`."""
        return self.num_envs * self.num_steps

    def estimate_advantages(
        self, play: Any, *, values: jax.Array, next_values: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Advantages and value targets of a stretch of play.

        Args:
            play: Object with `reward`, `terminated` and `truncated`, `[time, env]`.
            values: `V(s_t)`, `[time, env]`.
            next_values: Values of the true successors, before any reset, `[time, env]`.

        Returns:
            Advantages, normalized if asked for; targets; and the share of the targets' variance
            that the values explain, `[]`.
        """
        advantages = generalized_advantages(
            play.reward,
            values,
            next_values,
            terminated=play.terminated,
            truncated=play.truncated,
            discount=self.discount,
            gae_lambda=self.gae_lambda,
        )
        targets = advantages + values
        explained = 1 - jnp.var(advantages) / (jnp.var(targets) + 1e-12)
        if self.normalize_advantages:
            advantages = (advantages - jnp.mean(advantages)) / (jnp.std(advantages) + 1e-8)
        return advantages, targets, explained

    def clipped_loss(
        self, batch: Any, *, distribution: Any, values: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The training loss on some examples, and its parts by the names of `PPOStats`.

        Args:
            batch: A `Batch` of examples, `[n]`.
            distribution: Distributions of their actions under the parameters that learn, `[n]`.
            values: Their values, `[n]`.
        """
        log_prob = jax.vmap(lambda d, a: d.log_prob(a))(distribution, batch.action)
        entropy = jnp.mean(jax.vmap(lambda d: d.entropy())(distribution))
        log_ratio = log_prob - batch.log_prob
        ratio = jnp.exp(log_ratio)
        clipped = jnp.clip(ratio, 1 - self.clip, 1 + self.clip)
        policy_loss = -jnp.mean(jnp.minimum(ratio * batch.advantage, clipped * batch.advantage))
        value_loss = 0.5 * jnp.mean((values - batch.target) ** 2)
        total = policy_loss + self.value_weight * value_loss - self.entropy_weight * entropy
        parts = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "approx_kl": jnp.mean(ratio - 1 - log_ratio),
            "clip_fraction": jnp.mean(jnp.abs(ratio - 1) > self.clip, dtype=ratio.dtype),
        }
        return total, parts


def optimize(
    keys: jax.Array,
    start: tuple[PyTree, PyTree],
    *,
    optimizer: optax.GradientTransformation,
    loss_fn: Callable[[PyTree, PyTree], tuple[jax.Array, dict[str, jax.Array]]],
    minibatches_fn: Callable[[jax.Array], PyTree],
) -> tuple[PyTree, PyTree, dict[str, jax.Array]]:
    """One optimizer step for each minibatch of each pass over the examples.

    Args:
        keys: `[epoch]`, a key for each pass.
        start: Parameters and state of the optimizer.
        optimizer: The optax transformation.
        loss_fn: `(params, minibatch) -> loss, parts`.
        minibatches_fn: `key -> minibatches`, leaves `[minibatch, ...]`.

    Returns:
        Parameters, state of the optimizer, and the means of the parts of the loss.
    """

    def minibatch_step(carry, minibatch):
        params, optimizer_state = carry
        gradient, parts = jax.grad(loss_fn, has_aux=True)(params, minibatch)
        updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        return (optax.apply_updates(params, updates), optimizer_state), parts

    def epoch(carry, key):
        return jax.lax.scan(minibatch_step, carry, minibatches_fn(key))

    (params, optimizer_state), parts = jax.lax.scan(epoch, start, keys)
    return params, optimizer_state, jax.tree.map(jnp.mean, parts)

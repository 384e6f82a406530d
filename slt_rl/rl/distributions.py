"""Distributions of actions, as pytrees: what a policy returns.

The last axis is the event (or the categories); all axes before it are batch axes.
"""

import dataclasses
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp


class Distribution(Protocol):
    """What the trainer and the potentials ask of a distribution."""

    def sample(self, key: jax.Array) -> jax.Array:
        """Draws an action; consumes the key."""
        ...

    def mode(self) -> jax.Array:
        """The most probable action."""
        ...

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Log probability (density) of an action, in nats."""
        ...

    def entropy(self) -> jax.Array:
        """Entropy in nats (differential entropy of a density)."""
        ...

    def kl(self, other: Any) -> jax.Array:
        """`KL(self || other)` in nats."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Categorical:
    """Distribution over `k` actions, `p = softmax(logits)`.

    Args:
        logits: `[..., k]`, in nats; minus infinity forbids an action.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(Categorical(jnp.zeros(4)).entropy() / jnp.log(2)), 5)
        2.0
    """

    logits: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        """Draws actions, integers of shape `[...]`."""
        return jax.random.categorical(key, self.logits)

    def mode(self) -> jax.Array:
        """The most probable action."""
        return jnp.argmax(self.logits, axis=-1)

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Log probability of integer actions of shape `[...]`."""
        log_p = jax.nn.log_softmax(self.logits)
        return jnp.take_along_axis(log_p, action[..., None], axis=-1)[..., 0]

    def entropy(self) -> jax.Array:
        """`-sum_a p_a log p_a` in nats."""
        return -_expected(self.logits, jax.nn.log_softmax(self.logits))

    def kl(self, other: "Categorical") -> jax.Array:
        """`sum_a p_a (log p_a - log q_a)`, in nats, exact."""
        log_ratio = jax.nn.log_softmax(self.logits) - jax.nn.log_softmax(other.logits)
        return _expected(self.logits, log_ratio)


def _expected(logits: jax.Array, values: jax.Array) -> jax.Array:
    """Mean of values under softmax(logits); actions of probability zero contribute nothing."""
    p = jax.nn.softmax(logits)
    return jnp.sum(jnp.where(p > 0, p * jnp.where(p > 0, values, 0), 0), axis=-1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DiagonalGaussian:
    """Independent normal coordinates, `a = mean + scale * z` with `z ~ N(0, I)`.

    Args:
        mean: `[..., k]`, in the units of the action.
        scale: Standard deviations, positive, broadcastable to `mean`; a constant or learned.

    Example:
        >>> import jax.numpy as jnp
        >>> p, q = DiagonalGaussian(jnp.zeros(2), 0.5), DiagonalGaussian(jnp.ones(2), 0.5)
        >>> float(p.kl(q))
        4.0
    """

    mean: jax.Array
    scale: Any

    def sample(self, key: jax.Array) -> jax.Array:
        """Draws actions of the shape of `mean`."""
        return self.transform(jax.random.normal(key, self.mean.shape, self.mean.dtype))

    def transform(self, noise: jax.Array) -> jax.Array:
        """The action `mean + scale * noise`: common random numbers for many policies."""
        return self.mean + self.scale * noise

    def mode(self) -> jax.Array:
        """The mean."""
        return self.mean

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Log density of actions `[..., k]`, in nats."""
        z = (action - self.mean) / self.scale
        offset = jnp.log(self.scale) + 0.5 * math.log(2 * math.pi)
        return -jnp.sum(0.5 * z**2 + offset, axis=-1)

    def entropy(self) -> jax.Array:
        """`sum_i log scale_i + (k/2) log(2 pi e)`, in nats."""
        terms = jnp.log(self.scale) + 0.5 * math.log(2 * math.pi * math.e)
        return jnp.sum(jnp.broadcast_to(terms, self.mean.shape), axis=-1)

    def kl(self, other: "DiagonalGaussian") -> jax.Array:
        """`sum_i log(s'/s) + (s^2 + (m - m')^2)/(2 s'^2) - 1/2`, in nats, exact.

        Written as `(r^2 - 1)/2 - log r` with `r = s/s'`, which is zero to the last digit at equal
        scales.
        """
        ratio = self.scale / other.scale
        spread = (ratio**2 - 1) / 2 - jnp.log(ratio)
        shift = (self.mean - other.mean) / other.scale
        return jnp.sum(0.5 * shift**2 + spread, axis=-1)

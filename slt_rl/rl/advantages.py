"""Advantages of a trajectory."""

import jax
import jax.numpy as jnp


def generalized_advantages(
    rewards: jax.Array,
    values: jax.Array,
    next_values: jax.Array,
    *,
    terminated: jax.Array,
    truncated: jax.Array,
    discount: float | jax.Array,
    gae_lambda: float | jax.Array,
) -> jax.Array:
    r"""Generalized advantage estimates, with terminations and time limits kept apart.

        delta_t = r_t + discount * (1 - terminated_t) * V(s'_t) - V(s_t)
        A_t     = delta_t + discount * gae_lambda * (1 - done_t) * A_{t+1}

    where `s'_t` is the true successor of `s_t`, before any reset, and an episode is done when it is
    terminated or truncated. A truncated episode is cut, but the value of its last state still
    stands for what would have followed.

    Args:
        rewards: `[time, ...]`.
        values: `[time, ...]`, `V(s_t)`.
        next_values: `[time, ...]`, `V(s'_t)`.
        terminated: `[time, ...]` bool.
        truncated: `[time, ...]` bool.
        discount: Discount per step.
        gae_lambda: 0 gives one-step errors, 1 Monte-Carlo returns.

    Returns:
        Advantages `[time, ...]`, in units of reward. `A_t + V(s_t)` is the lambda return.

    Raises:
        ValueError: If shapes differ.

    References:
        Schulman et al., "High-dimensional continuous control using generalized advantage
        estimation", arXiv:1506.02438. Pardo et al., "Time limits in reinforcement learning",
        arXiv:1712.00378, for the bootstrap at a time limit.

    Example:
        >>> import jax.numpy as jnp
        >>> one, no = jnp.ones(2), jnp.zeros(2, bool)
        >>> generalized_advantages(
        ...     one, 0 * one, 0 * one, terminated=no, truncated=no, discount=0.5, gae_lambda=1.0
        ... ).tolist()
        [1.5, 1.0]
    """
    for name, value in (
        ("values", values),
        ("next_values", next_values),
        ("terminated", terminated),
        ("truncated", truncated),
    ):
        if value.shape != rewards.shape:
            raise ValueError(f"{name}: got shape {value.shape}, expected {rewards.shape}")
    deltas = rewards + discount * jnp.where(terminated, 0, next_values) - values
    decay = discount * gae_lambda * jnp.where(terminated | truncated, 0, jnp.ones_like(deltas))

    def backward(advantage, step):
        delta, factor = step
        advantage = delta + factor * advantage
        return advantage, advantage

    return jax.lax.scan(backward, jnp.zeros_like(deltas[0]), (deltas, decay), reverse=True)[1]

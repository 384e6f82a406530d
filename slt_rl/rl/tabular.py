"""Finite Markov decision processes whose returns, occupancies and optima are exact.

Optima by dynamic programming in float64 NumPy; what depends on a policy in JAX, differentiable.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

MAX_SWEEPS = 10_000


@dataclasses.dataclass(frozen=True, eq=False)
class TabularMDP:
    """States, actions, transition probabilities and mean rewards.

    Rows of `transition` may sum to less than one: the rest is the probability that the episode
    ends. A finite horizon is written with time as part of the state. Two objects with the same
    numbers are equal.

    Args:
        transition: `[S, A, S]`, probabilities of the next state.
        reward: `[S, A]`, mean rewards.
        start: `[S]`, law of the first state.
        discount: Discount per step; one only if every policy ends with probability one.

    Raises:
        ValueError: If shapes differ, probabilities are not, rewards are not finite, or returns may
            be infinite.

    Example:
        >>> import numpy as np
        >>> mdp = TabularMDP(np.ones((1, 2, 1)), np.array([[0.0, 1.0]]), np.ones(1), 0.5)
        >>> float(mdp.optimal_return)
        2.0
    """

    transition: np.ndarray
    reward: np.ndarray
    start: np.ndarray
    discount: float

    def __post_init__(self):
        for name in ("transition", "reward", "start"):
            object.__setattr__(self, name, np.array(getattr(self, name), np.float64))
        object.__setattr__(self, "discount", float(self.discount))
        _check(self)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._content() == self._content()

    def __hash__(self) -> int:
        return hash(self._content())

    def _content(self) -> tuple:
        arrays = (self.transition, self.reward, self.start)
        return (*(a.tobytes() for a in arrays), self.reward.shape, self.discount)

    @property
    def num_states(self) -> int:
        """Number of states `S`."""
        return self.reward.shape[0]

    @property
    def num_actions(self) -> int:
        """Number of actions `A`."""
        return self.reward.shape[1]

    def occupancy(self, policy: jax.Array) -> jax.Array:
        """Discounted visits `d = start' (I - discount P_pi)^-1` `[S]` of a policy `[S, A]`."""
        step = self.discount * self._step(policy).T
        return self._resolved(step, jnp.asarray(self.start, policy.dtype))

    def values(self, policy: jax.Array) -> jax.Array:
        """Values `(I - discount P_pi)^-1 r_pi` `[S]` of a policy `[S, A]`."""
        mean = jnp.sum(policy * jnp.asarray(self.reward, policy.dtype), axis=1)
        return self.accumulated(policy, mean)

    def accumulated(self, policy: jax.Array, terms: jax.Array) -> jax.Array:
        """Discounted sums `(I - discount P_pi)^-1 terms` `[S]` of what each visit adds, `[S]`."""
        return self._resolved(self.discount * self._step(policy), terms)

    def accumulated_on_host(self, policy: np.ndarray, terms: np.ndarray) -> np.ndarray:
        """The same `[S]` in float64 NumPy, whatever the precision of JAX."""
        step = self.discount * np.einsum("sa,sat->st", policy, self.transition)
        return np.linalg.solve(np.eye(self.num_states) - step, terms)

    def action_values(self, values: Any) -> np.ndarray:
        """`Q = r + discount P V` `[S, A]` of values `[S]`, on the host."""
        return self.reward + self.discount * self.transition @ np.asarray(values, np.float64)

    def _step(self, policy: jax.Array) -> jax.Array:
        return jnp.einsum("sa,sat->st", policy, jnp.asarray(self.transition, policy.dtype))

    def _resolved(self, step: jax.Array, terms: jax.Array) -> jax.Array:
        """`(I - step)^-1 terms`; where all episodes are short the finite series is much cheaper."""
        if self.longest_path is None or self.longest_path > self.num_states / 4:
            return jnp.linalg.solve(jnp.eye(self.num_states, dtype=step.dtype) - step, terms)

        def add(total, _):
            return terms + step @ total, None

        return jax.lax.scan(add, terms, None, length=self.longest_path)[0]

    @functools.cached_property
    def longest_path(self) -> int | None:
        """Largest number of steps from one state to another; None if states can come again."""
        reached = self.transition.max(axis=1) > 0
        alive = np.ones(self.num_states, bool)
        for length in range(self.num_states):
            alive = reached @ alive
            if not alive.any():
                return length
        return None

    @property
    def optimal_values(self) -> np.ndarray:
        """`V*` `[S]`, by policy iteration."""
        choice = np.zeros(self.num_states, int)
        rows = np.arange(self.num_states)
        for _ in range(MAX_SWEEPS):
            step = self.discount * self.transition[rows, choice]
            values = np.linalg.solve(np.eye(self.num_states) - step, self.reward[rows, choice])
            q = self.action_values(values)
            # A change must gain more than rounding, or equal actions would alternate for ever.
            better = q.max(axis=1) > q[rows, choice] + 1e-12 * max(1.0, np.abs(q).max())
            if not np.any(better):
                return values
            choice = np.where(better, q.argmax(axis=1), choice)
        raise ArithmeticError("policy iteration did not settle")

    @property
    def optimal_return(self) -> float:
        """`J* = start . V*`."""
        return float(self.start @ self.optimal_values)

    @property
    def gaps(self) -> np.ndarray:
        """`V*(s) - Q*(s, a)` `[S, A]`, not negative: what one suboptimal action costs."""
        q = self.action_values(self.optimal_values)
        return q.max(axis=1, keepdims=True) - q

    def soft_optimum(self, temperature: float, log_prior: Any = None) -> np.ndarray:
        """Log probabilities `[S, A]` of the best policy under a divergence penalty.

        The return is `E sum discount^t [r - temperature (log pi - log_prior)]`. Its optimum is
        `pi* = exp(log_prior + (Q - V)/temperature)`, `V = temperature logsumexp(log_prior +
        Q/temperature)` and `Q = r + discount P V`, found by soft policy iteration.

        Args:
            temperature: Positive, in units of reward per nat.
            log_prior: `[S, A]`; zero if None, which is the entropy bonus.

        Returns:
            `log pi*`.

        Raises:
            ValueError: If the temperature is not positive or the prior has another shape.
            ArithmeticError: If the iteration does not settle.
        """
        if not temperature > 0:
            raise ValueError(f"temperature: got {temperature}, expected a positive number")
        prior = np.zeros_like(self.reward) if log_prior is None else np.asarray(log_prior)
        if prior.shape != self.reward.shape or not np.all(np.isfinite(prior)):
            raise ValueError(f"log_prior: expected finite numbers of shape {self.reward.shape}")
        log_policy = np.full_like(prior, -np.log(self.num_actions))
        for _ in range(MAX_SWEEPS):
            policy = np.exp(log_policy)
            mean = np.sum(policy * (self.reward - temperature * (log_policy - prior)), axis=1)
            values = self.accumulated_on_host(policy, mean)
            new = prior + self.action_values(values) / temperature
            new = new - np.logaddexp.reduce(new, axis=1, keepdims=True)
            change = np.abs(new - log_policy).max()
            log_policy = new
            if change < 1e-13 * max(1.0, np.abs(new).max()):
                return log_policy
        raise ArithmeticError("soft policy iteration did not settle")

    def soft_return(
        self, log_policy: jax.Array, temperature: float, log_prior: Any = None
    ) -> jax.Array:
        """`E sum discount^t [r - temperature (log pi - log_prior)]` of a policy `[S, A]`, exact."""
        prior = 0.0 if log_prior is None else jnp.asarray(log_prior, log_policy.dtype)
        policy = jnp.exp(log_policy)
        paid = jnp.asarray(self.reward, policy.dtype) - temperature * (log_policy - prior)
        return jnp.sum(self.occupancy(policy) * jnp.sum(policy * paid, axis=1))


def _check(mdp: TabularMDP) -> None:
    shape = mdp.transition.shape
    if len(shape) != 3 or shape[0] != shape[2] or min(shape) < 1:
        raise ValueError(f"transition: got shape {shape}, expected [S, A, S]")
    if mdp.reward.shape != shape[:2] or not np.all(np.isfinite(mdp.reward)):
        raise ValueError(
            f"reward: got shape {mdp.reward.shape}, expected finite numbers {shape[:2]}"
        )
    if np.any(mdp.transition < 0) or np.any(mdp.transition.sum(axis=2) > 1 + 1e-9):
        raise ValueError("transition: expected probabilities with sums of at most one")
    if mdp.start.shape != shape[:1] or np.any(mdp.start < 0) or abs(mdp.start.sum() - 1) > 1e-9:
        raise ValueError(f"start: expected probabilities [{shape[0]}] of sum one")
    if not 0 <= mdp.discount <= 1:
        raise ValueError(f"discount: got {mdp.discount}, expected a number in [0, 1]")
    # The largest discounted chance to be still in play after S steps; below one, every return is
    # finite.
    alive = np.ones(shape[0])
    for _ in range(shape[0]):
        alive = np.max(mdp.discount * mdp.transition @ alive, axis=1)
    if alive.max() > 1 - 1e-12:
        raise ValueError(
            f"discount: got {mdp.discount} with a policy that never ends; returns are infinite"
        )

"""Exact distances, values and regrets of the cheese maze, and a small network to play it.

Every level is a Markov decision process on the cells of its grid. A reward in step `t`, counted
from zero, is worth `discount^t`, so that a mouse at distance `d` from the cheese has the optimal
value `discount^(d - 1)`. What depends on a policy is differentiable in its parameters.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.rl.networks import Policy
from slt_rl.rl.potentials.tabular import log_policy_table
from toy_models.cheese import MOVES, Levels, observe, start_law, successors

PyTree = Any


def distances(levels: Levels) -> jax.Array:
    """Fewest moves from each cell to the cheese, `[level, cell]`; infinite where there is no path.

    All levels at once: `d <- min(d, 1 + min_a d(successor of a))` until nothing changes.
    """
    following = jax.vmap(successors)(levels.walls)
    at_cheese = jnp.arange(levels.num_cells) == levels.cheese[:, None]
    start = jnp.where(at_cheese, 0.0, jnp.inf)

    def relax(carry):
        old, _ = carry
        reached = jax.vmap(lambda d, following: jnp.min(d[following], axis=1))(old, following)
        new = jnp.minimum(old, 1 + reached)
        return new, jnp.any(new < old)

    return jax.lax.while_loop(lambda carry: carry[1], relax, (start, jnp.array(True)))[0]


@dataclasses.dataclass(frozen=True, eq=False)
class CheeseProcess:
    """All levels written out as processes; see `cheese_process`.

    Attributes:
        levels: The levels.
        discount: Discount per step.
        observations: `[level, cell, size, size, 3]` bool, what the mouse sees.
        transition: `[level, cell, action, cell]`, probabilities; arriving ends the episode.
        reward: `[level, cell, action]`, 1 on arrival.
        starts: `[level, cell]`, law of the first cell.
        optimal_values: `[level, cell]`.
        gaps: `[level, cell, action]`, `V*(s) - Q*(s, a)`, what one mistake costs.
    """

    levels: Levels
    discount: float
    observations: np.ndarray
    transition: np.ndarray
    reward: np.ndarray
    starts: np.ndarray
    optimal_values: np.ndarray
    gaps: np.ndarray

    @property
    def state_law(self) -> np.ndarray:
        """Probability `[level, cell]` of a level and a first cell; sums to one."""
        return np.asarray(self.levels.law, np.float64)[:, None] * self.starts

    @property
    def uniform_regret(self) -> float:
        """Mean regret of the policy that chooses at random, under the law of the levels."""
        policy = jnp.full(self.reward.shape, 1 / len(MOVES))
        return float(np.asarray(self.levels.law) @ np.asarray(self.regrets(policy)))

    def log_policy(self, policy: Policy, params: PyTree) -> jax.Array:
        """Log probabilities `[level, cell, action]` of the actions of a policy."""
        shape = self.observations.shape
        seen = jnp.asarray(self.observations).reshape(-1, *shape[2:])
        return log_policy_table(policy, params, seen).reshape(*shape[:2], -1)

    def returns(self, table: jax.Array) -> jax.Array:
        """Mean discounted return of each level `[level]`, of action probabilities."""
        return self._from_starts(table, self.reward)

    def regrets(self, table: jax.Array) -> jax.Array:
        """Regret of each level `[level]`: optimal minus own return, never negative.

        By the performance difference lemma it is the discounted sum of the gaps of the actions
        taken; near the optimum that is exact where a difference of returns would be rounding.
        """
        return self._from_starts(table, self.gaps)

    def _from_starts(self, table: jax.Array, terms: np.ndarray) -> jax.Array:
        """Discounted sums of `terms` `[level, cell, action]` along play, mean over first cells."""
        step = self.discount * jnp.einsum("lsa,lsat->lst", table, self.transition)
        paid = jnp.sum(table * terms, axis=2)
        sums = jnp.linalg.solve(jnp.eye(step.shape[-1], dtype=step.dtype) - step, paid[..., None])
        return jnp.sum(self.starts * sums[..., 0], axis=1)


def cheese_process(levels: Levels, discount: float) -> CheeseProcess:
    """Writes levels out as processes.

    Args:
        levels: The levels.
        discount: Discount per step, in (0, 1).

    Raises:
        ValueError: If the discount is out of range, or in some level no cell is left to start from.

    Example:
        >>> from toy_models.cheese import open_levels
        >>> process = cheese_process(open_levels(5, 0.2), 0.9)
        >>> [round(float(v), 4) for v in process.optimal_values[0, [1, 2, 8]]]
        [1.0, 0.9, 0.729]
    """
    if not 0 < discount < 1:
        raise ValueError(f"discount: got {discount}, expected a number in (0, 1)")
    starts = np.asarray(jax.vmap(start_law)(levels.walls, levels.cheese))
    if not np.all(np.isfinite(starts)):
        raise ValueError("levels: expected a free cell besides that of the cheese in each")
    cells = np.arange(levels.num_cells)
    following = np.asarray(jax.vmap(successors)(levels.walls))
    cheese = np.asarray(levels.cheese)[:, None]
    dtype = np.asarray(levels.law).dtype
    arrives = (following == cheese[..., None]) & (cells != cheese)[..., None]
    alive = (cells != cheese)[..., None] & ~arrives
    transition = (following[..., None] == cells) & alive[..., None]
    far = np.asarray(distances(levels), np.float64)
    best = np.where(cells == cheese, 0.0, discount ** (far - 1))
    after = np.take_along_axis(best, following.reshape(len(best), -1), axis=1)
    action_values = np.where(arrives, 1.0, discount * after.reshape(following.shape))
    gaps = np.where((cells == cheese)[..., None], 0.0, best[..., None] - action_values)
    seen = jax.vmap(
        lambda w, c: jax.vmap(lambda mouse: observe(w, c, mouse))(jnp.arange(cells.size))
    )
    return CheeseProcess(
        levels,
        float(discount),
        np.asarray(seen(levels.walls, levels.cheese)),
        transition.astype(dtype),
        arrives.astype(dtype),
        starts,
        best,
        # A wall cell or one without a path has no better action; else rounding of powers.
        np.where(gaps > 1e-9, gaps, 0.0).astype(dtype),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class CheeseRegret:
    """Exact regret of a policy's parameters as a potential; equal by identity.

    Args:
        process: The levels as processes.
        policy: `(params, observation) -> Categorical`.
        unit: Divides the regret.
    """

    process: CheeseProcess
    policy: Policy
    unit: float = 1.0

    def __call__(self, params: PyTree) -> jax.Array:
        """Mean regret `[]` under the law of the levels."""
        per_level = self.per_level(params)
        return jnp.dot(jnp.asarray(self.process.levels.law, per_level.dtype), per_level)

    def per_level(self, params: PyTree) -> jax.Array:
        """Regret of each level, `[level]`."""
        table = jnp.exp(self.process.log_policy(self.policy, params))
        return self.process.regrets(table) / self.unit


class ConvNet(nn.Module):
    """Convolutions of 3 by 3 cells without padding, tanh after each, then one linear layer.

    A convolution is written as a dense layer on patches: a `vmap` over parameters, as of seeds or
    chains, then is a matrix product, where XLA would make of it a grouped convolution, which is
    slow on a CPU. Each layer takes two cells off a side.

    Attributes:
        num_outputs: Length of the output.
        channels: Channels of each convolution.
        output_scale: Standard deviation of the initial weights of the last layer, relative to
            `1/sqrt(inputs)`.
    """

    num_outputs: int
    channels: tuple[int, ...] = (6, 8)
    output_scale: float = 1.0

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        """Outputs `[num_outputs]` of one observation `[size, size, channel]`."""
        x = observation.astype(float)
        for number in self.channels:
            x = jnp.tanh(nn.Dense(number)(patches(x)))
        scale = nn.initializers.variance_scaling(self.output_scale**2, "fan_in", "normal")
        return nn.Dense(self.num_outputs, kernel_init=scale)(jnp.ravel(x))


def patches(image: jax.Array) -> jax.Array:
    """The neighborhoods of 3 by 3 cells, `[size - 2, size - 2, 9 * channel]`."""
    size = image.shape[0] - 2
    shifts = [image[i : i + size, j : j + size] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifts, axis=-1)

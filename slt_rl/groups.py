"""Chains of larger models in groups: their state is held once, work space for one group alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any
# Parameters of chains side by side: on a CPU so many that they, their noise and their gradient stay
# in a core's cache (measured on two cores), on other devices as many as keep them busy.
ON_A_CPU, ELSEWHERE = 2**17, 2**27


class Sizes(NamedTuple):
    """What a block is compiled for: steps, examples a minibatch, chains run side by side."""

    num_steps: int
    batch_size: int | None
    together: int


def is_spread(tree: PyTree) -> bool:
    """Whether an array lies over several devices."""
    arrays = (x for x in jax.tree.leaves(tree) if isinstance(x, jax.Array))
    return any(len(x.devices()) > 1 for x in arrays)


def group_size(positions: PyTree, *others: PyTree) -> int:
    """How many chains to run side by side: a divisor of their number.

    The most that hold no more parameters than the device needs to be busy, but at least one. All,
    where arrays lie over several devices: groups would send them about.

    Args:
        positions: pytree of arrays with axes `[center, chain, ...]`.
        others: further arguments of the program.

    Example:
        >>> group_size({"w": np.zeros((1, 6, 2**15))})
        3
    """
    leaves = jax.tree.leaves(positions)
    num_chains = leaves[0].shape[1]
    if is_spread((positions, others)):
        return num_chains
    arrays = [x for x in jax.tree.leaves((positions, others)) if isinstance(x, jax.Array)]
    platform = next(iter(arrays[0].devices())).platform if arrays else "cpu"
    most = ON_A_CPU if platform == "cpu" else ELSEWHERE
    size = sum(leaf.size for leaf in leaves) // num_chains
    fitting = (n for n in range(1, num_chains + 1) if num_chains % n == 0 and n * size <= most)
    return max(fitting, default=1)


def in_groups(
    function: Callable, fixed: PyTree, states: PyTree, *, size: int
) -> tuple[PyTree, PyTree]:
    """Returns `function(fixed, states)` computed for `size` chains at a time.

    States are replaced where they lie, so that they are held once.

    Args:
        function: `(fixed, states) -> (states, records)`, chains by themselves.
        fixed: pytree of arrays with a leading axis `[chain]`, or none for all chains.
        states: pytree of arrays with a leading axis `[chain]`.
        size: chains in a group, a divisor of their number.

    Example:
        >>> add = lambda x, w: (x + w, 2 * w)
        >>> [found.tolist() for found in in_groups(add, 1.0, jnp.arange(4.0), size=2)]
        [[1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 4.0, 6.0]]
    """
    num_chains = jax.tree.leaves(states)[0].shape[0]
    if size == num_chains:
        return function(fixed, states)

    def one_group(states, start):
        def part(x):
            return jax.lax.dynamic_slice_in_dim(x, start, size) if jnp.ndim(x) else x

        def replaced(x, y):
            return jax.lax.dynamic_update_slice_in_dim(x, y, start, axis=0)

        new, records = function(jax.tree.map(part, fixed), jax.tree.map(part, states))
        return jax.tree.map(replaced, states, new), records

    states, records = jax.lax.scan(one_group, states, np.arange(0, num_chains, size))
    return states, jax.tree.map(lambda x: x.reshape(num_chains, *x.shape[2:]), records)

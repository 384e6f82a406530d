"""Sums over all parameters in one pass over memory, which XLA's own are not on CPUs."""

from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any
# A block is so many rows of so many partial sums, which a processor adds side by side.
_ROWS, _LANES = 128, 32


def dot(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns `sum_i x_i y_i` over all entries of two arrays of one shape.

    Products are summed in blocks, so that rounding errors stay those of a sum of a few hundred
    terms for arrays of any size up to a million, and grow as the root of the number of blocks
    beyond it.

    Example:
        >>> float(dot(jnp.ones((100, 70)), jnp.full((100, 70), 2.0)))
        14000.0
    """
    products = (x * y).ravel()
    end = products.size // (_ROWS * _LANES) * (_ROWS * _LANES)
    if end == 0:
        return jnp.sum(products)
    blocks = jnp.sum(products[:end].reshape(-1, _ROWS, _LANES), axis=1)
    # The barrier keeps XLA from making one reduction of two, and that one slow.
    total = jnp.sum(jax.lax.optimization_barrier(blocks))
    return total + jnp.sum(products[end:]) if end < products.size else total


def squared_norm(tree: PyTree) -> jax.Array:
    """Returns `|w|^2` of a pytree."""
    return sum(dot(leaf, leaf) for leaf in jax.tree.leaves(tree))

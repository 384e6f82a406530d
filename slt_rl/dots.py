"""Sums over all parameters that read memory once, which XLA's own do not on CPUs."""

from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any
# So many rows are added as vectors before what is left is summed: the fastest of 4 ... 98.
_ROWS = 8


def dot(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns `sum_i x_i y_i` over all entries of two arrays of one shape.

    XLA writes the products to memory before it sums them on a CPU. A sum of few vectors is one
    pass with them, and leaves an eighth of the numbers to sum.

    Example:
        >>> float(dot(jnp.ones((100, 70)), jnp.full((100, 70), 2.0)))
        14000.0
    """
    products = x * y
    if products.ndim < 2:
        return jnp.sum(products)
    rows = products
    # Axes before the rows stay as they are: devices that hold parts of the rows would have to send
    # them if rows of several blocks became one axis.
    while rows.ndim > 2 and rows.shape[-2] < _ROWS:
        rows = rows.reshape(*rows.shape[:-3], -1, rows.shape[-1])
    whole = rows.shape[-2] // _ROWS * _ROWS
    grouped = rows[..., :whole, :].reshape(*rows.shape[:-2], -1, _ROWS, rows.shape[-1])
    total = jnp.sum(sum(grouped[..., i, :] for i in range(_ROWS)))
    return total + jnp.sum(rows[..., whole:, :])


def tree_dot(one: PyTree, two: PyTree) -> jax.Array:
    """Returns the sum of the products of two pytrees of one structure.

    Where parameters lie over devices, only scalars are sent: `optax.tree.vdot` makes a vector of
    each leaf first, for which every device would need the whole leaf.
    """
    return jnp.asarray(sum(jax.tree.leaves(jax.tree.map(dot, one, two))))


def squared_norm(tree: PyTree) -> jax.Array:
    """Returns `|w|^2` of a pytree."""
    return tree_dot(tree, tree)

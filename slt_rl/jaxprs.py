"""Traced functions, and the functions inside of them."""

from collections.abc import Iterator
from typing import Any

import jax


def equations_of(jaxpr: Any) -> Iterator[Any]:
    """All operations of a traced function, those of functions inside included."""
    for equation in jaxpr.eqns:
        yield equation
        inside = jax.tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr)
        for value in filter(is_jaxpr, inside):
            yield from equations_of(getattr(value, "jaxpr", value))


def is_jaxpr(value: Any) -> bool:
    """Whether a parameter of an operation is a traced function."""
    return hasattr(getattr(value, "jaxpr", value), "eqns")

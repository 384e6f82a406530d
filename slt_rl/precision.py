"""Whether a loss computes in less than single precision, which moves what is measured."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from slt_rl.jaxprs import equations_of
from slt_rl.result import LLCEstimate

SINGLE_BITS = 32


def low_precision(fn: Callable, *arguments: Any) -> str | None:
    """The first floating type below single precision that a function computes in, if any.

    Numbers that are only stored so, as data may be, do not count. What a device makes of the
    products of single precision (`jax_default_matmul_precision`) is not seen.

    Args:
        fn: A function of pytrees, traced once.
        *arguments: What it is called with.

    Example:
        >>> low_precision(lambda w: jnp.sum(w.astype(jnp.bfloat16) ** 2), jnp.ones(2))
        'bfloat16'
        >>> low_precision(jnp.sum, jnp.ones(2)) is None
        True
    """
    jaxpr = jax.make_jaxpr(fn)(*arguments)
    made = (out.aval for equation in equations_of(jaxpr.jaxpr) for out in equation.outvars)
    types = (value.dtype for value in made if hasattr(value, "dtype"))
    floating = (dtype for dtype in types if jnp.issubdtype(dtype, jnp.floating))
    return next((d.name for d in floating if jnp.finfo(d).bits < SINGLE_BITS), None)


def doubted(estimate: LLCEstimate, precision: str) -> LLCEstimate:
    """The estimate with a flag that names the precision of its loss; trusted no more.

    No check of the draws sees it: chains of a rounded loss are at equilibrium, but of that loss.
    """
    flag = (
        f"the loss computes in {precision}, whose rounding of the parameters may move the estimate "
        "by more than its interval; use single precision in it"
    )
    verdict = "doubtful" if estimate.verdict == "trusted" else estimate.verdict
    return dataclasses.replace(estimate, verdict=verdict, flags=(*estimate.flags, flag))

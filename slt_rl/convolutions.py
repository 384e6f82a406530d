"""Convolutions in the order of axes that XLA computes fast on a CPU, wherever they stand.

XLA has one fast convolution on CPUs, of images `[n, ..., channel]`. It turns the axes of all others
for it, but not within loops: there they are sums written out, many times slower. The gradient of a
convolution by its kernel is such another one, and a chain is a loop.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.extend import core

from slt_rl.jaxprs import equations_of, is_jaxpr


def with_fast_convolutions(
    function: Callable, static_argnums: int | Sequence[int] = ()
) -> Callable:
    """Returns the function with all its convolutions, those of gradients too, fast on a CPU.

    The same numbers but for rounding, and the same program where there is no convolution or another
    device. To be called within `jax.jit`, which it does not replace; it is traced once.

    Args:
        function: of pytrees of arrays.
        static_argnums: which of its arguments are none, as in `jax.jit`.

    References:
        https://github.com/jax-ml/jax/issues/12868

    Example:
        >>> import jax.numpy as jnp
        >>> kernel_gradient = jax.grad(lambda k: jnp.convolve(jnp.arange(4.0), k, "valid").sum())
        >>> with_fast_convolutions(kernel_gradient)(jnp.ones(2)).tolist()
        [6.0, 3.0]
    """

    @functools.wraps(function)
    def run(*arguments):
        trace = jax.make_jaxpr(function, static_argnums=static_argnums, return_shape=True)
        closed, result = trace(*arguments)
        static = (static_argnums,) if isinstance(static_argnums, int) else static_argnums
        leaves = jax.tree.leaves([x for i, x in enumerate(arguments) if i not in static])
        found = core.jaxpr_as_fun(_rewritten(closed))(*leaves)
        return jax.tree.unflatten(jax.tree.structure(result), found)

    return run


def _rewritten(jaxpr: Any) -> Any:
    """A traced function with each convolution replaced, in the functions inside as well."""
    if isinstance(jaxpr, core.ClosedJaxpr):
        return jaxpr.replace(jaxpr=_rewritten(jaxpr.jaxpr))
    if all(e.primitive is not lax.conv_general_dilated_p for e in equations_of(jaxpr)):
        return jaxpr
    return jaxpr.replace(eqns=[_equation(e) for e in jaxpr.eqns])


def _equation(equation: Any) -> Any:
    if equation.primitive is lax.conv_general_dilated_p:
        convolve = jax.jit(functools.partial(_convolution, **equation.params))
        call = jax.make_jaxpr(convolve)(*(x.aval for x in equation.invars)).eqns[0]
        return call.replace(invars=equation.invars, outvars=equation.outvars)
    inside = jax.tree.map(
        lambda value: _rewritten(value) if is_jaxpr(value) else value,
        equation.params,
        is_leaf=is_jaxpr,
    )
    return equation.replace(params=inside)


def _convolution(x: jax.Array, kernel: jax.Array, **params: Any) -> jax.Array:
    given = functools.partial(lax.conv_general_dilated_p.bind, **params)
    return lax.platform_dependent(
        x, kernel, cpu=functools.partial(_channels_last, **params), default=given
    )


def _channels_last(
    x: jax.Array, kernel: jax.Array, *, dimension_numbers: Any, **params: Any
) -> jax.Array:
    """The convolution of `[n, ..., in]` with `[..., in, out]` to `[n, ..., out]`, axes turned."""
    image, filters, result = dimension_numbers
    last = x.ndim - 1
    fast = (0, last, *range(1, last))
    numbers = lax.ConvDimensionNumbers(fast, (last, last - 1, *range(last - 1)), fast)
    x = lax.transpose(x, (image[0], *image[2:], image[1]))
    kernel = lax.transpose(kernel, (*filters[2:], filters[1], filters[0]))
    out = lax.conv_general_dilated_p.bind(x, kernel, dimension_numbers=numbers, **params)
    return lax.transpose(out, [fast[result.index(axis)] for axis in range(x.ndim)])

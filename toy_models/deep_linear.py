"""Deep linear networks and reduced rank regression with Aoyagi's learning coefficients.

References:
    Aoyagi, "Consideration on the learning efficiency of multiple-layered neural networks with
    linear units", Neural Networks 172 (2024) 106132.
    Aoyagi and Watanabe, "Stochastic complexities of reduced rank regression in Bayesian
    estimation", Neural Networks 18 (2005) 924.
"""

from collections.abc import Sequence
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

from toy_models import quadrature
from toy_models.problem import ToyProblem


def deep_linear_llc(widths: Sequence[int], rank: int) -> tuple[float, int]:
    """Learning coefficient and multiplicity of a deep linear network.

    With excess widths ``M = width - rank``, the set ``S`` of the smallest ones is, in sorted order,
    the first prefix of length ``k >= 2`` that is everything or has sum ``< (k - 1)`` times the next
    one. With ``l = |S| - 1``, ``s = sum_S M``, ``a = s - (ceil(s/l) - 1) l``:

        llc = [r (H_0 + H_L) - r^2]/2 + a(l - a)/(4l) - (l(l-1)/4)(s/l)^2
              + 1/2 sum_(i<j in S) M_i M_j
        multiplicity = a (l - a) + 1

    Args:
        widths: ``(H_0, ..., H_L)`` from input to output, at least two.
        rank: Rank ``r`` of the true map.

    Returns:
        ``(llc, multiplicity)``.

    Raises:
        ValueError: If there are fewer than two widths or the rank is out of range.

    Example:
        >>> deep_linear_llc((10, 6, 10), 3)
        (35.0, 2)
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"widths: got {tuple(widths)}, expected at least two positive integers")
    if not 0 <= rank <= min(widths):
        raise ValueError(f"rank: got {rank}, expected 0 <= rank <= {min(widths)}")
    chosen = _smallest(sorted(width - rank for width in widths))
    length, total = len(chosen) - 1, sum(chosen)
    remainder = total - (-(-total // length) - 1) * length
    pairs = (total**2 - sum(excess**2 for excess in chosen)) // 2
    llc = (
        Fraction(rank * (widths[0] + widths[-1]) - rank**2, 2)
        + Fraction(remainder * (length - remainder), 4 * length)
        - Fraction(length * (length - 1), 4) * Fraction(total, length) ** 2
        + Fraction(pairs, 2)
    )
    return float(llc), remainder * (length - remainder) + 1


def _smallest(excess: list[int]) -> list[int]:
    """The first prefix that satisfies Aoyagi's conditions."""
    for size in range(2, len(excess)):
        if sum(excess[:size]) < (size - 1) * excess[size]:
            return excess[:size]
    return excess


def block_teacher(widths: Sequence[int], singular_values: Sequence[float]) -> tuple:
    """Layers ``[[diag(s^(1/L)), 0], [0, 0]]`` whose product has the given singular values.

    Here the local learning coefficient equals the global one, and the largest curvature of
    ``1/2 |W_L ... W_1 - teacher|^2`` is ``L max(s)^(2 - 2/L)``.

    Args:
        widths: ``(H_0, ..., H_L)`` from input to output.
        singular_values: The ``r`` non-zero singular values.

    Returns:
        Layers, layer ``i`` of shape ``[H_(i+1), H_i]``.
    """
    rank, depth = len(singular_values), len(widths) - 1
    layers = []
    for fan_in, fan_out in zip(widths, widths[1:], strict=False):
        layer = np.zeros((fan_out, fan_in))
        layer[range(rank), range(rank)] = np.asarray(singular_values) ** (1 / depth)
        layers.append(jnp.asarray(layer))
    return tuple(layers)


def product(layers: Sequence[jax.Array]) -> jax.Array:
    """The matrix ``W_L ... W_1`` of layers given from first to last."""
    result = layers[0]
    for layer in layers[1:]:
        result = layer @ result
    return result


def deep_linear(
    widths: Sequence[int], singular_values: Sequence[float] = (), *, name: str | None = None
) -> ToyProblem:
    """Population loss ``1/2 |W_L ... W_1 - teacher|^2`` of a deep linear network at its teacher.

    The mean of ``1/2 |P x - P* x|^2`` over inputs ``x ~ N(0, I)``.

    Args:
        widths: ``(H_0, ..., H_L)`` from input to output.
        singular_values: Non-zero singular values of the teacher; none is the zero map.
        name: Name of the problem; made of widths and rank if None.

    Returns:
        The problem. ``finite_llc`` is known for two layers, a zero map and hidden width <= 2.

    Raises:
        ValueError: If the widths or the rank are out of range.
    """
    rank = len(singular_values)
    llc, multiplicity = deep_linear_llc(widths, rank)
    layers = block_teacher(widths, singular_values)
    teacher = np.asarray(product(layers))

    def potential(params):
        return jnp.sum((product(params) - teacher.astype(params[0].dtype)) ** 2) / 2

    return ToyProblem(
        name=name or f"deep_linear_{'_'.join(map(str, widths))}_rank_{rank}",
        kind="supervised",
        params=layers,
        llc=llc,
        multiplicity=multiplicity,
        potential=potential,
        finite_llc=_finite(tuple(widths), rank),
    )


def _finite(widths: tuple[int, ...], rank: int):
    if len(widths) != 3 or rank or widths[1] > min(2, max(widths[0], widths[2])):
        return None
    shape = (widths[0], widths[1], widths[2])
    return lambda nbeta, localization: quadrature.reduced_rank(shape, nbeta, localization).llc


def benchmark_nets() -> tuple[ToyProblem, ...]:
    """Nets A, B and C of the reference experiment, of 120, 296 and 1550 parameters."""
    return (
        deep_linear((10, 6, 10), (1.0, 1.0, 1.0), name="deep_linear_a"),
        deep_linear((8, 10, 12, 8), tuple(np.geomspace(1, 0.3, 4)), name="deep_linear_b"),
        deep_linear((20, 15, 25, 15, 20, 10), tuple(np.geomspace(1, 0.1, 5)), name="deep_linear_c"),
    )

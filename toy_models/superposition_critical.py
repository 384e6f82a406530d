"""Critical points of the toy model of superposition: construction, level, exact LLC.

A class ``k^{s+,f-}`` has ``k`` hull columns forming a regular polygon. ``s`` dead features (zero
column) have the positive bias ``1/(2c)``; ``f`` of the hull columns, for ``k = 4`` only, have a
bias so negative that their output is never active; the other dead features have a zero column and
any negative bias. Written "5", "5+", "4++-".

References:
    Chen, Lau, Mendel, Wei, Murfet, arXiv:2310.06301, section 3 and appendices.
"""

import functools
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from slt_rl._numbers import check_count
from toy_models.superposition_loss import population_loss_host
from toy_models.superposition_model import Params

_LARGEST_POLYGON = 9  # from k = 10 on the regular polygon is no longer a minimum
_NEUTRAL_BIAS = -0.7  # inside the flat region of a dead feature, far from its boundary
_SILENT_BIAS = -2.0  # below -l^2 = -1: the output of a hull column is never active


class PhaseClass(NamedTuple):
    """A class of critical points.

    Attributes:
        hull: Number ``k`` of columns on the convex hull, at least 4.
        positive: Number of dead features with positive bias.
        negative: Number of hull columns whose output is never active; zero unless ``hull == 4``.
    """

    hull: int
    positive: int = 0
    negative: int = 0

    def __str__(self) -> str:
        return f"{self.hull}{'+' * self.positive}{'-' * self.negative}"


def parse_class(text: str) -> PhaseClass:
    """The class written as `str` writes it: ``parse_class("4++-") == PhaseClass(4, 2, 1)``.

    Raises:
        ValueError: If the text is not digits, then plus signs, then minus signs.
    """
    digits = text.rstrip("+-")
    signs = text[len(digits) :]
    positive, negative = signs.count("+"), signs.count("-")
    if not digits.isdigit() or signs != "+" * positive + "-" * negative:
        raise ValueError(f"text: got {text!r}, expected a class such as '5', '5+' or '4++-'")
    return PhaseClass(int(digits), positive, negative)


def known_classes(num_features: int) -> tuple[PhaseClass, ...]:
    """All classes for ``c`` features, by descending level.

    Raises:
        ValueError: If ``num_features < 4``.
    """
    check_count("num_features", num_features, 4)
    classes = [
        PhaseClass(hull, positive, negative)
        for hull in range(4, min(num_features, _LARGEST_POLYGON) + 1)
        for positive in range(num_features - hull + 1)
        for negative in (range(5) if hull == 4 else (0,))
    ]
    return tuple(sorted(classes, key=lambda label: -level(label, num_features)))


@functools.lru_cache
def solve_polygon(k: int) -> tuple[float, float]:
    """Column length and bias of the regular k-gon of ``k`` features, to machine precision.

    Newton's method on the gradient, in ``(g, b)`` with ``g = l^2``, of the loss of one feature

        R = 1/3 - 2 int s u_0 ds + sum_j int relu(u_j)^2 ds,    u_j = l^2 cos(2 pi j / k) s + b,

    over the neighbors that are active at ``b <= 0``. Independent of the number of dead features.

    Args:
        k: Number of vertices, from 3 to 9; larger regular polygons are no minima.

    Returns:
        ``(length, bias)``.

    Raises:
        ValueError: If ``k`` is out of range.
        ArithmeticError: If Newton's method does not converge.
    """
    if not 3 <= k <= _LARGEST_POLYGON:
        raise ValueError(f"k: got {k}, expected 3 <= k <= {_LARGEST_POLYGON}")
    if k <= 4:  # No neighbor is closer than a right angle: each feature is represented exactly.
        return 1.0, 0.0
    cosines = np.cos(2 * np.pi * np.arange(k) / k)
    point = np.array([1 + 0.37 * (k - 4), -0.3 * (k - 4)])
    for _ in range(100):
        gradient, hessian = _polygon_derivatives(point[0], point[1], cosines)
        step = np.linalg.solve(hessian, gradient)
        point = point - step
        if np.all(np.abs(step) <= 4e-16 * np.abs(point)):
            break
    if not np.max(np.abs(gradient)) < 1e-13:
        raise ArithmeticError(f"Newton's method for the regular {k}-gon did not converge")
    return math.sqrt(point[0]), float(point[1])


def _polygon_derivatives(
    square: float, bias: float, cosines: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient and Hessian in ``(g, b)`` of the loss of one feature of a k-gon, for ``b < 0``.

    A neighbor is active on ``[s_j, 1]``, ``s_j = -b/(g cos)``; its integrand vanishes at ``s_j``.
    """
    active = square * cosines + bias > 0
    cosines = cosines[active]
    start = -bias / (square * cosines)
    moments = [(1 - start**m) / m for m in (1, 2, 3)]
    first = square * cosines * moments[1] + bias * moments[0]  # int u
    second = square * cosines * moments[2] + bias * moments[1]  # int s u
    gradient = np.array([np.sum(2 * cosines * second), np.sum(2 * first)])
    gradient -= 2 * np.array([moments[2][0], moments[1][0]])
    cross = np.sum(2 * cosines * moments[1])
    hessian = np.array(
        [[np.sum(2 * cosines**2 * moments[2]), cross], [cross, np.sum(2 * moments[0])]]
    )
    own = start[0] / square * np.array([[start[0] ** 2, start[0]], [start[0], 1.0]])
    return gradient, hessian - 2 * own


def critical_point(label: PhaseClass, num_features: int) -> Params:
    """The standard representative of a class.

    Hull columns first, in angular order from angle zero, the silent ones last among them; then dead
    features with positive bias; then dead features with bias -0.7, inside the flat region.

    Args:
        label: The class.
        num_features: Number of features ``c``.

    Returns:
        ``{"W": [2, c], "b": [c]}``.

    Raises:
        ValueError: If the class does not exist for ``c`` features.
    """
    _check_label(label, num_features)
    length, bias = solve_polygon(label.hull)
    angles = 2 * np.pi * np.arange(label.hull) / label.hull
    weights = np.zeros((2, num_features))
    weights[:, : label.hull] = length * np.stack([np.cos(angles), np.sin(angles)])
    biases = np.full(num_features, _NEUTRAL_BIAS)
    biases[: label.hull] = bias
    biases[label.hull - label.negative : label.hull] = _SILENT_BIAS
    biases[label.hull : label.hull + label.positive] = 1 / (2 * num_features)
    return {"W": jnp.asarray(weights), "b": jnp.asarray(biases)}


def level(label: PhaseClass, num_features: int) -> float:
    """Exact population loss ``(h_k + c - k + f)/(3c) - s/(4c^2)`` of a class.

    Args:
        label: The class.
        num_features: Number of features ``c``.

    Returns:
        The loss per example.

    Raises:
        ValueError: If the class does not exist for ``c`` features.
    """
    _check_label(label, num_features)
    dead = num_features - label.hull + label.negative
    return (_polygon_cost(label.hull) + dead) / (3 * num_features) - label.positive / (
        4 * num_features**2
    )


def _polygon_cost(k: int) -> float:
    """``h_k = 3 k L``, where ``L`` is the loss of the regular k-gon of exactly ``k`` features."""
    length, bias = solve_polygon(k)
    angles = 2 * np.pi * np.arange(k) / k
    weights = length * np.stack([np.cos(angles), np.sin(angles)])
    return 3 * k * float(population_loss_host(weights, np.full(k, bias)))


def exact_llc(label: PhaseClass, num_features: int) -> tuple[float, int] | None:
    """Exact local learning coefficient and multiplicity of a class, where it is known.

    * ``k >= 5`` without positive dead features: ``((3k - 1)/2, 1)``; dead features are flat;
    * ``k >= 5`` with all dead features positive: ``((3c - 1)/2, 1)``. Both are half the rank of the
      Hessian at a minimum whose zero directions are flat;
    * "4", "4+", "4++" at ``c <= 6``, where the loss is kinked but homogeneous of degree two:
      ``((11 + 2(c - 4) + s)/2, 1)``, half the number of transverse directions.

    Args:
        label: The class.
        num_features: Number of features ``c``.

    Returns:
        ``(llc, multiplicity)``, or None where it is unknown or undefined: at saddles, such as
        "4++-" or "5+" among seven features, the loss falls below the level at every scale.

    Raises:
        ValueError: If the class does not exist for ``c`` features.
    """
    _check_label(label, num_features)
    hull, positive, negative = label
    if hull == 4:
        known = negative == 0 and num_features <= 6
        return ((11 + 2 * (num_features - 4) + positive) / 2, 1) if known else None
    if num_features > 8 or positive not in (0, num_features - hull):
        return None
    return (3 * (hull + positive) - 1) / 2, 1


def _check_label(label: PhaseClass, num_features: int) -> None:
    hull, positive, negative = label
    possible = (
        4 <= hull <= min(num_features, _LARGEST_POLYGON)
        and 0 <= positive <= num_features - hull
        and 0 <= negative <= (4 if hull == 4 else 0)
    )
    if not possible:
        raise ValueError(
            f"label: got {tuple(label)} for {num_features} features, expected 4 <= hull <= "
            f"min(c, {_LARGEST_POLYGON}), positive <= c - hull, negative <= 4 for hull 4, else 0"
        )

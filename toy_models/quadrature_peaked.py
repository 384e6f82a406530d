"""Exact finite-temperature values around sharp minima and on spheres, in float64 NumPy.

The law is ``exp(-t K(w) - localization/2 |w - w*|^2)`` with ``t = nbeta``.
"""

import itertools
from collections.abc import Callable

import numpy as np

from toy_models.quadrature import FiniteTemperature, average, check_temperature
from toy_models.quadrature_layers import check_proper

AGREEMENT = 1e-4


def peaked(
    potential_fn: Callable[[np.ndarray], np.ndarray],
    hessian: np.ndarray,
    nbeta: float,
    *,
    localization: float,
    order: int = 9,
) -> FiniteTemperature:
    """A minimum whose Hessian has full rank on the directions that matter, by Gauss-Hermite rules.

    Flat directions along which ``K`` does not change are integrated out by leaving them out: only
    the span of the Hessian is seen. In whitened coordinates the law is nearly a Gaussian, and two
    orders of the product rule must agree.

    Args:
        potential_fn: ``K`` of displacements ``w - w*``, ``[n, d] -> [n]``.
        hessian: Hessian of ``K`` at the center, ``[d, d]``.
        nbeta: Inverse temperature.
        localization: Localization.
        order: Nodes along each direction; ``order - 2`` is the check.

    Raises:
        ValueError: If a number is out of range, or ``nbeta`` so small that the law is not peaked:
            the two orders differ by more than one part in ten thousand.
    """
    check_temperature(nbeta, localization)
    values, vectors = np.linalg.eigh(np.asarray(hessian, float))
    chosen = values > 1e-9 * values[-1]
    scales = vectors[:, chosen] / np.sqrt(nbeta * values[chosen] + localization)
    found = [_hermite(potential_fn, scales, n, (nbeta, localization)) for n in (order - 2, order)]
    if not abs(found[0].llc - found[1].llc) <= AGREEMENT * found[1].llc:
        raise ValueError(f"nbeta: got {nbeta}, expected a larger one: the law is not peaked")
    return found[1]


def _hermite(potential_fn, scales, order, temperature):
    nbeta, localization = temperature
    nodes, weights = np.polynomial.hermite_e.hermegauss(order)
    dimension = scales.shape[1]
    z = np.array(list(itertools.product(nodes, repeat=dimension)))
    log_rule = np.sum(np.meshgrid(*[np.log(weights)] * dimension, indexing="ij"), axis=0).ravel()
    w = z @ scales.T
    energy = nbeta * potential_fn(w)
    base = np.sum(z**2, axis=1) / 2 - localization * np.sum(w**2, axis=1) / 2
    return average(log_rule + base - energy, energy)


def line(
    potential_fn: Callable[[np.ndarray], np.ndarray], nbeta: float, localization: float
) -> FiniteTemperature:
    """Any one-dimensional ``K`` of a displacement, on grids in ``log|w|`` on both sides.

    Raises:
        ValueError: If a number is out of range.
    """
    check_proper(nbeta, localization)
    x = np.linspace(-60, np.log(40 / np.sqrt(localization)), 20_001)
    w = np.exp(x) * np.array([[1.0], [-1.0]])
    energy = nbeta * potential_fn(w)
    return average(x - energy - localization * w**2 / 2, energy)


def sphere(dimension: int, gap: float, nbeta: float, *, localization: float) -> FiniteTemperature:
    """``K = gap sin^2(angle to e_1)`` of ``w`` in at least two dimensions, centered at ``e_1``.

    Polar coordinates: a grid in the logarithm of the angle (from either pole) and in the radius.

    Raises:
        ValueError: If a number is out of range.
    """
    check_proper(nbeta, localization)
    x = np.linspace(-40, np.log(np.pi / 2), 1601)[:, None]
    edge = np.where(np.arange(x.size) == x.size - 1, np.log(0.5), 0.0)[:, None]
    reach = 1 + 10 / np.sqrt(localization)
    radius = (np.arange(1200) + 0.5) * reach / 1200
    sine, cosine = np.sin(np.exp(x)), np.cos(np.exp(x))
    energy = np.broadcast_to(nbeta * gap * sine**2, (x.size, radius.size))
    base = x + edge + (dimension - 2) * np.log(sine) + (dimension - 1) * np.log(radius) - energy
    poles = [
        base - localization / 2 * (radius**2 - 2 * sign * radius * cosine + 1) for sign in (1, -1)
    ]
    return average(np.stack(poles), np.stack([energy, energy]))

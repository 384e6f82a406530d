"""Exact finite-temperature learning coefficients by deterministic quadrature, in float64 NumPy.

The law is ``exp(-t K(w) - localization/2 |w|^2)`` with ``t = nbeta`` and ``K(0) = 0``.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class FiniteTemperature(NamedTuple):
    """Exact thermal averages.

    Attributes:
        llc: ``t E[K]``, what a perfect sampler returns for the local learning coefficient.
        heat_capacity: ``t^2 Var[K]``, what the variance estimator returns.
    """

    llc: float
    heat_capacity: float


def check_temperature(nbeta: float, localization: float) -> None:
    """Raises ValueError unless ``nbeta > 0`` and ``localization >= 0``, both finite."""
    if not (nbeta > 0 and np.isfinite(nbeta)):
        raise ValueError(f"nbeta: got {nbeta}, expected a positive number")
    if not (localization >= 0 and np.isfinite(localization)):
        raise ValueError(f"localization: got {localization}, expected a number >= 0")


def average(log_weight: np.ndarray, energy: np.ndarray) -> FiniteTemperature:
    """Mean and variance of ``energy = t K`` under unnormalized log weights on an equal grid."""
    weight = np.exp(log_weight - np.max(log_weight))
    weight /= np.sum(weight)
    mean = np.sum(weight * energy)
    return FiniteTemperature(float(mean), float(np.sum(weight * (energy - mean) ** 2)))


def quadratic(curvatures: np.ndarray, nbeta: float, localization: float) -> FiniteTemperature:
    """``K = 1/2 sum h_i w_i^2``: each direction contributes ``1/2 t h / (t h + localization)``."""
    check_temperature(nbeta, localization)
    curvatures = np.asarray(curvatures, float)
    stiff = nbeta * curvatures[curvatures > 0]
    share = stiff / (stiff + localization)
    return FiniteTemperature(float(np.sum(share) / 2), float(np.sum(share**2) / 2))


def radial(
    dimension: int, degree: int, scale: float, *, nbeta: float, localization: float
) -> FiniteTemperature:
    """``K = scale |w|^degree`` in a number of dimensions.

    In ``x = log|w|`` the log weight is ``dimension x - t K - localization |w|^2 / 2``. Without
    localization the mean is ``dimension / degree`` at every temperature.
    """
    check_temperature(nbeta, localization)
    top = np.log(800 / (nbeta * scale)) / degree
    x = np.linspace(top - 60, top, 20_001)
    energy = nbeta * scale * np.exp(degree * x)
    return average(dimension * x - energy - localization * np.exp(2 * x) / 2, energy)


def crossing(powers: tuple[int, int], nbeta: float, localization: float) -> FiniteTemperature:
    """``K = 1/2 w_1^(2 k_1) w_2^(2 k_2)`` by a grid in ``x_i = log|w_i|``.

    Raises:
        ValueError: Also if the localization is zero: the law is then improper.
    """
    check_temperature(nbeta, localization)
    if localization == 0:
        raise ValueError("localization: got 0, expected a positive number: the law is improper")
    x = np.linspace(-90, 4 - np.log(min(localization, 1.0)) / 2, 2801)
    single = x - localization * np.exp(2 * x) / 2
    energy = nbeta * np.exp(2 * powers[0] * x[:, None] + 2 * powers[1] * x) / 2
    return average(single[:, None] + single - energy, energy)


def reduced_rank(
    widths: tuple[int, int, int], nbeta: float, localization: float
) -> FiniteTemperature:
    """``K = 1/2 |B A|^2`` around zero, ``A: [hidden, in]``, ``B: [out, hidden]``, hidden <= 2.

    ``B`` integrates out. The eigenvalues ``s_i`` of ``A A^T`` have the density

        prod_i s_i^((in - hidden - 1)/2) e^(-g s_i/2) (g + t s_i)^(-out/2) prod_(i<j) |s_i - s_j|

    with ``g`` the localization, and given them ``t K`` has mean ``out/2 sum f_i`` and variance
    ``out/2 sum f_i^2``, ``f_i = t s_i / (g + t s_i)``.

    Raises:
        ValueError: If the hidden width exceeds two or both others, or the localization is zero.
    """
    check_temperature(nbeta, localization)
    inputs, hidden, out = widths
    if hidden > inputs:
        inputs, out = out, inputs
    if not (1 <= hidden <= 2 and hidden <= inputs):
        raise ValueError(f"widths: got {widths}, expected hidden <= 2 and <= the larger other")
    if localization == 0:
        raise ValueError("localization: got 0, expected a positive number: the law is improper")
    x = np.linspace(-60, np.log(60 + 60 / localization), 4001 if hidden == 1 else 1401)
    s = np.exp(x)
    share = nbeta * s / (localization + nbeta * s)
    single = (inputs - hidden + 1) / 2 * x - localization * s / 2
    single -= out / 2 * np.log(localization + nbeta * s)
    if hidden == 1:
        return mixture(single, out / 2 * share, out / 2 * share**2)
    with np.errstate(divide="ignore"):
        joint = single[:, None] + single + np.log(np.abs(s[:, None] - s))
    total, squares = share[:, None] + share, share[:, None] ** 2 + share**2
    return mixture(joint, out / 2 * total, out / 2 * squares)


def mixture(log_weight: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> FiniteTemperature:
    """Law of total variance for ``t K`` with given conditional mean and variance."""
    outer = average(log_weight, mean)
    inner = average(log_weight, variance)
    return FiniteTemperature(outer.llc, inner.llc + outer.heat_capacity)


def gaussian_policy(dimension: int, nbeta: float, localization: float) -> FiniteTemperature:
    """KL of ``N(theta . x, e^(2 l))``, ``E x x^T = I``, from its center at scale one.

    ``K = 1/2 |theta - theta*|^2 e^(-2 l) + l + e^(-2 l)/2 - 1/2``. The mean parameters integrate
    out; the log scale ``l`` is left to a one-dimensional rule.

    Raises:
        ValueError: Also if ``nbeta`` does not exceed the dimension without localization.
    """
    check_temperature(nbeta, localization)
    if localization == 0 and nbeta <= dimension:
        raise ValueError(f"nbeta: got {nbeta}, expected more than {dimension}: improper law")
    wide = 40 / np.sqrt(localization) if localization > 0 else np.inf
    if nbeta > dimension:  # the tail falls as exp(-(nbeta - dimension) l)
        wide = min(wide, max(20 / np.sqrt(nbeta), 60 / (nbeta - dimension)))
    x = np.linspace(-min(wide, 20.0), wide, 40_001)
    precision = nbeta * np.exp(-2 * x)
    share = precision / (precision + localization)
    own = nbeta * (x + np.exp(-2 * x) / 2 - 0.5)
    log_weight = -own - localization * x**2 / 2 - dimension / 2 * np.log(precision + localization)
    return mixture(log_weight, own + dimension / 2 * share, dimension / 2 * share**2)


def even_line(
    potential_fn: Callable[[np.ndarray], np.ndarray], nbeta: float, localization: float
) -> FiniteTemperature:
    """Any even one-dimensional ``K``, on a grid in ``log|w|``.

    Args:
        potential_fn: ``K``, vectorized.
        nbeta: Inverse temperature.
        localization: Positive localization.

    Raises:
        ValueError: If a number is out of range.
    """
    check_temperature(nbeta, localization)
    if localization == 0:
        raise ValueError("localization: got 0, expected a positive number")
    x = np.linspace(-60, np.log(40 / np.sqrt(localization)), 20_001)
    w = np.exp(x)
    energy = nbeta * potential_fn(w)
    return average(x - energy - localization * w**2 / 2, energy)

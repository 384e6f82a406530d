"""Exact finite-temperature values of products and two-layer maps, in float64 NumPy.

The law is ``exp(-t K(w) - localization/2 |w - w*|^2)`` with ``t = nbeta``. A layer in which the
model is linear integrates out as a Gaussian; what is left is a grid of one or two dimensions.
"""

from collections.abc import Callable, Sequence

import numpy as np

from toy_models.quadrature import FiniteTemperature, average, check_temperature, mixture


def check_proper(nbeta: float, localization: float) -> None:
    """Raises ValueError unless both are positive: without localization the law is improper."""
    check_temperature(nbeta, localization)
    if localization == 0:
        raise ValueError("localization: got 0, expected a positive number: the law is improper")


def product(
    potential_fn: Callable[[np.ndarray], np.ndarray],
    powers: Sequence[int],
    *,
    nbeta: float,
    localization: float,
) -> FiniteTemperature:
    """Any ``K`` that depends on ``u = prod |w_i|^(k_i)`` alone, at the center zero.

    In ``y_i = k_i log|w_i|`` the weight of a factor is ``exp(y/k - localization e^(2y/k) / 2)``;
    all factors share one spacing, so the weight of ``log u`` is their discrete convolution, a sum
    of positive terms.

    Args:
        potential_fn: ``K(u)``, vectorized over ``u >= 0``.
        powers: The ``k_i >= 0``, not all zero; a zero is a flat coordinate.
        nbeta: Inverse temperature.
        localization: Positive localization.

    Raises:
        ValueError: If a number is out of range.
    """
    check_proper(nbeta, localization)
    step, top = 0.04, np.log(80 / localization) / 2
    weight, start = np.ones(1), 0.0
    for power in (k for k in powers if k > 0):
        y = np.arange(-50 * max(powers), power * top, step)
        single = np.exp(y / power - localization * np.exp(2 * y / power) / 2)
        weight, start = np.convolve(weight, single), start + y[0]
    with np.errstate(divide="ignore"):
        log_weight = np.log(weight)
    energy = nbeta * potential_fn(np.exp(start + step * np.arange(weight.size)))
    return average(log_weight - energy, energy)


def linear_readout(
    gram_fn: Callable[[np.ndarray], np.ndarray],
    num_outputs: int,
    *,
    nbeta: float,
    localization: float,
) -> FiniteTemperature:
    """``K = 1/2 |a|^2 g(b)`` with a readout ``a`` of some outputs and one even weight ``b``.

    The readout integrates out: ``t K`` given ``b`` has mean ``num_outputs/2 f`` and variance
    ``num_outputs/2 f^2``, ``f = t g / (localization + t g)``.

    Args:
        gram_fn: ``g(b)``, vectorized over ``b > 0``.
        num_outputs: Number of outputs.
        nbeta: Inverse temperature.
        localization: Positive localization.

    Raises:
        ValueError: If a number is out of range.
    """
    check_proper(nbeta, localization)
    x = np.linspace(-60, np.log(80 / localization) / 2, 6001)
    stiff = nbeta * gram_fn(np.exp(x))
    share = stiff / (stiff + localization)
    log_weight = x - localization * np.exp(2 * x) / 2
    log_weight -= num_outputs / 2 * np.log(stiff + localization)
    return mixture(log_weight, num_outputs / 2 * share, num_outputs / 2 * share**2)


def two_layers(
    widths: tuple[int, int, int], nbeta: float, localization: float
) -> FiniteTemperature:
    """``K = 1/2 |B A|^2`` around zero for any widths with at most two non-zero singular values.

    As `toy_models.quadrature.reduced_rank`, with the ``q = min(in, hidden)`` non-zero eigenvalues
    of ``A A^T``, whose density has ``s^((|in - hidden| - 1)/2)``. Input and output may be swapped.

    Raises:
        ValueError: If no layer has a side of at most two, or a number is out of range.
    """
    check_proper(nbeta, localization)
    inputs, hidden, out = widths if widths[0] <= widths[2] else widths[::-1]
    count = min(inputs, hidden)
    if count > 2:
        raise ValueError(f"widths: got {widths}, expected one of them to be at most 2")
    x = np.linspace(-60, np.log(80 + 80 / localization), 6001 if count == 1 else 1601)
    s = np.exp(x)
    share = nbeta * s / (localization + nbeta * s)
    single = (abs(inputs - hidden) + 1) / 2 * x - localization * s / 2
    single -= out / 2 * np.log(localization + nbeta * s)
    if count == 1:
        return mixture(single, out / 2 * share, out / 2 * share**2)
    with np.errstate(divide="ignore"):
        joint = single[:, None] + single + np.log(np.abs(s[:, None] - s))
    total, squares = share[:, None] + share, share[:, None] ** 2 + share**2
    return mixture(joint, out / 2 * total, out / 2 * squares)


def rank_one(
    hidden: int, out: int, scale: float, *, nbeta: float, localization: float
) -> FiniteTemperature:
    """``K = 1/2 |B a - scale e_1|^2``, ``a: [hidden]``, at ``a* = sqrt(scale) e_1, B* = e_1 a*``.

    Given ``a``, every output ``u = B_n . a`` is Gaussian of variance ``v = |a|^2/localization``
    about ``B*_n . a``. What is left is ``a`` itself: its first coordinate and the length of the
    rest, on which the weight is smooth at every temperature.

    Raises:
        ValueError: If a number is out of range.
    """
    check_proper(nbeta, localization)
    root, reach = np.sqrt(scale), 9 / np.sqrt(localization)
    along = root + np.linspace(-reach, reach, 2001)[:, None]
    rest = (np.arange(800) + 0.5) * reach / 800 if hidden > 1 else np.zeros(1)
    variance = nbeta * (along**2 + rest**2) / localization
    share = variance / (1 + variance)
    bias = nbeta * (root * along - scale) ** 2 / (1 + variance)
    log_weight = -out / 2 * np.log1p(variance) - bias / 2
    log_weight = log_weight - localization / 2 * ((along - root) ** 2 + rest**2)
    if hidden > 1:
        log_weight = log_weight + (hidden - 2) * np.log(rest)
    mean = out / 2 * share + bias / (2 * (1 + variance))
    spread = out / 2 * share**2 + share * bias / (1 + variance)
    return mixture(log_weight, mean, spread)


def near_identity(nbeta: float, localization: float) -> FiniteTemperature:
    """``K = 1/2 |B A|^2`` for 2 x 2 layers, centered at ``A* = I`` and ``B* = 0``.

    ``B`` integrates out. A Gaussian ``A`` about the identity has singular values ``R + S`` and
    ``|R - S|``, where ``R`` is the length of a plane Gaussian of mean ``(1, 0)`` and ``S`` that of
    a centered one, both of variance ``1/(2 localization)`` a coordinate. The grid is in
    ``log|R - S|`` and ``min(R, S)``.

    Raises:
        ValueError: If a number is out of range.
    """
    from scipy.special import i0e

    check_proper(nbeta, localization)
    reach = 1 + 9 / np.sqrt(localization)
    x = np.linspace(-40, np.log(reach), 1601)[:, None]
    low = (np.arange(1500) + 0.5) * reach / 1500
    gap, kappa = np.exp(x), nbeta / localization
    parts = []
    for long, short in ((low + gap, low), (low, low + gap)):
        with np.errstate(divide="ignore"):
            radial = np.log(long * short * i0e(2 * localization * long))
        parts.append(radial - localization * ((long - 1) ** 2 + short**2))
    stiff = kappa * np.stack([(2 * low + gap) ** 2, np.broadcast_to(gap**2, parts[0].shape)])
    log_weight = x + np.logaddexp(*parts) - np.sum(np.log1p(stiff), axis=0)
    share = stiff / (1 + stiff)
    return mixture(log_weight, np.sum(share, axis=0), np.sum(share**2, axis=0))

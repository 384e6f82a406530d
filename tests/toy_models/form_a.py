"""Independent forms of the population loss: Lemma 3.1 of arXiv:2310.06301, and quadrature."""

import numpy as np


def lemma_loss(weights: np.ndarray, biases: np.ndarray) -> float:
    """`L = H/(3c)` by the cases of Lemma 3.1, for uniform features."""
    count = biases.size
    gram = weights.T @ weights
    return sum(_lemma_term(i, gram, biases) for i in range(count)) / (3 * count)


def _lemma_term(i: int, gram: np.ndarray, biases: np.ndarray) -> float:
    b, square = biases[i], gram[i, i]
    others = np.delete(gram[i], i)
    own = (1 - square) ** 2 - 3 * (1 - square) * b + 3 * b**2
    if b <= 0:
        active = others[(others > 0) & (-others <= b)]
        total = np.sum((active + b) ** 3 / active)
        if -square <= b and square > 0:
            return total + b**3 / square**2 + b**3 / square + own
        return total + 1
    opposed = others < -b
    cut = -(b**3) / np.where(opposed, others, 1)
    return np.sum(np.where(opposed, cut, others**2 + 3 * others * b + 3 * b**2)) + own


def split_quadrature(function, breaks, order: int = 8) -> float:
    """Gauss-Legendre on [0, 1] split at the given points: exact for piecewise polynomials."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    inside = [point for point in breaks if 0 < point < 1]
    edges = np.array([0.0, *sorted(inside), 1.0])
    total = 0.0
    for start, end in zip(edges, edges[1:], strict=False):
        points = start + (end - start) * (nodes + 1) / 2
        total += (end - start) / 2 * np.sum(weights * function(points))
    return total


def quadrature_loss(weights, biases, probabilities, amplitudes, output_weights) -> float:
    """The population loss by split quadrature of each pair of features."""
    gram, total = weights.T @ weights, 0.0
    for i, (p, a) in enumerate(zip(probabilities, amplitudes, strict=True)):
        for j, v in enumerate(output_weights):
            slope, bias, target = a * gram[i, j], biases[j], a * (i == j)

            def error(s, slope=slope, bias=bias, target=target):
                return (target * s - np.maximum(slope * s + bias, 0)) ** 2

            breaks = [-bias / slope] if slope else []
            total += p * v * split_quadrature(error, breaks)
    return total


def quadrature_kl(first, second, sigma: float) -> float:
    """`E|f - g|^2 / (2 sigma^2)` by split quadrature, uniform features of amplitude one."""
    grams = [p["W"].T @ p["W"] for p in (first, second)]
    count, total = first["b"].size, 0.0
    for i in range(count):
        for j in range(count):
            lines = [(g[i, j], p["b"][j]) for g, p in zip(grams, (first, second), strict=True)]

            def difference(s, lines=lines):
                values = [np.maximum(slope * s + bias, 0) for slope, bias in lines]
                return (values[0] - values[1]) ** 2

            breaks = [-bias / slope for slope, bias in lines if slope]
            total += split_quadrature(difference, breaks) / count
    return total / (2 * sigma**2)

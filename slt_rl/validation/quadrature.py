"""The loss of the toy model of superposition by quadrature: independent of its closed form."""

import numpy as np


def loss_by_quadrature(
    weights: np.ndarray,
    biases: np.ndarray,
    *,
    probabilities: np.ndarray,
    amplitudes: np.ndarray,
    output_weights: np.ndarray,
) -> float:
    """Integrates the squared error over the amplitude, piece by piece between the kinks.

    Between kinks the integrand is a quadratic, for which Gauss-Legendre with three nodes is exact;
    one rule over the whole interval would not be.

    Args:
        weights: `[2, c]`.
        biases: `[c]`.
        probabilities: `[c]`, of the features.
        amplitudes: `[c]`, the amplitude of feature `i` is uniform on `[0, amplitudes[i]]`.
        output_weights: `[c]`.
    """
    nodes, node_weights = np.polynomial.legendre.leggauss(3)
    gram = weights.T @ weights
    total = 0.0
    for i, (probability, amplitude) in enumerate(zip(probabilities, amplitudes, strict=True)):
        with np.errstate(divide="ignore", invalid="ignore"):
            kinks = -biases / gram[i]
        inside = kinks[(kinks > 0) & (kinks < amplitude)]
        edges = np.concatenate([[0.0], np.sort(inside), [amplitude]])
        for low, high in zip(edges, edges[1:], strict=False):
            x = (low + high) / 2 + (high - low) / 2 * nodes
            output = np.maximum(x[:, None] * gram[i] + biases, 0.0)
            target = x[:, None] * (np.arange(len(biases)) == i)
            errors = ((target - output) ** 2) @ output_weights
            share = (high - low) / (2 * amplitude)
            total += probability * share * float(node_weights @ errors)
    return total

"""Conditional draws of layers: exact values of one layer and of two with a zero map."""

import numpy as np
import pytest

from benchmarks.deep_linear_gibbs import Posterior, draw_layer, finite_value
from toy_models.deep_linear import deep_linear

NBETA, LOCALIZATION = 8686.0, 10.0
NUM_DRAWS = 1000


def test_one_layer_has_the_value_of_its_quadratic():
    """Directions `(i, j)` of curvature `q b_j`, each with half a unit times its share."""
    generator = np.random.default_rng(0)
    factor = np.linalg.cholesky(np.diag([1e-3, 1.0, 30.0]))
    posterior = Posterior([generator.standard_normal((2, 3))], factor, 100.0, LOCALIZATION)
    stiff = 100.0 * np.array([1e-3, 1.0, 30.0])
    exact = 2 * np.sum(stiff / (stiff + LOCALIZATION)) / 2
    found = finite_value(posterior, num_sweeps=2000)
    assert abs(found.mean - exact) < 4 * found.sem
    assert found.sem < 0.02 * exact


def test_two_layers_with_a_zero_map_have_the_value_of_quadrature():
    """A square layer is free to vanish with the other: no normal law, known by quadrature."""
    problem = deep_linear((2, 2, 2))
    centers = [np.asarray(layer, np.float64) for layer in problem.params]
    posterior = Posterior(centers, np.eye(2), NBETA, LOCALIZATION)
    exact = problem.finite_llc(NBETA, LOCALIZATION)
    found = finite_value(posterior, num_sweeps=1500)
    assert abs(found.mean - exact) < 4 * found.sem
    assert found.sem < 0.05 * exact


@pytest.mark.parametrize("index", range(3))
def test_layers_are_drawn_from_their_conditional_law(index):
    """Mean and covariance are those of the normal equations of this layer's entries."""
    generator = np.random.default_rng(index)
    layers = [generator.standard_normal(shape) for shape in ((3, 2), (2, 3), (3, 2))]
    factor, strength = np.array([[1.0, 0.0], [0.5, 2.0]]), 3.0
    centers = [0.3 * layer for layer in layers]
    posterior = Posterior(centers, factor, strength, 1.5)

    left, right = np.eye(len(layers[index])), factor
    for layer in layers[index + 1 :]:
        left = layer @ left
    for layer in layers[:index]:
        right = layer @ right
    slope = np.kron(left, right.T)
    precision = strength * slope.T @ slope + 1.5 * np.eye(6)
    pull = strength * slope.T @ posterior.target.ravel() + 1.5 * centers[index].ravel()
    mean = np.linalg.solve(precision, pull)
    drawn = np.array(
        [draw_layer(posterior, layers, index, generator=generator) for _ in range(NUM_DRAWS)]
    )
    scores = (drawn.reshape(NUM_DRAWS, 6) - mean) @ np.linalg.cholesky(precision)
    assert np.abs(scores.mean(axis=0)).max() < 4 / np.sqrt(NUM_DRAWS)
    assert np.abs(scores.T @ scores / NUM_DRAWS - np.eye(6)).max() < 4 * np.sqrt(2 / NUM_DRAWS)

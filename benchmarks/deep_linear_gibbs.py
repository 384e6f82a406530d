"""Values of deep linear networks at any temperature and localization, by exact conditional draws.

    U(W) = q/2 |(W_L ... W_1 - P) C|^2 + localization/2 |W - W*|^2

is quadratic in one layer if all others are held. With `A = W_L ... W_(l+1)`, `B = W_(l-1)...W_1 C`
and the eigenvectors `V` of `A'A` and `X` of `B B'`, of eigenvalues `a` and `b`, the entries of
`V' W_l X` are independent normal numbers with

    precision_ij = q a_i b_j + localization
    mean_ij = [q V' A' P C B' X + localization V' W*_l X]_ij / precision_ij

No step size and no gradient enters, nor any curvature limit: the weak directions of a layer are
redrawn at once, however stiff the others are.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from slt_rl.estimators import Estimate, mean_estimate

Layers = Sequence[np.ndarray]
# Share of the sweeps that is dropped.
BURNIN = 0.25


def _chain(layers: Layers, right: np.ndarray) -> np.ndarray:
    """`W_L ... W_1 R` for layers from first to last."""
    for layer in layers:
        right = layer @ right
    return right


@dataclasses.dataclass(frozen=True)
class Posterior:
    """What is sampled.

    Attributes:
        centers: `W*` from input to output, float64; they give `P`.
        factor: `C`, `[d, d]`, with `C C'` the second moments of the inputs.
        strength: `q`, twice `nbeta` for a loss that is a sum of squares.
        localization: In 1/parameter^2.
    """

    centers: Layers
    factor: np.ndarray
    strength: float
    localization: float

    @functools.cached_property
    def target(self) -> np.ndarray:
        """`P C`."""
        return _chain(self.centers, self.factor)

    def scaled_loss(self, layers: Layers) -> float:
        """`q/2 |(W_L ... W_1 - P) C|^2`."""
        difference = _chain(layers, self.factor) - self.target
        return self.strength / 2 * float(np.sum(difference**2))


def draw_layer(
    posterior: Posterior, layers: Layers, index: int, *, generator: np.random.Generator
) -> np.ndarray:
    """Draws layer `index` given all others."""
    center, strength = posterior.centers[index], posterior.strength
    localization = posterior.localization
    left = _chain(layers[index + 1 :], np.eye(len(center)))
    right = _chain(layers[:index], posterior.factor)
    a, v = np.linalg.eigh(left.T @ left)
    b, x = np.linalg.eigh(right @ right.T)
    precision = strength * np.outer(np.maximum(a, 0), np.maximum(b, 0)) + localization
    pull = strength * (left.T @ posterior.target @ right.T) + localization * center
    drawn = v.T @ pull @ x / precision
    drawn += generator.standard_normal(drawn.shape) / np.sqrt(precision)
    return v @ drawn @ x.T


def sample(posterior: Posterior, num_sweeps: int, seed: int) -> np.ndarray:
    """Sweeps over all layers, forth and back, from `W*`; `[sweep]`, the scaled loss."""
    generator = np.random.default_rng(seed)
    layers, values = list(posterior.centers), []
    for number in range(num_sweeps):
        for index in range(len(layers))[:: 1 if number % 2 == 0 else -1]:
            layers[index] = draw_layer(posterior, layers, index, generator=generator)
        values.append(posterior.scaled_loss(layers))
    return np.array(values)


def finite_value(posterior: Posterior, num_sweeps: int, num_chains: int = 4) -> Estimate:
    """The learning coefficient at the posterior's temperature and localization.

    A quarter of the sweeps of every chain is dropped.
    """
    values = np.array([sample(posterior, num_sweeps, seed) for seed in range(num_chains)])
    return mean_estimate(values[:, round(BURNIN * num_sweeps) :])

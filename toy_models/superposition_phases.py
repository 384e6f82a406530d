"""To which phase of the toy model of superposition parameters belong."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from toy_models.superposition_critical import known_classes, level
from toy_models.superposition_loss import population_loss_host

TRANSIT = "transit"


def classify(params: Any, *, tolerance: float = 1e-3) -> np.ndarray:
    """Class of each of many parameters, by shape and by level.

    A column is live when its own output responds to its own feature, ``|W_i|^2 > 1/4`` and
    ``|W_i|^2 + b_i > 0``. Five or more live columns, all vertices of the convex hull of all
    columns, are a k-gon; four or fewer are a 4-gon whose missing vertices are silent (whether a
    silent column still has length does not matter: its loss is flat there). A feature that is not
    live counts as positive when its bias exceeds half of ``1/(2c)``. The class is accepted if the
    exact population loss is within ``tolerance`` of its level; otherwise the answer is "transit".

    Invariant under rotations and reflections of the hidden plane and permutations of the features.
    The population loss judges also parameters trained on a finite set of data.

    Args:
        params: ``{"W": [..., 2, c], "b": [..., c]}``, arrays of any library.
        tolerance: Largest distance to the level, in units of the loss.

    Returns:
        Array of str of the leading shape ``[...]``: "5", "5+", "4++-", ... or "transit".

    Raises:
        ValueError: If shapes disagree or the tolerance is not positive.
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance: got {tolerance}, expected a positive number")
    found = shapes(params)
    loss = population_loss_host(params["W"], params["b"])
    num_features = np.shape(params["b"])[-1]
    levels = {str(label): level(label, num_features) for label in known_classes(num_features)}
    wanted = np.vectorize(lambda label: levels.get(label, np.inf), otypes=[float])(found)
    return np.where(np.abs(loss - wanted) <= tolerance, found, TRANSIT)


def shapes(params: Any, *, probabilities: Any = None) -> np.ndarray:
    """Class of each of many parameters by shape alone, whatever the loss; see `classify`.

    Args:
        params: ``{"W": [..., 2, c], "b": [..., c]}``, arrays of any library.
        probabilities: Feature probabilities, broadcastable to ``[..., c]``; ``1/c`` if None. The
            bias of a positive dead feature is half its probability, and half of that decides.

    Returns:
        Array of str of the leading shape ``[...]``, "transit" where no class has the shape.

    Raises:
        ValueError: If shapes disagree.
    """
    weights = np.asarray(params["W"], np.float64)
    biases = np.asarray(params["b"], np.float64)
    if weights.shape[-2] != 2 or weights.shape[:-2] + weights.shape[-1:] != biases.shape:
        raise ValueError(
            f"params: got W {weights.shape} and b {biases.shape}, expected [..., 2, c] and [..., c]"
        )
    num_features = biases.shape[-1]
    threshold = 1 / (4 * num_features) if probabilities is None else np.asarray(probabilities) / 4
    square = np.sum(weights**2, axis=-2)
    live = (square > 0.25) & (square + biases > 0)
    num_live = live.sum(axis=-1)
    convex = ~np.any(live & ~hull_vertices(weights), axis=-1)
    positive = np.sum(~live & (biases > threshold), axis=-1)
    found = np.full(biases.shape[:-1], TRANSIT, dtype="<U16")
    for label in known_classes(num_features):
        fits = (num_live == label.hull - label.negative) & (positive == label.positive) & convex
        found[fits] = str(label)
    return found


def hull_vertices(weights: np.ndarray) -> np.ndarray:
    """Whether each column is a vertex of the convex hull of all columns.

    A column is a vertex when the directions to all others leave a gap of more than a half turn.

    Args:
        weights: ``W`` of shape ``[..., 2, c]``.

    Returns:
        Booleans of shape ``[..., c]``.
    """
    difference = weights[..., None, :] - weights[..., :, None]  # [..., 2, from, to]
    angle = np.arctan2(difference[..., 1, :, :], difference[..., 0, :, :])
    count = weights.shape[-1]
    others = (np.arange(count)[:, None] + np.arange(1, count)) % count
    angle = np.take_along_axis(angle, np.broadcast_to(others, angle.shape[:-1] + (count - 1,)), -1)
    angle = np.sort(angle, axis=-1)
    wrap = angle[..., :1] + 2 * np.pi - angle[..., -1:]
    gaps = np.concatenate([np.diff(angle, axis=-1), wrap], axis=-1)
    return np.max(gaps, axis=-1) > np.pi + 1e-9


def count_classes(params: Any, *, tolerance: float = 1e-3) -> dict[str, int]:
    """How many of the stacked parameters fall into each class, most frequent first."""
    names, counts = np.unique(classify(params, tolerance=tolerance), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(names[i]): int(counts[i]) for i in order}


def hull_sizes(params: Any) -> np.ndarray:
    """Number of vertices of the convex hull of the columns, whatever the loss.

    This is the phase of a sample of the Bayesian posterior, which lies far above the level of the
    critical point it belongs to.

    Args:
        params: ``{"W": [..., 2, c]}``; biases are not read.

    Returns:
        Integers of shape ``[...]``.
    """
    return hull_vertices(np.asarray(params["W"], np.float64)).sum(axis=-1)


def equal_occupancy(
    nbetas: Sequence[float], sizes: np.ndarray, *, small: int = 5, large: int = 6
) -> float:
    """Inverse temperature at which two hull sizes are equally probable.

    Between the first two neighboring inverse temperatures where the larger hull overtakes, the
    log odds are interpolated linearly.

    Args:
        nbetas: Increasing inverse temperatures ``[k]``.
        sizes: Hull sizes of equally weighted samples ``[k, ...]``.
        small: The hull size that prevails at first.
        large: The hull size that prevails later.

    Returns:
        The crossing, or NaN if there is none.
    """
    sizes = np.asarray(sizes).reshape(len(nbetas), -1)
    # Half a count keeps the odds finite where one of the two was never drawn.
    odds = np.log((sizes == large).sum(1) + 0.5) - np.log((sizes == small).sum(1) + 0.5)
    for k in range(len(nbetas) - 1):
        if odds[k] < 0 <= odds[k + 1]:
            share = odds[k] / (odds[k] - odds[k + 1])
            return float(nbetas[k] + share * (nbetas[k + 1] - nbetas[k]))
    return float("nan")

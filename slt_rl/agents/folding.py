"""Inputs that no loss on the given states can see, taken out of the first layer.

Constant inputs are folded into its bias; of the others the directions that no state has are left
out.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

PyTree = Any


class Folded(NamedTuple):
    """Checkpoints and states without their constant inputs.

    Attributes:
        params: Parameters `[checkpoint, ...]`, the first layer with fewer rows.
        observations: States with fewer inputs, `[set, ..., input]`.
        num_inputs: Inputs before.
        num_varying: Inputs kept.
    """

    params: PyTree
    observations: np.ndarray
    num_inputs: int
    num_varying: int


def fold_constant_inputs(params: PyTree, observations: np.ndarray) -> Folded:
    r"""Removes inputs that are the same at all states; the network computes what it did.

        W x + b = W_v x_v + (W_c x_c + b),   v: varying, c: constant inputs

    A weight of a constant input acts as a bias does, so that these directions are free twice. The
    chain that moves `W_v` and the bias is that of the whole network with `W_c` frozen.

    With states of their own for each checkpoint an input is kept if it varies among the states of
    any of them, so that all checkpoints have one shape.

    Args:
        params: Nested dicts or lists of arrays `[checkpoint, ...]`. Its first layer is the one
            `{"kernel": [checkpoint, input, out], "bias": [checkpoint, out]}` with as many rows as
            there are inputs; where there is none, or several, nothing is folded.
        observations: `[set, ..., input]`, one set of states for all checkpoints or one for each.

    Returns:
        The same function in fewer parameters.

    Raises:
        ValueError: If observations are not finite or of another shape, or there are more sets than
            one but not one for each checkpoint.

    Example:
        >>> layer = {"kernel": np.ones((1, 3, 2)), "bias": np.zeros((1, 2))}
        >>> folded = fold_constant_inputs({"in": layer}, np.array([[[1.0, 5, 2], [0, 5, 2]]]))
        >>> folded.params["in"]["bias"].tolist(), folded.observations.tolist()
        ([[7.0, 7.0]], [[[1.0], [0.0]]])
    """
    observations = _checked(observations)
    num_inputs = observations.shape[-1]
    flat = observations.reshape(len(observations), -1, num_inputs)
    varying = _varying(flat)
    first = _first_layers(params, num_inputs)
    if len(first) != 1 or varying.all():
        return Folded(params, observations, num_inputs, num_inputs)
    layer = first[0]
    kernel, bias = _kernel_and_bias(layer, len(flat))
    constant = flat[:, 0, ~varying].astype(np.float64)
    constant = np.broadcast_to(constant, (len(kernel), constant.shape[-1]))
    moved = bias + np.einsum("ci,cio->co", constant, kernel[:, ~varying].astype(np.float64))
    small = {**layer, "kernel": kernel[:, varying], "bias": moved.astype(bias.dtype)}
    folded = _replace(params, layer, small)
    return Folded(folded, observations[..., varying], num_inputs, int(varying.sum()))


def drop_unseen_directions(params: PyTree, observations: np.ndarray) -> Folded:
    r"""Turns the inputs to the directions that the states span; the network computes what it did.

        W^T x = (V^T W)^T (V^T x),   V [input, rank] orthonormal, x = V V^T x for every state x

    A chain whose noise and tether are the same in all directions moves `V^T W` as it moved `W`, and
    the rest of `W`, which no state sees, has the Gaussian law of its tether and adds nothing to the
    loss: the law of the loss is exactly that of the whole network. It costs `rank / input` of it,
    and there are at most as many directions as states.

    With states of their own for each checkpoint every set has its own directions; all have as many
    as the set with the most.

    Args:
        params: As for `fold_constant_inputs`.
        observations: `[set, ..., input]`.

    Returns:
        The same function in fewer parameters; `num_varying` is the number of directions.

    Raises:
        ValueError: As `fold_constant_inputs`.

    Example:
        >>> layer = {"kernel": np.ones((1, 3, 2)), "bias": np.zeros((1, 2))}
        >>> found = drop_unseen_directions({"in": layer}, np.array([[[1.0, 2, 2], [3, 6, 6]]]))
        >>> found.num_varying, found.params["in"]["kernel"].shape
        (1, (1, 1, 2))
    """
    observations = _checked(observations)
    num_inputs = observations.shape[-1]
    first = _first_layers(params, num_inputs)
    if len(first) != 1:
        return Folded(params, observations, num_inputs, num_inputs)
    flat = observations.reshape(len(observations), -1, num_inputs).astype(np.float64)
    kernel, _ = _kernel_and_bias(first[0], len(flat))
    basis = _basis(flat)
    turned = np.swapaxes(basis, 1, 2) @ kernel.astype(np.float64)
    small = {**first[0], "kernel": turned.astype(kernel.dtype)}
    seen = (flat @ basis).reshape(*observations.shape[:-1], -1).astype(observations.dtype)
    return Folded(_replace(params, first[0], small), seen, num_inputs, basis.shape[-1])


def _checked(observations: np.ndarray) -> np.ndarray:
    observations = np.asarray(observations)
    if observations.ndim < 3 or not observations.size:
        raise ValueError(
            f"observations: got shape {observations.shape}, expected [set, ..., input]"
        )
    if not np.isfinite(observations).all():
        raise ValueError("observations: got nan or infinity, expected finite numbers")
    return observations


def _kernel_and_bias(layer: dict[str, Any], num_sets: int) -> list[np.ndarray]:
    """Weights of a first layer, whose checkpoints share a set of states or have one each."""
    kernel, bias = (np.asarray(layer[name]) for name in ("kernel", "bias"))
    if num_sets not in (1, len(kernel)):
        raise ValueError(
            f"observations: got {num_sets} sets for {len(kernel)} checkpoints, expected one set or "
            "one for each"
        )
    return [kernel, bias]


def _basis(states: np.ndarray) -> np.ndarray:
    """Orthonormal directions that the states of each set span, `[set, input, rank]`."""
    _, sizes, directions = np.linalg.svd(states, full_matrices=False)
    tolerance = sizes[:, :1] * max(states.shape[1:]) * np.finfo(np.float64).eps
    rank = max(1, int((sizes > tolerance).sum(axis=1).max()))
    return np.swapaxes(directions[:, :rank], 1, 2)


def _varying(observations: np.ndarray) -> np.ndarray:
    """Which inputs vary within some set `[set, n, input]`, `[input]`; the first at least."""
    varying = (observations != observations[:, :1]).any(axis=(0, 1))
    if not varying.any():
        varying[0] = True
    return varying


def _first_layers(node: PyTree, num_inputs: int) -> list[dict[str, Any]]:
    """All layers that take the inputs."""
    if isinstance(node, dict):
        if {"kernel", "bias"} <= node.keys() and np.shape(node["kernel"])[1:2] == (num_inputs,):
            return [node]
        return [found for x in node.values() for found in _first_layers(x, num_inputs)]
    if isinstance(node, list | tuple):
        return [found for x in node for found in _first_layers(x, num_inputs)]
    return []


def _replace(node: PyTree, old: dict[str, Any], new: dict[str, Any]) -> PyTree:
    """The tree with one node, recognized by identity, replaced."""
    is_old = lambda x: x is old  # noqa: E731
    return jax.tree.map(lambda x: new if x is old else x, node, is_leaf=is_old)

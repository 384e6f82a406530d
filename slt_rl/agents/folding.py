"""Inputs that are constant over the states, folded into the bias of the first layer."""

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

    Example:
        >>> layer = {"kernel": np.ones((1, 3, 2)), "bias": np.zeros((1, 2))}
        >>> folded = fold_constant_inputs({"in": layer}, np.array([[[1.0, 5, 2], [0, 5, 2]]]))
        >>> folded.params["in"]["bias"].tolist(), folded.observations.tolist()
        ([[7.0, 7.0]], [[[1.0], [0.0]]])
    """
    num_inputs = observations.shape[-1]
    flat = observations.reshape(len(observations), -1, num_inputs)
    varying = _varying(flat)
    first = _first_layers(params, num_inputs)
    if len(first) != 1 or varying.all():
        return Folded(params, observations, num_inputs, num_inputs)
    layer = first[0]
    kernel, bias = (np.asarray(layer[name]) for name in ("kernel", "bias"))
    constant = flat[:, 0, ~varying].astype(np.float64)
    constant = np.broadcast_to(constant, (len(kernel), constant.shape[-1]))
    moved = bias + np.einsum("ci,cio->co", constant, kernel[:, ~varying].astype(np.float64))
    small = {**layer, "kernel": kernel[:, varying], "bias": moved.astype(bias.dtype)}
    folded = _replace(params, layer, small)
    return Folded(folded, observations[..., varying], num_inputs, int(varying.sum()))


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

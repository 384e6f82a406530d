"""A pytree of arrays in one file, so that a killed run goes on where it stopped."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.array_files import load_arrays, save_arrays

PyTree = Any


def save_state(
    path: str | os.PathLike, state: PyTree, metadata: Mapping[str, Any] | None = None
) -> None:
    """Writes the leaves of a pytree under their paths, atomically.

    Args:
        path: Destination.
        state: A pytree of arrays of numbers; no typed keys.
        metadata: Plain JSON values.
    """
    save_arrays(path, _leaves(jax.device_get(state)), metadata)


def load_state(
    path: str | os.PathLike, example: PyTree, *, expected: Mapping[str, Any] | None = None
) -> tuple[PyTree, dict[str, Any]]:
    """Reads what `save_state` wrote.

    Args:
        path: The file.
        example: A pytree of the same structure; arrays or their shapes and types.
        expected: Metadata the file must have.

    Returns:
        `(state, metadata)`.

    Raises:
        ValueError: Naming the file, if it is missing, damaged, or holds another structure.
    """
    arrays, metadata = load_arrays(path, expected=expected)
    wanted = _leaves(example)
    for name in sorted(set(wanted) | set(arrays)):
        found = _describe(arrays.get(name))
        if found != _describe(wanted.get(name)):
            raise ValueError(
                f"{path}: {name} is {found}, expected {_describe(wanted.get(name))}; the file is "
                "of a run of another kind or version, choose another folder"
            )
    tree = jax.tree.structure(example)
    return jax.tree.unflatten(tree, [jnp.asarray(arrays[name]) for name in wanted]), metadata


def _leaves(tree: PyTree) -> dict[str, Any]:
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in found}


def _describe(leaf: Any) -> str:
    return "missing" if leaf is None else f"{np.dtype(leaf.dtype)}{list(leaf.shape)}"

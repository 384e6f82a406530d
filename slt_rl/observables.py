r"""What to look at while chains run, and which parameters to let move.

The functions made here are handed to `estimate_llc(observe_fn=...)`. Made twice from the same
arguments they compare equal, so that nothing is compiled twice. `slt_rl.responses` turns what they
record into numbers.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.data import Dataset

PyTree = Any


@dataclasses.dataclass(frozen=True)
class _PerExampleLosses:
    loss_fn: Callable
    indices: tuple[int, ...] | None

    def __call__(self, params: PyTree, data: Dataset) -> jax.Array:
        if self.indices is not None:
            _check_below("indices", self.indices, len(data))
            data = data.take(jnp.array(self.indices))
        return self.loss_fn(params, data.examples)


def per_example_losses(loss_fn: Callable, indices: np.ndarray | None = None) -> Callable:
    """Makes an `observe_fn` that records the losses of single examples, without their weights.

    Args:
        loss_fn: `loss_fn(params, examples) -> [n]`, in nats.
        indices: `[subset]`, which examples to record; default all.

    Returns:
        `observe_fn(params, data) -> [n]` or `[subset]`.

    Raises:
        ValueError: if `indices` is empty or not a list of whole numbers >= 0; when it is called, if
            the data have no such example.

    Example:
        >>> import jax.numpy as jnp
        >>> data = Dataset(jnp.arange(4.0))
        >>> observe_fn = per_example_losses(lambda w, x: (x - w) ** 2, [1, 3])
        >>> observe_fn(1.0, data).tolist()
        [0.0, 4.0]
    """
    return _PerExampleLosses(loss_fn, None if indices is None else _as_indices("indices", indices))


@dataclasses.dataclass(frozen=True)
class _GroupLosses:
    loss_fn: Callable
    groups: tuple[tuple[str, tuple[int, ...]], ...]

    def __call__(self, params: PyTree, data: Dataset) -> dict[str, jax.Array]:
        for name, indices in self.groups:
            _check_below(f"groups[{name!r}]", indices, len(data))
        losses = self.loss_fn(params, data.examples)
        if data.weights is not None:
            losses = losses * data.weights
        return {name: jnp.mean(losses[jnp.array(indices)]) for name, indices in self.groups}


def group_losses(loss_fn: Callable, groups: dict[str, np.ndarray]) -> Callable:
    """Makes an `observe_fn` that records the mean loss of each of several groups of examples.

    Args:
        loss_fn: `loss_fn(params, examples) -> [n]`, in nats.
        groups: name -> `[members]` indices of its examples; groups may overlap.

    Returns:
        `observe_fn(params, data) -> {name: []}`, weighted means where the data have weights.

    Raises:
        ValueError: if there is no group, or one has no members; when it is called, if the data have
            no such example.

    Example:
        >>> import jax.numpy as jnp
        >>> data = Dataset(jnp.arange(4.0))
        >>> observe_fn = group_losses(lambda w, x: x - w, {"low": [0, 1], "high": [2, 3]})
        >>> {name: float(value) for name, value in observe_fn(0.0, data).items()}
        {'high': 2.5, 'low': 0.5}
    """
    if not groups:
        raise ValueError(f"groups: expected at least one group, got {groups!r}")
    members = {name: _as_indices(f"groups[{name!r}]", groups[name]) for name in sorted(groups)}
    return _GroupLosses(loss_fn, tuple(members.items()))


def _as_indices(name: str, values: Any) -> tuple[int, ...]:
    indices = np.asarray(values)
    whole = indices.ndim == 1 and np.issubdtype(indices.dtype, np.integer)
    if not whole or len(indices) == 0 or indices.min() < 0:
        raise ValueError(f"{name}: expected a non-empty list of whole numbers >= 0, got {values!r}")
    return tuple(indices.tolist())


def _check_below(name: str, indices: tuple[int, ...], num_examples: int) -> None:
    # JAX would take the last example instead.
    if max(indices) >= num_examples:
        raise ValueError(
            f"{name}: expected indices of the {num_examples} examples, got {max(indices)}"
        )


def restrict(
    loss_fn: Callable, params: PyTree, mask: PyTree | Callable[[str], bool]
) -> tuple[Callable, dict[str, jax.Array]]:
    r"""Keeps a component of the parameters free and freezes the rest: the weight-refined LLC.

        L_C(u) = L(u, v*),   params = (u*, v*)

    Args:
        loss_fn: an exact potential `loss_fn(params)` or `loss_fn(params, examples)`.
        params: pytree of arrays, the center; traced values are allowed.
        mask: which parameters stay free: a pytree like `params` whose leaves are a bool for the
            whole leaf or a boolean array of its shape; or a function of the leaf's path as
            `jax.tree_util.keystr` writes it, such as `"['layer']['bias']"`.

    Returns:
        The loss of the free parameters, with or without examples like `loss_fn`, and the free
        parameters: path -> array, flattened where only a part of the leaf is free.

    Raises:
        ValueError: if the mask does not match the tree or selects nothing.

    References:
        Refined learning coefficients: arXiv:2410.02984.

    Example:
        >>> import jax.numpy as jnp
        >>> loss_fn, params = restrict(
        ...     lambda w: jnp.sum(w["a"] ** 2) + jnp.sum(w["b"] ** 2),
        ...     {"a": jnp.ones(3), "b": jnp.ones(2)},
        ...     {"a": False, "b": True},
        ... )
        >>> {path: leaf.tolist() for path, leaf in params.items()}, float(loss_fn(params))
        ({"['b']": [1.0, 1.0]}, 5.0)
    """
    located, structure = jax.tree_util.tree_flatten_with_path(params)
    paths = [jax.tree_util.keystr(path) for path, _ in located]
    leaves = {path: jnp.asarray(leaf) for path, (_, leaf) in zip(paths, located, strict=True)}
    masks = _masks(mask, leaves, structure)

    def restricted(free: dict[str, jax.Array], *examples):
        full = [
            leaves[path] if path not in free else _put(leaves[path], masks[path], free[path])
            for path in paths
        ]
        return loss_fn(jax.tree.unflatten(structure, full), *examples)

    free = {path: _pick(leaves[path], masks[path]) for path in paths if masks[path].any()}
    return restricted, free


def _masks(mask, leaves: dict[str, jax.Array], structure) -> dict[str, np.ndarray]:
    """Path -> boolean array, of the leaf's shape or scalar, after checking it."""
    if callable(mask):
        values = [mask(path) for path in leaves]
    else:
        values = jax.tree.leaves(mask)
        if jax.tree.structure(mask) != structure:
            raise ValueError(
                f"mask: expected the tree of params {structure}, got {jax.tree.structure(mask)}"
            )
    masks = {path: np.asarray(value) for path, value in zip(leaves, values, strict=True)}
    for path, value in masks.items():
        if value.dtype != bool or value.shape not in ((), leaves[path].shape):
            raise ValueError(
                f"mask{path}: expected a bool or a boolean array of shape {leaves[path].shape}, "
                f"got {value!r}"
            )
    if not any(value.any() for value in masks.values()):
        raise ValueError(f"mask: selects none of the parameters {list(leaves)}, got {mask!r}")
    return masks


def _pick(leaf: jax.Array, mask: np.ndarray) -> jax.Array:
    return leaf if mask.ndim == 0 or mask.all() else leaf[np.nonzero(mask)]


def _put(leaf: jax.Array, mask: np.ndarray, values: jax.Array) -> jax.Array:
    whole = mask.ndim == 0 or mask.all()
    return values if whole else leaf.at[np.nonzero(mask)].set(values)

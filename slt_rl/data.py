"""The meeting point of reinforcement learning and singular learning theory: a weighted data set."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Examples with optional importance weights.

    The empirical loss of parameters `w` is `L(w) = (1/n) sum_i weights[i] * loss(w, examples[i])`.
    Weights have mean one, so that `n` keeps its meaning as the number of examples and
    `n * beta` is an inverse temperature per example of average weight.

    Args:
        examples: pytree of arrays that share their leading axis `n`.
        weights: `[n]`, non-negative with mean one; `None` means all ones.

    Raises:
        ValueError: if there are no examples, leading axes differ, or weights are no numbers, of the
            wrong shape, negative, not finite, all zero, or not of mean one.

    Example:
        >>> import jax.numpy as jnp
        >>> data = Dataset({"x": jnp.arange(3.0), "y": jnp.ones(3)})
        >>> len(data)
        3
    """

    examples: PyTree
    weights: Any = None

    def __post_init__(self):
        check_examples(self.examples)
        # The weights of a traced data set have no values to check yet.
        if self.weights is not None and not isinstance(self.weights, jax.core.Tracer):
            object.__setattr__(self, "weights", _checked_weights(self.weights, len(self)))

    def __len__(self) -> int:
        return jax.tree.leaves(self.examples)[0].shape[0]

    def take(self, indices: jax.Array | np.ndarray) -> "Dataset":
        """Returns the examples (and weights) at `indices`, without renormalizing weights."""
        examples = jax.tree.map(lambda x: x[indices], self.examples)
        weights = None if self.weights is None else self.weights[indices]
        return _unchecked(None, (examples, weights))

    def mean(self, values: jax.Array) -> jax.Array:
        """Returns `(1/n) sum_i weights[i] * values[i]` over the leading axis."""
        if self.weights is None:
            return jnp.mean(values, axis=0)
        return jnp.tensordot(self.weights, values, axes=1) / values.shape[0]


def _unchecked(_, children) -> Dataset:
    """Rebuilds a data set without checks: JAX maps pytrees to placeholders and other values."""
    dataset = object.__new__(Dataset)
    for name, value in zip(("examples", "weights"), children, strict=True):
        object.__setattr__(dataset, name, value)
    return dataset


jax.tree_util.register_pytree_node(Dataset, lambda d: ((d.examples, d.weights), None), _unchecked)


def as_dataset(data: PyTree) -> Dataset:
    """Wraps a pytree of examples; a `Dataset` is returned as it is."""
    if isinstance(data, Dataset):
        return data
    return Dataset(jax.tree.map(_as_array, data))


def _as_array(leaf: Any) -> jax.Array:
    try:
        return jnp.asarray(leaf)
    except TypeError as error:
        kind = getattr(leaf, "dtype", type(leaf).__name__)
        raise ValueError(f"data: expected arrays of numbers, got {kind}") from error


def check_examples(examples: PyTree) -> None:
    """Raises `ValueError` unless `examples` has one common, non-empty leading axis."""
    leaves = jax.tree.leaves(examples)
    if not leaves:
        raise ValueError(f"data: expected a pytree with at least one array, got {examples!r}")
    shapes = [np.shape(leaf) for leaf in leaves]
    if any(len(shape) == 0 for shape in shapes):
        raise ValueError(f"data: every leaf needs a leading example axis, got shapes {shapes}")
    lengths = sorted({shape[0] for shape in shapes})
    if len(lengths) > 1:
        raise ValueError(f"data: leading axes differ, expected one common n, got {lengths}")
    if lengths[0] == 0:
        raise ValueError("data: expected at least one example, got leading axis 0")


def _checked_weights(weights: Any, num_examples: int) -> Any:
    """The weights, those of a list as an array; raises unless they may be used."""
    values = np.asarray(weights)
    if values.shape != (num_examples,):
        raise ValueError(f"weights: expected shape ({num_examples},), got {values.shape}")
    if not (jnp.issubdtype(values.dtype, jnp.number) or values.dtype == bool):
        raise ValueError(f"weights: expected numbers, got {values.dtype}")
    if not np.all(np.isfinite(values)) or np.any(values < 0):
        raise ValueError(f"weights: expected finite numbers >= 0, got minimum {values.min()}")
    if not values.any():
        raise ValueError("weights: expected at least one number > 0, got all zero")
    mean = float(values.mean(dtype=np.float64))
    if abs(mean - 1.0) > 1e-3:
        raise ValueError(
            f"weights: expected mean one, got {mean:.6g}; pass weights / weights.mean()"
        )
    return weights if hasattr(weights, "dtype") else values

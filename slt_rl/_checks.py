"""Argument checks shared by the public calls: all run before anything is traced."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl._numbers import check_count, check_positive
from slt_rl.data import Dataset

PyTree = Any


def check_key(key: Any) -> jax.Array:
    """Returns one typed random key, also for `jax.random.PRNGKey`; raises if it is none."""
    dtype = getattr(key, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and key.ndim == 0:
        return key
    if dtype == np.uint32 and key.ndim == 1:
        return jax.random.wrap_key_data(jnp.asarray(key))
    raise ValueError(f"key: expected one random key, jax.random.key(seed), got {key!r}")


def check_callable(name: str, value: Any) -> Callable:
    """Returns `value`; raises unless it can be called."""
    if not callable(value):
        raise ValueError(f"{name}: expected a function, got {value!r}")
    return value


def check_steps(steps: Any, count: int) -> np.ndarray:
    """Returns the training steps of `count` checkpoints, their numbers if there are none."""
    steps = np.arange(count) if steps is None else np.asarray(steps)
    if steps.shape != (count,):
        raise ValueError(f"steps: expected shape ({count},), got {steps.shape}")
    return steps


def check_params(name: str, params: PyTree) -> PyTree:
    """Returns `params` with floating arrays of one type as leaves; raises if one is not finite.

    Leaves of several types are cast to the widest, which is exact.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise ValueError(f"{name}: expected a pytree with at least one array, got {params!r}")
    for path, leaf in leaves:
        place = name + jax.tree_util.keystr(path)
        kind = _type_of(leaf)
        if not jnp.issubdtype(kind, jnp.floating):
            raise ValueError(f"{place}: expected floating-point numbers, got {kind}")
        if np.size(leaf) == 0:
            raise ValueError(f"{place}: expected at least one number, got shape {np.shape(leaf)}")
        if not np.all(np.isfinite(np.asarray(leaf))):
            raise ValueError(f"{place}: expected finite numbers, got NaN or infinity")
    common = jnp.result_type(*(leaf for _, leaf in leaves))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, common), params)


def _type_of(leaf: Any) -> Any:
    """The type of its numbers, `object` where it has none."""
    try:
        return np.dtype(object) if isinstance(leaf, str) else jnp.result_type(leaf)
    except (TypeError, ValueError):
        return np.dtype(object)


def check_batch_size(batch_size: Any, data: Dataset | None, sampler: Any) -> int | None:
    """Raises unless the batch fits the data and the sampler can use minibatches."""
    if batch_size is None:
        return None
    batch_size = check_count("batch_size", batch_size)
    if data is None:
        raise ValueError(f"batch_size: an exact potential has no data to batch, got {batch_size}")
    if batch_size > len(data):
        raise ValueError(
            f"batch_size: expected at most the number of examples {len(data)}, got {batch_size}"
        )
    if sampler is not None and not hasattr(sampler, "control_variate"):
        raise ValueError(
            f"batch_size: {type(sampler).__name__} needs full-data gradients; pass "
            f"batch_size=None or sampler=SGLD(...), got {batch_size}"
        )
    return batch_size


def _check_accepts(name: str, fn: Callable, *arguments: str) -> None:
    """Raises unless `fn` can be called with so many arguments; those without signature may."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        with_data = "with data" if len(arguments) > 1 else "without data"
        raise ValueError(
            f"{name}: {with_data} {name}({', '.join(arguments)}) is called, got a function of "
            f"{signature}: {error}"
        ) from error


def check_loss(loss_fn: Callable, params: PyTree, data: Dataset | None) -> None:
    """Raises unless `loss_fn` returns `[n]` losses with data, a scalar without."""
    check_callable("loss_fn", loss_fn)
    _check_accepts("loss_fn", loss_fn, *(("params",) if data is None else ("params", "examples")))
    found = jax.eval_shape(loss_fn, params, *(() if data is None else (data.examples,)))
    shape = _shape(found)
    if data is None and shape != ():
        raise ValueError(
            "loss_fn: without data an exact potential is expected, loss_fn(params) -> scalar; "
            f"it returned shape {shape}. Pass data, or reduce to a scalar"
        )
    if data is not None and shape != (len(data),):
        raise ValueError(
            "loss_fn: with data, per-example losses are expected, loss_fn(params, examples) -> "
            f"[{len(data)}]; it returned shape {shape}. Do not average over examples"
        )
    if not jnp.issubdtype(found.dtype, jnp.floating):
        raise ValueError(
            f"loss_fn: expected floating-point losses, got {found.dtype}: a count of errors has no "
            "gradient; pass the loss that was minimized"
        )


def check_observe(observe_fn: Callable, params: PyTree, data: Dataset | None) -> None:
    """Raises unless `observe_fn` returns a pytree with at least one array."""
    check_callable("observe_fn", observe_fn)
    _check_accepts(
        "observe_fn", observe_fn, *(("params",) if data is None else ("params", "dataset"))
    )
    output = jax.eval_shape(observe_fn, params, *(() if data is None else (data,)))
    if not jax.tree.leaves(output):
        raise ValueError(f"observe_fn: expected a pytree with at least one array, got {output!r}")


def _shape(output: Any) -> Any:
    return output.shape if hasattr(output, "shape") else f"of a {type(output).__name__}"


def check_allowed(loss_fn: Callable, allow_negative_control: bool) -> None:
    """Refuses a loss that is marked as no potential, unless explicitly allowed."""
    reason = getattr(loss_fn, "negative_control", None)
    if reason is not None and not allow_negative_control:
        raise ValueError(
            f"loss_fn: {type(loss_fn).__name__} is no potential for a learning coefficient: "
            f"{reason}. Pass allow_negative_control=True to sample it all the same"
        )


def resolve_nbeta(nbeta: Any, data: Dataset | None) -> float:
    """Returns `nbeta`, by default `n / log n`."""
    if nbeta is not None:
        return check_positive("nbeta", nbeta)
    if data is None:
        raise ValueError("nbeta: an exact potential has no n; expected a number > 0, got None")
    if len(data) < 3:
        raise ValueError(f"nbeta: the default n/log n needs n >= 3, got n={len(data)}; pass nbeta")
    return len(data) / math.log(len(data))

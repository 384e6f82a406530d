"""Checks of numbers that are given as arguments, for every layer: they know of nothing else."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np


def check_positive(name: str, value: Any) -> float:
    """Returns `value` as a float; raises unless it is finite and > 0."""
    number = _as_float(value)
    if not math.isfinite(number) or number <= 0:
        raise ValueError(f"{name}: expected a finite number > 0, got {value!r}")
    return number


def check_nonnegative(name: str, value: Any) -> float:
    """Returns `value` as a float; raises unless it is finite and >= 0."""
    number = _as_float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{name}: expected a finite number >= 0, got {value!r}")
    return number


def check_fraction(name: str, value: Any) -> float:
    """Returns `value` as a float; raises unless it lies in (0, 1)."""
    number = _as_float(value)
    if not 0 < number < 1:
        raise ValueError(f"{name}: expected a number in (0, 1), got {value!r}")
    return number


def _as_float(value: Any) -> float:
    """`value` as a float; NaN where it is not one real number."""
    array = np.asarray(value)
    real = jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
    return float(array) if array.ndim == 0 and real else math.nan


def check_count(name: str, value: Any, minimum: int = 1) -> int:
    """Returns `value` as an int; raises unless it is a whole number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise ValueError(f"{name}: expected a whole number >= {minimum}, got {value!r}")
    return int(value)


def check_optional_count(name: str, value: Any, minimum: int = 1) -> int | None:
    """`check_count`, where `None` is allowed."""
    return None if value is None else check_count(name, value, minimum)

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


def check_finite(name: str, value: Any) -> float:
    """Returns `value` as a float; raises unless it is a finite number."""
    number = _as_float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")
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


def check_numbers(name: str, value: Any) -> np.ndarray:
    """Returns `value` as a float64 array of any shape; raises unless it holds real numbers.

    NaN and infinities pass: what they mean is for the caller to say.
    """
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "OSUMmc":
            return array.astype(np.float64)
        found = f"an array of type {array.dtype}"
    # Lists of different lengths, random keys.
    except (ValueError, TypeError) as error:
        found = str(error)
    raise ValueError(f"{name}: expected an array of real numbers, got {found}")


def check_flags(name: str, value: Any) -> np.ndarray:
    """Returns `value` as a bool array; raises unless it holds nothing but True and False (1, 0)."""
    array = check_numbers(name, value)
    if not np.all((array == 0) | (array == 1)):
        raise ValueError(f"{name}: expected True and False, got other numbers or NaN")
    return array.astype(bool)


def check_count(name: str, value: Any, minimum: int = 1) -> int:
    """Returns `value` as an int; raises unless it is a whole number of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise ValueError(f"{name}: expected a whole number >= {minimum}, got {value!r}")
    return int(value)


def check_optional_count(name: str, value: Any, minimum: int = 1) -> int | None:
    """`check_count`, where `None` is allowed."""
    return None if value is None else check_count(name, value, minimum)

"""Checks: what was expected, what was found, and whether it held."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Check:
    """One statement of a validation run that either held or did not.

    Attributes:
        name: Short name, unique in a report.
        description: What is checked, in a sentence a reader can judge.
        target: What was expected, in words or numbers, for example "< 1e-9".
        value: What was found: a number, text, or None where it could not be measured.
        held: Whether the value meets the target.
        detail: How it was measured, or why it failed.
        group: Heading under which the check is listed.

    Raises:
        ValueError: If a text that must be given is empty, or `held` is not a boolean.

    Example:
        >>> print(Check("quadrature", "Closed form against quadrature.", "< 1e-9", 8e-11, True))
        held  quadrature: 8e-11 (target < 1e-9)
    """

    name: str
    description: str
    target: str
    value: Any
    held: bool
    detail: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        for field in ("name", "description", "target"):
            if not str(getattr(self, field)).strip():
                raise ValueError(f"{field}: got {getattr(self, field)!r}, expected some text")
        if not isinstance(self.held, bool | np.bool_):
            raise ValueError(f"held: got {self.held!r}, expected True or False")
        object.__setattr__(self, "held", bool(self.held))
        object.__setattr__(self, "value", plain(self.value))

    def __str__(self) -> str:
        verdict = "held " if self.held else "FAILED"
        return f"{verdict} {self.name}: {format_value(self.value)} (target {self.target})"


def all_held(checks: Iterable[Check]) -> bool:
    """Whether every check held; False where there is none, since nothing was then shown."""
    checks = tuple(checks)
    return bool(checks) and all(check.held for check in checks)


def require_unique_names(checks: Iterable[Check]) -> None:
    """Raises ValueError if two checks have the same name."""
    names = [check.name for check in checks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"checks: the names {twice} occur more than once, expected unique names")


def format_value(value: Any) -> str:
    """A value as a person wants to read it: four significant digits, words for truth.

    Example:
        >>> format_value(0.123456), format_value(8e-11), format_value(True), format_value(None)
        ('0.1235', '8e-11', 'yes', 'not measured')
    """
    value = plain(value)
    if value is None:
        return "not measured"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(format_value(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}: {format_value(item)}" for name, item in value.items())
    return str(value)


def plain(value: Any) -> Any:
    """JSON values only: numbers of Python, lists, dicts; everything else as text."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic) or (hasattr(value, "shape") and hasattr(value, "tolist")):
        return plain(np.asarray(value).tolist())
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def strict(value: Any) -> Any:
    """`plain`, with numbers that JSON does not know written as text: "nan", "inf", "-inf"."""
    value = plain(value)
    if isinstance(value, dict):
        return {name: strict(item) for name, item in value.items()}
    if isinstance(value, list):
        return [strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value

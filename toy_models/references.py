"""Values at finite temperature that were sampled once, where no exact one is known.

`benchmarks/make_references.py` writes `references.json`, `toy_models.problems` attaches what is in
it, and `docs/accuracy.md` says how the values are made.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

PyTree = Any
# Beside this module, so that an installed package has it.
PATH = Path(__file__).resolve().parent / "references.json"
# Distances of the probed points from the center, per parameter.
_DISTANCES = (0.05, 0.1, 0.2)


@dataclasses.dataclass(frozen=True)
class Reference:
    """A sampled ``nbeta (E[L] - L(w*))`` under ``exp(-nbeta L - localization/2 |w - w*|^2)``.

    The law is that of the exact potential. Chains start at the center: of several separated
    minima only the one at the center counts.

    Attributes:
        mean: The value, without unit.
        sem: Its standard error.
        nbeta: Inverse temperature.
        localization: In 1/parameter^2.
        probes: `probe` of the problem that was sampled.
    """

    mean: float
    sem: float
    nbeta: float
    localization: float
    probes: tuple[float, ...]


def probe(potential: Callable[[PyTree], Any], params: PyTree) -> np.ndarray:
    """Numbers that tell one potential and center from another.

    Values and not a digest: the last digits differ between machines and precisions.

    Args:
        potential: ``params -> []``.
        params: The center.

    Returns:
        The number of parameters, the squared norm of the center, and the excess potential at
        points ``w* + s u`` with ``u_i = sqrt(2) sin((i + 1) sqrt(2) k)``, one for each ``s``.
    """
    flat, unravel = ravel_pytree(params)
    at_center = potential(params)
    found = [np.asarray(flat.size), np.asarray(jnp.vdot(flat, flat))]
    for k, distance in enumerate(_DISTANCES, start=1):
        direction = 2**0.5 * np.sin(np.arange(1, flat.size + 1) * 2**0.5 * k)
        point = unravel(flat + jnp.asarray(distance * direction, flat.dtype))
        found.append(np.asarray(potential(point) - at_center))
    return np.array(found, dtype=float)


def is_stale(reference: Reference, potential: Callable[[PyTree], Any], params: PyTree) -> bool:
    """Whether the problem is no longer the one that was sampled.

    Args:
        reference: The stored value.
        potential: ``params -> []``.
        params: The center.
    """
    eps = float(jnp.finfo(ravel_pytree(params)[0].dtype).eps)
    found, stored = probe(potential, params), np.array(reference.probes)
    if found.shape != stored.shape:
        return True
    # The root of the machine precision is above rounding and below any change that is meant. Where
    # a potential is a difference of numbers near one, its smallest values have the error `eps`.
    return not np.allclose(found, stored, rtol=eps**0.5, atol=eps)


def stored_references(path: Path = PATH) -> dict[str, tuple[Reference, ...]]:
    """All stored values by the name of the problem; none if there is no file.

    Args:
        path: What `benchmarks.make_references` wrote.
    """
    if not path.exists():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return {name: tuple(map(_reference, rows)) for name, rows in content.items()}


def _reference(row: dict[str, Any]) -> Reference:
    return Reference(
        mean=float(row["mean"]),
        sem=float(row["sem"]),
        nbeta=float(row["nbeta"]),
        localization=float(row["localization"]),
        probes=tuple(row["probes"]),
    )

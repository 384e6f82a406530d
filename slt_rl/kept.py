"""Estimates of a curve on disk: what is finished is kept, and never taken for another model's."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from slt_rl.array_files import fingerprint, load_arrays, require, save_arrays
from slt_rl.chains import Draws, Problem
from slt_rl.result import LLCEstimate
from slt_rl.settings import Settings

_DRAWS = "draws/"


@dataclasses.dataclass(frozen=True)
class KeptEstimates:
    """A folder with one file for each finished chunk of a curve.

    Attributes:
        folder: Where the files are.
        identity: JSON values and arrays that all chunks depend on, from `identity_of`.
    """

    folder: Path
    identity: Mapping[str, Any]

    def path(self, start: int) -> Path:
        """The file of the chunk that begins with a checkpoint."""
        return self.folder / f"checkpoint-{start:06d}.safetensors"

    def get(
        self, start: int, problem: Problem, compute: Callable[[], list[LLCEstimate]]
    ) -> list[LLCEstimate]:
        """The stored estimates of a chunk, or what `compute` returns, then stored.

        Args:
            start: Index of the chunk's first checkpoint.
            problem: The chunk; its centers are part of the fingerprint.
            compute: Measures it.

        Raises:
            ValueError: Naming the file, if it is damaged or of another loss, data, parameters,
                settings or versions.
            OSError: Naming the file, if it cannot be written.
        """
        path = self.path(start)
        centers = [np.asarray(leaf) for leaf in jax.tree.leaves(problem.centers)]
        mark = {"fingerprint": fingerprint({**self.identity, "start": start, "centers": centers})}
        if path.exists():
            return decode_estimates(path, *load_arrays(path, expected=mark))
        estimates = compute()
        save_arrays(path, *encode_estimates(estimates, mark))
        return estimates


def identity_of(
    key: jax.Array, problem: Problem, settings: Settings, *, target_fn: Callable
) -> dict[str, Any]:
    """All that the estimates around the centers of a problem depend on, but for the centers.

    The loss is known by its program: the text that JAX lowers it to, with its constants.

    Args:
        key: Random key.
        problem: Centers, data, temperature and localization.
        settings: How to sample.
        target_fn: `(center, shared) -> arrays`: the losses and the data of a center.

    Raises:
        ValueError: If something has no fingerprint: a preconditioner, or an observer.
    """
    sampler = settings.sampler
    if getattr(sampler, "preconditioner", None) is not None or settings.observer is not None:
        raise ValueError(
            "folder: expected None, since neither a sampler's preconditioner nor observe_fn can be "
            "told from another one in a file"
        )
    fields = settings._replace(sampler=None)._asdict()
    del fields["bar"]  # It shows, and changes nothing.
    first = jax.tree.map(lambda x: x[0], problem.centers)
    shared = [np.asarray(leaf) for leaf in jax.tree.leaves(problem.shared)]
    return {
        "key": np.asarray(jax.random.key_data(key)),
        "loss": jax.jit(target_fn).lower(first, problem.shared).as_text(),
        "data": shared,
        "numbers": [np.asarray(problem.nbeta), np.asarray(problem.localization)],
        # Its class and what is fixed in a program, then its numbers.
        "sampler": [str(jax.tree.structure(sampler)), *map(np.asarray, jax.tree.leaves(sampler))],
        "settings": [repr(x) for x in fields.values()],
        "versions": {name: metadata.version(name) for name in ("slt_rl", "jax", "jaxlib")},
        "backend": jax.default_backend(),
    }


def encode_estimates(
    estimates: Sequence[LLCEstimate], mark: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays `[center, ...]`, and the rest as JSON values."""
    arrays = {
        _DRAWS + name: np.stack([np.asarray(getattr(e.draws, name)) for e in estimates])
        for name in Draws._fields
    }
    arrays["per_chain"] = np.stack([np.asarray(e.per_chain) for e in estimates])
    rows = [e.to_dict() for e in estimates]
    for row in rows:
        del row["per_chain"], row["interval"]
    # Numbers of NumPy become those of Python, which JSON writes to the last digit.
    text = json.dumps(rows, default=lambda number: number.item())
    return arrays, {**mark, "estimates": text}


def decode_estimates(
    path: Path, arrays: Mapping[str, np.ndarray], found: Mapping[str, Any]
) -> list[LLCEstimate]:
    """The inverse of `encode_estimates`.

    Raises:
        ValueError: Naming the file, if an entry is missing.
    """
    require(path, found, ("estimates",))
    require(path, arrays, ("per_chain", *(_DRAWS + name for name in Draws._fields)))
    estimates = []
    for i, row in enumerate(json.loads(found["estimates"])):
        row |= {name: tuple(row[name]) for name in ("flags", "notes")}
        draws = Draws(*(arrays[_DRAWS + name][i] for name in Draws._fields))
        estimates.append(LLCEstimate(**row, per_chain=arrays["per_chain"][i], draws=draws))
    return estimates

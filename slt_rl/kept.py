"""Estimates of a curve on disk: what is finished is kept, and never taken for another model's."""

import dataclasses
import json
import numbers
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from slt_rl.array_files import fingerprint, load_arrays, require, save_arrays
from slt_rl.chains import Draws, Problem
from slt_rl.jaxprs import equations_of
from slt_rl.result import LLCEstimate
from slt_rl.settings import Settings

_DRAWS = "draws/"
# Entries of an estimate that are JSON values, by their kind.
_NUMBERS = ("mean", "sem", "nbeta", "localization", "step_size", "num_gradient_evaluations")
_WORDS, _LISTS, _TABLES = ("verdict", "regime"), ("flags", "notes"), ("error_budget", "diagnostics")
# A program names the functions of Python that it calls back by a number only.
_CALLBACKS = frozenset(("pure_callback", "io_callback"))


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
            found = decode_estimates(path, *load_arrays(path, expected=mark))
            if len(found) != problem.num_centers:
                raise ValueError(
                    f"{path}: holds {len(found)} estimates, expected {problem.num_centers}"
                )
            return found
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
        ValueError: If something has no fingerprint: a preconditioner, an observer, or a loss that
            calls back into Python.
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
        "key": [str(jax.random.key_impl(key)), np.asarray(jax.random.key_data(key))],
        "loss": program_text(target_fn, first, problem.shared),
        "data": shared,
        "numbers": [np.asarray(problem.nbeta), np.asarray(problem.localization)],
        # Its class and what is fixed in a program, then its numbers.
        "sampler": [str(jax.tree.structure(sampler)), *map(np.asarray, jax.tree.leaves(sampler))],
        "settings": [repr(x) for x in fields.values()],
        "versions": versions(),
        "backend": jax.default_backend(),
    }


def program_text(target_fn: Callable, center: Any, shared: Any) -> str:
    """The program of a loss, with all its constants: another text is another loss.

    Args:
        target_fn: `(center, shared) -> arrays`: the losses and the data of a center.
        center: Parameters.
        shared: Data.

    Raises:
        ValueError: If it calls back into Python.
    """
    program = jax.jit(target_fn).trace(center, shared)
    if any(e.primitive.name in _CALLBACKS for e in equations_of(program.jaxpr.jaxpr)):
        raise ValueError(
            "folder: expected None, since a loss that calls back into Python cannot be told from "
            "another one in a file"
        )
    return program.lower().as_text()


def versions() -> dict[str, str]:
    """Of the libraries that make the numbers: what others have made is not gone on with."""
    return {name: metadata.version(name) for name in ("slt_rl", "jax", "jaxlib")}


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
    return arrays, {**mark, "estimates": json.loads(text)}


def decode_estimates(
    path: Path, arrays: Mapping[str, np.ndarray], found: Mapping[str, Any]
) -> list[LLCEstimate]:
    """The inverse of `encode_estimates`.

    Raises:
        ValueError: Naming the file, if an entry is missing, or not what `encode_estimates` writes.
    """
    require(path, found, ("estimates",))
    require(path, arrays, ("per_chain", *(_DRAWS + name for name in Draws._fields)))
    draws = Draws(*(arrays[_DRAWS + name] for name in Draws._fields))
    rows, shape = found["estimates"], np.shape(draws.excess_loss)
    fits = len(shape) == 3 and all(np.shape(leaf)[:3] == shape for leaf in draws)
    if not fits or np.shape(arrays["per_chain"]) != shape[:2]:
        raise ValueError(f"{path}: expected draws of one shape [estimate, chain, draw]")
    if not isinstance(rows, list) or len(rows) != shape[0] or not all(map(_is_row, rows)):
        raise ValueError(f"{path}: expected {shape[0]} estimates with all their entries")
    return [
        LLCEstimate(
            **row | {name: tuple(row[name]) for name in _LISTS},
            per_chain=arrays["per_chain"][i],
            draws=Draws(*(leaf[i] for leaf in draws)),
        )
        for i, row in enumerate(rows)
    ]


def _is_row(row: Any) -> bool:
    """Whether a JSON value is an estimate without its arrays."""
    names = {*_NUMBERS, *_WORDS, *_LISTS, *_TABLES}
    return (
        isinstance(row, dict)
        and row.keys() == names
        and all(map(_is_number, (row[name] for name in _NUMBERS)))
        and all(isinstance(row[name], str) for name in _WORDS)
        and all(_is_list(row[name]) for name in _LISTS)
        and all(_is_table(row[name]) for name in _TABLES)
    )


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real)

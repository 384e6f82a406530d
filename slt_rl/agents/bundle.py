"""A run in one small file: a few checkpoints of the actor, and all that happened in training.

For machines from which little can be carried away. What is unpacked is a run folder again, from
which curves are made. It has no full training state; of whole parameters `restart_run` makes one.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl._numbers import check_count
from slt_rl.agents import folder as files
from slt_rl.agents.folder import RunRecord, record_from_json, record_to_json
from slt_rl.agents.run import Run, load_run
from slt_rl.array_files import load_arrays, parse_object, require, save_arrays
from slt_rl.checkpoints import flatten, save_checkpoint, unflatten

PyTree = Any
# Parts that only the value needs.
CRITIC = ("value", "critic")
# Names, shapes and steps in the header of the file.
HEADER_BYTES = 20_000


def pack_run(
    folder: str | os.PathLike,
    path: str | os.PathLike,
    *,
    max_bytes: int,
    dtype: Any = np.float32,
    whole: bool = False,
) -> tuple[int, ...]:
    """Writes statistics, and as many checkpoints of the actor as fit, of a run into one file.

    Args:
        folder: The run.
        path: The file.
        max_bytes: Size of the file at most.
        dtype: Type in which parameters are kept; float16 keeps three digits.
        whole: The critic too, so that training can go on from the last.

    Returns:
        The steps of the checkpoints, spaced as those of the run, the first and the last among them;
        the last alone where only one fits.

    Raises:
        ValueError: If not even one fits, or `dtype` would round parameters to whole numbers.
    """
    check_count("max_bytes", max_bytes)
    if not jnp.issubdtype(np.dtype(dtype), jnp.floating):
        raise ValueError(f"dtype: got {np.dtype(dtype)}, expected a type of floating-point numbers")
    run = load_run(folder)
    dropped = () if whole else CRITIC
    arrays = {
        f"statistics/{seed}/{name}": leaf
        for seed in run.seeds
        for name, leaf in files.read_statistics(run.folder, run.record, seed).items()
    }
    text = json.dumps(record_to_json(run.record))
    room = max_bytes - sum(leaf.nbytes for leaf in arrays.values()) - 2 * len(text) - HEADER_BYTES
    size = _size(run, dropped, dtype)
    count = min(int(room // size), run.steps.size)
    if count < 1:
        need = max_bytes - room + size
        raise ValueError(f"max_bytes: got {max_bytes}, expected at least {need} for {folder}")
    # From the last backwards, so that one alone is the last.
    kept = run.steps[np.unique(np.linspace(run.steps.size - 1, 0, count).round().astype(int))]
    thin = dataclasses.replace(run, steps=kept)
    for seed in run.seeds:
        for name, leaf in flatten(_kept(thin.checkpoints(seed).params, dropped)).items():
            arrays[f"checkpoints/{seed}/{name}"] = leaf.astype(dtype)
    save_arrays(path, arrays, {"record": text, "steps": kept.tolist()})
    return tuple(kept.tolist())


def unpack_run(path: str | os.PathLike, folder: str | os.PathLike) -> Run:
    """Writes the run folder that a file of `pack_run` holds, its checkpoints at least in float32.

    Raises:
        ValueError: Naming the file, if it is damaged or holds no run, or if the folder exists.
    """
    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"folder: {folder} exists, choose another")
    arrays, metadata = load_arrays(path)
    if "record" not in metadata:
        raise ValueError(f"{path}: holds no run")
    record, steps = _description(Path(path), metadata)
    for seed in record.spec.seeds:
        params = _part(arrays, f"checkpoints/{seed}/")
        if not params or any(np.shape(leaf)[:1] != (len(steps),) for leaf in params.values()):
            raise ValueError(f"{path}: expected {len(steps)} checkpoints of seed {seed}")
        for index, step in enumerate(steps):
            one = {name: _widened(leaf[index]) for name, leaf in params.items()}
            one, mark = _nested(Path(path), one), record.mark(seed, step)
            save_checkpoint(files.series_path(folder, seed), step, one, metadata=mark)
        statistics = _part(arrays, f"statistics/{seed}/")
        files.write_statistics(folder, record, seed, statistics=statistics)
    files.write_record(folder, record)
    return load_run(folder)


def _description(path: Path, metadata: Mapping[str, Any]) -> tuple[RunRecord, list[int]]:
    """The run and the steps of its checkpoints, checked before anything is written."""
    require(path, metadata, ("steps",))
    steps = metadata["steps"]
    if not isinstance(steps, list) or not all(type(step) is int and step >= 0 for step in steps):
        raise ValueError(f"{path}: steps are {steps!r}, expected integers >= 0")
    try:
        return record_from_json(parse_object(path, metadata["record"])), steps
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path}: not a description of a run ({error!r})") from error


def _nested(path: Path, leaves: Mapping[str, np.ndarray]) -> PyTree:
    try:
        return unflatten(leaves)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _widened(leaf: np.ndarray) -> np.ndarray:
    return leaf.astype(np.promote_types(leaf.dtype, np.float32))


def _kept(params: Mapping[str, PyTree], dropped: tuple[str, ...]) -> dict[str, PyTree]:
    return {name: part for name, part in params.items() if name not in dropped}


def _size(run: Run, dropped: tuple[str, ...], dtype: Any) -> int:
    """Bytes of what is kept of one checkpoint of all seeds."""
    first = dataclasses.replace(run, steps=run.steps[:1])
    leaves = jax.tree.leaves(_kept(first.checkpoints(run.seeds[0]).params, dropped))
    return sum(leaf.size for leaf in leaves) * np.dtype(dtype).itemsize * len(run.seeds)


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): leaf for k, leaf in arrays.items() if k.startswith(prefix)}

"""Parameters along training: a series sorted by recorded step, and files that hold arrays safely.

A folder holds one file of arrays per record and `index.json`, which lists the training step, name
and SHA-256 of each. Nothing is inferred from the order of files in the folder.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from slt_rl.array_files import (
    fingerprint,
    load_arrays,
    parse_arrays,
    read_file,
    save_arrays,
)
from slt_rl.documents import read_document, write_document

__all__ = [
    "CheckpointSeries",
    "fingerprint",
    "forget_after",
    "load_arrays",
    "load_series",
    "recorded_metadata",
    "recorded_steps",
    "save_arrays",
    "save_checkpoint",
    "save_series",
    "stack_checkpoints",
]

PyTree = Any

_SERIES_FORMAT = "slt_rl.checkpoints/2"
_INDEX = "index.json"
_SEPARATOR = "/"
# Deeper than any network; a tree without end would exhaust the stack.
_MAX_DEPTH = 64


@dataclasses.dataclass(frozen=True)
class CheckpointSeries:
    """Parameters recorded along training, in the order of their training steps.

    Attributes:
        steps: Training step of each record, int64 `[record]`, strictly increasing.
        params: Nested dict of arrays `[record, ...]`.
        metadata: What else is known about the series; plain JSON values.

    Raises:
        ValueError: If the steps do not strictly increase, or a leaf has another leading axis.

    Example:
        >>> series = stack_checkpoints([(10, {"w": np.ones(2)}), (0, {"w": np.zeros(2)})])
        >>> series.steps.tolist(), series[0]["w"].tolist()
        ([0, 10], [0.0, 0.0])
    """

    steps: np.ndarray
    params: PyTree
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        steps = np.asarray(self.steps)
        if steps.ndim != 1 or steps.size == 0 or not np.issubdtype(steps.dtype, np.integer):
            raise ValueError(f"steps: got {steps!r}, expected a non-empty vector of integers")
        if np.any(np.diff(steps) <= 0):
            raise ValueError(f"steps: got {steps.tolist()}, expected strictly increasing steps")
        for name, leaf in flatten(self.params).items():
            if np.shape(leaf)[:1] != steps.shape:
                raise ValueError(
                    f"params[{name!r}]: got shape {np.shape(leaf)}, expected the leading axis "
                    f"{steps.size}, one entry per step"
                )
        object.__setattr__(self, "steps", steps.astype(np.int64))

    def __len__(self) -> int:
        return self.steps.size

    def __getitem__(self, index: int) -> PyTree:
        """The parameters of one record, counted in the order of training."""
        return unflatten({k: leaf[index] for k, leaf in flatten(self.params).items()})

    def __iter__(self) -> Iterator[tuple[int, PyTree]]:
        return ((int(step), self[index]) for index, step in enumerate(self.steps))

    def at_step(self, step: int) -> PyTree:
        """The parameters recorded at a training step.

        Raises:
            ValueError: If no record was made at that step.
        """
        found = np.flatnonzero(self.steps == step)
        if found.size == 0:
            raise ValueError(f"step: got {step}, expected one of {self.steps.tolist()}")
        return self[int(found[0])]


def stack_checkpoints(
    records: Iterable[tuple[int, PyTree]], metadata: Mapping[str, Any] | None = None
) -> CheckpointSeries:
    """Builds a series from `(step, params)` pairs given in any order.

    Args:
        records: Training steps with parameters, nested dicts of arrays of one structure.
        metadata: Plain JSON values kept with the series.

    Returns:
        The series, sorted by training step.

    Raises:
        ValueError: If there is no record, a step occurs twice, or structures differ.
    """
    ordered = sorted(((int(step), flatten(params)) for step, params in records), key=lambda r: r[0])
    if not ordered:
        raise ValueError("records: got none, expected at least one (step, params) pair")
    reference = _structure(ordered[0][1])
    for step, leaves in ordered:
        if _structure(leaves) != reference:
            raise ValueError(
                f"records: step {step} has leaves {_structure(leaves)}, expected {reference}"
            )
    stacked = {name: np.stack([np.asarray(x[name]) for _, x in ordered]) for name in ordered[0][1]}
    steps = np.array([step for step, _ in ordered], np.int64)
    return CheckpointSeries(steps, unflatten(stacked), dict(metadata or {}))


def save_checkpoint(
    folder: str | os.PathLike,
    step: int,
    params: PyTree,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Adds one record to a folder, replacing a record of the same step.

    Args:
        folder: Folder of the series; created if absent.
        step: Training step.
        params: Nested dict of arrays.
        metadata: What else is known about the record, plain JSON values; see `recorded_metadata`.

    Raises:
        ValueError: If `step` is negative, or `params` is not a nested dict of arrays.
    """
    if int(step) != step or step < 0:
        raise ValueError(f"step: got {step}, expected an integer >= 0")
    folder = Path(folder)
    index = _read_index(folder) if (folder / _INDEX).exists() else _new_index({})
    record = _save_record(folder, int(step), flatten(params)) | {"metadata": dict(metadata or {})}
    records = [r for r in index["checkpoints"] if r["step"] != int(step)] + [record]
    _write_index(folder, {**index, "checkpoints": records})


def save_series(folder: str | os.PathLike, series: CheckpointSeries) -> None:
    """Writes a series as one file per record and an index; the index last.

    Args:
        folder: Folder of the series; created if absent. An index in it is replaced.
        series: The series.
    """
    folder = Path(folder)
    records = [_save_record(folder, step, flatten(params)) for step, params in series]
    _write_index(folder, {**_new_index(dict(series.metadata)), "checkpoints": records})


def load_series(
    folder: str | os.PathLike, *, steps: Iterable[int] | None = None
) -> CheckpointSeries:
    """Reads a series in the order of its recorded training steps.

    Files that the index does not list (left by a process that was killed) are ignored.

    Args:
        folder: Folder written by `save_series` or `save_checkpoint`.
        steps: Which records to read; all if None.

    Raises:
        ValueError: Naming the file, if one is missing, truncated, altered, or of another series;
            naming the step, if one was not recorded.
    """
    folder = Path(folder)
    index = _read_index(folder)
    known = {record["step"]: record for record in index["checkpoints"]}
    wanted = list(known) if steps is None else [int(step) for step in steps]
    missing = [step for step in wanted if step not in known]
    if missing:
        raise ValueError(f"{folder / _INDEX}: no record of step {missing[0]}, has {sorted(known)}")
    records = [(step, _load_record(folder, known[step])) for step in wanted]
    try:
        return stack_checkpoints(records, index["metadata"])
    except ValueError as error:
        raise ValueError(f"{folder / _INDEX}: {error}") from error


def recorded_steps(folder: str | os.PathLike) -> np.ndarray:
    """Training steps of a folder's records, increasing, int64 `[record]`; reads the index only.

    Raises:
        ValueError: Naming the file, if the index is missing or damaged.
    """
    return np.array(list(recorded_metadata(folder)), np.int64)


def recorded_metadata(folder: str | os.PathLike) -> dict[int, dict[str, Any]]:
    """What was given to `save_checkpoint` beside the parameters; reads the index only.

    The index lists the digest of each file, so that what it says holds of the file too.

    Args:
        folder: Folder of the series.

    Returns:
        Training step -> metadata, in the order of the steps; empty for a record without any.

    Raises:
        ValueError: Naming the file, if the index is missing or damaged.
    """
    records = _read_index(Path(folder))["checkpoints"]
    return {r["step"]: r.get("metadata", {}) for r in sorted(records, key=lambda r: r["step"])}


def forget_after(folder: str | os.PathLike, step: int) -> None:
    """Takes the records of later training steps out of the index of a folder, if it has one.

    For a run that goes on from an earlier state: what it had recorded after that state is of
    another history.

    Args:
        folder: Folder of the series.
        step: The last step to keep.

    Raises:
        ValueError: Naming the file, if the index is damaged.
    """
    folder = Path(folder)
    if not (folder / _INDEX).exists():
        return
    index = _read_index(folder)
    kept = [record for record in index["checkpoints"] if record["step"] <= step]
    if len(kept) < len(index["checkpoints"]):
        _write_index(folder, {**index, "checkpoints": kept})


def _save_record(folder: Path, step: int, leaves: Mapping[str, Any]) -> dict[str, Any]:
    name = f"step-{step:012d}.safetensors"
    digest = save_arrays(folder / name, leaves, {"step": step})
    return {"step": step, "file": name, "sha256": digest}


def _load_record(folder: Path, record: Mapping[str, Any]) -> PyTree:
    path = folder / record["file"]
    data = read_file(path)
    leaves, metadata = parse_arrays(path, data)
    if (
        hashlib.sha256(data).hexdigest() != record["sha256"]
        or metadata.get("step") != record["step"]
    ):
        raise ValueError(
            f"{path}: not the file that {_INDEX} lists for step {record['step']}; "
            "it was replaced or belongs to another series"
        )
    try:
        return unflatten(leaves)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _new_index(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": _SERIES_FORMAT, "metadata": dict(metadata), "checkpoints": []}


def _write_index(folder: Path, index: Mapping[str, Any]) -> None:
    ordered = sorted(index["checkpoints"], key=lambda record: record["step"])
    document = {**index, "format": _SERIES_FORMAT, "checkpoints": ordered}
    write_document(folder / _INDEX, document)


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / _INDEX
    index = read_document(path, _SERIES_FORMAT)
    records = index.get("checkpoints")
    if not isinstance(records, list) or not all(_is_record(record) for record in records):
        raise ValueError(f"{path}: expected a list of checkpoints with step, file and sha256")
    if not isinstance(index.get("metadata"), dict):
        raise ValueError(f"{path}: metadata is {index.get('metadata')!r}, expected a JSON object")
    return index


def _is_record(record: Any) -> bool:
    # A file outside the folder is never read, whatever the index says; `True` is an `int` too.
    return (
        isinstance(record, dict)
        and type(record.get("step")) is int
        and 0 <= record["step"] < 2**63
        and isinstance(record.get("sha256"), str)
        and isinstance(record.get("file"), str)
        and Path(record["file"]).name == record["file"]
        and isinstance(record.get("metadata", {}), dict)
    )


def _structure(leaves: Mapping[str, Any]) -> dict[str, tuple]:
    return {name: (np.shape(x), str(np.asarray(x).dtype)) for name, x in sorted(leaves.items())}


def flatten(tree: PyTree, prefix: str = "") -> dict[str, Any]:
    """Leaves of a nested dict by their path, joined with a slash."""
    if not isinstance(tree, Mapping):
        if not prefix or isinstance(tree, list | tuple) or tree is None:
            raise ValueError(
                f"params: got {type(tree).__name__} at {prefix or 'the root'!r}, "
                "expected a nested dict of arrays"
            )
        return {prefix: tree}
    leaves: dict[str, Any] = {}
    for name, item in tree.items():
        if not isinstance(name, str) or not name or _SEPARATOR in name:
            raise ValueError(f"params: got the key {name!r}, expected text without a slash")
        leaves |= flatten(item, f"{prefix}{_SEPARATOR}{name}" if prefix else name)
    return leaves


def unflatten(leaves: Mapping[str, Any]) -> PyTree:
    """The inverse of `flatten`; refuses names that no nested dict has."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split(_SEPARATOR)
        node = tree
        for parent in parents[:_MAX_DEPTH]:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                break
        if not isinstance(node, dict) or name in node or len(parents) > _MAX_DEPTH:
            raise ValueError(f"params: {path[:80]!r} is no path of a nested dict with others")
        node[name] = leaf
    return tree

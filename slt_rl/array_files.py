"""Named arrays and JSON metadata in one file that is safe to load and is never half written.

A file is in the safetensors format: numbers and a JSON header, nothing that executes when loaded.
It is written beside its destination and then renamed, so a killed process leaves the old file or
the new one, and it carries a digest of its content that is checked when it is read.
"""

import hashlib
import json
import os
import secrets
import stat
import struct
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

_FORMAT = "slt_rl.arrays/1"
_STORABLE = frozenset(
    "float64 float32 float16 int64 uint64 int32 uint32 int16 uint16 int8 uint8 bool".split()
)


def fingerprint(value: Any) -> str:
    """SHA-256 of JSON values and arrays; equal for equal content, whatever the order of keys.

    Args:
        value: Nested dicts, lists and tuples of strings, numbers, booleans, None and arrays.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> fingerprint({"a": 1, "b": [2.0]}) == fingerprint({"b": [2.0], "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(_canonical(value), sort_keys=True).encode()).hexdigest()


def save_arrays(
    path: str | os.PathLike,
    arrays: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """Writes named arrays and JSON metadata into one file, atomically.

    Numbers, booleans, bfloat16 and text arrays are kept with their dtype and shape.

    Args:
        path: Destination; its folder is created.
        arrays: Arrays by name.
        metadata: Plain JSON values.

    Returns:
        The SHA-256 of the file, in hexadecimal digits.

    Raises:
        ValueError: If an array has a dtype that cannot be stored, or metadata is not JSON.
        OSError: Naming the file, if it cannot be written.
    """
    return write_file(Path(path), pack_arrays(arrays, metadata))


def pack_arrays(arrays: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> bytes:
    """What `save_arrays` writes, as bytes."""
    encoded, views = {}, {}
    for name, array in arrays.items():
        encoded[name], view = _encode(name, array)
        if view is not None:
            views[name] = view
    try:
        text = json.dumps(dict(metadata or {}), allow_nan=True)
    except TypeError as error:
        raise ValueError(f"metadata: got {metadata!r}, expected plain JSON values") from error
    header = {
        "format": _FORMAT,
        "metadata": text,
        "views": json.dumps(views),
        "sha256": _digest(encoded, text, views),
    }
    return safetensors.numpy.save(encoded, header)


def load_arrays(
    path: str | os.PathLike, *, expected: Mapping[str, Any] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads what `save_arrays` wrote.

    Args:
        path: The file.
        expected: Metadata entries the file must have, for example the fingerprint of the settings
            that a stored result belongs to.

    Returns:
        `(arrays, metadata)`.

    Raises:
        ValueError: Naming the file, if it is missing, truncated, altered, of another format, or has
            other metadata than expected.
    """
    path = Path(path)
    arrays, metadata = parse_arrays(path, read_file(path))
    for name, value in (expected or {}).items():
        if metadata.get(name) != json.loads(json.dumps(value)):
            raise ValueError(
                f"{path}: {name} is {metadata.get(name)!r}, expected {value!r}; the file belongs "
                "to other settings, remove it or choose another folder"
            )
    return arrays, metadata


def read_file(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        ValueError: Naming the file, if it cannot be read.
    """
    try:
        # A pipe or a device, perhaps behind a link, might never end.
        if stat.S_ISREG(path.stat().st_mode):
            return path.read_bytes()
    # A ValueError: the name itself is impossible.
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path}: cannot be read ({reason})") from error
    raise ValueError(f"{path}: cannot be read (not a regular file)")


def write_file(path: Path, data: bytes) -> str:
    """Writes a file atomically: whole or not at all.

    Returns:
        The SHA-256 of the data, in hexadecimal digits.

    Raises:
        OSError: Naming the file, if it cannot be written (a full disk, a read-only folder); a file
            that was there is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data)
    except OSError as error:
        text = f"{path}: cannot be written ({error.strerror}); what was finished before is kept"
        raise OSError(error.errno, text) from error
    return hashlib.sha256(data).hexdigest()


def _replace(path: Path, data: bytes) -> None:
    """Writes beside the destination, then renames."""
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    # Not by `tempfile`, whose files nobody else may read.
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def parse_arrays(path: Path, data: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and metadata from the bytes of a file that `save_arrays` wrote.

    Raises:
        ValueError: Naming the file, if the bytes are truncated, altered, or of another format.
    """
    try:
        encoded = safetensors.numpy.load(data)
        header = _header(data)
    # safetensors raises a KeyError for a dtype that NumPy does not have.
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: truncated, or not a safetensors file ({error})") from error
    if header.get("format") != _FORMAT:
        raise ValueError(
            f"{path}: format is {header.get('format')!r}, expected {_FORMAT!r}; "
            "the file was written by something else"
        )
    require(path, header, ("metadata", "views", "sha256"))
    text, views = header["metadata"], parse_object(path, header["views"])
    if header["sha256"] != _digest(encoded, text, views):
        raise ValueError(f"{path}: the content does not match its digest; the file was altered")
    try:
        arrays = {name: _decode(encoded[name], views.get(name)) for name in encoded}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return arrays, parse_object(path, text)


def parse_object(path: Path, text: str | bytes) -> dict[str, Any]:
    """The JSON object that a text holds.

    Raises:
        ValueError: Naming the file, if it is truncated, too deep, or not a JSON object.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: truncated, or not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object, found a {type(found).__name__}")
    return found


def require(path: Path, found: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuses a file that lacks an entry.

    Raises:
        ValueError: Naming the file and the entry.
    """
    for name in names:
        if name not in found:
            raise ValueError(f"{path}: {name!r} is missing, found {sorted(found)}")


def _header(data: bytes) -> dict[str, str]:
    # safetensors has checked the length and the form.
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]).get("__metadata__") or {}


def _encode(name: str, array: Any) -> tuple[np.ndarray, str | None]:
    """The array as storable numbers, and the dtype to view them as where that is another one."""
    try:
        array = np.asarray(array)
    except TypeError as error:  # a random key says how to take its numbers
        raise ValueError(f"arrays[{name!r}]: got dtype {array.dtype}; {error}") from error
    array = np.require(array.astype(array.dtype.newbyteorder("="), copy=False), requirements="C")
    if array.dtype.name in _STORABLE:
        return array, None
    if array.dtype == ml_dtypes.bfloat16:
        return array.view(np.uint16), "bfloat16"
    if array.dtype.kind == "U":
        length = max(array.dtype.itemsize // 4, 1)
        units = np.ascontiguousarray(array.astype(f"<U{length}")).view(np.uint32)
        return units.reshape(*array.shape, length), f"<U{length}"
    raise ValueError(
        f"arrays[{name!r}]: got dtype {array.dtype}, expected real numbers, booleans or text"
    )


def _decode(array: np.ndarray, view: str | None) -> np.ndarray:
    """The array as it was given to `_encode`; what that never writes is refused."""
    if view is None:
        return array.copy()
    if view == "bfloat16" and array.dtype == np.uint16:
        return array.view(ml_dtypes.bfloat16).copy()
    units = array.shape[-1] if array.ndim and array.dtype == np.uint32 else 0
    if units and view == f"<U{units}" and np.all(array <= sys.maxunicode):
        return array.copy().view(view)[..., 0]
    raise ValueError(f"cannot view {array.dtype}{list(array.shape)} as {view!r}")


def _digest(encoded: Mapping[str, np.ndarray], text: str, views: Mapping[str, str]) -> str:
    return fingerprint({"arrays": dict(encoded), "metadata": text, "views": dict(views)})


def _canonical(value: Any) -> Any:
    """JSON values with each array replaced by its dtype, shape and a digest of its bytes."""
    if isinstance(value, Mapping):
        return {str(name): _canonical(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    array = np.asarray(value)
    if array.dtype.kind == "O":
        raise ValueError(f"value: got {value!r}, expected JSON values and arrays")
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "sha256": digest}

"""JSON documents that are safe to read: whole, unaltered, and of the format asked for.

A document carries the SHA-256 of its values, so that a damaged number is noticed as in a file of
arrays. White space and the order of names do not count.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slt_rl.array_files import fingerprint, parse_object, read_file, write_file

_DIGEST = "sha256"


@contextlib.contextmanager
def advising(text: str) -> Iterator[None]:
    """Adds to the message of a `ValueError` what there is to do about it.

    Example:
        >>> with advising("copy it again"):
        ...     raise ValueError("a.json: truncated")
        Traceback (most recent call last):
        ValueError: a.json: truncated; copy it again
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{error}; {text}") from error


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Writes JSON values with their digest, whole or not at all.

    Args:
        path: Destination; its folder is created.
        document: Plain JSON values with the entry `"format"`.

    Raises:
        ValueError: If a number is not finite.
        OSError: Naming the file, if it cannot be written.
    """
    values = json.loads(json.dumps(dict(document), allow_nan=False))
    text = json.dumps({**values, _DIGEST: fingerprint(values)}, indent=1, allow_nan=False)
    write_file(path, f"{text}\n".encode())


def read_document(path: Path, wanted: str) -> dict[str, Any]:
    """Reads what `write_document` wrote, without the digest.

    Args:
        path: The file.
        wanted: The format it must have.

    Raises:
        ValueError: Naming the file, if it is missing, truncated, altered, or of another format.
    """
    values = parse_object(path, read_file(path))
    digest, found = values.pop(_DIGEST, None), values.get("format")
    if found != wanted:
        raise ValueError(f"{path}: the format is {found!r}, expected {wanted!r}")
    if digest != fingerprint(values):
        raise ValueError(f"{path}: the content does not match its digest; the file was altered")
    return values

"""Pieces of a curve measured by several processes, and told to all of them."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from slt_rl.array_files import pack_arrays, parse_arrays
from slt_rl.kept import decode_estimates, encode_estimates
from slt_rl.result import LLCEstimate

# What stands for a file in an error.
_MESSAGE = Path("message")


def share_of(pieces: Sequence) -> Sequence:
    """The pieces that this process measures: every `process_count`-th."""
    return pieces[jax.process_index() :: jax.process_count()]


def of_all_processes(mine: Sequence[list[LLCEstimate]], num_pieces: int) -> list[list[LLCEstimate]]:
    """The estimates of all pieces in order, from the shares that all processes measured.

    All processes of `jax.distributed` call it together. What travels is a curve's draws and
    numbers, once, at its end.

    Args:
        mine: Estimates of `share_of(pieces)`.
        num_pieces: Pieces of all processes.
    """
    if jax.process_count() == 1:
        return list(mine)
    found = []
    for first in range(0, num_pieces, jax.process_count()):
        own = first // jax.process_count()
        data = b"" if own >= len(mine) else pack_arrays(*encode_estimates(mine[own], {}))
        found += [decode_estimates(_MESSAGE, *parse_arrays(_MESSAGE, x)) for x in _gather(data)]
    return found


def _gather(data: bytes) -> list[bytes]:
    """The bytes of all processes, but for those that have none."""
    from jax.experimental.multihost_utils import process_allgather

    sizes = np.ravel(process_allgather(np.int32(len(data))))
    padded = np.frombuffer(data.ljust(int(sizes.max()), b"\0"), np.uint8)
    everyone = process_allgather(padded)
    return [row[:size].tobytes() for row, size in zip(everyone, sizes, strict=True) if size]

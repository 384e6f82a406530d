"""Cuts the checkpoints of a curve into chunks that are sampled together."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from slt_rl.chains import Problem
from slt_rl.compilation import LightJit

PyTree = Any


def size_of_chunks(checkpoints: PyTree, most: int) -> int:
    """So many checkpoints go together, at most `most`, that few places of the last chunk are empty.

    An even number of chunks, so that two threads end together; it does not depend on the threads
    or processes, which may be others when a stored curve goes on.
    """
    leaf = jax.tree.leaves(checkpoints)[0]
    if len(leaf) <= most or len(leaf.sharding.device_set) > 1:
        return most  # of a size that the devices divide
    num_chunks = -(-len(leaf) // most)
    return -(-len(leaf) // (num_chunks + num_chunks % 2))


def chunks_of(problem: Problem, size: int) -> Iterator[tuple[int, Problem]]:
    """Cuts the centers into chunks of one size; the last is filled up with its last center."""
    size = min(size, problem.num_centers)
    for start in range(0, problem.num_centers, size):
        indices = np.minimum(np.arange(start, start + size), problem.num_centers - 1)
        yield start, problem._replace(centers=_take(problem.centers, indices))


def _take(centers: PyTree, indices: np.ndarray) -> PyTree:
    """Some of the centers, on the devices that all of them lie on."""

    def lay(leaf, part):
        return part if len(leaf.sharding.device_set) == 1 else jax.device_put(part, leaf.sharding)

    return jax.tree.map(lay, centers, center_of(centers, indices))


@LightJit
def center_of(centers: PyTree, indices: Any) -> PyTree:
    """One of the centers, or those at an array of indices."""
    return jax.tree.map(lambda x: x[indices], centers)

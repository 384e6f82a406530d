"""Cuts the checkpoints of a curve into chunks that are sampled together."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl._numbers import check_count
from slt_rl.chains import Problem
from slt_rl.compilation import LightJit
from slt_rl.groups import is_spread
from slt_rl.posterior import mean_loss
from slt_rl.samplers import SGLD, KineticLangevin
from slt_rl.settings import Settings

PyTree = Any
# What a chain needs beside its state, at most: copies of the parameters, and of what a gradient
# keeps of its forward pass. Most is needed by Hessian-vector products, of all chains at once.
WORK_COPIES, WORK_RESIDUALS = 10, 3


def checkpoint_bytes(problem: Problem, settings: Settings) -> int:
    """Bytes that sampling one checkpoint needs on its device, from shapes alone: nothing is run.

        (C m + 10 (C + 1)) P + 3 (C + 1) R

    for `C` chains, `P` bytes of parameters and `m` copies of them in a chain's state: the states,
    and the work of all chains and of finding the anchor. `R` are the bytes that a gradient on the
    full data keeps of its forward pass, activations and data. Draws, which lie on the host, and
    data that all checkpoints share are not in it.

    Args:
        problem: centers and target; the first center stands for all.
        settings: how to sample; without a sampler what calibration would choose.
    """
    center = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), problem.centers)
    sampler = settings.sampler
    if sampler is None:
        kinetic = settings.batch_size is None
        sampler = KineticLangevin(1.0, 1.0, 0.0) if kinetic else SGLD(1.0, control_variate=True)

    def start(key, center):
        zero = jnp.zeros((), jnp.result_type(*jax.tree.leaves(center)))
        return sampler.init(key, center, lambda key, w: (zero, w))

    def kept(center, shared):
        loss_fn, data = problem.make_target(center, shared)
        return jax.vjp(lambda w: mean_loss(loss_fn, data, w), center)[1]

    state = _num_bytes(jax.eval_shape(start, jax.random.key(0), center))
    residuals = _num_bytes(jax.eval_shape(kept, center, problem.shared))
    work = WORK_COPIES * _num_bytes(center) + WORK_RESIDUALS * residuals
    return settings.num_chains * state + (settings.num_chains + 1) * work


def most_together(
    memory_bytes: int, problem: Problem, settings: Settings, *, num_threads: int
) -> int:
    """How many checkpoints may be sampled together, so that all chunks in work fit a memory.

    Args:
        memory_bytes: what may be used on a device.
        problem: centers and target.
        settings: how to sample.
        num_threads: chunks in work at the same time.

    Raises:
        ValueError: if it is no whole number, not even one checkpoint fits, or arrays lie on several
            devices.
    """
    memory_bytes = check_count("memory_bytes", memory_bytes)
    if is_spread(problem):
        raise ValueError(
            "memory_bytes: expected None where arrays lie on several devices; choose chunk_size"
        )
    # All centers lie there throughout, and the data that they share.
    fixed = _num_bytes((problem.centers, problem.shared))
    each = num_threads * checkpoint_bytes(problem, settings)
    if memory_bytes < fixed + each:
        raise ValueError(
            f"memory_bytes: expected at least {fixed + each} for chunks of one checkpoint in "
            f"{num_threads} threads, got {memory_bytes}; fewer chains or num_threads=1 need less"
        )
    return (memory_bytes - fixed) // each


def _num_bytes(tree: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def size_of_chunks(checkpoints: PyTree, most: int) -> int:
    """So many checkpoints go together, at most `most`, that few places of the last chunk are empty.

    An even number of chunks, so that two threads end together; it does not depend on the threads
    or processes, which may be others when a stored curve goes on.
    """
    leaf = jax.tree.leaves(checkpoints)[0]
    if len(leaf) <= most or is_spread(leaf):
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
        return jax.device_put(part, leaf.sharding) if is_spread(leaf) else part

    return jax.tree.map(lay, centers, center_of(centers, indices))


@LightJit
def center_of(centers: PyTree, indices: Any) -> PyTree:
    """One of the centers, or those at an array of indices."""
    return jax.tree.map(lambda x: x[indices], centers)

"""Chains in parts, one on each core, since one program does not keep all cores busy."""

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.compilation import LightJit

PyTree = Any


def together(parts: list[Iterator[tuple]]) -> Iterator[tuple]:
    """Yields what the blocks of all chains would, from several parts that run at the same time.

    Args:
        parts: of each part `(state, *records)` block after block, chains by themselves; records
            lie on the host. Each part is advanced on a thread of its own.

    Yields:
        State and records, with all chains where arrays have the axes `[center, chain, ...]`.
    """
    with ThreadPoolExecutor(len(parts)) as pool:
        while True:
            # JAX runs what one thread starts one after another: each waits for its own records.
            states, *records = zip(*pool.map(next, parts), strict=True)
            yield _joined(states), *(jax.tree.map(_concatenated, *found) for found in records)


def _concatenated(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts, axis=1)


@LightJit
def _joined(parts):
    def join(*parts):
        return jnp.concatenate(parts, axis=1) if jnp.ndim(parts[0]) > 1 else parts[0]

    return jax.tree.map(join, *parts)


def _part(x: jax.Array, number: int, num_parts: int) -> jax.Array:
    if jnp.ndim(x) < 2:
        return jnp.copy(x)  # Every part writes its next state where the last lay.
    return jnp.split(x, num_parts, axis=1)[number]


@functools.partial(LightJit, static_argnums=1)
def cut(tree: PyTree, num_parts: int) -> list[PyTree]:
    """Copies of arrays `[center, chain, ...]`, or of fewer axes for all chains, in equal parts."""
    return [jax.tree.map(lambda x, i=i: _part(x, i, num_parts), tree) for i in range(num_parts)]

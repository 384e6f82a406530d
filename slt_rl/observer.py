"""Looking at chains while they run: a function of the position, computed inside the loop."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from slt_rl.posterior import LocalPosterior

PyTree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Observer:
    """What else to compute at draws: `observe_fn` at the steps that are `phase` modulo `every`.

    Args:
        observe_fn: `observe_fn(params, data) -> pytree of arrays` with a data set,
            `observe_fn(params)` for an exact potential; static, so equal functions compile once.
        every: steps per observation; divides the length of a block.
        phase: `[]`, in `0 ... every - 1`.
    """

    observe_fn: Callable = dataclasses.field(metadata={"static": True})
    every: int = dataclasses.field(metadata={"static": True})
    phase: Any = 0

    def mark(self, number: jax.Array, position: PyTree, marked: PyTree) -> PyTree:
        """Returns `position` at an observed step, else the position marked before."""
        return jax.tree.map(
            lambda new, old: jnp.where(number % self.every == self.phase, new, old),
            position,
            marked,
        )

    def __call__(self, posterior: LocalPosterior, params: PyTree) -> PyTree:
        """Returns what is observed at `params`."""
        data = () if posterior.data is None else (posterior.data,)
        return self.observe_fn(params, *data)


def scan_and_observe(
    step: Callable,
    start: tuple,
    numbers: jax.Array,
    *,
    posterior: LocalPosterior,
    observer: Observer | None,
) -> tuple[tuple, PyTree, PyTree]:
    """Scans `step` over `numbers`; with an observer one observation follows each group of steps.

    Args:
        step: `step((*state, marked), number) -> ((*state, marked), record)`, `marked` being the
            position that the observer marks, `None` without one.
        start: the state before the first step.
        numbers: `[step]` step numbers, a multiple of `observer.every` of them.
        posterior: the local posterior.
        observer: what to observe, or `None`.

    Returns:
        The last state, the records `[step, ...]`, the observations `[step // every, ...]`.
    """
    if observer is None:
        carry, records = jax.lax.scan(step, (*start, None), numbers)
        return carry[:-1], records, None

    def group(carry, numbers):
        carry, records = jax.lax.scan(step, carry, numbers)
        return carry, (records, observer(posterior, carry[-1]))

    groups = numbers.reshape(-1, observer.every)
    carry, (records, observations) = jax.lax.scan(group, (*start, posterior.center), groups)
    records = jax.tree.map(lambda x: x.reshape(len(numbers), *x.shape[2:]), records)
    return carry[:-1], records, observations

"""What a curve is of: the checkpoints of one seed, a loss, and the states it is taken on."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.agents.folding import fold_constant_inputs
from slt_rl.agents.run import Run
from slt_rl.agents.states import States
from slt_rl.agents.targets import FrozenPart, FrozenPolicy, FrozenValues

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Subject:
    """The checkpoints of one seed, ready for `llc_curve`.

    Attributes:
        seed: Seed of the run.
        steps: Environment steps of the checkpoints, `[checkpoint]`.
        params: Free parameters, `[checkpoint, ...]`.
        make_target: `(params, data) -> (loss_fn, Dataset)` of one checkpoint; hashable.
        states: `[n, ...]`, or `[checkpoint, n, ...]` where each has its own.
        is_shared: Whether all checkpoints have the same states.
        centers: All parameters `[checkpoint, ...]` where only a part is free, else None.
        facts: Numbers and words that belong beside the curve.
    """

    seed: int
    steps: np.ndarray
    params: PyTree
    make_target: Callable
    states: np.ndarray
    is_shared: bool
    centers: PyTree
    facts: dict[str, Any]

    def take(self, indices: Sequence[int]) -> PyTree:
        """Free parameters of some checkpoints, `[index, ...]`."""
        return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[list(indices)]), self.params)

    @property
    def max_at_once(self) -> int:
        """Checkpoints that one program may sample side by side."""
        return len(self.steps) if self.is_shared and self.centers is None else 1

    def data(self, index: int) -> PyTree:
        """What `make_target` needs beside the parameters of a checkpoint."""
        states = jnp.asarray(self.states if self.is_shared else self.states[index])
        if self.centers is None:
            return states
        return {"states": states, "center": jax.tree.map(lambda x: x[index], self.centers)}


def policy_subject(
    run: Run, seed: int, states: States, *, indices: np.ndarray, part: str = ""
) -> Subject:
    """The policy, under its KL to the frozen policy of the checkpoint.

    Args:
        run: The run.
        seed: Seed of the run.
        states: Shared, or one set for each of the chosen checkpoints.
        indices: Checkpoints, as indices into `run.steps`.
        part: Leaves whose path begins so are free, the others frozen; all are free if empty.

    Raises:
        ValueError: If there is no such part.
    """
    return _subject(run, seed, states, indices, (FrozenPolicy(run.policy()), "policy", part))


def value_subject(
    run: Run, seed: int, states: States, *, indices: np.ndarray, part: str = ""
) -> Subject:
    """The value function, under half its squared difference from the checkpoint's own values.

    Args and errors are those of `policy_subject`.
    """
    return _subject(run, seed, states, indices, (FrozenValues(run.value_fn()), "value", part))


def _subject(run: Run, seed: int, states: States, indices: np.ndarray, what) -> Subject:
    target, half, part = what
    params = jax.tree.map(lambda x: np.asarray(x)[indices], run.checkpoints(seed).params[half])
    folded = fold_constant_inputs(params, states.observations)
    facts = {
        "potential": f"KL to the frozen {half}" if half == "policy" else "frozen values",
        "states": states.origin,
        "num_states": int(states.observations.shape[-2]),
        "num_inputs": folded.num_inputs,
        "num_varying_inputs": folded.num_varying,
        "part": part,
        "num_parameters": _size(params),
    }
    free, centers = folded.params, None
    if part:
        target = FrozenPart(target, part)
        centers = jax.tree.map(jnp.asarray, folded.params)
        free = jax.vmap(target.free)(centers)
    facts["num_free_parameters"] = _size(free)
    return Subject(
        seed=seed,
        steps=np.asarray(run.steps)[indices],
        params=free,
        make_target=target,
        states=folded.observations,
        is_shared=states.is_shared,
        centers=centers,
        facts=facts,
    )


def _size(params: PyTree) -> int:
    """Parameters of one checkpoint."""
    return int(sum(np.size(x) // len(x) for x in jax.tree.leaves(params)))

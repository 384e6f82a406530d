"""What a curve is of: the checkpoints of one seed, a loss, and the states it is taken on."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.agents.folding import drop_unseen_directions, fold_constant_inputs
from slt_rl.agents.run import Run
from slt_rl.agents.states import States, memory_of, with_checkpoints
from slt_rl.agents.targets import FrozenPart, FrozenPolicy, FrozenSequences, FrozenValues
from slt_rl.data import Dataset, as_dataset

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Subject:
    """The checkpoints of one seed, ready for `llc_curve`.

    Attributes:
        seed: Seed of the run.
        steps: Environment steps of the checkpoints, `[checkpoint]`.
        params: Free parameters, `[checkpoint, ...]`.
        make_target: `(params, data) -> (loss_fn, Dataset)` of one checkpoint; hashable.
        states: Arrays `[set, ...]`: one set for all checkpoints, or one for each.
        centers: All parameters `[checkpoint, ...]` where only a part is free, else None.
        facts: Numbers and words that belong beside the curve; `num_states` is the `n` of
            `n / log n`, and counts steps.
    """

    seed: int
    steps: np.ndarray
    params: PyTree
    make_target: Callable
    states: PyTree
    centers: PyTree
    facts: dict[str, Any]

    def take(self, indices: Sequence[int]) -> PyTree:
        """Free parameters of some checkpoints, `[index, ...]`."""
        return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[list(indices)]), self.params)

    @property
    def is_shared(self) -> bool:
        """Whether all checkpoints have the same states."""
        return all(len(x) == 1 for x in jax.tree.leaves(self.states))

    @property
    def max_at_once(self) -> int:
        """Checkpoints that one program may sample side by side."""
        return len(self.steps) if self.is_shared and self.centers is None else 1

    def data(self, index: int) -> PyTree:
        """What `make_target` needs beside the parameters of a checkpoint."""
        row = 0 if self.is_shared else index
        states = jax.tree.map(lambda x: jnp.asarray(x[row]), self.states)
        if self.centers is None:
            return states
        return {"states": states, "center": jax.tree.map(lambda x: x[index], self.centers)}

    def losses(self, params: PyTree, data: PyTree) -> tuple[jax.Array, Dataset]:
        """Losses `[n]` of a checkpoint at itself, and the data set they are of."""
        loss_fn, found = self.make_target(params, data)
        dataset = as_dataset(found)
        return loss_fn(params, dataset.examples), dataset


def make_subject(
    run: Run,
    seed: int,
    states: States,
    *,
    indices: np.ndarray,
    of_values: bool = False,
    part: str = "",
) -> Subject:
    """The policy under its KL to the frozen policy of the checkpoint, or the value function.

    The value function is compared with the checkpoint's own values, half the squared difference.
    Inputs that are constant over the states are folded into the first bias, and directions of the
    inputs that no state has are dropped. An agent with memory is measured with all of its
    parameters: the head that the loss does not see adds nothing.

    Args:
        run: The run.
        seed: Seed of the run.
        states: One set for all, or one for each of the chosen checkpoints.
        indices: Checkpoints, as indices into `run.steps`.
        of_values: The value function instead of the policy.
        part: What is free, see `FrozenPart`; everything if empty.

    Raises:
        ValueError: If there is no such part, or the states fit another architecture.
    """
    run = with_checkpoints(run, indices)
    target, params = _target(run, seed, of_values)
    folded = fold_constant_inputs(params, states.observations)
    turned = drop_unseen_directions(folded.params, folded.observations)
    facts = {
        "potential": "half squared difference from the frozen values"
        if of_values
        else "KL to the frozen policy",
        "states": states.origin,
        "num_states": states.num_states,
        "num_inputs": folded.num_inputs,
        "num_varying_inputs": folded.num_varying,
        "num_directions": turned.num_varying,
        "part": part,
        "num_parameters": _size(params),
    }
    whole = Subject(
        seed=seed,
        steps=np.asarray(run.steps),
        params=turned.params,
        make_target=target,
        states=states._replace(observations=turned.observations).arrays,
        centers=None,
        facts=facts | {"num_free_parameters": _size(turned.params)},
    )
    found = _restricted(whole, part) if part else whole
    _check_fit(found, run)
    return found


def _check_fit(subject: Subject, run: Run) -> None:
    """Refuses states that the agent cannot see."""
    first = jax.tree.map(lambda x: x[0], subject.take([0]))
    try:
        jax.eval_shape(subject.losses, first, subject.data(0))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"states: observations of {subject.facts['num_inputs']} inputs do not fit the agent of "
            f"{run.folder} ({str(error).splitlines()[0]})"
        ) from error


def check_subject(
    run: Run, seed: int, *, indices: np.ndarray, of_values: bool = False, part: str = ""
) -> None:
    """What `make_subject` would refuse of the checkpoints of a seed, before any state is played.

    Args:
        run: The run.
        seed: Seed of the run.
        indices: Checkpoints that are read, as indices into `run.steps`.
        of_values: The value function instead of the policy.
        part: What is free.

    Raises:
        ValueError: If one is damaged, missing or of another architecture than `run.json` says, or
            has no such part.
    """
    target, params = _target(with_checkpoints(run, indices), seed, of_values)
    if part:
        FrozenPart(target, part).free(jax.tree.map(lambda x: x[0], params))


def _target(run: Run, seed: int, of_values: bool) -> tuple[Callable, PyTree]:
    """The loss of a whole agent, and the parameters it is of, `[checkpoint, ...]`."""
    network, params = memory_of(run), run.checkpoints(seed).params
    if network is not None:
        return FrozenSequences(network, of_values), params
    if of_values and "value" not in params:
        raise ValueError(f"{run.folder}: its checkpoints hold the policy alone, no value function")
    if of_values:
        return FrozenValues(run.value_fn()), params["value"]
    return FrozenPolicy(run.policy()), params["policy"]


def _restricted(subject: Subject, part: str) -> Subject:
    """The same with only a part of the parameters free."""
    target = FrozenPart(subject.make_target, part)
    centers = jax.tree.map(jnp.asarray, subject.params)
    free = jax.vmap(target.free)(centers)
    facts = subject.facts | {"num_free_parameters": _size(free)}
    return dataclasses.replace(
        subject, params=free, make_target=target, centers=centers, facts=facts
    )


def _size(params: PyTree) -> int:
    """Parameters of one checkpoint."""
    return int(sum(np.size(x) // len(x) for x in jax.tree.leaves(params)))

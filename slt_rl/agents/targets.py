"""Losses of a checkpoint with their minimum at the checkpoint: targets for `llc_curve`."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.data import Dataset
from slt_rl.observables import restrict
from slt_rl.rl import Policy, ValueFn, policy_kl, value_error

PyTree = Any


@dataclasses.dataclass(frozen=True)
class FrozenPolicy:
    """`KL(pi_w* || pi_w)` on given states; see `slt_rl.rl.policy_kl`.

    Args:
        policy: `(params, observation) -> distribution`, hashable.
    """

    policy: Policy

    def __call__(self, params: PyTree, states: PyTree) -> tuple[Callable, Dataset]:
        """The loss `[n]` in nats and its data, for the checkpoint `params`."""
        return policy_kl(self.policy, params, states["observation"])


@dataclasses.dataclass(frozen=True)
class FrozenValues:
    """`(V_w - V_w*)^2 / 2` on given states; see `slt_rl.rl.value_error`.

    Args:
        value_fn: `(params, observation) -> []`, hashable.
    """

    value_fn: ValueFn

    def __call__(self, params: PyTree, states: PyTree) -> tuple[Callable, Dataset]:
        """The loss `[n]` in units of squared return and its data, for the checkpoint `params`."""
        observations = states["observation"]
        values = jax.vmap(functools.partial(self.value_fn, params))(observations)
        return value_error(self.value_fn, observations, values)


@dataclasses.dataclass(frozen=True)
class FrozenSequences:
    """The two losses of an agent with memory, averaged over the steps of a window.

    Memory starts empty at the first step of a window, and again where an episode begins.

    Args:
        network: `apply(params, hidden, observation[time, env], reset=[time, env])` returns
            `(hidden, distribution, value)`; hashable.
        of_values: Half the squared difference of values instead of the KL of the policy.
    """

    network: Any
    of_values: bool = False

    def __call__(self, params: PyTree, states: PyTree) -> tuple[Callable, Dataset]:
        """The loss `[window]`, a mean over steps, and its data, for the checkpoint `params`."""
        frozen = jax.tree.map(_swapped, self._seen(params, states))
        return self._loss, Dataset({**states, "frozen": frozen})

    def _seen(self, params: PyTree, states: PyTree) -> PyTree:
        """Distributions or values, `[time, window]`."""
        observation, start = _swapped(states["observation"]), _swapped(states["start"])
        hidden = self.network.initial_hidden(params, observation.shape[1])
        _, distribution, value = self.network.apply(params, hidden, observation, reset=start)
        return value if self.of_values else distribution

    def _loss(self, params: PyTree, examples: PyTree) -> jax.Array:
        seen = self._seen(params, examples)
        frozen = jax.tree.map(_swapped, examples["frozen"])
        step = (seen - frozen) ** 2 / 2 if self.of_values else frozen.kl(seen)
        return jnp.mean(step, axis=0)


def _swapped(x: jax.Array) -> jax.Array:
    return jnp.swapaxes(x, 0, 1)


@dataclasses.dataclass(frozen=True)
class FrozenPart:
    """A target with some of the parameters free and the others frozen: a refined coefficient.

    It is asked for the free parameters `path -> array`, as `slt_rl.observables.restrict` returns
    them, and for `{"states": ..., "center": ...}`, the data of the whole target and the whole
    checkpoint.

    Args:
        target: The target of the whole network.
        part: "PREFIX" or "PREFIX:UNIT". Free are the leaves whose path, joined with "/", is the
            prefix or begins with it and "/"; with a unit only its entries on their last axis, so
            that "layer_0:3" are the weights into unit 3 of the first layer and its bias.
    """

    target: Callable
    part: str

    def __call__(self, free: PyTree, shared: PyTree) -> tuple[Callable, Dataset]:
        """The loss of the free parameters, and its data."""
        del free
        loss_fn, data = self.target(shared["center"], shared["states"])
        return restrict(loss_fn, shared["center"], self._mask(shared["center"]))[0], data

    def free(self, center: PyTree) -> dict[str, jax.Array]:
        """The free parameters of a checkpoint.

        Raises:
            ValueError: If no path begins so, or there is no such unit; the text lists the paths.
        """
        _, colon, unit = self.part.partition(":")
        mask = self._mask(center) if not colon or unit.isdecimal() else False
        if not any(np.any(leaf) for leaf in jax.tree.leaves(mask)):
            raise ValueError(
                f"part: got {self.part!r}, expected the beginning of one of the paths "
                f"{_paths(center)}, or that and a unit, as in 'layer_0:3'"
            )
        return restrict(_nothing, center, mask)[1]

    def _mask(self, center: PyTree) -> PyTree:
        prefix, _, unit = self.part.partition(":")
        leaves, structure = jax.tree.flatten(center)
        free: list[Any] = [f"{path}/".startswith(f"{prefix}/") for path in _paths(center)]
        if unit:
            free = [
                flag & _is_entry(np.shape(leaf), int(unit))
                for flag, leaf in zip(free, leaves, strict=True)
            ]
        return jax.tree.unflatten(structure, free)


def _is_entry(shape: tuple[int, ...], unit: int) -> np.ndarray:
    """Which entries belong to a unit, the index on the last axis; a scalar belongs to none."""
    return np.broadcast_to(np.arange(shape[-1]) == unit, shape) if shape else np.array(False)


def _paths(tree: PyTree) -> list[str]:
    """Paths of the leaves, joined with a slash."""
    located, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in located]


def _nothing(params: PyTree) -> jax.Array:
    del params
    return jnp.zeros(())

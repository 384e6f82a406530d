"""Losses of a checkpoint with their minimum at the checkpoint: targets for `llc_curve`."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

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

    def __call__(self, params: PyTree, observations: jax.Array) -> tuple[Callable, Dataset]:
        """The loss `[n]` in nats and its data, for the checkpoint `params`."""
        return policy_kl(self.policy, params, observations)


@dataclasses.dataclass(frozen=True)
class FrozenValues:
    """`(V_w - V_w*)^2 / 2` on given states; see `slt_rl.rl.value_error`.

    Args:
        value_fn: `(params, observation) -> []`, hashable.
    """

    value_fn: ValueFn

    def __call__(self, params: PyTree, observations: jax.Array) -> tuple[Callable, Dataset]:
        """The loss `[n]` in units of squared return and its data, for the checkpoint `params`."""
        values = jax.vmap(functools.partial(self.value_fn, params))(observations)
        return value_error(self.value_fn, observations, values)


@dataclasses.dataclass(frozen=True)
class FrozenPart:
    """A target with some of the parameters free and the others frozen: a refined coefficient.

    It is asked for the free parameters `path -> array`, as `slt_rl.observables.restrict` returns
    them, and for `{"states": ..., "center": ...}`, the data of the whole target and the whole
    checkpoint.

    Args:
        target: The target of the whole network.
        prefix: Free are the leaves whose path, joined with "/", is `prefix` or begins with
            `prefix` and "/".
    """

    target: Callable
    prefix: str

    def __call__(self, free: PyTree, shared: PyTree) -> tuple[Callable, Dataset]:
        """The loss of the free parameters, and its data."""
        del free
        loss_fn, data = self.target(shared["center"], shared["states"])
        return restrict(loss_fn, shared["center"], self._mask(shared["center"]))[0], data

    def free(self, center: PyTree) -> dict[str, jax.Array]:
        """The free parameters of a checkpoint.

        Raises:
            ValueError: If no path begins so; the text lists the paths.
        """
        if not any(jax.tree.leaves(self._mask(center))):
            raise ValueError(
                f"part: got {self.prefix!r}, expected the beginning of one of the paths "
                f"{_paths(center)}"
            )
        return restrict(_nothing, center, self._mask(center))[1]

    def _mask(self, center: PyTree) -> PyTree:
        flags = [f"{path}/".startswith(f"{self.prefix}/") for path in _paths(center)]
        return jax.tree.unflatten(jax.tree.structure(center), flags)


def _paths(tree: PyTree) -> list[str]:
    """Paths of the leaves, joined with a slash."""
    located, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in located]


def _nothing(params: PyTree) -> jax.Array:
    del params
    return jnp.zeros(())

"""A model whose truth is known."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from slt_rl.data import Dataset
from toy_models.references import Reference, is_stale

PyTree = Any


@dataclasses.dataclass(frozen=True)
class ToyProblem:
    """A loss, a center, and the exact local learning coefficient there.

    The exact potential, the loss of one example with its data, or both are given. With data, the
    loss of any data set of any size has the same minimum and learning coefficient unless the
    builder's docstring says otherwise.

    Attributes:
        name: A unique name.
        kind: "supervised" or "rl": where the loss comes from.
        params: The center ``w*``, a pytree of arrays; the potential has a minimum there.
        llc: Local learning coefficient at ``w*``, without unit.
        multiplicity: Multiplicity ``m`` of the pole.
        potential: Exact potential, ``params -> []``, nats per example; or None.
        loss_fn: Loss of examples, ``(params, examples) -> [n]``; or None.
        dataset: ``(key, n) -> Dataset`` for ``loss_fn``; or None.
        finite_llc: ``(nbeta, localization) -> float``: exact ``nbeta (E[L] - L(w*))`` under
            ``exp(-nbeta L - localization/2 |w - w*|^2)``; None where no exact value is known.
        references: Sampled values of the same quantity, each at one temperature and localization;
            read them by `reference`. `toy_models.problems` attaches those that are stored.

    Raises:
        ValueError: If the kind is neither, there is no loss, or ``loss_fn`` comes without data.
    """

    name: str
    kind: str
    params: PyTree
    llc: float
    multiplicity: int = 1
    potential: Callable[[PyTree], jax.Array] | None = None
    loss_fn: Callable[[PyTree, PyTree], jax.Array] | None = None
    dataset: Callable[[jax.Array, int], Dataset] | None = None
    finite_llc: Callable[[float, float], float] | None = None
    references: tuple[Reference, ...] = ()

    def __post_init__(self):
        if self.kind not in ("supervised", "rl"):
            raise ValueError(f"kind: got {self.kind!r}, expected 'supervised' or 'rl'")
        if self.potential is None and self.loss_fn is None:
            raise ValueError("potential: got None, expected a potential or a loss_fn with data")
        if (self.loss_fn is None) != (self.dataset is None):
            raise ValueError("dataset: expected together with loss_fn, or neither")

    def reference(self, nbeta: float, localization: float) -> Reference | None:
        """The sampled value at this temperature and localization; None where there is none.

        Args:
            nbeta: Inverse temperature.
            localization: In 1/parameter^2.

        Raises:
            ValueError: If the stored value belongs to another potential or center.
        """
        for stored in self.references:
            if (stored.nbeta, stored.localization) != (nbeta, localization):
                continue
            if self.potential is None or is_stale(stored, self.potential, self.params):
                raise ValueError(
                    f"references: got one of another potential or center for {self.name!r}, "
                    "expected one of this problem; make it again by benchmarks.make_references"
                )
            return stored
        return None

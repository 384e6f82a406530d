"""The estimators that climb: a potential, a correction, and what they should find."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from slt_rl.difficulty import targets
from slt_rl.difficulty.protocol import DELAY, DISCOUNT
from slt_rl.difficulty.rungs import Population, Rung, kl, regret
from slt_rl.difficulty.targets import Target


class Method(NamedTuple):
    """One estimator on one rung.

    Attributes:
        potential: Name of the potential.
        correction: Name of what is done about the difficulty.
        build: `(key, rung, label, *, protocol) -> Target`.
        wanted: `(rung, label) -> Population`, the exact potential whose value is asked for; None if
            it is that of the critic alone.
        predicted: `(rung, label) -> Population`, the exact mean of the loss that is sampled, if it
            is another.
        has_critic: Whether the parameters of a critic are measured too.
        is_ordered: Whether the classes should come out in their order.
    """

    potential: str
    correction: str
    build: Callable[..., Target]
    wanted: Callable[[Rung, str], Population] | None
    predicted: Callable[[Rung, str], Population] | None = None
    has_critic: bool = False
    is_ordered: bool = True

    @property
    def row(self) -> str:
        """The estimator with what is done about difficulties in general."""
        if self.predicted is not None:
            return f"{self.potential}, uncorrected"
        return f"{self.potential}, corrected" if self.correction else self.potential

    @property
    def name(self) -> str:
        """Potential and correction."""
        return f"{self.potential}, {self.correction}" if self.correction else self.potential


def _stale(potential_fn, rung: Rung, label: str) -> Population:
    assert rung.stale_law is not None
    return Population(
        potential_fn, rung.stale_law, f"{rung.number} stale {potential_fn.__name__} {label}"
    )


def _frozen_visits(rung: Rung, label: str) -> Population:
    return Population(regret, rung.laws[label], f"{rung.number} frozen {label}")


def _memoryless(rung: Rung, label: str) -> Population:
    law = rung.laws[label]._replace(hidden=jnp.asarray(1.0))
    return Population(kl, law, f"{rung.number} memoryless {label}")


def _late(rung: Rung, label: str) -> Population:
    return Population(regret, rung.laws[label], f"{rung.number} late {label}")


def methods_of(rung: Rung) -> tuple[Method, ...]:
    """The estimators that are tried on a rung."""
    special: dict[int, Callable[[], tuple[Method, ...]]] = {
        0: _supervised,
        2: _with_critic,
        3: functools.partial(_drifting, targets.weighted_inputs),
        4: _visiting,
        5: _delayed,
        7: functools.partial(_drifting, targets.reweighted_inputs),
        8: _remembering,
    }
    return special.get(rung.number, _plain)() + _importance(rung.number)


def _regret_on(inputs_fn, **options) -> Callable:
    return functools.partial(targets.build_regret, inputs_fn=inputs_fn, **options)


def _kl_on(inputs_fn, **options) -> Callable:
    return functools.partial(targets.build_kl, inputs_fn=inputs_fn, **options)


def _plain() -> tuple[Method, ...]:
    """Nothing to correct."""
    return (
        Method("sampled regret", "", _regret_on(targets.fresh_inputs), Rung.wanted_regret),
        Method("KL", "", _kl_on(targets.fresh_inputs), Rung.wanted_kl),
    )


def _supervised() -> tuple[Method, ...]:
    return (Method("squared error", "", targets.build_supervised, Rung.wanted_regret),)


def _importance(number: int) -> tuple[Method, ...]:
    """Tried where it has its best chance, one step and a good baseline, and on late sums."""
    builders: dict[int, Callable] = {
        1: functools.partial(targets.build_importance, values_fn=targets.exact_values),
        2: functools.partial(targets.build_importance, values_fn=targets.critic_values),
        5: targets.build_trajectories,
    }
    if number not in builders:
        return ()
    return (Method("importance regret", "", builders[number], Rung.wanted_regret),)


def _with_critic() -> tuple[Method, ...]:
    """The policy's potentials are those of the bandit; the critic has one of its own."""
    joint = "regret + value error"
    return (
        *_plain(),
        Method("value error", "", targets.build_critic, None, has_critic=True, is_ordered=False),
        Method(joint, "", targets.build_joint, Rung.wanted_regret, has_critic=True),
    )


def _drifting(weighted_fn: Callable) -> tuple[Method, ...]:
    """A buffer that lags, as it is and weighted to the current law."""
    stale, weighted = "stale data", "drift weights"
    stale_regret, stale_kl = (functools.partial(_stale, fn) for fn in (regret, kl))
    return (
        Method("sampled regret", stale, _regret_on(targets.stale_inputs), Rung.wanted_regret,
               stale_regret),
        Method("sampled regret", weighted, _regret_on(weighted_fn), Rung.wanted_regret),
        Method("KL", stale, _kl_on(targets.stale_inputs), Rung.wanted_kl, stale_kl),
        Method("KL", weighted, _kl_on(weighted_fn), Rung.wanted_kl),
    )  # fmt: skip


def _visiting() -> tuple[Method, ...]:
    """The states that the policy met; how they would move with it is not in the data."""
    return (
        Method("sampled regret", "visits frozen", _regret_on(targets.visited_inputs),
               Rung.wanted_regret, _frozen_visits),
        Method("KL", "", _kl_on(targets.visited_inputs), Rung.wanted_kl),
    )  # fmt: skip


def _delayed() -> tuple[Method, ...]:
    """Sums over episodes, discounted for the delay, as they are paid and divided by it."""
    paid, divided = (
        functools.partial(targets.build_episodes, factor=f) for f in (DISCOUNT**DELAY, 1.0)
    )
    return (
        Method("sampled regret", "as paid", paid, Rung.wanted_regret, _late),
        Method("sampled regret", "delay divided out", divided, Rung.wanted_regret),
        Method("KL", "", _kl_on(targets.fresh_inputs), Rung.wanted_kl),
    )


def _remembering() -> tuple[Method, ...]:
    """Whole episodes through the memory, and single transitions with an empty one."""
    kept, dropped = {"policy": targets.REMEMBERING}, {"policy": targets.FORGETFUL}
    inputs = targets.shown_inputs
    return (
        Method("sampled regret", "", _regret_on(inputs, **kept), Rung.wanted_regret),
        Method("KL", "", _kl_on(inputs, **kept), Rung.wanted_kl),
        Method("KL", "memory dropped", _kl_on(inputs, **dropped), Rung.wanted_kl, _memoryless),
    )

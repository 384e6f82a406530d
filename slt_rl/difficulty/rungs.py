"""The rungs of the ladder: what each changes, where its critical points are, what is exact."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from slt_rl.difficulty.protocol import (
    ACTION_SCALE,
    CLASSES,
    CURRENT,
    CURRENT_AMPLITUDE,
    DEAD_BIAS,
    DELAY,
    DISCOUNT,
    HIDDEN,
    NUM_FEATURES,
    STALE,
    STALE_AMPLITUDE,
    TAU,
)
from toy_models import superposition as tms
from toy_models import superposition_rungs as rungs
from toy_models import superposition_visitation as visits

VISITATION = visits.Visitation(TAU, ACTION_SCALE)


class Population(NamedTuple):
    """An exact potential under a law.

    Attributes:
        potential_fn: `(params, center, law) -> []`, one of this module.
        law: `superposition_rungs.Law`.
        name: Of the pair; equal names mean equal potentials.
    """

    potential_fn: Callable[[Any, Any, Any], jax.Array]
    law: rungs.Law
    name: str


def regret(params, center, law):
    """Regret of the one-step problem."""
    del center
    return rungs.law_regret(params, law)


def kl(params, center, law):
    """Divergence from the frozen policy."""
    return rungs.law_kl(params, center, law, sigma=ACTION_SCALE)


def average_regret(params, center, law):
    """Regret of the agent whose policy decides what it meets next."""
    del center, law
    return visits.visitation_regret(params, VISITATION)


class Rung(NamedTuple):
    """One difficulty.

    Attributes:
        number: Its place on the ladder.
        title: What is difficult.
        points: Parameters of each class at which the rung is measured.
        laws: For each class the law of interactions now.
        stale_law: The law under which the buffer was collected, if another.
        regret_fn: Exact regret `(params, center, law) -> []`.
    """

    number: int
    title: str
    points: dict[str, tms.Params]
    laws: dict[str, rungs.Law]
    stale_law: rungs.Law | None = None
    regret_fn: Callable[[Any, Any, Any], jax.Array] = regret

    def wanted_regret(self, label: str) -> Population:
        """The regret whose coefficient is asked for at a class."""
        # The scale of rewards is a temperature: what is asked for is the value at unit scale.
        law = self.laws[label]._replace(scale=jnp.asarray(1.0))
        return Population(self.regret_fn, law, f"{self.number} regret {label}")

    def wanted_kl(self, label: str) -> Population:
        """The divergence whose coefficient is asked for at a class."""
        return Population(kl, self.laws[label], f"{self.number} kl {label}")


def ladder_rungs() -> tuple[Rung, ...]:
    """All rungs, in their order."""
    plain = _points(lambda label: tms.critical_point(label, NUM_FEATURES))
    uniform = rungs.uniform_law(NUM_FEATURES)

    def same(law):
        return dict.fromkeys(CLASSES, law)

    paid_late = uniform._replace(scale=jnp.asarray(DISCOUNT**DELAY))
    masked = rungs.uniform_law(NUM_FEATURES, hidden=HIDDEN)
    return (
        Rung(0, "supervised", plain, same(uniform)),
        Rung(1, "bandit", plain, same(uniform)),
        Rung(2, "learned critic", plain, same(uniform)),
        _drift_rung(),
        _visitation_rung(),
        Rung(5, "delayed reward", plain, same(paid_late)),
        Rung(6, "masked observation", plain, same(masked)),
        _amplitude_rung(),
        Rung(8, "memory", plain, same(uniform)),
    )


def _points(point_fn: Callable[[tms.PhaseClass], tms.Params]) -> dict[str, tms.Params]:
    """The parameters of each class, the dead feature of class 5 deep in its flat region."""
    points = {label: point_fn(tms.parse_class(label)) for label in CLASSES}
    dead = {"W": points["5"]["W"], "b": points["5"]["b"].at[-1].set(DEAD_BIAS)}
    return {**points, "5": dead}


def _drift_rung() -> Rung:
    points = _points(lambda label: rungs.drifted_point(label, CURRENT, NUM_FEATURES))
    current = rungs.drifted_law(CURRENT, NUM_FEATURES)
    laws = dict.fromkeys(CLASSES, current)
    return Rung(3, "drift", points, laws, rungs.drifted_law(STALE, NUM_FEATURES))


def _amplitude_rung() -> Rung:
    last, now = 1 / NUM_FEATURES, {"amplitude": CURRENT_AMPLITUDE}
    points = _points(lambda label: rungs.drifted_point(label, last, NUM_FEATURES, **now))
    laws = dict.fromkeys(CLASSES, rungs.drifted_law(last, NUM_FEATURES, **now))
    stale = rungs.drifted_law(last, NUM_FEATURES, amplitude=STALE_AMPLITUDE)
    return Rung(7, "drift of amplitude", points, laws, stale)


def _visitation_rung() -> Rung:
    points = _points(lambda label: visits.visited_point(label, VISITATION, NUM_FEATURES))
    uniform = rungs.uniform_law(NUM_FEATURES)
    laws = {
        label: uniform._replace(probabilities=visits.visitation_law(point, VISITATION))
        for label, point in points.items()
    }
    return Rung(4, "policy-dependent visitation", points, laws, None, average_regret)


@functools.cache
def limits() -> dict[str, float]:
    """Exact learning coefficient of each class, the same on every rung."""
    known = {c: tms.exact_llc(tms.parse_class(c), NUM_FEATURES) for c in CLASSES}
    return {label: value[0] for label, value in known.items() if value is not None}

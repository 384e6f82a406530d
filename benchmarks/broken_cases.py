"""Runs that are broken on purpose, each with the words that name what is wrong with it.

A run is caught if it is not "trusted" and one of its flags, or the message of a refusal, has one of
the words; for a regime, if the regime is one of the words.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import slt_rl
import toy_models
from benchmarks.broken_potentials import (
    parity_regret_by_weights,
    root_of_sum,
    saddle_of_product,
    saddle_quartic,
    smooth_root,
    softmax_gap_regret,
    sum_of_absolute_values,
)
from slt_rl import chains
from slt_rl.posterior import largest_curvature
from toy_models import deep_linear, exact

NBETA, LOCALIZATION = 1e4, 10.0
STEP = ("step",)
RELAXED = ("relax", "run longer", "run more", "longer chain", "equilibr", "unexplored")
CENTER = ("center", "not a minimum", "anchor", "negative estimate")
SADDLE = ("saddle", "not a minimum", "negative estimate", "below the center")
ROOT = (
    "not smooth",
    "not be smooth",
    "square root",
    "kink",
    "gradient at the center is not finite",
)
NOISE = ("noise", "larger batch", "minibatch")
NO_EXPONENT = ("no finite", "not a minimum", "infinity", "negative estimate", "log nbeta")
HEAVY = ("renormaliz", "weights", "not a minimum", "negative estimate", "heavy", "center")


@dataclasses.dataclass(frozen=True)
class BrokenCase:
    """A run that must not be trusted.

    Attributes:
        group: What is wrong.
        base: What it is done to.
        run: `key -> LLCEstimate`.
        reasons: Words, one of which must occur in a flag.
        regimes: Regimes that say what is wrong; the verdict then does not matter.
        reference: The value a sound run would find; None where there is none.
    """

    group: str
    base: str
    run: Callable[[jax.Array], slt_rl.LLCEstimate]
    reasons: tuple[str, ...] = ()
    regimes: tuple[str, ...] = ()
    reference: float | None = None

    @property
    def name(self) -> str:
        """Unique among the cases."""
        return f"{self.group}: {self.base}"


@functools.lru_cache
def bases() -> tuple[toy_models.ToyProblem, ...]:
    """Sound problems of several kinds: regular, singular, stiff, flat."""
    return (
        exact.regular_quadratic(),
        exact.regular_quadratic(tuple(np.geomspace(1.0, 1e-2, 8))),
        exact.separable(),
        deep_linear.deep_linear((2, 2, 2)),
        deep_linear.benchmark_nets()[0],
    )


def reference_of(problem: toy_models.ToyProblem, localization: float = LOCALIZATION):
    """The exact value at finite temperature, or the limit where only that is known."""
    if problem.finite_llc is None:
        return problem.llc
    return float(problem.finite_llc(NBETA, localization))


def estimate(potential, params, key, **arguments) -> slt_rl.LLCEstimate:
    """An estimate at the temperature and localization of the sweep."""
    fixed = {"nbeta": NBETA, "localization": LOCALIZATION} | arguments
    return slt_rl.estimate_llc(key, potential, params, **fixed)


def _position(params):
    return params


@functools.lru_cache
def stiffest_frequency(number: int) -> float:
    """Square root of the largest curvature of `U` at the positions of a sound run of a base.

    Not from the run's own step, which may be smaller than this curvature asks for: then ten times
    more would be no fault.
    """
    problem = bases()[number]
    sound = estimate(
        problem.potential,
        problem.params,
        jax.random.key(7),
        observe_fn=_position,
        observe_every=chains.BLOCK_LENGTH,
    )
    met = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), sound.observations)
    curvatures = jax.lax.map(
        lambda w: largest_curvature(jax.random.key(8), problem.potential, None, params=w), met
    )
    return float(NBETA * np.max(curvatures) + LOCALIZATION) ** 0.5


def with_step(key: jax.Array, *, number: int, factor: float, kinetic: bool) -> slt_rl.LLCEstimate:
    """A given sampler whose step is that of a sound run times a factor, nothing else adapted."""
    problem, frequency = bases()[number], stiffest_frequency(number)
    if kinetic:
        sampler: Any = slt_rl.KineticLangevin(factor * 0.5 / frequency, 0.1 * frequency)
    else:
        sampler = slt_rl.SGLD(factor * 0.1 / frequency**2)
    # A large step must be wrong by its size alone, not by a chain that is too short as well.
    num_draws = 16_000 if factor > 1 else 4_000
    return estimate(problem.potential, problem.params, key, sampler=sampler, num_draws=num_draws)


def step_cases() -> Iterator[BrokenCase]:
    """Ten times too large, thirty times too small, and too short."""
    for number, problem in enumerate(bases()):
        for kinetic in (True, False):
            base = f"{problem.name}, {'kinetic Langevin' if kinetic else 'SGLD'}"
            truth = reference_of(problem)
            large = functools.partial(with_step, number=number, factor=10.0, kinetic=kinetic)
            small = functools.partial(with_step, number=number, factor=1 / 30, kinetic=kinetic)
            yield BrokenCase("step x10", base, large, STEP, reference=truth)
            yield BrokenCase("step /30", base, small, RELAXED, reference=truth)
        yield BrokenCase(
            "too short",
            problem.name,
            functools.partial(
                estimate, problem.potential, problem.params, num_draws=32, num_burnin=0
            ),
            (*RELAXED, "effective draws"),
            reference=reference_of(problem),
        )


def displaced(problem, drop: float, key: jax.Array) -> slt_rl.LLCEstimate:
    """An estimate around a center whose loss is `drop/nbeta` above the minimum."""
    leaves, treedef = jax.tree.flatten(problem.params)
    keys = jax.random.split(jax.random.fold_in(key, 1), len(leaves))
    noise = [jax.random.normal(k, np.shape(leaf)) for k, leaf in zip(keys, leaves, strict=True)]

    def moved(scale):
        return jax.tree.unflatten(
            treedef, [leaf + scale * z for leaf, z in zip(leaves, noise, strict=True)]
        )

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        above = NBETA * float(problem.potential(moved(middle)) - problem.potential(moved(0.0)))
        low, high = (low, middle) if above > drop else (middle, high)
    return estimate(problem.potential, moved(high), key)


def center_cases() -> Iterator[BrokenCase]:
    """Centers beside the minimum, and saddles, where the gradient vanishes too."""
    for problem in bases():
        for drop in (5.0, 50.0):
            run = functools.partial(displaced, problem, drop)
            base = f"{problem.name}, nbeta excess {drop:g}"
            truth = reference_of(problem)
            yield BrokenCase("center off the minimum", base, run, CENTER, reference=truth)
    for depth in (0.01, 0.1, 1.0):
        run = functools.partial(estimate, functools.partial(saddle_quartic, depth), jnp.zeros(4))
        yield BrokenCase("saddle", f"double well of depth {depth**2 / 4:g}", run, SADDLE)
    for strength in (0.1, 1.0):
        potential = functools.partial(saddle_of_product, strength)
        run = functools.partial(estimate, potential, (jnp.zeros((3, 3)), jnp.zeros((3, 3))))
        yield BrokenCase("saddle", f"linear net at zero, teacher {strength:g}", run, SADDLE)


def root_cases() -> Iterator[BrokenCase]:
    """A square root of a sum of squares doubles the learning coefficient."""
    potentials = {
        "|w|, gradient NaN at the center": root_of_sum,
        "|w|, gradient made safe": smooth_root,
        "sum |w_i|": sum_of_absolute_values,
    }
    for name, potential in potentials.items():
        for size in (2, 8):
            run = functools.partial(estimate, potential, jnp.zeros(size))
            yield BrokenCase("square-root loss", f"{name}, {size} parameters", run, ROOT)


def noisy(key: jax.Array, *, problem, batch_size: int, factor: float) -> slt_rl.LLCEstimate:
    """SGLD without control variate on noisy labels, the step sound for full data times a factor."""
    data = problem.dataset(jax.random.fold_in(key, 1), 2_000)
    nbeta = 2_000 / np.log(2_000)
    step_size = factor * 0.1 / (nbeta * 2.0 + LOCALIZATION)
    return slt_rl.estimate_llc(
        key,
        problem.loss_fn,
        problem.params,
        data,
        localization=LOCALIZATION,
        sampler=slt_rl.SGLD(step_size),
        batch_size=batch_size,
        num_draws=8_000,
    )


def noise_cases() -> Iterator[BrokenCase]:
    """Minibatches at `nbeta/b` near 60."""
    for curvatures in ((2.0, 1.0, 0.5, 0.25), (2.0,) * 8):
        problem = exact.noisy_regression(curvatures)
        nbeta = 2_000 / np.log(2_000)
        batch_size = max(1, round(nbeta / 60))
        assert problem.finite_llc is not None
        truth = float(problem.finite_llc(nbeta, LOCALIZATION))
        for factor in (1.0, 3.0):
            yield BrokenCase(
                "minibatch noise",
                f"noisy regression of {len(curvatures)}, c = {0.1 * factor:g}",
                functools.partial(noisy, problem=problem, batch_size=batch_size, factor=factor),
                NOISE,
                reference=truth,
            )


def localization_cases() -> Iterator[BrokenCase]:
    """A tether a hundred times stronger: the number is right for it, and the regime must say so."""
    for problem in bases():
        run = functools.partial(
            estimate, problem.potential, problem.params, localization=100 * LOCALIZATION
        )
        regimes = ("localization-dominated",)
        truth = reference_of(problem)
        yield BrokenCase("localization x100", problem.name, run, (), regimes, truth)


def reinforcement_cases() -> Iterator[BrokenCase]:
    """Regrets without a learning coefficient, or whose sample has the wrong one."""
    for gap in (2.0, 5.0, 8.0):
        run = functools.partial(estimate, softmax_gap_regret, jnp.array([gap / 2, -gap / 2]))
        group = "softmax bandit at a deterministic optimum"
        yield BrokenCase(group, f"logit gap {gap:g}", run, NO_EXPONENT)
    for number in (1_000, 10_000):
        for baseline in (0.0, 0.5):
            yield BrokenCase(
                "importance-sampled parity regret",
                f"{number} trajectories, baseline {baseline:g}",
                functools.partial(parity_regret_by_weights, number, baseline),
                HEAVY,
                reference=0.25,
            )


def cases() -> list[BrokenCase]:
    """All broken runs."""
    makers = (
        step_cases,
        center_cases,
        root_cases,
        noise_cases,
        localization_cases,
        reinforcement_cases,
    )
    return [case for maker in makers for case in maker()]


def is_caught(case: BrokenCase, row: dict[str, Any]) -> bool:
    """Whether the row names what is wrong."""
    if case.regimes:
        return row["regime"] in case.regimes
    words = " ".join(row["flags"]).lower()
    return row["verdict"] != "trusted" and any(reason in words for reason in case.reasons)


def is_harmless(row: dict[str, Any]) -> bool:
    """Whether the number came out right to 5 % all the same."""
    if row["reference"] is None or row["estimate"] is None:
        return False
    return math.isclose(row["estimate"], row["reference"], rel_tol=0.05)

"""From centers to estimates: anchor, calibrate, sample, judge. What both public calls share."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from slt_rl import chains
from slt_rl.calibration import Plan, calibrate
from slt_rl.estimators import mean_llc
from slt_rl.result import LLCEstimate
from slt_rl.verdict import Context, judge

GIVEN_NUM_DRAWS = 1000
# Chains are lengthened until the interval meets the tolerance, to at most this multiple.
MAX_LENGTHENING = 8


class Settings(NamedTuple):
    """How to sample: checked arguments of the public calls."""

    sampler: Any
    num_chains: int
    num_draws: int | None
    num_burnin: int | None
    batch_size: int | None
    tolerance: float
    observer: chains.Observer | None = None


def estimate_centers(
    key: jax.Array, problem: chains.Problem, settings: Settings, *, first: int = 0
) -> list[LLCEstimate]:
    """Anchors, calibrates, samples and judges all centers of a problem.

    Args:
        key: random key, consumed; center `i` samples with `fold_in` of `first + i`.
        problem: centers and target.
        settings: how to sample.
        first: index of the first center, where the problem is a chunk of a longer one.

    Raises:
        ValueError: if the loss at a center is not finite.
    """
    key_anchor, key_calibrate, key_sample = jax.random.split(key, 3)
    anchors = chains.find_anchors(key_anchor, problem)
    if not np.all(np.isfinite(np.asarray(anchors.loss))):
        bad = first + np.flatnonzero(~np.isfinite(np.asarray(anchors.loss)))
        raise ValueError(f"loss_fn: expected a finite loss at the center, got {bad} not finite")
    keys = chains.center_keys(key_sample, problem.num_centers, first)
    plan = _plan(key_calibrate, keys, problem, anchors, settings)
    draws, observed = _sample(keys, problem, anchors, plan, settings)
    estimates = [
        judge(_center(draws, i).after(plan.num_burnin), context)
        for i, context in enumerate(_contexts(problem, anchors, plan, settings, draws))
    ]
    if settings.observer is None:
        return estimates
    return [
        dataclasses.replace(e, observations=jax.tree.map(lambda x, i=i: x[i], observed))
        for i, e in enumerate(estimates)
    ]


def _plan(key, keys, problem, anchors, settings: Settings) -> Plan:
    """Calibrates and burns in, or wraps a given sampler as it is."""
    if settings.sampler is None:
        plan = calibrate(
            key,
            keys,
            problem,
            anchors=anchors,
            num_chains=settings.num_chains,
            tolerance=settings.tolerance,
            batch_size=settings.batch_size,
            num_burnin=settings.num_burnin,
        )
        draws = plan.num_draws if settings.num_draws is None else settings.num_draws
        return plan._replace(num_draws=draws)
    count = problem.num_centers
    sampler = jax.tree.map(
        lambda x: jnp.broadcast_to(jnp.asarray(x, problem.nbeta.dtype), (count,)), settings.sampler
    )
    state = chains.start_chains(
        keys,
        problem,
        anchors,
        sampler=sampler,
        num_chains=settings.num_chains,
        batch_size=settings.batch_size,
    )
    draws = settings.num_draws or GIVEN_NUM_DRAWS
    burnin = draws // 2 if settings.num_burnin is None else settings.num_burnin
    return Plan(sampler, state, burnin, draws, 60, np.ones(count, bool))


def _sample(
    keys, problem, anchors, plan: Plan, settings: Settings
) -> tuple[chains.Draws, chains.PyTree]:
    """Runs the chains for the planned length, and longer where the interval asks for it."""
    total = plan.num_burnin + plan.num_draws
    free = settings.num_draws is None and settings.sampler is None
    longest = plan.num_burnin + plan.num_draws * (MAX_LENGTHENING if free else 1)
    observer = _aligned(settings.observer, plan)
    blocks = chains.observe_chains(
        keys,
        problem,
        anchors,
        sampler=plan.sampler,
        state=plan.state,
        block_length=chains.BLOCK_LENGTH,
        batch_size=settings.batch_size,
        observer=observer,
    )
    kept: list[chains.Draws] = []
    observed: list[chains.PyTree] = []
    while True:
        _, block, observations = next(blocks)
        kept.append(block)
        observed.append(observations)
        length = len(kept) * chains.BLOCK_LENGTH
        if length >= total:
            draws = chains.Draws(
                *(np.concatenate(x, axis=2)[:, :, :total] for x in zip(*kept, strict=True))
            )
            if total >= longest or _precise(draws.after(plan.num_burnin), problem, settings):
                return draws, _kept(observed, observer, plan.num_burnin, total)
            total = min(2 * total, longest)


def _aligned(observer: chains.Observer | None, plan: Plan) -> chains.Observer | None:
    """The observer with the phase that observes the first draw after the burn-in."""
    if observer is None:
        return None
    phase = (plan.state.step + plan.num_burnin) % observer.every
    return dataclasses.replace(observer, phase=phase)


def _kept(observed: list, observer: chains.Observer | None, start: int, stop: int):
    """Joins the observations of the draws `start <= draw < stop`: one in each group of `every`."""
    if observer is None:
        return None
    first, every = start // observer.every, observer.every
    count = -(-(stop - start) // every)
    return jax.tree.map(
        lambda *x: np.concatenate(x, axis=2)[:, :, first : first + count], *observed
    )


def _precise(draws: chains.Draws, problem, settings: Settings) -> bool:
    """Whether every finite center's 95% interval is within the tolerance."""
    for excess, alive in zip(draws.excess_loss, draws.alive, strict=True):
        if alive.all():
            estimate = mean_llc(excess, float(problem.nbeta))
            if 1.96 * estimate.sem > settings.tolerance * abs(estimate.mean):
                return False
    return True


def _center(draws: chains.Draws, index: int) -> chains.Draws:
    return chains.Draws(*(x[index] for x in draws))


def _contexts(problem, anchors, plan, settings, draws) -> Iterator[Context]:
    """What the verdict needs of each center beside its draws."""
    nbeta, localization = float(problem.nbeta), float(problem.localization)
    leaves = jax.tree.leaves(problem.centers)
    sizes = np.array([leaf[0].size for leaf in leaves])
    squares = jax.vmap(lambda g: optax.tree.norm(g, squared=True))(anchors.gradient)
    stiffness = nbeta * np.maximum(np.asarray(anchors.gradient_curvature, np.float64), 0)
    drops = nbeta**2 * np.asarray(squares, np.float64) / (2 * (stiffness + localization + 1e-30))
    step_sizes = np.broadcast_to(np.asarray(plan.sampler.step_size), (problem.num_centers,))
    for i in range(problem.num_centers):
        yield Context(
            nbeta,
            localization,
            float(step_sizes[i]),
            settings.tolerance,
            sizes,
            float(drops[i]),
            bool(plan.stable[i]),
            plan.num_gradients + int(draws.num_gradients[i].sum()),
        )

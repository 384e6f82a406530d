"""Chooses the sampler: dynamics, step size, friction and chain length, from one tolerance.

A first calibration. The burn-in is the pilot: at 1, 2, 4, ... blocks the largest curvature is
measured where the chains are, and the step shrinks to it; where a chain heats up or leaves the
finite numbers, the burn-in starts again with a smaller step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl import chains
from slt_rl.posterior import Anchor
from slt_rl.samplers import SGLD, KineticLangevin

MAX_RESTARTS = 8
# Power iteration approaches the largest eigenvalue from below; steps keep this much distance.
CURVATURE_MARGIN = 1.2
# A stable chain has kinetic temperature 1; sampling error over half a block stays well below this.
HOT = 1.5
POWER_ITERATIONS = 20


class Plan(NamedTuple):
    """A sampler, chains to go on from, and how long to run them.

    Args:
        sampler: its leaves have axis `[center]`.
        state: chains after the burn-in (calibrated), or at the center (given sampler).
        num_burnin: draws still to be dropped.
        num_draws: draws to keep, at least.
        num_gradients: gradient evaluations spent per center, Hessian-vector products as two.
        stable: `[center]`, whether the burn-in stayed finite and cool.
    """

    sampler: Any
    state: chains.ChainState
    num_burnin: int
    num_draws: int
    num_gradients: int
    stable: np.ndarray


class _Design(NamedTuple):
    """A sampler for every center and its relaxation time in steps, `[center]`."""

    sampler: Any
    relaxation: np.ndarray


class _Run(NamedTuple):
    """What all steps of a calibration share."""

    key: jax.Array
    keys: jax.Array
    problem: chains.Problem
    anchors: Anchor
    num_chains: int
    tolerance: float
    batch_size: int | None


def calibrate(
    key: jax.Array,
    keys: jax.Array,
    problem: chains.Problem,
    *,
    anchors: Anchor,
    num_chains: int,
    tolerance: float,
    batch_size: int | None = None,
    num_burnin: int | None = None,
) -> Plan:
    """Chooses a sampler for every center of `problem` and burns its chains in.

    Full-data and exact gradients get kinetic Langevin, minibatches get SGLD with the anchored
    control variate.

    Args:
        key: random key, consumed.
        keys: `[center]` keys of the chains, the same for the draws to come.
        problem: centers and target.
        anchors: from `find_anchors`.
        num_chains: chains per center.
        tolerance: relative error to aim at; the step sizes follow from it.
        batch_size: examples per minibatch, `None` for full data.
        num_burnin: length of the burn-in; by default two relaxation times within bounds.
    """
    run = _Run(key, keys, problem, anchors, num_chains, tolerance, batch_size)
    design_fn = _design_kinetic if batch_size is None else _design_sgld
    curvature = np.asarray(anchors.curvature, np.float64)
    shrink = np.ones(problem.num_centers)
    spent = 60
    for _ in range(MAX_RESTARTS):
        burnin = _burn_in(run, design_fn, curvature, shrink, num_burnin)
        spent += burnin.num_gradients
        curvature = burnin.curvature
        if burnin.stable.all():
            break
        shrink = np.where(burnin.stable, shrink, shrink / burnin.reduction)
    _, num_draws = _lengths(burnin.design.relaxation)
    return Plan(burnin.design.sampler, burnin.state, 0, num_draws, spent, burnin.stable)


class _BurnIn(NamedTuple):
    """How a burn-in ended; `reduction` is by how much the step must shrink where not stable."""

    design: _Design
    state: chains.ChainState
    curvature: np.ndarray
    stable: np.ndarray
    reduction: np.ndarray
    num_gradients: int


def _burn_in(
    run: _Run, design_fn: Callable, curvature: np.ndarray, shrink: np.ndarray, length: int | None
) -> _BurnIn:
    """Runs the burn-in, shrinking steps to the curvature that the chains meet."""
    design = design_fn(run, curvature, shrink)
    state = chains.start_chains(
        run.keys,
        run.problem,
        run.anchors,
        sampler=design.sampler,
        num_chains=run.num_chains,
        batch_size=run.batch_size,
    )
    num_blocks, spent, check = 0, 0, 1
    while True:
        state, draws = _one_block(run, design.sampler, state)
        num_blocks += 1
        spent += int(draws.num_gradients[0].sum())
        stable, reduction = _is_stable(draws), np.full(run.problem.num_centers, 3.0)
        planned = _lengths(design.relaxation)[0] if length is None else length
        done = num_blocks * chains.BLOCK_LENGTH >= planned
        if num_blocks >= check or done or not stable.all():
            check *= 2
            positions = state.sampler_state.position
            key = jax.random.fold_in(run.key, num_blocks)
            ends = chains.curvatures_at(
                key, run.problem, positions, num_iterations=POWER_ITERATIONS
            )
            ends = np.nan_to_num(np.asarray(ends, np.float64)).max(axis=1)
            curvature = np.where(stable, np.maximum(curvature, ends), curvature)
            spent += run.num_chains * 2 * POWER_ITERATIONS
            if run.batch_size is not None:
                heating = _heating(run, key, positions, design.sampler)
                stable = stable & (heating <= run.tolerance)
                reduction = np.clip(heating / run.tolerance, 1.5, 10.0)
            design = design_fn(run, curvature, shrink)
        if done or not stable.all():
            return _BurnIn(design, state, curvature, stable, reduction, spent)


def _one_block(run: _Run, sampler, state):
    blocks = chains.run_chains(
        run.keys,
        run.problem,
        run.anchors,
        sampler=sampler,
        state=state,
        block_length=chains.BLOCK_LENGTH,
        batch_size=run.batch_size,
    )
    return next(blocks)


def _is_stable(draws: chains.Draws) -> np.ndarray:
    """Whether all chains of a center are finite and cool, `[center]`."""
    # Samplers without momenta record NaN; a diverging chain must not overflow the mean.
    heat = np.nan_to_num(np.asarray(draws.kinetic_temperature, np.float64), nan=1.0)
    heat = np.minimum(heat, 1e9)
    cool = heat[..., chains.BLOCK_LENGTH // 2 :].mean(axis=(1, 2)) < HOT
    return np.asarray(draws.alive).all(axis=(1, 2)) & cool


def _stiffness(problem: chains.Problem, curvature: np.ndarray) -> np.ndarray:
    """`kappa_max = nbeta h_max + localization`, at least 1 so that a step always exists."""
    stiffness = float(problem.nbeta) * CURVATURE_MARGIN * curvature
    return np.maximum(stiffness + float(problem.localization), 1.0)


def _leaf(values: np.ndarray, problem: chains.Problem) -> jax.Array:
    return jnp.asarray(values, problem.nbeta.dtype)


def _design_kinetic(run: _Run, curvature: np.ndarray, shrink: np.ndarray) -> _Design:
    """Kinetic Langevin: step from the tolerance, friction from the range of frequencies.

    In units of the stiffest frequency the slowest direction that localization allows has the
    frequency `omega = sqrt(localization/kappa_max)`. Friction `2 omega` damps it critically, 0.3
    mixes the energy of stiff directions best: the geometric mean serves both.
    """
    stiffness = _stiffness(run.problem, curvature)
    # The error of the splitting is of second order in the step.
    step = shrink * min(0.7, 0.5 * (run.tolerance / 0.05) ** 0.5)
    omega = np.sqrt(float(run.problem.localization) / stiffness)
    friction = np.clip(np.sqrt(0.3 * 2 * omega), 0.03, 0.5)
    root = np.sqrt(stiffness)
    sampler = KineticLangevin(_leaf(step / root, run.problem), _leaf(friction * root, run.problem))
    # Overdamped amplitudes decay at omega^2/friction; without localization nothing is known.
    slow = np.where(omega > 0, friction / np.where(omega > 0, omega, 1) ** 2, 0)
    return _Design(sampler, np.maximum(2 / friction, slow) / step)


def _design_sgld(run: _Run, curvature: np.ndarray, shrink: np.ndarray) -> _Design:
    """SGLD with the anchored control variate, `c = step kappa_max` from the tolerance."""
    stiffness = _stiffness(run.problem, curvature)
    # A stiff direction is inflated by 1/(1 - c/4): c = 2 tolerance keeps it to tolerance/2.
    epsilon = shrink * 2 * run.tolerance / stiffness
    slowest = np.maximum(float(run.problem.localization), stiffness / 1e3)
    return _Design(SGLD(_leaf(epsilon, run.problem), control_variate=True), 4 / (epsilon * slowest))


def _heating(run: _Run, key: jax.Array, positions: Any, sampler: Any) -> np.ndarray:
    """Relative rise of the temperature by gradient noise of variance `s^2`: `epsilon s^2 / 4`."""
    assert run.batch_size is not None
    noise = chains.gradient_noise(
        key, run.problem, run.anchors, positions=positions, batch_size=run.batch_size
    )
    heating = np.asarray(sampler.step_size, np.float64) * np.asarray(noise, np.float64) / 4
    return np.nan_to_num(heating, nan=np.inf)


def _lengths(relaxation: np.ndarray) -> tuple[int, int]:
    """Burn-in and draws of two relaxation times of the slowest center, within bounds."""
    slowest = 2 * float(np.max(relaxation))
    return int(np.clip(slowest, 256, 6_000)), int(np.clip(slowest, 512, 10_000))

"""Chooses the sampler: dynamics, step size, friction and chain length, from one tolerance.

A first calibration: curvature by power iteration at the centre and at the ends of a pilot run,
step from the tolerance, and a retry with a smaller step wherever the pilot was not stable.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl import chains
from slt_rl.posterior import Anchor
from slt_rl.samplers import SGLD, KineticLangevin

PILOT_LENGTH = chains.BLOCK_LENGTH
MAX_PILOTS = 8
# Power iteration approaches the largest eigenvalue from below; steps keep this much distance.
CURVATURE_MARGIN = 1.2
# A stable pilot has kinetic temperature 1; sampling error over a pilot stays well below this.
HOT = 1.5


class Plan(NamedTuple):
    """A calibrated sampler and how long to run it.

    Args:
        sampler: its leaves have axis `[centre]`.
        num_burnin: steps to discard.
        num_draws: steps to keep, at least.
        relaxation: `[centre]`, steps in which the slowest direction that localization allows
            forgets its past.
        num_gradients: gradient evaluations spent per centre, Hessian-vector products as two.
        stable: `[centre]`, whether a pilot ran without leaving the finite numbers or heating up.
    """

    sampler: Any
    num_burnin: int
    num_draws: int
    relaxation: np.ndarray
    num_gradients: int
    stable: np.ndarray


def calibrate(
    key: jax.Array,
    problem: chains.Problem,
    anchors: Anchor,
    *,
    num_chains: int,
    tolerance: float,
    batch_size: int | None = None,
) -> Plan:
    """Chooses a sampler for every centre of `problem`.

    Full-data and exact gradients get kinetic Langevin, minibatches get SGLD with the anchored
    control variate.

    Args:
        key: random key, consumed.
        problem: centres and target.
        anchors: from `find_anchors`.
        num_chains: chains per centre of the pilot.
        tolerance: relative error to aim at; the step sizes follow from it.
        batch_size: examples per minibatch, `None` for full data.
    """
    if batch_size is None:
        return _calibrate_kinetic(key, problem, anchors, num_chains, tolerance)
    return _calibrate_sgld(key, problem, anchors, num_chains, tolerance, batch_size)


def _stiffness(problem, curvature) -> np.ndarray:
    """`kappa_max = nbeta h_max + localization`, at least 1 so that a step always exists."""
    stiffness = float(problem.nbeta) * CURVATURE_MARGIN * np.asarray(curvature, np.float64)
    return np.maximum(stiffness + float(problem.localization), 1.0)


def _leaf(values: np.ndarray, problem) -> jax.Array:
    dtype = jnp.result_type(*jax.tree.leaves(problem.centres))
    return jnp.asarray(values, dtype)


def _kinetic_step(tolerance: float) -> float:
    """Step in units of the fastest period: the error of the splitting is of second order."""
    return min(0.7, 0.5 * (tolerance / 0.05) ** 0.5)


def _kinetic(problem, stiffness: np.ndarray, step: np.ndarray) -> tuple[Any, np.ndarray]:
    """The sampler, and the relaxation time in steps of the slowest direction.

    In units of the stiffest frequency the slowest direction has the frequency
    `omega = sqrt(localization/kappa_max)`. Friction `2 omega` would damp it critically, but
    leaves the energy of stiff directions unmixed for `1/omega`: 0.1 is the compromise.
    """
    omega = np.sqrt(float(problem.localization) / stiffness)
    friction = np.clip(2 * omega, 0.1, 0.5)
    root = np.sqrt(stiffness)
    sampler = KineticLangevin(_leaf(step / root, problem), _leaf(friction * root, problem))
    # Overdamped amplitudes decay at omega^2/friction; a flat direction (omega = 0) has no time.
    slow = np.where(omega > 0, friction / np.where(omega > 0, omega, 1) ** 2, 0)
    return sampler, np.maximum(2 / friction, slow) / step


def _pilot(key, problem, anchors, sampler, num_chains, batch_size=None):
    """Runs a short chain; returns its end positions, draws, and where it went well."""
    keys = chains.centre_keys(key, problem.num_centres)
    state = chains.start_chains(
        keys, problem, anchors, sampler, num_chains=num_chains, batch_size=batch_size
    )
    blocks = chains.run_chains(
        keys, problem, anchors, sampler, state, block_length=PILOT_LENGTH, batch_size=batch_size
    )
    state, draws = next(blocks)
    heat = np.nan_to_num(draws.kinetic_temperature, nan=1.0)
    stable = draws.alive.all(axis=(1, 2)) & (heat[..., PILOT_LENGTH // 2 :].mean((1, 2)) < HOT)
    return state.sampler_state.position, stable


def _calibrate_kinetic(key, problem, anchors, num_chains, tolerance) -> Plan:
    curvature = np.asarray(anchors.curvature, np.float64)
    shrink = np.ones(problem.num_centres)
    for attempt in range(MAX_PILOTS):
        key_pilot, key_power = jax.random.split(jax.random.fold_in(key, attempt))
        step = shrink * _kinetic_step(tolerance)
        sampler, _ = _kinetic(problem, _stiffness(problem, curvature), step)
        positions, stable = _pilot(key_pilot, problem, anchors, sampler, num_chains)
        ends = np.asarray(chains.curvatures_at(key_power, problem, positions)).max(axis=1)
        curvature = np.where(stable, np.fmax(curvature, ends), curvature)
        if stable.all():
            break
        shrink = np.where(stable, shrink, shrink / 3)
    step = shrink * _kinetic_step(tolerance)
    sampler, relaxation = _kinetic(problem, _stiffness(problem, curvature), step)
    spent = 60 + (attempt + 1) * num_chains * (PILOT_LENGTH + 40)
    return Plan(sampler, *_lengths(relaxation), relaxation, spent, stable)


def _calibrate_sgld(key, problem, anchors, num_chains, tolerance, batch_size) -> Plan:
    curvature = np.asarray(anchors.curvature, np.float64)
    shrink = np.ones(problem.num_centres)
    for attempt in range(MAX_PILOTS):
        key_pilot, key_noise = jax.random.split(jax.random.fold_in(key, attempt))
        # A stiff direction is inflated by 1/(1 - c/4): c = 2 tolerance keeps it to tolerance/2.
        epsilon = shrink * 2 * tolerance / _stiffness(problem, curvature)
        sampler = SGLD(_leaf(epsilon, problem), control_variate=True)
        positions, stable = _pilot(key_pilot, problem, anchors, sampler, num_chains, batch_size)
        noise = chains.gradient_noise(key_noise, problem, anchors, positions, batch_size)
        # Gradient noise of variance s^2 raises the temperature by the factor 1 + epsilon s^2/4.
        heating = epsilon * np.nan_to_num(np.asarray(noise), nan=np.inf) / 4
        good = stable & (heating <= tolerance)
        if good.all():
            break
        fix = np.where(np.isfinite(heating), np.maximum(heating / tolerance, 1.0), 1.0)
        shrink = shrink / np.where(good, 1.0, np.clip(fix, 1.5, 10.0))
    stiffness = _stiffness(problem, curvature)
    relaxation = 4 / (epsilon * np.maximum(float(problem.localization), stiffness / 1e3))
    spent = 60 + (attempt + 1) * num_chains * 2 * (PILOT_LENGTH + 2)
    return Plan(sampler, *_lengths(relaxation), relaxation, spent, stable)


def _lengths(relaxation: np.ndarray) -> tuple[int, int]:
    """Burn-in and draws of two relaxation times of the slowest centre, within bounds."""
    slowest = 2 * float(np.max(relaxation))
    return int(np.clip(slowest, 200, 5_000)), int(np.clip(slowest, 400, 10_000))

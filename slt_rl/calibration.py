"""Chooses the sampler: dynamics, step size, friction, batch and chain length, from one tolerance.

The burn-in is the pilot: at 1, 2, 4, ... blocks the largest curvature is measured where the chains
are, and the step shrinks to it; where a chain heats up or leaves the finite numbers, the burn-in
starts again with a smaller step. That is a limit of the step, not a factor on what the curvature
asks for: where the curvature met later explains the cut, one reduction stays. Half of the chains
take a finer step than the other half: the difference shows the error of the step, at no cost.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from slt_rl import chains, probes
from slt_rl.block_checks import is_stable, size_of
from slt_rl.friction import choose_friction, gliding_note
from slt_rl.posterior import Anchor
from slt_rl.samplers import SGLD, KineticLangevin
from slt_rl.settings import Settings

MAX_RESTARTS = 8
POWER_ITERATIONS = 20
# By how much an unstable step is cut, and stays cut: the curvature that grows away from the center
# will be larger still than what the burn-in met.
REDUCTION = 3.0
# Steps of the finer and the coarser half of the chains, in units of the calibrated step.
KINETIC_GROUPS = (0.75, 1.25)
SGLD_GROUPS = (0.4, 1.6)
# Noise that asks for steps so many times smaller is cheaper to mend by a larger batch.
MAX_NOISE_SHRINK = 10.0
# Burn-in in relaxation times and its longest, also where chains glide with little friction; most
# blocks between two looks at the curvature: a gliding chain meets larger ones ever faster.
BURNIN, GLIDING_BURNIN = (1.25, 6_000), (2.5, 32_768)
MAX_BLOCKS_UNSEEN = 16
BATCH_GROWTH = 4


class Plan(NamedTuple):
    """A sampler, chains to go on from, and how long to run them.

    Args:
        sampler: its leaves have axes `[center, chain]`.
        state: chains after the burn-in (calibrated), or at the center (given sampler).
        batch_size: examples per gradient, `None` for full data.
        num_burnin: draws still to be dropped.
        num_draws: draws to keep, at least.
        num_gradients: gradient evaluations spent per center, Hessian-vector products as two.
        stable: `[center]`, whether the burn-in stayed finite and cool.
        heating: `[center]`, what gradient noise adds, in units of the learning coefficient.
        notes: what was chosen or mended, in words.
    """

    sampler: Any
    state: chains.ChainState
    batch_size: int | None
    num_burnin: int
    num_draws: int
    num_gradients: int
    stable: np.ndarray
    heating: np.ndarray
    notes: tuple[str, ...]


class _Design(NamedTuple):
    """A sampler, its step before the groups, relaxation time, all `[center]`; length of burn-in.

    `notes` is what was chosen, in words.
    """

    sampler: Any
    step: np.ndarray
    relaxation: np.ndarray
    burnin: tuple[float, int] = BURNIN
    notes: tuple[str, ...] = ()


class _Run(NamedTuple):
    """What all steps of a calibration share; `size` is the last block's estimate, `[center]`.

    `length` is how many steps a chain is given in all, `None` if as many as it asks for.
    `batch_size` is that of the settings, or what it has grown to.
    """

    key: jax.Array
    keys: jax.Array
    problem: chains.Problem
    anchors: Anchor
    settings: Settings
    batch_size: int | None
    length: int | None
    size: np.ndarray | None = None

    @property
    def num_chains(self) -> int:
        """Chains of each center."""
        return self.settings.num_chains

    @property
    def tolerance(self) -> float:
        """Relative error to aim at."""
        return self.settings.tolerance


def calibrate(
    key: jax.Array, keys: jax.Array, problem: chains.Problem, *, anchors: Anchor, settings: Settings
) -> Plan:
    """Chooses a sampler for every center of `problem` and burns its chains in.

    Full-data and exact gradients get kinetic Langevin, minibatches get SGLD with the anchored
    control variate. Gradient noise beyond the tolerance is mended by a smaller step, and where
    that would cost more than a tenfold, by larger batches, at last by full data.

    Args:
        key: random key, consumed.
        keys: `[center]` keys of the chains, the same for the draws to come.
        problem: centers and target.
        anchors: from `find_anchors`.
        settings: how to sample: the step sizes follow from the tolerance, and where no lengths are
            given, that of the burn-in from relaxation times, within bounds.
    """
    num_burnin, num_draws = settings.num_burnin, settings.num_draws
    length = None if num_draws is None else (num_burnin or 0) + num_draws
    run = _Run(key, keys, problem, anchors, settings, settings.batch_size, length)
    curvature = np.asarray(anchors.curvature, np.float64)
    limit = np.full(problem.num_centers, np.inf)
    spent = 60  # The anchor's own power iteration.
    for _ in range(MAX_RESTARTS):
        burnin = _burn_in(run, curvature, limit, num_burnin)
        spent += burnin.num_gradients
        curvature = burnin.curvature
        if burnin.stable.all():
            break
        limit = np.where(burnin.stable, limit, burnin.step / burnin.reduction)
        if run.batch_size is not None and _cut(run, curvature, limit) > MAX_NOISE_SHRINK:
            run, limit = _grow_batch(run), np.full(problem.num_centers, np.inf)
    return Plan(
        burnin.design.sampler,
        burnin.state,
        run.batch_size,
        0,
        _lengths(burnin.design)[1],
        spent,
        burnin.stable,
        burnin.heating,
        _notes(run, _cut(run, curvature, limit)) + burnin.design.notes + _anchoring(run, burnin),
    )


def _cut(run: _Run, curvature: np.ndarray, limit: np.ndarray) -> float:
    """How many times smaller than ordinary is the step of the worst center?"""
    ordinary = _step(run, curvature, np.full_like(limit, np.inf))
    return float(np.max(ordinary / _step(run, curvature, limit)))


def _grow_batch(run: _Run) -> _Run:
    """The next batch size; full data once a batch is no longer small beside it."""
    num_examples = probes.num_examples_of(run.anchors)
    assert num_examples is not None and run.batch_size is not None
    larger = BATCH_GROWTH * run.batch_size
    return run._replace(batch_size=larger if 2 * larger < num_examples else None)


def _notes(run: _Run, cut: float) -> tuple[str, ...]:
    """What was mended, in words."""
    notes, batch_size = [], run.settings.batch_size
    if run.batch_size != batch_size:
        now = "full data" if run.batch_size is None else f"a batch of {run.batch_size}"
        notes.append(f"remedy for gradient noise: {now} instead of a batch of {batch_size}")
    if cut > 1:
        cause = "gradient noise or instability" if run.batch_size else "instability"
        notes.append(f"remedy for {cause}: a step {cut:.2g} times smaller")
    return tuple(notes)


def _anchoring(run: _Run, burnin: "_BurnIn") -> tuple[str, ...]:
    """Names the control variate where plain minibatches would not do, worst center first."""
    if run.batch_size is None:
        return ()
    sampler = dataclasses.replace(burnin.design.sampler, control_variate=False)
    plain = _heating(run, run.key, sampler, state=burnin.state)
    if not np.any(plain > run.tolerance * burnin.size):
        return ()
    worst = int(np.argmax(plain / burnin.size))
    return (
        f"remedy for gradient noise: the anchored control variate; plain minibatches of "
        f"{run.batch_size} would add {plain[worst]:.2g} to the estimate at this step, "
        f"{burnin.heating[worst]:.2g} is left of it before it is carried to step zero",
    )


class _BurnIn(NamedTuple):
    """How a burn-in ended; `reduction` is by how much the step must shrink where not stable.

    `step` is that of the last block, of which `stable` speaks; `design` is for the blocks to come.
    `size` is the estimate of the last block, which is of some size even at the start.
    """

    design: _Design
    state: chains.ChainState
    curvature: np.ndarray
    step: np.ndarray
    stable: np.ndarray
    heating: np.ndarray
    reduction: np.ndarray
    size: np.ndarray
    num_gradients: int


def _burn_in(run: _Run, curvature: np.ndarray, limit: np.ndarray, length: int | None) -> _BurnIn:
    """Runs the burn-in, shrinking steps to the curvature that the chains meet."""
    design_fn = _design_kinetic if run.batch_size is None else _design_sgld
    design = design_fn(run, curvature, limit)
    state = chains.start_chains(
        run.keys,
        run.problem,
        run.anchors,
        sampler=design.sampler,
        num_chains=run.num_chains,
        batch_size=run.batch_size,
    )
    num_blocks, spent, check = 0, 0, 1
    heating = np.zeros(run.problem.num_centers)
    while True:
        state, draws = _one_block(run, design.sampler, state)
        step = design.step
        num_blocks += 1
        spent += int(draws.num_gradients[0].sum())
        stable = is_stable(draws, run.problem.leaf_sizes.sum())
        reduction = np.full(run.problem.num_centers, REDUCTION)
        planned = _lengths(design)[0] if length is None else length
        done = num_blocks * chains.BLOCK_LENGTH >= planned
        if run.settings.bar is not None:
            run.settings.bar.burn_in(num_blocks * chains.BLOCK_LENGTH, planned)
        if num_blocks >= check or done or not stable.all():
            check = min(2 * check, check + MAX_BLOCKS_UNSEEN)
            key = jax.random.fold_in(run.key, num_blocks)
            curvature = _met_curvature(run, key, state, curvature=curvature, stable=stable)
            spent += run.num_chains * 2 * POWER_ITERATIONS
            size = size_of(draws, float(run.problem.nbeta))
            if run.batch_size is not None:
                heating = _heating(run, key, design.sampler, state=state)
                excess = heating / (size * run.tolerance)
                stable = stable & (excess <= 1)
                reduction = np.clip(excess, 1.5, 10.0)
            run = run._replace(size=size)
            design = design_fn(run, curvature, limit)
        if done or not stable.all():
            return _BurnIn(design, state, curvature, step, stable, heating, reduction, size, spent)


def _one_block(run: _Run, sampler, state):
    options = {"block_length": chains.BLOCK_LENGTH, "batch_size": run.batch_size}
    blocks = chains.run_chains(
        run.keys, run.problem, run.anchors, sampler=sampler, state=state, **options
    )
    return next(blocks)


def _heating(run: _Run, key, sampler: Any, *, state: chains.ChainState) -> np.ndarray:
    """What gradient noise adds where the chains are."""
    assert run.batch_size is not None
    noise = probes.gradient_noise(
        key,
        run.problem,
        run.anchors,
        sampler=sampler,
        positions=state.sampler_state.position,
        batch_size=run.batch_size,
    )
    return probes.heating_of(noise(), sampler, run.problem)


def _met_curvature(run: _Run, key, state, *, curvature: np.ndarray, stable: np.ndarray):
    """The largest curvature so far; that of a chain which ran away does not count."""
    ends = probes.curvatures_at(
        key, run.problem, state.sampler_state.position, num_iterations=POWER_ITERATIONS
    )
    ends = np.nan_to_num(np.asarray(ends, np.float64), posinf=0.0).max(axis=1)
    return np.where(stable, np.maximum(curvature, ends), curvature)


def _per_chain(values: np.ndarray, run: _Run, groups: tuple[float, float]) -> np.ndarray:
    """`[center]` values times the group factors of alternating chains, `[center, chain]`."""
    if run.num_chains == 1:
        return values[:, None]
    return values[:, None] * np.resize(np.asarray(groups), run.num_chains)


def _step(run: _Run, curvature: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """The step from tolerance and curvature, `[center]`; `limit` is finite after an unstable one.

    A kinetic step of half the inverse frequency has an error below half a percent on all that was
    measured; the two groups and the audit see more. SGLD inflates a stiff direction by
    `1/(1 - c/4)`, `c = step kappa_max`: carried to step zero, `c = 2 tolerance` has one of c^2.
    """
    stiffness = probes.stiffness_of(run.problem, curvature)
    if run.batch_size is not None:
        return np.minimum(2 * run.tolerance / stiffness, limit)
    ordinary = np.clip(0.5 * (run.tolerance / 0.05) ** 0.5, 0.5, 0.7) / np.sqrt(stiffness)
    return np.minimum(ordinary / np.where(np.isfinite(limit), REDUCTION, 1.0), limit)


def _design_kinetic(run: _Run, curvature: np.ndarray, limit: np.ndarray) -> _Design:
    """Kinetic Langevin: step from the tolerance, friction from the range of frequencies.

    In units of the stiffest frequency the slowest direction that localization allows has the
    frequency `omega = sqrt(localization/kappa_max)`. Friction `2 omega` damps it critically, 0.3
    mixes the energy of stiff directions best: the geometric mean serves both, and where so many
    directions are averaged that only the weak ones take time, chains glide with little friction.
    """
    stiffness = probes.stiffness_of(run.problem, curvature)
    step = _step(run, curvature, limit)
    omega = np.sqrt(float(run.problem.localization) / stiffness)
    root = np.sqrt(stiffness)
    friction, glides = choose_friction(
        omega,
        run.size,
        num_chains=run.num_chains,
        tolerance=run.tolerance,
        length=None if run.length is None else run.length * step * root,
    )
    sampler = KineticLangevin(_per_chain(step, run, KINETIC_GROUPS), friction * root, 0.0)
    # Overdamped amplitudes decay at omega^2/friction; without localization nothing is known.
    slow = np.where(omega > 0, friction / np.where(omega > 0, omega, 1) ** 2, 0)
    design = _design(run, sampler, step, np.maximum(2 / friction, slow) / (step * root))
    if not glides.any():
        return design
    return design._replace(burnin=GLIDING_BURNIN, notes=gliding_note(friction, omega, glides))


def _design_sgld(run: _Run, curvature: np.ndarray, limit: np.ndarray) -> _Design:
    """SGLD with the anchored control variate."""
    stiffness = probes.stiffness_of(run.problem, curvature)
    epsilon = _step(run, curvature, limit)
    slowest = np.maximum(float(run.problem.localization), stiffness / 1e3)
    sampler = SGLD(_per_chain(epsilon, run, SGLD_GROUPS), control_variate=True)
    return _design(run, sampler, epsilon, 4 / (epsilon * slowest))


def _design(run: _Run, sampler: Any, step: np.ndarray, relaxation: np.ndarray) -> _Design:
    return _Design(chains.per_chain(sampler, run.problem, run.num_chains), step, relaxation)


def _lengths(design: _Design) -> tuple[int, int]:
    """Burn-in and draws in relaxation times of the slowest center, within bounds."""
    slowest, (times, longest) = float(np.max(design.relaxation)), design.burnin
    return int(np.clip(times * slowest, 256, longest)), int(np.clip(2 * slowest, 512, 10_000))

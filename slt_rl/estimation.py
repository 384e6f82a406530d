"""From centers to estimates: anchor, calibrate, sample, judge. What both public calls share."""

import dataclasses
import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl import chains, probes
from slt_rl.budget import (
    RAY_FRACTIONS,
    SMOOTH_GROWTH,
    Context,
    explained_on_rays,
    growth_of,
    growth_on_rays,
)
from slt_rl.calibration import Plan, calibrate
from slt_rl.compilation import LightJit, compiling, shapes_only
from slt_rl.predictive import data_set_error
from slt_rl.result import LLCEstimate
from slt_rl.samplers import SGLD
from slt_rl.sampling import Run, Sample, center_draws, first_block, parts_of, sample_chains
from slt_rl.settings import Settings
from slt_rl.verdict import judge

GIVEN_NUM_DRAWS = 1000
# Losses at so many draws of a chain, for the error of the data set.
MIN_SNAPSHOTS = 4
# Of a given sampler curvatures are only judged: on full data, with the iterations and examples of
# calibration, they would cost more than the chains.
JUDGED_ITERATIONS, JUDGED_EXAMPLES = 10, 512
# Share of its size by which a loss may differ in another batch: rounding is far below it.
MAX_BATCH_DEPENDENCE = 0.01
# Kinds of problems that this process has sampled: nothing is left to compile.
_SAMPLED: set[int] = set()


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
        ValueError: if the loss or its gradient at a center is not finite, or if the losses of
            examples depend on the batch.
    """
    key_anchor, key_calibrate, keys, key_probe = _split(key, problem.num_centers, first)
    kind = _kind_of(problem, settings)
    is_new = kind not in _SAMPLED
    with _compiling_chains(keys, problem, settings) if is_new else nullcontext():
        anchors = _find_anchors(key_anchor, problem, settings)
        _check_anchors(anchors, first)
        plan = _plan(key_calibrate, keys, problem, anchors, settings)
        run = Run(keys, problem, anchors, plan, settings)
        run, sample, step_biases = _sampled(run, key_probe, ahead=is_new)
    # Not before: what begins on another thread meanwhile waits for the same programs.
    _SAMPLED.add(kind)
    estimates = [
        judge(center_draws(sample.draws, i), context)
        for i, context in enumerate(_contexts(run, sample, step_biases))
    ]
    if settings.observer is None:
        return estimates
    return [
        dataclasses.replace(e, observations=jax.tree.map(lambda x, i=i: x[i], sample.observations))
        for i, e in enumerate(estimates)
    ]


def _find_anchors(key, problem: chains.Problem, settings: Settings) -> Any:
    given = {} if settings.sampler is None else {"num_iterations": 0}  # Judged in the end.
    return chains.find_anchors(key, problem, **given)


def _kind_of(problem: chains.Problem, settings: Settings) -> int:
    """The same for all that the programs of one serve; it keeps neither loss nor data alive."""
    leaves, structure = jax.tree.flatten((problem.centers, problem.shared, settings.sampler))
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    sizes = settings.num_chains, settings.batch_size, settings.num_parts
    return hash((problem.make_target, structure, shapes, sizes))


def _compiling_chains(keys, problem: chains.Problem, settings: Settings) -> AbstractContextManager:
    """Compiles the chains of a given sampler while anchors and start are made, from shapes alone.

    Only chains in parts: their arrays lie on one device, which shapes do not say.
    """
    if settings.sampler is None or settings.num_parts == 1 or settings.observer is not None:
        return nullcontext()

    with shapes_only():
        anchors = _find_anchors(keys[0], problem, settings)
        plan = _plan(keys[0], keys, problem, anchors, settings)
        run = Run(keys, problem, anchors, plan, settings)
        part = parts_of(run, plan.sampler, plan.state)[0]
    return compiling(first_block(run, part), ready=0)


@functools.partial(LightJit, static_argnums=1)
def _split(key, num_centers, first):
    """Keys of the anchors, of calibration, of the chains at each center, and of probes."""
    key_anchor, key_calibrate, key_sample, key_probe = jax.random.split(key, 4)
    keys = chains.center_keys(key_sample, num_centers, first)
    return key_anchor, key_calibrate, keys, key_probe


def _check_anchors(anchors: Any, first: int) -> None:
    finite = np.isfinite(np.asarray(anchors.loss))
    if not finite.all():
        bad = first + np.flatnonzero(~finite)
        raise ValueError(
            f"loss_fn: expected a finite loss at the center, got {bad} not finite: a NaN in the "
            "data, or a recorded action that the policy does not have?"
        )
    finite = np.isfinite(np.asarray(anchors.squared_gradient))
    if not finite.all():
        raise ValueError(_no_gradient(anchors.gradient, np.flatnonzero(~finite), first))
    _check_single_examples(np.asarray(anchors.batch_dependence), anchors.loss.dtype)


def _no_gradient(gradient: Any, bad: np.ndarray, first: int) -> str:
    """Why the square of the gradient is not finite at the centers `bad`."""
    leaves = [np.asarray(leaf)[bad] for leaf in jax.tree.leaves(gradient)]
    if all(np.isfinite(leaf).all() for leaf in leaves):
        largest = max(float(np.max(np.abs(leaf), initial=0.0)) for leaf in leaves)
        return (
            f"loss_fn: expected a gradient at the center whose square is finite, got {first + bad} "
            f"with derivatives up to {largest:.2g}, too large for {leaves[0].dtype}: such a center "
            "is no minimum; train on, or give the loss in another unit, and nbeta with it"
        )
    return (
        f"loss_fn: expected a finite gradient at the center, got {first + bad} not finite; the "
        "square root of a sum has none where the sum is zero: use the sum itself"
    )


def _check_single_examples(dependence: np.ndarray, dtype: Any) -> None:
    """Refuses losses of examples that are other ones in another batch; NaN is no evidence."""
    largest = float(np.max(np.nan_to_num(dependence, nan=0.0)))
    if largest > max(MAX_BATCH_DEPENDENCE, 100 * float(jnp.finfo(dtype).eps)):
        raise ValueError(
            "loss_fn: expected losses of single examples, got ones that depend on the batch: in "
            f"halves of one they differ by {largest:.2g} of their size. Statistics or means over "
            "the batch, dropout, or a division by the number of examples? Freeze or drop them"
        )


def _plan(key, keys, problem, anchors, settings: Settings) -> Plan:
    """Calibrates and burns in, or wraps a given sampler as it is."""
    if settings.sampler is None:
        plan = calibrate(key, keys, problem, anchors=anchors, settings=settings)
        draws = plan.num_draws if settings.num_draws is None else settings.num_draws
        return plan._replace(num_draws=draws)
    sampler = chains.per_chain(settings.sampler, problem, settings.num_chains)
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
    good = np.ones(problem.num_centers, bool)
    spent = 2 * JUDGED_ITERATIONS  # A Hessian-vector product counts as two gradients.
    return Plan(
        sampler, state, settings.batch_size, burnin, draws, spent, good, np.zeros(len(good)), ()
    )


def _sampled(run: Run, key: jax.Array, *, ahead: bool) -> tuple[Run, Sample, np.ndarray]:
    """The run with what a given sampler is judged by, its chains, and errors of its step.

    What judges is compiled while the chains are if `ahead` says so, and run after them.
    """
    parts = parts_of(run, run.plan.sampler, run.plan.state)
    if run.is_automatic:
        return run, sample_chains(run, parts, key=key), np.zeros(run.problem.num_centers)
    batch_size = run.plan.batch_size
    noise = () if batch_size is None else (_noise_at_center(run, key, batch_size),)
    starts = run.plan.state.sampler_state.position
    calls = first_block(run, parts[0]), _judged_curvatures(run, key, starts), *noise
    with compiling(*calls) if ahead else nullcontext():
        sample = sample_chains(run, parts, key=key)
    found = _judged_curvatures(run, key, sample.ends)()
    largest, along = (np.asarray(x, np.float64) for x in found)
    anchors = run.anchors._replace(curvature=largest[:, 0], gradient_curvature=along)
    for call in noise:
        heating = probes.heating_of(call(), run.plan.sampler, run.problem)
        run = run._replace(plan=run.plan._replace(heating=heating))
    return run._replace(anchors=anchors), sample, _step_biases(run, largest)


def _judged_curvatures(run: Run, key: jax.Array, ends: Any) -> functools.partial:
    sizes = {"num_iterations": JUDGED_ITERATIONS, "num_examples": JUDGED_EXAMPLES}
    return probes.judged_curvatures(key, run.problem, run.anchors, ends=ends, **sizes)


def _noise_at_center(run: Run, key: jax.Array, batch_size: int) -> functools.partial:
    return probes.gradient_noise(
        key,
        run.problem,
        run.anchors,
        sampler=run.plan.sampler,
        positions=_one_chain(run.problem.centers),
        batch_size=batch_size,
    )


@LightJit
def _one_chain(centers):
    return jax.tree.map(lambda x: x[:, None], centers)


def _step_biases(run: Run, curvatures: np.ndarray) -> np.ndarray:
    """Relative error of a given sampler's step in the stiffest direction, by its law.

    The larger of two: at the center, and in the mean over where the chains ended. A singular center
    has no curvature of its own, and the chains meet all of it.

    Args:
        run: what was run.
        curvatures: `[center, 1 + chain]`, at the center before the ends.
    """
    if not _is_plain_sgld(run):
        return np.zeros(run.problem.num_centers)
    # That of a chain which ran away does not count: the verdict refuses it anyway.
    ends = np.nan_to_num(curvatures[:, 1:], posinf=0.0, neginf=0.0)
    at_center, at_ends = (
        _inflation(run.step_sizes * probes.stiffness_of(run.problem, h))
        for h in (curvatures[:, :1], ends)
    )
    return np.maximum(at_center.max(axis=1), at_ends.mean(axis=1))


def _inflation(c: np.ndarray) -> np.ndarray:
    """SGLD inflates a direction by `1/(1 - c/4)`, `c` its step times the curvature of `U`."""
    return np.where(c < 4, c / (4 - np.minimum(c, 3.999)), np.inf)


def _is_plain_sgld(run: Run) -> bool:
    sampler = run.plan.sampler
    return not run.is_automatic and isinstance(sampler, SGLD) and sampler.preconditioner is None


def _data_set_errors(run: Run, sample: Sample) -> np.ndarray:
    """Standard errors over data sets, NaN for exact potentials and runs too short to tell."""
    if len(sample.losses) < MIN_SNAPSHOTS:
        return np.full(run.problem.num_centers, np.nan)
    losses, means = (np.stack(x, axis=2) for x in zip(*sample.losses, strict=True))
    num_examples = probes.num_examples_of(run.anchors)
    assert num_examples is not None
    # Of a sample of the examples the sum of squares is that of as many examples.
    share, nbeta = losses.shape[-1] / num_examples, float(run.problem.nbeta)
    variances = [
        data_set_error(x, nbeta, mean_loss=mean).variance if np.all(alive) else np.nan
        for x, mean, alive in zip(losses, means, sample.draws.alive, strict=True)
    ]
    return np.sqrt(np.maximum(variances, 0.0) * share)


def _along_rays(run: Run, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Exponents along rays to the chains, and what the slope explains there, both `[center]`.

    NaN if no draws ask for them.
    """
    problem = run.problem
    nbeta, localization = float(problem.nbeta), float(problem.localization)
    growths, explained = np.full((2, problem.num_centers), np.nan)
    doubted = []
    for i in range(problem.num_centers):
        draws = center_draws(sample.draws, i)
        # Of a chain that has diverged nothing is asked: the verdict refuses it anyway.
        if draws.alive.all():
            growth = growth_of(draws, problem.leaf_sizes, localization, nbeta=nbeta)
            doubted += [i] if growth < SMOOTH_GROWTH else []
    if doubted:
        rays = probes.along_rays(problem, sample.ends, jnp.asarray(RAY_FRACTIONS))
        losses, slopes = (np.asarray(x, np.float64) for x in rays)
    for i in doubted:
        size = float(np.mean(sample.draws.excess_loss[i], dtype=np.float64))
        growths[i] = growth_on_rays(losses[i], slopes[i], size)
        explained[i] = explained_on_rays(losses[i], slopes[i])
    return growths, explained


def _contexts(run: Run, sample: Sample, step_biases: np.ndarray) -> Iterator[Context]:
    """What the verdict needs of each center beside its draws."""
    plan, problem = run.plan, run.problem
    drops, heating = run.anchor_drops(), run.plan.heating
    data_sets, sizes, steps = _data_set_errors(run, sample), problem.leaf_sizes, run.step_sizes
    num_examples = probes.num_examples_of(run.anchors)
    used, aside = sample.num_gradients
    growths, explained = _along_rays(run, sample)
    order = 0 if not run.is_automatic else 1 if run.is_extrapolated else 2
    for i in range(problem.num_centers):
        yield Context(
            nbeta=float(problem.nbeta),
            localization=float(problem.localization),
            center_loss=float(run.anchors.loss[i]),
            step_sizes=steps[i],
            step_order=order,
            extrapolate=run.is_extrapolated,
            step_bias=float(step_biases[i]),
            heating=float(heating[i]),
            tolerance=run.settings.tolerance,
            leaf_sizes=sizes,
            anchor_drop=float(drops[i]),
            data_set=float(data_sets[i]),
            beta=0.0 if num_examples is None else float(problem.nbeta) / num_examples,
            growth_at_center=float(growths[i]),
            explained_by_slope=float(explained[i]),
            audit=None if sample.audit is None else center_draws(sample.audit, i),
            stable=bool(plan.stable[i]),
            notes=plan.notes,
            num_gradients=plan.num_gradients + int(used[i] + aside[i]),
            calibration_gradients=plan.num_gradients + int(aside[i]),
        )

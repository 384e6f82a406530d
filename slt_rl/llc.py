"""The calls most users ever make: one estimate, or the whole curve of a training run."""

import dataclasses
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl import _checks, _numbers, chains
from slt_rl.chunks import center_of, chunks_of, most_together, size_of_chunks
from slt_rl.compilation import LightJit
from slt_rl.data import as_dataset
from slt_rl.estimation import estimate_centers
from slt_rl.kept import KeptEstimates, identity_of
from slt_rl.precision import doubted, low_precision
from slt_rl.processes import of_all_processes, share_of
from slt_rl.progress import CurveBar, DrawsBar
from slt_rl.result import LLCCurve, LLCEstimate
from slt_rl.settings import Settings
from slt_rl.threads import MOST_THREADS, default_parts, default_threads

PyTree = Any
# The default localization, and the mean squared displacement it allows at most.
LEAST_LOCALIZATION = 10.0
MAX_SQUARED_DISPLACEMENT = 1000.0


def estimate_llc(
    key: jax.Array,
    loss_fn: Callable,
    params: PyTree,
    data: PyTree = None,
    *,
    nbeta: float | None = None,
    localization: float | None = None,
    sampler: Any = None,
    num_chains: int = 8,
    num_draws: int | None = None,
    num_burnin: int | None = None,
    batch_size: int | None = None,
    tolerance: float = 0.05,
    progress: bool = False,
    allow_negative_control: bool = False,
    observe_fn: Callable | None = None,
    observe_every: int = 1,
) -> LLCEstimate:
    r"""Estimates the local learning coefficient of `params`.

        lambda_hat(w*) = nbeta (E[L(w)] - L(w*)),  w ~ exp(-nbeta L(w) - localization/2 |w-w*|^2)

    With `sampler=None` the dynamics, the step size and the length of the chain are chosen from
    `tolerance`; a given sampler is used as it is.

    Args:
        key: random key, consumed.
        loss_fn: with `data`, `loss_fn(params, examples) -> [n]` per-example losses in nats;
            without, an exact potential `loss_fn(params) -> []`.
        params: pytree of floating-point arrays: the center `w*`, a (local) minimum.
        data: pytree of arrays with leading axis `n`, or a `Dataset`; `None` for an exact potential.
        nbeta: inverse temperature `n beta`; default `n / log n`. Required without data.
        localization: strength of the tether to `w*` in 1/parameter^2; default
            `max(10, d/1000)` for `d` parameters.
        sampler: `SGLD`, `KineticLangevin`, `MALA`, `HMC` or `NUTS`; `None` calibrates.
        num_chains: independent chains, all started at `w*`.
        num_draws: draws kept per chain; default: until the interval meets `tolerance`, within
            bounds (1000 with a given sampler).
        num_burnin: draws dropped at the start, during which `sampler=None` calibrates; default from
            the relaxation time (half of `num_draws` with a given sampler).
        batch_size: examples per gradient; `None` for full data.
        tolerance: relative error to aim at, in (0, 1).
        progress: show a bar: steps of each chain, time left, the estimate from the draws so far;
            a line every ten seconds where standard error is a file. It changes no draw.
        allow_negative_control: sample a loss that is marked as no potential.
        observe_fn: what else to compute at kept draws, `observe_fn(params, dataset) -> pytree of
            arrays` (without data `observe_fn(params)`); it changes no draw. Compiled once for
            functions that compare equal: name the function, do not write a new lambda each call.
        observe_every: draws per observation; divides the length of a block, 128.

    Returns:
        The estimate with interval, error budget, flags and verdict. A chain that left the finite
        numbers gives a NaN mean and the verdict "refused".

    Raises:
        ValueError: for any argument out of its range, before anything is traced.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def potential(w):
        ...     return 0.5 * jnp.sum(w**2)
        >>> result = estimate_llc(jax.random.key(0), potential, jnp.zeros(6), nbeta=1e4)
        >>> low, high = result.interval()
        >>> low < 3.0 < high  # the learning coefficient of a regular model is d/2
        True

    References:
        Lau et al., "The Local Learning Coefficient", arXiv:2308.12108.
    """
    settings = _check_settings(sampler, num_chains, num_draws, num_burnin, tolerance)
    key, params = _checks.check_key(key), _checks.check_params("params", params)
    dataset = None if data is None else as_dataset(data)
    batch_size = _checks.check_batch_size(batch_size, dataset, sampler)
    nbeta = _checks.resolve_nbeta(nbeta, dataset)
    _checks.check_allowed(loss_fn, allow_negative_control)
    _checks.check_loss(loss_fn, params, dataset)
    observer = _observer(observe_fn, observe_every, params, dataset)
    parts = default_parts(loss_fn, params, dataset, num_chains=num_chains, batch_size=batch_size)
    settings = settings._replace(batch_size=batch_size, observer=observer, num_parts=parts)
    centers = _one_center(params)
    problem = _problem(chains.constant_target(loss_fn), centers, dataset, nbeta, localization)
    precision = low_precision(loss_fn, params, *([] if dataset is None else [dataset.examples]))
    if not progress:
        return _stated(estimate_centers(key, problem, settings)[0], loss_fn, precision)
    with DrawsBar(num_chains) as bar:
        found = estimate_centers(key, problem, settings._replace(bar=bar))[0]
        estimate = _stated(found, loss_fn, precision)
        bar.finish(estimate)
    return estimate


def llc_curve(
    key: jax.Array,
    make_target: Callable,
    checkpoints: PyTree,
    *,
    nbeta: float | None = None,
    localization: float | None = None,
    sampler: Any = None,
    num_chains: int = 4,
    num_draws: int | None = None,
    num_burnin: int | None = None,
    batch_size: int | None = None,
    tolerance: float = 0.05,
    steps: np.ndarray | None = None,
    data: PyTree = None,
    chunk_size: int = 16,
    memory_bytes: int | None = None,
    num_threads: int | None = None,
    progress: bool = False,
    allow_negative_control: bool = False,
    observe_fn: Callable | None = None,
    observe_every: int = 1,
    folder: str | os.PathLike | None = None,
) -> LLCCurve:
    r"""Estimates the local learning coefficient at every checkpoint of a run, compiled once.

    Args:
        key: random key, consumed; checkpoint `i` uses `fold_in(key, i)`, whatever the chunks.
        make_target: `make_target(params)` returns an exact potential or `(loss_fn, Dataset)`;
            with `data`, `make_target(params, data)`. It is traced once, for all checkpoints.
        checkpoints: pytree of arrays with leading axis `[checkpoint]`.
        nbeta: inverse temperature, the same for all checkpoints; default `n / log n`.
        localization: the same for all checkpoints, default as in `estimate_llc`.
        sampler: as in `estimate_llc`; `None` calibrates each checkpoint.
        num_chains: chains per checkpoint.
        num_draws: as in `estimate_llc`.
        num_burnin: as in `estimate_llc`.
        batch_size: examples per gradient; `None` for full data.
        tolerance: relative error to aim at.
        steps: `[checkpoint]`, training steps; default 0, 1, ...
        data: pytree of arrays handed to `make_target`, for data too large to be compiled in.
        chunk_size: checkpoints sampled together, at most: chunks are made about equal. Bounds
            memory, does not change the draws. A multiple of the number of devices where the
            checkpoints lie on several.
        memory_bytes: what all chunks in work may need on the device, at most; chunks are then
            as small as it asks for (`slt_rl.chunks.checkpoint_bytes`). `None` for no limit.
        num_threads: chunks sampled at the same time on the host; two, or one where a loss factors
            matrices on the CPU, where two would wait for each other (`slt_rl.threads`).
        progress: show a bar: checkpoints, those in work by the share of their draws, time left, the
            last estimate, how many are not trusted; a line every ten seconds where standard error
            is a file. It changes no draw.
        allow_negative_control: sample a loss that is marked as no potential.
        observe_fn: as in `estimate_llc`.
        observe_every: as in `estimate_llc`.
        folder: where each chunk is stored when it is finished and read when the call is repeated,
            with a fingerprint of key, loss, data, parameters, settings and versions; `None` stores
            nothing.

    Returns:
        The curve: one estimate with verdict per checkpoint.

    Raises:
        ValueError: for any argument out of its range, before anything is traced; naming the file,
            if one in `folder` is damaged or belongs to another model or other settings.
        OSError: naming the file, if one in `folder` cannot be written.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def make_target(params):
        ...     return lambda w: jnp.sum((w - params) ** 2)
        >>> curve = llc_curve(jax.random.key(0), make_target, jnp.zeros((3, 4)), nbeta=1e3)
        >>> len(curve)
        3
    """
    settings = _check_settings(sampler, num_chains, num_draws, num_burnin, tolerance)
    key, checkpoints = _checks.check_key(key), _checks.check_params("checkpoints", checkpoints)
    chunk_size = _numbers.check_count("chunk_size", chunk_size)
    num_threads = _numbers.check_optional_count("num_threads", num_threads)
    target = _CurveTarget(_checks.check_callable("make_target", make_target), data is not None)
    loss_fn, dataset = target(first := center_of(checkpoints, 0), data)
    nbeta = _checks.resolve_nbeta(nbeta, dataset)
    _checks.check_allowed(loss_fn, allow_negative_control)
    _checks.check_loss(loss_fn, first, dataset)
    observer = _observer(observe_fn, observe_every, first, dataset)
    batch_size = _checks.check_batch_size(batch_size, dataset, sampler)
    settings = settings._replace(batch_size=batch_size, observer=observer)
    losses_fn = target.losses  # One object: JAX remembers its trace for all who look at it.
    problem = _problem(target, checkpoints, data, nbeta, localization)
    if memory_bytes is not None:
        given = {"num_threads": num_threads or MOST_THREADS}
        chunk_size = min(chunk_size, most_together(memory_bytes, problem, settings, **given))
    steps = _checks.check_steps(steps, problem.num_centers)

    kept, size = None, size_of_chunks(checkpoints, chunk_size)
    if folder is not None:
        identity = identity_of(key, problem, settings, target_fn=losses_fn)
        kept = KeptEstimates(Path(folder), {**identity, "num_together": size})

    pieces = list(chunks_of(problem, size))
    mine = share_of(pieces)
    if num_threads is None and len(mine) > 1:  # One chunk waits for no other: nothing to trace.
        given = {"shared": data, "dataset": dataset}
        num_threads = default_threads(*_programs(losses_fn, observe_fn, first, **given))
    measure = functools.partial(_measured, key, settings=settings, kept=kept, progress=progress)
    found = measure(mine, problem.num_centers, num_threads=num_threads or 1)
    estimates = [e for piece in of_all_processes(found, len(pieces)) for e in piece]
    precision = low_precision(losses_fn, first, data)
    return LLCCurve(steps, tuple(_stated(e, loss_fn, precision) for e in estimates))


def _measured(key, chunks, num_centers, *, settings: Settings, kept, num_threads, progress):
    """Samples chunks of a curve; the last of all is filled up beyond the number of centers."""
    counts = [min(part.num_centers, num_centers - start) for start, part in chunks]

    def run(chunk, count):
        start, part = chunk
        watched = settings._replace(bar=bar.chunk(start, count))
        measure = functools.partial(estimate_centers, key, part, watched, first=start)
        estimates = measure() if kept is None else kept.get(start, part, measure)
        bar.finish(start, estimates[:count])
        return estimates[:count]

    workers = ThreadPoolExecutor(num_threads)
    with CurveBar(sum(counts), show=progress) as bar, workers as pool:
        return list(pool.map(run, chunks, counts))


def _stated(estimate: LLCEstimate, loss_fn: Callable, precision: str | None) -> LLCEstimate:
    """The estimate, with what the loss says of its own scale, and its precision if that is low."""
    if precision is not None:
        estimate = doubted(estimate, precision)
    said = getattr(loss_fn, "scale_note", None)
    if said is None:
        return estimate
    return dataclasses.replace(estimate, notes=(*estimate.notes, said))


class _CurveTarget(NamedTuple):
    """Brings what a user's `make_target` returns into the form `(loss_fn, data)`."""

    make_target: Callable
    takes_data: bool

    def __call__(self, params: PyTree, shared: PyTree):
        target = self.make_target(params, shared) if self.takes_data else self.make_target(params)
        if callable(target):
            return target, None
        loss_fn, data = target
        return loss_fn, as_dataset(data)

    def losses(self, params: PyTree, shared: PyTree):
        """The losses at a center and the data they are of."""
        loss_fn, data = self(params, shared)
        return loss_fn(params) if data is None else (loss_fn(params, data.examples), data)


def _check_settings(sampler, num_chains, num_draws, num_burnin, tolerance) -> Settings:
    num_draws = _numbers.check_optional_count("num_draws", num_draws, minimum=4)
    num_burnin = _numbers.check_optional_count("num_burnin", num_burnin, minimum=0)
    if sampler is not None and not (hasattr(sampler, "init") and hasattr(sampler, "step")):
        raise ValueError(f"sampler: expected an object with init and step, got {sampler!r}")
    return Settings(
        sampler,
        _numbers.check_count("num_chains", num_chains),
        num_draws,
        num_burnin,
        None,
        _numbers.check_fraction("tolerance", tolerance),
    )


def default_localization(centers: PyTree) -> float:
    """The localization when none is given: `max(10, d/1000)` for `d` parameters.

    A direction that the data do not hold has the variance `1/localization`, so that the chain stays
    within `sqrt(d/localization) <= 31.6` of the center however many such directions there are. It
    depends on the number of parameters alone: the same for every checkpoint of a curve.

    Args:
        centers: pytree with a leading axis `[center]`.
    """
    dimension = sum(leaf[0].size for leaf in jax.tree.leaves(centers))
    return max(LEAST_LOCALIZATION, dimension / MAX_SQUARED_DISPLACEMENT)


def _observer(observe_fn, observe_every, params, dataset) -> chains.Observer | None:
    every = _numbers.check_count("observe_every", observe_every)
    if chains.BLOCK_LENGTH % every:
        raise ValueError(
            f"observe_every: expected a divisor of {chains.BLOCK_LENGTH}, got {observe_every}"
        )
    if observe_fn is None:
        return None
    _checks.check_observe(observe_fn, params, dataset)
    if jax.process_count() > 1:
        raise ValueError("observe_fn: expected None where several processes measure one curve")
    return chains.Observer(observe_fn, every)


def _programs(losses_fn, observe_fn, params, *, shared, dataset) -> list[tuple[Callable, tuple]]:
    """What runs at every draw, with its arguments."""
    losses = [(losses_fn, (params, shared))]
    if observe_fn is None:
        return losses
    return [*losses, (observe_fn, (params,) if dataset is None else (params, dataset))]


def _problem(target, centers, shared, nbeta, localization) -> chains.Problem:
    if localization is None:
        localization = default_localization(centers)
    localization = _numbers.check_nonnegative("localization", localization)
    dtype = jnp.result_type(*jax.tree.leaves(centers))
    return chains.Problem(
        target, centers, shared, jnp.asarray(nbeta, dtype), jnp.asarray(localization, dtype)
    )


@LightJit
def _one_center(params):
    return jax.tree.map(lambda x: x[None], params)

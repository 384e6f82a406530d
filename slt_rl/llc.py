"""The calls most users ever make: one estimate, or the whole curve of a training run."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from slt_rl import _checks, chains
from slt_rl.calibration import Plan, calibrate
from slt_rl.data import as_dataset
from slt_rl.estimators import mean_llc
from slt_rl.result import LLCCurve, LLCEstimate
from slt_rl.verdict import Context, judge

PyTree = Any
DEFAULT_LOCALIZATION = 10.0

# Chains are lengthened until the interval meets the tolerance, to at most this multiple.
MAX_LENGTHENING = 8


class _Settings(NamedTuple):
    """How to sample: checked arguments of the public calls."""

    sampler: Any
    num_chains: int
    num_draws: int | None
    num_burnin: int | None
    batch_size: int | None
    tolerance: float


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
    allow_negative_control: bool = False,
) -> LLCEstimate:
    r"""Estimates the local learning coefficient of `params`.

        lambda_hat(w*) = nbeta (E[L(w)] - L(w*)),  w ~ exp(-nbeta L(w) - localization/2 |w-w*|^2)

    With `sampler=None` the dynamics, the step size and the length of the chain are chosen from
    `tolerance`; a given sampler is used as it is.

    Args:
        key: random key, consumed.
        loss_fn: with `data`, `loss_fn(params, examples) -> [n]` per-example losses in nats;
            without, an exact potential `loss_fn(params) -> []`.
        params: pytree of floating-point arrays: the centre `w*`, a (local) minimum.
        data: pytree of arrays with leading axis `n`, or a `Dataset`; `None` for an exact potential.
        nbeta: inverse temperature `n beta`; default `n / log n`. Required without data.
        localization: strength of the tether to `w*` in 1/parameter^2; default 10.
        sampler: `SGLD`, `KineticLangevin`, `MALA`, `HMC` or `NUTS`; `None` calibrates.
        num_chains: independent chains, all started at `w*`.
        num_draws: draws kept per chain; default: until the interval meets `tolerance`, within
            bounds (1000 with a given sampler).
        num_burnin: draws dropped at the start; default from the calibrated relaxation time
            (half of `num_draws` with a given sampler).
        batch_size: examples per gradient; `None` for full data.
        tolerance: relative error to aim at, in (0, 1).
        allow_negative_control: sample a loss that is marked as no potential.

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
    params = _checks.check_params("params", params)
    dataset = None if data is None else as_dataset(data)
    batch_size = _checks.check_batch_size(batch_size, dataset, sampler)
    nbeta = _checks.resolve_nbeta(nbeta, dataset)
    _checks.check_allowed(loss_fn, allow_negative_control)
    _checks.check_loss(loss_fn, params, dataset)
    centres = jax.tree.map(lambda x: x[None], params)
    problem = _problem(chains.constant_target(loss_fn), centres, dataset, nbeta, localization)
    return _estimate(key, problem, settings._replace(batch_size=batch_size), 0)[0]


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
    num_threads: int = 2,
    progress: bool = False,
    allow_negative_control: bool = False,
) -> LLCCurve:
    r"""Estimates the local learning coefficient at every checkpoint of a run, compiled once.

    Args:
        key: random key, consumed; checkpoint `i` uses `fold_in(key, i)`, whatever the chunks.
        make_target: `make_target(params)` returns an exact potential or `(loss_fn, Dataset)`;
            with `data`, `make_target(params, data)`. It is traced once, for all checkpoints.
        checkpoints: pytree of arrays with leading axis `[checkpoint]`.
        nbeta: inverse temperature, the same for all checkpoints; default `n / log n`.
        localization: the same for all checkpoints, default 10.
        sampler: as in `estimate_llc`; `None` calibrates each checkpoint.
        num_chains: chains per checkpoint.
        num_draws: as in `estimate_llc`.
        num_burnin: as in `estimate_llc`.
        batch_size: examples per gradient; `None` for full data.
        tolerance: relative error to aim at.
        steps: `[checkpoint]`, training steps; default 0, 1, ...
        data: pytree of arrays handed to `make_target`, for data too large to be compiled in.
        chunk_size: checkpoints sampled together; bounds memory, does not change the draws.
        num_threads: chunks sampled at the same time on the host.
        progress: show a progress bar.
        allow_negative_control: sample a loss that is marked as no potential.

    Returns:
        The curve: one estimate with verdict per checkpoint.

    Raises:
        ValueError: for any argument out of its range, before anything is traced.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def make_target(params):
        ...     return lambda w: jnp.sum((w - params) ** 2)
        >>> curve = llc_curve(jax.random.key(0), make_target, jnp.zeros((3, 4)), nbeta=1e3)
        >>> len(curve)
        3
    """
    settings = _check_settings(sampler, num_chains, num_draws, num_burnin, tolerance)
    checkpoints = _checks.check_params("checkpoints", checkpoints)
    chunk_size = _checks.check_count("chunk_size", chunk_size)
    num_threads = _checks.check_count("num_threads", num_threads)
    target = _CurveTarget(make_target, data is not None)
    first = jax.tree.map(lambda x: x[0], checkpoints)
    loss_fn, dataset = target(first, data)
    batch_size = _checks.check_batch_size(batch_size, dataset, sampler)
    nbeta = _checks.resolve_nbeta(nbeta, dataset)
    _checks.check_allowed(loss_fn, allow_negative_control)
    _checks.check_loss(loss_fn, first, dataset)
    settings = settings._replace(batch_size=batch_size)
    problem = _problem(target, checkpoints, data, nbeta, localization)
    steps = np.arange(problem.num_centres) if steps is None else np.asarray(steps)
    if steps.shape != (problem.num_centres,):
        raise ValueError(f"steps: expected shape ({problem.num_centres},), got {steps.shape}")

    def run(chunk):
        start, part = chunk
        return _estimate(key, part, settings, start)

    pieces = list(_chunks(problem, chunk_size))
    with ThreadPoolExecutor(num_threads) as pool:
        found = list(_progress(pool.map(run, pieces), len(pieces), progress))
    estimates = [estimate for piece in found for estimate in piece]
    return LLCCurve(steps, tuple(estimates[: problem.num_centres]))


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


def _check_settings(sampler, num_chains, num_draws, num_burnin, tolerance) -> _Settings:
    if num_draws is not None:
        num_draws = _checks.check_count("num_draws", num_draws, minimum=4)
    if num_burnin is not None:
        num_burnin = _checks.check_count("num_burnin", num_burnin, minimum=0)
    if sampler is not None and not (hasattr(sampler, "init") and hasattr(sampler, "step")):
        raise ValueError(f"sampler: expected an object with init and step, got {sampler!r}")
    return _Settings(
        sampler,
        _checks.check_count("num_chains", num_chains),
        num_draws,
        num_burnin,
        None,
        _checks.check_fraction("tolerance", tolerance),
    )


def _problem(target, centres, shared, nbeta, localization) -> chains.Problem:
    if localization is None:
        localization = DEFAULT_LOCALIZATION
    localization = _checks.check_nonnegative("localization", localization)
    dtype = jnp.result_type(*jax.tree.leaves(centres))
    return chains.Problem(
        target, centres, shared, jnp.asarray(nbeta, dtype), jnp.asarray(localization, dtype)
    )


def _chunks(problem: chains.Problem, size: int) -> Iterator[tuple[int, chains.Problem]]:
    """Cuts the centres into chunks of one size; the last is filled up with its last centre."""
    size = min(size, problem.num_centres)
    for start in range(0, problem.num_centres, size):
        indices = np.minimum(np.arange(start, start + size), problem.num_centres - 1)
        yield start, problem._replace(centres=jax.tree.map(lambda x: x[indices], problem.centres))


def _progress(items, total: int, show: bool):
    if not show:
        return items
    from tqdm import tqdm

    return tqdm(items, total=total, desc="checkpoints", unit="chunk")


def _estimate(key, problem: chains.Problem, settings: _Settings, first: int) -> list[LLCEstimate]:
    """Anchors, calibrates, samples and judges the centres of one chunk."""
    key_anchor, key_calibrate, key_sample = jax.random.split(key, 3)
    anchors = chains.find_anchors(key_anchor, problem)
    if not np.all(np.isfinite(np.asarray(anchors.loss))):
        bad = first + np.flatnonzero(~np.isfinite(np.asarray(anchors.loss)))
        raise ValueError(f"loss_fn: expected a finite loss at the centre, got {bad} not finite")
    plan = _plan(key_calibrate, problem, anchors, settings)
    keys = chains.centre_keys(key_sample, problem.num_centres, first)
    draws = _sample(keys, problem, anchors, plan, settings)
    spent = plan.num_gradients
    return [
        judge(_centre(draws, i).after(plan.num_burnin), context)
        for i, context in enumerate(_contexts(problem, anchors, plan, settings, draws, spent))
    ]


def _plan(key, problem, anchors, settings: _Settings) -> Plan:
    """Calibrates, or wraps a given sampler as it is."""
    if settings.sampler is None:
        plan = calibrate(
            key,
            problem,
            anchors,
            num_chains=settings.num_chains,
            tolerance=settings.tolerance,
            batch_size=settings.batch_size,
        )
    else:
        count = problem.num_centres
        dtype = problem.nbeta.dtype
        sampler = jax.tree.map(
            lambda x: jnp.broadcast_to(jnp.asarray(x, dtype), (count,)), settings.sampler
        )
        draws = settings.num_draws or 1000
        plan = Plan(sampler, draws // 2, draws, np.zeros(count), 60, np.ones(count, bool))
    if settings.num_draws is not None:
        plan = plan._replace(num_draws=settings.num_draws)
    if settings.num_burnin is not None:
        plan = plan._replace(num_burnin=settings.num_burnin)
    return plan


def _sample(keys, problem, anchors, plan: Plan, settings: _Settings) -> chains.Draws:
    """Runs the chains for the planned length, and longer where the interval asks for it."""
    total = plan.num_burnin + plan.num_draws
    free = settings.num_draws is None and settings.sampler is None
    longest = plan.num_burnin + plan.num_draws * (MAX_LENGTHENING if free else 1)
    options = {"batch_size": settings.batch_size}
    state = chains.start_chains(
        keys, problem, anchors, plan.sampler, num_chains=settings.num_chains, **options
    )
    blocks = chains.run_chains(
        keys, problem, anchors, plan.sampler, state, block_length=chains.BLOCK_LENGTH, **options
    )
    kept: list[chains.Draws] = []
    while True:
        kept.append(next(blocks)[1])
        length = len(kept) * chains.BLOCK_LENGTH
        if length >= total:
            draws = chains.Draws(*(np.concatenate(parts, axis=2) for parts in zip(*kept)))
            draws = chains.Draws(*(x[:, :, : max(total, min(length, longest))] for x in draws))
            if length >= longest or _precise(draws.after(plan.num_burnin), problem, settings):
                return draws
            total = min(2 * length, longest)


def _precise(draws: chains.Draws, problem, settings: _Settings) -> bool:
    """Whether every finite centre's 95% interval is within the tolerance."""
    for excess, alive in zip(draws.excess_loss, draws.alive):
        if alive.all():
            estimate = mean_llc(excess, float(problem.nbeta))
            if 1.96 * estimate.sem > settings.tolerance * abs(estimate.mean):
                return False
    return True


def _centre(draws: chains.Draws, index: int) -> chains.Draws:
    return chains.Draws(*(x[index] for x in draws))


def _contexts(problem, anchors, plan, settings, draws, spent) -> Iterator[Context]:
    """What the verdict needs of each centre beside its draws."""
    nbeta, localization = float(problem.nbeta), float(problem.localization)
    leaves = jax.tree.leaves(problem.centres)
    sizes = np.array([leaf[0].size for leaf in leaves])
    squares = jax.vmap(lambda g: optax.tree.norm(g, squared=True))(anchors.gradient)
    stiffness = nbeta * np.maximum(np.asarray(anchors.gradient_curvature, np.float64), 0)
    drops = nbeta**2 * np.asarray(squares, np.float64) / (2 * (stiffness + localization + 1e-30))
    step_sizes = np.broadcast_to(np.asarray(plan.sampler.step_size), (problem.num_centres,))
    for i in range(problem.num_centres):
        yield Context(
            nbeta,
            localization,
            float(step_sizes[i]),
            settings.tolerance,
            sizes,
            float(drops[i]),
            bool(plan.stable[i]),
            spent + int(draws.num_gradients[i].sum()),
        )

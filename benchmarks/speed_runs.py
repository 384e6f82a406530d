"""What is timed, and how: runs that take turns, so that a busy machine slows all of them alike."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import slt_rl
from benchmarks import speed_cases
from slt_rl import chains
from slt_rl.convolutions import with_fast_convolutions
from slt_rl.keys import unrolled
from slt_rl.posterior import mean_loss

PyTree = Any


class Workload(NamedTuple):
    """A model with its center and data.

    Attributes:
        model: The network and its loss.
        params: The center.
        data: The data set.
    """

    model: speed_cases.Model
    params: PyTree
    data: slt_rl.Dataset


def workload(model: speed_cases.Model, num_examples: int = speed_cases.NUM_EXAMPLES) -> Workload:
    """The same center and data in every run."""
    key_params, key_data = jax.random.split(jax.random.key(0))
    params = model.init(key_params)
    return Workload(model, params, slt_rl.Dataset(model.data(key_data, params, num_examples)))


def _chains_and_batches(work: Workload, num_chains: int, batch_size: int) -> tuple:
    """Parameters and one batch for each chain, as a sampler has them."""
    keys = jax.random.split(jax.random.key(1), num_chains)
    batches = jax.vmap(
        lambda key: work.data.take(jax.random.randint(key, (batch_size,), 0, len(work.data)))
    )(keys)
    params = jax.tree.map(lambda x: jnp.repeat(x[None], num_chains, axis=0), work.params)
    return params, batches


def floor_loop(work: Workload, *, num_chains: int, batch_size: int, num_steps: int) -> Callable:
    """Returns what runs the bare value and gradient `num_steps` times in one program.

    The batches are fixed: no data are gathered, and nothing is recorded. A step waits for the one
    before, as a chain must: it starts from parameters that differ by a multiple of the last loss
    that is too small to change them, which costs a pass over the parameters.
    """
    params, batches = _chains_and_batches(work, num_chains, batch_size)
    run = functools.partial(_floor, work.model, params, batches, num_steps)
    return lambda: jax.block_until_ready(run())


def floor_gathering(
    work: Workload, *, num_chains: int, batch_size: int, num_steps: int
) -> Callable:
    """Returns `floor_loop` with a new minibatch of every chain in every step, as a sampler has it.

    What a sampler takes longer than this is its own doing: noise, update, and what it records.
    """
    params, _ = _chains_and_batches(work, num_chains, batch_size)
    run = functools.partial(_floor_gathering, work.model, params, work.data, num_steps, batch_size)
    return lambda: jax.block_until_ready(run())


def floor_calls(work: Workload, *, num_chains: int, batch_size: int, num_steps: int) -> Callable:
    """Returns what calls the bare jitted value and gradient `num_steps` times.

    Without the pass of `floor_loop`, but with a dispatch for every step.
    """
    params, batches = _chains_and_batches(work, num_chains, batch_size)

    def run():
        for _ in range(num_steps):
            result = _value_and_grad(work.model, params, batches)
        return jax.block_until_ready(result)

    return run


def num_operations(work: Workload, *, num_chains: int, batch_size: int) -> float:
    """Floating-point operations of one step of all chains, as XLA counts them; all its loops'."""
    params, batches = _chains_and_batches(work, num_chains, batch_size)
    counted = _value_and_grad.lower(work.model, params, batches).cost_analysis()["flops"]
    return work.model.loop_length * counted


@functools.partial(jax.jit, static_argnums=0)
def _value_and_grad(loss_fn, params, batches):
    return jax.vmap(jax.value_and_grad(lambda w, b: mean_loss(loss_fn, b, w)))(params, batches)


@functools.partial(jax.jit, static_argnums=(0, 3))
@functools.partial(with_fast_convolutions, static_argnums=(0, 3))
def _floor(loss_fn, params, batches, num_steps):
    def step(last, _):
        return _value_and_grad(loss_fn, _after(last, params), batches), None

    start = _value_and_grad(loss_fn, params, batches)
    return jax.lax.scan(step, start, None, length=num_steps - 1)[0]


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
@functools.partial(with_fast_convolutions, static_argnums=(0, 3, 4))
def _floor_gathering(loss_fn, params, data, num_steps, batch_size):
    keys = unrolled(jax.random.split(jax.random.key(1), len(jax.tree.leaves(params)[0])))

    def batch(key, number):
        key = jax.random.fold_in(key, number)
        return data.take(jax.random.randint(key, (batch_size,), 0, len(data)))

    def step(last, number):
        batches = jax.vmap(batch, in_axes=(0, None))(keys, number)
        return _value_and_grad(loss_fn, _after(last, params), batches), None

    start = _value_and_grad(loss_fn, params, jax.vmap(batch, in_axes=(0, None))(keys, 0))
    return jax.lax.scan(step, start, jnp.arange(1, num_steps))[0]


def _after(last, params: PyTree) -> PyTree:
    """The parameters, not known before the last loss is."""
    nothing = 1e-30 * last[0]
    return jax.tree.map(lambda w: jax.vmap(jnp.add)(w, nothing.astype(w.dtype)), params)


def make_problem(work: Workload, num_centers: int = 1) -> chains.Problem:
    """The local posterior of the published timings, at `num_centers` copies of the center."""
    centers = jax.tree.map(lambda x: jnp.repeat(x[None], num_centers, axis=0), work.params)
    dtype = jnp.result_type(float)
    return chains.Problem(
        chains.constant_target(work.model),
        centers,
        work.data,
        jnp.asarray(speed_cases.NBETA, dtype),
        jnp.asarray(speed_cases.LOCALIZATION, dtype),
    )


def sampling(
    work: Workload,
    *,
    num_chains: int,
    batch_size: int,
    num_steps: int,
    binomial_increments: bool = False,
) -> Callable:
    """Returns what runs the library's loop for `num_steps` steps, its draws on the host."""
    problem = make_problem(work)
    # Without curvatures, 31 products on all data, longer than what is timed.
    anchors = chains.find_anchors(jax.random.key(2), problem, num_iterations=0)
    keys = chains.center_keys(jax.random.key(3), 1)
    sampler = slt_rl.SGLD(speed_cases.STEP_SIZE, binomial_increments=binomial_increments)
    options = {"sampler": sampler, "batch_size": batch_size}
    state = chains.start_chains(keys, problem, anchors, num_chains=num_chains, **options)
    blocks = chains.run_chains(
        keys, problem, anchors, state=state, block_length=num_steps, **options
    )
    return lambda: next(blocks)


def call(
    work: Workload, *, num_chains: int, batch_size: int, num_steps: int, calibrated: bool = False
) -> Callable:
    """Returns what estimates the LLC: anchor, `num_steps` draws of each chain, and verdict.

    With a given sampler from the center on, or with everything calibrated in a burn-in before.
    """
    sampler = None if calibrated else slt_rl.SGLD(speed_cases.STEP_SIZE)

    def run():
        return slt_rl.estimate_llc(
            jax.random.key(4),
            work.model,
            work.params,
            work.data,
            nbeta=speed_cases.NBETA,
            localization=speed_cases.LOCALIZATION,
            sampler=sampler,
            num_chains=num_chains,
            num_draws=num_steps,
            num_burnin=None if calibrated else 0,
            batch_size=batch_size,
        )

    return run


class Times(NamedTuple):
    """Seconds of the rounds of one run; `cpu` is of this process, all threads."""

    wall: list[float]
    cpu: list[float]

    def per(self, count: int) -> dict[str, float]:
        """Medians and quartiles in microseconds for each of `count` units of work."""
        low, middle, high = np.quantile(self.wall, (0.25, 0.5, 0.75)) / count * 1e6
        cpu = float(np.median(self.cpu)) / count * 1e6
        return {"wall": float(middle), "low": float(low), "high": float(high), "cpu": cpu}


def take_turns(runs: Mapping[str, Callable], *, seconds: float, least: int = 5) -> dict[str, Times]:
    """Runs all in turn, round after round, for so many seconds but at least `least` rounds.

    A first round, which compiles, is not counted. A run may return `(wall, cpu)` seconds measured
    elsewhere, as one in another process does.
    """
    for run in runs.values():
        run()
    found = {name: Times([], []) for name in runs}
    end = time.perf_counter() + seconds
    num_rounds = 0
    while num_rounds < least or time.perf_counter() < end:
        # Every other round goes backwards: what a run leaves behind meets both of its neighbors.
        for name in list(runs)[:: 1 - 2 * (num_rounds % 2)]:
            wall, cpu = timed(runs[name])
            found[name].wall.append(wall)
            found[name].cpu.append(cpu)
        num_rounds += 1
    return found


def timed(run: Callable) -> tuple[float, float]:
    """Seconds `(wall, cpu)` of one run."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    if isinstance(result, Elsewhere):
        return result
    return time.perf_counter() - wall, time.process_time() - cpu


class Elsewhere(NamedTuple):
    """Seconds that a run took in another process."""

    wall: float
    cpu: float


def ratio(found: Mapping[str, Times], over: str, under: str) -> float:
    """Median over rounds of the ratio of wall times: neighbors in time meet the same machine."""
    pairs = zip(found[over].wall, found[under].wall, strict=True)
    return float(np.median([a / b for a, b in pairs]))

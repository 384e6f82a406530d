"""The parts of the speed benchmark on a CPU: the loop, whole calls, whole curves, training."""

import argparse
import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

import slt_rl
from benchmarks import (
    speed_cases,
    speed_loop,
    speed_peers,
    speed_ppo,
    speed_runs,
)
from benchmarks.runs import in_process

NUM_CHAINS, BATCH_SIZE, NUM_DRAWS = 4, 512, 500
CURVE_LENGTH = 100


@dataclasses.dataclass(frozen=True)
class PartCase:
    """Something to be measured.

    Attributes:
        name: Unique among the cases.
        measure: `options -> row`.
    """

    name: str
    measure: Callable[[argparse.Namespace], dict[str, Any]]


def cases(options: argparse.Namespace) -> list[PartCase]:
    """What the options ask for."""
    chosen = [m for m in speed_cases.models() if any(n in m.name for n in options.models)]
    dense = [model for model in chosen if model.name.startswith(("DLN", "MLP"))]
    linear = [model for model in dense if model.name.startswith("DLN")]
    # A case is bound as a default: a plain closure would see the last one.
    found = {
        "loop": [
            PartCase(case.name, lambda options, case=case: speed_loop.measure(case, options))
            for case in speed_loop.cases(options)
        ],
        "call": [
            PartCase(f"call: {m.name}", lambda options, m=m: measure_call(m, options))
            for m in dense
        ],
        "calibration": [
            PartCase(f"calibration: {m.name}", lambda options, m=m: measure_calibration(m, options))
            for m in dense
        ],
        "curve": [
            PartCase(f"curve: {m.name}", lambda options, m=m: measure_curve(m, options))
            for m in linear
        ],
        "ppo": [
            PartCase(f"ppo: {t.name}", lambda options, t=t: speed_ppo.measure(t, options.seconds))
            for t in speed_ppo.trainings(options.quick)
        ],
        "rollout": [
            PartCase(
                f"rollout: {t.name}",
                lambda options, t=t: speed_ppo.measure_play(t, options.seconds),
            )
            for t in speed_ppo.trainings(options.quick)
        ],
    }
    return [case for part in options.parts for case in found[part]]


def measure_call(model: speed_cases.Model, options: argparse.Namespace) -> dict[str, Any]:
    """Times whole estimates, warm and cold, beside those of the peers that can be installed."""
    work, size = speed_runs.workload(model, options.examples), _size(options)
    runs: dict[str, Callable] = {"slt_rl": speed_runs.call(work, **size)}
    skipped = {}
    with contextlib.ExitStack() as stack:
        for peer in speed_peers.PEERS if options.peers else ():
            threads = len(os.sched_getaffinity(0))
            try:
                run = speed_peers.started(peer, work, num_threads=threads, **size)
                runs[peer] = stack.enter_context(run)
            except speed_peers.NotInstalled as error:
                skipped[peer] = str(error)
        first = {name: speed_runs.timed(run)[0] for name, run in runs.items()}
        found = speed_runs.take_turns(runs, seconds=options.seconds, least=3)
    first["slt_rl"] = cold_seconds(model, size, options)
    return _timed("call", model, size, found) | {
        "first_seconds": first,
        "ratios": {p: speed_runs.ratio(found, p, "slt_rl") for p in runs if p != "slt_rl"},
        "estimates": {p: run.values[-1] for p, run in runs.items() if p != "slt_rl"}
        | {"slt_rl": float(runs["slt_rl"]().mean)},
        "skipped": skipped,
    }


def measure_calibration(model: speed_cases.Model, options: argparse.Namespace) -> dict[str, Any]:
    """Times whole estimates with a given sampler and with automatic calibration, both compiled."""
    work, size = speed_runs.workload(model, options.examples), _size(options)
    runs = {
        name: speed_runs.call(work, calibrated=name == "calibrated", **size)
        for name in ("given", "calibrated")
    }
    found = speed_runs.take_turns(runs, seconds=options.seconds, least=3)
    count = size["num_chains"] * size["num_steps"]
    # The same key in every round, and so the same numbers.
    estimates = {name: run() for name, run in runs.items()}
    gradients = {name: e.num_gradient_evaluations / count for name, e in estimates.items()}
    return _timed("calibration", model, size, found) | {
        "gradients_per_draw": gradients,
        "effective_draws": {name: e.diagnostics["ess"] for name, e in estimates.items()},
        "ratio_wall": speed_runs.ratio(found, "calibrated", "given"),
        "ratio_gradients": gradients["calibrated"] / gradients["given"],
    }


def _size(options: argparse.Namespace) -> dict[str, int]:
    """Of a whole estimate."""
    draws = 8 if options.quick else NUM_DRAWS
    batch_size = min(BATCH_SIZE, options.examples)
    return {"num_chains": NUM_CHAINS, "batch_size": batch_size, "num_steps": draws}


def _timed(
    part: str,
    model: speed_cases.Model,
    size: Mapping[str, int],
    found: Mapping[str, speed_runs.Times],
) -> dict[str, Any]:
    """What rows of whole estimates have in common: times for each step of each chain."""
    count = size["num_chains"] * size["num_steps"]
    return {
        "part": part,
        "model": model.name,
        **size,
        "rounds": min(len(times.wall) for times in found.values()),
        "microseconds": {name: times.per(count) for name, times in found.items()},
    }


def cold_seconds(model: speed_cases.Model, size: dict[str, int], options) -> float:
    """Seconds of the first estimate of a new process, compilation included, imports not."""
    code = (
        "import time\n"
        "from benchmarks import speed_cases, speed_runs\n"
        f"model = next(m for m in speed_cases.models() if m.name == {model.name!r})\n"
        f"work = speed_runs.workload(model, {options.examples})\n"
        f"run = speed_runs.call(work, **{size!r})\n"
        "print(speed_runs.timed(run)[0])\n"
    )
    environment = {n: v for n, v in os.environ.items() if n != "JAX_COMPILATION_CACHE_DIR"}
    return float(in_process("-c", code, environment=environment))


def measure_curve(model: speed_cases.Model, options: argparse.Namespace) -> dict[str, Any]:
    """Times a curve of checkpoints beside one checkpoint, both compiled."""
    length, draws = (3, 8) if options.quick else (CURVE_LENGTH, NUM_DRAWS)
    work = speed_runs.workload(model, options.examples)
    runs = {
        name: curve_call(work, count, num_draws=draws, options=options)
        for name, count in (("curve", length), ("one", 1))
    }
    found = speed_runs.take_turns(runs, seconds=options.seconds, least=3)
    return {
        "part": "curve",
        "model": model.name,
        "checkpoints": length,
        "seconds_of": {name: value.per(1)["wall"] / 1e6 for name, value in found.items()},
        "rounds": len(found["one"].wall),
        "ratio": speed_runs.ratio(found, "curve", "one") / length,
    }


def curve_call(work, count: int, *, num_draws: int, options) -> Callable:
    """Returns what measures the center `count` times, as the checkpoints of a curve."""
    checkpoints = jax.tree.map(lambda x: jnp.repeat(x[None], count, axis=0), work.params)

    def run():
        return slt_rl.llc_curve(
            jax.random.key(0),
            _Target(work.model),
            checkpoints,
            data=work.data,
            nbeta=speed_cases.NBETA,
            localization=speed_cases.LOCALIZATION,
            sampler=slt_rl.SGLD(speed_cases.STEP_SIZE),
            num_chains=NUM_CHAINS,
            num_draws=num_draws,
            num_burnin=0,
            batch_size=min(BATCH_SIZE, options.examples),
        )

    return run


@dataclasses.dataclass(frozen=True)
class _Target:
    """`make_target` of a curve; equal for equal models, so that nothing is compiled twice."""

    model: speed_cases.Model

    def __call__(self, params, data):
        del params
        return self.model, data

"""The main job: train, measure, check, report. A killed run goes on where it stopped."""

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from slt_rl.progress import open_bar, tell
from slt_rl.report.checks import Check
from slt_rl.report.provenance import peak_memory_bytes
from slt_rl.report.summary import Report
from slt_rl.rl import cartpole
from slt_rl.validation import bayesian, curve_checks, curves, exact, presentation, training
from slt_rl.validation.curve_checks import Measured
from slt_rl.validation.protocol import Protocol
from slt_rl.validation.store import StageResult, Store, open_store

MEMORY_LIMIT = 4 * 2**30
# Stages side by side: compilation takes much of them, and one compilation uses one core.
NUM_WORKERS = 2


class Stages(NamedTuple):
    """What the stages left.

    Args:
        arrays: Arrays of each stage by its name.
        seconds: Wall time of each stage.
        choices: Measured runs of each training.
        checks: Those that need no stage, by their subject.
    """

    arrays: dict[str, Mapping[str, np.ndarray]]
    seconds: dict[str, float]
    choices: dict[str, np.ndarray]
    checks: dict[str, list[Check]]


def validate(protocol: Protocol, out: Path, *, progress: bool = True) -> Report:
    """Runs every stage that `out` does not hold yet, checks everything and writes the report.

    Double precision is needed: `jax_enable_x64` must be on.

    Args:
        protocol: `FULL` or `QUICK`, or one of your own.
        out: Folder of the report, made if missing; stages are kept in `out/stages`.
        progress: Show a progress bar; in a log, a line every ten seconds.

    Returns:
        The report, also written to `report.html` and `summary.json`.

    Raises:
        ValueError: If double precision is off, or `out` holds stages of other settings.
    """
    stages = _run_stages(open_store(out, protocol), protocol, progress)
    checks, parts = _examine(stages, protocol)
    checks.append(_memory_check())
    return presentation.write_report(Path(out), protocol, stages, checks=checks, parts=parts)


def _run_stages(store: Store, protocol: Protocol, show: bool) -> Stages:
    """Runs or loads all stages: what needs no other stage side by side, and curves beside them."""
    key = jax.random.key(protocol.seed)
    keys = {name: jax.random.fold_in(key, i) for i, name in enumerate(_KEYS)}
    found, stopped = Stages({}, {}, {}, {}), threading.Event()

    def inner(name: str, done: int, total: int) -> None:
        if stopped.is_set():
            raise _Stopped(name)
        tell(bar, f"{name} {done}/{total}")

    tasks = _independent(keys, protocol, inner)
    with open_bar(len(tasks) + 2 * protocol.num_llc_runs, unit="stage", show=show) as bar:

        def run(name: str, compute: Callable[[], Mapping[str, Any]]) -> Mapping[str, np.ndarray]:
            bar.set_description(name, refresh=False)
            result: StageResult = store.stage(name, compute)
            found.arrays[name], found.seconds[name] = result.arrays, result.seconds
            bar.update()
            return result.arrays

        # What is stored comes first: a file of other settings is refused before anything is run.
        for name in filter(store.holds, list(tasks)):
            run(name, tasks.pop(name))
        with _workers(stopped) as pool:
            running = {name: pool.submit(run, name, task) for name, task in tasks.items()}
            checking = pool.submit(_check, found, keys["controls"])
            # Curves count the programs compiled meanwhile, which must not be those of `exact`.
            if "exact" in running:
                running["exact"].result()
            for name in ("sgd", "ppo"):
                if name in running:
                    running[name].result()
                for stage, task in _curve_tasks(name, keys[f"{name}_curves"], found, protocol):
                    run(stage, task)
            for rest in running.values():
                rest.result()
            checking.result()
    return found


def _check(found: Stages, key: jax.Array) -> None:
    """What needs no stage."""
    found.checks["closed form"] = exact.closed_form_checks()
    found.checks["controls"] = exact.control_checks(key)


class _Stopped(Exception):
    """A stage ends unfinished, since the run was stopped."""


@contextmanager
def _workers(stopped: threading.Event) -> Iterator[ThreadPoolExecutor]:
    """Threads for stages; after Ctrl-C or an error none is begun, and those at work are told."""
    pool = ThreadPoolExecutor(NUM_WORKERS)
    try:
        yield pool
    except BaseException:
        stopped.set()
        raise
    finally:
        pool.shutdown(cancel_futures=stopped.is_set())


def _curve_tasks(
    name: str, key: jax.Array, found: Stages, protocol: Protocol
) -> Iterator[tuple[str, Callable[[], Mapping[str, Any]]]]:
    """Stages that measure runs of one training; the choice of runs is noted in `found`."""
    arrays = found.arrays[name]
    found.choices[name] = curves.choose_runs(arrays, protocol.num_llc_runs)
    for i in found.choices[name]:
        args = jax.random.fold_in(key, int(i)), arrays, int(i)
        task = functools.partial(curves.measure_run, *args, protocol=protocol)
        yield f"{name}_curves_{i}", task


def _independent(
    keys: Mapping[str, jax.Array], protocol: Protocol, progress: training.Progress
) -> dict[str, Callable[[], Mapping[str, Any]]]:
    """The stages that need no other one; first what the curves wait for."""
    tasks: dict[str, Callable[[], Mapping[str, Any]]] = {
        "exact": lambda: exact.measure_targets(keys["exact"], protocol),
        "sgd": lambda: training.train_supervised(keys["sgd"], protocol, progress),
        "ppo": lambda: training.train_ppo(keys["ppo"], protocol, progress),
        "occupancy": lambda: bayesian.measure_occupancy(keys["occupancy"], protocol),
    }
    if protocol.cartpole_steps:
        tasks["cartpole"] = lambda: _cartpole(keys["cartpole"], protocol)
    if protocol.num_nuts_chains:
        tasks["nuts"] = lambda: bayesian.measure_nuts(keys["nuts"], protocol)
    return tasks


_KEYS = (
    "exact",
    "cartpole",
    "sgd",
    "ppo",
    "sgd_curves",
    "ppo_curves",
    "occupancy",
    "nuts",
    "controls",
)


def _cartpole(key: jax.Array, protocol: Protocol) -> dict[str, np.ndarray]:
    """Trains five seeds on CartPole and plays fresh episodes with each."""
    key_train, key_play = jax.random.split(key)
    setup = cartpole.cartpole_setup(num_env_steps=protocol.cartpole_steps)
    for states, _ in cartpole.train_cartpole(key_train, setup, num_checkpoints=1):
        returns = cartpole.evaluate_cartpole(key_play, setup, states.params)
    return {"returns": returns}


def _examine(stages: Stages, protocol: Protocol) -> tuple[list[Check], presentation.Parts]:
    """All checks, and what the figures need."""
    arrays = stages.arrays
    checks = [
        *stages.checks["closed form"],
        *exact.target_checks(arrays["exact"]),
        *stages.checks["controls"],
    ]
    if "cartpole" in arrays:
        checks.append(_cartpole_check(arrays["cartpole"]["returns"], protocol))
    checks += training.supervised_checks(arrays["sgd"], protocol)
    checks += training.ppo_checks(arrays["ppo"], protocol)
    measured = [
        Measured(name, arrays[stage], runs, [arrays[f"{stage}_curves_{i}"] for i in runs])
        for name, stage, runs in (
            ("Supervised", "sgd", stages.choices["sgd"]),
            ("PPO", "ppo", stages.choices["ppo"]),
        )
    ]
    comparisons = [f(m) for f in (curve_checks.compare_regret, curve_checks.compare_kl)
                   for m in measured]  # fmt: skip
    checks += [curve_checks.agreement_check(c) for c in comparisons]
    checks.append(curve_checks.order_check(measured))
    potentials = {"Supervised": "supervised", "PPO": "regret"}
    transitions = [curve_checks.find_transitions(m, potentials[m.name]) for m in measured]
    for one, (_, detected) in zip(measured, transitions, strict=True):
        score = curve_checks.transition_score(one, detected)
        checks.append(curve_checks.transition_check(one, score))
    checks.append(curve_checks.compilation_check(measured))
    posterior = bayesian.occupancy(arrays["occupancy"], arrays.get("nuts"))
    checks += bayesian.occupancy_checks(posterior)
    return checks, presentation.Parts(measured, transitions, comparisons, posterior, potentials)


def _cartpole_check(returns: np.ndarray, protocol: Protocol) -> Check:
    mean = float(np.mean(returns))
    return Check(
        "PPO on CartPole",
        f"Mean return over five seeds after {protocol.cartpole_steps} steps each, the final policy "
        "on fresh complete episodes, actions sampled.",
        "at least 475",
        mean,
        mean >= 475,
        f"seeds: {', '.join(f'{r:.1f}' for r in returns)}",
        "Training",
    )


def _memory_check() -> Check:
    peak = peak_memory_bytes() / 2**30
    return Check(
        "peak memory",
        "Largest resident memory of the process, in GiB.",
        "at most 4",
        peak,
        peak * 2**30 <= MEMORY_LIMIT,
        group="Cost",
    )

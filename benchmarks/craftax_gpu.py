"""Craftax agents at scale on an accelerator: speed, return, achievements, events; with checkpoints.

    python -m benchmarks.craftax_gpu --out OUT --total 540 [--runs RUNS] [--steps 1e8]

Trains three agents one after the other, sharing the wall time that is left, with the numbers of the
published baselines: Classic feed-forward (two networks of 3 x 512) and recurrent (512 units), and
full Craftax feed-forward. All programs are compiled side by side before the first is needed. Full
run folders stay in RUNS; started again, each agent goes on from its last saved state. OUT receives
what is small: `result.json`, and for each agent a bundle of its statistics and some checkpoints of
the actor (`slt_rl.agents.unpack_run` makes a run folder of it). With `--whole` these hold the
critic too, and with `--bundles` a fresh machine goes on from the last of them, see
`slt_rl.agents.restart_run` for what is lost.

`--toy` shrinks everything, to try the command on a CPU.
"""

import argparse
import dataclasses
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import pages
from slt_rl.agents import load_run
from slt_rl.agents.agent import Agent, make_agent
from slt_rl.agents.bundle import pack_run, unpack_run
from slt_rl.agents.networks import NetworkSpec
from slt_rl.agents.restart import restart_run
from slt_rl.agents.run import Run
from slt_rl.agents.spec import LearningSpec, RunSpec, WorldSpec
from slt_rl.agents.training import compile_agent, train_agent
from slt_rl.development import event_curves
from slt_rl.report import collect_provenance

AGENTS = ("classic-feedforward", "classic-recurrent", "full-feedforward")
# Mean return of published agents, in % of the largest, full Craftax, 1e9 steps.
PUBLISHED = {"PPO": 11.9, "PPO-RNN": 15.3, "PPO-GTrXL": 18.3}
LARGEST_RETURN = {"craftax-classic": 22.0, "craftax": 226.0}
PACKAGES = ("slt_rl", "jax", "jaxlib", "numpy", "optax", "craftax")
NUM_WINDOWS = 20
# Kept back of an agent's share for its last files.
SAVING_SECONDS = 8.0


def main(arguments: list[str] | None = None) -> int:
    """Trains, measures, and writes what can be carried away."""
    options = parse(arguments)
    start = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    specs = {name: agent_spec(name, options) for name in options.agents}
    rows: dict[str, Any] = {}
    with ThreadPoolExecutor(len(specs)) as pool:
        ready = {name: pool.submit(prepared, spec) for name, spec in specs.items()}
        for number, name in enumerate(options.agents):
            agent, preparation = ready[name].result()
            left = start + options.total - time.monotonic()
            share = left / (len(options.agents) - number) - SAVING_SECONDS
            rows[name] = train_one(name, agent, share, options=options)
            rows[name]["preparation_seconds"] = preparation
            write_result(rows, time.monotonic() - start, options)
            # Last, and after the result: a network may be too large to be carried away.
            rows[name]["bundle_steps"] = packed(name, options)
            write_result(rows, time.monotonic() - start, options)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options, with one number of steps for each agent."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the small results")
    parser.add_argument("--runs", type=Path, default=Path("results/craftax_gpu"))
    parser.add_argument("--agents", nargs="+", choices=AGENTS, default=list(AGENTS))
    parser.add_argument("--total", type=float, default=540.0, help="seconds of the whole command")
    parser.add_argument("--steps", nargs="+", type=float, default=[1e8], help="for each agent")
    parser.add_argument("--envs", type=int, default=1024)
    parser.add_argument("--unroll", type=int, default=64)
    parser.add_argument("--pool", type=int, default=4096, help="worlds (full Craftax: a quarter)")
    parser.add_argument("--checkpoints", type=int, default=100)
    parser.add_argument("--mebibytes", type=float, default=15.0, help="of a bundle at most")
    parser.add_argument("--whole", action="store_true", help="bundles to go on from")
    parser.add_argument("--bundles", type=Path, help="folder of bundles to go on from")
    parser.add_argument("--toy", action="store_true", help="everything small")
    options = parser.parse_args(arguments)
    if len(options.steps) == 1:
        options.steps *= len(options.agents)
    if len(options.steps) != len(options.agents):
        parser.error(f"--steps: got {len(options.steps)} for {len(options.agents)} agents")
    return options


def agent_spec(name: str, options: argparse.Namespace) -> RunSpec:
    """The description of one of the agents."""
    full, width = name.startswith("full"), 512 if name.endswith("recurrent") else 0
    world = WorldSpec(
        world="craftax" if full else "craftax-classic",
        map_size=None,
        pool_size=max(1, options.pool // 4) if full else options.pool,
    )
    network = NetworkSpec(width=width, hidden=512, layers=3)
    learning = LearningSpec(num_envs=options.envs, num_steps=options.unroll)
    if options.toy:
        world = dataclasses.replace(world, pool_size=4, map_size=16, max_timesteps=20)
        network = NetworkSpec(width=min(width, 8), hidden=8, layers=1)
        learning = LearningSpec(num_envs=8, num_steps=8)
    steps = options.steps[options.agents.index(name)]
    return RunSpec(
        world=world,
        network=network,
        learning=learning,
        num_updates=max(1, round(steps / (learning.num_envs * learning.num_steps))),
        num_checkpoints=options.checkpoints,
    )


def prepared(spec: RunSpec) -> tuple[Agent, float]:
    """The agent with its worlds made and its program compiled, and the seconds that took."""
    start = time.monotonic()
    agent = make_agent(spec)
    compile_agent(agent)
    return agent, time.monotonic() - start


class Clock:
    """Wall time at each checkpoint, and a line on what goes on."""

    def __init__(self, name: str, steps_per_update: int):
        self.name, self.steps_per_update = name, steps_per_update
        self.start = time.monotonic()
        self.updates: list[int] = []
        self.seconds: list[float] = []

    def __call__(self, update: int, num_updates: int, statistics: Any) -> None:
        """Notes the time; called by the trainer."""
        self.updates.append(update)
        self.seconds.append(time.monotonic() - self.start)
        if len(self.updates) < 2 or not statistics["num_episodes"].sum():
            return
        mean = statistics["total_return"].sum() / statistics["num_episodes"].sum()
        print(
            f"{self.name} {update}/{num_updates} return {mean:.2f} "
            f"{self.speeds()[-1]:.0f} steps/s at {self.seconds[-1]:.0f} s",
            flush=True,
        )

    def speeds(self) -> np.ndarray:
        """Steps per second between successive checkpoints."""
        return np.diff(self.updates) * self.steps_per_update / np.diff(self.seconds)


def train_one(
    name: str, agent: Agent, seconds: float, *, options: argparse.Namespace
) -> dict[str, Any]:
    """Trains one agent for so many seconds and says how it went."""
    clock = Clock(name, agent.spec.steps_per_update)
    folder = options.runs / name
    if options.bundles and not folder.exists():
        unpack_run(options.bundles / f"{name}.safetensors", folder)
        restart_run(folder, agent=agent)
    finished = train_agent(agent, folder, progress=clock, save_every=120.0, seconds=seconds)
    run = load_run(folder)
    speeds = clock.speeds()
    return {
        "finished": finished,
        "segments": [dict(segment) for segment in run.record.segments],
        "seconds": clock.seconds,
        "updates": clock.updates,
        # The first stretch loads the program.
        "median_steps_per_second": float(np.median(speeds[1:])) if speeds.size > 1 else None,
        "spec": run.spec.to_json(),
        **measured(run),
    }


def packed(name: str, options: argparse.Namespace) -> list[int] | str:
    """Packs a run; the steps of its checkpoints, or why there is no bundle."""
    path, max_bytes = options.out / f"{name}.safetensors", int(options.mebibytes * 2**20)
    settings = {"max_bytes": max_bytes, "dtype": np.float16, "whole": options.whole}
    try:
        return list(pack_run(options.runs / name, path, **settings))
    except ValueError as error:
        return str(error)


def measured(run: Run) -> dict[str, Any]:
    """Return, achievements and events over windows of training, with errors over episodes."""
    totals = run.totals()
    num_updates = totals.num_episodes.shape[0] - 1
    window = max(1, num_updates // NUM_WINDOWS)
    curves = event_curves(totals, window=window)
    statistics = run.statistics(run.seeds[0])
    returns = windowed_return(statistics, window)
    plant = run.event_names.index("plant")
    largest = LARGEST_RETURN[run.spec.world.world]
    return {
        "steps": num_updates * run.spec.steps_per_update,
        "window_steps": window * run.spec.steps_per_update,
        "mean_return": returns,
        "return_percent": [None if r is None else 100 * r / largest for r in returns],
        "episodes": curves.num_episodes[0].tolist(),
        "mean_length": finite(curves.mean_length[0]),
        "event_names": list(run.event_names),
        "last_per_episode": finite(curves.per_episode[0, -1]),
        "last_sem": finite(curves.sem[0, -1]),
        "plants_per_episode": finite(curves.per_episode[0, :, plant]),
        "plants_sem": finite(curves.sem[0, :, plant]),
    }


def windowed_return(statistics: dict[str, np.ndarray], window: int) -> list[float | None]:
    """Mean return of the episodes that ended in each window; None where none did."""
    count = statistics["num_episodes"].size // window

    def sums(name):
        return statistics[name][: count * window].reshape(count, window).sum(axis=1)

    with np.errstate(invalid="ignore"):
        return finite(sums("total_return") / sums("num_episodes"))


def finite(values: np.ndarray) -> list[float | None]:
    """Numbers for JSON, None where there is none."""
    return [round(float(v), 6) if np.isfinite(v) else None for v in values]


def write_result(rows: dict[str, Any], seconds: float, options: argparse.Namespace) -> None:
    """Writes `result.json`; after each agent, so that a stop loses little."""
    provenance = collect_provenance(vars(options), {"all": seconds}, packages=PACKAGES)
    record = {
        "agents": rows,
        "published_percent_at_1e9_full": PUBLISHED,
        "command": pages.command(),
        "device": jax.devices()[0].device_kind,
        **dataclasses.asdict(provenance),
    }
    pages.write_json(options.out / "result.json", record)


if __name__ == "__main__":
    sys.exit(main())

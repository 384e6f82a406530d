"""The loop of the speed benchmark: a step of the sampler beside its bare gradient."""

import argparse
import dataclasses
from typing import Any

import jax
import numpy as np

from benchmarks import speed_cases, speed_runs

# Steps of a chain in one measurement, and operations of all chains that a CPU does in it.
MAX_STEPS, STEP_OPERATIONS = 128, 3e10

# What is divided by what: `None` is the floor.
RATIOS = {
    "ratio": ("normal", None),
    "ratio_binomial": ("binomial", None),
    "ratio_gathering": ("normal", "floor, gathering"),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """The loop alone, beside the bare gradient.

    Attributes:
        model: What is sampled.
        batch_size: Examples per gradient.
        num_chains: Chains side by side.
    """

    model: speed_cases.Model
    batch_size: int
    num_chains: int

    @property
    def name(self) -> str:
        """Unique among the cases."""
        return f"loop: {self.model.name}, batch {self.batch_size}, {self.num_chains} chains"


def measure(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Times the loop with both kinds of increments, and the floor: the faster of its two forms.

    On a GPU, where programs take long to compile, with normal increments alone.
    """
    work = speed_runs.workload(case.model, options.examples)
    size = {"num_chains": case.num_chains, "batch_size": case.batch_size}
    steps = num_steps(work, options, **size)
    runs = {
        "floor, one program": speed_runs.floor_loop(work, num_steps=steps, **size),
        "floor, single calls": speed_runs.floor_calls(work, num_steps=steps, **size),
        "floor, gathering": speed_runs.floor_gathering(work, num_steps=steps, **size),
        "normal": speed_runs.sampling(work, num_steps=steps, **size),
    }
    if options.device == "cpu":
        run = speed_runs.sampling(work, num_steps=steps, binomial_increments=True, **size)
        runs["binomial"] = run
    found = speed_runs.take_turns(runs, seconds=options.seconds)
    count = steps * case.num_chains
    times = {name: value.per(count) for name, value in found.items()}
    floor = min(("floor, one program", "floor, single calls"), key=lambda n: times[n]["wall"])
    ratios = {
        name: speed_runs.ratio(found, over, under or floor)
        for name, (over, under) in RATIOS.items()
        if over in runs
    }
    return {
        "part": "loop",
        "model": case.model.name,
        "parameters": sum(x.size for x in jax.tree.leaves(work.params)),
        **size,
        "steps": steps,
        "rounds": len(found[floor].wall),
        "floor": floor,
        "microseconds": times,
        **ratios,
        "steps_per_second": 1e6 / times["normal"]["wall"],
        "device": jax.devices()[0].device_kind,
    }


def num_steps(work: speed_runs.Workload, options: argparse.Namespace, **size: int) -> int:
    """A power of two of steps that take about half a second on a CPU, by counted operations.

    Counted and not timed, so that the programs of a case are always the same ones.
    """
    if options.quick:
        return 4
    if options.device == "gpu":
        return MAX_STEPS
    operations = speed_runs.num_operations(work, **size)
    return 2 ** int(np.clip(np.log2(STEP_OPERATIONS / operations), 1, np.log2(MAX_STEPS)))


def cases(options: argparse.Namespace) -> list[Case]:
    """The cases that the options ask for."""
    chosen = [m for m in speed_cases.models() if any(n in m.name for n in options.models)]
    return [
        Case(model, batch_size, num_chains)
        for model in chosen
        for batch_size in options.batches
        for num_chains in options.chains
    ]

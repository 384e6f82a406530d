"""How fast the library samples: beside the bare gradient, and beside other libraries.

    python -m benchmarks.speed [--models MLP] [--parts loop,call,curve,ppo] [--seconds 10] [--quick]
    python -m benchmarks.speed --device gpu --minutes 2 --out FOLDER

All runs of a case take turns, and a ratio is the median over the rounds, so that a busy machine
slows both of its sides. Writes `speed.md`, `.json` and a figure; a run that was killed goes on
where it stopped. On a GPU it writes `speed_gpu.json` alone.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import rows, speed_cases, speed_runs

PARTS = ("loop", "call", "curve", "ppo")
GPU_MODELS, GPU_CHAINS = ("MLP", "convolutional"), (4, 64, 1024)
# Steps of a chain in one measurement, and operations of all chains that a CPU does in it.
MAX_STEPS, STEP_OPERATIONS = 128, 3e10

# What is divided by what: `None` is the floor.
RATIOS = {
    "ratio": ("normal", None),
    "ratio_binomial": ("binomial", None),
    "ratio_gathering": ("normal", "floor, gathering"),
}


@dataclasses.dataclass(frozen=True)
class LoopCase:
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


def measure_loop(case: LoopCase, options: argparse.Namespace) -> dict[str, Any]:
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
    return 2 ** int(np.clip(np.log2(STEP_OPERATIONS / operations), 2, np.log2(MAX_STEPS)))


def loop_cases(options: argparse.Namespace) -> list[LoopCase]:
    """The cases that the options ask for."""
    chosen = [m for m in speed_cases.models() if any(n in m.name for n in options.models)]
    return [
        LoopCase(model, batch_size, num_chains)
        for model in chosen
        for batch_size in options.batches
        for num_chains in options.chains
    ]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    numbers = {"type": lambda text: [int(x) for x in text.split(",")]}
    words = {"type": lambda text: text.split(",")}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=PARTS, **words, help="of " + ", ".join(PARTS))
    parser.add_argument("--models", **words, help="parts of names of models")
    parser.add_argument("--batches", **numbers)
    parser.add_argument("--chains", **numbers)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each case")
    parser.add_argument("--peers", action="store_true", help="install and time other libraries")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--minutes", type=float, help="start no case of a GPU after so long")
    parser.add_argument("--quick", action="store_true", help="toy sizes: does it run at all")
    parser.add_argument("--out", type=Path, help="folder of the results")
    options = parser.parse_args(arguments)
    on_gpu = options.device == "gpu"
    options.models = options.models or (GPU_MODELS if on_gpu else [""])
    options.batches = options.batches or ([512] if on_gpu else [512, 32])
    options.chains = options.chains or (list(GPU_CHAINS) if on_gpu else [4, 32])
    options.examples = speed_cases.NUM_EXAMPLES
    if options.quick:
        options.examples, options.seconds = 64, 0.0
        options.batches, options.chains = [16], [2]
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what is missing, then writes the results."""
    options = parse(arguments)
    if options.device == "gpu":
        return main_gpu(options)
    from benchmarks import speed_parts

    return speed_parts.main_cpu(options)


def main_gpu(options: argparse.Namespace) -> int:
    """Measures the loop until the time is over, writing the rows as they come."""
    end = time.monotonic() + 60 * (options.minutes or 1e6)
    options.seconds = min(options.seconds, 3.0)
    found: list[dict[str, Any]] = []
    for case in loop_cases(options):
        if time.monotonic() > end:
            found.append({"case": case.name, "skipped": "the time was over"})
        else:
            found.append(_attempt(case, options))
        print(json.dumps(found[-1]), flush=True)
        _write_gpu(found, options)
    return 0


def _attempt(case: LoopCase, options: argparse.Namespace) -> dict[str, Any]:
    """A row, or the reason why there is none: one case that is too large must not cost the rest."""
    start = time.monotonic()
    try:
        row = {"case": case.name, **measure_loop(case, options)}
    except Exception as error:  # noqa: BLE001
        row = {"case": case.name, "failed": f"{type(error).__name__}: {error}"[:500]}
    jax.clear_caches()
    return row | {"seconds": round(time.monotonic() - start, 2)}


def _write_gpu(found: list[dict[str, Any]], options: argparse.Namespace) -> None:
    made = {
        "command": " ".join(["python -m benchmarks.speed", *sys.argv[1:]]),
        "jax": jax.__version__,
        "python": sys.version.split()[0],
        "device": jax.devices()[0].device_kind,
        "matmul_precision": str(jax.config.jax_default_matmul_precision),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "rows": found,
    }
    folder = options.out or rows.ROOT / "benchmarks" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "speed_gpu.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())

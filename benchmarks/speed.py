"""How fast the library samples: beside the bare gradient, and beside other libraries.

    python -m benchmarks.speed [--models MLP] [--parts loop,calibration] [--seconds 10] [--quick]
    python -m benchmarks.speed --device gpu --minutes 2 --out FOLDER

All runs of a case take turns, and a ratio is the median over the rounds, so that a busy machine
slows both of its sides. Writes `speed.md`, `.json` and figures, one part alone `speed_<part>.md`
(of `call` `speed_peers.md`); a run that was killed goes on where it stopped. On a GPU it writes
`speed_gpu.json` alone.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax

from benchmarks import pages, rows, runs, speed_cases, speed_loop, speed_page, speed_parts

PARTS = ("loop", "call", "calibration", "curve", "ppo", "rollout")
GPU_MODELS, GPU_CHAINS = ("MLP", "convolutional"), (4, 64, 1024)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    numbers = {"type": lambda text: [int(x) for x in text.split(",")]}
    words = {"type": lambda text: text.split(",")}
    parser = runs.parser(__doc__)
    parser.add_argument("--parts", default=PARTS, **words, help="of " + ", ".join(PARTS))
    parser.add_argument("--models", **words, help="parts of names of models")
    parser.add_argument("--batches", **numbers)
    parser.add_argument("--chains", **numbers)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each case")
    parser.add_argument("--peers", action="store_true", help="install and time other libraries")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--minutes", type=float, help="start no case of a GPU after so long")
    parser.add_argument("--quick", action="store_true", help="toy sizes: does it run at all")
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
    settings = {name: getattr(options, name) for name in ("seconds", "examples", "quick", "peers")}
    sources = "benchmarks/speed*.py", "benchmarks/single_file_ppo.py"
    return runs.run(
        rows.open_journal("speed" + "_quick" * options.quick, settings, *sources),
        speed_parts.cases(options),
        lambda case, key: case.measure(options),
        make_page=speed_page.make_page,
        options=options,
    )


def main_gpu(options: argparse.Namespace) -> int:
    """Measures the loop until the time is over, writing the rows as they come."""
    end = time.monotonic() + 60 * (options.minutes or 1e6)
    options.seconds = min(options.seconds, 3.0)
    found: list[dict[str, Any]] = []
    for case in speed_loop.cases(options):
        if time.monotonic() > end:
            found.append({"case": case.name, "skipped": "the time was over"})
        else:
            found.append(_attempt(case, options))
        print(json.dumps(found[-1]), flush=True)
        _write_gpu(found, options)
    return 0


def _attempt(case: speed_loop.Case, options: argparse.Namespace) -> dict[str, Any]:
    """A row, or the reason why there is none: one case that is too large must not cost the rest."""
    start = time.monotonic()
    try:
        row = {"case": case.name, **speed_loop.measure(case, options)}
    except Exception as error:  # noqa: BLE001
        row = {"case": case.name, "failed": f"{type(error).__name__}: {error}"[:500]}
    jax.clear_caches()
    return row | {"seconds": round(time.monotonic() - start, 2)}


def _write_gpu(found: list[dict[str, Any]], options: argparse.Namespace) -> None:
    made = pages.how_made(found, vars(options)) | {
        "matmul_precision": jax.config.jax_default_matmul_precision,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
    pages.write_json(options.out / "speed_gpu.json", made | {"rows": found})


if __name__ == "__main__":
    sys.exit(main())

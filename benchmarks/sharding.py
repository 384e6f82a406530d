"""One chain of a large network over simulated devices: what a device needs, and the same draws.

    python -m benchmarks.sharding [--devices 1 2 4 8 16] [--out benchmarks/results]

The parameters, in single precision, fill the share of memory that a device is taken to have. Each
number of devices has a process of its own, which asks XLA what its programs need on a device and
runs the chain; its draws are compared with those of one device. Writes `sharding.md` and `.json`;
rows of a run that was stopped are used again.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

import slt_rl
from benchmarks.memory import squared_errors
from benchmarks.rows import ROOT, WORK, Journal, source_digest
from slt_rl import chains
from slt_rl.data import as_dataset
from slt_rl.groups import Sizes
from slt_rl.report import collect_provenance

NUM_EXAMPLES, BLOCK, NUM_BLOCKS = 16, 4, 2
SAMPLER = slt_rl.SGLD(1e-7)
# The hidden units lie over the devices: columns of the first matrix, rows of the second.
PARTS = {"first": PartitionSpec(None, None, "device"), "second": PartitionSpec(None, "device")}


def main() -> int:
    """Measures every number of devices and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--measure", action="store_true", help="in this process, as JSON")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.width, options.hidden)))
        return 0
    start = time.perf_counter()
    settings = {"width": options.width, "hidden": options.hidden}
    rows = collect(options, settings)
    provenance = collect_provenance(settings, {"sharding": time.perf_counter() - start})
    options.out.mkdir(parents=True, exist_ok=True)
    record = {"rows": rows, **dataclasses.asdict(provenance)}
    (options.out / "sharding.json").write_text(json.dumps(record, indent=1, default=str) + "\n")
    (options.out / "sharding.md").write_text(as_markdown(rows, provenance))
    return 0


def collect(options: Any, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of all numbers of devices, those that are missing measured."""
    digest = source_digest("benchmarks/sharding.py", "benchmarks/memory.py")
    journal = Journal(WORK / "sharding.jsonl", settings, digest)
    for devices in tqdm(options.devices, disable=None):
        if ("devices", devices) not in journal.read():
            found = in_process(devices, options)
            journal.append({"case": "devices", "key": devices, "devices": devices, **found})
    rows = journal.read()
    return [rows["devices", devices] for devices in options.devices]


def in_process(devices: int, options: Any) -> dict[str, Any]:
    """What `measure` finds in a fresh process with so many devices."""
    flags = f"--xla_cpu_multi_thread_eigen=false --xla_force_host_platform_device_count={devices}"
    words = ["--measure", "--width", options.width, "--hidden", options.hidden]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.sharding", *map(str, words)],
        capture_output=True, text=True, cwd=ROOT, check=False,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{devices} devices: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(width: int, hidden: int) -> dict[str, Any]:
    """Bytes that one chain needs on a device, as XLA plans and as arrays lie, and its draws."""
    problem, key = make_problem(width, hidden), jax.random.key(0)
    anchors = chains.find_anchors(key, problem)
    find = chains._find_anchors.lower(problem.make_target, problem.centers, problem.shared, key, 30)
    keys = chains.center_keys(jax.random.key(1), 1)
    state = chains.start_chains(keys, problem, anchors, sampler=SAMPLER, num_chains=1)
    block = chains._advance.lower(
        problem.make_target, chains.numbers_of(problem, anchors),
        chains.per_chain(SAMPLER, problem, 1), state, keys,
        Sizes(BLOCK, None, 1), None,
    )  # fmt: skip
    blocks = chains.run_chains(
        keys, problem, anchors, sampler=SAMPLER, state=state, block_length=BLOCK
    )
    made = [next(blocks) for _ in range(NUM_BLOCKS)]
    leaves = jax.tree.leaves(problem.centers)
    return {
        "parameters": sum(leaf.size for leaf in leaves),
        "bytes": sum(leaf.nbytes for leaf in leaves),
        "position": largest_part(made[-1][0].sampler_state.position),
        "anchor": planned_bytes(find),
        "block": planned_bytes(block),
        **{
            name: np.concatenate([np.ravel(getattr(draws, name)) for _, draws in made]).tolist()
            for name in ("excess_loss", "squared_distance")
        },
    }


def make_problem(width: int, hidden: int) -> chains.Problem:
    """A network that has learned its own outputs, its hidden units spread over all devices."""
    rng = np.random.default_rng(0)
    mesh = Mesh(np.array(jax.devices()), ("device",))
    params = {
        name: rng.standard_normal(shape, np.float32) / np.float32(shape[0] ** 0.5)
        for name, shape in {"first": (width, hidden), "second": (hidden, width)}.items()
    }
    inputs = rng.standard_normal((NUM_EXAMPLES, width), np.float32)
    # Its own outputs: the loss at the center is zero, and losses have no large number in common.
    data = as_dataset((inputs, np.tanh(inputs @ params["first"]) @ params["second"]))
    centers = {
        name: jax.device_put(params[name][None], NamedSharding(mesh, PARTS[name])) for name in PARTS
    }
    target = chains.constant_target(squared_errors)
    return chains.Problem(target, centers, data, jnp.float32(10), jnp.float32(10))


def planned_bytes(lowered: Any) -> int:
    """What a device needs for a program: arguments, results that are not written over them, work.

    Args:
        lowered: A jitted function, lowered for its arguments.
    """
    plan = lowered.compile().memory_analysis()
    results = plan.output_size_in_bytes - plan.alias_size_in_bytes
    return plan.argument_size_in_bytes + results + plan.temp_size_in_bytes


def largest_part(tree: Any) -> int:
    """Bytes of the arrays of a pytree that lie on the fullest device."""
    held: dict[Any, int] = {}
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            held[shard.device] = held.get(shard.device, 0) + shard.data.nbytes
    return max(held.values())


def difference(rows: list[dict[str, Any]], name: str) -> list[float]:
    """Largest difference of a recorded number from that of the first row, relative to its mean."""
    first = np.array(rows[0][name])
    return [float(np.max(np.abs(row[name] - first)) / np.mean(np.abs(first))) for row in rows]


def as_markdown(rows: list[dict[str, Any]], provenance: Any) -> str:
    """The results as a page."""
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    share = rows[0]["bytes"]
    fits = [row["devices"] for row in rows if max(row["anchor"], row["block"]) < share]
    losses, distances = (difference(rows, name) for name in ("excess_loss", "squared_distance"))
    lines = [
        f"# One chain of {rows[0]['parameters']:,} parameters over several devices",
        "",
        f"Command `python -m benchmarks.sharding`; commit {provenance.commit}; {versions}; "
        f"{provenance.machine['cores']} cores, {provenance.machine['processor']}; "
        f"{provenance.total_seconds:.0f} s.",
        "",
        f"A simulated device has {share / 2**20:.0f} MiB: the parameters alone fill it. The whole "
        f"chain fits from {fits[0] if fits else 'no such number of'} devices on.",
        "",
        "In MiB on each device. `position`: the chain's parameters, on the fullest device. "
        "`anchor`, `block`: arguments, results and work space that XLA plans for the loss, "
        "gradient and curvature of the center, and for a block of SGLD with full data. `loss`, "
        f"`distance`: largest difference of {BLOCK * NUM_BLOCKS} draws from those of one device, "
        "relative to their mean.",
        "",
        "| devices | position | anchor | block | loss | distance |",
        "|---|---|---|---|---|---|",
    ]
    for row, loss, distance in zip(rows, losses, distances, strict=True):
        sizes = [f"{row[name] / 2**20:.1f}" for name in ("position", "anchor", "block")]
        cells = [row["devices"], *sizes, f"{loss:.1g}", f"{distance:.1g}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

"""One chain of a large network over simulated devices: what a device needs, and the same draws.

    python -m benchmarks.sharding [--devices 1 2 4 8 16] [--out benchmarks/results]

The parameters, in single precision, fill the share of memory that a device is taken to have. Each
number of devices has a process of its own, which asks XLA what its programs need on a device and
runs the chain; its draws are compared with those of one device. Writes `sharding.md` and `.json`;
rows of a run that was stopped are used again.
"""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from matplotlib.figure import Figure

import slt_rl
from benchmarks import pages, plans, rows, runs
from benchmarks.memory import squared_errors
from slt_rl import chains
from slt_rl.data import as_dataset
from slt_rl.groups import Sizes
from slt_rl.report.style import INK, new_figure, styled

NUM_EXAMPLES, BLOCK, NUM_BLOCKS = 16, 4, 2
SAMPLER = slt_rl.SGLD(1e-7)
NOTE = (
    "`position`: the chain's parameters, on the fullest device. `anchor`, `block`: arguments, "
    "results and work space that XLA plans for the loss, gradient and curvature of the center, and "
    "for a block of SGLD with full data. `loss`, `distance`: largest difference of "
    f"{BLOCK * NUM_BLOCKS} draws from those of one device, relative to their mean."
)
# The hidden units lie over the devices: columns of the first matrix, rows of the second.
PARTS = {"first": PartitionSpec(None, None, "device"), "second": PartitionSpec(None, "device")}


class Case(NamedTuple):
    """A number of devices."""

    devices: int

    @property
    def name(self) -> str:
        """Unique among the cases."""
        return f"{self.devices} devices"


def main() -> int:
    """Measures every number of devices and writes the results."""
    parser = runs.parser(__doc__)
    parser.add_argument("--devices", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--measure", action="store_true", help="in this process, as JSON")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.width, options.hidden)))
        return 0
    settings = {"width": options.width, "hidden": options.hidden}
    sources = (f"benchmarks/{name}.py" for name in ("sharding", "memory", "plans"))
    return runs.run(
        rows.open_journal("sharding", settings, *sources),
        [Case(devices) for devices in options.devices],
        lambda case, key: {"devices": case.devices, **in_process(case.devices, options)},
        make_page=make_page,
        options=options,
    )


def in_process(devices: int, options: Any) -> dict[str, Any]:
    """What `measure` finds in a fresh process with so many devices."""
    flags = f"--xla_cpu_multi_thread_eigen=false --xla_force_host_platform_device_count={devices}"
    words = ["--measure", "--width", options.width, "--hidden", options.hidden]
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    return json.loads(runs.in_process("-m", "benchmarks.sharding", *words, environment=environment))


def measure(width: int, hidden: int) -> dict[str, Any]:
    """Bytes that one chain needs on a device, as XLA plans and as arrays lie, and its draws."""
    problem, key = make_problem(width, hidden), jax.random.key(0)
    anchors = chains.find_anchors(key, problem)
    keys = chains.center_keys(jax.random.key(1), 1)
    state = chains.start_chains(keys, problem, anchors, sampler=SAMPLER, num_chains=1)
    block = plans.block_plan(problem, anchors, SAMPLER, num_chains=1, sizes=Sizes(BLOCK, None, 1))
    blocks = chains.run_chains(
        keys, problem, anchors, sampler=SAMPLER, state=state, block_length=BLOCK
    )
    made = [next(blocks) for _ in range(NUM_BLOCKS)]
    leaves = jax.tree.leaves(problem.centers)
    return {
        "parameters": sum(leaf.size for leaf in leaves),
        "bytes": sum(leaf.nbytes for leaf in leaves),
        "position": largest_part(made[-1][0].sampler_state.position),
        "anchor": plans.planned_bytes(plans.anchor_plan(problem)),
        "block": plans.planned_bytes(block),
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


def largest_part(tree: Any) -> int:
    """Bytes of the arrays of a pytree that lie on the fullest device."""
    held: dict[Any, int] = {}
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            held[shard.device] = held.get(shard.device, 0) + shard.data.nbytes
    return max(held.values())


def difference(found: Sequence[dict[str, Any]], name: str) -> list[float]:
    """Largest difference of a recorded number from that of the first row, relative to its mean."""
    first = np.array(found[0][name])
    return [float(np.max(np.abs(row[name] - first)) / np.mean(np.abs(first))) for row in found]


def make_page(found: Sequence[dict[str, Any]]) -> pages.Page:
    """The results as a page."""
    share = found[0]["bytes"]
    fits = [row["devices"] for row in found if max(row["anchor"], row["block"]) < share]
    losses, distances = (difference(found, name) for name in ("excess_loss", "squared_distance"))
    abstract = (
        f"A simulated device has {share / 2**20:.0f} MiB: the parameters alone fill it. The whole "
        f"chain fits from {fits[0] if fits else 'no such number of'} devices on."
    )
    header = ("devices", "position", "anchor", "block", "loss", "distance")
    cells = [
        [row["devices"], *(f"{row[name] / 2**20:.1f}" for name in header[1:4])]
        + [f"{loss:.1g}", f"{distance:.1g}"]
        for row, loss, distance in zip(found, losses, distances, strict=True)
    ]
    title = f"One chain of {found[0]['parameters']:,} parameters over several devices"
    table = pages.Table("On each device, in MiB", header, cells, NOTE)
    return pages.Page("sharding", title, abstract, (), [table], {"memory": memory_figure(found)})


def memory_figure(found: Sequence[dict[str, Any]]) -> Figure:
    """What each part of the chain needs on a device, and what a device has."""
    devices = [row["devices"] for row in found]
    with styled():
        figure = new_figure((5.2, 3.4))
        axis = figure.subplots()
        for name, color in (("anchor", "#f0a202"), ("block", "#2b83c6"), ("position", "#35b08f")):
            sizes = [row[name] / 2**20 for row in found]
            axis.plot(devices, sizes, "o-", ms=4, lw=1.2, color=color, label=name)
        axis.axhline(found[0]["bytes"] / 2**20, color=INK, lw=0.9, label="share of a device")
        axis.set(xscale="log", yscale="log", xlabel="devices", ylabel="MiB on each device")
        axis.set_xticks(devices, [str(number) for number in devices])
        axis.set_xticks([], minor=True)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.legend()
    return figure


if __name__ == "__main__":
    sys.exit(main())

"""Peak memory of many chains of a large network, beside what their states alone need.

    python -m benchmarks.memory [--chains 32] [--width 992] [--out benchmarks/results]

The network has `width * width + ...` parameters, in single precision. Each case runs in a process
of its own; its peak is that of the operating system, less the peak of a process that did the same
with one chain of a tiny network. The compiler's own memory, larger for the programs of a large
network whatever the chains, is counted apart. Linux with glibc alone. Writes `memory.md` and
`memory.json`.
"""

import ctypes
import functools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import slt_rl
from benchmarks import pages, plans, rows, runs
from slt_rl import chains
from slt_rl.data import as_dataset
from slt_rl.groups import Sizes, group_size

# Memory does not grow with the length of a block but for the draws' scalars.
BLOCK, NUM_EXAMPLES = 4, 64
# The place among the peaks of the one at whose time the block was compiled.
COMPILED = 2
ABSTRACT = (
    "In MiB. `state`: chains x parameters x copies in a state x 4 bytes. `used`: peak of the "
    "process while blocks run, less that of the same with one chain of 192 parameters (`bare`). "
    "`ratio`: (used - data) / state; the target is 1.3. `compiling`: the same ratio of the peak "
    "until then, in which the block is compiled beside the started chains; what the compiler "
    "leaves is returned to the system before the first block. `before`, `after`, `work`: planned "
    "by XLA for a block; `in place`: what of `after` lies where `before` lay. `together`: chains "
    "side by side. `peaks`: what was used, as a multiple of `state`, when the anchors were found, "
    "the chains started, their block compiled; and, counted anew, after one, two and three blocks."
)


class Case(NamedTuple):
    """A sampler.

    `copies` of the parameters lie in a state: of SGLD the position, with RMS scaling the moving
    mean of squares and the averaged precision too; of kinetic Langevin position, momentum and
    gradient.
    """

    name: str
    sampler: Any
    copies: int
    batch_size: int | None = None


CASES = (
    Case("SGLD", slt_rl.SGLD(1e-6), 1),
    Case("SGLD, minibatches of 16", slt_rl.SGLD(1e-6), 1, batch_size=16),
    Case("SGLD, RMS scaling", slt_rl.SGLD(1e-6, preconditioner=optax.scale_by_rms(0.99, 1.0)), 3),
    Case("KineticLangevin", slt_rl.KineticLangevin(1e-6, 1.0), 3),
)


def main() -> int:
    """Measures every sampler and writes the results."""
    parser = runs.parser(__doc__)
    parser.add_argument("--chains", type=int, default=32)
    parser.add_argument("--width", type=int, default=992)
    parser.add_argument("--measure", nargs=3, metavar=("SAMPLER", "CHAINS", "WIDTH"))
    options = parser.parse_args()
    if options.measure:
        name, num_chains, width = options.measure
        print(json.dumps(measure(name, int(num_chains), int(width))))
        return 0
    settings = {"chains": options.chains, "width": options.width}
    sources = "benchmarks/memory.py", "benchmarks/plans.py"
    return runs.run(
        rows.open_journal("memory", settings, *sources),
        CASES,
        lambda case, key: compare(case, options.chains, options.width),
        make_page=functools.partial(make_page, options.chains),
        options=options,
    )


def compare(case: Case, num_chains: int, width: int) -> dict[str, Any]:
    """A large case beside a tiny one, each in a process of its own."""
    large, tiny = (in_process(case.name, *size) for size in ((num_chains, width), (1, 8)))
    peaks = [a - b for a, b in zip(large["peaks"], tiny["peaks"], strict=True)]
    states = 4 * num_chains * large["parameters"] * case.copies
    data = large["data"] - tiny["data"]
    return {
        "parameters": large["parameters"], "copies": case.copies,
        "states": states, "data": data, "used": peaks[-1], "ratio": (peaks[-1] - data) / states,
        "compiling": (peaks[COMPILED] - data) / states,
        "bare": tiny["peaks"][-1], "program": large["program"], "peaks": peaks,
    }  # fmt: skip


def in_process(*words: Any) -> dict[str, Any]:
    """What `measure` finds in a fresh process."""
    command = "-m", "benchmarks.memory", "--measure", *words
    flags = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "JAX_PLATFORMS": "cpu"}
    return json.loads(runs.in_process(*command, environment=os.environ | flags))


def measure(name: str, num_chains: int, width: int) -> dict[str, Any]:
    """Runs three blocks and tells the peaks of this process, and what XLA says of the program."""
    case = next(case for case in CASES if case.name == name)
    problem = make_problem(width)
    anchors = chains.find_anchors(jax.random.key(0), problem)
    peaks = [peak_bytes()]
    keys = chains.center_keys(jax.random.key(1), 1)
    options = {"sampler": case.sampler, "batch_size": case.batch_size}
    state = chains.start_chains(keys, problem, anchors, num_chains=num_chains, **options)
    jax.block_until_ready(state)
    peaks.append(peak_bytes())
    options["block_length"] = BLOCK
    call = chains.block_call(keys, problem, anchors, state=state, **options)
    program: Any = call.func
    program.lower(*call.args, state).compile()  # What runs below is this very program.
    peaks.append(peak_bytes())
    forget_peak()
    blocks = chains.observe_chains(keys, problem, anchors, state=state, **options)
    del state
    for _ in range(3):
        draws = next(blocks)[1]
        peaks.append(peak_bytes())
    assert draws.alive.all()
    return {
        "peaks": peaks,
        "parameters": int(problem.leaf_sizes.sum()),
        "data": sum(leaf.nbytes for leaf in jax.tree.leaves(problem.shared)),
        "program": program_bytes(problem, anchors, case, num_chains=num_chains),
    }


def make_problem(width: int) -> chains.Problem:
    """A center and its data; nothing else of it is left in memory."""
    rng = np.random.default_rng(0)
    params = {
        "first": (rng.normal(size=(width, width)) / np.sqrt(width)).astype(np.float32),
        "second": (rng.normal(size=(width, 16)) / np.sqrt(width)).astype(np.float32),
    }
    inputs = rng.normal(size=(NUM_EXAMPLES, width)).astype(np.float32)
    data = as_dataset((inputs, np.asarray(network(params, inputs))))
    centers = jax.tree.map(lambda x: jnp.asarray(x)[None], params)
    target = chains.constant_target(squared_errors)
    return chains.Problem(target, centers, data, jnp.float32(10), jnp.float32(10))


def peak_bytes() -> int:
    """Largest resident memory of this process since it began, or since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def forget_peak() -> None:
    """Gives free memory back to the system and lets the peak begin anew."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def program_bytes(
    problem: chains.Problem, anchors: Any, case: Case, *, num_chains: int
) -> dict[str, int]:
    """Bytes that XLA plans for a block: arguments, results, and work space."""
    positions = {
        name: np.broadcast_to(leaf, (1, num_chains, *leaf.shape[1:]))
        for name, leaf in problem.centers.items()
    }
    together = group_size(positions)
    sizes = Sizes(BLOCK, case.batch_size, together)
    plan = plans.block_plan(problem, anchors, case.sampler, num_chains=num_chains, sizes=sizes)
    found = plan.memory_analysis()
    return {
        "together": together,
        "shared": found.alias_size_in_bytes,
        "arguments": found.argument_size_in_bytes,
        "results": found.output_size_in_bytes,
        "work": found.temp_size_in_bytes,
    }


def network(params: dict[str, Any], inputs: Any) -> Any:
    """Two layers with tanh between them, `[n, 16]`."""
    return jnp.tanh(inputs @ params["first"]) @ params["second"]


def squared_errors(params: dict[str, Any], examples: Any) -> Any:
    """`[n]` squared errors."""
    return jnp.sum((network(params, examples[0]) - examples[1]) ** 2, axis=1)


def make_page(num_chains: int, found: Sequence[dict[str, Any]]) -> pages.Page:
    """The results as a page."""
    header = ("sampler", "copies", "state", "data", "used", "ratio", "compiling", "bare")
    header += ("before", "after", "in place", "work", "together", "peaks")
    cells = []
    for row in found:
        program = row["program"]
        plan = [program[name] for name in ("arguments", "results", "shared", "work")]
        sizes, plan = (
            [f"{size / 2**20:.1f}" for size in part]
            for part in ([row[name] for name in ("states", "data", "used")], [row["bare"], *plan])
        )
        peaks = ", ".join(f"{peak / row['states']:.1f}" for peak in row["peaks"])
        ratios = f"**{row['ratio']:.2f}**", f"{row['compiling']:.2f}"
        cells.append(
            [row["case"], row["copies"], *sizes, *ratios, *plan, program["together"], peaks]
        )
    title = f"Memory of {num_chains} chains of {found[0]['parameters']:,} parameters"
    return pages.Page("memory", title, ABSTRACT, (), [pages.Table("Samplers", header, cells)])


if __name__ == "__main__":
    sys.exit(main())

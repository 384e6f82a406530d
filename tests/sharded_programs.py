"""Programs for processes with several devices; each prints one JSON object.

python -m tests.sharded_programs LAYOUT | processes NUMBER PORT FOLDER
"""

import json
import os
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import slt_rl
from benchmarks.plans import anchor_plan, block_plan, planned_bytes
from slt_rl import chains
from slt_rl.data import as_dataset
from slt_rl.groups import Sizes
from slt_rl.sharding import over_devices

INPUTS = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
SGLD = slt_rl.SGLD(1e-4)
LENGTHS = {"num_chains": 4, "num_draws": 128, "num_burnin": 128}


def centers():
    """Eight small networks, `[checkpoint, ...]`."""
    rng = np.random.default_rng(1)
    shapes = {"first": (8, 6, 16), "second": (8, 16, 3)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def network(params, inputs):
    return jnp.tanh(inputs @ params["first"]) @ params["second"]


def make_target(params, inputs):
    def loss_fn(w, examples):
        return jnp.sum((network(w, examples[0]) - examples[1]) ** 2, axis=1)

    return loss_fn, (inputs, network(params, inputs))


def curve(checkpoints, **changes):
    options = {"data": INPUTS, "sampler": SGLD, "chunk_size": 8, **LENGTHS} | changes
    return slt_rl.llc_curve(jax.random.key(0), make_target, checkpoints, **options)


def difference(one, two):
    """Largest difference of the draws' losses, relative to their mean."""
    a, b = (np.stack([e.draws.excess_loss for e in x]) for x in (one, two))
    return float(np.max(np.abs(a - b)) / np.mean(np.abs(a)))


def heads_over_devices():
    """A network of four heads and its parameters, a part of every head on each device."""
    rng = np.random.default_rng(0)
    shapes = {"first": (32, 4, 512), "second": (4, 512, 32)}
    parts = {
        "first": PartitionSpec(None, None, "device"),
        "second": PartitionSpec(None, "device", None),
    }
    params = {k: 0.1 * rng.normal(size=shape).astype(np.float32) for k, shape in shapes.items()}
    mesh = Mesh(np.array(jax.devices()), ("device",))
    split = {k: jax.device_put(params[k], NamedSharding(mesh, parts[k])) for k in params}

    def loss_fn(w, examples):
        hidden = jnp.tanh(jnp.einsum("ni,ihj->nhj", examples[0], w["first"]))
        return jnp.sum((jnp.einsum("nhj,hjo->no", hidden, w["second"]) - examples[1]) ** 2, axis=1)

    inputs, noise = rng.normal(size=(2, 16, 32)).astype(np.float32)
    return loss_fn, (inputs, noise), params, split


def parameters_over_devices():
    """One chain over all devices: difference of draws, and what the fullest device holds."""
    loss_fn, data, params, split = heads_over_devices()

    def estimate(start):
        return slt_rl.estimate_llc(
            jax.random.key(0), loss_fn, start, data, sampler=slt_rl.SGLD(1e-5), **LENGTHS
        )

    def problem(start):
        centers = jax.tree.map(lambda x: jnp.asarray(x)[None], start)
        target = chains.constant_target(loss_fn)
        return chains.Problem(target, centers, as_dataset(data), jnp.float32(20), jnp.float32(10))

    one, laid = (plans(problem(start)) for start in (params, split))
    return {
        "difference": difference([estimate(params)], [estimate(split)]),
        "share": largest_share(problem(split), slt_rl.SGLD(1e-5), num_chains=4),
        "parameters": sum(leaf.nbytes for leaf in params.values()),
        "whole": {name: planned_bytes(plan) for name, plan in one.items()},
        "parts": {name: planned_bytes(plan) for name, plan in laid.items()},
        "sent": {name: sent_by(plan) for name, plan in laid.items()},
    }


def plans(problem):
    """The compiled programs of one chain: its anchor, and blocks with full data and minibatches."""
    anchors = chains.find_anchors(jax.random.key(1), problem)
    variate = slt_rl.SGLD(1e-5, control_variate=True)
    return {
        "anchor": anchor_plan(problem),
        "full": block(problem, anchors, slt_rl.SGLD(1e-5)),
        "minibatch": block(problem, anchors, variate, batch_size=8),
        "momenta": start_plan(problem, anchors, slt_rl.KineticLangevin(1e-3, 1.0)),
    }


def block(problem, anchors, sampler, *, num_chains=1, batch_size=None):
    """The compiled block of the chains of a problem, all side by side."""
    sizes = Sizes(8, batch_size, num_chains)
    return block_plan(problem, anchors, sampler, num_chains=num_chains, sizes=sizes)


def start_plan(problem, anchors, sampler):
    """The compiled start of one chain with full data."""
    keys = chains.center_keys(jax.random.key(2), problem.num_centers)
    anchors = anchors._replace(example_losses=None)
    numbers = chains.numbers_of(problem, anchors)._replace(shared=None)
    sampler = chains.per_chain(sampler, problem, 1)
    return chains._init.lower(None, numbers, sampler, keys, 1, None).compile()


def largest_share(problem, sampler, *, num_chains):
    """Of the positions of the chains after a block, what the fullest device holds."""
    anchors = chains.find_anchors(jax.random.key(1), problem)
    keys = chains.center_keys(jax.random.key(2), 1)
    state = chains.start_chains(keys, problem, anchors, sampler=sampler, num_chains=num_chains)
    state, _ = next(
        chains.run_chains(keys, problem, anchors, sampler=sampler, state=state, block_length=8)
    )
    leaves = jax.tree.leaves(state.sampler_state.position)
    return max(
        max(shard.data.nbytes for shard in leaf.addressable_shards) / leaf.nbytes for leaf in leaves
    )


def chains_over_devices():
    """The chains of one estimate over all devices, laid so by the axes of the step size."""
    step = np.full((1, 8), 1e-4, np.float32)
    mesh = Mesh(np.array(jax.devices()), ("device",))
    laid = jax.device_put(step, NamedSharding(mesh, PartitionSpec(None, "device")))
    params = jax.tree.map(lambda x: x[0], centers())
    loss_fn, data = make_target(params, INPUTS)

    def estimate(step_size):
        return slt_rl.estimate_llc(
            jax.random.key(0), loss_fn, params, data,
            sampler=slt_rl.SGLD(step_size), **LENGTHS | {"num_chains": 8},
        )  # fmt: skip

    problem = chains.Problem(
        chains.constant_target(loss_fn), jax.tree.map(lambda x: x[None], params), as_dataset(data),
        jnp.float32(20), jnp.float32(10),
    )  # fmt: skip
    share = largest_share(problem, slt_rl.SGLD(laid), num_chains=8)
    return {"difference": difference([estimate(step)], [estimate(laid)]), "share": share}


def sent(checkpoints):
    """How often a block of a curve's chains sends anything between devices."""

    def target(params, inputs):
        loss_fn, data = make_target(params, inputs)
        return loss_fn, as_dataset(data)

    problem = chains.Problem(
        target, jax.tree.map(jnp.asarray, checkpoints), jnp.asarray(INPUTS), jnp.float32(20),
        jnp.float32(10),
    )  # fmt: skip
    anchors = chains.find_anchors(jax.random.key(1), problem)
    return sent_by(block(problem, anchors, SGLD, num_chains=4))


def sent_by(plan):
    """How often a compiled program sends anything between devices, by the kind of message."""
    words = ("all-reduce", "all-gather", "collective-permute", "all-to-all", "reduce-scatter")
    text = plan.as_text()
    return {word: len(re.findall(rf" {word}(-start)?\(", text)) for word in words}


def checkpoints_over_devices():
    """The checkpoints of a curve over all devices, beside one device and beside one at a time."""
    laid = curve(over_devices(centers()))
    return {
        "difference": difference(curve(centers()), laid),
        "alone": difference(curve(centers(), chunk_size=1), laid),
        "sent": sent(over_devices(centers())),
    }


def calibrated_over_devices():
    """The same with everything calibrated: the largest relative difference of an estimate."""
    options = {"sampler": None, "num_draws": 256, "num_burnin": None}
    one, laid = (curve(c, **options) for c in (centers(), over_devices(centers())))
    return {"difference": float(np.max(np.abs(one.mean / laid.mean - 1)))}


def processes(number, port, folder):
    """One curve by two processes that tell each other what they found."""
    if int(number) >= 0:
        jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(number))
    found = curve(centers(), chunk_size=2, folder=f"{folder}/{number}")
    draws = np.stack([e.draws.excess_loss for e in found])
    files = sorted(os.listdir(f"{folder}/{number}"))
    return {
        "processes": jax.process_count(), "files": files, "means": found.mean.tolist(),
        "draws": draws.tobytes().hex(), "verdicts": found.verdicts,
    }  # fmt: skip


LAYOUTS = {
    "checkpoints": checkpoints_over_devices,
    "calibrated": calibrated_over_devices,
    "chains": chains_over_devices,
    "parameters": parameters_over_devices,
}


if __name__ == "__main__":
    layout = LAYOUTS.get(sys.argv[1])
    made = (
        processes(*sys.argv[2:]) if layout is None else {"devices": len(jax.devices())} | layout()
    )
    sys.stdout.write(json.dumps(made) + "\n")

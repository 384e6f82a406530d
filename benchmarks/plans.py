"""What XLA plans for the programs of chains: the programs themselves, and the bytes they need."""

from typing import Any

import jax

from slt_rl import chains
from slt_rl.groups import Sizes

# Of the power iteration for a center's curvature; it does not change what is planned.
NUM_ITERATIONS = 30


def anchor_plan(problem: chains.Problem) -> Any:
    """The compiled program of the loss, gradient and curvature at the centers."""
    arguments = problem.make_target, problem.centers, problem.shared, jax.random.key(1)
    return chains._find_anchors.lower(*arguments, NUM_ITERATIONS).compile()


def block_plan(
    problem: chains.Problem, anchors: Any, sampler: Any, *, num_chains: int, sizes: Sizes
) -> Any:
    """The compiled program of a block of chains.

    Args:
        problem: What is sampled.
        anchors: Its centers.
        sampler: With steps.
        num_chains: Chains of each center.
        sizes: Length of the block, examples of a minibatch, chains side by side.
    """
    keys = chains.center_keys(jax.random.key(2), problem.num_centers)
    size = {"num_chains": num_chains, "batch_size": sizes.batch_size}
    state = chains.start_chains(keys, problem, anchors, sampler=sampler, **size)
    numbers = chains.numbers_of(problem, anchors)
    steps = chains.per_chain(sampler, problem, num_chains)
    return chains._advance.lower(
        problem.make_target, numbers, steps, keys, sizes, None, state
    ).compile()


def planned_bytes(plan: Any) -> int:
    """What a device needs for a compiled program: arguments, new results, and work space."""
    found = plan.memory_analysis()
    # Results that lie where arguments lay are no new ones.
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    return found.argument_size_in_bytes + results + found.temp_size_in_bytes

"""Runs of toy size on Craftax-Classic, all of one compiled program."""

import dataclasses

from slt_rl.agents.networks import NetworkSpec
from slt_rl.agents.spec import LearningSpec, RunSpec, WorldSpec

TOY = RunSpec(
    world=WorldSpec(pool_size=4, map_size=16, max_timesteps=12),
    network=NetworkSpec(hidden=8),
    learning=LearningSpec(num_envs=4, num_steps=8, num_minibatches=2, anneal=False),
    seeds=(3, 5),
    num_updates=6,
    num_checkpoints=3,
    schedule="linear",
)
LONGER = dataclasses.replace(TOY, num_updates=8, num_checkpoints=4)


class Killed(Exception):
    """Stands for a signal."""


def kill_at(update):
    """A progress function that ends the process, as it were, at an update."""

    def progress(now, num_updates, statistics):
        del num_updates, statistics
        if now == update:
            raise Killed

    return progress

"""Runs of toy size: the machinery of run folders on CartPole, of one compiled program."""

import dataclasses
import types

import gymnax
import jax.numpy as jnp

from slt_rl.agents.networks import NetworkSpec
from slt_rl.agents.spec import LearningSpec, RunSpec, WorldSpec
from slt_rl.development import EventEnv
from slt_rl.rl import GymnaxEnv

NAMES = ("left", "right", "achievement/far")
# One object, so that all runs are one program.
CART = EventEnv(
    GymnaxEnv(*gymnax.make("CartPole-v1")),
    lambda state, action, then: jnp.stack([action == 0, action == 1, jnp.abs(then.x) > 0.2]),
    NAMES,
)
TOY = RunSpec(
    world=WorldSpec(),
    network=NetworkSpec(hidden=8),
    learning=LearningSpec(num_envs=4, num_steps=8, num_minibatches=2, anneal=False),
    seeds=(3, 5),
    num_updates=6,
    num_checkpoints=3,
    schedule="linear",
)
LONGER = dataclasses.replace(TOY, num_updates=8, num_checkpoints=4)


def play_cartpole(monkeypatch):
    """Makes every description of a world mean CartPole."""
    monkeypatch.setattr(WorldSpec, "env", lambda spec: CART)
    monkeypatch.setattr(WorldSpec, "rules", types.SimpleNamespace(actions=("left", "right")))


class Killed(Exception):
    """Stands for a signal."""


def kill_at(update):
    """A progress function that ends the process, as it were, at an update."""

    def progress(now, num_updates, statistics):
        del num_updates, statistics
        if now == update:
            raise Killed

    return progress

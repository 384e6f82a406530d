"""Toy-size stages that write as they go; run by `benchmarks.survival`, which kills them.

Gymnax computes when it is imported, which a process that is to be forked must not: it is imported
in the stages that need it.
"""

import dataclasses
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import slt_rl
from slt_rl.agents import FrozenPolicy, Subject, train_run
from slt_rl.agents.curve import Sampling, measure_points
from slt_rl.agents.networks import LayeredMLP, NetworkSpec
from slt_rl.agents.spec import LearningSpec, RunSpec, WorldSpec
from slt_rl.development import EventEnv
from slt_rl.rl import MLP, CategoricalPolicy, GymnaxEnv

NETWORK = LayeredMLP(MLP(4, 3, hidden=(8,)))
TRAINING = RunSpec(
    world=WorldSpec(),
    network=NetworkSpec(hidden=8),
    learning=LearningSpec(num_envs=8, num_steps=16, num_minibatches=2, anneal=False),
    seeds=(3, 5),
    num_updates=400,
    num_checkpoints=100,
    schedule="linear",
)
# Changes to the short protocol of `slt-rl validate`.
TINY = {
    "name": "tiny",
    "num_supervised": 2,
    "num_epochs": 16,
    "num_ppo": 2,
    "num_iterations": 40,
    "num_checkpoints": 10,
    "num_llc_runs": 1,
    "num_examples": 60,
    "num_chains": 2,
    "num_draws": 40,
    "num_burnin": 40,
    "occupancy_sizes": (5, 10),
    "num_particles": 20,
}


def networks(num=8):
    """Parameters `[checkpoint, ...]` of networks that were never trained."""
    keys = jax.random.split(jax.random.key(1), num)
    return jax.tree.map(lambda x: 3 * x, jax.vmap(NETWORK.init)(keys))


def teacher_target(params, data):
    """The squared error against the network itself: every checkpoint is a minimum."""
    inputs = data["x"]

    def loss_fn(w, examples):
        return jnp.sum((jax.vmap(lambda x: NETWORK(w, x))(examples[0]) - examples[1]) ** 2, axis=1)

    return loss_fn, (inputs, jax.vmap(lambda x: NETWORK(params, x))(inputs))


def curve(folder: Path) -> None:
    """`slt_rl.llc_curve` with a folder; a given sampler, so that little time goes into tracing."""
    data = {"x": np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)}
    slt_rl.llc_curve(
        jax.random.key(0), teacher_target, networks(32), data=data, sampler=slt_rl.SGLD(1e-5),
        num_draws=1000, num_burnin=1000,
        chunk_size=1, num_threads=2, folder=folder,
    )  # fmt: skip


def points(folder: Path) -> None:
    """What `slt-rl curve` measures, point by point."""
    states = {"observation": np.random.default_rng(0).normal(size=(1, 100, 4))}
    subject = Subject(
        seed=0, steps=10 * np.arange(8), params=jax.tree.map(np.asarray, networks()),
        make_target=FrozenPolicy(CategoricalPolicy(NETWORK)), states=states, centers=None,
        facts={"num_states": 100},
    )  # fmt: skip
    sampling = Sampling(num_draws=128)
    measure_points(subject, folder, localizations=(100.0, 10.0), sampling=sampling, num_threads=2)


def train(folder: Path) -> None:
    """What `slt-rl train` does, on CartPole."""
    import gymnax

    world = EventEnv(
        GymnaxEnv(*gymnax.make("CartPole-v1")),
        lambda state, action, then: jnp.stack([action == 0, action == 1, jnp.abs(then.x) > 0.2]),
        ("left", "right", "achievement/far"),
    )
    WorldSpec.env = lambda spec: world  # type: ignore[method-assign]
    WorldSpec.rules = types.SimpleNamespace(actions=("left", "right"))  # type: ignore
    train_run(TRAINING, folder, save_every=0.2)


def validation(folder: Path) -> None:
    """What `slt-rl validate` does, very short and without the stage of tabulated targets."""
    from slt_rl.validation import QUICK, exact, validate

    jax.config.update("jax_enable_x64", True)
    rows = len(exact._rows())
    made = {"mean": np.ones, "sem": np.ones, "verdict": lambda n: np.array(["trusted"] * n)}
    targets = {f"limit_{name}": make(3) for name, make in made.items()}
    targets |= {f"finite_{name}": make(rows) for name, make in made.items()}
    targets["finite_row"] = np.arange(rows)
    exact.measure_targets = lambda key, protocol: targets
    validate(dataclasses.replace(QUICK, **TINY), folder, progress=False)


STAGES = {"train": train, "validate": validation, "curve": curve, "points": points}

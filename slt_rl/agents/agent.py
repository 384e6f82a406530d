"""An agent as its description says: environment, networks and trainer."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from slt_rl.agents.folder import RunRecord
from slt_rl.agents.networks import CoreInit, SeparateInit, policy_of, value_of
from slt_rl.agents.spec import RunSpec
from slt_rl.development.events import EventEnv
from slt_rl.rl import PPO, RecurrentPPO

PyTree = Any

# Numbers of `LearningSpec` that both trainers have by the same name.
PPO_NUMBERS = (
    "num_envs",
    "num_steps",
    "num_epochs",
    "num_minibatches",
    "discount",
    "gae_lambda",
    "clip",
    "entropy_weight",
    "value_weight",
)


@dataclasses.dataclass(frozen=True)
class Agent:
    """All that trains one run.

    Attributes:
        spec: Its description.
        env: The environment, counting events; of shapes alone until its worlds are made.
        ppo: The trainer.
        init_fn: `key -> parameters`.
        num_inputs: Length of an observation.
        num_actions: Number of actions.
    """

    spec: RunSpec
    env: EventEnv
    ppo: PPO | RecurrentPPO
    init_fn: Callable[[jax.Array], PyTree]
    num_inputs: int
    num_actions: int

    @property
    def keys(self) -> jax.Array:
        """The key of each seed, `[seed]`: a run is the same whatever runs beside it."""
        fold = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(0), seed))
        return fold(jnp.asarray(self.spec.seeds))

    def record(self, segments: tuple[Mapping[str, Any], ...]) -> RunRecord:
        """What is written in `run.json`."""
        from slt_rl.report.provenance import collect_provenance

        packages = ("slt_rl", "jax", "jaxlib", "numpy", "optax", "craftax")
        versions = collect_provenance({}, {}, packages=packages).versions
        return RunRecord(
            self.spec,
            self.spec.checkpoints,
            segments,
            self.env.names,
            self.num_inputs,
            self.num_actions,
            versions,
        )


def make_agent(spec: RunSpec, make_env: Callable[[], EventEnv] | None = None) -> Agent:
    """Builds environment, networks and trainer.

    Args:
        spec: The description.
        make_env: Makes its environment or the shapes of it, late; `spec.world.env` if None.

    Raises:
        ValueError: If a number of the description is out of its range.
        ImportError: If Craftax is not installed.
    """
    make_ppo(spec, 1, 1)  # Refuses what is out of its range before the worlds are made.
    env = (make_env or spec.world.env)()
    num_inputs = jax.eval_shape(EventEnv.reset, env, jax.random.key(0))[1].size
    num_actions = len(spec.world.rules.actions)
    return Agent(
        spec,
        env,
        make_ppo(spec, num_inputs, num_actions),
        make_init(spec, num_inputs, num_actions),
        num_inputs,
        num_actions,
    )


def make_init(
    spec: RunSpec, num_inputs: int, num_actions: int
) -> Callable[[jax.Array], dict[str, PyTree]]:
    """The initial parameters of an agent, `key -> parameters`; hashable."""
    network = spec.network
    if network.is_recurrent:
        return CoreInit(network.recurrent(num_inputs, num_actions))
    return SeparateInit(network.actor(num_inputs, num_actions), network.critic(num_inputs))


def make_ppo(spec: RunSpec, num_inputs: int, num_actions: int) -> PPO | RecurrentPPO:
    """The trainer of an agent."""
    learning, network = spec.learning, spec.network
    numbers = {name: getattr(learning, name) for name in PPO_NUMBERS}
    optimizer = learning.optimizer(spec.num_updates)
    if network.is_recurrent:
        core = network.recurrent(num_inputs, num_actions)
        return RecurrentPPO(network=core, optimizer=optimizer, **numbers)
    return PPO(
        policy=policy_of(network.actor(num_inputs, num_actions)),
        value_fn=value_of(network.critic(num_inputs)),
        optimizer=optimizer,
        **numbers,
    )

"""The agents of `benchmarks.finite_mdps`: what they are made of, and how they learn."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from slt_rl.rl import (
    MLP,
    PPO,
    Categorical,
    CategoricalPolicy,
    Env,
    Policy,
    RecurrentActorCritic,
    RecurrentPPO,
    ValueFn,
    ValueNetwork,
    clipped_adam,
    init_runs,
    run_keys,
    train,
)
from slt_rl.rl.finite import FiniteEnv

PyTree = Any
NUM_ENVS, NUM_STEPS, WIDTH = 16, 128, 32
# Units of the gated recurrent core of an agent that sees single observations.
CORE = 16


class Agent(NamedTuple):
    """An agent at the checkpoints of its training.

    Attributes:
        policy: `(params, observation) -> distribution`, on the observations of a `FiniteEnv`.
        value_fn: `(params, observation) -> []`.
        checkpoints: `{"policy": ..., "value": ...}`, leaves `[checkpoint, ...]`.
    """

    policy: Policy
    value_fn: ValueFn
    checkpoints: dict[str, PyTree]


@dataclasses.dataclass(frozen=True)
class OnHistory:
    """A recurrent network as a function of everything shown in an episode, latest first.

    It reads the history from its beginning on, as it would have seen it in play. Steps that have
    not been are zero, which no observation may be.

    Args:
        network: The network.
        head: "actor" or "critic"; only this head is among the parameters.
    """

    network: RecurrentActorCritic
    head: str

    def __call__(self, params: PyTree, history: jax.Array) -> jax.Array:
        """What the head says after the latest observation, `[output]`."""
        steps = history.reshape(-1, 1, self.network.num_inputs)[::-1]
        begun = jnp.cumsum(jnp.any(steps != 0, axis=-1), axis=0)
        # The other head is not asked, and so this one stands for it.
        parts = params | {"actor": params[self.head], "critic": params[self.head]}
        hidden = self.network.initial_hidden(parts, 1)
        _, output, _ = self.network.apply(parts, hidden, steps, reset=begun <= 1)
        return output.logits[-1, 0]


@dataclasses.dataclass(frozen=True)
class MemoryPolicy:
    """The distribution of actions of a recurrent network, on histories."""

    network: RecurrentActorCritic

    def __call__(self, params: PyTree, history: jax.Array) -> Categorical:
        """The distribution after the latest observation."""
        return Categorical(OnHistory(self.network, "actor")(params, history))


@dataclasses.dataclass(frozen=True)
class MemoryValue:
    """The value of a recurrent network, on histories."""

    network: RecurrentActorCritic

    def __call__(self, params: PyTree, history: jax.Array) -> jax.Array:
        """The value `[]` after the latest observation."""
        return OnHistory(self.network, "critic")(params, history)[0]


def train_mlp(
    key: jax.Array, finite: FiniteEnv, *, discount: float, schedule: tuple[int, ...]
) -> Agent:
    """Two networks of two layers, by PPO.

    Args:
        key: Random key, consumed.
        finite: Where they learn.
        discount: Discount of the trainer.
        schedule: Iterations at which the agent is kept.
    """
    num_inputs, hidden = finite.observations.shape[1], (WIDTH, WIDTH)
    actor = MLP(num_inputs, finite.mdp.num_actions, hidden, output_scale=0.01)
    critic = MLP(num_inputs, 1, hidden)
    ppo = PPO(
        policy=CategoricalPolicy(actor),
        value_fn=ValueNetwork(critic),
        optimizer=clipped_adam(1e-3),
        num_envs=NUM_ENVS,
        num_steps=NUM_STEPS,
        discount=discount,
        entropy_weight=0.01,
    )

    def init_fn(key):
        key_actor, key_critic = jax.random.split(key)
        return {"policy": actor.init(key_actor), "value": critic.init(key_critic)}

    found = _checkpoints(key, ppo, finite.env, init_fn=init_fn, schedule=schedule)
    return Agent(ppo.policy, ppo.value_fn, found)


def train_gru(
    key: jax.Array, env: Env, *, num_inputs: int, num_actions: int, discount: float, schedule: Any
) -> Agent:
    """One network with a gated recurrent core, which sees single observations, by recurrent PPO.

    Args:
        key: Random key, consumed.
        env: Where it learns, with observations of `num_inputs` numbers.
        num_inputs: Numbers of an observation.
        num_actions: Number of actions.
        discount: Discount of the trainer.
        schedule: Iterations at which the agent is kept.

    Returns:
        The agent on histories: what it does after everything shown so far. Policy and value share
        encoder and core; the parameters of each are those it depends on.
    """
    network = RecurrentActorCritic(num_inputs, num_actions, CORE, encoder=WIDTH, head=WIDTH)
    ppo = RecurrentPPO(
        network=network,
        optimizer=clipped_adam(1e-3),
        num_envs=NUM_ENVS,
        num_steps=NUM_STEPS,
        discount=discount,
        entropy_weight=0.01,
    )
    found = _checkpoints(key, ppo, env, init_fn=network.init, schedule=schedule)
    shared = {name: found[name] for name in ("encoder", "core")}
    parts = {
        "policy": shared | {"actor": found["actor"]},
        "value": shared | {"critic": found["critic"]},
    }
    return Agent(MemoryPolicy(network), MemoryValue(network), parts)


def _checkpoints(key, ppo, env: Env, *, init_fn, schedule) -> PyTree:
    """Parameters of one run, leaves `[checkpoint, ...]`."""
    keys = run_keys(key, 1)
    states = init_runs(keys, ppo, env, init_fn=init_fn)
    run = train(keys, ppo, env, states=states, checkpoints=schedule)
    found = [jax.tree.map(lambda x: x[0], now.params) for now, _ in run]
    return jax.tree.map(lambda *x: jnp.stack(x), *found)

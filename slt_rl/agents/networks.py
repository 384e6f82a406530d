"""The networks of trained agents, whose parameters are stored as they are used."""

import dataclasses
from typing import Any

import jax

from slt_rl._numbers import check_count
from slt_rl.rl import MLP, CategoricalPolicy, RecurrentActorCritic, ValueNetwork

PyTree = Any

# Gain of the last layer of an actor: all actions are about equally likely at the start.
ACTOR_GAIN = 0.01


@dataclasses.dataclass(frozen=True)
class LayeredMLP:
    """An `MLP` whose parameters are a dict of layers, "layer_0" first: what a checkpoint can hold.

    Example:
        >>> network = LayeredMLP(MLP(4, 2, hidden=(8,)))
        >>> sorted(network.init(jax.random.key(0)))
        ['layer_0', 'layer_1']
    """

    network: MLP

    def init(self, key: jax.Array) -> dict[str, dict[str, jax.Array]]:
        """Draws parameters."""
        return {f"layer_{i}": layer for i, layer in enumerate(self.network.init(key))}

    def __call__(self, params: dict[str, Any], observation: jax.Array) -> jax.Array:
        """Outputs for one observation."""
        layers = [params[f"layer_{i}"] for i in range(len(self.network.hidden) + 1)]
        return self.network(layers, observation)


@dataclasses.dataclass(frozen=True)
class SeparateInit:
    """Initial parameters `{"policy": ..., "value": ...}` of two networks; hashable."""

    policy: LayeredMLP
    value: LayeredMLP

    def __call__(self, key: jax.Array) -> dict[str, PyTree]:
        """Draws the parameters of both; consumes the key."""
        key_policy, key_value = jax.random.split(key)
        return {"policy": self.policy.init(key_policy), "value": self.value.init(key_value)}


@dataclasses.dataclass(frozen=True)
class CoreInit:
    """Initial parameters of an agent with memory; hashable, equal for equal networks."""

    network: RecurrentActorCritic

    def __call__(self, key: jax.Array) -> dict[str, PyTree]:
        """Draws the parameters; consumes the key."""
        return self.network.init(key)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """Architecture of an agent.

    With `width` 0 the actor and the critic are two tanh networks of `layers` hidden layers of
    `hidden` units. With memory they share an encoder and a recurrent core and have one hidden layer
    each, all of `hidden` units but for the core: a `RecurrentActorCritic`.

    Attributes:
        width: Units of the recurrent core; 0 for a feed-forward agent.
        hidden: Units of every other hidden layer.
        layers: Hidden layers of a feed-forward actor and of its critic.
    """

    width: int = 0
    hidden: int = 128
    layers: int = 2

    def __post_init__(self):
        for name, least in (("width", 0), ("hidden", 1), ("layers", 1)):
            check_count(name, getattr(self, name), least)

    @property
    def is_recurrent(self) -> bool:
        """Whether actor and critic share a core with memory."""
        return self.width > 0

    def recurrent(self, num_inputs: int, num_actions: int) -> RecurrentActorCritic:
        """The actor-critic with memory."""
        return RecurrentActorCritic(
            num_inputs, num_actions, width=self.width, encoder=self.hidden, head=self.hidden
        )

    def actor(self, num_inputs: int, num_actions: int) -> LayeredMLP:
        """The feed-forward actor; outputs logits."""
        return LayeredMLP(
            MLP(num_inputs, num_actions, hidden=self._hidden, output_scale=ACTOR_GAIN)
        )

    def critic(self, num_inputs: int) -> LayeredMLP:
        """The feed-forward critic."""
        return LayeredMLP(MLP(num_inputs, 1, hidden=self._hidden))

    @property
    def _hidden(self) -> tuple[int, ...]:
        return (self.hidden,) * self.layers


def policy_of(actor: LayeredMLP) -> CategoricalPolicy:
    """The policy of a feed-forward actor."""
    return CategoricalPolicy(actor)


def value_of(critic: LayeredMLP) -> ValueNetwork:
    """The value function of a feed-forward critic."""
    return ValueNetwork(critic)

"""Small networks and policies as hashable callables; parameters are plain pytrees.

A policy is any callable `(params, observation) -> distribution` and a value function any callable
`(params, observation) -> []`, of *one* observation: the caller maps over batches. Frozen
dataclasses compare equal when they compute the same thing, so that nothing is compiled twice.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from slt_rl.rl.distributions import Categorical, DiagonalGaussian

PyTree = Any


class Policy(Protocol):
    """Any callable from parameters and one observation to a distribution of actions."""

    def __call__(self, params: PyTree, observation: PyTree, /) -> Any:
        """The distribution of actions at one observation."""
        ...


class ValueFn(Protocol):
    """Any callable from parameters and one observation to a value `[]`."""

    def __call__(self, params: PyTree, observation: PyTree, /) -> jax.Array:
        """The value of one observation."""
        ...


def init_dense(key: jax.Array, shape: tuple[int, int], gain: float) -> dict[str, jax.Array]:
    """Draws a layer `{"kernel": [in, out], "bias": [out]}` with zero biases.

    The weights are `N(0, gain^2 / max(in, out))`: the scale of orthogonal weights of the same gain,
    without the QR decomposition, which can hang inside XLA on the CPU.
    """
    kernel = gain / max(shape) ** 0.5 * jax.random.normal(key, shape)
    return {"kernel": kernel, "bias": jnp.zeros(shape[1])}


@dataclasses.dataclass(frozen=True)
class MLP:
    """Fully connected network; initial weights as in `init_dense`, biases zero.

    Args:
        num_inputs: Length of the flattened input.
        num_outputs: Length of the output.
        hidden: Widths of the hidden layers.
        activation: Elementwise function after each hidden layer.
        output_scale: Gain of the last layer's initial weights; hidden layers have `sqrt(2)`.

    Raises:
        ValueError: If a width is not positive.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> network = MLP(4, 2, hidden=(8,))
        >>> network(network.init(jax.random.key(0)), jnp.ones(4)).shape
        (2,)
    """

    num_inputs: int
    num_outputs: int
    hidden: tuple[int, ...] = (64, 64)
    activation: Callable[[jax.Array], jax.Array] = jnp.tanh
    output_scale: float = 1.0

    def __post_init__(self):
        if min(self.num_inputs, self.num_outputs, *self.hidden) < 1:
            raise ValueError(f"MLP: expected positive widths, got {self.widths}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of all layers, input and output included."""
        return (self.num_inputs, *self.hidden, self.num_outputs)

    def init(self, key: jax.Array) -> list[dict[str, jax.Array]]:
        """Draws parameters, one `{"kernel": [in, out], "bias": [out]}` per layer."""
        gains = [2**0.5] * len(self.hidden) + [self.output_scale]
        keys = jax.random.split(key, len(gains))
        shapes = zip(self.widths[:-1], self.widths[1:], strict=True)
        return [
            init_dense(k, shape, gain) for k, gain, shape in zip(keys, gains, shapes, strict=True)
        ]

    def __call__(self, params: list[dict[str, jax.Array]], observation: jax.Array) -> jax.Array:
        """Outputs `[num_outputs]` for one observation of any shape of the right size."""
        x = jnp.ravel(observation).astype(params[0]["kernel"].dtype)
        for layer in params[:-1]:
            x = self.activation(x @ layer["kernel"] + layer["bias"])
        return x @ params[-1]["kernel"] + params[-1]["bias"]


@dataclasses.dataclass(frozen=True)
class CategoricalPolicy:
    """Discrete actions; `network(params, observation)` gives the logits `[k]`."""

    network: Callable[[PyTree, PyTree], jax.Array]

    def __call__(self, params: PyTree, observation: PyTree) -> Categorical:
        """The distribution of actions at one observation."""
        return Categorical(self.network(params, observation))


@dataclasses.dataclass(frozen=True)
class GaussianPolicy:
    """Continuous actions of fixed noise: `a ~ N(mean_fn(params, observation), scale^2 I)`.

    Args:
        mean_fn: `(params, observation) -> [k]`.
        scale: Standard deviation of every coordinate, in the units of the action.

    Raises:
        ValueError: If `scale` is not positive.
    """

    mean_fn: Callable[[PyTree, PyTree], jax.Array]
    scale: float

    def __post_init__(self):
        if not self.scale > 0:
            raise ValueError(f"scale: got {self.scale}, expected a positive number")

    def __call__(self, params: PyTree, observation: PyTree) -> DiagonalGaussian:
        """The distribution of actions at one observation."""
        mean = self.mean_fn(params, observation)
        return DiagonalGaussian(mean, jnp.asarray(self.scale, mean.dtype))


@dataclasses.dataclass(frozen=True)
class LearnedGaussianPolicy:
    """Continuous actions whose noise is learned.

    The parameters are `{"mean": ..., "log_scale": [k]}`, the same noise at every observation.

    Args:
        mean_fn: `(params["mean"], observation) -> [k]`.
    """

    mean_fn: Callable[[PyTree, PyTree], jax.Array]

    def __call__(self, params: PyTree, observation: PyTree) -> DiagonalGaussian:
        """The distribution of actions at one observation."""
        mean = self.mean_fn(params["mean"], observation)
        return DiagonalGaussian(mean, jnp.exp(params["log_scale"]))


@dataclasses.dataclass(frozen=True)
class ValueNetwork:
    """A value function from a network with one output."""

    network: Callable[[PyTree, PyTree], jax.Array]

    def __call__(self, params: PyTree, observation: PyTree) -> jax.Array:
        """The value `[]` of one observation."""
        return self.network(params, observation)[0]

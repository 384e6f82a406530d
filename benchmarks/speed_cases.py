"""What is timed: five losses of known size, whose center is an exact minimum.

The data of a classifier are the probabilities of a network with the parameters of the center, and
the loss is their cross-entropy, so that the center is a minimum as it is of a trained network.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

PyTree = Any
# As in the published timings of other libraries: n beta = 512 / ln 512.
NUM_EXAMPLES = 5120
NBETA, LOCALIZATION, STEP_SIZE = 512 / math.log(512), 100.0, 1e-5


@dataclasses.dataclass(frozen=True)
class Model:
    """A network and the data it is measured on.

    Attributes:
        name: Its name in tables.
        apply: `(params, input) -> outputs` of one example, logits unless `squared`.
        init: `key -> params`.
        inputs: `(key, n) -> inputs`.
        squared: Squared error instead of cross-entropy.
        loop_length: Passes of the loop within `apply`, of which XLA counts the operations of one.
    """

    name: str
    apply: Callable[[PyTree, jax.Array], jax.Array]
    init: Callable[[jax.Array], PyTree]
    inputs: Callable[[jax.Array, int], jax.Array]
    squared: bool = False
    loop_length: int = 1

    def data(self, key: jax.Array, params: PyTree, num_examples: int) -> tuple[jax.Array, ...]:
        """Inputs and the targets that `params` give, `([n, ...], [n, ...])`."""
        inputs = self.inputs(key, num_examples)
        outputs = jax.jit(jax.vmap(self.apply, (None, 0)))(params, inputs)
        return inputs, outputs if self.squared else jax.nn.softmax(outputs)

    def __call__(self, params: PyTree, examples: tuple[jax.Array, jax.Array]) -> jax.Array:
        """The losses `[n]`; means over all axes of an example but the classes."""
        inputs, targets = examples
        outputs = jax.vmap(self.apply, (None, 0))(params, inputs)
        if self.squared:
            losses = (outputs - targets) ** 2
        else:
            losses = optax.losses.softmax_cross_entropy(outputs, targets)
        return losses.reshape(losses.shape[0], -1).mean(axis=1)


def dense(key: jax.Array, fan_in: int, fan_out: int, *, bias: bool = True) -> dict[str, jax.Array]:
    """A dense layer, `{"kernel": [in, out]}` and a bias."""
    kernel = jax.random.normal(key, (fan_in, fan_out)) / fan_in**0.5
    return {"kernel": kernel} | ({"bias": jnp.zeros(fan_out)} if bias else {})


def _affine(layer: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return x @ layer["kernel"] + layer["bias"]


def deep_linear() -> Model:
    """10-10-10-10, 300 parameters."""

    def apply(params, x):
        for layer in params:
            x = x @ layer["kernel"]
        return x

    def init(key):
        return [dense(k, 10, 10, bias=False) for k in jax.random.split(key, 3)]

    return Model("DLN 10-10-10-10", apply, init, _normal(10), squared=True)


def perceptron() -> Model:
    """784-128-10 with rectified units, 101,770 parameters."""

    def apply(params, x):
        return _affine(params[1], jax.nn.relu(_affine(params[0], x)))

    def init(key):
        first, second = jax.random.split(key)
        return [dense(first, 784, 128), dense(second, 128, 10)]

    return Model("MLP 784-128-10", apply, init, _normal(784))


def convolutional_policy() -> Model:
    """A policy on 10 x 10 x 4 images: 3 x 3 convolution to 16, dense 128, 6 actions."""

    def apply(params, x):
        window = jax.lax.conv_general_dilated(
            x[None], params["conv"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        hidden = jax.nn.relu(window + params["bias"]).ravel()
        return _affine(params["out"], jax.nn.relu(_affine(params["hidden"], hidden)))

    def init(key):
        keys = jax.random.split(key, 3)
        return {
            "conv": jax.random.normal(keys[0], (3, 3, 4, 16)) / 6,
            "bias": jnp.zeros(16),
            "hidden": dense(keys[1], 1024, 128),
            "out": dense(keys[2], 128, 6),
        }

    return Model("convolutional policy", apply, init, _normal(10, 10, 4))


def recurrent_policy() -> Model:
    """A gated recurrent policy, 64 units, on sequences of 16 observations of size 8, 4 actions."""
    length = 16

    def cell(params, hidden, x):
        joined = jnp.concatenate([x, hidden])
        reset, update = jnp.split(jax.nn.sigmoid(_affine(params["gates"], joined)), 2)
        candidate = jnp.tanh(_affine(params["state"], jnp.concatenate([x, reset * hidden])))
        hidden = update * hidden + (1 - update) * candidate
        return hidden, _affine(params["out"], hidden)

    def apply(params, x):
        return jax.lax.scan(lambda h, row: cell(params, h, row), jnp.zeros(64), x)[1]

    def init(key):
        keys = jax.random.split(key, 3)
        sizes = {"gates": (72, 128), "state": (72, 64), "out": (64, 4)}
        return {n: dense(k, *size) for k, (n, size) in zip(keys, sizes.items(), strict=True)}

    return Model("recurrent policy", apply, init, _normal(length, 8), loop_length=length)


def transformer() -> Model:
    """Two blocks of width 32, two heads, on sequences of 16 of 16 tokens."""
    width, heads, length, vocabulary = 32, 2, 16, 16

    def attend(block, x):
        projected = _affine(block["qkv"], x).reshape(length, 3, heads, width // heads)
        q, k, v = projected[:, 0], projected[:, 1], projected[:, 2]
        scores = jnp.einsum("qhd,khd->hqk", q, k) / (width // heads) ** 0.5
        scores = jnp.where(jnp.tri(length, dtype=bool), scores, -1e9)
        mixed = jnp.einsum("hqk,khd->qhd", jax.nn.softmax(scores), v)
        return _affine(block["project"], mixed.reshape(length, width))

    def apply(params, tokens):
        x = params["tokens"][tokens] + params["positions"]
        for block in params["blocks"]:
            x = x + attend(block, _normalized(x))
            x = x + _affine(block["down"], jax.nn.gelu(_affine(block["up"], _normalized(x))))
        return _affine(params["out"], _normalized(x))

    def init_block(key):
        sizes = {"qkv": (32, 96), "project": (32, 32), "up": (32, 128), "down": (128, 32)}
        keys = jax.random.split(key, len(sizes))
        return {n: dense(k, *size) for k, (n, size) in zip(keys, sizes.items(), strict=True)}

    def init(key):
        keys = jax.random.split(key, 5)
        return {
            "tokens": jax.random.normal(keys[0], (vocabulary, width)),
            "positions": jax.random.normal(keys[1], (length, width)),
            "blocks": [init_block(keys[2]), init_block(keys[3])],
            "out": dense(keys[4], width, vocabulary),
        }

    def inputs(key, n):
        return jax.random.randint(key, (n, length), 0, vocabulary)

    return Model("two-block transformer", apply, init, inputs)


def _normalized(x: jax.Array) -> jax.Array:
    return jax.nn.standardize(x, axis=-1)


def _normal(*shape: int) -> Callable[[jax.Array, int], jax.Array]:
    return lambda key, n: jax.random.normal(key, (n, *shape))


def models() -> tuple[Model, ...]:
    """All models, the smallest first."""
    return deep_linear(), perceptron(), convolutional_policy(), recurrent_policy(), transformer()

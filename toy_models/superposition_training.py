"""Supervised training of the toy model of superposition: many runs in one program.

The protocol is that of arXiv:2310.06301 (appendix, as reproduced by third parties): plain
stochastic gradient descent on the mean of the *unhalved* squared error of a minibatch; a fixed set
of 1000 examples per run; batches of 20 by a fresh permutation each epoch; learning rate 0.005; 4500
epochs, which are 225,000 steps; started near a 4-gon.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from slt_rl._numbers import check_count
from toy_models.superposition_model import (
    Examples,
    Params,
    example_loss,
    sample_examples,
)

StartFn = Callable[[jax.Array, int], Params]


class Runs(NamedTuple):
    """The state of many training runs: a pytree of plain arrays, which can be saved as it is.

    Attributes:
        params: ``{"W": [run, 2, c], "b": [run, c]}``.
        data: The fixed examples of each run, ``{"feature": [run, n], "amplitude": [run, n]}``.
        key_data: Raw key of each run ``[run, 2]``; epoch ``e`` uses ``fold_in(key, e)``.
        epoch: Number of epochs done, an int32 scalar.
    """

    params: Params
    data: Examples
    key_data: jax.Array
    epoch: jax.Array


def square_start(key: jax.Array, num_features: int) -> Params:
    """A 4-gon of unit length at a random rotation, plus N(0, 0.01^2) on every weight and bias.

    The first four features are its vertices; the others, and all biases, start from zero.

    Args:
        key: Random key, consumed.
        num_features: Number of features ``c``, at least 4.

    Returns:
        ``{"W": [2, c], "b": [c]}``.
    """
    return _square(key, num_features, length=1.0, bias=0.01)


def wide_bias_start(key: jax.Array, num_features: int) -> Params:
    """A 4-gon of length 0.9 at a random rotation, with biases from N(0, 1).

    It visits also the classes with silent hull columns, which `square_start` seldom does.

    Args:
        key: Random key, consumed.
        num_features: Number of features ``c``, at least 4.

    Returns:
        ``{"W": [2, c], "b": [c]}``.
    """
    return _square(key, num_features, length=0.9, bias=1.0)


def _square(key: jax.Array, num_features: int, *, length: float, bias: float) -> Params:
    key, key_bias = jax.random.split(key)
    key_angle, key_noise = jax.random.split(key)
    angles = 2 * jnp.pi * (jax.random.uniform(key_angle) + jnp.arange(4) / 4)
    hull = length * jnp.stack([jnp.cos(angles), jnp.sin(angles)])
    weights = jnp.zeros((2, num_features)).at[:, :4].set(hull)
    return {
        "W": weights + 0.01 * jax.random.normal(key_noise, (2, num_features)),
        "b": bias * jax.random.normal(key_bias, (num_features,)),
    }


def start_runs(
    key: jax.Array,
    num_runs: int,
    num_features: int = 6,
    *,
    num_examples: int = 1000,
    start_fn: StartFn = square_start,
) -> Runs:
    """Draws the data and the starting parameters of every run.

    Run ``r`` depends on ``fold_in(key, r)`` only, not on the number of runs.

    Args:
        key: Random key, consumed.
        num_runs: Number of independent runs.
        num_features: Number of features ``c``, at least 4.
        num_examples: Size ``n`` of the data set of each run.
        start_fn: ``(key, num_features) -> params``.

    Returns:
        The state before training.

    Raises:
        ValueError: If a count is out of range.
    """
    check_count("num_runs", num_runs)
    check_count("num_examples", num_examples)
    check_count("num_features", num_features, 4)

    def start(run):
        keys = jax.random.split(jax.random.fold_in(key, run), 3)
        data = sample_examples(keys[1], num_examples, num_features)
        return start_fn(keys[0], num_features), data, jax.random.key_data(keys[2])

    # One program: operation by operation each would be compiled on its own.
    params, data, key_data = jax.jit(jax.vmap(start))(jnp.arange(num_runs))
    return Runs(params, data, key_data, jnp.int32(0))


def train(
    runs: Runs,
    epochs: Iterable[int],
    *,
    learning_rate: float = 0.005,
    batch_size: int = 20,
) -> Iterator[tuple[int, Runs]]:
    """Trains all runs, stopping at the given epochs.

    A loaded state resumes: epochs already passed are skipped, and the numbers that follow are those
    of an uninterrupted run, wherever it was interrupted.

    Args:
        runs: The state to start from.
        epochs: Increasing epochs at which to stop; 0 yields the start itself.
        learning_rate: Step length of gradient descent on the unhalved batch mean.
        batch_size: Examples per step; a divisor of the number of examples.

    Yields:
        ``(step, runs)`` at each of the epochs, ``step`` counting minibatches.

    Raises:
        ValueError: If the batch does not divide the data, the rate is not positive, or the epochs
            do not increase.
    """
    num_examples = runs.data["feature"].shape[1]
    check_count("batch_size", batch_size)
    if num_examples % batch_size:
        raise ValueError(f"batch_size: got {batch_size}, expected a divisor of {num_examples}")
    if not learning_rate > 0:
        raise ValueError(f"learning_rate: got {learning_rate}, expected a positive number")
    stops = tuple(int(epoch) for epoch in epochs)
    if any(later <= earlier for earlier, later in zip(stops, stops[1:], strict=False)):
        raise ValueError(f"epochs: got {stops}, expected increasing numbers")
    return _train(runs, stops, learning_rate, batch_size)


def _train(
    runs: Runs, stops: tuple[int, ...], learning_rate: float, batch_size: int
) -> Iterator[tuple[int, Runs]]:
    batches = runs.data["feature"].shape[1] // batch_size
    start = int(runs.epoch)
    for stop in stops:
        if stop < start or (stop == start and start > 0):
            continue
        runs = train_until(runs, stop, learning_rate, batch_size=batch_size)
        yield stop * batches, runs


@functools.partial(jax.jit, static_argnames="batch_size")
def train_until(
    runs: Runs, epoch: int | jax.Array, learning_rate: float | jax.Array, *, batch_size: int
) -> Runs:
    """Trains all runs up to an epoch; the epoch is traced, so one compilation serves every block.

    Args:
        runs: The state to start from.
        epoch: Epoch to stop at.
        learning_rate: Step length.
        batch_size: Examples per step; a divisor of the number of examples.

    Returns:
        The state at that epoch.
    """

    def one_epoch(index, params):
        batches = _epoch_batches(runs, index, batch_size)
        return jax.lax.scan(one_step, params, batches)[0]

    def one_step(params, batch):
        gradient = jax.vmap(jax.grad(_batch_loss))(params, batch)
        return jax.tree.map(lambda p, g: p - learning_rate * g, params, gradient), None

    epoch = jnp.asarray(epoch, jnp.int32)
    params = jax.lax.fori_loop(runs.epoch, epoch, one_epoch, runs.params)
    return runs._replace(params=params, epoch=jnp.maximum(epoch, runs.epoch))


def _batch_loss(params: Params, batch: Examples) -> jax.Array:
    return jnp.mean(example_loss(params, batch))


def _epoch_batches(runs: Runs, epoch: jax.Array, batch_size: int) -> Examples:
    """The examples of every run in the order of one epoch, ``[step, run, batch]``."""
    num_runs, num_examples = runs.data["feature"].shape

    def order(key_data):
        key = jax.random.fold_in(jax.random.wrap_key_data(key_data), epoch)
        return _permutation(key, num_examples)

    orders = jax.vmap(order)(runs.key_data)

    def split(leaf):
        shuffled = jnp.take_along_axis(leaf, orders, axis=1)
        return shuffled.reshape(num_runs, -1, batch_size).swapaxes(0, 1)

    return jax.tree.map(split, runs.data)


def _permutation(key: jax.Array, count: int) -> jax.Array:
    """A random permutation of ``range(count)``.

    The index travels in the low bits of one random word, so that one array is sorted: four times
    faster on a CPU than sorting keys with values, which would cost more than the training itself.
    """
    mask = jnp.uint32((1 << (count - 1).bit_length()) - 1)
    words = jax.random.bits(key, (count,), jnp.uint32) & ~mask
    return (jnp.sort(words | jnp.arange(count, dtype=jnp.uint32)) & mask).astype(jnp.int32)

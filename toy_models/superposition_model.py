"""The toy model of superposition: network and sparse data.

The network is ``f(x) = relu(W^T W x + b)`` with ``W`` of shape ``[2, c]``. An input has one
non-zero entry, ``x = amplitude * e_feature``. The potential is ``L(w) = E|x - f(x)|^2``: summed
over outputs, *not* halved, without label noise. In nats per example this is the Gaussian likelihood
with variance 1/2, so that ``exp(-n L)`` is a posterior on ``n`` examples.

References:
    Chen, Lau, Mendel, Wei, Murfet, "Dynamical versus Bayesian Phase Transitions in a Toy Model of
    Superposition", arXiv:2310.06301 (Lemma 3.1 is the loss below for uniform features).
"""

from typing import Any

import jax
import jax.numpy as jnp

from slt_rl._numbers import check_count

Params = dict[str, jax.Array]
"""Parameters of the network, `{"W": [2, c], "b": [c]}`."""
Examples = dict[str, jax.Array]
"""Sparse inputs `x = amplitude * e_feature`, `{"feature": int32 [n], "amplitude": [n]}`."""


def forward(params: Params, x: jax.Array) -> jax.Array:
    """Outputs ``relu(W^T W x + b)`` for dense inputs.

    Args:
        params: ``{"W": [2, c], "b": [c]}``.
        x: Inputs of shape ``[..., c]``.

    Returns:
        Outputs of shape ``[..., c]``.
    """
    # The examples last until the end: axes of six or two entries, which a batch of chains would
    # otherwise run over innermost, double the time on a CPU.
    x = jnp.asarray(x)
    sums = jnp.tensordot(gram_matrix(params["W"]), x, axes=((1,), (x.ndim - 1,)))
    biases = jnp.expand_dims(params["b"], range(1, x.ndim))
    return jnp.moveaxis(jax.nn.relu(sums + biases), 0, -1)


def gram_matrix(weights: jax.Array) -> jax.Array:
    """``W^T W`` of shape ``[c, c]`` for ``W`` of shape ``[2, c]``.

    As a sum of two outer products, which fuse with what follows: a batch of small matrix products
    takes half again as long on a CPU.
    """
    first, second = weights[0], weights[1]
    return first[:, None] * first + second[:, None] * second


def outputs(params: Params, examples: Examples) -> jax.Array:
    """Outputs for sparse inputs, ``relu(amplitude * (W^T W)[feature] + b)``.

    Made from dense ones: reading one row of the Gram matrix for each example costs twice as much,
    and its gradient adds up row by row.

    Args:
        params: ``{"W": [2, c], "b": [c]}``.
        examples: ``{"feature": int [n], "amplitude": [n]}``.

    Returns:
        Outputs of shape ``[n, c]``.
    """
    return forward(params, dense_inputs(examples, params["b"].shape[-1]))


def dense_inputs(examples: Examples, num_features: int) -> jax.Array:
    """The dense inputs ``amplitude * e_feature`` of sparse examples, of shape ``[..., c]``."""
    amplitude = examples["amplitude"]
    hot = jax.nn.one_hot(examples["feature"], num_features, dtype=amplitude.dtype)
    return amplitude[..., None] * hot


def sample_examples(
    key: jax.Array,
    num_examples: int,
    num_features: int,
    *,
    probabilities: jax.Array | None = None,
    amplitudes: jax.Array | None = None,
) -> Examples:
    """Draws inputs ``x = mu e_i`` with ``i ~ probabilities`` and ``mu ~ U[0, amplitudes[i]]``.

    Args:
        key: Random key, consumed.
        num_examples: Number of examples ``n``.
        num_features: Number of features ``c``.
        probabilities: Feature probabilities ``[c]``; uniform if None.
        amplitudes: Largest amplitude of each feature ``[c]``; one if None.

    Returns:
        ``{"feature": int32 [n], "amplitude": [n]}``.

    Raises:
        ValueError: If a count is not positive or a shape is not ``[c]``.
    """
    check_count("num_examples", num_examples)
    check_count("num_features", num_features)
    check_shape("probabilities", probabilities, num_features)
    check_shape("amplitudes", amplitudes, num_features)
    key_feature, key_amplitude = jax.random.split(key)
    amplitude = jax.random.uniform(key_amplitude, (num_examples,))
    if probabilities is None:
        feature = jax.random.randint(key_feature, (num_examples,), 0, num_features, jnp.int32)
    else:
        logits = jnp.log(jnp.asarray(probabilities))
        feature = jax.random.categorical(key_feature, logits, shape=(num_examples,))
    if amplitudes is not None:
        amplitude = amplitude * jnp.asarray(amplitudes)[feature]
    return {"feature": feature.astype(jnp.int32), "amplitude": amplitude}


def example_loss(params: Params, examples: Examples) -> jax.Array:
    """Squared error ``|x - f(x)|^2`` of each example, summed over outputs and not halved.

    Args:
        params: ``{"W": [2, c], "b": [c]}``.
        examples: ``{"feature": int [n], "amplitude": [n]}``.

    Returns:
        Losses of shape ``[n]``.
    """
    error = outputs(params, examples) - dense_inputs(examples, params["b"].shape[-1])
    return jnp.sum(error**2, axis=-1)


def check_shape(name: str, value: Any, num_features: int) -> None:
    """Raises ValueError unless a value is None or has shape (num_features,)."""
    if value is not None and jnp.shape(value) != (num_features,):
        raise ValueError(f"{name}: got shape {jnp.shape(value)}, expected ({num_features},)")


def check_params(params: Params) -> None:
    """Raises ValueError unless W is [2, c] and b is [c]."""
    weights, biases = jnp.shape(params["W"]), jnp.shape(params["b"])
    if len(weights) != 2 or weights[0] != 2 or biases != weights[1:]:
        raise ValueError(
            f"params: got W {weights} and b {biases}, expected W of shape (2, c) and b of (c,)"
        )

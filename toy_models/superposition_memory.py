"""The toy model of superposition with memory: which feature it is and how large come one by one.

An episode shows two observations of `c + 1` numbers: first the feature, `(e_i, 0)`, then the
amplitude, `(0, mu)`. The policy acts on the second, and must remember the first. Its state is a
linear memory, and what it acts on is the product of both parts of it:

    h_t = h_{t-1} + M o_t,    x = (first c numbers of h_2) * (last number of h_2) = mu M e_i

With the fixed memory `M = 1` the composite is the toy model, with its regret, critical points and
learning coefficients. A memory that is learned adds parameters `"memory"`: one gain for all, `[]`,
one for each feature, `[c]`, or a matrix, `[c, c]`. What becomes of the points then, derived from
exact Hessians:

* One gain: `W -> s W`, `memory -> memory / s^2` changes nothing, and so neither do the
  coefficients: 7, 8.5, 8.5 at 5, 5+, 6, with one flat direction more.
* One for each feature: no direction turns downward; 9, 10.5, 11. Other directions than those of the
  tied model are curved, since the memory unties encoder and decoder in length.
* A matrix unties them altogether. At all three the regret has directions downward (2, 4, 2 of 54):
  there is no minimum and no coefficient of the regret. The divergence from the frozen policy has
  one; the rank of its Hessian is 19, 22, 23. Half the rank is the coefficient where the flat
  directions are those of a manifold, which was not shown for the matrix.
"""

from typing import Any

import jax
import jax.numpy as jnp

from toy_models.superposition_loss import line_of, pair_costs, squared_difference
from toy_models.superposition_model import Examples, Params, forward, gram_matrix


def show_in_parts(examples: Examples, num_features: int) -> jax.Array:
    """What an episode shows, `[..., 2, c + 1]`: first the feature, then the amplitude.

    Args:
        examples: `{"feature": int [...], "amplitude": [...]}`.
        num_features: Number of features `c`.
    """
    amplitude = examples["amplitude"]
    hot = jax.nn.one_hot(examples["feature"], num_features + 1, dtype=amplitude.dtype)
    last = jax.nn.one_hot(num_features, num_features + 1, dtype=amplitude.dtype)
    return jnp.stack([hot, amplitude[..., None] * last], axis=-2)


def recalled_outputs(params: Params, examples: Examples) -> jax.Array:
    """Outputs `[..., c]` of the policy on the last observation, with all it remembers.

    Args:
        params: `{"W": [2, c], "b": [c]}`, and `"memory"` if it is learned.
        examples: `{"shown": [..., 2, c + 1]}`; nothing else is read.
    """
    # The memory is linear and forgets nothing: its state at the end is a sum.
    return _act(params, jnp.sum(examples["shown"], axis=-2))


def forgetful_outputs(params: Params, examples: Examples) -> jax.Array:
    """The same with an empty memory before the last observation, as in shuffled transitions.

    The policy sees no feature and plays `relu(b)`: it is that of an input that is always hidden.
    """
    return _act(params, examples["shown"][..., -1, :])


def _act(params: Params, held: jax.Array) -> jax.Array:
    """Outputs for a state of the memory `[..., c + 1]`, before the gains."""
    feature, amplitude = held[..., :-1], held[..., -1:]
    memory = params.get("memory")
    if memory is not None:
        feature = feature @ memory.T if memory.ndim == 2 else feature * memory
    return forward(params, feature * amplitude)


def memory_regret(params: Params) -> jax.Array:
    """Exact regret `[]` of the policy with memory, features uniform and amplitudes in [0, 1].

    Args:
        params: `{"W": [2, c], "b": [c]}`, and `"memory"` if it is learned.
    """
    costs = pair_costs(_slopes(params), params["b"], jnp.eye(params["b"].shape[0]), xp=jnp)
    return jnp.mean(jnp.sum(costs, axis=-1))


def memory_kl(params: Params, reference: Params, *, sigma: float) -> jax.Array:
    """Exact divergence `[]` in nats from the frozen policy at the step at which it acts.

    Args:
        params: As in `memory_regret`.
        reference: The frozen parameters, of the same shapes.
        sigma: Standard deviation of each action coordinate.
    """
    lines = [line_of(_slopes(p), p["b"]) for p in (params, reference)]
    return jnp.mean(jnp.sum(squared_difference(*lines), axis=-1)) / (2 * sigma**2)


def _slopes(params: Params) -> Any:
    """Output `j` per unit of amplitude of feature `i`, before rectification, `[i, j]`."""
    gram, memory = gram_matrix(params["W"]), params.get("memory")
    if memory is None:
        return gram
    return memory.T @ gram if memory.ndim == 2 else jnp.reshape(memory, (-1, 1)) * gram

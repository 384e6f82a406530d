"""The toy model of superposition when the policy decides what it meets next.

The agent stays on its feature `i` with probability `1 - s_i(w)` and otherwise draws a feature
uniformly; the amplitude is fresh at each step. The better the reconstruction, the likelier it moves
on:

    s_i(w) = E exp(-|a - x|^2 / (2 tau^2)),    a ~ N(f(x), sigma^2 I)
           = (1 + sigma^2/tau^2)^(-c/2) int_0^1 exp(-|f(mu e_i) - mu e_i|^2 / (2 (tau^2 + sigma^2)))

so that the stationary law of features is `d_w(i) ~ 1/s_i(w)`, and the average regret is
`J(w) = sum_i d_w(i) l_i(w)` with `l_i` the squared error on feature `i`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from toy_models.superposition_critical import PhaseClass, critical_point
from toy_models.superposition_loss import population_loss
from toy_models.superposition_model import Examples, Params, gram_matrix

# The integrand is smooth between kinks: 12 nodes give 1e-12 there for tau >= 0.2.
NUM_NODES = 12


class Visitation(NamedTuple):
    """How the agent moves on.

    Attributes:
        tau: Tolerance of the reconstruction, in units of the input.
        sigma: Standard deviation of each action coordinate.
    """

    tau: float
    sigma: float = 0.1


def leaving_probabilities(params: Params, visitation: Visitation) -> jax.Array:
    """`s_i(w)` for each feature, `[c]`, by Gauss-Legendre between the kinks of the outputs."""
    gram, biases = gram_matrix(params["W"]), params["b"]
    nodes, node_weights = np.polynomial.legendre.leggauss(NUM_NODES)
    nodes, node_weights = (nodes + 1) / 2, node_weights / 2
    variance = visitation.tau**2 + visitation.sigma**2

    def one(row, target):
        inside = biases * (row + biases) < 0
        kinks = jnp.where(inside, -biases / jnp.where(inside, row, 1), 1.0)
        ends = jnp.concatenate([jnp.zeros(1), jnp.sort(kinks), jnp.ones(1)])
        width = ends[1:] - ends[:-1]
        s = ends[:-1, None] + width[:, None] * nodes
        error = jax.nn.relu(s[..., None] * row + biases) - s[..., None] * target
        values = jnp.exp(-jnp.sum(error**2, axis=-1) / (2 * variance))
        return jnp.sum(width * (values @ node_weights))

    factor = (1 + visitation.sigma**2 / visitation.tau**2) ** (-biases.shape[0] / 2)
    return factor * jax.vmap(one)(gram, jnp.eye(biases.shape[0]))


def visitation_law(params: Params, visitation: Visitation) -> jax.Array:
    """The stationary law of features `d_w`, `[c]`."""
    odds = 1 / leaving_probabilities(params, visitation)
    return odds / jnp.sum(odds)


def visitation_regret(params: Params, visitation: Visitation) -> jax.Array:
    """The average regret `J(w) = sum_i d_w(i) l_i(w)` of the agent that plays for ever.

    Args:
        params: `{"W": [2, c], "b": [c]}`.
        visitation: How the agent moves on.

    Returns:
        The regret `[]`, in units of reward.
    """
    # Under a law that is held fixed this is the population loss, linear in the law.
    return population_loss(params, visitation_law(params, visitation))


@functools.lru_cache(maxsize=32)
def visited_point(label: PhaseClass, visitation: Visitation, num_features: int = 6) -> Params:
    """The critical point of the average regret that continues a class.

    The full hull stays where it is: its features are all alike, so the law is uniform and moves to
    first order only in directions that cost nothing. Other classes keep their symmetry, and length,
    bias and, if positive, the bias of the dead features are found by Newton's method.

    Args:
        label: A class with five or more hull columns; the dead features all positive or none.
        visitation: How the agent moves on.
        num_features: Number of features `c`.

    Returns:
        `{"W": [2, c], "b": [c]}`.

    Raises:
        ValueError: If the class is another one.
        ArithmeticError: If Newton's method does not converge.
    """
    if label.hull < 5 or label.negative or label.positive not in (0, num_features - label.hull):
        raise ValueError(f"label: got {label}, expected 5 or more columns, dead features alike")
    start = critical_point(label, num_features)
    length = jnp.linalg.norm(start["W"][:, 0])
    vector = jnp.array([length, start["b"][0], start["b"][-1]])[: 3 if label.positive else 2]
    derivatives = _derivatives(label, num_features)
    for _ in range(50):
        gradient, hessian = derivatives(vector, visitation)
        if jnp.max(jnp.abs(gradient)) < 1e-13:
            return _build(vector, label, num_features)
        move = jnp.linalg.solve(hessian, gradient)
        vector = vector - move * jnp.minimum(1.0, 0.1 / jnp.max(jnp.abs(move)))
    raise ArithmeticError(f"Newton's method did not converge at class {label}, {visitation}")


def _build(vector: jax.Array, label: PhaseClass, num_features: int) -> Params:
    """Parameters of a class from length, bias and, if positive, bias of the dead features."""
    start = critical_point(label, num_features)
    hull = jnp.arange(num_features) < label.hull
    dead = vector[2] if label.positive else start["b"][-1]
    weights = start["W"] * vector[0] / jnp.linalg.norm(start["W"][:, 0])
    return {"W": weights, "b": jnp.where(hull, vector[1], dead)}


@functools.lru_cache(maxsize=8)
def _derivatives(label: PhaseClass, num_features: int):
    """Jitted `(vector, visitation) -> (gradient, Hessian)`, one program for every visitation."""

    def loss(vector, visitation):
        return visitation_regret(_build(vector, label, num_features), visitation)

    return jax.jit(lambda v, how: (jax.grad(loss)(v, how), jax.hessian(loss)(v, how)))


@functools.partial(jax.jit, static_argnames=("visitation", "num_envs", "num_steps"))
def play_visitation(
    key: jax.Array,
    params: Params,
    visitation: Visitation,
    *,
    num_envs: int,
    num_steps: int,
) -> Examples:
    """Inputs that the policy meets when it plays the chain, started in its stationary law.

    Args:
        key: Random key, consumed.
        params: Parameters of the policy that plays.
        visitation: How the agent moves on.
        num_envs: Independent agents.
        num_steps: Steps of each.

    Returns:
        `{"feature": int32 [num_envs * num_steps], "amplitude": [...]}`, agent after agent.
    """
    key_first, key_amplitude, key_play = jax.random.split(key, 3)
    size = params["b"].shape[0]
    law = visitation_law(params, visitation)
    first = jax.random.categorical(key_first, jnp.log(law), shape=(num_envs,))
    amplitude = jax.random.uniform(key_amplitude, (num_steps, num_envs))
    gram = gram_matrix(params["W"])

    def step(feature, inputs):
        mu, key = inputs
        keys = jax.random.split(key, 3)
        mean = jax.nn.relu(mu[:, None] * gram[feature] + params["b"])
        action = mean + visitation.sigma * jax.random.normal(keys[0], mean.shape)
        error = action - mu[:, None] * jax.nn.one_hot(feature, size)
        leave = jnp.exp(-jnp.sum(error**2, axis=1) / (2 * visitation.tau**2))
        fresh = jax.random.randint(keys[1], feature.shape, 0, size)
        moves = jax.random.uniform(keys[2], feature.shape) < leave
        return jnp.where(moves, fresh, feature), feature

    _, feature = jax.lax.scan(step, first, (amplitude, jax.random.split(key_play, num_steps)))
    return {
        "feature": feature.T.ravel().astype(jnp.int32),
        "amplitude": amplitude.T.ravel(),
    }

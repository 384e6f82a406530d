"""Losses that have no learning coefficient, or another one than they seem to."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import slt_rl
from slt_rl.rl import Batch, importance_regret

TRAJECTORY_LENGTH = 4


def saddle_quartic(depth: float, w: jax.Array) -> jax.Array:
    """`-depth w_0^2/2 + w_0^4/4 + |w_1...|^2/2`: a saddle beside wells of `depth^2/4`."""
    return -depth * w[0] ** 2 / 2 + w[0] ** 4 / 4 + jnp.sum(w[1:] ** 2) / 2


def saddle_of_product(strength: float, layers: Sequence[jax.Array]) -> jax.Array:
    """`1/2 |B A - strength I|^2`, which has a saddle at zero layers."""
    product = layers[1] @ layers[0]
    return jnp.sum((product - strength * jnp.eye(product.shape[0], dtype=product.dtype)) ** 2) / 2


def root_of_sum(w: jax.Array) -> jax.Array:
    """`|w|` as it is written first: its gradient at zero is NaN."""
    return jnp.sqrt(jnp.sum(w**2))


def smooth_root(w: jax.Array) -> jax.Array:
    """`|w|` with the usual repair, which hides the NaN and leaves the kink."""
    return jnp.sqrt(jnp.sum(w**2) + 1e-24)


def sum_of_absolute_values(w: jax.Array) -> jax.Array:
    """`sum |w_i|`, of learning coefficient `d` and not `d/2`."""
    return jnp.sum(jnp.abs(w))


def softmax_gap_regret(logits: jax.Array) -> jax.Array:
    """Regret of a two-armed softmax bandit with gap one: its infimum is at infinity."""
    return jax.nn.sigmoid(logits[1] - logits[0])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Trajectories:
    """Law of the actions of one trajectory, seen as one action: the number of ones is enough.

    Args:
        logit: `[...]`, log odds of a one in every step.
    """

    logit: jax.Array

    def log_prob(self, ones: jax.Array) -> jax.Array:
        """Log probability of a trajectory with so many ones."""
        zeros = TRAJECTORY_LENGTH - ones
        return ones * jax.nn.log_sigmoid(self.logit) + zeros * jax.nn.log_sigmoid(-self.logit)

    def mode(self) -> jax.Array:
        """Ones of the likeliest trajectory."""
        return jnp.where(self.logit > 0, TRAJECTORY_LENGTH, 0)


def memoryless_policy(params: jax.Array, observation: Any) -> Trajectories:
    """The same log odds in every step, whatever is seen."""
    del observation
    return Trajectories(params)


def parity_regret_by_weights(num_trajectories: int, baseline: float, key: jax.Array):
    """The parity task's regret, estimated from trajectories of the uniform policy by weights.

    The exact regret is `tanh(theta/2)^4 / 2`, of learning coefficient 1/4; the sampled one is not
    renormalizable, and its coefficient is wrong for any number of trajectories.
    """
    key_data, key_llc = jax.random.split(key)
    steps = jax.random.bernoulli(key_data, 0.5, (num_trajectories, TRAJECTORY_LENGTH))
    ones = jnp.sum(steps, axis=1)
    batch = Batch(
        observation=jnp.zeros((num_trajectories, 1)),
        action=ones,
        log_prob=jnp.full(num_trajectories, TRAJECTORY_LENGTH * np.log(0.5)),
        advantage=(ones % 2) - baseline,
    )
    loss_fn, data = importance_regret(memoryless_policy, batch)
    return slt_rl.estimate_llc(key_llc, loss_fn, jnp.zeros(()), data, localization=1.0)

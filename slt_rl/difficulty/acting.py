"""The policy of the ladder, and what it does on given inputs."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from slt_rl.difficulty.protocol import ACTION_SCALE
from slt_rl.rl import Batch, GaussianPolicy
from toy_models import superposition_rl as bandit
from toy_models import superposition_rungs as rungs

POLICY = GaussianPolicy(rungs.seen_outputs, ACTION_SCALE)


def act(key: jax.Array, params: Any, inputs: Any, *, baseline_fn: Callable) -> Batch:
    """One action of the policy on each input, with its advantage over a baseline.

    Args:
        key: Random key, consumed.
        params: Parameters of the policy that acts.
        inputs: What it meets, leaves `[n]`.
        baseline_fn: `rewards [n] -> baselines`, `[n]` or `[]`.
    """
    found = jax.vmap(functools.partial(POLICY, params))(inputs)
    noise = jax.random.normal(key, found.mean.shape)
    action = jax.vmap(lambda d, z: d.transform(z))(found, noise)
    log_prob = jax.vmap(lambda d, a: d.log_prob(a))(found, action)
    reward = jax.vmap(bandit.sparse_reward)(inputs, action)
    return Batch(inputs, action, log_prob, reward - baseline_fn(reward))

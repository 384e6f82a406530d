"""Generalized advantage estimation against a plain loop, and at its two ends."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slt_rl.rl import generalized_advantages


def by_hand(rewards, values, next_values, terminated, truncated, *, discount, gae_lambda):
    """The definition, forwards: discounted sum of one-step errors up to the end of the episode."""
    num_steps, num_envs = rewards.shape
    advantages = np.zeros_like(rewards)
    for env in range(num_envs):
        for start in range(num_steps):
            weight = 1.0
            for t in range(start, num_steps):
                bootstrap = 0.0 if terminated[t, env] else discount * next_values[t, env]
                error = rewards[t, env] + bootstrap - values[t, env]
                advantages[start, env] += weight * error
                weight *= discount * gae_lambda
                if terminated[t, env] or truncated[t, env]:
                    break
    return advantages


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_agrees_with_the_definition(seed, discount, gae_lambda):
    rng = np.random.default_rng(seed)
    rewards, values, next_values = rng.normal(size=(3, 7, 4))
    terminated, truncated = rng.random((2, 7, 4)) < 0.25
    truncated &= ~terminated
    numbers = {"discount": discount, "gae_lambda": gae_lambda}
    found = generalized_advantages(
        *map(jnp.asarray, (rewards, values, next_values)),
        terminated=jnp.asarray(terminated),
        truncated=jnp.asarray(truncated),
        **numbers,
    )
    exact = by_hand(rewards, values, next_values, terminated, truncated, **numbers)
    np.testing.assert_allclose(found, exact, atol=1e-12)


def test_time_limit_bootstraps_where_termination_does_not():
    one = jnp.ones((1, 1))
    yes, no = jnp.ones((1, 1), bool), jnp.zeros((1, 1), bool)
    numbers = {"discount": 0.9, "gae_lambda": 0.5}
    cut = generalized_advantages(one, 0 * one, 10 * one, terminated=no, truncated=yes, **numbers)
    end = generalized_advantages(one, 0 * one, 10 * one, terminated=yes, truncated=no, **numbers)
    assert float(cut[0, 0]) == pytest.approx(10.0)
    assert float(end[0, 0]) == pytest.approx(1.0)


def test_shapes_are_checked():
    one, no = jnp.ones((3, 2)), jnp.zeros((3, 2), bool)
    with pytest.raises(ValueError, match=r"truncated: got shape \(3,\), expected \(3, 2\)"):
        generalized_advantages(
            one, one, one, terminated=no, truncated=no[:, 0], discount=1.0, gae_lambda=1.0
        )

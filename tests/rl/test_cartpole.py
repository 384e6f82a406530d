"""A short training on CartPole; the full check is part of the validation."""

import jax
import numpy as np
import pytest

from slt_rl.rl.cartpole import cartpole_setup, evaluate_cartpole, train_cartpole


def test_a_short_training_learns_to_balance():
    setup = cartpole_setup(num_env_steps=40_000)
    assert setup.num_env_steps == 19 * 2048
    *_, (states, _) = train_cartpole(jax.random.key(0), setup, num_runs=2, num_checkpoints=1)
    returns = evaluate_cartpole(jax.random.key(1), setup, states.params, num_episodes=50)
    assert returns.shape == (2,)
    assert np.all(returns > 100)  # a random policy lasts 22 steps


def test_too_few_steps_are_named():
    with pytest.raises(ValueError, match="num_env_steps: got 10, expected at least 2048"):
        cartpole_setup(num_env_steps=10)

"""FirstOnly: the table of its flow, its exact values, and the world against the flow."""

import itertools

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.rl import (
    Categorical,
    GymnaxEnv,
    reset_envs,
    rollout,
)
from toy_models.first_only import (
    FirstOnlyEnv,
    FirstOnlyParams,
    expected_plants,
    flow,
    optimal_return,
)

ENV = FirstOnlyEnv()
PARAMS = ENV.default_params


# cost, salience, peak, its index, index of half decay, value after 20,000 updates
@pytest.mark.parametrize(
    "row",
    [
        (0.02, 1, 3.021, 26, 114, 1.006),
        (0.05, 1, 2.366, 20, 74, 1.002),
        (0.10, 1, 1.911, 18, 60, 1.001),
        (0.20, 1, 1.510, 18, 57, 1.001),
        (0.05, 0.5, 2.717, 27, 193, 1.009),
    ],
)
def test_flow_gives_the_table(row):
    cost, salience, peak, peak_index, half_index, end = row
    plants = flow(cost, salience).plants
    assert plants.max() == pytest.approx(peak, abs=5e-4)
    assert plants.argmax() == peak_index
    below = np.flatnonzero(plants[peak_index:] < 1 + (plants.max() - 1) / 2)
    assert peak_index + below[0] == half_index
    assert plants[-1] == pytest.approx(end, abs=5e-4)


def test_without_a_cost_there_is_no_decay():
    plants = flow(0.0).plants
    assert np.all(np.diff(plants) > 0)
    assert plants[-1] == pytest.approx(9.904, abs=5e-4)
    assert sum(expected_plants(jnp.array([-4.0, 0.0]))) == pytest.approx(0.3597, abs=5e-5)


def episode_return(actions, params, environment=ENV):
    """Return of a fixed sequence of actions, without a reset."""

    def step(state, action):
        _, state, reward, terminated, _ = environment.step_env(
            jax.random.key(1), state, action, params
        )
        return state, (reward, terminated)

    state = environment.reset_env(jax.random.key(0), params)[1]
    state = jax.tree.map(jnp.asarray, state)
    _, (rewards, terminated) = jax.lax.scan(step, state, actions)
    return jnp.sum(rewards), terminated


@pytest.mark.parametrize("cost", [0.0, 0.05, 0.4])
def test_optimum_by_enumeration(cost):
    params = FirstOnlyParams(max_steps_in_episode=6, cost=cost)
    plans = jnp.array(list(itertools.product(range(3), repeat=6)))
    returns, terminated = jax.vmap(lambda plan: episode_return(plan, params))(plans)
    np.testing.assert_array_equal(terminated, np.broadcast_to(np.arange(6) == 5, (729, 6)))
    assert float(returns.max()) == pytest.approx(optimal_return(cost, 6), abs=1e-12)
    assert optimal_return(cost) == pytest.approx(1 + 19 * cost)


def features(logits, observation):
    """The policy of the flow: plant or work by two logistic features."""
    return Categorical(jnp.stack([logits[0] + observation[0] * logits[1], 0.0 * logits[0], -1e9]))


@pytest.mark.parametrize("salience", [0.5, 1.0])
def test_the_world_plays_what_the_flow_says(salience):
    cost, logits = 0.05, jnp.array([-1.0, -0.7])
    env = GymnaxEnv(ENV, FirstOnlyParams(cost=cost, salience=salience))
    batch = reset_envs(jax.random.key(0), env, 3000)
    _, play, sums = rollout(jax.random.key(1), features, logits, env=env, batch=batch, num_steps=20)
    first, extra = expected_plants(logits, salience)
    plants = np.sum(play.action == 0, axis=0)
    assert abs(plants.mean() - float(first + extra)) < 4 * plants.std() / np.sqrt(3000)
    returns = np.sum(play.reward, axis=0)
    exact = cost * 20 + (1 - cost) * float(first) - cost * float(extra)
    assert abs(returns.mean() - exact) < 4 * returns.std() / np.sqrt(3000)
    assert int(sums.num_episodes) == 3000 and not play.truncated.any()
    np.testing.assert_array_equal(
        play.terminated, (np.arange(20) == 19)[:, None] & np.ones(3000, bool)
    )


def test_interface():
    assert isinstance(ENV, gymnax.environments.environment.Environment)
    observation, state = ENV.reset(jax.random.key(0), PARAMS)
    assert observation.shape == ENV.observation_space(PARAMS).shape == (6,)
    assert bool(ENV.state_space(PARAMS).spaces["noise"].contains(state.noise))
    assert ENV.action_space().n == ENV.num_actions == 3 and ENV.name == "FirstOnly-v1"
    seen, state, *_ = ENV.step(jax.random.key(1), state, 0, PARAMS)
    np.testing.assert_allclose(seen[:2], [1.0, 0.05])
    np.testing.assert_array_equal(ENV.get_obs(state), seen)
    assert not np.isin(seen[2:], observation[2:]).any()
    assert ENV == FirstOnlyEnv(4) and ENV != FirstOnlyEnv(3)


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_noise: got -1"):
        FirstOnlyEnv(-1)
    with pytest.raises(ValueError, match="horizon: expected a whole number >= 1, got 0"):
        flow(0.05, horizon=0)
    with pytest.raises(ValueError, match="num_updates: expected a whole number >= 1, got 0"):
        flow(0.05, num_updates=0)

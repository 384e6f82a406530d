"""ColorStreak: both ends of its transition by enumeration, and its interface."""

import itertools

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toy_models.color_streak import (
    ColorStreakEnv,
    ColorStreakParams,
    optimal_return,
    safe_return,
    streak_events,
)

ENV = ColorStreakEnv()
PARAMS = ENV.default_params


@jax.jit
def all_returns(params, color, plans):
    """Returns and ends of fixed sequences of actions, through the environment's own step."""

    def step(state, action):
        _, following, reward, end, _ = ENV.step_env(jax.random.key(1), state, action, params)
        return following, (reward, end, streak_events(state, action, following)[0])

    def one(plan):
        state = ENV.reset_env(jax.random.key(0), params)[1].replace(color=color)
        rewards, ends, events = jax.lax.scan(step, jax.tree.map(jnp.asarray, state), plan)[1]
        return jnp.sum(rewards), ends, jnp.sum(events)

    return jax.vmap(one)(plans)


PLANS = np.array(list(itertools.product(range(3), repeat=9)))


@pytest.mark.parametrize("color", [0, 1])
def test_optimum_and_safe_by_enumeration(color):
    returns, ends, events = all_returns(PARAMS, color, PLANS)
    assert float(returns.max()) == optimal_return() == 7.0
    assert returns[np.all(PLANS == 2, axis=1)].item() == safe_return() == 2.25
    best = PLANS[int(returns.argmax())]
    assert np.all(best == color)
    np.testing.assert_array_equal(ends, np.broadcast_to(np.arange(9) == 8, ends.shape))
    np.testing.assert_array_equal(events, np.sum(color == PLANS, axis=1))


@pytest.mark.parametrize(("streak", "streak_reward", "safe_reward"), [(2, 1.0, 0.5), (4, 0.3, 0.2)])
def test_dynamic_programming_agrees_for_other_rewards(streak, streak_reward, safe_reward):
    params = ColorStreakParams(streak=streak, streak_reward=streak_reward, safe_reward=safe_reward)
    returns, _, _ = all_returns(params, 0, PLANS)
    assert optimal_return(params) == pytest.approx(float(returns.max()), abs=1e-12)
    assert safe_return(params) == pytest.approx(9 * safe_reward)


def test_interface():
    assert isinstance(ENV, gymnax.environments.environment.Environment)
    observation, state = ENV.reset(jax.random.key(0), PARAMS)
    assert bool(ENV.observation_space(PARAMS).contains(observation))
    assert bool(ENV.state_space(PARAMS).spaces["color"].contains(state.color))
    assert ENV.action_space().n == ENV.num_actions == 3
    for time in range(9):
        step = ENV.step(jax.random.key(time), state, state.color, PARAMS)
        observation, state, reward, terminated, truncated, info = step
        assert float(reward) == (time >= 2) and not bool(truncated)
        np.testing.assert_array_equal(info["final_observation"][1:], time + 1)
    assert bool(terminated) and int(state.time) == 0
    assert ENV == ColorStreakEnv(2) and ENV != ColorStreakEnv(3)


def test_bad_arguments():
    with pytest.raises(ValueError, match="num_colors: expected a whole number >= 1, got 0"):
        ColorStreakEnv(0)
    with pytest.raises(ValueError, match="max_steps_in_episode 0"):
        optimal_return(ColorStreakParams(max_steps_in_episode=0))

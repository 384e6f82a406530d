"""Environments and rollouts: ends of episodes, counts, and whole episodes for evaluation."""

import functools

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.development import EventEnv
from slt_rl.rl import (
    AdaptedEnv,
    Categorical,
    CategoricalPolicy,
    DiagonalGaussian,
    GymnaxEnv,
    evaluate,
    reset_envs,
    rollout,
)
from slt_rl.rl.env import Transition
from slt_rl.rl.rollout import cut_values
from tests.rl.counting_env import CountingEnv, CountingParams, always_one


def play(params, num_steps=7, num_envs=2):
    env = GymnaxEnv(CountingEnv(), params)
    batch = reset_envs(jax.random.key(0), env, num_envs)
    return rollout(jax.random.key(1), always_one, None, env=env, batch=batch, num_steps=num_steps)


def test_a_time_limit_is_a_truncation_and_shows_the_true_last_observation():
    _, trajectory, _ = play(CountingParams())
    np.testing.assert_array_equal(trajectory.observation[:, 0, 0], [0, 1, 2, 0, 1, 2, 0])
    np.testing.assert_array_equal(trajectory.final_observation[:, 0, 0], [1, 2, 3, 1, 2, 3, 1])
    np.testing.assert_array_equal(trajectory.truncated[:, 0], [0, 0, 1, 0, 0, 1, 0])
    assert not np.any(trajectory.terminated)


def test_an_end_at_the_time_limit_is_a_termination_only():
    _, trajectory, _ = play(CountingParams(end=3))
    np.testing.assert_array_equal(trajectory.terminated[:, 0], [0, 0, 1, 0, 0, 1, 0])
    assert not np.any(trajectory.truncated)


@pytest.mark.parametrize("end", [3, 10**6])
def test_values_of_cut_episodes_are_those_of_the_true_successors(end):
    env = GymnaxEnv(CountingEnv(), CountingParams(end=end))
    start = reset_envs(jax.random.key(0), env, 2)
    options = {"env": env, "batch": start, "num_steps": 7}
    _, seen, _ = rollout(jax.random.key(1), always_one, None, **options)
    _, valued, _ = rollout(
        jax.random.key(1), always_one, None, value_fn=lambda x: 10 + x[0], **options
    )
    cut = np.where(seen.truncated, 10 + seen.final_observation[..., 0], 0)
    np.testing.assert_array_equal(valued.cut_value, cut)
    assert np.any(cut) == (end > 3)
    kept = valued._replace(final_observation=seen.final_observation, cut_value=None)
    jax.tree.map(np.testing.assert_array_equal, kept, seen)


def test_values_of_cut_episodes_stay_fractions_where_rewards_are_whole_numbers():
    whole, cut = jnp.ones(2, jnp.int32), jnp.array([True, False])
    transition = Transition(None, None, whole, ~cut, cut, jnp.array([[3.0], [4.0]]))
    values = cut_values(lambda x: x[:, 0] / 8, transition)
    np.testing.assert_array_equal(values, [0.375, 0])


def test_episodes_are_counted_when_they_end_and_go_on_over_rollouts():
    batch, trajectory, sums = play(CountingParams())
    assert (int(sums.num_episodes), float(sums.total_return), int(sums.total_length)) == (4, 12, 12)
    np.testing.assert_array_equal(batch.episode_return, [1, 1])
    np.testing.assert_array_equal(batch.observation[:, 0], [1, 1])
    assert trajectory.reward.shape == (7, 2)


def test_stepping_compiles_once_and_keeps_strong_types():
    env = GymnaxEnv(*gymnax.make("CartPole-v1"))
    state, observation = env.reset(jax.random.key(0))
    step = jax.jit(env.step)
    for seed in range(3):
        transition = step(jax.random.key(seed), state, 1)
        state = transition.state
    assert step._cache_size() == 1
    leaves = jax.tree.leaves((transition, observation))
    assert not any(leaf.aval.weak_type for leaf in leaves)


def test_new_numbers_in_the_parameters_do_not_recompile():
    environment, params = gymnax.make("CartPole-v1")
    step = jax.jit(lambda env, key, state: env.step(key, state, 1))
    for gravity in (9.8, 3.7):
        env = GymnaxEnv(environment, params.replace(gravity=gravity))
        transition = step(env, jax.random.key(0), env.reset(jax.random.key(1))[0])
        assert np.isfinite(transition.reward)
    assert step._cache_size() == 1


@functools.partial(jax.jit, static_argnums=1)
def evaluated(limit, max_steps):
    env = GymnaxEnv(CountingEnv(), CountingParams(max_steps_in_episode=limit))
    return evaluate(
        jax.random.key(0), always_one, None, env=env, num_episodes=3, max_steps=max_steps
    )


def test_evaluation_plays_each_episode_exactly_once():
    result = evaluated(5, 100)
    np.testing.assert_array_equal(result.episode_return, [5, 5, 5])
    np.testing.assert_array_equal(result.episode_length, [5, 5, 5])
    assert np.all(result.complete)


def test_evaluation_says_where_an_episode_did_not_end():
    assert not np.any(evaluated(50, 10).complete)


@pytest.mark.parametrize("greedy", [False, True])
def test_evaluation_of_an_untrained_pole_is_about_twenty_steps(greedy):
    env = GymnaxEnv(*gymnax.make("CartPole-v1"))
    policy = CategoricalPolicy(lambda params, observation: jnp.zeros(2))
    result = evaluate(
        jax.random.key(0),
        policy,
        None,
        env=env,
        num_episodes=400,
        max_steps=500,
        greedy=greedy,
    )
    # Random play lasts 22 steps in the mean; always pushing left topples the pole in about 9.
    low, high = (8, 11) if greedy else (20, 25)
    assert low < float(jnp.mean(result.episode_return)) < high


def three_arms(params, observation):
    return Categorical(jnp.zeros(3))


def steering(params, observation):
    return DiagonalGaussian(jnp.zeros(1), jnp.ones(1))


CARTPOLE = GymnaxEnv(*gymnax.make("CartPole-v1"))


@pytest.mark.parametrize(
    ("policy", "env", "message"),
    [
        (three_arms, CARTPOLE, "acts in 3 discrete actions, but the environment has 2 discrete"),
        (steering, CARTPOLE, "acts in continuous actions, but the environment has 2 discrete"),
        (
            three_arms,
            GymnaxEnv(*gymnax.make("Pendulum-v1")),
            "acts in 3 discrete actions, but the environment has continuous",
        ),
        (three_arms, AdaptedEnv(CARTPOLE, jnp.tanh), "environment has 2 discrete"),
        (
            three_arms,
            EventEnv(CARTPOLE, lambda s, a, t: jnp.stack([a == 0]), ("left",)),
            "environment has 2 discrete",
        ),
    ],
    ids=["number", "continuous", "discrete", "adapted", "events"],
)
def test_a_policy_of_another_action_space_is_refused(policy, env, message):
    batch = reset_envs(jax.random.key(0), env, 2)
    with pytest.raises(ValueError, match=f"^policy: .*{message}"):
        rollout(jax.random.key(1), policy, None, env=env, batch=batch, num_steps=1)
    with pytest.raises(ValueError, match=f"^policy: .*{message}"):
        evaluate(jax.random.key(1), policy, None, env=env, num_episodes=2, max_steps=1)


def test_where_the_environment_does_not_say_any_policy_plays():
    class Silent(CountingEnv):
        def action_space(self, params=None):
            raise NotImplementedError

    env = GymnaxEnv(Silent(), CountingParams())
    assert env.num_actions is None
    batch = reset_envs(jax.random.key(0), env, 2)
    _, played, _ = rollout(jax.random.key(1), three_arms, None, env=env, batch=batch, num_steps=2)
    assert played.action.shape == (2, 2)

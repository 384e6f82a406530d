"""The toy model of superposition as an environment: interface, law of inputs, and return."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.rl import GaussianPolicy, GymnaxEnv, reset_envs, rollout
from toy_models.superposition import critical_point, forward, parse_class, population_loss
from toy_models.superposition_env import SuperpositionEnv, SuperpositionParams
from toy_models.superposition_rl import superposition_env

SIGMA = 0.1
ENV = SuperpositionEnv(6)
PARAMS = ENV.default_params


def random_params(seed):
    key_w, key_b = jax.random.split(jax.random.key(seed))
    return {"W": jax.random.normal(key_w, (2, 6)), "b": 0.3 * jax.random.normal(key_b, (6,))}


def test_a_step_has_the_six_values_of_gymnax_and_resets_itself():
    assert isinstance(ENV, gymnax.environments.environment.Environment)
    observation, state = ENV.reset(jax.random.key(0), PARAMS)
    action = jnp.full(6, 0.1)
    following, new, reward, terminated, truncated, info = ENV.step(
        jax.random.key(1), state, action, PARAMS
    )
    assert float(reward) == pytest.approx(-float(jnp.sum((action - observation) ** 2)))
    assert bool(terminated)
    assert not bool(truncated)
    np.testing.assert_array_equal(info["final_observation"], observation)
    assert int(new.time) == 0
    assert not np.array_equal(following, observation)


def test_spaces_hold_what_is_seen_and_done():
    observation, state = ENV.reset(jax.random.key(0), PARAMS)
    assert bool(ENV.observation_space(PARAMS).contains(observation))
    assert ENV.action_space(PARAMS).shape == (6,)
    assert bool(ENV.state_space(PARAMS).spaces["feature"].contains(state.feature))
    assert ENV.num_actions == 6
    assert ENV.name == "Superposition-v1"


def test_a_step_of_the_environment_alone_terminates_without_a_reset():
    observation, state = ENV.reset(jax.random.key(0), PARAMS)
    same, new, _, terminated, _ = ENV.step_env(jax.random.key(1), state, observation, PARAMS)
    np.testing.assert_array_equal(same, observation)
    assert bool(terminated)
    assert bool(ENV.is_terminated(new, PARAMS))
    assert not bool(ENV.is_truncated(new, PARAMS))


def test_inputs_follow_probabilities_and_amplitudes():
    probabilities = jnp.array([0.0, 0.1, 0.2, 0.2, 0.2, 0.3])
    amplitudes = jnp.array([1.0, 1.0, 2.0, 0.5, 1.0, 3.0])
    params = SuperpositionParams(probabilities=probabilities, amplitudes=amplitudes)
    num = 20_000
    _, states = jax.vmap(ENV.reset, (0, None))(jax.random.split(jax.random.key(2), num), params)
    frequency = np.bincount(np.asarray(states.feature), minlength=6) / num
    sem = np.sqrt(probabilities * (1 - probabilities) / num)
    assert np.all(np.abs(frequency - probabilities) <= 4 * sem)
    scaled = np.asarray(states.amplitude / amplitudes[states.feature])
    assert abs(scaled.mean() - 0.5) < 4 * np.sqrt(1 / 12 / num)
    assert 0 <= scaled.min()
    assert scaled.max() < 1


@pytest.mark.parametrize("label", ["5", "5+", "6", None])
def test_mean_reward_is_minus_loss_minus_noise(label):
    params = critical_point(parse_class(label), 6) if label else random_params(3)
    env = superposition_env(6)
    num_envs, num_steps = 5000, 8
    _, play, sums = rollout(
        jax.random.key(4),
        GaussianPolicy(forward, SIGMA),
        params,
        env=env,
        batch=reset_envs(jax.random.key(5), env, num_envs),
        num_steps=num_steps,
    )
    rewards = np.asarray(play.reward).ravel()
    exact = -(float(population_loss(params)) + 6 * SIGMA**2)
    sem = rewards.std() / np.sqrt(rewards.size)
    assert abs(rewards.mean() - exact) < 4 * sem
    assert sem < 0.02 * abs(exact)  # the noise term alone, 0.06, is more than ten errors
    assert int(sums.num_episodes) == num_envs * num_steps


def test_equal_environments_are_one_program():
    step = jax.jit(lambda env, key: env.step(key, env.reset(key)[0], jnp.zeros(6)))
    for _ in range(2):
        step(GymnaxEnv(SuperpositionEnv(6), SuperpositionEnv(6).default_params), jax.random.key(0))
    assert step._cache_size() == 1
    assert SuperpositionEnv(6) == ENV
    assert SuperpositionEnv(5) != ENV


def test_features_are_counted():
    with pytest.raises(ValueError, match="num_features: expected a whole number >= 1, got 0"):
        SuperpositionEnv(0)

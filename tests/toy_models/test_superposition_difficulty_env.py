"""The environment of the ladder: what a policy earns in it is the closed form of each rung."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.rl import GaussianPolicy, reset_envs, rollout
from toy_models.superposition import critical_point, forward, parse_class
from toy_models.superposition_difficulty_env import DifficultyEnv
from toy_models.superposition_rungs import drifted_law, law_regret, uniform_law
from toy_models.superposition_visitation import Visitation, visitation_law, visitation_regret

SIGMA = 0.1
POLICY = GaussianPolicy(forward, SIGMA)
NOISE = 6 * SIGMA**2


def point(seed=0):
    """Away from symmetry, with positive dead biases: hidden inputs cost too."""
    start = critical_point(parse_class("5+"), 6)
    keys = jax.random.split(jax.random.key(seed))
    return {
        "W": start["W"] + 0.1 * jax.random.normal(keys[0], (2, 6)),
        "b": start["b"] + 0.1 * jax.random.normal(keys[1], (6,)),
    }


def play(env, *, num_envs=512, num_steps, seed=1):
    key_reset, key_play = jax.random.split(jax.random.key(seed))
    batch = reset_envs(key_reset, env, num_envs)
    return rollout(key_play, POLICY, point(), env=env, batch=batch, num_steps=num_steps)[1]


def z_score(samples, exact):
    """Distance of a mean over independent samples in standard errors."""
    samples = np.asarray(samples)
    return (samples.mean() - exact) / (samples.std(ddof=1) / np.sqrt(samples.size))


@pytest.mark.parametrize(
    "law",
    [uniform_law(6), drifted_law(0.4), drifted_law(0.4, amplitude=1.4), uniform_law(6, hidden=0.3)],
    ids="bdam",
)
def test_one_step_rewards_have_the_mean_of_the_law(law):
    found = play(DifficultyEnv(law), num_steps=40)
    assert bool(jnp.all(found.terminated))
    assert abs(z_score(found.reward.ravel(), -(law_regret(point(), law) + NOISE))) < 3.5


def test_a_late_sum_has_the_mean_of_its_inputs_and_is_paid_once():
    env = DifficultyEnv(drifted_law(0.4), num_inputs=4, delay=5)
    found = play(env, num_steps=27)
    ends = np.arange(27) % 9 == 8
    np.testing.assert_array_equal(found.terminated[:, 0], ends)
    assert np.all(np.asarray(found.reward)[~ends] == 0)
    # Nothing is seen while waiting, the last observation included.
    assert np.all(np.asarray(found.observation)[np.arange(27) % 9 >= 4] == 0)
    assert np.all(np.asarray(found.final_observation)[ends] == 0)
    wanted = -4 * (law_regret(point(), env.law) + NOISE)
    assert abs(z_score(np.asarray(found.reward)[ends].ravel(), wanted)) < 3.5


def test_visits_and_rewards_are_those_of_the_stationary_law():
    visitation = Visitation(0.3, SIGMA)
    env = DifficultyEnv(uniform_law(6), tau=visitation.tau, num_inputs=None)
    # Correlation between steps decays by 0.7 or less: forty steps forget the uniform start.
    found = play(env, num_steps=200)
    late = np.asarray(found.reward)[40:]
    assert not np.any(found.terminated)
    wanted = -(visitation_regret(point(), visitation) + NOISE)
    assert abs(z_score(late.mean(axis=0), wanted)) < 3.5
    # The law of equal features is told apart.
    assert abs(z_score(late.mean(axis=0), -(law_regret(point(), env.law) + NOISE))) > 5
    observation = np.asarray(found.observation)[40:]
    law = visitation_law(point(), visitation)
    for feature in range(6):
        share = (observation[..., feature] > 0).mean(axis=0)
        assert abs(z_score(share, float(law[feature]))) < 4


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="num_inputs: expected a whole number >= 1, got 0"):
        DifficultyEnv(uniform_law(6), num_inputs=0)
    with pytest.raises(ValueError, match="delay: got 2 with num_inputs=None"):
        DifficultyEnv(uniform_law(6), num_inputs=None, delay=2)

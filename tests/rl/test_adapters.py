"""Gymnasium's vector environments, on a tiny one whose every number is known and on a real one."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from slt_rl.rl import (
    MLP,
    CategoricalPolicy,
    GymnasiumEnvs,
    by_trajectory,
    gymnasium_rollout,
    log_ratios,
    record,
)
from tests.rl.counting_env import learnable

PARAMS = {"w": jnp.array([0.3, -0.5]), "b": jnp.array([-0.1, 0.0])}


class CountingVectorEnv(VectorEnv):
    """Counts steps, pays the action; environment `i` terminates at `ends[i]`, is cut at 4.

    Writes every observation into the same array, as gymnasium's own environments may.
    """

    def __init__(self, mode, ends=(3, 9)):
        self.metadata = {"autoreset_mode": mode}
        self.mode = mode
        self.num_envs = len(ends)
        self.ends = np.array(ends)
        self.count = np.zeros((len(ends), 1))

    def reset(self, *, seed=None, options=None):
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        self.count[mask] = 0
        return self.count, {}

    def step(self, actions):
        self.count += 1
        terminated, truncated = self.count[:, 0] >= self.ends, self.count[:, 0] >= 4
        info = {}
        if self.mode is AutoresetMode.SAME_STEP:
            done = terminated | truncated
            last = self.count.copy()
            info = {"final_obs": [last[i] if done[i] else None for i in range(self.num_envs)]}
            self.count[done] = 0
        return self.count, 1.0 * actions, terminated, truncated, info


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_every_row_is_a_transition(mode):
    envs = GymnasiumEnvs(CountingVectorEnv(mode))
    played = gymnasium_rollout(jax.random.key(0), learnable, PARAMS, envs=envs, num_steps=9)
    np.testing.assert_array_equal(played.observation[:, 0, 0], [0, 1, 2, 0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(played.final_observation[:, 0, 0], [1, 2, 3] * 3)
    np.testing.assert_array_equal(played.observation[:, 1, 0], [0, 1, 2, 3, 0, 1, 2, 3, 0])
    np.testing.assert_array_equal(played.final_observation[:, 1, 0], [1, 2, 3, 4, 1, 2, 3, 4, 1])
    np.testing.assert_array_equal(played.terminated[:, 0], [0, 0, 1] * 3)
    np.testing.assert_array_equal(played.truncated[:, 1], [0, 0, 0, 1, 0, 0, 0, 1, 0])
    assert not np.any(played.truncated[:, 0]) and not np.any(played.terminated[:, 1])
    np.testing.assert_array_equal(played.reward, played.action)
    np.testing.assert_array_equal(envs.start, [True, False])


def test_play_goes_on_and_becomes_trajectories():
    envs = GymnasiumEnvs(CountingVectorEnv(AutoresetMode.SAME_STEP))
    gymnasium_rollout(jax.random.key(0), learnable, PARAMS, envs=envs, num_steps=3)
    start = envs.start
    played = gymnasium_rollout(jax.random.key(1), learnable, PARAMS, envs=envs, num_steps=6)
    buffer = record(played, version=0, step=3, start=start)
    synthesis = by_trajectory(buffer)
    # Two episodes of the first environment; of the second the one that begins within the stretch.
    assert (synthesis.num_units, synthesis.num_steps) == (3, 10)
    np.testing.assert_allclose(log_ratios(learnable, PARAMS, buffer), 0, atol=1e-14)


def test_a_termination_at_the_time_limit_is_a_termination_only():
    envs = GymnasiumEnvs(CountingVectorEnv(AutoresetMode.DISABLED, ends=(4,)))
    played = gymnasium_rollout(jax.random.key(0), learnable, PARAMS, envs=envs, num_steps=4)
    assert played.terminated[3, 0] and not played.truncated[3, 0]


def test_a_registered_environment_can_be_played():
    made = gymnasium.make_vec(
        "CartPole-v1", num_envs=3, vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
    )  # fmt: skip
    network = MLP(4, 2, hidden=(4,))
    envs = GymnasiumEnvs(made, seed=0)
    params = network.init(jax.random.key(0))
    policy = CategoricalPolicy(network)
    played = gymnasium_rollout(jax.random.key(1), policy, params, envs=envs, num_steps=80)
    done = played.terminated | played.truncated
    assert done.sum() >= 3
    # CartPole terminates outside |x| <= 2.4 or |angle| <= 12 degrees: seen in the true last state.
    last = played.final_observation[played.terminated]
    limit = 12 * 2 * np.pi / 360
    assert np.all((np.abs(last[:, 0]) > 2.4) | (np.abs(last[:, 2]) > limit))
    np.testing.assert_array_equal(
        played.observation[1:][~done[:-1]], played.final_observation[:-1][~done[:-1]]
    )
    wider = MLP(4, 3, hidden=(4,))
    with pytest.raises(ValueError, match="policy: acts in 3 discrete actions, but .* has 2"):
        gymnasium_rollout(
            jax.random.key(1),
            CategoricalPolicy(wider),
            wider.init(jax.random.key(0)),
            envs=envs,
            num_steps=1,
        )
    made.close()


def test_environments_that_break_the_contract_are_refused():
    with pytest.raises(ValueError, match="resets in the step after the last"):
        GymnasiumEnvs(CountingVectorEnv(AutoresetMode.NEXT_STEP))
    with pytest.raises(ValueError, match="envs: got int, expected a gymnasium VectorEnv"):
        GymnasiumEnvs(3)
    env = CountingVectorEnv(AutoresetMode.DISABLED)
    env.step = lambda actions: (np.zeros((2, 1)), np.zeros(2), np.zeros(2, bool), {})
    with pytest.raises(ValueError, match="step returned 4 values, expected the five"):
        GymnasiumEnvs(env).step(np.zeros(2))
    hiding = CountingVectorEnv(AutoresetMode.DISABLED, ends=(1,))
    hiding.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
    with pytest.raises(ValueError, match="no final_obs in info"):
        GymnasiumEnvs(hiding).step(np.zeros(1))
    with pytest.raises(ValueError, match="num_steps: expected a whole number >= 1, got 0"):
        gymnasium_rollout(
            jax.random.key(0), learnable, PARAMS, envs=GymnasiumEnvs(env), num_steps=0
        )

"""Environments that live on the host: gymnasium's vector environments, played step by step."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from slt_rl._numbers import check_count
from slt_rl.rl.actions import check_action_space
from slt_rl.rl.networks import Policy
from slt_rl.rl.rollout import Rollout

PyTree = Any


class _Play(NamedTuple):
    """Where play stands: observations `[env, ...]` and whether each begins an episode."""

    observation: np.ndarray
    start: np.ndarray


class GymnasiumEnvs:
    """A gymnasium vector environment whose every row is a transition.

    Gymnasium has three ways to reset an environment whose episode has ended. With `SAME_STEP` the
    step that ends an episode resets, and shows the true last observation apart; with `DISABLED` it
    is reset here. The default of `gymnasium.make_vec`, `NEXT_STEP`, spends a step without action on
    the reset and is refused, since such a step is no transition.

    Args:
        envs: A `gymnasium.vector.VectorEnv` with one flat array as observation.
        seed: Seed of the first reset; fresh entropy if None.

    Raises:
        ValueError: If `envs` is no vector environment or resets in the next step.
    """

    def __init__(self, envs: Any, *, seed: int | None = None):
        from gymnasium.vector import AutoresetMode, VectorEnv

        if not isinstance(envs, VectorEnv):
            raise ValueError(f"envs: got {type(envs).__name__}, expected a gymnasium VectorEnv")
        # Without a statement gymnasium itself assumes a reset in the next step.
        mode = AutoresetMode(envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        if mode is AutoresetMode.NEXT_STEP:
            raise ValueError(
                "envs: resets in the step after the last; expected autoreset_mode SAME_STEP or "
                "DISABLED, such as gymnasium.make_vec(name, vector_kwargs={'autoreset_mode': "
                "gymnasium.vector.AutoresetMode.SAME_STEP})"
            )
        self.envs = envs
        self._resets_itself = mode is AutoresetMode.SAME_STEP
        observation, _ = envs.reset(seed=seed)
        self._now = _Play(np.array(observation), np.ones(envs.num_envs, bool))

    @property
    def observation(self) -> np.ndarray:
        """Observations `[env, ...]` to act on next."""
        return self._now.observation

    @property
    def num_actions(self) -> int | None:
        """Number of actions; 0 where they are continuous, None of any other space."""
        from gymnasium.spaces import Box, Discrete

        space = getattr(self.envs, "single_action_space", None)
        # Actions that do not begin at zero are not what a policy counts.
        if isinstance(space, Discrete) and space.start == 0:
            return int(space.n)
        return 0 if isinstance(space, Box) else None

    @property
    def start(self) -> np.ndarray:
        """`[env]` bool, whether the observation begins an episode."""
        return self._now.start

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Advances every environment.

        Args:
            action: `[env, ...]`.

        Returns:
            Rewards, terminations, truncations and the true observations of the successors. A step
            that both terminates and reaches the time limit counts as a termination only.

        Raises:
            ValueError: If the environment does not return five values, or hides the last
                observation of an episode.
        """
        values = self.envs.step(action)
        if len(values) != 5:
            raise ValueError(
                f"envs: step returned {len(values)} values, expected the five of gymnasium: "
                "observation, reward, terminated, truncated, info"
            )
        # Copies: a vector environment may write the next step into the same arrays.
        observation, reward, terminated, truncated = (np.array(value) for value in values[:4])
        done = terminated | truncated
        final = observation
        if np.any(done):
            final, observation = self._after_the_end(observation, done, values[4])
        self._now = _Play(observation, done)
        return reward, terminated, truncated & ~terminated, final

    def _after_the_end(self, observation, done, info) -> tuple[np.ndarray, np.ndarray]:
        """True last observations, and those to go on from."""
        if not self._resets_itself:
            fresh, _ = self.envs.reset(options={"reset_mask": done})
            return observation, np.array(fresh)
        if "final_obs" not in info:
            raise ValueError("envs: no final_obs in info at the end of an episode")
        final = observation.copy()
        for index in np.flatnonzero(done):
            final[index] = info["final_obs"][index]
        return final, observation


def gymnasium_rollout(
    key: jax.Array, policy: Policy, params: PyTree, *, envs: GymnasiumEnvs, num_steps: int
) -> Rollout:
    """Plays `num_steps` steps in every environment, on the host.

    Args:
        key: Random key of the actions, consumed; the environments have their own seed.
        policy: `(params, observation) -> distribution` of one observation, hashable.
        params: Parameters of the policy.
        envs: Environments in play; they go on from one call to the next. Take `envs.start` before
            the call, for `record`.
        num_steps: Steps per environment.

    Returns:
        NumPy arrays `[time, env, ...]`.

    Raises:
        ValueError: If `num_steps` is not positive, the policy has other actions than the
            environment, or that breaks its contract.
    """
    check_count("num_steps", num_steps)
    check_action_space(jax.eval_shape(policy, params, envs.observation[0]), envs.num_actions)
    rows: list[Any] = []
    for number in range(num_steps):
        observation = envs.observation
        action, log_prob = _act(policy, params, jax.random.fold_in(key, number), observation)
        action, log_prob = np.asarray(action), np.asarray(log_prob)
        reward, terminated, truncated, final = envs.step(action)
        rows.append((observation, action, log_prob, reward, terminated, truncated, final))
    columns: Any = (np.stack(column) for column in zip(*rows, strict=True))
    return Rollout(*columns)


@functools.partial(jax.jit, static_argnums=0)
def _act(policy, params, key, observation):
    def one(key, observation):
        distribution = policy(params, observation)
        action = distribution.sample(key)
        return action, distribution.log_prob(action)

    return jax.vmap(one)(jax.random.split(key, observation.shape[0]), observation)

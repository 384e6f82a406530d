"""ColorStreak: a safe action that pays at once, and a streak that pays only after three steps.

After the environment of github.com/GarretteBaker/minimum_viable_rl_mode_switch, with six values per
step and its nine effective steps stated as such. A policy switches from the safe mode (return 2.25)
to the streak (return 7.0), a transition whose two ends are known exactly.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from slt_rl._numbers import check_count


@struct.dataclass
class ColorStreakState(environment.EnvState):
    """Time, color of the episode, and current number of correct guesses in a row."""

    color: jax.Array
    streak: jax.Array


@struct.dataclass
class ColorStreakParams(environment.EnvParams):
    """What may be swept without compiling again.

    Attributes:
        max_steps_in_episode: Steps of every episode.
        streak: Correct guesses in a row from which each further one pays.
        streak_reward: Reward of a step within such a streak.
        safe_reward: Reward of the safe action.
    """

    max_steps_in_episode: Any = 9
    streak: Any = 3
    streak_reward: Any = 1.0
    safe_reward: Any = 0.25


class ColorStreakEnv(environment.Environment[ColorStreakState, ColorStreakParams]):
    """Guess the visible color, or play safe; interface of gymnax 1.0.

    A color is drawn at reset and stays. Actions `0 ... K - 1` guess it, action `K` is safe. A
    correct guess adds one to the streak, anything else sets it to zero. The observation is
    `[color, time, streak]`. The horizon is part of the task, and so the last step *terminates*.

    Args:
        num_colors: Number of colors `K`.

    Raises:
        ValueError: If `num_colors` is not positive.

    Example:
        >>> import jax
        >>> env = ColorStreakEnv()
        >>> observation, state = env.reset(jax.random.key(0), env.default_params)
        >>> float(env.step(jax.random.key(1), state, env.safe_action, env.default_params)[2])
        0.25
    """

    def __init__(self, num_colors: int = 2):
        self.num_colors = check_count("num_colors", num_colors)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.num_colors == self.num_colors

    def __hash__(self) -> int:
        return hash((type(self), self.num_colors))

    @property
    def default_params(self) -> ColorStreakParams:
        """Nine steps, a streak of three pays 1 per step, safe pays 0.25."""
        return ColorStreakParams()

    @property
    def safe_action(self) -> int:
        """The number of the safe action."""
        return self.num_colors

    def reset_env(
        self, key: jax.Array, params: ColorStreakParams
    ) -> tuple[jax.Array, ColorStreakState]:
        """Draws a color."""
        color = jax.random.randint(key, (), 0, self.num_colors, jnp.int32)
        state = ColorStreakState(time=0, color=color, streak=jnp.int32(0))
        return self.get_obs(state, params), state

    def step_env(
        self, key: jax.Array, state: ColorStreakState, action: jax.Array, params: ColorStreakParams
    ) -> tuple[jax.Array, ColorStreakState, jax.Array, jax.Array, dict[str, Any]]:
        """Counts the streak and pays."""
        del key
        streak = jnp.where(action == state.color, state.streak + 1, 0).astype(jnp.int32)
        safe = jnp.where(action == self.safe_action, params.safe_reward, 0.0)
        reward = jnp.where(streak >= params.streak, params.streak_reward, safe)
        state = ColorStreakState(time=state.time + 1, color=state.color, streak=streak)
        return self.get_obs(state), state, reward, self.is_terminated(state, params), {}

    def get_obs(self, state: ColorStreakState, params: Any = None, key: Any = None) -> jax.Array:
        """`[color, time, streak]`."""
        del params, key
        numbers = [jnp.asarray(x, float) for x in (state.color, state.time, state.streak)]
        return jnp.stack(numbers)

    def is_terminated(self, state: ColorStreakState, params: ColorStreakParams) -> jax.Array:
        """True after the last step."""
        return jnp.asarray(state.time >= params.max_steps_in_episode)

    def is_truncated(self, state: ColorStreakState, params: ColorStreakParams) -> jax.Array:
        """Never: the horizon ends the episode for good."""
        del state, params
        return jnp.array(False)

    @property
    def name(self) -> str:
        """Name of the environment."""
        return "ColorStreak-v1"

    @property
    def num_actions(self) -> int:
        """One guess for each color, and safe."""
        return self.num_colors + 1

    def action_space(self, params: ColorStreakParams | None = None) -> spaces.Discrete:
        """The guesses, then safe."""
        del params
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: ColorStreakParams) -> spaces.Box:
        """Color, time and streak as numbers."""
        largest = float(max(params.max_steps_in_episode, self.num_colors))
        return spaces.Box(0.0, largest, (3,))

    def state_space(self, params: ColorStreakParams) -> spaces.Dict:
        """Time, color and streak."""
        steps = int(params.max_steps_in_episode) + 1
        return spaces.Dict(
            {
                "time": spaces.Discrete(steps),
                "color": spaces.Discrete(self.num_colors),
                "streak": spaces.Discrete(steps),
            }
        )


def streak_events(
    state: ColorStreakState, action: jax.Array, next_state: ColorStreakState
) -> jax.Array:
    """Events of one step, `[1]` int32: correct guesses."""
    del state, action
    return jnp.asarray(next_state.streak > 0).astype(jnp.int32)[None]


def optimal_return(params: ColorStreakParams | None = None) -> float:
    """Largest return of an episode, by backward induction over (time, streak).

    Args:
        params: The rewards; the default ones if None.

    Returns:
        The value of the optimal policy, 7.0 for the default rewards.

    Raises:
        ValueError: If an episode has no step.

    Example:
        >>> optimal_return(), safe_return()
        (7.0, 2.25)
    """
    params = _checked(params)
    horizon = int(params.max_steps_in_episode)
    values = [0.0] * (horizon + 2)  # by streak, at the end of the episode
    for _ in range(horizon):
        correct = [
            params.streak_reward * (streak + 1 >= params.streak) + values[streak + 1]
            for streak in range(horizon + 1)
        ]
        otherwise = max(0.0, params.safe_reward) + values[0]
        values = [float(max(value, otherwise)) for value in correct] + [0.0]
    return values[0]


def safe_return(params: ColorStreakParams | None = None) -> float:
    """Return of always playing safe.

    Args:
        params: The rewards; the default ones if None.

    Returns:
        `steps * safe_reward`, 2.25 for the default rewards.

    Raises:
        ValueError: If an episode has no step.
    """
    params = _checked(params)
    return float(params.max_steps_in_episode * params.safe_reward)


def _checked(params: ColorStreakParams | None) -> ColorStreakParams:
    params = ColorStreakParams() if params is None else params
    if params.max_steps_in_episode < 1:
        raise ValueError(
            f"params: got max_steps_in_episode {params.max_steps_in_episode}, expected at least 1"
        )
    return params

"""The toy model of superposition as a world to learn in, with the difficulties of the ladder.

One environment has them all, each switched off by its default; with every default it is the
one-step bandit of `superposition_env`. What a policy earns in it is known in closed form,
`law_regret` and `visitation_regret`, so that training is on the very problem whose critical points
are known.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from slt_rl._numbers import check_optional_count
from slt_rl.rl import Transition
from toy_models.superposition_env import reconstruction_reward
from toy_models.superposition_model import dense_inputs
from toy_models.superposition_rungs import Law


class DifficultyState(NamedTuple):
    """Where an agent is.

    Attributes:
        time: `[]` int32, steps of the episode so far.
        feature: `[]` int32, the feature of the input.
        amplitude: `[]`, its amplitude.
        seen: `[]`, one if the policy sees the input, zero if it is hidden.
        owed: `[]`, reward that is earned and not yet paid.
    """

    time: jax.Array
    feature: jax.Array
    amplitude: jax.Array
    seen: jax.Array
    owed: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DifficultyEnv:
    """Reconstruct inputs `x = amplitude * e_feature` for the reward `-|a - x|^2`.

    An episode has `num_inputs` inputs. Their rewards are paid as one sum, `delay` steps after the
    last of them; nothing is seen and nothing that is done counts while waiting. The feature of the
    next input is a fresh one with the probability `exp(-|a - x|^2 / (2 tau^2))`, and otherwise the
    same: with `tau` infinite always a fresh one.

    A pytree: `law` and `tau` are leaves, so that a drift compiles nothing again. Two functions,
    `reset` and `step`, as the trainer of `slt_rl.rl` asks; `law.scale` is not applied: a reward
    that is paid late is discounted by the learner.

    Args:
        law: Law of fresh inputs and of what is hidden.
        tau: Tolerance of the reconstruction, in units of the input; may be infinite.
        num_inputs: Inputs of an episode; None for one without end, whose rewards are paid at once.
        delay: Steps from the last input to the pay.

    Raises:
        ValueError: If a count is out of range, or a delay is asked for without an end.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from toy_models.superposition_rungs import uniform_law
        >>> env = DifficultyEnv(uniform_law(6), num_inputs=1, delay=1)
        >>> state, x = env.reset(jax.random.key(0))
        >>> first = env.step(jax.random.key(1), state, jnp.zeros(6))
        >>> second = env.step(jax.random.key(2), first.state, jnp.ones(6))
        >>> float(first.reward), bool(jnp.isclose(second.reward, -jnp.sum(x**2)))
        (0.0, True)
        >>> bool(first.terminated), bool(second.terminated)
        (False, True)
    """

    law: Law
    tau: Any = jnp.inf
    num_inputs: int | None = dataclasses.field(default=1, metadata={"static": True})
    delay: int = dataclasses.field(default=0, metadata={"static": True})

    def __post_init__(self):
        check_optional_count("num_inputs", self.num_inputs)
        if self.delay < 0 or (self.delay and self.num_inputs is None):
            raise ValueError(
                f"delay: got {self.delay} with num_inputs={self.num_inputs}, expected 0 or more "
                "steps, and 0 where an episode has no end"
            )

    @property
    def length(self) -> int | None:
        """Steps of an episode, those of waiting included; None without an end."""
        return None if self.num_inputs is None else self.num_inputs + self.delay

    def reset(self, key: jax.Array) -> tuple[DifficultyState, jax.Array]:
        """Starts an episode with a fresh input; returns `(state, observation [c])`."""
        state = self._input(key, jnp.int32(0), jnp.zeros(()), kept=jnp.int32(-1))
        return state, self.observe(state)

    def step(self, key: jax.Array, state: DifficultyState, action: jax.Array) -> Transition:
        """Pays what is due, moves on, and resets where the episode has ended."""
        key_leave, key_next, key_reset = jax.random.split(key, 3)
        x = dense_inputs({"feature": state.feature, "amplitude": state.amplitude}, action.shape[-1])
        reward = reconstruction_reward(x, action)
        leaves = jnp.log(jax.random.uniform(key_leave)) < reward / (2 * self.tau**2)
        waits = jnp.asarray(False) if self.num_inputs is None else state.time >= self.num_inputs
        owed = state.owed + jnp.where(waits, 0.0, reward)
        time = state.time + 1
        ended = jnp.asarray(False) if self.length is None else time >= self.length
        pays = ended if self.length is not None else jnp.asarray(True)
        following = self._input(
            key_next,
            time,
            jnp.where(pays, 0.0, owed),
            kept=jnp.where(leaves, -1, state.feature),
        )
        fresh, first = self.reset(key_reset)
        final = self.observe(following)
        return Transition(
            state=jax.tree.map(lambda a, b: jnp.where(ended, a, b), fresh, following),
            observation=jnp.where(ended, first, final),
            reward=jnp.where(pays, owed, 0.0),
            terminated=ended,
            truncated=jnp.asarray(False),
            final_observation=final,
        )

    def observe(self, state: DifficultyState) -> jax.Array:
        """What the policy sees, `[c]`: the input, or zeros where it is hidden or while waiting."""
        waits = False if self.num_inputs is None else state.time >= self.num_inputs
        amplitude = jnp.where(waits, 0.0, state.amplitude * state.seen)
        size = jnp.shape(self.law.probabilities)[0]
        return dense_inputs({"feature": state.feature, "amplitude": amplitude}, size)

    def _input(self, key, time, owed, *, kept) -> DifficultyState:
        """The next input: of the feature `kept`, or of a fresh one if that is negative."""
        position, level, veil = jax.random.uniform(key, (3,))
        # One uniform number through the inverse distribution function, as in `SuperpositionEnv`.
        cumulative = jnp.cumsum(jnp.asarray(self.law.probabilities))
        fresh = jnp.sum(position * cumulative[-1] >= cumulative[:-1], dtype=jnp.int32)
        feature = jnp.where(kept < 0, fresh, kept)
        seen = (veil >= self.law.hidden).astype(level.dtype)
        amplitude = level * jnp.asarray(self.law.amplitudes, level.dtype)[feature]
        return DifficultyState(time, feature, amplitude, seen, owed)

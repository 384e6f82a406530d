"""Environments behind two functions, `reset` and `step`, with what learning needs kept apart.

A gymnax environment resets itself inside `step`. What a learner must not lose is the observation
*before* that reset: the return is cut at a termination, but at a time limit the value of the true
last observation stands for the rewards that were never seen.
"""

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any


class Transition(NamedTuple):
    """One step of one environment.

    Attributes:
        state: State to continue from; freshly reset where the episode has ended.
        observation: Observation of `state`, to act on next.
        reward: `[]`, the reward of the step.
        terminated: `[]` bool, the episode ended for good: nothing follows, its value is zero.
        truncated: `[]` bool, the episode was only cut, as by a time limit.
        final_observation: True observation of the successor, before any reset.
    """

    state: PyTree
    observation: PyTree
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    final_observation: PyTree


class Env(Protocol):
    """What the trainer asks of an environment. Both functions consume their key."""

    def reset(self, key: jax.Array) -> tuple[PyTree, PyTree]:
        """Starts an episode and returns `(state, observation)`."""
        ...

    def step(self, key: jax.Array, state: PyTree, action: jax.Array) -> Transition:
        """Advances by one step and resets where the episode has ended."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GymnaxEnv:
    """An environment with the interface of gymnax 1.0 (six values per step, auto-reset).

    A pytree: the numbers in `params` are leaves, so that changing them recompiles nothing, and the
    environment object is static.

    Args:
        environment: A gymnax environment; one object per program, since equal programs are
            recognized by the identity of the object.
        params: Its parameters; the environment's own default if None.

    Example:
        >>> import gymnax, jax
        >>> env = GymnaxEnv(*gymnax.make("CartPole-v1"))
        >>> state, observation = env.reset(jax.random.key(0))
        >>> env.step(jax.random.key(1), state, 1).reward.shape
        ()
    """

    environment: Any = dataclasses.field(metadata={"static": True})
    params: Any = None

    def reset(self, key: jax.Array) -> tuple[PyTree, PyTree]:
        """Starts an episode and returns `(state, observation)`.

        Raises:
            ValueError: While tracing, if the environment does not return an observation and a
                state.
        """
        values = self.environment.reset(key, self._params())
        if len(values) != 2:
            raise ValueError(
                f"environment: reset returned {len(values)} values, expected observation and state"
            )
        observation, state = values
        return strong(state), strong(observation)

    def step(self, key: jax.Array, state: PyTree, action: jax.Array) -> Transition:
        """Advances by one step and resets where the episode has ended.

        A step that both terminates and reaches the time limit counts as a termination only.

        Raises:
            ValueError: While tracing, if the environment does not return the six values of gymnax
                1.0 with a `final_observation` among the info.
        """
        values = self.environment.step(key, state, action, self._params())
        if len(values) != 6:
            raise ValueError(
                f"environment: step returned {len(values)} values, expected the six of gymnax 1.0: "
                "observation, state, reward, terminated, truncated, info"
            )
        observation, state, reward, terminated, truncated, info = values
        if "final_observation" not in info:
            raise ValueError(
                f"environment: got info of {sorted(info)}, expected a final_observation, the true "
                "last one of an episode"
            )
        floating = jnp.result_type(float)
        return Transition(
            state=strong(state),
            observation=strong(observation),
            reward=jnp.asarray(reward, floating),
            terminated=jnp.asarray(terminated, bool),
            truncated=jnp.asarray(truncated, bool) & ~jnp.asarray(terminated, bool),
            final_observation=strong(info["final_observation"]),
        )

    @property
    def num_actions(self) -> int | None:
        """Number of actions; 0 where they are continuous, None where it does not say."""
        try:
            space = self.environment.action_space(self._params())
        except (AttributeError, NotImplementedError):
            return None
        number = getattr(space, "n", 0)
        # A number that depends on traced parameters is none yet.
        return int(number) if isinstance(number, int | np.integer) else None

    def _params(self) -> PyTree:
        return self.environment.default_params if self.params is None else self.params


def strong(tree: PyTree) -> PyTree:
    """Strips weak types, which would make the second call of a program compile again."""
    return jax.tree.map(_strong, tree)


def _strong(leaf: Any) -> jax.Array:
    leaf = jnp.asarray(leaf)
    return jax.lax.convert_element_type(leaf, leaf.dtype)


def like(example: jax.Array, leaf: Any) -> jax.Array:
    """The leaf with the type of the example, so that a step returns what a reset returned."""
    return jax.lax.convert_element_type(jnp.asarray(leaf), example.dtype)

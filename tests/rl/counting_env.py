"""A tiny gymnax environment whose every number is known: counts steps, pays one per step."""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces


@struct.dataclass
class CountingState(environment.EnvState):
    pass


@struct.dataclass
class CountingParams(environment.EnvParams):
    max_steps_in_episode: int = 3
    end: int = 1_000_000


class CountingEnv(environment.Environment):
    """Observes the count; terminates at `end`, is truncated at `max_steps_in_episode`.

    Action 1 pays one, action 0 nothing.
    """

    @property
    def default_params(self):
        return CountingParams()

    def reset_env(self, key, params):
        state = CountingState(time=0)
        return self.get_obs(state), state

    def step_env(self, key, state, action, params):
        state = CountingState(time=state.time + 1)
        return self.get_obs(state), state, 1.0 * action, state.time >= params.end, {}

    def get_obs(self, state, params=None, key=None):
        return jnp.asarray(state.time, jnp.result_type(float))[None]

    def is_terminated(self, state, params):
        return state.time >= params.end

    @property
    def num_actions(self):
        return 2

    def action_space(self, params=None):
        return spaces.Discrete(2)


def always_one(params, observation):
    """A policy that (almost surely) plays action 1."""
    from slt_rl.rl import Categorical

    del params, observation
    return Categorical(jnp.array([-1e9, 0.0]))


def learnable(params, observation):
    """Logits linear in the observation."""
    from slt_rl.rl import Categorical

    return Categorical(params["w"] * observation[0] + params["b"])


def linear_value(params, observation):
    return jax.numpy.dot(params, jnp.stack([jnp.ones_like(observation[0]), observation[0]]))

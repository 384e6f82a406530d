"""The toy model of superposition as an environment.

A one-step contextual bandit. The observation is an input `x`, the action a reconstruction `a`, the
reward `-|a - x|^2`. The policy is Gaussian with fixed `sigma`, its mean the network itself, so that

    E[reward] = -(L(w) + c sigma^2)

with the population loss `L` of supervised learning: the regret against the best policy of the same
`sigma` *is* `L`, with all its critical points, levels and learning coefficients.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from slt_rl._numbers import check_count


@struct.dataclass
class SuperpositionState(environment.EnvState):
    """The input of the episode, sparse: `x = amplitude * e_feature`."""

    feature: jax.Array
    amplitude: jax.Array


@struct.dataclass
class SuperpositionParams(environment.EnvParams):
    """The law of inputs.

    Attributes:
        probabilities: Feature probabilities `[c]`.
        amplitudes: Amplitude ranges `[c]`, `mu ~ U[0, A_i]`.
    """

    probabilities: Any = None
    amplitudes: Any = None


class SuperpositionEnv(environment.Environment[SuperpositionState, SuperpositionParams]):
    """One-step bandit with the interface of gymnax 1.0: every step terminates.

    Args:
        num_features: Number of features `c`.

    Raises:
        ValueError: If `num_features` is not positive.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> env = SuperpositionEnv(6)
        >>> observation, state = env.reset(jax.random.key(0), env.default_params)
        >>> step = env.step(jax.random.key(1), state, observation, env.default_params)
        >>> [float(step[2]) == 0.0, bool(step[3]), bool(step[4])]
        [True, True, False]
    """

    def __init__(self, num_features: int = 6):
        self.num_features = check_count("num_features", num_features)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.num_features == self.num_features

    def __hash__(self) -> int:
        return hash((type(self), self.num_features))

    @property
    def default_params(self) -> SuperpositionParams:
        """Uniform features with amplitudes in [0, 1]."""
        ones = jnp.ones(self.num_features)
        return SuperpositionParams(probabilities=ones / self.num_features, amplitudes=ones)

    def reset_env(
        self, key: jax.Array, params: SuperpositionParams
    ) -> tuple[jax.Array, SuperpositionState]:
        """Draws an input."""
        position, level = jax.random.uniform(key, (2,))
        # One uniform number through the inverse distribution function: a step costs one random
        # block, where Gumbel noise would cost one per feature.
        cumulative = jnp.cumsum(params.probabilities)
        feature = jnp.sum(position * cumulative[-1] >= cumulative[:-1], dtype=jnp.int32)
        amplitude = level * params.amplitudes[feature]
        state = SuperpositionState(time=0, feature=feature, amplitude=amplitude)
        return self.get_obs(state), state

    def step_env(
        self,
        key: jax.Array,
        state: SuperpositionState,
        action: jax.Array,
        params: SuperpositionParams,
    ) -> tuple[jax.Array, SuperpositionState, jax.Array, jax.Array, dict[str, Any]]:
        """Pays `-|action - x|^2` and terminates."""
        del key, params
        observation = self.get_obs(state)
        reward = reconstruction_reward(observation, action)
        return observation, state.replace(time=state.time + 1), reward, jnp.array(True), {}

    def get_obs(self, state: SuperpositionState, params: Any = None, key: Any = None) -> jax.Array:
        """The dense input `x`, `[c]`."""
        del params, key
        return state.amplitude * jax.nn.one_hot(
            state.feature, self.num_features, dtype=state.amplitude.dtype
        )

    def is_terminated(self, state: SuperpositionState, params: SuperpositionParams) -> jax.Array:
        """True after the one step."""
        del params
        return state.time > 0

    def is_truncated(self, state: SuperpositionState, params: SuperpositionParams) -> jax.Array:
        """Never: the one step ends the episode for good."""
        del state, params
        return jnp.array(False)

    @property
    def name(self) -> str:
        """Name of the environment."""
        return "Superposition-v1"

    @property
    def num_actions(self) -> int:
        """Number of action coordinates `c`."""
        return self.num_features

    def action_space(self, params: SuperpositionParams | None = None) -> spaces.Box:
        """All of R^c."""
        del params
        return spaces.Box(-jnp.inf, jnp.inf, (self.num_features,))

    def observation_space(self, params: SuperpositionParams) -> spaces.Box:
        """Inputs, `[0, max A]^c`."""
        return spaces.Box(0.0, float(jnp.max(params.amplitudes)), (self.num_features,))

    def state_space(self, params: SuperpositionParams) -> spaces.Dict:
        """Time, feature and amplitude."""
        return spaces.Dict(
            {
                "time": spaces.Discrete(2),
                "feature": spaces.Discrete(self.num_features),
                "amplitude": spaces.Box(0.0, float(jnp.max(params.amplitudes)), ()),
            }
        )


def reconstruction_reward(observation: jax.Array, action: jax.Array) -> jax.Array:
    """`-|action - x|^2` for dense inputs `x` of shape `[c]`."""
    return -jnp.sum((action - observation) ** 2, axis=-1)

"""FirstOnly: many plants, then one. A world whose development is known exactly.

Only the first `plant` of an episode pays; each further one costs the wage of the work left undone.
An agent that discovers planting plants everywhere, because the features that say "already done"
are learned only once surplus plants are common, and then decays to the one plant that pays. For two
actions and an exact gradient this is a flow in two parameters, `flow`, whose overshoot and decay
can be computed to any accuracy.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from slt_rl._numbers import check_count
from slt_rl.rl import MLP, PPO, CategoricalPolicy, ValueNetwork, clipped_adam

PLANT, WORK, NOOP = 0, 1, 2


@struct.dataclass
class FirstOnlyState(environment.EnvState):
    """Time, whether a plant has been placed in this episode, and the noise now observed."""

    planted: jax.Array
    noise: jax.Array


@struct.dataclass
class FirstOnlyParams(environment.EnvParams):
    """What may be swept without compiling again.

    Attributes:
        max_steps_in_episode: Length `T` of every episode.
        cost: Pay `c` of one step of work, the opportunity cost of a surplus plant; in [0, 1).
        salience: Size `s` of the feature that says that a plant has been placed.
    """

    max_steps_in_episode: Any = 20
    cost: Any = 0.05
    salience: Any = 1.0


class FirstOnlyEnv(environment.Environment[FirstOnlyState, FirstOnlyParams]):
    """Plant (0), work (1) or do nothing (2), for exactly `T` steps; interface of gymnax 1.0.

    The observation is `[salience * planted, time / T, noise...]`, with standard normal noise drawn
    anew at each step. Plant pays 1 if nothing has been planted yet, else 0; work pays `cost`. The
    horizon is part of the task, and so the last step *terminates* the episode.

    Args:
        num_noise: Number of noise features.

    Raises:
        ValueError: If `num_noise` is negative.

    Example:
        >>> import jax
        >>> env = FirstOnlyEnv()
        >>> observation, state = env.reset(jax.random.key(0), env.default_params)
        >>> _, state, first, *_ = env.step(jax.random.key(1), state, PLANT, env.default_params)
        >>> _, state, second, *_ = env.step(jax.random.key(2), state, PLANT, env.default_params)
        >>> observation.shape, float(first), float(second), bool(state.planted)
        ((6,), 1.0, 0.0, True)
    """

    def __init__(self, num_noise: int = 4):
        if num_noise < 0:
            raise ValueError(f"num_noise: got {num_noise}, expected a number of features >= 0")
        self.num_noise = num_noise

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.num_noise == self.num_noise

    def __hash__(self) -> int:
        return hash((type(self), self.num_noise))

    @property
    def default_params(self) -> FirstOnlyParams:
        """Twenty steps, work pays 0.05, salience one."""
        return FirstOnlyParams()

    def reset_env(
        self, key: jax.Array, params: FirstOnlyParams
    ) -> tuple[jax.Array, FirstOnlyState]:
        """Starts with nothing planted."""
        state = FirstOnlyState(
            time=0, planted=jnp.array(False), noise=jax.random.normal(key, (self.num_noise,))
        )
        return self.get_obs(state, params), state

    def step_env(
        self, key: jax.Array, state: FirstOnlyState, action: jax.Array, params: FirstOnlyParams
    ) -> tuple[jax.Array, FirstOnlyState, jax.Array, jax.Array, dict[str, Any]]:
        """Pays for the first plant or for work; terminates after `T` steps."""
        pay = jnp.where(state.planted, 0.0, 1.0)
        reward = jnp.where(action == PLANT, pay, jnp.where(action == WORK, params.cost, 0.0))
        state = FirstOnlyState(
            time=state.time + 1,
            planted=state.planted | (action == PLANT),
            noise=jax.random.normal(key, (self.num_noise,)),
        )
        terminated = self.is_terminated(state, params)
        return self.get_obs(state, params), state, reward, terminated, {}

    def get_obs(self, state: FirstOnlyState, params: Any = None, key: Any = None) -> jax.Array:
        """`[salience * planted, time / T, noise...]`, of length `2 + num_noise`."""
        del key
        params = self.default_params if params is None else params
        task = [params.salience * state.planted, state.time / params.max_steps_in_episode]
        return jnp.concatenate([jnp.stack(task).astype(state.noise.dtype), state.noise])

    def is_terminated(self, state: FirstOnlyState, params: FirstOnlyParams) -> jax.Array:
        """True after `T` steps."""
        return jnp.asarray(state.time >= params.max_steps_in_episode)

    def is_truncated(self, state: FirstOnlyState, params: FirstOnlyParams) -> jax.Array:
        """Never: the horizon ends the episode for good."""
        del state, params
        return jnp.array(False)

    @property
    def name(self) -> str:
        """Name of the environment."""
        return "FirstOnly-v1"

    @property
    def num_actions(self) -> int:
        """Plant, work, nothing."""
        return 3

    def action_space(self, params: FirstOnlyParams | None = None) -> spaces.Discrete:
        """The three actions."""
        del params
        return spaces.Discrete(3)

    def observation_space(self, params: FirstOnlyParams) -> spaces.Box:
        """All of R^(2 + num_noise)."""
        del params
        return spaces.Box(-jnp.inf, jnp.inf, (2 + self.num_noise,))

    def state_space(self, params: FirstOnlyParams) -> spaces.Dict:
        """Time, whether planted, noise."""
        return spaces.Dict(
            {
                "time": spaces.Discrete(int(params.max_steps_in_episode) + 1),
                "planted": spaces.Discrete(2),
                "noise": spaces.Box(-jnp.inf, jnp.inf, (self.num_noise,)),
            }
        )


def plant_events(state: FirstOnlyState, action: jax.Array, next_state: FirstOnlyState) -> jax.Array:
    """Events of one step, `[2]` int32: plants, and plants that were rewarded."""
    del next_state
    plant = jnp.asarray(action == PLANT)
    return jnp.stack([plant, plant & ~state.planted]).astype(jnp.int32)


def optimal_return(cost: float, horizon: int = 20) -> float:
    """Largest expected return of an episode, by backward induction over (time, planted).

    Equals `1 + (horizon - 1) * cost` for costs in [0, 1): plant once and work otherwise.

    Args:
        cost: Pay of one step of work.
        horizon: Steps of an episode.

    Returns:
        The value of the optimal policy.

    Raises:
        ValueError: If the horizon is not positive.

    Example:
        >>> round(optimal_return(0.05), 6)
        1.95
    """
    check_count("horizon", horizon)
    fresh, done = 0.0, 0.0  # values before and after the first plant
    for _ in range(horizon):
        fresh, done = max(1 + done, cost + fresh, fresh), max(done, cost + done)
    return fresh


class Flow(NamedTuple):
    """A gradient flow; entry `i` is *after* update `i`, so that the start itself is no entry.

    Attributes:
        logits: `(a, b)` after each update, `[update, 2]`.
        plants: Expected plants per episode `N`, `[update]`.
    """

    logits: np.ndarray
    plants: np.ndarray


class Plants(NamedTuple):
    """Expected plants per episode: the one that pays, and surplus ones."""

    first: jax.Array
    extra: jax.Array


def expected_plants(logits: jax.Array, salience: float = 1.0, *, horizon: int = 20) -> Plants:
    """Exact plants per episode of a policy that plants or works, by logistic features.

    The probability of planting is `p0 = sigmoid(a)` before and `p1 = sigmoid(a + salience * b)`
    after the first plant. With `q_t = (1 - p0)^t` the probability of having planted nothing before
    step `t`, `E[first] = sum_t q_t p0` and `E[extra] = sum_t (1 - q_t) p1`.

    Args:
        logits: `(a, b)`, `[2]`.
        salience: Size of the feature "already planted".
        horizon: Steps `T` of an episode.

    Returns:
        Expected first and surplus plants, `[]` each.
    """
    p0 = jax.nn.sigmoid(logits[0])
    p1 = jax.nn.sigmoid(logits[0] + salience * logits[1])
    nothing_yet = (1 - p0) ** jnp.arange(horizon)
    return Plants(jnp.sum(nothing_yet) * p0, jnp.sum(1 - nothing_yet) * p1)


def flow(
    cost: float,
    salience: float = 1.0,
    horizon: int = 20,
    *,
    num_updates: int = 20_000,
    learning_rate: float = 0.5,
    start: tuple[float, float] = (-4.0, 0.0),
) -> Flow:
    """Exact gradient ascent on `J = E[first] - cost * E[extra]` in the two logits `(a, b)`.

    While surplus plants are rare, the shared logit `a` only rises; `b`, which tells "already done"
    apart, is learned after surplus plants have become common. Hence the overshoot. In the
    environment itself, restricted to plant and work, the return is
    `cost * T + (1 - cost) E[first] - cost * E[extra]`: the flow at cost `cost / (1 - cost)` and a
    learning rate `(1 - cost)` times as large.

    Args:
        cost: Charge for each surplus plant.
        salience: Size of the feature "already planted".
        horizon: Steps of an episode.
        num_updates: Gradient steps.
        learning_rate: Step size, in logit squared per reward.
        start: Initial `(a, b)`.

    Returns:
        The path.

    Raises:
        ValueError: If the horizon or the number of updates is not positive.

    Example:
        >>> path = flow(0.05, num_updates=100)
        >>> int(path.plants.argmax()), round(float(path.plants.max()), 2)
        (20, 2.37)
    """
    check_count("horizon", horizon)
    check_count("num_updates", num_updates)
    numbers = (cost, salience, learning_rate)
    path = _flow(jnp.asarray(start, float), numbers, horizon, num_updates)
    return Flow(*(np.asarray(x, np.float64) for x in path))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _flow(start, numbers, horizon, num_updates):
    cost, salience, learning_rate = numbers

    def objective(logits):
        plants = expected_plants(logits, salience, horizon=horizon)
        return plants.first - cost * plants.extra

    def update(logits, _):
        logits = logits + learning_rate * jax.grad(objective)(logits)
        return logits, (logits, sum(expected_plants(logits, salience, horizon=horizon)))

    return jax.lax.scan(update, start, None, num_updates)[1]


def planting_ppo(env: FirstOnlyEnv) -> PPO:
    """PPO as on which the development of FirstOnly was first seen.

    64 environments of 20 steps an iteration, 4 epochs of 4 minibatches, Adam 2.5e-4 on gradients
    clipped to a norm of 0.5, discount 0.99, lambda 0.95, clip 0.2, entropy bonus 0.01. Actor and
    critic are separate networks of two hidden layers of 64 tanh units.

    Args:
        env: The environment; it fixes the size of the observation.

    Returns:
        The hyper-parameters; `planting_params` draws the parameters.
    """
    actor, critic = _networks(env)
    return PPO(
        policy=CategoricalPolicy(actor),
        value_fn=ValueNetwork(critic),
        optimizer=clipped_adam(2.5e-4),
        num_envs=64,
        num_steps=20,
        entropy_weight=0.01,
        value_weight=1.0,
    )


def planting_params(
    key: jax.Array, env: FirstOnlyEnv, *, plant_bias: float = -4.0
) -> dict[str, Any]:
    """Initial parameters for `planting_ppo` of a policy that seldom plants.

    Args:
        key: Random key, consumed.
        env: The environment.
        plant_bias: Bias of the logit of planting; the others start at zero.

    Returns:
        `{"policy": ..., "value": ...}`.
    """
    actor, critic = _networks(env)
    key_policy, key_value = jax.random.split(key)
    policy = actor.init(key_policy)
    policy[-1]["bias"] = policy[-1]["bias"].at[PLANT].set(plant_bias)
    return {"policy": policy, "value": critic.init(key_value)}


def _networks(env: FirstOnlyEnv) -> tuple[MLP, MLP]:
    """Actor and critic."""
    num_inputs = 2 + env.num_noise
    return MLP(num_inputs, env.num_actions, output_scale=0.01), MLP(num_inputs, 1)

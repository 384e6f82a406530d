"""Craftax and Craftax-Classic, symbolic: worlds from a pool, and rewards that are data.

Making a world costs as much as hundreds of steps, so worlds are made once and an episode starts in
one of them. Rewards are computed here, from the state, the action and the true successor, with
weights that are arrays: variants of a reward share one compiled program.

Craftax is an extra, imported when a world is asked for: `pip install slt-rl[craftax]`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from slt_rl._numbers import check_count
from slt_rl.rl.craftax_events import BEHAVIORS, behaviors
from slt_rl.rl.env import Transition, like, strong

PyTree = Any

# Worlds made at once: enough for an accelerator, little enough for the memory of a laptop.
WORLDS_AT_ONCE = 64
NEVER = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class World:
    """The rules of one of the two games; from `classic_world` or `full_world`.

    Attributes:
        name: "craftax-classic" or "craftax".
        achievements: Names of the achievements, in the order of the state's flags.
        weights: Reward of each in the game itself; their sum is the largest return from them.
        actions: Names of the actions, by number.
        map_size: Default side of the square map.
        make_fn: `map_size -> environment` of the package, without automatic reset.
    """

    name: str
    achievements: tuple[str, ...]
    weights: tuple[float, ...]
    actions: tuple[str, ...]
    map_size: int
    make_fn: Callable[[int], Any]


@functools.cache
def classic_world() -> World:
    """Craftax-Classic: 22 achievements of one point, 17 actions, observations `[1345]`.

    Raises:
        ImportError: If Craftax is not installed.
    """
    with _Needed():
        from craftax.craftax_classic import constants
        from craftax.craftax_classic.envs import craftax_state, craftax_symbolic_env

    def make(side):
        static = craftax_state.StaticEnvParams(map_size=(side, side))
        return craftax_symbolic_env.CraftaxClassicSymbolicEnvNoAutoReset(static)

    achievements = _names(constants.Achievement)
    weights = (1.0,) * len(achievements)
    make_fn = functools.cache(make)
    return World("craftax-classic", achievements, weights, _names(constants.Action), 64, make_fn)


@functools.cache
def full_world() -> World:
    """Full Craftax: 67 achievements of 226 points in all, 43 actions, observations `[8268]`.

    Raises:
        ImportError: If Craftax is not installed.
    """
    with _Needed():
        from craftax.craftax import constants, craftax_state
        from craftax.craftax.envs import craftax_symbolic_env

    def make(side):
        static = craftax_state.StaticEnvParams(map_size=(side, side))
        return craftax_symbolic_env.CraftaxSymbolicEnvNoAutoReset(static)

    weights = tuple(float(w) for w in constants.ACHIEVEMENT_REWARD_MAP)
    names = _names(constants.Achievement)
    return World("craftax", names, weights, _names(constants.Action), 48, functools.cache(make))


class _Needed:
    """Says what to install where an import of Craftax fails."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, ModuleNotFoundError):
            raise ImportError(
                "Craftax is not installed; it is an extra: pip install slt-rl[craftax]"
            ) from error


def _names(enum: Any) -> tuple[str, ...]:
    return tuple(item.name.lower() for item in sorted(enum, key=lambda item: item.value))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RewardSpec:
    """What is rewarded; arrays, so that variants share a program and can be mapped over.

        r = sum_a achievements[a] (a unlocked in the step) + 0.1 health (change of health)
            + sum_e events[e] (count of e) - step - actions[action]

    An achievement pays the first time of an episode only, an event every time.

    Attributes:
        achievements: `[a]`, reward of each achievement.
        events: `[15]`, payment for each event of `BEHAVIORS`, whenever it happens.
        actions: `[n]`, cost of choosing each action; a negative one is a reward.
        health: `[]`, weight of the change of health; 1 in the game itself.
        step: `[]`, cost of every step.
    """

    achievements: Any
    events: Any
    actions: Any
    health: Any
    step: Any

    def __call__(self, state: PyTree, action: jax.Array, next_state: PyTree) -> jax.Array:
        """The reward `[]` of a step to its true successor."""
        floating = jnp.result_type(float)
        unlocked = next_state.achievements.astype(floating) - state.achievements.astype(floating)
        healed = (next_state.player_health - state.player_health) * 0.1
        counts = behaviors(state, action, next_state).astype(floating)
        paid = jnp.dot(self.achievements, unlocked) + self.health * healed
        return paid + jnp.dot(self.events, counts) - self.step - self.actions[action]


def reward_spec(
    world: World,
    *,
    achievements: Mapping[str, float] | None = None,
    events: Mapping[str, float] | None = None,
    actions: Mapping[str, float] | None = None,
    health: float = 1.0,
    step: float = 0.0,
) -> RewardSpec:
    """The game's own reward, but for what is named.

    Args:
        world: Which game.
        achievements: New weights of some achievements.
        events: Payments for some of `BEHAVIORS`, every time they happen.
        actions: Costs of some actions.
        health: Weight of the health term.
        step: Cost of every step.

    Raises:
        ValueError: If there is no achievement, event or action of a name; the text lists all.
    """
    floating = jnp.result_type(float)
    start = dict(zip(world.achievements, world.weights, strict=True))
    return RewardSpec(
        _vector("achievements", start, achievements),
        _vector("events", dict.fromkeys(BEHAVIORS, 0.0), events),
        _vector("actions", dict.fromkeys(world.actions, 0.0), actions),
        jnp.asarray(health, floating),
        jnp.asarray(step, floating),
    )


def _vector(argument: str, start: dict[str, float], changes: Mapping[str, float] | None):
    changes = dict(changes or {})
    unknown = sorted(set(changes) - set(start))
    if unknown:
        raise ValueError(f"{argument}: there is no {unknown[0]!r}, expected one of {list(start)}")
    return jnp.asarray(list((start | changes).values()), jnp.result_type(float))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CraftaxEnv:
    """Craftax with worlds from a pool; an `Env`, from `craftax_env`.

    A pytree: pool, reward and the game's own numbers are leaves, so that changing them recompiles
    nothing. Nothing is reset inside but by drawing a world of the pool, with its first observation.

    Attributes:
        environment: The package's environment, without automatic reset.
        params: The package's `EnvParams`, such as the time limit and spawn chances.
        pool: `(states, observations)`, leading axis `[world]`.
        reward: What is rewarded.
        see_achievements: Whether the observation ends with the flags of the achievements.
    """

    environment: Any = dataclasses.field(metadata={"static": True})
    params: Any
    pool: PyTree
    reward: RewardSpec
    see_achievements: bool = dataclasses.field(default=False, metadata={"static": True})

    def reset(self, key: jax.Array) -> tuple[PyTree, jax.Array]:
        """Starts an episode in a world of the pool and returns `(state, observation)`."""
        index = jax.random.randint(key, (), 0, self.pool[1].shape[0])
        return jax.tree.map(lambda leaf: leaf[index], self.pool)

    def step(self, key: jax.Array, state: PyTree, action: jax.Array) -> Transition:
        """Advances by one step and draws another world where the episode has ended."""
        key_step, key_reset = jax.random.split(key)
        moved = advance_craftax(key_step, self, state, action=action)
        done = moved.terminated | moved.truncated
        fresh = self.reset(key_reset)
        state, observation = jax.tree.map(
            lambda new, old: jnp.where(done, new, old), fresh, (moved.state, moved.observation)
        )
        return moved._replace(state=state, observation=observation)


def advance_craftax(
    key: jax.Array, env: CraftaxEnv, state: PyTree, *, action: jax.Array
) -> Transition:
    """One step without a reset: the `advance_fn` of an `EventEnv` around a `CraftaxEnv`.

    The package has one flag for all ends. An episode is terminated if it would be over without the
    time limit (death, lava, the last boss), and truncated if only the limit ended it.

    Args:
        key: Random key, consumed.
        env: The environment.
        state: Where from.
        action: What is done.

    Returns:
        The transition; its state and observation are those of the true successor.
    """
    inner, params = env.environment, env.params
    observation, successor, _, done, _ = inner.step_env(key, state, action, params)
    successor = jax.tree.map(like, state, successor.replace(state_rng=None))
    endless = params.replace(max_timesteps=NEVER)
    terminated = jnp.asarray(inner.is_terminal(successor, endless), bool)
    observation = _observe(observation, successor, env.see_achievements)
    return Transition(
        state=successor,
        observation=observation,
        reward=env.reward(state, action, successor),
        terminated=terminated,
        truncated=jnp.asarray(done, bool) & ~terminated,
        final_observation=observation,
    )


def _observe(observation: jax.Array, state: PyTree, see_achievements: bool) -> jax.Array:
    observation = jnp.asarray(observation, jnp.float32)
    if not see_achievements:
        return observation
    return jnp.concatenate([observation, state.achievements.astype(jnp.float32)], axis=-1)


def craftax_env(
    key: jax.Array,
    world: World,
    *,
    map_size: int | None = None,
    pool_size: int = 1024,
    reward: RewardSpec | None = None,
    see_achievements: bool = False,
    params: Mapping[str, Any] | None = None,
) -> CraftaxEnv:
    """Makes the pool of worlds and the environment around it.

    Args:
        key: Random key of the worlds, consumed.
        world: Which game.
        map_size: Side of the square map, a multiple of 8; the game's own if None. Observations show
            the same 7 x 9 (full: 9 x 11) tiles on any map.
        pool_size: Number of worlds.
        reward: The game's own if None.
        see_achievements: Append the flags of the achievements to the observation.
        params: Numbers of the package's `EnvParams` to change, such as `{"max_timesteps": 500}`.

    Raises:
        ValueError: If the map is too small or uneven, the pool empty, a parameter unknown, or JAX
            in double precision, in which Craftax does not run.
    """
    if jnp.result_type(float) == jnp.float64:
        raise ValueError(
            "jax_enable_x64: Craftax runs in single precision only; make and play the environment "
            "under `with jax.enable_x64(False):`"
        )
    side = world.map_size if map_size is None else map_size
    if side < 16 or side % 8:
        raise ValueError(f"map_size: got {side}, expected a multiple of 8, at least 16")
    check_count("pool_size", pool_size)
    inner = world.make_fn(side)
    known = [field.name for field in dataclasses.fields(inner.default_params)]
    unknown = sorted(set(params or {}) - set(known))
    if unknown:
        raise ValueError(f"params: there is no {unknown[0]!r}, expected one of {known}")
    numbers = inner.default_params.replace(**(params or {}))
    states, observations = _make_pool(jax.random.split(key, pool_size), numbers, inner)
    pool = states, _observe(observations, states, see_achievements)
    reward = reward_spec(world) if reward is None else reward
    return CraftaxEnv(inner, numbers, pool, reward, see_achievements)


@functools.partial(jax.jit, static_argnums=2)
def _make_pool(keys: jax.Array, params: PyTree, environment: Any) -> PyTree:
    """Worlds `(states, observations)` with leading axis `[world]`, one for each key."""

    def one(key):
        observation, state = environment.reset_env(key, params)
        # The package keeps a key in the state that nothing reads.
        return state.replace(state_rng=None), observation

    # Mapped: on a single world the package returns Python numbers.
    return strong(jax.lax.map(one, keys, batch_size=min(WORLDS_AT_ONCE, keys.shape[0])))

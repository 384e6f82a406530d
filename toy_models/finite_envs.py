"""The finite environments of gymnax with their exact processes.

Each builder returns a `FiniteEnv`: the environment as the trainer takes it, and its states,
transition probabilities and mean rewards, found by playing every move in the environment itself.
What is random is stated by law: the first state (uniform over those that a reset can give), slips
of the action, rewards of a coin. Details that change an answer stand at each builder.

Several of these environments mix integers of 32 and 64 bits and cannot be played under
`jax_enable_x64`; build and play them in single precision. The processes are exact either way.

References:
    Lange, "gymnax: a JAX-based reinforcement learning environment library", 2022, version 1.0.
    Osband et al., "Behaviour suite for reinforcement learning", arXiv:1908.03568.
    Sutton, Precup and Singh, "Between MDPs and semi-MDPs", 1999 (four rooms).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import gymnax
import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.rl.env import GymnaxEnv
from slt_rl.rl.finite import AdaptedEnv, FiniteEnv, Moves, enumerate_moves

PyTree = Any
# Discount where an episode may go on for ever, and the steps after which it leaves 2e-9.
ENDLESS_DISCOUNT = 0.99
ENDLESS_HORIZON = 2_000
_NUM_RESETS = 512


def catch() -> FiniteEnv:
    """Catch on 10 rows and 5 columns: nine moves, then 1 if the ball is caught and -1 if not."""
    env = _env("Catch-bsuite")
    moves = _moves(env, lambda s: (s.ball_x, s.ball_y, s.paddle_x))
    return _finite_env("Catch", env, moves, horizon=9)


def deep_sea(size: int = 8) -> FiniteEnv:
    """DeepSea, deterministic: 1 at the end of the all-right path, each move to the right costs.

    Which action means right differs between cells, by the fixed map of the environment.

    Args:
        size: Rows and columns.
    """
    env = _env("DeepSea-bsuite", size=size)
    moves = _moves(env, lambda s: (s.row, s.column))
    return _finite_env(f"DeepSea {size}", env, moves, horizon=size)


def frozen_lake(map_name: str = "4x4") -> FiniteEnv:
    """FrozenLake with slips: a move goes to either side with probability one third each.

    The time limit (100 steps, 200 on the larger map) is lifted to 2,000 and the return discounted
    by 0.99 instead: the position is then the state. The policy sees it as a one-hot vector.

    Args:
        map_name: "4x4" or "8x8".
    """
    limit = {"max_steps_in_episode": ENDLESS_HORIZON}
    environment, params = gymnax.make("FrozenLake-misc", map_name=map_name)
    one_hot = OneHot((environment.n_states,))
    env = AdaptedEnv(GymnaxEnv(environment, params.replace(**limit)), one_hot)
    steady, _ = gymnax.make("FrozenLake-misc", map_name=map_name, is_slippery=False)
    moves = _moves(AdaptedEnv(GymnaxEnv(steady, env.env.params), one_hot), lambda s: s.position)
    aside = np.roll(np.eye(4), 1, axis=1) + np.roll(np.eye(4), -1, axis=1)
    law = environment.success_rate * np.eye(4) + (1 - environment.success_rate) / 2 * aside
    return _finite_env(f"FrozenLake {map_name}", env, moves, action_law=law)


def four_rooms() -> FiniteEnv:
    """FourRooms: 1 at the goal; with probability 4/9 the action is drawn anew from all four.

    Start and goal are fixed. The time limit of 500 is lifted to 2,000 and the return discounted by
    0.99 instead. The policy sees row and column as two one-hot vectors, and not the goal.
    """
    environment, params = gymnax.make("FourRooms-misc")
    params = params.replace(max_steps_in_episode=ENDLESS_HORIZON)
    env, steady = (
        AdaptedEnv(GymnaxEnv(environment, p), OneHot((13, 13)))
        for p in (params, params.replace(fail_prob=0.0))
    )
    # The drawn action may be the chosen one.
    law = (1 - 4 / 3 * params.fail_prob) * np.eye(4) + params.fail_prob / 3
    return _finite_env("FourRooms", env, _moves(steady, lambda s: s.pos), action_law=law)


def discounting_chain(best: int = 0) -> FiniteEnv:
    """DiscountingChain: the first action decides after 1, 3, 10, 30 or 100 steps 1 is paid.

    The environment never terminates: its time limit of 100 steps is the end, and the observation
    tells the time.

    Args:
        best: The first action that is paid 1.1. The environment's own default is 0, paid at once,
            so that no delay has to be bridged; with 4 it is paid in the last step.
    """
    inner = _env("DiscountingChain-bsuite", mapping_seed=best).env
    env = AdaptedEnv(inner, flat, limit_ends=True)
    moves = _moves(env, lambda s: (s.context, s.time))
    return _finite_env(f"DiscountingChain {best}", env, moves, horizon=100)


def umbrella_chain() -> FiniteEnv:
    """UmbrellaChain of ten steps: the first action decides on the 1 or -1 of the last.

    Every other step pays 1 or -1 by the toss of a coin, mean zero.
    """
    env = _env("UmbrellaChain-bsuite")
    moves = _moves(env, lambda s: (s.need_umbrella, s.has_umbrella, s.time))
    last = np.asarray(moves.states[0].time) == 9
    moves = moves._replace(reward=np.where(last[:, None], moves.reward, 0.0))
    return _finite_env("UmbrellaChain", env, moves, horizon=10)


def memory_chain() -> FiniteEnv:
    """MemoryChain on histories: the last of six actions must repeat the first bit that was shown.

    A step returns the observation of the state before it, so the bit is seen twice. The policy sees
    everything shown so far: on single observations the process is not Markov.
    """
    environment, params = gymnax.make("MemoryChain-bsuite")
    env = AdaptedEnv(GymnaxEnv(WithHistory(environment, 6), params), flat)
    moves = _moves(env, lambda s: (s["inner"].context, s["inner"].query, s["time"]))
    return _finite_env("MemoryChain", env, moves, horizon=6)


def _env(name: str, **arguments: Any) -> AdaptedEnv:
    """A gymnax environment with its own parameters, seen as one vector."""
    return AdaptedEnv(GymnaxEnv(*gymnax.make(name, **arguments)), flat)


def _moves(env: AdaptedEnv, identify_fn: Callable[[PyTree], PyTree]) -> Moves:
    """All moves from all first states; a state is a pair of state and features."""
    # What the caller states by law is all that depends on the key.
    key = jax.random.key(0)

    def step(pair, action):
        move = env.step(key, pair[0], action)
        return (move.state, move.observation), move.reward, move.terminated | move.truncated

    return enumerate_moves(
        step,
        _first_states(env, identify_fn),
        num_actions=env.env.environment.num_actions,
        identify_fn=lambda pair: identify_fn(pair[0]),
    )


def _first_states(env: AdaptedEnv, identify_fn: Callable[[PyTree], PyTree]) -> PyTree:
    """The distinct outcomes of many resets."""
    starts = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), _NUM_RESETS))
    names = [np.reshape(x, (_NUM_RESETS, -1)) for x in jax.tree.leaves(identify_fn(starts[0]))]
    _, first = np.unique(np.concatenate(names, axis=1), axis=0, return_index=True)
    return jax.tree.map(lambda x: np.asarray(x)[first], starts)


def _finite_env(
    name: str,
    env: AdaptedEnv,
    moves: Moves,
    *,
    horizon: int | None = None,
    action_law: np.ndarray | None = None,
) -> FiniteEnv:
    """Puts the parts together; without a horizon the return is discounted."""
    states, observations = moves.states
    time = states["time"] if isinstance(states, dict) else states.time
    num_starts = np.count_nonzero(time == 0)
    mdp = moves.mdp(
        np.full(num_starts, 1 / num_starts),
        discount=1.0 if horizon else ENDLESS_DISCOUNT,
        action_law=action_law,
    )
    horizon = horizon or ENDLESS_HORIZON
    return FiniteEnv(name, env, mdp, states=states, observations=observations, horizon=horizon)


@dataclasses.dataclass(frozen=True)
class OneHot:
    """Whole numbers `[k, ...]` as one-hot vectors, one after another; the rest is left out.

    Args:
        sizes: Length of each vector.
    """

    sizes: tuple[int, ...]

    def __call__(self, observation: jax.Array) -> jax.Array:
        """Features `[sum of sizes]`."""
        numbers = jnp.ravel(observation)
        parts = [jax.nn.one_hot(numbers[i], size) for i, size in enumerate(self.sizes)]
        return jnp.concatenate(parts)


def flat(observation: jax.Array) -> jax.Array:
    """The observation as one vector of floating-point numbers."""
    return jnp.ravel(observation).astype(float)


@dataclasses.dataclass(frozen=True, eq=False)
class WithHistory:
    """A gymnax environment whose observation is everything shown in the episode, latest first.

    Args:
        environment: A gymnax environment with flat observations.
        length: Observations that are kept, at least as many as an episode shows before its end.
    """

    environment: Any
    length: int

    def reset(self, key: jax.Array, params: Any) -> tuple[jax.Array, PyTree]:
        """Starts an episode; the history holds one observation, the rest is zero."""
        shown, inner = self.environment.reset(key, params)
        history = jnp.zeros((self.length, *shown.shape), shown.dtype).at[0].set(shown)
        return history, {"inner": inner, "history": history, "time": jnp.int32(0)}

    def step(self, key: jax.Array, state: PyTree, action: jax.Array, params: Any) -> tuple:
        """The six values of gymnax; resets where the episode has ended."""
        shown, inner, reward, terminated, truncated, info = self.environment.step(
            key, state["inner"], action, params
        )
        done = terminated | truncated
        final = jnp.roll(state["history"], 1, axis=0).at[0].set(info["final_observation"])
        history = jnp.where(done, jnp.zeros_like(final).at[0].set(shown), final)
        time = jnp.where(done, 0, state["time"] + 1).astype(jnp.int32)
        state = {"inner": inner, "history": history, "time": time}
        info = {**info, "final_observation": final}
        return history, state, reward, terminated, truncated, info

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return self.environment.num_actions

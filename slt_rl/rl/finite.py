"""Environments with finitely many states, written out as a `TabularMDP` by playing every move.

Transitions, rewards and ends come from the environment's own step function; the only thing that is
said by hand is the law of what is random.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl._numbers import check_count
from slt_rl.rl.env import Env, GymnaxEnv, Transition
from slt_rl.rl.networks import Policy
from slt_rl.rl.potentials.tabular import log_policy_table
from slt_rl.rl.rollout import reset_envs, rollout
from slt_rl.rl.tabular import TabularMDP

PyTree = Any
MAX_STATES = 5_000
# States that are stepped together: one program, however many states a layer has.
_CHUNK = 64


class Moves(NamedTuple):
    """All states that can be reached, and what each action does in each, deterministically.

    Attributes:
        states: States of the environment, leaves `[S, ...]`; the first ones are those of the start.
        successor: `[S, A]`, number of the next state; -1 where the episode ends.
        reward: `[S, A]`.
    """

    states: PyTree
    successor: np.ndarray
    reward: np.ndarray

    def mdp(
        self, start: np.ndarray, *, discount: float = 1.0, action_law: np.ndarray | None = None
    ) -> TabularMDP:
        """The process in which action `a` is carried out as `b` with probability `law[a, b]`.

        Args:
            start: Law of the first state, over the first states `[<= S]`.
            discount: Discount per step.
            action_law: `[A, A]`; the identity if None.

        Returns:
            The process `P(t|s, a) = sum_b law[a, b] 1[t = successor(s, b)]`, and the mean reward in
            the same way.
        """
        num_states, num_actions = self.reward.shape
        law = np.eye(num_actions) if action_law is None else np.asarray(action_law, np.float64)
        # The column behind the last collects the ends of episodes, which are no state.
        reached = np.zeros((num_states, num_actions, num_states + 1))
        rows, columns = np.indices(self.successor.shape)
        reached[rows, columns, self.successor] = 1
        transition = np.einsum("ab,sbt->sat", law, reached[..., :-1])
        law_of_start = np.zeros(num_states)
        law_of_start[: len(start)] = start
        return TabularMDP(transition, self.reward @ law.T, law_of_start, discount)


def enumerate_moves(
    step_fn: Callable[[PyTree, jax.Array], tuple[PyTree, jax.Array, jax.Array]],
    starts: PyTree,
    *,
    num_actions: int,
    identify_fn: Callable[[PyTree], PyTree],
) -> Moves:
    """Plays every action in every state that can be reached, breadth first.

    Args:
        step_fn: `(state, action) -> (next state, reward, whether the episode ends)`, deterministic.
        starts: States to begin with, distinct, leaves `[n, ...]`.
        num_actions: Number of actions.
        identify_fn: `state -> pytree of numbers`; states of equal numbers are one state.

    Returns:
        The moves.

    Raises:
        ValueError: If two starts are equal, or more than 5,000 states can be reached.
    """
    step_all = _padded(jax.vmap(jax.vmap(step_fn, (None, 0)), (0, None)), jnp.arange(num_actions))
    names = _padded(jax.vmap(lambda state: _as_row(identify_fn(state))))
    index: dict[bytes, int] = {}
    for row in names(starts):
        index[row.tobytes()] = len(index)
    layer = jax.tree.map(np.asarray, starts)
    if len(index) != len(jax.tree.leaves(layer)[0]):
        raise ValueError("starts: expected distinct states")
    layers, successors, rewards = [layer], [], []
    while len(jax.tree.leaves(layer)[0]):
        following, reward, ended = step_all(layer)
        # As the starts, or the next layer would be another program.
        following = jax.tree.map(
            lambda x, y: np.reshape(x, (-1, *x.shape[2:])).astype(y.dtype), following, layer
        )
        fresh, successor = [], np.full(ended.size, -1)
        rows = names(following)
        for number in np.flatnonzero(~ended.ravel()):
            name = rows[number].tobytes()
            if name not in index:
                index[name] = len(index)
                fresh.append(number)
            successor[number] = index[name]
        if len(index) > MAX_STATES:
            raise ValueError(f"step_fn: more than {MAX_STATES} states can be reached")
        successors.append(successor.reshape(ended.shape))
        rewards.append(reward)
        layer = jax.tree.map(lambda x, keep=tuple(fresh): x[np.array(keep, int)], following)
        layers.append(layer)
    states = jax.tree.map(lambda *x: np.concatenate(x), *layers)
    return Moves(states, np.concatenate(successors), np.concatenate(rewards).astype(np.float64))


def _padded(function: Callable, *rest: Any) -> Callable:
    """Applies a function of stacked states in chunks of one length, on the host."""
    compiled = jax.jit(lambda states: function(states, *rest))

    def apply(states: PyTree) -> PyTree:
        size = len(jax.tree.leaves(states)[0])
        pieces = []
        for start in range(0, size, _CHUNK):
            # Numbers beyond the last repeat it.
            numbers = np.minimum(np.arange(start, start + _CHUNK), size - 1)
            piece = compiled(jax.tree.map(lambda x, n=numbers: np.asarray(x)[n], states))
            pieces.append(jax.tree.map(lambda x, n=size - start: np.asarray(x)[:n], piece))
        return jax.tree.map(lambda *x: np.concatenate(x), *pieces)

    return apply


def _as_row(numbers: PyTree) -> jax.Array:
    return jnp.concatenate([jnp.ravel(x).astype(jnp.int32) for x in jax.tree.leaves(numbers)])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AdaptedEnv:
    """An environment seen through features, whose time limit may be an end.

    Args:
        env: The environment.
        features_fn: `observation -> features`; hashable.
        limit_ends: Where nothing follows the time limit and the observation tells the time, the
            limit is a termination: no value stands for what comes after.
    """

    env: GymnaxEnv
    features_fn: Callable[[PyTree], jax.Array] = dataclasses.field(metadata={"static": True})
    limit_ends: bool = dataclasses.field(default=False, metadata={"static": True})

    @property
    def num_actions(self) -> int | None:
        """As of the environment inside."""
        return self.env.num_actions

    def reset(self, key: jax.Array) -> tuple[PyTree, jax.Array]:
        """Starts an episode and returns `(state, features)`; consumes the key."""
        state, observation = self.env.reset(key)
        return state, self.features_fn(observation)

    def step(self, key: jax.Array, state: PyTree, action: jax.Array) -> Transition:
        """Advances by one step and resets where the episode has ended; consumes the key."""
        move = self.env.step(key, state, action)
        cut = move.truncated & (not self.limit_ends)
        return move._replace(
            observation=self.features_fn(move.observation),
            terminated=move.terminated | (move.truncated & ~cut),
            truncated=cut,
            final_observation=self.features_fn(move.final_observation),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class FiniteEnv:
    """An environment to play and the same as a process to compute with.

    Attributes:
        name: A name for tables.
        env: The environment, as the trainer takes it.
        mdp: Its states, transition probabilities and mean rewards; `mdp.discount` is that of the
            return.
        states: States of the environment, leaves `[S, ...]`.
        observations: `[S, ...]`, what a policy sees in each state.
        horizon: Steps after which every episode has ended, or what follows is discounted away.
    """

    name: str
    env: Env
    mdp: TabularMDP
    states: PyTree
    observations: jax.Array
    horizon: int

    def exact_return(self, policy: Policy, params: PyTree) -> jax.Array:
        """The mean return `[]` of a policy, by solving for its values."""
        table = jnp.exp(log_policy_table(policy, params, self.observations))
        return jnp.dot(jnp.asarray(self.mdp.start, table.dtype), self.mdp.values(table))

    @property
    def uniform_regret(self) -> float:
        """Regret of the policy that chooses at random: a unit that no scale of rewards changes."""
        uniform = np.full(self.mdp.reward.shape, 1 / self.mdp.num_actions)
        reward = np.sum(uniform * self.mdp.reward, axis=1)
        values = self.mdp.accumulated_on_host(uniform, reward)
        return self.mdp.optimal_return - float(self.mdp.start @ values)

    def sample_returns(
        self, key: jax.Array, policy: Policy, params: PyTree, *, num_episodes: int
    ) -> jax.Array:
        """Plays fresh episodes in the environment itself.

        Args:
            key: Random key, consumed.
            policy: `(params, observation) -> distribution`, hashable.
            params: Parameters of the policy.
            num_episodes: Number of episodes.

        Returns:
            Their discounted returns `[num_episodes]`.

        Raises:
            ValueError: If `num_episodes` is not positive.
        """
        counts = (check_count("num_episodes", num_episodes), self.horizon)
        return _play(key, policy, params, self.env, self.mdp.discount, counts)


@functools.partial(jax.jit, static_argnums=(1, 5))
def _play(key, policy, params, env, discount, counts):
    key_reset, key_play = jax.random.split(key)
    batch = reset_envs(key_reset, env, counts[0])
    _, play, _ = rollout(key_play, policy, params, env=env, batch=batch, num_steps=counts[1])
    done = play.terminated | play.truncated
    # A reward counts if no earlier step ended the episode.
    ends = jnp.cumsum(done, axis=0) - done
    factors = discount ** jnp.arange(counts[1], dtype=play.reward.dtype)
    return jnp.sum(jnp.where(ends == 0, factors[:, None] * play.reward, 0), axis=0)


def regret_process(mdp: TabularMDP) -> tuple[TabularMDP, np.ndarray]:
    """A smaller process with the same regret for every policy.

    Rewards become `-gap(s, a) = Q*(s, a) - V*(s)`, which changes no regret (performance difference
    lemma), and states after which no mistake is possible become ends: they add nothing.

    Args:
        mdp: The process.

    Returns:
        The process on the states that are kept, and their numbers `[kept]`. Where no mistake is
        possible at all, the first states are kept.
    """
    # Rounding of a solve is no mistake.
    gaps = mdp.gaps
    gaps = np.where(gaps > 1e-9 * max(1.0, np.abs(mdp.reward).max()), gaps, 0.0)
    kept = gaps.max(axis=1) > 0
    reachable = mdp.transition.max(axis=1) > 0
    for _ in range(mdp.num_states):
        wider = kept | (reachable @ kept)
        if np.array_equal(wider, kept):
            break
        kept = wider
    kept = kept | (mdp.start > 0)
    numbers = np.flatnonzero(kept)
    transition = mdp.transition[numbers][:, :, numbers]
    return TabularMDP(transition, -gaps[numbers], mdp.start[numbers], mdp.discount), numbers

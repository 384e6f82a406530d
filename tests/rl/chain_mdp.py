"""Finite processes whose occupancies are exact: three states, played through the gymnax interface.

`random_mdp` is drawn as the reference problems are: `default_rng(seed)`, transitions from
`dirichlet(1, 1, 1)` for each state and action, then rewards uniform on [0, 1]. Played with a chance
`1 - discount` to end at each step, undiscounted visits are the discounted ones.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.rl import (
    Categorical,
    TabularMDP,
    Transition,
    by_trajectory,
    record,
    reset_envs,
    rollout,
)


def random_mdp(seed, discount=0.9):
    generator = np.random.default_rng(seed)
    transition = generator.dirichlet(np.ones(3), size=(3, 3))
    return TabularMDP(transition, generator.random((3, 3)), np.full(3, 1 / 3), discount)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EndingEnv:
    """Plays an MDP; each step is the last with probability `1 - continuation`."""

    transition: jax.Array
    reward: jax.Array
    start: jax.Array
    continuation: float

    def reset(self, key):
        state = jax.random.categorical(key, jnp.log(self.start))
        return state, state

    def step(self, key, state, action):
        keys = jax.random.split(key, 3)
        successor = jax.random.categorical(keys[0], jnp.log(self.transition[state, action]))
        ended = jax.random.uniform(keys[1]) >= self.continuation
        fresh, _ = self.reset(keys[2])
        following = jnp.where(ended, fresh, successor)
        reward = self.reward[state, action]
        return Transition(following, following, reward, ended, jnp.array(False), successor)


def ending_env(mdp):
    arrays = (jnp.asarray(x) for x in (mdp.transition, mdp.reward, mdp.start))
    return EndingEnv(*arrays, mdp.discount)


def softmax_policy(params, state):
    """One logit for each state and action."""
    return Categorical(params["logits"][state])


def logits(seed, scale=1.0):
    return {"logits": scale * jax.random.normal(jax.random.key(seed), (3, 3))}


def table(params):
    return jax.nn.softmax(params["logits"])


# A pair of policies so near to each other that the weights of whole trajectories have a finite
# fourth moment: discount * E ratio^4 has spectral radius 0.98. With a finite standard error, but a
# fourth moment that is not, four standard errors would say nothing.
MDP = random_mdp(0, 0.7)
BEHAVIOR = logits(4, 0.4)
TARGET = {"logits": (logits(4, 0.4)["logits"] + logits(3, 0.4)["logits"]) / 2}


@functools.cache
def behavior_buffer():
    """Four thousand environments played by the behavior policy; episodes of mean length 10/3."""
    env = ending_env(MDP)
    batch = reset_envs(jax.random.key(0), env, 4000)
    _, played, _ = rollout(
        jax.random.key(1), softmax_policy, BEHAVIOR, env=env, batch=batch, num_steps=60
    )
    return record(played, version=3, step=0, start=np.ones(4000, bool))


@functools.cache
def behavior_trajectories():
    return by_trajectory(behavior_buffer(), num_episodes=5)


def mean_and_sem(x):
    return float(np.mean(x)), float(np.std(x, ddof=1) / np.sqrt(len(x)))

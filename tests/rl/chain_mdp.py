"""Finite processes whose occupancies are exact: three states, played through the gymnax interface.

`random_mdp` is drawn as the reference problems are: `default_rng(seed)`, transitions from
`dirichlet(1, 1, 1)` for each state and action, then rewards uniform on [0, 1]. Played with a chance
`1 - discount` to end at each step, undiscounted visits are the discounted ones.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.rl import Categorical, TabularMDP, Transition

DISCOUNT = 0.9


def random_mdp(seed, discount=DISCOUNT):
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
    continuation: float = dataclasses.field(metadata={"static": True}, default=DISCOUNT)

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
    return EndingEnv(*(jnp.asarray(x) for x in (mdp.transition, mdp.reward, mdp.start)))


def softmax_policy(params, state):
    """One logit for each state and action."""
    return Categorical(params["logits"][state])


def logits(seed, scale=1.0):
    return {"logits": scale * jax.random.normal(jax.random.key(seed), (3, 3))}


def table(params):
    return jax.nn.softmax(params["logits"])

"""Training on Craftax-Classic beside the reference PPO in one file, in the same worlds.

    python -m benchmarks.speed_craftax [--seconds 30] [--out benchmarks/results]

64 environments x 64 steps, maps of 32 x 32, two networks of 2 x 128 tanh units. The reference does
less on purpose: it counts no events and keeps no account of episodes.
"""

import functools
import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import pages, single_file_ppo, speed_ppo, speed_runs
from slt_rl.agents import LearningSpec, NetworkSpec, RunSpec, WorldSpec
from slt_rl.agents.agent import Agent, make_agent
from slt_rl.rl import init_runs, run_keys, train
from slt_rl.rl.craftax import CraftaxEnv

ITERATIONS = 4


class Plain(NamedTuple):
    """Craftax in the form of a gymnax environment, without counting."""

    env: CraftaxEnv

    def reset(self, key: jax.Array, params: Any) -> tuple:
        """Observation and state."""
        del params
        return self.env.reset(key)[::-1]

    def step(self, key: jax.Array, state: Any, action: jax.Array, params: Any) -> tuple:
        """Observation, state, reward and the two ends."""
        del params
        moved = self.env.step(key, state, action)
        return moved.observation, moved.state, moved.reward, moved.terminated, moved.truncated


def library(agent: Agent) -> Callable:
    """Returns what trains with the library, its statistics and events on the host."""
    keys = run_keys(jax.random.key(0), 1)
    states = init_runs(keys, agent.ppo, agent.env, init_fn=agent.init_fn)

    def run():
        found = train(keys, agent.ppo, agent.env, states=states, checkpoints=(ITERATIONS,))
        return jax.block_until_ready(next(found))

    return run


def reference(agent: Agent) -> Callable:
    """Returns what trains with the reference."""
    ppo, key = agent.ppo, jax.random.key(0)
    config = single_file_ppo.Config(
        env=Plain(agent.env.env),
        env_params=None,
        policy=ppo.policy.network,
        sample=jax.random.categorical,
        log_prob=lambda logits, action: jax.nn.log_softmax(logits)[action],
        entropy=_entropy,
        value=ppo.value_fn,
        **{name: getattr(ppo, name) for name in speed_ppo.SHARED},
    )
    carry = jax.jit(functools.partial(single_file_ppo.init, config))(key, agent.init_fn(key))

    @jax.jit
    def advance(carry):
        step = functools.partial(single_file_ppo.iteration, config)
        keys = jax.random.split(key, ITERATIONS)
        return jax.lax.scan(lambda c, k: (step(k, c), None), carry, keys)[0]

    return lambda: jax.block_until_ready(advance(carry))


def _entropy(logits: jax.Array) -> jax.Array:
    log_probs = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_probs) * log_probs)


def main() -> int:
    """Times both in turns and writes the ratio of steps per second, library over reference."""
    parser = pages.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    spec = RunSpec(
        world=WorldSpec(pool_size=64),
        network=NetworkSpec(),
        learning=LearningSpec(),
        num_updates=ITERATIONS,
    )
    agent = make_agent(spec)
    runs = {"slt_rl": library(agent), "reference": reference(agent)}
    found = speed_runs.take_turns(runs, seconds=options.seconds)
    times = {name: x.per(ITERATIONS * spec.steps_per_update) for name, x in found.items()}
    row = {
        "rounds": len(found["slt_rl"].wall),
        "microseconds_per_step": times,
        "ratio_wall": speed_runs.ratio(found, "reference", "slt_rl"),
        "ratio_cpu": times["reference"]["cpu"] / times["slt_rl"]["cpu"],
    }
    made = pages.how_made([row], vars(options))
    pages.write_json(options.out / "speed_craftax.json", made | row)
    print(json.dumps(row, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

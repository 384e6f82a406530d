"""Training on Craftax-Classic beside the reference PPO in one file, in the same worlds.

    python -m benchmarks.speed_craftax [--seconds 30] [--out benchmarks/results]

64 environments x 64 steps, maps of 32 x 32, two networks of 2 x 128 tanh units. The reference does
less on purpose: it counts no events and keeps no account of episodes.
"""

import functools
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from benchmarks import pages, single_file_ppo, speed_page, speed_ppo
from benchmarks.pages import Page, write_page
from slt_rl.agents import LearningSpec, NetworkSpec, RunSpec, WorldSpec
from slt_rl.agents.agent import Agent, make_agent
from slt_rl.report.style import INK, new_figure, styled
from slt_rl.rl import init_runs, run_keys, train
from slt_rl.rl.craftax import CraftaxEnv

ITERATIONS = 4
ABSTRACT = (
    "One run of 64 environments x 64 steps on maps of 32 x 32 from 64 worlds, two networks of "
    "2 x 128 tanh units: the library's trainer and a plain PPO in one file, in the same program of "
    "the game, take turns in measurements of four updates. The reference counts no events and "
    "keeps no account of episodes. Steps per second are those of the median round; the ratio is "
    "the median of the ratios of neighboring rounds, which a busy machine slows alike."
)


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


def make_page(row: dict[str, Any]) -> Page:
    """The ratio with its target, both speeds, and the spread of the rounds."""
    return Page(
        "speed_craftax",
        "Training by PPO on Craftax-Classic beside a reference in one file",
        f"{ABSTRACT} {row['rounds']} rounds.",
        speed_page.ppo_checks([row]),
        [speed_page.ppo_table([row])],
        {"times": _figure(row["microseconds"])},
    )


def _figure(times: dict[str, dict[str, float]]) -> Figure:
    """Time of an environment step of each: median and quartiles of the rounds."""
    with styled():
        figure = new_figure((6.4, 1.7))
        axis = figure.subplots()
        for place, found in enumerate(times.values()):
            axis.plot([found["low"], found["high"]], [place, place], color=INK, lw=1.2)
            axis.plot(found["wall"], place, "o", ms=5, color=INK)
        axis.set_yticks(range(len(times)), times)
        axis.set_ylim(len(times) - 0.5, -0.5)
        axis.set_xlim(left=0.0)
        axis.set_xlabel(
            "microseconds of wall time per environment step\n"
            "(dot: median of the rounds, line: their quartiles)"
        )
    return figure


def main() -> int:
    """Times both in turns and writes the page; 0 only if the ratio meets its target."""
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
    sizes = {"num_runs": len(spec.seeds), "num_steps": ITERATIONS * spec.steps_per_update}
    start = time.perf_counter()
    row = speed_ppo.timed_row("Craftax-Classic", runs, options.seconds, **sizes)
    row["seconds"] = time.perf_counter() - start
    page = make_page(row)
    write_page(page, [row], vars(options), folder=options.out)
    return int(not all(check.held for check in page.checks))


if __name__ == "__main__":
    sys.exit(main())

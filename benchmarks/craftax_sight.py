"""Does an agent know that it has already planted? Its wish to plant, before and after.

    python -m benchmarks.craftax_sight [--runs results/craftax_plants] [--steps 512]

Plays the last checkpoint of every run of `benchmarks.craftax_plants` and looks at the steps at
which PLACE_PLANT would succeed: awake, a sapling at hand, free grass in front; and at how well a
linear readout of what the agent sees and remembers tells that it has planted.
"""

import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import pages
from benchmarks.analysis import interval
from benchmarks.craftax_decode import decode_table, readouts
from benchmarks.pages import Page, write_page
from slt_rl.agents import Run, load_run
from slt_rl.agents.states import memory_of
from slt_rl.report import Table
from slt_rl.rl import Categorical, reset_envs
from slt_rl.rl.craftax_events import FRONT, PLACE_PLANT, PLANT, RIPE_PLANT
from slt_rl.rl.recurrent_play import see
from slt_rl.rl.rollout import act, count_episodes

PyTree = Any
GRASS, NUM_ENVS = 2, 64
# Rows and columns of the view to each side of the agent.
SIGHT = (3, 4)
# How numbers over seeds are written.
FORM = ".2f"
GROUPS = ("no plant yet", "planted, a plant in view", "planted, none in view")
ABSTRACT = (
    "Mean probability that the policy gives to PLACE_PLANT at the steps at which it would succeed "
    "(awake, a sapling at hand, free grass in front), by what has happened in the episode. A "
    "policy that cannot tell that it has planted gives the same before and, with no plant in view, "
    "after."
)
NOTE = (
    "Last checkpoint of each run, 64 environments played by the policy itself. Mean over seeds of "
    "the mean over steps, with its 95 % Student interval over seeds; in brackets the number of "
    "steps, all seeds together. after / before: third column over first, of each seed. Flag off, "
    "on: at all these steps, the observation being changed in nothing but the flag of place_plant."
)


class Steps(NamedTuple):
    """What is recorded of every step, each `[time, env]`; the last two `[time, env, ...]`."""

    able: jax.Array
    planted: jax.Array
    in_view: jax.Array
    probability: jax.Array
    flag_off: jax.Array
    flag_on: jax.Array
    clock: jax.Array
    observation: jax.Array
    hidden: jax.Array


def main() -> int:
    """Measures all runs there are and writes the page."""
    parser = pages.parser(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("results/craftax_plants"))
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--beside", type=Path, nargs="*", default=[], help="results to show too")
    options = parser.parse_args()
    rows = [row for path in options.beside for row in json.loads(path.read_text())["rows"]]
    for path in sorted(options.runs.glob("*/run.json")):
        start, run = time.perf_counter(), load_run(path.parent)
        play = player(run, num_steps=options.steps)
        seeds = [wishes(run, seed, play) for seed in run.seeds]
        row = {name: [seed[name] for seed in seeds] for name in seeds[0]}
        rows.append({"variant": path.parent.name, **row, "seconds": time.perf_counter() - start})
        print(rows[-1], flush=True)
    settings = {"runs": str(options.runs), "steps": options.steps}
    page = Page(
        "craftax_sight",
        "The wish to plant once more",
        ABSTRACT,
        (),
        (table(rows), decode_table(rows)),
    )
    write_page(page, rows, settings, folder=options.out)
    return 0


def player(run: Run, *, num_steps: int) -> Callable[[jax.Array, PyTree], Steps]:
    """Returns `(key, params) -> steps` of a run of Craftax-Classic, compiled once.

    Args:
        run: The run.
        num_steps: Steps of each of the 64 environments.
    """
    place = run.spec.world.rules.achievements.index("place_plant")
    network, env = memory_of(run), run.env()
    decide = functools.partial(see, network) if network else _see_now(run.policy())
    play = jax.jit(functools.partial(_play, decide=decide, place=place, num_steps=num_steps))

    def one(key, params):
        hidden = network.initial_hidden(params, NUM_ENVS) if network else jnp.zeros((NUM_ENVS, 0))
        return jax.device_get(play(key, env, params, hidden))

    return one


def wishes(run: Run, seed: int, play: Callable[[jax.Array, PyTree], Steps]) -> dict[str, Any]:
    """Mean probability of PLACE_PLANT where it would succeed, and how many such steps.

    Args:
        run: A run of Craftax-Classic; its last checkpoint is played.
        seed: Seed of the run.
        play: From `player`.

    Returns:
        `probability` and `number` for each of `GROUPS`; `flags`, the mean probability with the flag
        of the achievement off and on in the observation, nan where it has none; `readouts`, see
        `benchmarks.craftax_decode`.
    """
    params = jax.tree.map(jnp.asarray, run.checkpoints(seed)[-1])
    steps = play(jax.random.key(seed), params)
    before, seen = ~steps.planted, steps.planted & steps.in_view
    groups = [steps.able & group for group in (before, seen, ~before & ~seen)]
    has_flags = run.spec.world.see_achievements
    flags = (steps.flag_off, steps.flag_on)
    return {
        "probability": [_mean(steps.probability, group) for group in groups],
        "number": [int(group.sum()) for group in groups],
        "flags": [_mean(x, steps.able) if has_flags else np.nan for x in flags],
        "readouts": readouts(
            {"observation": steps.observation, "hidden": steps.hidden, "clock": steps.clock},
            steps.planted,
            which=steps.able & ~steps.in_view,
        ),
    }


def _mean(values: np.ndarray, group: np.ndarray) -> float:
    return float(values[group].mean(dtype=np.float64)) if group.any() else np.nan


def _see_now(policy):
    """A policy without memory in the form of one that has it."""

    def decide(params, hidden, *, observation, reset):
        del reset
        return hidden, jax.vmap(lambda x: policy(params["policy"], x))(observation), None

    return decide


def _play(key, env, params, hidden, *, decide, place, num_steps) -> Steps:
    """Plays, and records every step from the state before it."""

    def probability(hidden, observation, start) -> tuple[PyTree, Categorical, jax.Array]:
        hidden, distribution, _ = decide(params, hidden, observation=observation, reset=start)
        log_prob = distribution.log_prob(jnp.full(NUM_ENVS, PLACE_PLANT))
        return hidden, distribution, jnp.exp(log_prob)

    def step(carry, number):
        batch, hidden = carry
        keys = jax.random.split(jax.random.fold_in(key, number), (NUM_ENVS, 2))
        start, state = batch.episode_length == 0, batch.state.state
        # The flags are the last of the observation, if it has them.
        flag = place - state.achievements.shape[-1]
        off, on = (
            probability(hidden, batch.observation.at[:, flag].set(x), start)[2] for x in (0.0, 1.0)
        )
        hidden, distribution, now = probability(hidden, batch.observation, start)
        able, in_view = jax.vmap(_able)(state), jax.vmap(_plant_in_view)(state)
        seen = batch.episode_length, batch.observation, hidden
        record = Steps(able, state.achievements[:, place], in_view, now, off, on, *seen)
        transition, *_ = act(keys, distribution, env=env, batch=batch)
        return (count_episodes(batch, transition)[0], hidden), record

    batch = reset_envs(jax.random.fold_in(key, 2**32 - 1), env, NUM_ENVS)
    return jax.lax.scan(step, (batch, hidden), jnp.arange(num_steps))[1]


def _able(state: PyTree) -> jax.Array:
    """Whether PLACE_PLANT would place one."""
    row, column = state.player_position + jnp.asarray(FRONT, jnp.int32)[state.player_direction]
    side = state.map.shape[0]
    inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
    free = (state.map[row, column] == GRASS) & ~state.mob_map[row, column]
    return inside & free & (state.inventory.sapling > 0) & ~state.is_sleeping


def _plant_in_view(state: PyTree) -> jax.Array:
    """Whether a plant stands within the 7 x 9 tiles around the agent."""
    is_plant = (state.map == PLANT) | (state.map == RIPE_PLANT)
    near = [
        jnp.abs(jnp.arange(size) - at) <= reach
        for size, at, reach in zip(state.map.shape, state.player_position, SIGHT, strict=True)
    ]
    return jnp.any(is_plant & near[0][:, None] & near[1][None, :])


def table(rows: list[dict[str, Any]]) -> Table:
    """One row for each variant."""
    body = []
    for row in rows:
        probability, number = np.array(row["probability"], float), np.sum(row["number"], axis=0)
        cells = [f"{interval(x, FORM)} ({n})" for x, n in zip(probability.T, number, strict=True)]
        ratio = interval(probability[:, 2] / probability[:, 0], FORM)
        body.append(
            [
                row["variant"],
                *cells,
                ratio,
                *(interval(x, FORM) for x in np.array(row["flags"], float).T),
            ]
        )
    header = ["variant", *GROUPS, "after / before", "flag off", "flag on"]
    return Table("Probability of PLACE_PLANT", header, body, NOTE)


if __name__ == "__main__":
    sys.exit(main())

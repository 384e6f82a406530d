"""In how many contexts Craftax-Classic agents plant, and in how many ways they decide to.

    python -m benchmarks.craftax_plants --variants default
    python -m benchmarks.craftax_circuits

Plays checkpoints of the agents without memory and looks at the steps at which PLACE_PLANT would
succeed: the breadth of contexts in which it is likely, and the diversity of what the last hidden
units contribute to it; at states of four checkpoints, the same for all, and at each one's own.
"""

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks import pages
from benchmarks.analysis import interval
from benchmarks.craftax_decode import LEVELS
from benchmarks.craftax_sight import Steps, player
from benchmarks.pages import Page, write_page
from slt_rl.agents import Run, load_run
from slt_rl.agents.figures import COLORS, scale_axis
from slt_rl.development import attributions, breadth, ensemble_diversity
from slt_rl.report import Table
from slt_rl.report.style import MUTED, new_figure, styled
from slt_rl.rl.craftax_events import PLACE_PLANT, TREE, WATER

PyTree = Any
NUM_STEPS, NUM_STATES, NUM_SHUFFLES = 256, 64, 5
WANTED = (0, 8e3, 16e3, 33e3, 49e3, 66e3, 82e3, 115e3, 164e3, 246e3, 369e3, 6e5)
SOURCES = (0, 6, 9, 11)
NUM_TILES, NUM_CHANNELS, SAPLINGS, LIGHT = 63, 21, 5, 20
FIELDS = ("probability", "contexts", "null_contexts", "vendi", "null_vendi", "participation")
STATES = ("fixed states", "own states")
LINES = (
    {"color": COLORS[0], "ls": "-", "label": "mean over seeds"},
    {"color": COLORS[1], "ls": "--", "label": "its null, mean over seeds"},
)
ABSTRACT = (
    "At the steps at which PLACE_PLANT would succeed (awake, a sapling at hand, free grass in "
    "front): its mean probability, the effective number of contexts in which it is taken, and the "
    "effective number of different attributions of its log probability to the 128 units of the "
    "last hidden layer. Agents without memory, the game's own reward, three seeds."
)
NOTE = (
    "Contexts: all combinations of two or more saplings, a plant in view, daylight, a tree in "
    "view, water in view, a creature in view. Null of the contexts: those of the states "
    "themselves, what a policy blind to the context has. Vendi score and participation ratio of 64 "
    "states from each of four checkpoints (fixed) or of 64 own states; null: every unit's "
    "attributions dealt out anew to the states. Mean over seeds with its 95 % Student interval."
)


class Able(NamedTuple):
    """States at which a plant can be placed, `[n, ...]`."""

    observation: np.ndarray
    in_view: np.ndarray


def main() -> int:
    """Measures the runs named and writes the page."""
    parser = pages.parser(__doc__)
    parser.add_argument("--run", type=Path, default=Path("results/craftax_plants/default"))
    options = parser.parse_args()
    start, run = time.perf_counter(), load_run(options.run)
    indices = [int(np.argmin(np.abs(run.steps - step))) for step in WANTED]
    play = player(run, num_steps=NUM_STEPS)
    seeds = [measured(run, seed, indices, play=play) for seed in run.seeds]
    rows = [
        {"step": int(run.steps[index]), **{s: [seed[s][row] for seed in seeds] for s in STATES}}
        for row, index in enumerate(indices)
    ]
    rows[-1]["seconds"] = time.perf_counter() - start
    write_page(make_page(rows), rows, {"run": str(options.run)}, folder=options.out)
    return 0


def measured(run: Run, seed: int, indices: list[int], *, play: Any) -> dict[str, list]:
    """Numbers of every checkpoint of one seed, on fixed states and on its own."""
    series, rng = run.checkpoints(seed), np.random.default_rng(seed)
    params = [jax.tree.map(jnp.asarray, series[index]) for index in indices]
    own = [
        able_of(play(jax.random.fold_in(jax.random.key(seed), i), p)) for i, p in enumerate(params)
    ]
    parts = [drawn(rng, own[i]) for i in SOURCES]
    fixed = Able(*(np.concatenate(x) for x in zip(*parts, strict=True)))
    return {
        STATES[0]: [numbers(seed, p["policy"], fixed, few=fixed) for p in params],
        STATES[1]: [
            numbers(seed, p["policy"], states, few=drawn(rng, states))
            for p, states in zip(params, own, strict=True)
        ],
    }


def able_of(steps: Steps) -> Able:
    """The steps of play at which a plant could be placed."""
    return Able(steps.observation[steps.able], steps.in_view[steps.able])


def drawn(rng: np.random.Generator, states: Able) -> Able:
    """64 of some states, all if there are fewer."""
    number = len(states.in_view)
    rows = rng.choice(number, min(NUM_STATES, number), replace=False)
    return Able(states.observation[rows], states.in_view[rows])


def numbers(seed: int, params: PyTree, states: Able, *, few: Able) -> list[float]:
    """The `FIELDS` of one policy: breadth over `states`, diversity over `few` of them."""
    units = last_units(params, states.observation)
    probability = np.exp(log_probs(params, units)[:, PLACE_PLANT])
    wide = breadth(np.asarray(probability), contexts_of(states))
    units = last_units(params, few.observation)
    given = attributions(
        lambda h, action: log_probs(params, h)[action], units, jnp.full(len(units), PLACE_PLANT)
    )
    many = ensemble_diversity(seed, given, num_shuffles=NUM_SHUFFLES)
    diverse = [many.vendi, float(many.null_vendi.mean()), many.participation_ratio]
    return [wide.mean, wide.contexts, wide.null_contexts, *diverse]


def last_units(params: PyTree, observation: np.ndarray) -> np.ndarray:
    """Activations of the last hidden layer, `[n, unit]`."""
    x = np.asarray(observation)
    for layer in list(params.values())[:-1]:
        x = np.tanh(x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"]))
    return x


def log_probs(params: PyTree, units: jax.Array) -> jax.Array:
    """Log probabilities of all actions from the last hidden layer, `[..., action]`."""
    layer = list(params.values())[-1]
    return jax.nn.log_softmax(units @ layer["kernel"] + layer["bias"])


def contexts_of(states: Able) -> np.ndarray:
    """The context of each state, 0 ... 63, from what the agent sees."""
    tiles = states.observation[:, : NUM_TILES * NUM_CHANNELS].reshape(-1, NUM_TILES, NUM_CHANNELS)
    seen = tiles.any(axis=1)
    levels = states.observation[:, LEVELS]
    marks = (
        np.round(10 * levels[:, SAPLINGS]) >= 2, states.in_view, levels[:, LIGHT] > 0.5,
        seen[:, TREE], seen[:, WATER], seen[:, 17:].any(axis=1),
    )  # fmt: skip
    return sum(2**bit * mark.astype(int) for bit, mark in enumerate(marks))


def make_page(rows: list[dict[str, Any]]) -> Page:
    """Tables and the figure."""
    return Page(
        "craftax_circuits",
        "Contexts and circuits of planting",
        ABSTRACT,
        (),
        [table(rows, states) for states in STATES],
        {"curves": curves_figure(rows)},
    )


def table(rows: list[dict[str, Any]], states: str) -> Table:
    """One row for each checkpoint."""
    header = ("step", "P(plant)", "contexts", "null", "Vendi score", "null", "participation ratio")
    body = [[row["step"], *map(interval, np.array(row[states]).T)] for row in rows]
    return Table(states.capitalize(), header, body, NOTE)


def curves_figure(rows: list[dict[str, Any]]) -> Figure:
    """Probability, contexts and Vendi score over training, with their nulls; a line a seed."""
    steps = [row["step"] for row in rows]
    panels = (("probability", None), ("contexts", "null_contexts"), ("vendi", "null_vendi"))
    labels = ("mean probability\nof PLACE_PLANT", "contexts in which\nit is taken")
    labels += ("ways to decide:\nVendi score",)
    with styled():
        figure = new_figure((7.6, 5.8))
        axes = figure.subplots(3, 2, sharex=True, sharey="row")
        for line, fields, label in zip(axes, panels, labels, strict=True):
            line[0].set_ylabel(label)
            for axis, states in zip(line, STATES, strict=True):
                found = np.array([row[states] for row in rows])
                for field, style in zip(fields, LINES, strict=True):
                    if field:
                        _lines(axis, steps, found[:, :, FIELDS.index(field)], style=style)
            line[0].set_ylim(bottom=0)
        for top, bottom, states in zip(axes[0], axes[-1], STATES, strict=True):
            top.set_title(states)
            scale_axis(bottom, float(steps[-1]))
        handles = [Line2D([], [], **style, lw=1.8) for style in LINES]
        handles.append(Line2D([], [], color=MUTED, lw=0.7, label="each seed"))
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _lines(axis: Any, steps: list[int], values: np.ndarray, *, style: dict[str, Any]) -> None:
    """A thin line for each seed and a thick one for their mean."""
    axis.plot(steps, values, **style, lw=0.7, alpha=0.7)
    axis.plot(steps, values.mean(axis=1), **style, lw=1.8, marker="o", ms=2.5)


if __name__ == "__main__":
    sys.exit(main())

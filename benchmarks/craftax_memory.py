"""What recurrent agents on Craftax-Classic remember, against their width and over training.

    python -m benchmarks.craftax_plants --variants gru_8 gru_32 gru_128
    python -m benchmarks.craftax_memory

Plays checkpoints of the recurrent runs of `benchmarks.craftax_plants`, decodes what was seen some
steps ago from the hidden state, and plays the last checkpoint with and without its memory.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from slt_rl.agents.figures import COLORS
from slt_rl.development import LagCurve, Memory, memory_curve
from slt_rl.report import Table
from slt_rl.report.style import MUTED, new_figure, styled
from slt_rl.rl import Forgetful, recurrent_evaluate

PyTree = Any
NUM_STEPS, LAGS, NUM_SHUFFLES = 256, np.arange(1, 17), 3
# Pairs across the beginning of an episode are few: the gap takes more play, and fewer lags.
GAP_PLAYS, GAP_LAGS = 4, np.array([4, 8, 12, 16])
# Of the 22 levels: facing left, right and up; down is what is left.
FACING = slice(16, 19)
WANTED = (0.0, 8e4, 2e5, np.inf)
NUM_EPISODES, MAX_STEPS = 128, 400
SHOWN = {"plant": "a plant in view", "facing": "the direction (sum of three)"}
ABSTRACT = (
    "Recurrent agents, three seeds of each width: how well a linear readout of the hidden "
    "state tells what the agent saw some steps ago, beyond what it sees now (inventory, body, "
    "direction, light, whether a plant is in view) and the steps since the episode began."
)
MEMORY_NOTE = (
    "Capacity: share of the variance at t - k that the hidden state explains beyond what is given "
    "and beyond its null (hidden states of other environments), summed over the lags k = 1 ... 16: "
    "of `a plant is in view`, and of the direction (left, right, up: the sum of three). Pairs "
    "within an episode only. 64 environments played for 256 steps by the checkpoint itself. Mean "
    "over seeds with its 95 % Student interval."
)
GAP_NOTE = (
    "The last checkpoint, four times as much play: the same share of variance, mean over the lags "
    "4, 8, 12 and 16, of pairs within an episode and of pairs with the beginning of an episode in "
    "between, and the first minus the second. A memory that a reset erases has nothing across. "
    "Mean over seeds with its 95 % Student interval."
)
WORTH_NOTE = (
    "Return of the last checkpoint over 128 fresh episodes of at most 400 steps, as it is and with "
    "the hidden state set to zero before every step; what memory is worth to this policy, not to "
    "one that was trained without. Mean over seeds with its 95 % Student interval."
)


def main() -> int:
    """Measures all recurrent runs there are and writes the page."""
    parser = pages.parser(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("results/craftax_plants"))
    options = parser.parse_args()
    found = [load_run(path.parent) for path in options.runs.glob("*/run.json")]
    runs = sorted(
        (run for run in found if run.spec.network.is_recurrent), key=lambda r: r.spec.network.width
    )
    if not runs:
        raise SystemExit(f"{options.runs}: no recurrent runs; train some first")
    rows, worth = [], []
    for run in runs:
        start, play = time.perf_counter(), player(run, num_steps=NUM_STEPS)
        rows += [row_of(run, index, play) for index in chosen(run)]
        worth.append({"width": run.spec.network.width, **returns(run), **reset_gap(run, play)})
        worth[-1]["seconds"] = time.perf_counter() - start
        print(worth[-1], flush=True)
    write_page(
        make_page(rows, worth), [*rows, *worth], {"runs": str(options.runs)}, folder=options.out
    )
    return 0


def chosen(run: Run) -> list[int]:
    """Checkpoints nearest to the wanted steps, as indices."""
    last = float(run.steps[-1])
    return sorted({int(np.argmin(np.abs(run.steps - min(step, last)))) for step in WANTED})


def row_of(run: Run, index: int, play: Callable[[jax.Array, PyTree], Steps]) -> dict[str, Any]:
    """Memory of one checkpoint of every seed."""
    found = []
    for seed in run.seeds:
        params = jax.tree.map(jnp.asarray, run.checkpoints(seed)[index])
        found.append(remembered(seed, [play(jax.random.key(seed), params)]))
    excess = np.array([memory.within.excess for memory in found])
    return {
        "width": run.spec.network.width,
        "step": int(run.steps[index]),
        "lags": LAGS.tolist(),
        "plant": excess[..., 0].round(4).tolist(),
        "facing": excess[..., 1:].sum(axis=-1).round(4).tolist(),
    }


def remembered(seed: int, plays: list[Steps], lags: np.ndarray = LAGS) -> Memory:
    """Memory of whether a plant was in view and of the direction, in what one seed played."""
    parts = [decoding(steps) for steps in plays]
    joined = {name: np.concatenate([p[name] for p in parts], axis=1) for name in parts[0]}
    return memory_curve(seed, lags=lags, num_shuffles=NUM_SHUFFLES, **joined)


def decoding(steps: Steps) -> dict[str, np.ndarray]:
    """What is decoded, and from what, `[time, env, ...]` each."""
    levels, in_view = steps.observation[..., LEVELS], np.asarray(steps.in_view, float)[..., None]
    clock = np.asarray(steps.clock, float)[..., None]
    return {
        "hidden": steps.hidden,
        "feature": np.concatenate([in_view, levels[..., FACING]], axis=-1),
        "start": steps.clock == 0,
        "given": np.concatenate([levels, in_view, clock, np.log1p(clock)], axis=-1),
    }


def reset_gap(run: Run, play: Callable[[jax.Array, PyTree], Steps]) -> dict[str, Any]:
    """Excess of the last checkpoint of every seed, within episodes and across their beginnings."""
    found = []
    for seed in run.seeds:
        params = jax.tree.map(jnp.asarray, run.checkpoints(seed)[-1])
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1), GAP_PLAYS)
        found.append(remembered(seed, [play(key, params) for key in keys], GAP_LAGS))
    return {name: [by_feature(getattr(m, name)) for m in found] for name in ("within", "across")}


def by_feature(curve: LagCurve) -> list[float]:
    """Mean over the lags of the excess: a plant in view, direction."""
    plant, *facing = curve.excess.mean(axis=0)
    return [round(float(x), 4) for x in (plant, sum(facing))]


def returns(run: Run) -> dict[str, list[float]]:
    """Mean return of the last checkpoint of every seed, with its memory and without."""
    env, network = run.env(), run.network()
    found: dict[str, list[float]] = {"remembering": [], "forgetting": []}
    for seed in run.seeds:
        params = jax.tree.map(jnp.asarray, run.checkpoints(seed)[-1])
        for name, agent in zip(found, (network, Forgetful(network)), strict=True):
            played = recurrent_evaluate(
                jax.random.key(seed), agent, params, env=env, num_episodes=NUM_EPISODES,
                max_steps=MAX_STEPS,
            )  # fmt: skip
            found[name].append(float(np.mean(played.episode_return)))
    return found


def make_page(rows: list[dict[str, Any]], worth: list[dict[str, Any]]) -> Page:
    """Tables and the figure."""
    return Page(
        "craftax_memory",
        "What recurrent Craftax agents remember",
        ABSTRACT,
        (),
        (memory_table(rows), gap_table(worth), worth_table(worth)),
        {"curves": memory_figure(rows)},
    )


def memory_table(rows: list[dict[str, Any]]) -> Table:
    """One row for each width and checkpoint."""
    body = []
    for row in rows:
        capacities = [interval(np.nansum(row[name], axis=1), ".2f") for name in ("plant", "facing")]
        body.append([row["width"], row["step"], *capacities])
    header = ("width", "step", "plant in view", "direction")
    return Table("Memory capacity", header, body, MEMORY_NOTE)


def gap_table(worth: list[dict[str, Any]]) -> Table:
    """Two rows for each width."""
    body = []
    for row in worth:
        for k, name in enumerate(("plant in view", "direction")):
            within, across = (np.array(row[place])[:, k] for place in ("within", "across"))
            cells = (interval(x, ".3f") for x in (within, across, within - across))
            body.append([row["width"], name, *cells])
    header = ("width", "of", "within an episode", "across a beginning", "gap")
    return Table("Reset gap", header, body, GAP_NOTE)


def worth_table(worth: list[dict[str, Any]]) -> Table:
    """One row for each width."""
    body = []
    for row in worth:
        with_memory, without = np.array(row["remembering"]), np.array(row["forgetting"])
        both = (with_memory, without, with_memory - without)
        body.append([row["width"], *(interval(x, ".2f") for x in both)])
    return Table("What it is worth", ("width", "return", "forgetting", "gap"), body, WORTH_NOTE)


def memory_figure(rows: list[dict[str, Any]]) -> Figure:
    """The excess against the lag: a panel for each width, a line for each checkpoint."""
    widths = sorted({row["width"] for row in rows})
    with styled():
        figure = new_figure((2.9 * len(widths) + 0.6, 4.9))
        axes = figure.subplots(2, len(widths), sharex=True, sharey="row", squeeze=False)
        for line, (name, label) in zip(axes, SHOWN.items(), strict=True):
            line[0].set_ylabel(f"share of variance explained:\n{label}")
            for axis, width in zip(line, widths, strict=True):
                _panel(axis, [row for row in rows if row["width"] == width], name)
        for top, bottom, width in zip(axes[0], axes[-1], widths, strict=True):
            top.set_title(f"width {width}")
            bottom.set_xlabel("lag in steps")
        axes[0, 0].set_xticks([1, 4, 8, 12, 16])
        handles = axes[0, 0].get_legend_handles_labels()[0]
        handles += [
            Line2D([], [], color=MUTED, lw=0.6, label="each seed"),
            Line2D([], [], color=MUTED, lw=0.8, ls=":", label="no more than the null"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _panel(axis: Any, rows: list[dict[str, Any]], name: str) -> None:
    """The checkpoints of one width: thin lines for seeds, a thick one for their mean."""
    for row, color in zip(rows, COLORS, strict=False):
        label = f"after {row['step']:,} steps, mean over seeds"
        axis.plot(row["lags"], np.mean(row[name], axis=0), color=color, lw=1.5, label=label)
        axis.plot(row["lags"], np.transpose(row[name]), color=color, lw=0.6, alpha=0.6)
    axis.axhline(0.0, color=MUTED, lw=0.8, ls=":")


if __name__ == "__main__":
    sys.exit(main())

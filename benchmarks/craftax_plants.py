"""Plants per episode of PPO on Craftax-Classic: what reward, memory and sight do to the curve.

    python -m benchmarks.craftax_plants [--variants default seen ...] [--seeds 3] [--steps 6e5]
    python -m benchmarks.craftax_plants --page     # of the rows that are stored

Trains every variant into RUNS (resumable) and writes `craftax_plants.md`, `.json` and a figure;
what is trained already is only measured again. `--page` draws the effects with the seed at random
again: all else on the page is read from the rows, and stays as it was. All variants use the
protocol of the reference: 64 environments x 64 steps, maps of 32 x 32 from a pool of 1,024 worlds,
two networks of 2 x 128 tanh units unless a recurrent width is named. Curves are ratios of sums over
windows of eight updates (32,768 steps); forms are fitted to windows of three.
"""

import argparse
import json
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks import pages
from benchmarks.analysis import interval
from benchmarks.craftax_effects import effects_table, fitted_landmarks, random_seed_table
from benchmarks.pages import Page, write_page
from slt_rl.agents import LearningSpec, NetworkSpec, Run, RunSpec, WorldSpec, load_run
from slt_rl.agents.command import Bar
from slt_rl.agents.figures import COLORS
from slt_rl.agents.training import train_run
from slt_rl.development import (
    compare_forms,
    event_curves,
    fit_form,
    landmarks,
    overshoot_p_value,
    rise_decay,
)
from slt_rl.report import Table
from slt_rl.report.style import INK, MUTED, new_figure, styled

# What differs from the default, for world and network.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "unrewarded": ({"achievements": {"place_plant": 0.0}}, {}),
    "every": ({"events": {"plant": 1.0}, "achievements": {"place_plant": 0.0}}, {}),
    "seen": ({"see_achievements": True}, {}),
    "costly": ({"actions": {"place_plant": 0.02}}, {}),
    "no_health": ({"health": 0.0}, {}),
    "gru_8": ({}, {"width": 8}),
    "gru_32": ({}, {"width": 32}),
    "gru_128": ({}, {"width": 128}),
}
MEANING = {
    "default": "the game's own reward",
    "unrewarded": "placing a plant pays nothing",
    "every": "every plant pays 1, not only the first",
    "seen": "the observation ends with the flags of the achievements",
    "costly": "choosing PLACE_PLANT costs 0.02, with or without effect",
    "no_health": "no reward for health",
    "gru_8": "recurrent, width 8",
    "gru_32": "recurrent, width 32",
    "gru_128": "recurrent, width 128",
}
# Updates in a window of the shown curves, and of those that forms are fitted to: the rise is short.
WINDOW, FIT_WINDOW = 8, 3
RATES = ("collect_sapling", "place_plant", "wake_up", "place_table", "collect_wood")
ABSTRACT = (
    "Agents find that placing a plant is rewarded, place many, and come back to few. Each variant "
    "changes one thing. 64 environments x 64 steps, maps of 32 x 32 from a pool of 1,024 worlds, "
    "two networks of 2 x 128 tanh units unless a recurrent width is named."
)
NOTE = (
    "Mean over seeds with its 95 % Student interval. Peak: largest window of eight updates (32,768 "
    "steps), biased up. Final, return, length and probabilities: last tenth of the run. Form of "
    "each seed: smallest BIC, on windows of three updates; forms joined by = are tied. CPU "
    "seconds include making the worlds "
    "and compilation, on a machine shared with other work. Figure: windows of each seed (colors) "
    "with standard errors over episodes, the fitted rise and decay of the mean over seeds (line), "
    "and one plant per episode (dotted)."
)


def main() -> int:
    """Trains all variants, one after the other, and writes the results of all."""
    parser = pages.parser(__doc__)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=float, default=6e5)
    parser.add_argument("--runs", type=Path, default=Path("results/craftax_plants"))
    parser.add_argument("--page", action="store_true", help="train and measure nothing")
    options = parser.parse_args()
    if options.page:
        redraw_page(options.out)
        return 0
    rows = [train_variant(name, options) for name in options.variants]
    write_page(make_page(rows), rows, vars(options), folder=options.out)
    return 0


def redraw_page(folder: Path) -> None:
    """Makes the page of the stored rows, and says what of it is new and how that was made."""
    stored = pages.read_json(pages.RESULTS / "craftax_plants.json")
    rows = stored.pop("rows")
    now = pages.how_made([], {})
    redrawn = {name: now[name] for name in ("command", "date", "commit", "versions")}
    write_page(
        make_page(rows, redrawn), rows, {}, folder=folder, made=stored | {"redrawn": redrawn}
    )


def variant_spec(name: str, num_seeds: int, steps: float) -> RunSpec:
    """The description of a variant; a checkpoint after at least every hundredth of the run."""
    world, network = VARIANTS[name]
    learning = LearningSpec()
    return RunSpec(
        world=WorldSpec(**world),
        network=NetworkSpec(**network),
        learning=learning,
        seeds=tuple(range(num_seeds)),
        num_updates=round(steps / (learning.num_envs * learning.num_steps)),
    )


def train_variant(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Trains one variant and measures its curves."""
    folder = options.runs / name
    # Written at the end of training.
    cost = folder / "cost.json"
    if not cost.exists():
        spec = variant_spec(name, options.seeds, options.steps)
        start, cpu = time.perf_counter(), time.process_time()
        with Bar(spec) as bar:
            train_run(spec, folder, progress=bar)
        spent = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
        cost.write_text(json.dumps({"steps": bar.steps_done, **spent}))
    return {"variant": name, **json.loads(cost.read_text()), **measured(load_run(folder))}


def measured(run: Run) -> dict[str, Any]:
    """Landmarks of the plants per episode of each seed, and rates over the last tenth."""
    totals = run.totals()
    curves = event_curves(totals, window=WINDOW)
    plant = run.event_names.index("plant")
    plants, sem = curves.per_episode[..., plant], curves.sem[..., plant]
    steps = (np.arange(plants.shape[1]) + 0.5) * WINDOW * run.spec.steps_per_update
    found = [landmarks(steps, row, num_end=2) for row in plants]
    last = event_curves(totals, window=max(1, (totals.steps.shape[0] - 1) // 10))
    rates = last.per_episode[:, -1]
    fine = event_curves(totals, window=FIT_WINDOW).per_episode[..., plant]
    fine_steps = (np.arange(fine.shape[1]) + 0.5) * FIT_WINDOW * run.spec.steps_per_update
    forms = [compare_forms(fine_steps, row) for row in fine]
    return {
        "window_steps": steps.tolist(),
        "plants": plants.round(4).tolist(),
        "plants_sem": sem.round(4).tolist(),
        "plants_per_1000_steps": (1000 * curves.per_step[..., plant]).round(4).tolist(),
        "peak": [f.peak for f in found],
        "peak_step": [f.peak_step for f in found],
        "half_decay_step": [f.half_decay_step for f in found],
        "final": rates[:, plant].tolist(),
        "overshoot_p": [
            overshoot_p_value(0, y, e, num_end=2) for y, e in zip(plants, sem, strict=True)
        ],
        "return": [last_return(run.statistics(seed)) for seed in run.seeds],
        "length": last.mean_length[:, -1].tolist(),
        "rates": {a: rates[:, run.event_names.index(f"achievement/{a}")].tolist() for a in RATES},
        "form": [" = ".join(f.tied) for f in forms],
        "form_params": [f.fits[0].params.tolist() for f in forms],
        "form_names": [list(f.fits[0].form.names) for f in forms],
        "fine_steps": fine_steps.tolist(),
        "fine_plants": fine.round(4).tolist(),
        "fitted": [fitted_landmarks(fine_steps, row) for row in fine],
    }


def last_return(statistics: dict[str, np.ndarray]) -> float:
    """Mean return of the episodes that ended in the last tenth of the run."""
    tenth = max(1, statistics["num_episodes"].size // 10)
    total, number = (statistics[k][-tenth:].sum() for k in ("total_return", "num_episodes"))
    return float(total / number)


def make_page(rows: list[dict[str, Any]], redrawn: Mapping[str, Any] | None = None) -> Page:
    """Tables and the figure of some variants.

    Args:
        rows: Of the variants.
        redrawn: How the effects with the seed at random were made, if not with all the rest.
    """
    meaning = [(row["variant"], MEANING[row["variant"]]) for row in rows]
    return Page(
        "craftax_plants",
        "Plants per episode of PPO on Craftax-Classic",
        ABSTRACT,
        (),
        (
            results_table(rows),
            effects_table(rows),
            random_seed_table(rows, redrawn),
            Table("Variants", ("variant", "what differs"), meaning),
        ),
        {"curves": curves_figure(rows)},
    )


def results_table(rows: list[dict[str, Any]]) -> Table:
    """One row for each variant."""
    columns = ("peak", "peak_step", "half_decay_step", "final", "return", "length")
    header = ["variant", *columns, "P(sapling)", "P(plant)", "form", "steps per CPU s"]
    body = []
    for row in rows:
        cells = [interval(row[c], ".0f" if c.endswith("step") else ".2f") for c in columns]
        rates = [row["rates"][name] for name in ("collect_sapling", "place_plant")]
        cells += [interval(values, ".2f") for values in rates]
        speed = row["steps"] / row["cpu_seconds"] if row["steps"] else None
        body.append([row["variant"], *cells, ", ".join(row["form"]), speed])
    return Table("Landmarks", header, body, NOTE)


def curves_figure(rows: list[dict[str, Any]]) -> Figure:
    """Plants per episode of every seed with its fitted form, one panel for each variant."""
    columns = min(3, len(rows))
    height = -(-len(rows) // columns)
    with styled():
        figure = new_figure((3.2 * columns, 2.2 * height + 0.4))
        axes = figure.subplots(height, columns, sharex=True, squeeze=False)
        for axis, row in zip(axes.flat, rows, strict=False):
            _panel(axis, row)
        for axis in list(axes.flat)[len(rows) :]:
            axis.set_visible(False)
        for axis in axes[:, 0]:
            axis.set_ylabel("plants per episode")
        for axis in axes[-1]:
            axis.set_xlabel("environment steps (million)")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _panel(axis: Any, row: dict[str, Any]) -> None:
    """Records with their standard errors, and the fitted rise and decay of the mean of seeds."""
    fine, mean = np.array(row["fine_steps"]) / 1e6, np.mean(row["fine_plants"], axis=0)
    fitted = fit_form(fine, mean, rise_decay()).predict(fine)
    axis.plot(fine, fitted, color=INK, label="rise and decay, fitted to the mean over seeds")
    axis.axhline(1.0, color=MUTED, lw=0.8, ls=":", label="one plant per episode")
    steps = np.array(row["window_steps"]) / 1e6
    for seed, (plants, sem) in enumerate(zip(row["plants"], row["plants_sem"], strict=True)):
        look = {
            "color": COLORS[seed % len(COLORS)],
            "label": f"seed {seed}: a window ± its standard error",
        }
        axis.errorbar(steps, plants, sem, fmt="o", ms=2, elinewidth=0.6, **look)
    axis.tick_params(labelbottom=True)
    axis.set_ylim(0, max(2.7, 1.1 * np.max(row["plants"])))
    title = textwrap.fill(f"{row['variant']}: {MEANING[row['variant']]}", 36)
    axis.set_title(title, fontsize=9, fontweight="normal")


if __name__ == "__main__":
    sys.exit(main())

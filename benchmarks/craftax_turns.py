"""Where the LLC of Craftax-Classic agents turns along training, beside their planting.

    python -m benchmarks.craftax_turns train SEED
    python -m benchmarks.craftax_turns measure SEED [--share K N] [--between A B]
        [--localizations G ...]
    python -m benchmarks.craftax_turns page

`train` makes a run of one seed and its reference states; `measure` takes every N-th checkpoint from
the K-th, so that N processes share a curve, and all between two steps, and goes on where it was
stopped; `page` takes what has been measured of all seeds that were trained, and the rest from the
page that is stored. `--variant every` before the command is of agents with another reward,
see `benchmarks.craftax_plants`.

Stated before any of the seeds below was measured, from one other seed, 0: the LLC of the policy
dips where the plants per episode peak. Chosen before a value of their runs was looked at (what of
it has been measured is in docs/craftax.md):

- Checkpoints: all between 49,152 and 135,168 steps and every sixth of the rest (`--share 0 6
  --between 49152 135168`). The dip at localization 100 decides; there it was the deeper one.
- The lag of the dip behind the peak of the plants, over seeds 1 to 3. The statement holds if its
  95 % interval lies within half a doubling of zero, and fails if it is without zero; in between it
  is open. Seed 0 is left out: the statement came from it.
- One time for all runs, or one cause in each? The mean square of the lags, behind the own peak and
  behind all assignments of the peaks to the seeds: of three seeds six, so that no share of them is
  below 1/6 and this alone can show nothing at a level of 0.05.
- Agents that are paid for every plant (variant `every`) plant more until the end of the run. If the
  dip belongs to the peak of the plants it must leave its place there, come after 200,000 steps or
  not at all; if it belongs to the time in training it must lie where it does in the same seed of
  the game's own reward.
- Localization 300, at the same checkpoints, chosen when 100 had been looked at and before a value
  at 300 was. Known of other runs of these seeds, on two sixths of the checkpoints and none between
  53,000 and 78,000 steps: from 4.1 over 4.9 to 4 and then to 10, a dip in seed 1 alone. A seed has
  a dip if its curve has one and .95 of the resampled curves do, and has none if .05 of them or
  fewer do. The dip is there at both localizations if all seeds have it, at 100 alone if two or more
  have none. It has one time if the 95 % interval over seeds of its lag behind that at 100 lies
  within half a doubling of zero, another if that is without zero and reaches further. The lag
  behind the peak of the plants is judged as at 100, and decides nothing about the cause, which the
  other reward has decided. The steepest rise comes after the steepest fall of the plants at 300
  too if the interval of that lag lies above zero. All else, or a dip that a seed lacks, is open.
- Added when that had been looked at: at 300 the checkpoints before 49,152 too (`--share 0 1000
  --between 0 45056`), since a curve that rises first cannot be read from two of them.
"""

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.craftax_plants import VARIANTS
from benchmarks.craftax_turns_page import Curves, make_page
from benchmarks.pages import how_made, read_json, write_page
from slt_rl.agents import (
    LearningSpec,
    NetworkSpec,
    Run,
    RunSpec,
    Series,
    WorldSpec,
    event_series,
    load_run,
    make_subject,
    measure_points,
    own_states,
    train_run,
)
from slt_rl.agents import folder as files
from slt_rl.agents.command import Bar
from slt_rl.agents.curve import LOCALIZATIONS
from slt_rl.agents.measure import curve_name
from slt_rl.agents.points import FORMAT
from slt_rl.agents.states import States, stored_reference_states
from slt_rl.cli import set_xla_flags
from slt_rl.documents import read_document

NUM_STATES, LEAST_POINTS = 512, 8
# Updates in a window of an event curve: 12,288 steps.
WINDOW = 3
EVENTS = ("plant", "plant per 1000 steps", "excess plant", "try_plant", "sapling", "sleep", "drink")
REWARDED = {"plant": "achievement/place_plant"}


def main() -> int:
    """Trains, measures, or writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("results/craftax_turns"))
    parser.add_argument("--variant", choices=VARIANTS, default="default", help="of the reward")
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train")
    train.add_argument("seed", type=int)
    train.add_argument("--steps", type=float, default=1e6)
    train.set_defaults(run=train_seed)
    measure = commands.add_parser("measure")
    measure.add_argument("seed", type=int)
    measure.add_argument("--share", type=int, nargs=2, default=(0, 1), metavar=("K", "N"))
    measure.add_argument(
        "--between", type=float, nargs=2, default=(np.inf, -np.inf), metavar=("A", "B")
    )
    measure.add_argument("--of-values", action="store_true", help="of the value function")
    measure.add_argument("--own", action="store_true", help="on each checkpoint's own states")
    measure.add_argument("--localizations", type=float, nargs="+", default=list(LOCALIZATIONS))
    measure.set_defaults(run=measure_seed)
    page = commands.add_parser("page")
    page.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    page.set_defaults(run=write_results)
    options = parser.parse_args()
    set_xla_flags(light=False)
    options.run(options)
    return 0


def seed_folder(options: argparse.Namespace, seed: int) -> Path:
    """The run folder of a seed."""
    return variant_folder(options.runs, options.variant) / f"run-{seed}"


def variant_folder(runs: Path, variant: str) -> Path:
    """The folder of the runs of a reward."""
    return runs if variant == "default" else runs / variant


def train_seed(options: argparse.Namespace) -> None:
    """The agent of `slt-rl train craftax-classic`, and its reference states."""
    learning = LearningSpec()
    world, network = VARIANTS[options.variant]
    spec = RunSpec(
        world=WorldSpec(**world),
        network=NetworkSpec(**network),
        learning=learning,
        seeds=(options.seed,),
        num_updates=-int(-options.steps // (learning.num_envs * learning.num_steps)),
    )
    folder = seed_folder(options, options.seed)
    with Bar(spec) as bar:
        train_run(spec, folder, progress=bar)
    print(bar.summary())
    # Last: what waits for it finds a finished run.
    fixed_states(load_run(folder))


def fixed_states(run: Run) -> States:
    """The reference states of a run, stored on the first call."""
    path = run.folder / "curves" / f"states-{NUM_STATES}.safetensors"
    return stored_reference_states(path, run, seed=0, num_states=NUM_STATES)


def measure_seed(options: argparse.Namespace) -> None:
    """A share of the points of one seed."""
    run, seed = load_run(seed_folder(options, options.seed)), options.seed
    first, every = options.share
    is_in_share = np.arange(len(run.steps)) % every == first
    low, high = options.between
    indices = np.flatnonzero(is_in_share | ((low <= run.steps) & (run.steps <= high)))
    states = fixed_states(run)
    if options.own:
        key = jax.random.fold_in(jax.random.key(0), seed)
        states = own_states(key, run, seed, indices=indices, num_states=NUM_STATES)
    subject = make_subject(run, seed, states, indices=indices, of_values=options.of_values)
    name = curve_name(of_values=options.of_values, own=options.own)
    measure_points(
        subject,
        run.folder / "curves" / name / f"seed-{seed}",
        localizations=options.localizations,
        num_threads=1,
        report_fn=lambda point: print(name, point["step"], point["mean"], flush=True),
    )


def write_results(options: argparse.Namespace) -> None:
    """The page of all seeds; what was not measured again stays as the stored page has it."""
    path = options.out / "craftax_turns.json"
    stored = read_json(path)["rows"] if path.exists() else []
    by_name = {name: [row for row in stored if row["variant"] == name] for name in VARIANTS}
    made = how_made((), {"window": WINDOW})
    when = {"commit": made["commit"], "date": made["date"]}
    found = {name: curves_of(options.runs, name, by_name[name], when=when) for name in VARIANTS}
    curves = {name: one for name, one in found.items() if one is not None}
    default = curves.pop("default", None)
    if default is None:
        raise SystemExit(f"{options.runs}: no runs; train some seeds first")
    rows = [
        {"variant": name} | row
        for name, one in {"default": default, **curves}.items()
        for row in [*map(_as_json, [*one.llc, *one.events]), *one.rows]
    ]
    write_page(make_page(default, curves), rows, {}, folder=options.out, made=made)


def curves_of(
    runs: Path, variant: str, stored: Sequence[dict[str, Any]], *, when: Mapping[str, str]
) -> Curves | None:
    """Curves of a reward, of its runs and of the rows of a page; None without either."""
    kept = _from_rows(stored)
    folders = sorted(variant_folder(runs, variant).glob("run-*"))
    if not folders:
        return kept if kept.events else None
    found = gathered(folders)
    found = found._replace(rows=[row | when for row in found.rows])
    return with_kept(found, kept) if kept.events else found


def with_kept(found: Curves, kept: Curves) -> Curves:
    """Curves of the LLC that were measured, and those of a page that were not measured again.

    Raises:
        ValueError: If the events are not those of the page: what was kept is of other runs.
    """
    names = {series.name for series in found.llc}
    pairs = zip(kept.llc, kept.rows, strict=True)
    missing = [pair for pair in pairs if pair[0].name not in names]
    if missing and [*map(_as_json, found.events)] != [*map(_as_json, kept.events)]:
        raise ValueError(f"the stored page is of other runs; measure again: {missing[0][0].name}")
    llc = [*found.llc, *(series for series, _ in missing)]
    return Curves(llc, found.events, [*found.rows, *(row for _, row in missing)])


def gathered(folders: Sequence[Path]) -> Curves:
    """All curves of the runs of one reward."""
    runs = [_described(folder) for folder in folders]
    events = [joined([run[name] for run in runs]) for name in event_names(runs[0])]
    names = sorted(set.intersection(*(set(_points(folder)) for folder in folders)))
    rows = [row for name in names for row in curve_rows(folders, name)]
    # What is still being measured has too few points to turn anywhere.
    rows = [row for row in rows if len(row["series"].steps) >= LEAST_POINTS]
    return Curves([row.pop("series") for row in rows], events, rows)


def event_names(found: dict[str, Series]) -> list[str]:
    """The event curves that are shown."""
    return ["return", *(name for name in EVENTS if name in found)]


def _described(folder: Path) -> dict[str, Series]:
    """The event curves of a run; its checkpoints need not be there."""
    run = Run(folder, files.read_record(folder), np.zeros(0, np.int64))
    return event_series(run, window=WINDOW, rewarded=REWARDED)


def _points(folder: Path) -> dict[str, list[Path]]:
    """Files of the points of each curve, in the order of steps; where `slt-rl curve` looks too."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("curves/*/seed-*/step-*.json")):
        found.setdefault(path.parent.parent.name, []).append(path)
    return found


def curve_rows(folders: Sequence[Path], name: str) -> list[dict[str, Any]]:
    """A curve of all seeds for each localization, with its verdicts and regimes."""
    found = [
        [read_document(path, FORMAT)["point"] for path in _points(folder)[name]]
        for folder in folders
    ]
    seeds = [int(folder.name.removeprefix("run-")) for folder in folders]
    rows = []
    for localization in sorted({point["localization"] for point in found[0]}, reverse=True):
        chosen = [[p for p in points if p["localization"] == localization] for points in found]
        title = f"LLC {name} at localization {localization:g}"
        parts = [_llc(title, seed, points) for seed, points in zip(seeds, chosen, strict=True)]
        words = {
            name: [[point[word] for point in points] for points in chosen]
            for name, word in (("steps", "step"), ("verdict", "verdict"), ("regime", "regime"))
        }
        rows.append({"curve": title, "seeds": seeds, **words, "series": joined(parts)})
    return rows


def _llc(title: str, seed: int, points: Sequence[dict[str, Any]]) -> Series:
    """The points of one seed as a curve."""
    # None, for what is not finite, becomes nan.
    steps, mean, sem = (
        np.array([point[name] for point in points], float) for name in ("step", "mean", "sem")
    )
    return Series(title, "LLC", steps, mean[None], sem[None], (seed,))


def joined(parts: Sequence[Series]) -> Series:
    """One curve of several seeds, at the steps at which all of them have a number."""
    each = [part.steps[np.isfinite(part.values).all(axis=0)] for part in parts]
    steps = functools.reduce(np.intersect1d, each)
    places = [np.searchsorted(part.steps, steps) for part in parts]
    return parts[0]._replace(
        steps=steps,
        values=np.concatenate([p.values[:, at] for p, at in zip(parts, places, strict=True)]),
        sem=np.concatenate([p.sem[:, at] for p, at in zip(parts, places, strict=True)]),
        seeds=tuple(seed for part in parts for seed in part.seeds),
    )


def _as_json(series: Series) -> dict[str, Any]:
    """A curve as plain values."""
    return {
        name: value.round(5).tolist() if isinstance(value, np.ndarray) else value
        for name, value in series._asdict().items()
    }


def _from_json(row: Mapping[str, Any]) -> Series:
    """The inverse of `_as_json`."""
    arrays = {name: np.array(row[name], float) for name in ("steps", "values", "sem")}
    words = {name: row[name] for name in ("name", "unit", "is_share")}
    return Series(**words, **arrays, seeds=tuple(row["seeds"]))


def _from_rows(stored: Sequence[Mapping[str, Any]]) -> Curves:
    """Curves of a stored page, of one reward."""
    series = [_from_json(row) for row in stored if "name" in row]
    rows = [
        {name: value for name, value in row.items() if name != "variant"}
        for row in stored
        if "curve" in row
    ]
    llc = [one for one in series if one.unit == "LLC"]
    return Curves(llc, [one for one in series if one.unit != "LLC"], rows)


if __name__ == "__main__":
    sys.exit(main())

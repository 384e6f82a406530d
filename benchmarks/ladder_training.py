"""Training on every rung of the ladder, and the transitions that the curves along it show.

    python -m benchmarks.ladder_training [--runs 3] [--rungs 1 3 6] [--share I/N] [--out DIR]
    python -m benchmarks.ladder_training --validated results/validate

Writes `ladder_training.md`, `.json`, `ladder_training_curves.svg`; a run that was killed goes on.
The second form scores rungs 0 and 2 along the runs that `slt-rl validate` has trained and measured,
and writes `ladder_training_main*`.
"""

import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from benchmarks import pages, rows, runs
from benchmarks.ladder_training_page import (
    as_row,
    checks,
    draw,
    order_table,
    score_table,
    source_table,
    training_table,
)
from slt_rl.array_files import load_arrays
from slt_rl.difficulty.measure import VERDICTS
from slt_rl.difficulty.rungs import Rung, ladder_rungs
from slt_rl.difficulty.trained import TRAINING, TrainingProtocol, train_rung
from slt_rl.difficulty.trained_curves import (
    measure_run,
    names_of,
    score_curves,
)
from slt_rl.validation.curve_checks import Measured
from slt_rl.validation.curves import choose_runs
from slt_rl.validation.store import open_store

MAIN_NAMES = {
    "supervised": "squared error",
    "regret": "sampled regret",
    "kl": "KL",
    "exact_regret": "exact regret",
    "exact_kl": "exact KL",
}
MAIN_RUN = (
    "Rungs 0 and 2, along the runs that the main run has trained and measured: eight runs of each, "
    "80 checkpoints, n = 1000, localization 10. Transitions are found from the curves of regret "
    "and coefficient, together and one at a time, and scored against the classes of the "
    "checkpoints by their levels, within three records."
)


def main() -> int:
    """Trains and measures what is missing, then writes the results."""
    parser = runs.parser(__doc__)
    parser.add_argument("--runs", type=int, default=3, help="measured runs of each rung")
    parser.add_argument(
        "--rungs",
        type=int,
        nargs="+",
        choices=TRAINING.estimates.rungs,
        default=TRAINING.estimates.rungs,
        help="rungs that are trained, and on the page; all by default",
    )
    parser.add_argument("--validated", type=Path, help="folder of a finished main run")
    parser.add_argument("--work", type=Path, default=rows.WORK / "ladder_training")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    if options.validated is None:
        name, text = "ladder_training", abstract(TRAINING, options.runs, options.rungs)
        wanted = sorted(options.rungs)[options.share]
        climbed, seconds = climb(TRAINING, options.work, options.runs, wanted=wanted)
        if options.share != rows.EVERY_CASE:
            return 0
    else:
        name, text, seconds = "ladder_training_main", MAIN_RUN, []
        climbed = main_run(options.validated)
    scores = [score_curves(r, m, name) for r, m in climbed for name in names_of(r)]
    page = pages.Page(
        name,
        "Training on the rungs of the ladder",
        text,
        checks(climbed, scores),
        [training_table(climbed), score_table(scores), source_table(scores), order_table(scores)],
        {"curves": draw(climbed)},
    )
    found = [as_row(score) for score in scores] + [{"stage": k, "seconds": v} for k, v in seconds]
    settings = {"seed": TRAINING.estimates.seed, "protocol": TRAINING.name}
    pages.write_page(page, found, settings, folder=options.out)
    return 0


def climb(
    protocol: TrainingProtocol, work: Path, num_measured: int, *, wanted: Sequence[int]
) -> tuple[list[tuple[Rung, Measured]], list[tuple[str, float]]]:
    """Trains rungs and measures runs of each, as far as the folder does not hold them.

    The first run of every rung comes before the second of any. Rung 3 goes on from the runs of rung
    2, which is then trained too.
    """
    needed = {*wanted, 2} if 3 in wanted else set(wanted)
    store = open_store(work, protocol)
    key = jax.random.key(protocol.estimates.seed)
    keys = {r: jax.random.split(jax.random.fold_in(key, r)) for r in protocol.estimates.rungs}
    chosen = [rung for rung in ladder_rungs() if rung.number in needed]
    found: dict[int, Measured] = {}
    seconds: dict[str, float] = {}
    for rung in chosen:
        start = found[2].training if rung.number == 3 else {}
        compute = functools.partial(train_rung, keys[rung.number][0], rung, protocol, start=start)
        stage = store.stage(f"rung_{rung.number}", compute)
        seconds[f"rung {rung.number}"] = stage.seconds
        found[rung.number] = Measured(rung.title, stage.arrays, np.array([], int), [])
    passes = [
        (count, rung)
        for count in range(1, num_measured + 1)
        for rung in chosen
        if rung.number in wanted
    ]
    for count, rung in tqdm(passes, disable=None):
        measured = found[rung.number]
        runs, curves = choose_runs(measured.training, count), []
        for run in runs:
            part = jax.random.fold_in(keys[rung.number][1], int(run))
            compute = functools.partial(
                measure_run, part, rung, measured.training, run=int(run), protocol=protocol
            )
            stage = store.stage(f"rung_{rung.number}_run_{run}", compute)
            seconds[f"rung {rung.number} run {run}"] = stage.seconds
            curves.append(stage.arrays)
        found[rung.number] = measured._replace(runs=runs, curves=curves)
    climbed = [(rung, found[rung.number]) for rung in chosen if rung.number in wanted]
    return climbed, list(seconds.items())


def main_run(folder: Path) -> list[tuple[Rung, Measured]]:
    """Rungs 0 and 2 as the main run has trained and measured them, with its own labels."""
    rungs = {rung.number: rung for rung in ladder_rungs()}
    found = []
    for number, stem in ((0, "sgd"), (2, "ppo")):
        load = functools.partial(_stage_of, folder)
        curves = {
            int(path.stem.rpartition("_")[2]): load(path.stem)
            for path in (folder / "stages").glob(f"{stem}_curves_*.safetensors")
        }
        runs = np.array(sorted(curves))
        renamed = [_renamed(curves[run]) for run in runs]
        found.append((rungs[number], Measured(rungs[number].title, load(stem), runs, renamed)))
    return found


def _stage_of(folder: Path, name: str) -> Mapping[str, np.ndarray]:
    return load_arrays(folder / "stages" / f"{name}.safetensors")[0]


def _renamed(curve: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A curve of the main run under the names of the ladder."""
    found = {}
    for old, new in MAIN_NAMES.items():
        found |= {f"{new}_{k}": curve[f"{old}_{k}"] for k in ("mean", "sem")}
        verdicts = [VERDICTS.index(str(v)) for v in curve[f"{old}_verdict"]]
        found[f"{new}_verdict"] = np.array(verdicts)
    return found


def abstract(protocol: TrainingProtocol, num_measured: int, numbers: Sequence[int]) -> str:
    """What was done, in a paragraph."""
    sizes = protocol.estimates
    listed = ", ".join(map(str, sorted(numbers)))
    return (
        f"{protocol.num_runs} runs of the toy model of superposition on rungs {listed} of "
        f"the ladder, {protocol.num_records} checkpoints each; along {num_measured} runs of each, "
        "chosen by their classes alone, the learning coefficient under every potential "
        f"(n = {sizes.num_examples}, localization {sizes.localization:g}). Transitions are found "
        "from the curves of regret and coefficient with the options of the main run, and scored "
        "against the classes of the checkpoints, within three records."
    )


if __name__ == "__main__":
    sys.exit(main())

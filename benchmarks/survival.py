"""Kills toy-size runs at random moments, starts them again, compares with runs left alone.

    python -m benchmarks.survival [--kills train=48 validate=24 ...] [--out benchmarks/results]

Each of four stages is started in a process of its own, killed (SIGKILL) at a moment drawn evenly
from half its way to the first result to its usual end, and started again until it ends; then its
files are compared with those of a run that was left alone, bit for bit. The processes are forked
before anything is computed, so that no time goes into imports. Writes `survival.md` and `.json`; a
run that was killed itself goes on with the next part. Parts of a stage are kills of their own, with
moments of their own, so that processes can divide them:

    for i in 0 1 2 3 4 5 6 7; do python -m benchmarks.survival --parts 2 --share $i/8 & done; wait
    python -m benchmarks.survival --parts 2
"""

import argparse
import contextlib
import json
import math
import os
import random
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from benchmarks import pages, runs
from benchmarks.rows import EVERY_CASE, WORK, open_journal
from benchmarks.survival_stages import STAGES
from slt_rl.array_files import load_arrays
from slt_rl.report.style import MUTED, new_figure, styled

# Kills of each stage: most of them where a start is cheap.
KILLS = {"train": 48, "validate": 24, "curve": 48, "points": 16}
# The stages whose kills a target is set for; `points` is a curve measured another way.
ASKED = ("train", "validate", "curve")
# What is drawn from the numbers, with the time in it.
PICTURES = (".html", ".pdf", ".png", ".svg")
# Facts of a process and not of a run, as are the seconds and the compiled programs of a stage.
OF_THE_PROCESS = ("peak memory", "one compilation")
ABSTRACT = (
    "A moment is drawn for each start, in seconds of the processors, evenly from half the way to "
    "the first result to the end of a run that was left alone; a killed run is started again until "
    "it ends. Compared are all arrays, points, indices and, for `validate`, the checks and tables "
    "of `summary.json` but for peak memory and the number of programs of the process."
)
NOTE = (
    "`into work`: kills of a start that had written something of its own; `before it`: kills while "
    "it still read what was there, compiled, or computed its first result. `with "
    "results`: kills that left results on disk, of that start or of one before."
)


def main() -> int:
    """Kills every stage and writes the results."""
    parser = runs.parser(__doc__)
    kills = [f"{name}={number}" for name, number in KILLS.items()]
    parser.add_argument("--kills", nargs="+", type=parse_kills, default=kills, metavar="STAGE=N")
    parser.add_argument("--parts", type=int, default=1, help="so many of each stage")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    prepare()
    settings = {name: getattr(options, name) for name in ("parts", "seed")}
    settings["kills"] = dict(parse_kills(k) if isinstance(k, str) else k for k in options.kills)
    parts = [(name, part) for name in settings["kills"] for part in range(options.parts)]
    rows = kill_all(parts[options.share], settings)
    if options.share != EVERY_CASE:
        return 0
    page = make_page(by_stage(rows))
    pages.write_page(page, rows, settings, folder=options.out)
    return 0 if all(check.held for check in page.checks) else 1


def parse_kills(text: str) -> tuple[str, int]:
    """A stage and its kills, "train=48"."""
    name, _, number = text.partition("=")
    if name not in STAGES or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text!r}, expected STAGE=N of {', '.join(STAGES)}")
    return name, int(number)


def kill_all(parts: list[tuple[str, int]], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of parts of stages, those that are missing measured."""
    journal = open_journal("survival", settings, "benchmarks/survival*.py")
    for name, part in parts:
        if (name, part) not in journal.read():
            start, folder = time.perf_counter(), WORK / "survival" / f"{name}-{part}"
            kills = math.ceil(settings["kills"][name] / settings["parts"])
            row = torture(name, folder, kills=kills, seed=(settings["seed"], part))
            seconds = round(time.perf_counter() - start, 1)
            journal.append({"case": name, "key": part, "seconds": seconds, **row})
    rows = journal.read()
    return [rows[part] for part in parts]


def by_stage(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each stage: its parts added, and the means of their seconds."""
    found = []
    for name in dict.fromkeys(row["stage"] for row in rows):
        parts = [row for row in rows if row["stage"] == name]
        row = {"stage": name} | {n: sum(part[n] for part in parts) for n in ("runs", "different")}
        row |= {n: [x for part in parts for x in part[n]] for n in ("kills", "errors")}
        row |= {n: sum(part[n] for part in parts) / len(parts) for n in ("first", "end")}
        found.append(row)
    return found


def torture(name: str, folder: Path, *, kills: int, seed: tuple[int, int]) -> dict[str, Any]:
    """Kills one stage so many times, over as many runs as that takes.

    Args:
        name: The stage.
        folder: Where its runs are written; emptied first.
        kills: How many.
        seed: That of the benchmark, and the part of the stage: they decide the moments.

    Returns:
        Seconds of a run left alone to its first result and to its end; of every kill its moment in
        the same seconds, whether that start had written anything, and what share of all results was
        on disk; runs that ended, how many of them differ, and the errors of restarts.
    """
    shutil.rmtree(folder, ignore_errors=True)
    chance = random.Random(f"{seed} {name}")
    run(name, folder / "warm", math.inf)
    whole = run(name, folder / "whole", math.inf)
    assert not whole.said, whole.said
    most = len(results(folder / "whole"))
    row: dict[str, Any] = {"stage": name, "first": whole.first, "end": whole.seconds}
    row |= {"kills": [], "runs": 0, "different": 0, "errors": []}
    with tqdm(total=kills, desc=folder.name, disable=None) as bar:
        while len(row["kills"]) < kills:
            torn = folder / "torn"
            shutil.rmtree(torn, ignore_errors=True)
            while (ended := _run_a_while(name, torn, chance, whole)).said == "killed":
                wrote = ended.first < math.inf
                done = round(len(results(torn)) / most, 3)
                row["kills"].append({"moment": ended.seconds, "wrote": wrote, "done": done})
                bar.update()
            row["runs"] += 1
            row["errors"] += [ended.said] if ended.said else []
            row["different"] += not ended.said and contents(torn) != contents(folder / "whole")
    return row


class Ended(NamedTuple):
    """Seconds to the first thing written (or infinity) and to the end; "", "killed" or an error."""

    first: float
    seconds: float
    said: str


def _run_a_while(name: str, folder: Path, chance: random.Random, whole: Ended) -> Ended:
    return run(name, folder, chance.uniform(whole.first / 2, whole.seconds))


def run(name: str, folder: Path, moment: float) -> Ended:
    """Starts a stage in a process of its own and kills it after so many seconds, if it still runs.

    Seconds are those that the processors spent on it: other work on the machine does not count.
    """
    said, first, spent = folder.parent / f"{folder.name}.log", math.inf, 0.0
    before = results(folder)
    process = os.fork()
    if process == 0:
        become(name, folder, said)
    while not (found := os.waitpid(process, os.WNOHANG))[0]:
        spent = processor_seconds(process)
        if first == math.inf and not results(folder).items() <= before.items():
            first = spent
        if spent > moment:
            os.kill(process, signal.SIGKILL)
            found = os.waitpid(process, 0)
            break
        time.sleep(0.01)
    if os.waitstatus_to_exitcode(found[1]) == -signal.SIGKILL:
        return Ended(first, spent, "killed")
    return Ended(first, spent, "" if found[1] == 0 else said.read_text().strip().splitlines()[-1])


def processor_seconds(process: int) -> float:
    """Seconds that a process has computed, all its threads together."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def results(folder: Path) -> dict[Path, int]:
    """Files of results in a folder, when they were written; a description of a run is none."""
    found = {}
    # Folders and files may vanish meanwhile, which `os.walk` passes over.
    for place, _, names in os.walk(folder):
        for name in names:
            if name != "run.json" and not name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    found[Path(place, name)] = os.stat(Path(place, name)).st_mtime_ns
    return found


def become(name: str, folder: Path, said: Path) -> NoReturn:
    """Runs a stage and ends this process, which has imported everything and computed nothing."""
    said.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        STAGES[name](folder)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def prepare() -> None:
    """Settings that every stage inherits: the CPU, and one warm cache of compiled programs."""
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    os.environ["MPLBACKEND"] = "Agg"
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_compilation_cache_dir", str(WORK / "survival" / "cache"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # It warns of locks that threads of JAX may hold: none has been started.
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)


def contents(folder: Path) -> dict[str, Any]:
    """All numbers of a finished run by file; what a killed write left beside them is left out."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or path.name.startswith(".") or path.suffix in PICTURES:
            continue
        if path.suffix == ".safetensors":
            arrays, metadata = load_arrays(path)
            metadata.pop("seconds", None)
            arrays.pop("programs", None)
            found[name] = {k: _bits(v) for k, v in arrays.items()} | {"metadata": metadata}
        elif path.name == "summary.json":
            found[name] = _numbers(json.loads(path.read_text()))
        elif path.name == "index.json":
            # The digest of a file depends on the order of names in its header, which is not fixed;
            # the arrays of each file are compared themselves.
            records = json.loads(path.read_text())["checkpoints"]
            found[name] = [(record["step"], record["file"]) for record in records]
        else:
            found[name] = path.read_bytes()
    return found


def _bits(array: np.ndarray) -> tuple:
    return str(array.dtype), array.shape, array.tobytes()


def _numbers(summary: Mapping[str, Any]) -> Any:
    checks = {c["name"]: c["value"] for c in summary["checks"] if c["name"] not in OF_THE_PROCESS}
    return json.dumps([checks, summary["tables"]])


def make_page(rows: list[dict[str, Any]]) -> pages.Page:
    """The results as a page."""
    kills = sum(len(row["kills"]) for row in rows if row["stage"] in ASKED)
    runs = sum(row["runs"] for row in rows)
    same = runs - sum(row["different"] + len(row["errors"]) for row in rows)
    checks = [
        pages.Check(
            "kills",
            f"kills (SIGKILL) at random moments over {', '.join(ASKED)}",
            ">= 100",
            kills,
            kills >= 100,
            f"{sum(len(row['kills']) for row in rows)} with all stages",
        ),
        pages.Check(
            "same",
            "runs that ended with the numbers of a run left alone, bit for bit",
            f"all {runs}",
            same,
            same == runs,
        ),
    ]
    tables, figures = [_table(rows)], {"kills": kill_figure(rows)}
    return pages.Page("survival", "Killed and started again", ABSTRACT, checks, tables, figures)


def kill_figure(rows: list[dict[str, Any]]) -> Figure:
    """Every kill: how long that start had run, and what share of the results was on disk."""
    with styled():
        figure = new_figure((2.3 * len(rows) + 0.5, 2.9))
        axes = figure.subplots(1, len(rows), sharey=True, squeeze=False)[0]
        for axis, row in zip(axes, rows, strict=True):
            for wrote, label in ((True, "into work"), (False, "before it")):
                kills = [kill for kill in row["kills"] if kill["wrote"] == wrote]
                points = [kill["moment"] for kill in kills], [kill["done"] for kill in kills]
                axis.plot(*points, "o", ms=4, mew=0.9, color="#2b83c6", label=label,
                          mfc="#2b83c6" if wrote else "none", clip_on=False)  # fmt: skip
            axis.axvline(row["first"], color=MUTED, lw=0.9, ls=":", label="first result")
            axis.axvline(row["end"], color=MUTED, lw=0.9, label="end, left alone")
            axis.set(title=row["stage"], ylim=(0, 1), xlim=(0, 1.05 * row["end"]))
        axes[0].set_ylabel("share of the results on disk")
        figure.supxlabel("processor seconds of the start that was killed", fontsize=9)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def _table(rows: list[dict[str, Any]]) -> pages.Table:
    header = ("stage", "first result, s", "end, s", "kills", "into work", "before it")
    header += ("with results", "share on disk at a kill: least, median, most")
    header += ("runs", "other numbers", "errors")
    cells = []
    for row in rows:
        kills = row["kills"]
        into = sum(kill["wrote"] for kill in kills)
        shares = [kill["done"] for kill in kills]
        spread = ", ".join(f"{x:.2f}" for x in np.quantile(shares, (0, 0.5, 1)))
        some = sum(share > 0 for share in shares)
        cells.append(
            (row["stage"], f"{row['first']:.2f}", f"{row['end']:.2f}", len(kills), into)
            + (len(kills) - into, some, spread)
            + (row["runs"], row["different"], "; ".join(row["errors"]) or 0)
        )
    return pages.Table("Stages", header, cells, NOTE)


if __name__ == "__main__":
    sys.exit(main())

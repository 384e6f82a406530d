"""Kills toy-size runs at random moments, starts them again, compares with runs left alone.

    python -m benchmarks.survival [--kills 30] [--parts 1] [--out benchmarks/results]

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
import dataclasses
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
from typing import Any, NoReturn

import jax
import numpy as np
from tqdm import tqdm

from benchmarks.rows import EVERY_CASE, WORK, Journal, add_share_argument, source_digest
from benchmarks.survival_stages import STAGES
from slt_rl.array_files import load_arrays
from slt_rl.report import collect_provenance

# What is drawn from the numbers, with the time in it.
PICTURES = (".html", ".pdf", ".png", ".svg")
# Facts of a process and not of a run, as are the seconds and the compiled programs of a stage.
OF_THE_PROCESS = ("peak memory", "one compilation")


def main() -> int:
    """Kills every stage and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="of each stage, at least")
    parser.add_argument("--parts", type=int, default=1, help="so many of each stage")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    add_share_argument(parser)
    options = parser.parse_args()
    prepare()
    settings = {name: getattr(options, name) for name in ("kills", "parts", "seed")}
    parts = [(name, part) for name in options.stages for part in range(options.parts)]
    rows = kill_all(parts[options.share], settings)
    if options.share != EVERY_CASE:
        return 0
    provenance = collect_provenance(settings, {"survival": sum(row["took"] for row in rows)})
    options.out.mkdir(parents=True, exist_ok=True)
    record = {"rows": rows, **dataclasses.asdict(provenance)}
    (options.out / "survival.json").write_text(json.dumps(record, indent=1, default=str) + "\n")
    (options.out / "survival.md").write_text(as_markdown(by_stage(rows), options, provenance))
    return 0 if all(not row["different"] and not row["errors"] for row in rows) else 1


def kill_all(parts: list[tuple[str, int]], settings: dict[str, int]) -> list[dict[str, Any]]:
    """The rows of parts of stages, those that are missing measured."""
    kills = math.ceil(settings["kills"] / settings["parts"])
    journal = Journal(WORK / "survival.jsonl", settings, source_digest("benchmarks/survival*.py"))
    for name, part in parts:
        if (name, part) not in journal.read():
            start, folder = time.perf_counter(), WORK / "survival" / f"{name}-{part}"
            row = torture(name, folder, kills=kills, seed=(settings["seed"], part))
            took = round(time.perf_counter() - start, 1)
            journal.append({"case": name, "key": part, "took": took, **row})
    rows = journal.read()
    return [rows[part] for part in parts]


def by_stage(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each stage: counts of its parts added, and the means of their seconds."""
    found = []
    for name in dict.fromkeys(row["stage"] for row in rows):
        parts = [row for row in rows if row["stage"] == name]
        counts = ("kills", "with_results", "runs", "different")
        row = {"stage": name} | {count: sum(part[count] for part in parts) for count in counts}
        row["errors"] = [error for part in parts for error in part["errors"]]
        for seconds in ("first", "seconds"):
            row[seconds] = round(sum(part[seconds] for part in parts) / len(parts), 2)
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
        Seconds of a run left alone, kills, those after which a result was on disk, runs that ended,
        how many of them differ, and the errors of restarts.
    """
    shutil.rmtree(folder, ignore_errors=True)
    chance = random.Random(f"{seed} {name}")
    run(name, folder / "warm", math.inf)
    first, usual, error = run(name, folder / "whole", math.inf)
    assert not error, error
    row = {"stage": name, "first": round(first, 2), "seconds": round(usual, 2)}
    row |= {"kills": 0, "with_results": 0, "runs": 0, "different": 0, "errors": []}
    with tqdm(total=kills, desc=folder.name, disable=None) as bar:
        while row["kills"] < kills:
            torn = folder / "torn"
            shutil.rmtree(torn, ignore_errors=True)
            while (error := run(name, torn, chance.uniform(first / 2, usual))[2]) == "killed":
                row["kills"] += 1
                row["with_results"] += num_results(torn) > 0
                bar.update()
            row["runs"] += 1
            row["errors"] += [error] if error else []
            row["different"] += not error and contents(torn) != contents(folder / "whole")
    return row


def run(name: str, folder: Path, moment: float) -> tuple[float, float, str]:
    """Starts a stage in a process of its own and kills it after so many seconds, if it still runs.

    Seconds are those that the processors spent on it: other work on the machine does not count.

    Returns:
        Seconds to the first result on disk and to the end, and "", "killed" or what it said of an
        error.
    """
    said, first, spent = folder.parent / f"{folder.name}.log", math.inf, 0.0
    process = os.fork()
    if process == 0:
        become(name, folder, said)
    while not (found := os.waitpid(process, os.WNOHANG))[0]:
        spent = processor_seconds(process)
        if spent > moment:
            os.kill(process, signal.SIGKILL)
            found = os.waitpid(process, 0)
            break
        if first == math.inf and num_results(folder):
            first = spent
        time.sleep(0.01)
    if os.waitstatus_to_exitcode(found[1]) == -signal.SIGKILL:
        return first, spent, "killed"
    return first, spent, "" if found[1] == 0 else said.read_text().strip().splitlines()[-1]


def processor_seconds(process: int) -> float:
    """Seconds that a process has computed, all its threads together."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def num_results(folder: Path) -> int:
    """Files of results in a folder; a description of what is to be done is none."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(path.name != "run.json" and not path.name.startswith(".") for path in files)


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


def as_markdown(rows: list[dict[str, Any]], options: Any, provenance: Any) -> str:
    """The results as a page."""
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    kills, runs = sum(row["kills"] for row in rows), sum(row["runs"] for row in rows)
    same = runs - sum(row["different"] + len(row["errors"]) for row in rows)
    lines = [
        "# Killed and started again",
        "",
        f"{kills} kills (SIGKILL) at random moments of {runs} runs; {same} of the {runs} runs "
        "ended with the very numbers of a run that was left alone, bit for bit.",
        "",
        f"Command `python -m benchmarks.survival --kills {options.kills} --parts {options.parts} "
        f"--seed {options.seed}`; "
        f"commit {provenance.commit}; {versions}; {provenance.machine['cores']} cores, "
        f"{provenance.machine['processor']}; {provenance.total_seconds:.0f} s of all parts.",
        "",
        "A moment is drawn for each start, in seconds of the processors, evenly from half the way "
        "to the first result to the end of a run that was left alone. Compared are all arrays, "
        "points, indices and, for `validate`, the checks and tables of `summary.json` "
        "but for peak memory and the number of programs of the process.",
        "",
        "| stage | first result | end | kills | with results | runs | other numbers | errors |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (row["stage"], f"{row['first']} s", f"{row['seconds']} s", row["kills"])
        cells += (row["with_results"], row["runs"], row["different"], "; ".join(row["errors"]) or 0)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

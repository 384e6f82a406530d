"""Kills toy-size runs at random moments, starts them again, compares with runs left alone.

    python -m benchmarks.survival [--kills 30] [--out benchmarks/results]

Each of four stages is started, killed (SIGKILL) at a moment drawn evenly between its first line
and a little more than its usual length, and started again until it ends; then its files are
compared with those of a run that was left alone, bit for bit. Writes `survival.md` and `.json`.
"""

import argparse
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.rows import ROOT, WORK
from slt_rl.array_files import load_arrays
from slt_rl.report import collect_provenance

STAGES = ("curve", "points", "train", "validate")
# Facts of a process and not of a run.
OF_THE_PROCESS = ("peak memory", "one compilation")
# A moment so much later than the usual end lets some runs end.
LATEST = 1.1


def main() -> int:
    """Kills every stage and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="of each stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    start, rows = time.perf_counter(), []
    for name in STAGES:
        rows.append(torture(name, WORK / "survival" / name, kills=options.kills, seed=options.seed))
        print(json.dumps(rows[-1]))
    seconds = {"survival": time.perf_counter() - start}
    provenance = collect_provenance({"seed": options.seed, "kills": options.kills}, seconds)
    options.out.mkdir(parents=True, exist_ok=True)
    record = {"rows": rows, **dataclasses.asdict(provenance)}
    (options.out / "survival.json").write_text(json.dumps(record, indent=1, default=str) + "\n")
    (options.out / "survival.md").write_text(as_markdown(rows, options, provenance))
    return 0 if all(not row["different"] and not row["errors"] for row in rows) else 1


def torture(name: str, folder: Path, *, kills: int, seed: int) -> dict[str, Any]:
    """Kills one stage so many times, over as many runs as that takes.

    Returns:
        Kills, those after which something was on disk, runs that ended, how many of them differ,
        and the errors of restarts.
    """
    shutil.rmtree(folder, ignore_errors=True)
    chance = random.Random(f"{seed} {name}")
    run(name, folder / "warm", None)
    usual, _ = run(name, folder / "whole", None)
    row = {"stage": name, "seconds": round(usual, 2), "kills": 0, "with_files": 0, "runs": 0}
    row |= {"different": 0, "errors": []}
    with tqdm(total=kills, desc=name, disable=None) as bar:
        while row["kills"] < kills:
            torn = folder / "torn"
            shutil.rmtree(torn, ignore_errors=True)
            while (error := run(name, torn, chance.uniform(0, LATEST * usual))[1]) == "killed":
                row["kills"] += 1
                row["with_files"] += any(path.is_file() for path in torn.rglob("*"))
                bar.update()
            row["runs"] += 1
            row["errors"] += [error] if error else []
            row["different"] += not error and contents(torn) != contents(folder / "whole")
    return row


def run(name: str, folder: Path, moment: float | None) -> tuple[float, str]:
    """Starts a stage and kills it so many seconds after its first line, if it still runs.

    Returns:
        Seconds from the first line to the end, and "", "killed" or what it said of an error.
    """
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(WORK / "survival" / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
        "MPLBACKEND": "Agg",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.survival_stages", name, str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | cache | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    start = time.perf_counter()
    try:
        _, said = process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        _, said = process.communicate()
    seconds = time.perf_counter() - start
    if process.returncode == -signal.SIGKILL:
        return seconds, "killed"
    return seconds, "" if process.returncode == 0 else said.strip().splitlines()[-1]


def contents(folder: Path) -> dict[str, Any]:
    """All numbers of a finished run by file; what a killed write left beside them is left out."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or path.name.startswith(".") or path.suffix in (".html", ".png", ".svg"):
            continue
        if path.suffix == ".safetensors":
            arrays, metadata = load_arrays(path)
            metadata.pop("seconds", None)
            found[name] = {k: _bits(v) for k, v in arrays.items()} | {"metadata": metadata}
        elif path.name == "summary.json":
            found[name] = _numbers(json.loads(path.read_text()))
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
        f"{kills} kills (SIGKILL) at random moments in {runs} runs; {same} of the {runs} runs "
        "ended with the very numbers of a run that was left alone, bit for bit.",
        "",
        f"Command `python -m benchmarks.survival --kills {options.kills} --seed {options.seed}`; "
        f"commit {provenance.commit}; {versions}; {provenance.machine['cores']} cores, "
        f"{provenance.machine['processor']}; {provenance.total_seconds:.0f} s.",
        "",
        "A moment is drawn evenly between the first line of the process (all is imported) and "
        f"{LATEST} times the usual length of the stage, once for each start. Compared are all "
        "arrays, points, indices and, for `validate`, the checks and tables of `summary.json` "
        "but for peak memory and the number of programs of the process.",
        "",
        "| stage | usual length | kills | with files on disk | runs | other numbers | errors |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (row["stage"], f"{row['seconds']} s", row["kills"], row["with_files"], row["runs"])
        cells += (row["different"], "; ".join(row["errors"]) or 0)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

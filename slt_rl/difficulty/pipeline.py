"""Climbs the ladder: measures every rung, checks, reports. A killed run goes on."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from slt_rl.difficulty import checks as ladder
from slt_rl.difficulty import presentation
from slt_rl.difficulty.controls import control_checks
from slt_rl.difficulty.exact_checks import exact_checks
from slt_rl.difficulty.measure import measure_rung
from slt_rl.difficulty.protocol import Protocol
from slt_rl.difficulty.rungs import Rung, ladder_rungs
from slt_rl.difficulty.score import Climbed, rung_scores
from slt_rl.progress import open_bar, tell
from slt_rl.report.summary import Report
from slt_rl.validation.store import open_store

# Beyond the numbers of rungs, whose keys are folded in by them.
CONTROL_KEY = 100


def climb(protocol: Protocol, out: Path, *, progress: bool = True) -> Report:
    """Measures every rung that `out` does not hold yet, checks everything and writes the report.

    Double precision is needed: `jax_enable_x64` must be on.

    Args:
        protocol: `FULL` or `QUICK`, or one of your own.
        out: Folder of the report, made if missing; rungs are kept in `out/stages`.
        progress: Show a progress bar; in a log, a line every ten seconds.

    Returns:
        The report, also written to `report.html` and `summary.json`.

    Raises:
        ValueError: If double precision is off, or `out` holds stages of other settings.
    """
    found = examine(protocol, out, progress=progress)
    return presentation.write_report(Path(out), protocol, found)


def examine(protocol: Protocol, out: Path, *, progress: bool = True) -> Climbed:
    """What `climb` finds, without a report.

    Args:
        protocol: As in `climb`.
        out: Rungs are kept in `out/stages`.
        progress: Show a progress bar; in a log, a line every ten seconds.

    Raises:
        ValueError: As in `climb`.
    """
    rungs, arrays, seconds = measure_rungs(protocol, out, progress=progress)
    key = jax.random.key(protocol.seed)
    scores = [score for rung in rungs for score in rung_scores(rung, arrays[rung.number])]
    checks = [
        *exact_checks(),
        *ladder.ladder_checks(rungs, arrays, scores),
        *control_checks(jax.random.fold_in(key, CONTROL_KEY), protocol),
    ]
    return Climbed(rungs, arrays, scores, checks, seconds)


def measure_rungs(
    protocol: Protocol, out: Path, *, numbers: Sequence[int] | None = None, progress: bool = True
) -> tuple[list[Rung], dict[int, Mapping[str, np.ndarray]], dict[str, float]]:
    """Measures what `out` does not hold yet.

    Args:
        protocol: As in `climb`.
        out: Rungs are kept in `out/stages`.
        numbers: Only these rungs of the protocol; all if None. Processes may share them out.
        progress: Show a progress bar; in a log, a line every ten seconds.

    Returns:
        The rungs; for each number what was measured; wall time by name.

    Raises:
        ValueError: As in `climb`.
    """
    chosen = protocol.rungs if numbers is None else numbers
    store = open_store(out, protocol)
    rungs = [rung for rung in ladder_rungs() if rung.number in chosen]
    key = jax.random.key(protocol.seed)
    arrays: dict[int, Mapping[str, np.ndarray]] = {}
    seconds: dict[str, float] = {}
    with open_bar(len(rungs), unit="rung", show=progress) as bar:

        def inner(name: str, done: int, total: int) -> None:
            tell(bar, f"{name} {done}/{total}")

        for rung in rungs:
            part = jax.random.fold_in(key, rung.number)
            compute = functools.partial(measure_rung, part, rung, protocol, progress=inner)
            found = store.stage(f"rung_{rung.number}", compute)
            arrays[rung.number], seconds[f"rung {rung.number}"] = found.arrays, found.seconds
            bar.update()
    return rungs, arrays, seconds

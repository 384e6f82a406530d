"""`slt-rl develop RUN`: what the curves of a run show, as JSON and as figures."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slt_rl._numbers import check_count
from slt_rl.agents.analysis import NUM_SIMULATED, describe_series
from slt_rl.agents.curve_file import StoredCurve, load_curves
from slt_rl.agents.points import finite
from slt_rl.agents.run import Run
from slt_rl.agents.series import Series, default_window, event_series, llc_series
from slt_rl.agents.turning import lags, turning_points
from slt_rl.array_files import require
from slt_rl.documents import advising, read_document, write_document
from slt_rl.progress import open_bar

FORMAT = "slt_rl.agents.development/2"
# What is counted and what of it is paid for, in Craftax.
REWARDED = {
    "plant": "achievement/place_plant",
    "sapling": "achievement/collect_sapling",
    "table": "achievement/place_table",
    "eat_plant": "achievement/eat_plant",
}
# An event that nowhere happens so often per episode has no curve to speak of.
LEAST_RATE = 0.05
# Two stages of five records and one more.
LEAST_POINTS = 11


def develop_run(
    run: Run,
    *,
    window: int | None = None,
    events: Sequence[str] | None = None,
    rewarded: Mapping[str, str] | None = None,
    num_simulated: int = NUM_SIMULATED,
    progress: bool = True,
) -> Path:
    """Describes all curves of a run and where those of the LLC turn relative to the events.

    Args:
        run: The run; its curves in `RUN/curves/*.json` are described too.
        window: Updates taken together; see `default_window`.
        events: Names of events, or of curves made of them such as "excess plant"; if None the
            return, the behaviors (names without a slash) that are not rare, their excess, and
            what of them was rewarded.
        rewarded: Event -> the event that counts those of it that were rewarded; those of Craftax
            that the run counts if None.
        num_simulated: Series simulated from each of the two best forms of a curve, to say whether
            they can be told apart; none if 0.
        progress: Show a bar; in a log, a line every ten seconds.

    Returns:
        `RUN/development.json`.

    Raises:
        ValueError: If there is no such event, or one is named twice; too few windows for stages
            and forms; or a stored curve is too short, has gaps, or is of another run.
    """
    check_count("num_simulated", num_simulated, 0)
    if rewarded is None:
        names = set(run.event_names)
        rewarded = {a: b for a, b in REWARDED.items() if a in names and b in names}
    window = default_window(run) if window is None else check_count("window", window)
    series = event_series(run, window=window, rewarded=rewarded)
    _check_length(series["return"], window)
    chosen = _chosen(series, run.event_names, events, paid=rewarded)
    stored = load_curves(run.folder)
    check_curves(run, stored)
    curves = [one for c in stored.values() for one in llc_series(c)]
    described: dict[str, dict[str, Any]] = {}
    # What the LLC may be locked to; an event would be locked to itself.
    tasks = [*((one, ()) for one in chosen), *((one, tuple(rewarded)) for one in curves)]
    with open_bar(len(tasks), show=progress, unit="curve") as bar:
        for one, locking in tasks:
            bar.set_postfix_str(one.name, refresh=False)
            rises = _rises(described, locking, one)
            described[one.name] = _describe(one, num_simulated, rises)
            bar.update()
    document = {
        "format": FORMAT,
        "window": window,
        "seeds": list(run.seeds),
        "series": described,
        "lags": [lag._asdict() for one in curves for lag in lags(one, _same_seeds(chosen, one))],
    }
    path = Path(run.folder) / "development.json"
    write_document(path, finite(document))
    return path


def _check_length(series: Series, window: int) -> None:
    if len(series.steps) < LEAST_POINTS:
        raise ValueError(
            f"window: {window} updates leave {len(series.steps)} windows, expected at least "
            f"{LEAST_POINTS} for stages and forms; take a narrower one, or train longer"
        )


def check_curves(run: Run, curves: Mapping[str, StoredCurve]) -> None:
    """Refuses curves that are of another run, too short for stages, or have gaps; before any work.

    Raises:
        ValueError: Naming the file; the text says what to run.
    """
    check_origins(run, curves)
    for name, curve in curves.items():
        path = _curve_path(run, name)
        if len(curve.steps) < LEAST_POINTS:
            raise ValueError(
                f"{path}: {len(curve.steps)} checkpoints, expected at "
                f"least {LEAST_POINTS} for stages and forms; measure more of them with `slt-rl "
                f"curve {run.folder} --checkpoints {LEAST_POINTS}` and the same options, or remove "
                "the file to leave it out"
            )
        gaps = np.argwhere(~np.isfinite(curve.mean))
        if len(gaps):
            k, i, j = gaps[0]
            raise ValueError(
                f"{path}: {len(gaps)} gaps, the first at step {curve.steps[j]} of seed "
                f"{curve.seeds[k]} at localization {curve.localizations[i]:g}, where a chain was "
                f"lost; remove {path} and the folder of that name and measure again with stronger "
                "--localizations or a longer --burnin, or remove the file alone to leave it out"
            )


def check_origins(run: Run, curves: Mapping[str, StoredCurve]) -> None:
    """Refuses curves of seeds that the run does not have, or beyond its end.

    Raises:
        ValueError: Naming the file.
    """
    for name, curve in curves.items():
        if not set(curve.seeds) <= set(run.seeds) or curve.steps.max() > run.steps[-1]:
            raise ValueError(
                f"{_curve_path(run, name)}: of seeds {list(curve.seeds)} up to step "
                f"{curve.steps.max()}, but {run.folder} has seeds {list(run.seeds)} up to step "
                f"{run.steps[-1]}: the curve is of another run; remove the file to leave it out"
            )


def _curve_path(run: Run, name: str) -> Path:
    return Path(run.folder, "curves", f"{name}.json")


def _rises(
    described: Mapping[str, Any], names: Iterable[str], curve: Series
) -> dict[str, np.ndarray]:
    """Where events rise most steeply in each seed of a curve, of those that were described."""
    return {
        name: np.array([one["turning"]["rise"][one["seeds"].index(s)] for s in curve.seeds])
        for name in names
        if (one := described.get(name)) is not None
    }


def _describe(
    series: Series, num_simulated: int, observed: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    found = describe_series(series, num_simulated=num_simulated, observed=observed)
    return found | {"turning": turning_points(series)._asdict()}


def load_development(folder: Path) -> dict[str, Any]:
    """Reads `RUN/development.json`.

    Raises:
        ValueError: Naming the file, if it is missing or damaged; the text says what to run.
    """
    path = Path(folder) / "development.json"
    if not path.exists():
        raise ValueError(f"{path}: missing; run `slt-rl develop {folder}` first")
    with advising(f"run `slt-rl develop {folder}` again"):
        found = read_document(path, FORMAT)
        require(path, found, ("window", "seeds", "series", "lags"))
        return found


def _chosen(
    series: Mapping[str, Series],
    event_names: Sequence[str],
    events: Sequence[str] | None,
    *,
    paid: Mapping[str, str],
) -> list[Series]:
    """The curves to describe: those asked for, or all that are not rare."""
    if events is None:
        common = [n for n in event_names if series[n].values.mean(axis=0).max() >= LEAST_RATE]
        plain = [n for n in common if "/" not in n]
        shares = [n for n in common if "/" in n and n in {paid.get(event) for event in plain}]
        excess = [
            n for n in series if n.startswith("excess ") and n.removeprefix("excess ") in plain
        ]
        rates = [f"{n} per 1000 steps" for n in plain]
        events = ["return", *plain, *excess, *rates, *shares]
    missing = [name for name in events if name not in series]
    if missing or len(set(events)) < len(events):
        raise ValueError(
            f"events: got {missing or list(events)}, expected different ones of {', '.join(series)}"
        )
    return [series[name] for name in events]


def _same_seeds(chosen: Sequence[Series], curve: Series) -> list[Series]:
    """The event curves restricted to the seeds whose LLC was measured."""
    found = []
    for one in chosen:
        rows = [one.seeds.index(seed) for seed in curve.seeds]
        found.append(one._replace(values=one.values[rows], sem=one.sem[rows], seeds=curve.seeds))
    return found

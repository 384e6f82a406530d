"""A measured curve as one JSON document, and as arrays."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slt_rl.agents.points import Point
from slt_rl.documents import advising, read_document, write_document
from slt_rl.report import Provenance
from slt_rl.report.checks import strict

FORMAT = "slt_rl.agents.curve/2"


@dataclasses.dataclass(frozen=True)
class StoredCurve:
    """The LLC along training of several seeds, at several localizations.

    Numbers of one localization are comparable with each other and with no others.

    Attributes:
        name: What was measured, for example "policy-reference".
        facts: Potential, states, numbers of parameters.
        nbeta: Inverse temperature, the same for all points.
        seeds: Seeds of the run.
        localizations: In 1/parameter^2.
        steps: Environment steps of the checkpoints, `[checkpoint]`.
        mean: Estimates `[seed, localization, checkpoint]`, nan where a chain was lost.
        sem: Their Monte-Carlo standard errors.
        low: Lower ends of the 95 % intervals for the loss on these very states.
        high: Upper ends.
        verdicts: "trusted", "doubtful" or "refused", `[seed, localization, checkpoint]`.
        regimes: Regime of each point.
        flags: Flags of each point, joined.
    """

    name: str
    facts: Mapping[str, Any]
    nbeta: float
    seeds: tuple[int, ...]
    localizations: tuple[float, ...]
    steps: np.ndarray
    mean: np.ndarray
    sem: np.ndarray
    low: np.ndarray
    high: np.ndarray
    verdicts: np.ndarray
    regimes: np.ndarray
    flags: np.ndarray


def curve_document(
    name: str,
    facts: Mapping[str, Any],
    points: Mapping[int, Sequence[Sequence[Point]]],
    *,
    provenance: Provenance,
) -> dict[str, Any]:
    """The whole curve as JSON values.

    Args:
        name: What was measured.
        facts: What belongs beside the curve.
        points: Seed -> points `[localization][checkpoint]`.
        provenance: Where the numbers come from.
    """
    first = next(iter(points.values()))
    return {
        "format": FORMAT,
        "name": name,
        "facts": dict(facts),
        "nbeta": first[0][0]["nbeta"],
        "seeds": [int(seed) for seed in points],
        "steps": [point["step"] for point in first[0]],
        "localizations": [row[0]["localization"] for row in first],
        "points": list(points.values()),
        "provenance": strict(dataclasses.asdict(provenance)),
    }


def write_curve(path: Path, document: Mapping[str, Any]) -> None:
    """Writes the document, whole or not at all."""
    write_document(Path(path), document)


def load_curve(path: Path) -> StoredCurve:
    """Reads what `slt-rl curve` wrote.

    Raises:
        ValueError: Naming the file, if it is missing, damaged or of another format; the text says
            what to do.
    """
    path = Path(path)
    with advising("remove it and repeat `slt-rl curve`, which keeps the finished points"):
        return _checked(path, read_document(path, FORMAT))


def _checked(path: Path, document: Mapping[str, Any]) -> StoredCurve:
    try:
        curve = _parse(document)
    # What a document that is whole but was made by something else can raise.
    except (LookupError, TypeError, AttributeError, OverflowError, ValueError) as error:
        raise ValueError(f"{path}: no curve of this library ({error!r})") from error
    shape = (len(curve.seeds), len(curve.localizations), *curve.steps.shape)
    parts = (curve.mean, curve.sem, curve.low, curve.high, curve.verdicts, curve.regimes)
    if not curve.mean.size or any(part.shape != shape for part in parts):
        raise ValueError(f"{path}: expected points {list(shape)}, found {list(curve.mean.shape)}")
    return curve


def load_curves(folder: Path) -> dict[str, StoredCurve]:
    """All curves of a run folder by name, from `folder/curves/*.json`."""
    files = sorted(Path(folder, "curves").glob("*.json"))
    return {path.stem: load_curve(path) for path in files}


def _parse(document: Mapping[str, Any]) -> StoredCurve:
    points = document["points"]

    def numbers(*names: Any) -> np.ndarray:
        return np.array([[[_get(p, names) for p in row] for row in seed] for seed in points], float)

    def words(name: str) -> np.ndarray:
        return np.array([[[_text(p[name]) for p in row] for row in seed] for seed in points])

    return StoredCurve(
        name=document["name"],
        facts=document["facts"],
        nbeta=float(document["nbeta"]),
        seeds=tuple(document["seeds"]),
        localizations=tuple(document["localizations"]),
        steps=np.array(document["steps"], np.int64),
        mean=numbers("mean"),
        sem=numbers("sem"),
        low=numbers("interval_given_data", 0),
        high=numbers("interval_given_data", 1),
        verdicts=words("verdict"),
        regimes=words("regime"),
        flags=words("flags"),
    )


def _get(point: Any, names: Sequence[Any]) -> float:
    for name in names:
        point = point[name]
    return np.nan if point is None else point


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "; ".join(value)

"""Estimates of single checkpoints, each kept on disk as soon as it is finished."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from slt_rl.array_files import fingerprint, require
from slt_rl.documents import advising, read_document, write_document
from slt_rl.result import LLCEstimate

Point = dict[str, Any]
FORMAT = "slt_rl.agents.point/1"


@dataclasses.dataclass(frozen=True)
class PointStore:
    """A folder with one file for each checkpoint and localization.

    Args:
        folder: Where the files are.
        settings: JSON values and arrays that all points depend on.
    """

    folder: Path
    settings: Mapping[str, Any]

    def path(self, step: int, localization: float) -> Path:
        """Where a point is kept."""
        return self.folder / f"step-{step:012d}-localization-{localization:g}.json"

    def digest(self, inputs: Any) -> str:
        """A digest of the settings and of what points are measured of, arrays."""
        return fingerprint({"settings": dict(self.settings), "inputs": inputs})

    def load(self, step: int, localization: float, digest: str) -> Point | None:
        """The stored point, or None if it has not been measured.

        Args:
            step: Environment steps of the checkpoint.
            localization: In 1/parameter^2.
            digest: From `digest`.

        Raises:
            ValueError: Naming the file, if it is damaged or was measured of something else.
        """
        path = self.path(step, localization)
        if not path.exists():
            return None
        with advising("remove it to measure it again"):
            record = read_document(path, FORMAT)
            require(path, record, ("fingerprint", "point"))
        # Names are rounded, and files can be renamed.
        if record["fingerprint"] != self._mark(digest, step, localization):
            raise ValueError(
                f"{path}: measured with other settings, states, parameters or versions; remove the "
                f"folder {self.folder}, or choose another name"
            )
        return record["point"]

    def save(self, step: int, localization: float, *, digest: str, point: Point) -> None:
        """Writes a point, whole or not at all."""
        mark = self._mark(digest, step, localization)
        record = {"format": FORMAT, "fingerprint": mark, "point": point}
        write_document(self.path(step, localization), record)

    @staticmethod
    def _mark(digest: str, step: int, localization: float) -> str:
        return fingerprint([digest, int(step), float(localization)])


def point_of(step: int, estimate: LLCEstimate) -> Point:
    """What is kept of an estimate: JSON values, None for what is not finite."""
    values = estimate.to_dict()
    values["interval_given_data"] = list(estimate.interval(given_data=True))
    return {"step": step, **finite(values)}


def finite(value: Any) -> Any:
    """JSON values, with None for what is not finite; arrays as lists."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return finite(value.tolist())
    if isinstance(value, str | int) or value is None:
        return value
    return float(value) if math.isfinite(value) else None

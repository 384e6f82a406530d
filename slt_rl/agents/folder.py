"""The files of a run folder: `run.json`, and for each seed a series and its statistics.

RUN/run.json                        what was asked for, in which segments, with which versions
RUN/state.safetensors               the latest full training state, to go on from
RUN/seed-N/checkpoints/             a series of `slt_rl.checkpoints`, by environment steps
RUN/seed-N/statistics.safetensors   what happened in every update
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from slt_rl.agents.spec import RunSpec, spec_from_json
from slt_rl.array_files import fingerprint, load_arrays, require, save_arrays
from slt_rl.checkpoints import forget_after, recorded_metadata
from slt_rl.documents import advising, read_document, write_document

FORMAT = "slt_rl.run/2"
# What to do about a file that is not whole: no command makes a single one of them anew.
COPY_AGAIN = "copy the whole folder of the run again, or train into another one"


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What `run.json` says.

    Attributes:
        spec: The description of the run.
        checkpoints: Updates after which parameters are kept; of a run that was made longer those
            of its former schedule, as far as it came, and those of its present one.
        segments: `{"from_update", "num_updates"}` of each command that made the run longer: from
            that update on the learning rate is the one of a run of `num_updates` updates. With
            `"restarted"` it went on there from parameters alone, see `restart_run`; with
            `"versions"` it went on there with these.
        event_names: Names of the counted events.
        num_inputs: Length of an observation.
        num_actions: Number of actions.
        versions: Versions of Python and libraries at the start.
    """

    spec: RunSpec
    checkpoints: tuple[int, ...]
    segments: tuple[Mapping[str, Any], ...]
    event_names: tuple[str, ...]
    num_inputs: int
    num_actions: int
    versions: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """Digest of all that the numbers of the run depend on, but for its length."""
        return fingerprint(self.spec.identity())

    def mark(self, seed: int, step: int) -> dict[str, Any]:
        """What says of a checkpoint which run it is of: a seed and a digest.

        Of all that its numbers depend on: the description and the segments before its step. Runs
        of different lengths have different learning rates, a branch has another history.

        Args:
            seed: Seed of the run.
            step: Environment steps of the checkpoint.
        """
        steps = self.spec.steps_per_update
        before = [s for s in self.segments if s["from_update"] * steps < step]
        return {"seed": seed, "history": fingerprint({"run": self.fingerprint, "before": before})}

    @property
    def latest_versions(self) -> Mapping[str, str]:
        """Versions that the run went on with at last."""
        found = [s["versions"] for s in self.segments if "versions" in s]
        return [self.versions, *found][-1]


def record_to_json(record: RunRecord) -> dict[str, Any]:
    """Plain JSON values."""
    return {
        "format": FORMAT,
        "spec": record.spec.to_json(),
        "checkpoints": list(record.checkpoints),
        "segments": list(record.segments),
        "event_names": list(record.event_names),
        "num_inputs": record.num_inputs,
        "num_actions": record.num_actions,
        "versions": dict(record.versions),
        "fingerprint": record.fingerprint,
    }


def record_from_json(found: Mapping[str, Any]) -> RunRecord:
    """The inverse of `record_to_json`.

    Raises:
        ValueError: If the values are not a description of this version, or were altered.
        KeyError, TypeError: If an entry is missing or unknown.
    """
    if found["format"] != FORMAT:
        raise ValueError(f"the format is {found['format']!r}, expected {FORMAT!r}")
    numbers = [found["num_inputs"], found["num_actions"], *found["checkpoints"]]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("num_inputs, num_actions and checkpoints: expected integers >= 0")
    if not all(type(segment["from_update"]) is int for segment in found["segments"]):
        raise ValueError("segments: expected objects with a whole from_update")
    record = RunRecord(
        spec_from_json(found["spec"]),
        tuple(found["checkpoints"]),
        tuple(found["segments"]),
        tuple(found["event_names"]),
        found["num_inputs"],
        found["num_actions"],
        found["versions"],
    )
    if record.fingerprint != found["fingerprint"]:
        raise ValueError("it was altered after it was written: its fingerprint differs")
    return record


def write_record(folder: Path, record: RunRecord) -> None:
    """Writes `run.json`, atomically."""
    write_document(record_path(folder), record_to_json(record))


def read_record(folder: Path) -> RunRecord:
    """Reads `run.json`.

    Raises:
        ValueError: Naming the file, if it is missing, damaged, or of another version.
    """
    path = record_path(folder)
    if not path.exists():
        raise ValueError(
            f"{path}: missing; expected the folder of a run, as `slt-rl train GAME --out {folder}` "
            "makes one"
        )
    with advising(COPY_AGAIN):
        found = read_document(path, FORMAT)
        try:
            return record_from_json(found)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path}: not a description of a run ({error!r})") from error


def record_path(folder: Path) -> Path:
    """Where the description of a run is."""
    return folder / "run.json"


def state_path(folder: Path) -> Path:
    """Where the latest full training state is."""
    return folder / "state.safetensors"


def series_path(folder: Path, seed: int) -> Path:
    """The folder of the checkpoints of one seed."""
    return folder / f"seed-{seed}" / "checkpoints"


def read_steps(folder: Path, record: RunRecord) -> list[list[int]]:
    """Environment steps of the checkpoints of each seed, `[seed][checkpoint]`; the indices alone.

    Raises:
        ValueError: Naming the file, if an index is missing, damaged, or lists a checkpoint of
            another run; those that were put there by other means do not say of which they are.
    """
    seeds, path = list(record.spec.seeds), record_path(folder)
    with advising(f"{path} names the seeds {seeds}, each with checkpoints: {COPY_AGAIN}"):
        found = [recorded_metadata(series_path(folder, seed)) for seed in seeds]
    for seed, marks in zip(seeds, found, strict=True):
        for step, mark in marks.items():
            if mark and mark != record.mark(seed, step):
                raise ValueError(
                    f"{series_path(folder, seed)}: its checkpoint of step {step} is of another "
                    f"run, or of another seed, than {path} says; {COPY_AGAIN}"
                )
    return [list(marks) for marks in found]


def forget_later(folder: Path, record: RunRecord, update: int) -> None:
    """Takes the checkpoints after an update out of the indices, where there are any.

    Raises:
        ValueError: Naming the file, if an index is damaged.
    """
    with advising(COPY_AGAIN):
        for seed in record.spec.seeds:
            forget_after(series_path(folder, seed), update * record.spec.steps_per_update)


def statistics_path(folder: Path, seed: int) -> Path:
    """Where the statistics of one seed are."""
    return folder / f"seed-{seed}" / "statistics.safetensors"


def write_statistics(
    folder: Path, record: RunRecord, seed: int, *, statistics: Mapping[str, np.ndarray]
) -> None:
    """Writes the statistics of one seed, `[update, ...]`."""
    mark = {"fingerprint": record.fingerprint, "seed": seed}
    save_arrays(statistics_path(folder, seed), statistics, mark)


def read_statistics(folder: Path, record: RunRecord, seed: int) -> dict[str, np.ndarray]:
    """Reads the statistics of one seed.

    Raises:
        ValueError: Naming the file, if it is missing, damaged or of another run.
    """
    mark = {"fingerprint": record.fingerprint, "seed": seed}
    path = statistics_path(folder, seed)
    if not path.exists():
        raise ValueError(
            f"{path}: missing; it is written when a state is saved: go on with the same "
            "`slt-rl train`, or copy the whole folder of the run again"
        )
    with advising(COPY_AGAIN):
        found = load_arrays(path, expected=mark)[0]
        require(path, found, ("num_episodes", "total_return", "total_length", "counts"))
        if len({np.shape(leaf)[:1] for leaf in found.values()}) > 1:
            raise ValueError(f"{path}: expected one leading axis, the updates, for all statistics")
    return found

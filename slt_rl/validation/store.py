"""Results of stages, kept on disk: a killed run goes on where it stopped."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from slt_rl.array_files import fingerprint, load_arrays, require, save_arrays
from slt_rl.kept import versions


class StageResult(NamedTuple):
    """What a stage left.

    Attributes:
        arrays: Named arrays.
        seconds: Wall time it took when it was computed.
        reused: Whether it was read from an earlier run.
    """

    arrays: Mapping[str, np.ndarray]
    seconds: float
    reused: bool


@dataclasses.dataclass(frozen=True)
class Store:
    """A folder with one file per finished stage.

    Args:
        folder: Where the files are.
        settings: JSON values that the results depend on; a file made with others is refused.
    """

    folder: Path
    settings: Mapping[str, Any]

    def path(self, name: str) -> Path:
        """Where the result of a stage is kept."""
        return self.folder / f"{name}.safetensors"

    def holds(self, name: str) -> bool:
        """Whether there is a file of a stage, whatever its settings."""
        return self.path(name).exists()

    def stage(self, name: str, compute: Callable[[], Mapping[str, Any]]) -> StageResult:
        """Returns the stored result of a stage, or computes and stores it.

        Raises:
            ValueError: If the file is damaged or belongs to another stage or other settings.
        """
        path = self.path(name)
        # The name too: the file of another stage of the same settings is another file.
        key = {"fingerprint": fingerprint({"stage": name, **self.settings})}
        if path.exists():
            arrays, metadata = load_arrays(path, expected=key)
            require(path, metadata, ("seconds",))
            return StageResult(arrays, metadata["seconds"], True)
        start = time.perf_counter()
        found = {k: np.asarray(v) for k, v in compute().items()}
        seconds = time.perf_counter() - start
        save_arrays(path, found, {**key, "seconds": seconds})
        return StageResult(found, seconds, False)


def open_store(out: Path, protocol: Any) -> Store:
    """The stages of a run in `out/stages`, which depend on its protocol and on the versions.

    Args:
        out: Folder of the run.
        protocol: A dataclass of JSON values.

    Raises:
        ValueError: If double precision is off, which all runs need: they check exact values.
    """
    if not jax.config.read("jax_enable_x64"):
        raise ValueError("jax_enable_x64: got False, expected True; exact values need it")
    settings = {"protocol": dataclasses.asdict(protocol), "versions": versions()}
    return Store(Path(out) / "stages", settings)

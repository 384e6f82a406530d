"""Other libraries, each in an environment of its own that is made here on first use."""

import dataclasses
import functools
import json
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import rows, speed_cases
from benchmarks.speed_runs import Elsewhere, Workload

TORCH = "torch==2.13.0"
# What pip is asked for after torch. torch is pinned again beside a peer that would replace it by
# another build; canonical-interp wants torchvision too, which it never uses.
PEERS: dict[str, tuple[list[str], ...]] = {
    "devinterp==2.0.1": ([TORCH, "devinterp==2.0.1"],),
    "devinterp==1.3.2": ([TORCH, "devinterp==1.3.2"],),
    "canonical-interp==0.1.5": (
        ["numpy", "pandas", "tqdm"],
        ["--no-deps", "canonical-interp==0.1.5"],
    ),
}
HOME = rows.WORK / "peers"
_SCRIPT = Path(__file__).with_name("peer_torch.py")


class NotInstalled(Exception):
    """A peer cannot be installed here; the message says why."""


def python_of(peer: str) -> Path:
    """The interpreter of the environment of `peer`, with the CPU build of torch.

    Raises:
        NotInstalled: If an installation fails, or torch comes with an accelerator.
    """
    python, reason = _attempt(peer)
    if reason:
        raise NotInstalled(reason)
    return python


@functools.cache
def _attempt(peer: str) -> tuple[Path, str]:
    """An interpreter, and why there is none: tried once, for it may take minutes to fail."""
    try:
        return _install(peer), ""
    except NotInstalled as error:
        return Path(), str(error)
    # The environment itself: a Python without `ensurepip`, a full disk.
    except (OSError, subprocess.SubprocessError) as error:
        return Path(), f"no environment can be made ({error})"


def _install(peer: str) -> Path:
    folder = HOME / peer.replace("==", "-")
    python, done = folder / "bin" / "python", folder / ".installed"
    if not done.exists():
        venv.create(folder, with_pip=True, clear=True)
        for names in ([TORCH], *PEERS[peer]):
            _run([python, "-m", "pip", "install", "--quiet", *names])
        version = _run([python, "-c", "import torch; print(torch.__version__)"]).strip()
        if not version.endswith("+cpu"):
            raise NotInstalled(f"torch {version} is no CPU build")
        done.touch()
    return python


def _run(command: list[Any]) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        # Warnings may follow the error.
        reason = next((line for line in lines if line.startswith("ERROR")), lines[-1])
        raise NotInstalled(f"{' '.join(map(str, command[2:]))}: {reason}")
    return done.stdout


@dataclasses.dataclass
class Peer:
    """A process that times one estimate whenever it is called.

    Attributes:
        process: The process.
        values: The estimates it gave.
    """

    process: subprocess.Popen
    values: list[float] = dataclasses.field(default_factory=list)

    def __call__(self) -> Elsewhere:
        """One estimate; its own times, without start and imports."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print("go", file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{_SCRIPT.name} ended with status {self.process.wait()}")
        answer = json.loads(line)
        self.values.append(answer["llc"])
        return Elsewhere(answer["wall"], answer["cpu"])


@contextmanager
def started(peer: str, work: Workload, **options: Any) -> Iterator[Peer]:
    """A peer at work on a case, stopped afterwards.

    Args:
        peer: One of `PEERS`.
        work: The model, dense layers only, and its data.
        **options: `num_chains`, `num_steps`, `batch_size`, `num_threads`.

    Raises:
        NotInstalled: If its environment cannot be made.
    """
    python = python_of(peer)
    path = HOME / f"{work.model.name.replace(' ', '_')}.npz"
    inputs, targets = (np.asarray(x) for x in work.data.examples)
    layers = {
        f"{name}{i}": np.asarray(x)
        for i, layer in enumerate(work.params)
        for name, x in layer.items()
    }
    np.savez(path, inputs=inputs, targets=targets, **layers)
    options |= {
        "squared": work.model.squared,
        "nbeta": speed_cases.NBETA,
        "localization": speed_cases.LOCALIZATION,
        "step_size": speed_cases.STEP_SIZE,
    }
    process = subprocess.Popen(
        [str(python), str(_SCRIPT), peer, str(path), json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        stderr=sys.stderr,
    )
    try:
        yield Peer(process)
    finally:
        process.kill()
        process.wait()

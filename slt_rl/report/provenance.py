"""Where numbers come from: versions, commit, keys, machine, time, memory."""

import dataclasses
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("slt_rl", "jax", "jaxlib", "numpy", "scipy", "blackjax", "numpyro", "optax", "gymnax")


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Everything needed to run the same again and to judge its time.

    Attributes:
        versions: Version of Python and of each package.
        commit: Commit of the source, with "+changes" where files differ from it; "unknown" outside
            of a checkout.
        keys: Random keys and other settings, by name.
        machine: Class of the machine: processor, cores, memory, accelerator.
        stage_seconds: Wall time of each stage, in the order they ran.
        peak_memory_bytes: Largest resident memory of the process.
        notes: Other facts by name.
    """

    versions: Mapping[str, str]
    commit: str
    keys: Mapping[str, Any]
    machine: Mapping[str, Any]
    stage_seconds: Mapping[str, float]
    peak_memory_bytes: int
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def total_seconds(self) -> float:
        """Sum over the stages; those that ran side by side count in full."""
        return float(sum(self.stage_seconds.values()))


def collect_provenance(
    keys: Mapping[str, Any],
    stage_seconds: Mapping[str, float],
    *,
    packages: Iterable[str] = _PACKAGES,
    notes: Mapping[str, Any] | None = None,
) -> Provenance:
    """Describes this process and this machine.

    Args:
        keys: Random keys and other settings, by name.
        stage_seconds: Wall time of each stage.
        packages: Distributions whose versions are told.
        notes: Other facts by name.

    Returns:
        The description.
    """
    return Provenance(
        versions={"python": platform.python_version()} | _versions(packages),
        commit=source_commit(),
        keys=dict(keys),
        machine=describe_machine(),
        stage_seconds=dict(stage_seconds),
        peak_memory_bytes=peak_memory_bytes(),
        notes=dict(notes or {}),
    )


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def source_commit() -> str:
    """Commit of the checkout this package runs from; "unknown" where it is not in one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return "unknown"
    commit, changes = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain")
    if not commit:
        return "unknown"
    return commit + ("+changes" if changes else "")


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def describe_machine() -> dict[str, Any]:
    """Class of the machine; nothing that tells one machine of a class from another."""
    usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor() or platform.processor() or "unknown",
        "cores": len(usable),
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "devices": _devices(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else ""


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def _devices() -> str:
    """What JAX computes on; only asked if the process has loaded it already."""
    jax = sys.modules.get("jax")
    if jax is None:
        return "unknown"
    kinds = sorted({f"{d.platform} ({d.device_kind})" for d in jax.devices()})
    return ", ".join(kinds)


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB

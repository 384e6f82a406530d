"""Where numbers come from: read from the running process and the checkout."""

import re
import subprocess

from slt_rl.report import collect_provenance, peak_memory_bytes
from slt_rl.report import provenance as module


def test_provenance_of_this_process():
    found = collect_provenance({"seed": 1}, {"a": 1.0, "b": 2.5}, notes={"x": 1})
    assert found.total_seconds == 3.5 and found.keys == {"seed": 1} and found.notes == {"x": 1}
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", found.versions["numpy"])
    assert found.machine["cores"] >= 1 and found.machine["memory_gib"] > 0
    assert "cpu" in found.machine["devices"] or "gpu" in found.machine["devices"]
    assert found.commit == "unknown" or re.fullmatch(r"[0-9a-f]{40,64}(\+changes)?", found.commit)


def test_peak_memory_is_in_bytes_and_grows():
    before = peak_memory_bytes()
    block = bytearray(before + 2**24)  # more than the process ever had
    for page in range(0, len(block), 4096):
        block[page] = 1
    assert before > 2**24 and peak_memory_bytes() >= len(block)


def test_missing_packages_and_git_are_said_so(monkeypatch, tmp_path):
    found = collect_provenance({}, {}, packages=("no-such-package",))
    assert found.versions["no-such-package"] == "not installed"

    def no_git(*_, **__):
        raise OSError

    monkeypatch.setattr(subprocess, "run", no_git)
    assert module.source_commit() == "unknown"
    monkeypatch.setattr(module, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    assert module.source_commit() == "unknown"

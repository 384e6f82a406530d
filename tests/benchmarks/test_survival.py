"""Kills of a stage that processes divide: moments of their own, counted together."""

import argparse
import subprocess
import sys

import pytest

from benchmarks import rows, survival


@pytest.fixture
def tortured(monkeypatch, tmp_path):
    calls = []

    def torture(name, folder, *, kills, seed):
        calls.append((name, folder.name, kills, seed))
        killed = [{"moment": 2.0, "wrote": i > 0, "done": 0.5} for i in range(kills)]
        row = {"stage": name, "first": 1.0 + seed[1], "end": 4.0, "kills": killed}
        return row | {"runs": 2, "different": seed[1], "errors": []}

    monkeypatch.setattr(survival, "torture", torture)
    for module in (survival, rows):
        monkeypatch.setattr(module, "WORK", tmp_path)
    return calls


def test_shares_kill_what_is_missing_and_are_counted_together(tortured):
    settings = {"kills": {"train": 5, "curve": 8}, "parts": 2, "seed": 7}
    parts = [(name, part) for name in ("train", "curve") for part in (0, 1)]
    for number in (0, 1):
        survival.kill_all(parts[number::2], settings)
    whole = survival.kill_all(parts, settings)
    assert tortured == [
        ("train", "train-0", 3, (7, 0)), ("curve", "curve-0", 4, (7, 0)),
        ("train", "train-1", 3, (7, 1)), ("curve", "curve-1", 4, (7, 1)),
    ]  # fmt: skip
    train, curve = survival.by_stage(whole)
    assert (train["stage"], curve["stage"]) == ("train", "curve")
    assert (len(train["kills"]), train["runs"], train["different"]) == (6, 4, 1)
    assert train["first"] == 1.5
    cells = dict(
        zip(survival._table([train]).header, survival._table([train]).rows[0], strict=True)
    )
    assert (cells["kills"], cells["into work"], cells["before it"]) == (6, 4, 2)
    first, second = survival.kill_figure([train, curve]).axes
    assert [axis.get_title("left") for axis in (first, second)] == ["train", "curve"]
    into, before = (line.get_xdata() for line in first.lines[:2])
    assert (len(into), len(before)) == (4, 2)


STARTS = """
import sys
from pathlib import Path
from benchmarks import survival

def stage(folder):
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text("{}")
    if sum(1 for _ in folder.iterdir()) == 1:
        (folder / "first.npz").write_text("1")
    while True:
        pass

survival.STAGES["stage"] = stage
for _ in range(2):
    ended = survival.run("stage", Path(sys.argv[1]), 0.1)
    print(ended.said, ended.first < 0.2)
"""


def test_a_killed_start_says_whether_it_had_written_anything(tmp_path):
    """In a process of its own: one with threads of JAX must not be forked."""
    command = [sys.executable, "-c", STARTS, str(tmp_path / "torn")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["killed True", "killed False"]


def test_kills_are_given_by_stage():
    assert survival.parse_kills("train=48") == ("train", 48)
    for wrong in ("train", "sleep=3", "train=-1"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected STAGE=N"):
            survival.parse_kills(wrong)

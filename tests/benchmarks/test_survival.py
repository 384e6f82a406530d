"""Kills of a stage that processes divide: moments of their own, counted together."""

import pytest

from benchmarks import survival


@pytest.fixture
def tortured(monkeypatch, tmp_path):
    calls = []

    def torture(name, folder, *, kills, seed):
        calls.append((name, folder.name, kills, seed))
        row = {"stage": name, "first": 1.0 + seed[1], "seconds": 4.0, "kills": kills}
        return row | {"with_results": 1, "runs": 2, "different": seed[1], "errors": []}

    monkeypatch.setattr(survival, "torture", torture)
    monkeypatch.setattr(survival, "WORK", tmp_path)
    return calls


def test_shares_kill_what_is_missing_and_are_counted_together(tortured):
    settings = {"kills": 5, "parts": 2, "seed": 7}
    parts = [(name, part) for name in ("train", "curve") for part in (0, 1)]
    for number in (0, 1):
        survival.kill_all(parts[number::2], settings)
    whole = survival.kill_all(parts, settings)
    assert tortured == [
        ("train", "train-0", 3, (7, 0)), ("curve", "curve-0", 3, (7, 0)),
        ("train", "train-1", 3, (7, 1)), ("curve", "curve-1", 3, (7, 1)),
    ]  # fmt: skip
    train, curve = survival.by_stage(whole)
    assert (train["stage"], curve["stage"]) == ("train", "curve")
    assert (train["kills"], train["runs"], train["different"]) == (6, 4, 1)
    assert train["first"] == 1.5

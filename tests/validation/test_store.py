"""Stages are computed once, and never taken from other settings or a damaged file."""

import numpy as np
import pytest

from slt_rl.validation.store import Store


def test_a_stage_is_computed_once(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"x": np.arange(3.0), "name": np.array(["a", "bc"])}

    store = Store(tmp_path, {"seed": 0})
    first, second = store.stage("one", compute), store.stage("one", compute)
    assert len(calls) == 1
    assert not first.reused
    assert second.reused
    assert second.seconds == first.seconds
    np.testing.assert_array_equal(first.arrays["x"], second.arrays["x"])
    np.testing.assert_array_equal(first.arrays["name"], second.arrays["name"])


def test_a_stage_of_other_settings_is_refused(tmp_path):
    Store(tmp_path, {"seed": 0}).stage("one", lambda: {"x": np.zeros(1)})
    with pytest.raises(ValueError, match=r"one\.safetensors.*other settings"):
        Store(tmp_path, {"seed": 1}).stage("one", lambda: {"x": np.zeros(1)})


def test_a_truncated_stage_is_refused_and_named(tmp_path):
    Store(tmp_path, {}).stage("one", lambda: {"x": np.zeros(100)})
    path = tmp_path / "one.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"one\.safetensors"):
        Store(tmp_path, {}).stage("one", lambda: {"x": np.zeros(100)})


def test_a_failing_stage_leaves_nothing(tmp_path):
    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path, {}).stage("one", fail)
    assert not list(tmp_path.iterdir())

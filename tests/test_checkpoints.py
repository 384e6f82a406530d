"""The checkpoint store: order, round trip, and every way a folder can be broken."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl import checkpoints
from slt_rl.checkpoints import (
    CheckpointSeries,
    forget_after,
    load_series,
    recorded_metadata,
    recorded_steps,
    save_checkpoint,
    save_series,
    stack_checkpoints,
)
from slt_rl.documents import write_document


def params(step):
    layer = {"kernel": jnp.full((2, 3), step, jnp.bfloat16), "bias": np.arange(3.0) + step}
    return {"torso": layer, "scale": np.float32(step)}


@pytest.fixture
def folder(tmp_path):
    # Written out of order: the order of a series is that of training.
    for step in (200, 0, 1000):
        save_checkpoint(tmp_path, step, params(step))
    return tmp_path


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        if isinstance(a[name], dict):
            assert_equal(a[name], b[name])
        else:
            left, right = np.asarray(a[name]), np.asarray(b[name])
            assert left.dtype == right.dtype and left.shape == right.shape
            assert left.tobytes() == right.tobytes()


def test_series_is_sorted_by_step_and_bitwise_equal(folder):
    series = load_series(folder)
    assert series.steps.tolist() == [0, 200, 1000]
    for step, loaded in series:
        assert_equal(loaded, params(step))
    assert_equal(series.at_step(200), params(200))


def test_names_of_files_do_not_decide_the_order(folder):
    index = json.loads((folder / "index.json").read_text())
    for number, record in enumerate(reversed(index["checkpoints"])):
        (folder / record["file"]).rename(folder / f"{number}.safetensors")
        record["file"] = f"{number}.safetensors"
    index["checkpoints"].reverse()
    del index["sha256"]
    write_document(folder / "index.json", index)
    assert load_series(folder).steps.tolist() == [0, 200, 1000]


def test_save_series_round_trip_with_metadata(tmp_path, folder):
    series = load_series(folder)
    series = CheckpointSeries(series.steps, series.params, {"seed": 3, "note": "ü"})
    save_series(tmp_path / "copy", series)
    loaded = load_series(tmp_path / "copy")
    assert loaded.metadata == {"seed": 3, "note": "ü"}
    assert_equal(loaded.params, series.params)


def test_a_record_is_replaced_by_one_of_the_same_step(folder):
    save_checkpoint(folder, 200, params(7))
    series = load_series(folder)
    assert series.steps.tolist() == [0, 200, 1000]
    assert_equal(series.at_step(200), params(7))


def test_files_that_the_index_does_not_list_are_ignored(folder):
    (folder / "step-000000000001.safetensors").write_bytes(b"left by a killed process")
    assert len(load_series(folder)) == 3


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_checkpoint_is_named(folder, keep):
    path = folder / "step-000000000200.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="step-000000000200.safetensors: truncated"):
        load_series(folder)


def test_missing_checkpoint_is_named(folder):
    (folder / "step-000000000200.safetensors").unlink()
    with pytest.raises(ValueError, match="step-000000000200.safetensors: cannot be read"):
        load_series(folder)


def test_checkpoint_of_another_series_is_named(folder, tmp_path):
    save_checkpoint(tmp_path / "other", 200, params(3))
    foreign = (tmp_path / "other" / "step-000000000200.safetensors").read_bytes()
    (folder / "step-000000000200.safetensors").write_bytes(foreign)
    with pytest.raises(ValueError, match="step-000000000200.safetensors: not the file"):
        load_series(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"format": "slt_rl',
        "[]",
        '{"format": "other"}',
        '{"format": "slt_rl.checkpoints/2", "metadata": {}, "checkpoints": []}',
    ],
)
def test_broken_index_is_named(folder, text):
    (folder / "index.json").write_text(text)
    with pytest.raises(ValueError, match="index.json"):
        load_series(folder)


@pytest.mark.parametrize(
    "record",
    [{"step": 1}, {"step": 1, "sha256": "", "file": "../secret"}],
)
def test_records_that_say_too_little_or_lead_outside_are_refused(folder, record):
    index = {"format": "slt_rl.checkpoints/2", "metadata": {}, "checkpoints": [record]}
    write_document(folder / "index.json", index)
    with pytest.raises(ValueError, match="index.json: expected a list of checkpoints with step"):
        load_series(folder)


def test_empty_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="index.json: cannot be read"):
        load_series(tmp_path)


def test_structures_must_agree(folder):
    save_checkpoint(folder, 5, {"other": np.zeros(2)})
    with pytest.raises(ValueError, match=r"index.json: .*step 5"):
        load_series(folder)


@pytest.mark.parametrize("tree", [[np.zeros(2)], {"a": [np.zeros(2)]}, {"a": None}, {"a/b": 1.0}])
def test_only_nested_dicts_of_arrays_are_stored(tmp_path, tree):
    with pytest.raises(ValueError, match="params: got"):
        save_checkpoint(tmp_path, 0, tree)


def test_steps_must_be_distinct_and_known(folder):
    with pytest.raises(ValueError, match="strictly increasing"):
        stack_checkpoints([(1, params(1)), (1, params(2))])
    with pytest.raises(ValueError, match="step: got 3, expected one of"):
        load_series(folder).at_step(3)
    with pytest.raises(ValueError, match="leading axis 2"):
        CheckpointSeries(np.array([0, 1]), {"a": np.zeros(3)})
    with pytest.raises(ValueError, match="step: got -1"):
        save_checkpoint(folder, -1, params(0))


def test_some_of_the_records_can_be_read(folder):
    assert recorded_steps(folder).tolist() == [0, 200, 1000]
    series = load_series(folder, steps=[1000, 0])
    assert series.steps.tolist() == [0, 1000]
    assert_equal(series.at_step(1000), params(1000))
    with pytest.raises(ValueError, match=r"index.json: no record of step 7, has \[0, 200, 1000\]"):
        load_series(folder, steps=[7])


def test_metadata_of_a_record_are_kept_beside_its_digest(folder):
    save_checkpoint(folder, 300, params(300), metadata={"run": "a"})
    save_checkpoint(folder, 1000, params(1000))
    assert recorded_metadata(folder) == {0: {}, 200: {}, 300: {"run": "a"}, 1000: {}}


def test_later_records_are_forgotten(folder, tmp_path):
    forget_after(folder, 200)
    assert recorded_steps(folder).tolist() == [0, 200]
    forget_after(tmp_path / "nothing", 200)
    assert not (tmp_path / "nothing").exists()


def test_a_killed_write_leaves_the_old_file(folder, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(folder, 200, params(9))
    monkeypatch.undo()
    assert_equal(load_series(folder).at_step(200), params(200))
    assert not list(folder.glob(".*"))


def test_public_names():
    for name in ("fingerprint", "load_arrays", "save_arrays"):
        assert callable(getattr(checkpoints, name))

"""Run folders: a killed run ends with the same numbers, a finished one can be continued."""

import dataclasses
import importlib
import json
import shutil
import signal

import jax
import numpy as np
import pytest

from slt_rl.agents import branch_run, load_run, make_subjects, training
from slt_rl.agents import folder as files
from slt_rl.agents.spec import WorldSpec
from slt_rl.agents.state_files import save_state
from slt_rl.agents.training import train_run
from slt_rl.checkpoints import forget_after, load_series, recorded_steps, save_series
from slt_rl.development import event_curves
from tests.agents.toy_runs import CART, LONGER, NAMES, TOY, Killed, kill_at
from tests.failing_writes import fail_write

TRAIN = importlib.import_module("slt_rl.rl.train")


pytestmark = [pytest.mark.unoptimized, pytest.mark.usefixtures("cartpole")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cartpole):
    del cartpole
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert train_run(TOY, folder)
    return folder


def same_files(one, two):
    """Whether two folders hold the same numbers."""
    one, two = load_run(one), load_run(two)
    np.testing.assert_array_equal(one.steps, two.steps)
    for seed in one.seeds:
        jax.tree.map(
            np.testing.assert_array_equal,
            one.checkpoints(seed).params,
            two.checkpoints(seed).params,
        )
        a, b = one.statistics(seed), two.statistics(seed)
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_killed_run_ends_with_the_same_numbers(finished, tmp_path):
    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        # The state is saved at every checkpoint but the one at which the run is killed.
        train_run(TOY, folder, progress=kill_at(4), save_every=0.0)
    assert train_run(TOY, folder)
    same_files(folder, finished)


def test_a_run_killed_before_anything_was_saved_begins_again(finished, tmp_path):
    with pytest.raises(Killed):
        train_run(TOY, tmp_path, progress=kill_at(2))
    assert train_run(TOY, tmp_path)
    same_files(tmp_path, finished)


def test_checkpoints_of_a_history_that_was_not_saved_are_forgotten(tmp_path):
    with pytest.raises(Killed):
        train_run(TOY, tmp_path, progress=kill_at(4))
    assert load_run(tmp_path).steps.tolist() == [0, 64, 128]
    # A longer run with another schedule begins again: update 2 is no checkpoint of it.
    assert train_run(dataclasses.replace(LONGER, num_checkpoints=2), tmp_path)
    assert load_run(tmp_path).steps.tolist() == [0, 128, 256]


def test_a_stop_after_some_seconds_can_be_continued(finished, tmp_path):
    stops = 0
    while not train_run(TOY, tmp_path, seconds=0.0):
        stops += 1
    assert stops == 2  # of the checkpoints 2, 4 and 6
    same_files(tmp_path, finished)


def test_training_is_compiled_once_and_before_the_worlds_are_made(tmp_path, monkeypatch):
    happened = []

    def listen(event, *_, fun_name="", **__):
        happened.append((event.split("/")[-1], fun_name))

    jax.monitoring.register_event_duration_secs_listener(listen)
    monkeypatch.setattr(WorldSpec, "env", lambda spec: happened.append("worlds") or CART)
    # Of another size than those of the other tests, so that it is not compiled yet.
    small = dataclasses.replace(TOY, learning=dataclasses.replace(TOY.learning, num_steps=3))
    train_run(small, tmp_path)
    assert happened.count("worlds") == 2  # Their shapes, and they themselves.
    lowered = happened.index(("jaxpr_to_mlir_module_duration", "jit(_advance)"))
    assert "worlds" in happened[lowered:]
    assert happened.count(("backend_compile_duration", "jit(_advance)")) == 1


def test_a_finished_run_goes_on_as_a_longer_one(finished, tmp_path):
    folder, whole = tmp_path / "continued", tmp_path / "whole"
    shutil.copytree(finished, folder)
    programs = TRAIN._advance._cache_size()
    assert train_run(LONGER, folder) and train_run(LONGER, whole)
    assert TRAIN._advance._cache_size() == programs
    same_files(folder, whole)
    record = load_run(folder).record
    assert record.segments == (
        {"from_update": 0, "num_updates": 6},
        {"from_update": 6, "num_updates": 8},
    )
    # Without its state it begins anew, under the schedule of the longer run.
    files.state_path(folder).unlink()
    assert train_run(LONGER, folder)
    assert [s["num_updates"] for s in load_run(folder).record.segments] == [6, 8]
    assert [s["from_update"] for s in load_run(folder).record.segments] == [0, 0]


def test_other_versions_are_noted_where_they_begin(finished, tmp_path):
    with pytest.raises(Killed):
        train_run(TOY, tmp_path, progress=kill_at(4), save_every=0.0)
    record = files.read_record(tmp_path)
    files.write_record(tmp_path, dataclasses.replace(record, versions={"jax": "0"}))
    assert train_run(TOY, tmp_path)
    same_files(tmp_path, finished)
    noted = files.read_record(tmp_path)
    segment = {"from_update": 2, "num_updates": 6, "versions": record.versions}
    assert noted.segments == (*record.segments, segment)
    assert noted.latest_versions == record.versions
    assert train_run(TOY, tmp_path)
    assert files.read_record(tmp_path) == noted


def test_statistics_that_end_before_the_state_are_refused(finished, tmp_path):
    folder = tmp_path / "older"
    shutil.copytree(finished, folder)
    record = files.read_record(folder)
    rows = files.read_statistics(folder, record, 5)
    older = {name: leaf[:4] for name, leaf in rows.items()}
    files.write_statistics(folder, record, 5, statistics=older)
    with pytest.raises(ValueError, match=r"state.safetensors: is of update 6, but .* end at 4"):
        train_run(LONGER, folder)


def test_a_finished_run_is_left_alone(finished, tmp_path, monkeypatch):
    folder = tmp_path / "again"
    shutil.copytree(finished, folder)
    monkeypatch.setattr(training, "advance_call", None)  # Nothing is compiled either.
    calls = []
    assert train_run(TOY, folder, progress=lambda *call: calls.append(call[0]))
    assert calls == [6]


def test_statistics_are_sums_that_add_up(finished):
    run = load_run(finished)
    assert run.steps.tolist() == [0, 64, 128, 192] and run.event_names == NAMES
    for seed in run.seeds:
        found = run.statistics(seed)
        assert found["steps"].tolist() == [32, 64, 96, 128, 160, 192]
        assert found["play_steps"].tolist() == [32] * 6
        assert 4 < found["num_episodes"].sum() < 24
        # Every step of CartPole pays one; left or right is done in every step.
        np.testing.assert_array_equal(found["total_return"], found["total_length"])
        np.testing.assert_array_equal(found["counts"][:, :2].sum(axis=1), 32)
        np.testing.assert_array_equal(
            found["episode_counts"][:, :2].sum(axis=1), found["total_length"]
        )
        assert found["counts"].dtype == np.int64 and found["total_return"].dtype == np.float64


def test_totals_give_curves(finished):
    run = load_run(finished)
    curves = event_curves(run.totals(), window=3)
    assert curves.per_episode.shape == (2, 2, 3)
    counts = run.statistics(5)["counts"][3:].sum(axis=0)
    np.testing.assert_allclose(curves.per_step[1, 1], counts / 96)


def test_the_agent_is_rebuilt(finished):
    run = load_run(finished)
    env, policy, value_fn = run.env(), run.policy(), run.value_fn()
    params = run.checkpoints(3)[-1]
    state, observation = env.reset(jax.random.key(0))
    distribution = policy(params["policy"], observation)
    assert distribution.logits.shape == (2,)
    assert value_fn(params["value"], observation).shape == ()
    assert env.names == run.event_names and state.totals.steps == 0
    first, last = run.checkpoints(3)[0], params
    assert not np.array_equal(
        first["policy"]["layer_0"]["kernel"], last["policy"]["layer_0"]["kernel"]
    )
    with pytest.raises(ValueError, match="feed-forward: use policy"):
        run.network()
    with pytest.raises(ValueError, match=r"seed: got 4, .* has \[3, 5\]"):
        run.checkpoints(4)


def test_another_architecture_is_refused(finished, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(finished, folder)
    wide = dataclasses.replace(TOY, network=dataclasses.replace(TOY.network, layers=3))
    with pytest.raises(ValueError, match="run.json: network is .* was asked for"):
        train_run(wide, folder)
    other = tmp_path / "wide"
    record = dataclasses.replace(load_run(folder).record, spec=wide)
    shutil.copytree(folder / "seed-3", other / "seed-3")
    shutil.copytree(folder / "seed-5", other / "seed-5")
    files.write_record(other, record)
    with pytest.raises(ValueError, match="seed-3.*of another run.*than .*run.json says; copy the"):
        load_run(other)
    # Checkpoints that were put there by other means do not say of which run they are.
    for seed in record.spec.seeds:
        save_series(files.series_path(other, seed), load_series(files.series_path(other, seed)))
    with pytest.raises(ValueError, match="seed-3.*another architecture than .*run.json"):
        load_run(other).checkpoints(3)
    with pytest.raises(ValueError, match="seed-3.*another architecture than .*run.json"):
        make_subjects(_without_worlds(load_run(other)))
    with pytest.raises(ValueError, match="fingerprint"):
        load_run(other).statistics(3)
    recurrent = dataclasses.replace(TOY, network=dataclasses.replace(TOY.network, width=4))
    files.write_record(other, dataclasses.replace(record, spec=recurrent))
    with pytest.raises(ValueError, match=r"layer_0/bias has shape \(8,\), expected nothing"):
        make_subjects(_without_worlds(load_run(other)))


def _without_worlds(run):
    """The run, in which nothing can be played."""

    class Unplayed(type(run)):
        def env(self):
            raise AssertionError("worlds were made")

    return Unplayed(**vars(run))


@pytest.mark.parametrize("part", ["core", "layer_0:x", "layer_0:8", "layer_0:"])
def test_a_part_that_is_none_is_refused_before_a_world_is_made(finished, part):
    with pytest.raises(ValueError, match=f"part: got '{part}', expected the beginning of one of"):
        make_subjects(_without_worlds(load_run(finished)), part=part)


def test_sizes_are_refused_before_a_world_is_made(finished):
    run = _without_worlds(load_run(finished))
    with pytest.raises(ValueError, match="num_states: got 3, expected at least 8"):
        make_subjects(run, num_states=3)
    with pytest.raises(ValueError, match="num_states: got 16385, expected at most 16384"):
        make_subjects(run, num_states=16_385, own=True)
    with pytest.raises(ValueError, match=r"num_states: got 131073, expected at most 131072"):
        make_subjects(run, num_states=131_073)


def test_settings_that_do_not_fit_the_folder_are_refused(finished):
    with pytest.raises(ValueError, match="num_updates: got 5, but .* is of a run of 6"):
        train_run(dataclasses.replace(TOY, num_updates=5), finished)
    with pytest.raises(ValueError, match="num_checkpoints, schedule"):
        train_run(dataclasses.replace(TOY, num_checkpoints=2), finished)
    with pytest.raises(ValueError, match="seeds is"):
        train_run(dataclasses.replace(TOY, seeds=(3,)), finished)


def test_an_altered_description_is_refused(finished, tmp_path):
    folder = tmp_path / "altered"
    shutil.copytree(finished, folder)
    text = json.loads((folder / "run.json").read_text())
    text["spec"]["learning"]["discount"] = 0.5
    (folder / "run.json").write_text(json.dumps(text))
    with pytest.raises(ValueError, match="run.json: .* was altered"):
        load_run(folder)
    (folder / "run.json").write_text("{")
    with pytest.raises(ValueError, match="run.json: truncated"):
        load_run(folder)


def test_a_run_that_is_not_there_or_not_whole_says_what_to_do(finished, tmp_path):
    with pytest.raises(ValueError, match=r"no/run.json: missing; .*`slt-rl train GAME --out .*no`"):
        load_run(tmp_path / "no")
    folder = tmp_path / "half"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "seed-5" / "checkpoints")
    message = r"seed-5/checkpoints/index.json: cannot be read .*the seeds \[3, 5\].*copy the whole"
    with pytest.raises(ValueError, match=message):
        load_run(folder)


@pytest.mark.parametrize("change", ["length", "branch", "seeds exchanged"])
def test_checkpoints_of_another_run_of_the_same_shapes_are_refused(finished, tmp_path, change):
    folder, other, own = tmp_path / "run", tmp_path / "other", "seed-3/checkpoints"
    shutil.copytree(finished, folder)
    if change == "length":
        assert train_run(LONGER, other)
    elif change == "branch":
        branch_run(finished, other, step=64)
        assert train_run(TOY, other)
    else:
        shutil.copytree(finished / "seed-5/checkpoints", other / own)
    shutil.rmtree(folder / own)
    shutil.copytree(other / own, folder / own)
    with pytest.raises(ValueError, match=rf"{own}: its checkpoint of step \d+ is of another run"):
        load_run(folder)


def test_a_damaged_checkpoint_is_refused_before_a_world_is_made(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    path = folder / "seed-5" / "checkpoints" / "step-000000000128.safetensors"
    shutil.copy(path.with_name("step-000000000064.safetensors"), path)
    with pytest.raises(ValueError, match=f"{path.name}: not the file .* copy the whole folder"):
        make_subjects(_without_worlds(load_run(folder)), seeds=(3,))
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=f"{path.name}: truncated.* copy the whole folder"):
        make_subjects(_without_worlds(load_run(folder)))


def test_files_of_a_run_that_are_damaged_say_what_to_do(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    run = load_run(folder)
    advice = {
        "seed-3/statistics.safetensors": (lambda: run.statistics(3), "copy the whole folder"),
        "state.safetensors": (lambda: train_run(LONGER, folder), "remove it, and the same command"),
        "seed-3/checkpoints/index.json": (lambda: load_run(folder), "copy the whole folder"),
        "run.json": (lambda: load_run(folder), "copy the whole folder"),
    }
    for name, (call, text) in advice.items():
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-9])
        with pytest.raises(ValueError, match=f"{name}: truncated.*{text}"):
            call()
        (folder / name).write_bytes(data)
    (folder / "seed-3" / "statistics.safetensors").unlink()
    with pytest.raises(ValueError, match="statistics.safetensors: missing; .*go on with the same"):
        run.statistics(3)


def test_a_longer_run_is_refused_where_a_file_is_damaged_before_anything_is_written(
    finished, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    monkeypatch.setattr(training, "advance_call", None)  # Nothing is compiled either.
    path, before = folder / "seed-5" / "statistics.safetensors", files.read_record(folder)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="seed-5/statistics.safetensors: truncated"):
        train_run(LONGER, folder)
    shutil.copy(finished / "seed-5" / "statistics.safetensors", path)
    save_state(files.state_path(folder), {"a": np.zeros(2)}, {"fingerprint": "0", "update": 6})
    with pytest.raises(
        ValueError, match="state.safetensors: fingerprint is '0', expected .*remove"
    ):
        train_run(LONGER, folder)
    assert files.read_record(folder) == before and load_run(folder).steps[-1] == 192


def test_only_checkpoints_of_all_seeds_count(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    forget_after(tmp_path / "run" / "seed-5" / "checkpoints", 128)
    run = load_run(tmp_path / "run")
    assert run.steps.tolist() == [0, 64, 128] and len(run.checkpoints(3)) == 3
    assert recorded_steps(tmp_path / "run" / "seed-3" / "checkpoints").tolist() == [0, 64, 128, 192]


def test_an_agent_with_memory_is_kept_and_rebuilt(tmp_path):
    network = dataclasses.replace(TOY.network, width=4)
    spec = dataclasses.replace(TOY, network=network, seeds=(3,), num_updates=2, num_checkpoints=1)
    assert train_run(spec, tmp_path)
    run = load_run(tmp_path)
    series, core = run.checkpoints(3), run.network()
    assert set(series[0]) == {"encoder", "core", "actor", "critic"}
    hidden = core.initial_hidden(series[-1], 5)
    observation, reset = np.ones((6, 5, 4)), np.zeros((6, 5), bool)
    hidden, distribution, value = core.apply(series[-1], hidden, observation, reset=reset)
    assert hidden.shape == (5, 4) and distribution.logits.shape == (6, 5, 2)
    assert value.shape == (6, 5)
    with pytest.raises(ValueError, match="recurrent: use network"):
        run.policy()


@pytest.mark.parametrize("number", [1, 2, 3, 7, 12, 20])
def test_a_full_disk_says_so_and_the_run_goes_on(finished, tmp_path, monkeypatch, number):
    with monkeypatch.context() as failing:
        fail_write(failing, number)
        with pytest.raises(OSError, match=r": cannot be written \(No space left on device\)"):
            train_run(TOY, tmp_path, save_every=0.0)
    assert train_run(TOY, tmp_path)
    same_files(tmp_path, finished)


@pytest.mark.usefixtures("interruptible")
def test_control_c_in_training_loses_nothing(finished, tmp_path):
    def interrupt(update, num_updates, statistics):
        del num_updates, statistics
        if update == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_run(TOY, tmp_path, progress=interrupt, save_every=0.0)
    assert train_run(TOY, tmp_path)
    same_files(tmp_path, finished)

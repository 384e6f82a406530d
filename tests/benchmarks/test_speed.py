"""The speed benchmark runs at toy size, and its models are what they say."""

import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
from benchmarks import (
    speed,
    speed_cases,
    speed_craftax,
    speed_figures,
    speed_page,
    speed_parts,
    speed_peers,
    speed_ppo,
    speed_runs,
)

SIZES = {"DLN": 300, "MLP": 101_770}


@pytest.mark.parametrize("model", speed_cases.models(), ids=lambda model: model.name)
def test_the_center_of_every_model_is_an_exact_minimum(model):
    work = speed_runs.workload(model, 8)
    losses, gradient = jax.value_and_grad(lambda w: model(w, work.data.examples).mean())(
        work.params
    )
    assert np.isfinite(losses)
    assert max(float(np.abs(x).max()) for x in jax.tree.leaves(gradient)) < 1e-6
    size = sum(x.size for x in jax.tree.leaves(work.params))
    assert size == SIZES.get(model.name.split()[0], size)


def test_the_rows_of_a_gpu_are_written_as_they_come(tmp_path):
    arguments = ["--device", "gpu", "--quick", "--models", "DLN", "--out", str(tmp_path)]
    assert speed.main(arguments) == 0
    text = (tmp_path / "speed_gpu.json").read_text()
    assert '"ratio"' in text and '"failed"' not in text


def test_operations_of_a_recurrent_model_are_those_of_all_its_steps():
    work = speed_runs.workload(speed_cases.recurrent_policy(), 8)
    kernels = sum(x.size for x in jax.tree.leaves(work.params) if x.ndim == 2)
    found = speed_runs.num_operations(work, num_chains=1, batch_size=8)
    # The product with a kernel and the two of its gradient, for 8 sequences of 16.
    assert 0.9 < found / (3 * 2 * kernels * 16 * 8) < 1.5


@pytest.mark.parametrize("floor", ["floor_loop", "floor_gathering", "floor_calls"])
def test_a_floor_takes_as_many_gradients_as_it_is_counted_for(floor):
    calls = []

    def loss_fn(params, examples):
        jax.debug.callback(lambda: calls.append(1))
        return (examples @ params) ** 2

    work = speed_runs.Workload(loss_fn, jnp.ones(3), slt_rl.Dataset(jnp.ones((8, 3))))
    getattr(speed_runs, floor)(work, num_chains=1, batch_size=4, num_steps=5)()
    jax.effects_barrier()
    assert len(calls) == 5


def test_a_ratio_is_the_median_over_neighbors_in_time():
    found = {
        "a": speed_runs.Times([2.0, 30.0, 4.0], [1.0] * 3),
        "b": speed_runs.Times([1.0, 10.0, 2.0], [1.0] * 3),
    }
    assert speed_runs.ratio(found, "a", "b") == 2.0


def test_bars_are_the_medians_of_the_rows_ours_and_theirs():
    def times(wall):
        return {"wall": wall, "low": wall / 2, "high": 2 * wall}

    row = {"model": "m", "ratios": {"peer": 3.0}}
    row["microseconds"] = {"slt_rl": times(10.0), "peer": times(30.0)}
    (axis,) = speed_figures.call_figure([row]).axes
    assert [bar.get_width() for bar in axis.patches] == [10.0, 30.0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["slt_rl", "peer"]
    assert [list(line.get_xdata()) for line in axis.lines] == [[5.0, 20.0], [15.0, 60.0]]
    assert [text.get_text() for text in axis.texts] == ["", "3 x slt_rl"]
    row = {"name": "t", "ratio": 3.0, "microseconds": row["microseconds"]}
    (axis,) = speed_figures.steps_figure([row]).axes
    assert [bar.get_width() for bar in axis.patches] == [1e5, 1e6 / 30]


def test_a_part_measured_alone_has_a_page_of_its_own():
    times = {"slt_rl": {"low": 1.0, "wall": 2.0, "high": 3.0}}
    row = {"name": "t", "runs": 1, "ratio": 1.0, "microseconds": times}
    row["steps_per_second"] = {"slt_rl": 1.0, "reference": 1.0}
    ppo, play = row | {"part": "ppo"}, row | {"part": "rollout"}
    assert speed_page.make_page([ppo]).name == "speed_ppo"
    assert speed_page.make_page([ppo, play]).name == "speed"


def no_pip(folder, **options):
    raise subprocess.CalledProcessError(1, ["python", "-m", "ensurepip"])


def no_index(command):
    raise speed_peers.NotInstalled(f"{command[2]} install ...: ERROR: no matching distribution")


@pytest.mark.parametrize("reason", ["ensurepip", "no matching distribution"])
def test_peers_that_cannot_be_installed_are_skipped_with_the_reason(tmp_path, monkeypatch, reason):
    tries = []
    monkeypatch.setattr(speed_peers, "HOME", tmp_path)
    monkeypatch.setattr(speed_peers, "_run", no_index)
    create = no_pip if reason == "ensurepip" else lambda folder, **options: None
    monkeypatch.setattr(speed_peers.venv, "create", lambda *a, **k: tries.append(a) or create(*a))
    speed_peers._attempt.cache_clear()
    for _ in range(2):
        with pytest.raises(speed_peers.NotInstalled, match=reason):
            speed_peers.python_of("devinterp==2.0.1")
    assert len(tries) == 1
    speed_peers._attempt.cache_clear()


def test_training_that_is_slower_than_the_reference_does_not_hold():
    for slowness, held in ((1.0, True), (1.06, False)):
        waits = {"slt_rl": 2e-3 * slowness, "reference": 2e-3}
        runs = {name: lambda w=wait: speed_runs.Elsewhere(w, w) for name, wait in waits.items()}
        row = speed_ppo.timed_row("training", runs, 0.0, num_runs=1, num_steps=10)
        page = speed_craftax.make_page(row)
        assert row["ratio"] == pytest.approx(1 / slowness)
        assert row["steps_per_second"]["reference"] == pytest.approx(5000.0)
        assert [check.held for check in page.checks] == [held]
        assert set(page.figures) == {"times"}


@pytest.mark.unoptimized
def test_the_page_has_a_table_of_every_part_and_names_what_was_skipped(monkeypatch):
    def missing(peer):
        raise speed_peers.NotInstalled(f"{peer} is not to be had")

    # The compilation of another process is another program's matter.
    monkeypatch.setattr(speed_parts, "cold_seconds", lambda *args: 1.0)
    monkeypatch.setattr(speed_peers, "python_of", missing)
    options = speed.parse(["--quick", "--models", "DLN", "--peers"])
    cases = {case.name.split(":")[0]: case for case in speed_parts.cases(options)}
    assert list(cases) == list(speed.PARTS)
    found = [{"case": case.name, **case.measure(options)} for case in cases.values()]
    page = speed_page.make_page(found)
    assert [table.title for table in page.tables] == [
        "The loop", "Whole estimates", "Automatic calibration", "Curves", "Training by PPO",
        "Play alone",
    ]  # fmt: skip
    assert list(page.figures) == ["ratios", "calls", "curves", "training", "play"]
    for peer in speed_peers.PEERS:
        assert f"{peer} ({peer} is not to be had)" in page.tables[1].note
    assert page.tables[1].note.startswith("4 chains of 8 draws, batch 64")

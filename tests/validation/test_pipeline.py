"""The run as a whole: interrupted and resumed, it ends with the same numbers."""

import dataclasses
import functools
import json
import os
import signal
import time

import jax
import numpy as np
import pytest

from slt_rl import cli
from slt_rl.validation import QUICK, exact, pipeline, validate

pytestmark = pytest.mark.unoptimized

TINY = dataclasses.replace(
    QUICK,
    name="tiny",
    num_supervised=2,
    num_epochs=16,
    num_ppo=2,
    num_iterations=40,
    num_checkpoints=10,
    num_llc_runs=1,
    num_examples=60,
    num_chains=2,
    num_draws=40,
    num_burnin=40,
    occupancy_sizes=(5, 10),
    num_particles=20,
)


@pytest.fixture(autouse=True)
def without_targets(monkeypatch):
    """The stage of tabulated targets has tests of its own; here it would take most of the time."""
    rows = len(exact._rows())
    numbers = {"mean": np.ones, "sem": np.ones, "verdict": lambda n: np.array(["trusted"] * n)}
    found = {f"limit_{k}": f(3) for k, f in numbers.items()}
    found |= {f"finite_{k}": f(rows) for k, f in numbers.items()}
    found["finite_row"] = np.arange(rows)
    monkeypatch.setattr(exact, "measure_targets", lambda key, protocol: found)


# Facts of the process and not of the run: this process has compiled all programs before.
OF_THE_PROCESS = ("peak memory", "one compilation")


def numbers(folder):
    summary = json.loads((folder / "summary.json").read_text())
    checks = {c["name"]: c["value"] for c in summary["checks"] if c["name"] not in OF_THE_PROCESS}
    return checks, summary["tables"]


def test_an_interrupted_run_resumes_to_the_same_numbers(tmp_path, monkeypatch):
    whole = validate(TINY, tmp_path / "whole", progress=False)
    measure = pipeline.curves.measure_run

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.curves, "measure_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        validate(TINY, tmp_path / "parts", progress=False)
    kept = {p.stem for p in (tmp_path / "parts" / "stages").iterdir()}
    # What a curve needs is finished; the others end where the interrupt finds them.
    assert {"exact", "sgd"} <= kept <= {"exact", "sgd", "ppo", "occupancy"}
    monkeypatch.setattr(pipeline.curves, "measure_run", measure)
    resumed = validate(TINY, tmp_path / "parts", progress=False)
    assert len(resumed.checks) == len(whole.checks)
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    validate(TINY, tmp_path / "parts", progress=False)
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    assert (tmp_path / "parts" / "report.html").exists()
    # So short a run reaches no level: it must not claim that everything held.
    assert not whole.all_held


@pytest.mark.usefixtures("interruptible")
def test_control_c_begins_no_stage_and_ends_those_at_work(tmp_path, monkeypatch):
    ended = []

    def train(key, protocol, progress, *, interrupts=False):
        del key, protocol
        if interrupts:
            os.kill(os.getpid(), signal.SIGINT)
        for _ in range(50):
            time.sleep(0.1)
            progress("training", 1, 2)
        ended.append("training")

    def occupancy(key, protocol):
        del key, protocol
        ended.append("occupancy")

    first = functools.partial(train, interrupts=True)
    monkeypatch.setattr(pipeline.training, "train_supervised", first)
    monkeypatch.setattr(pipeline.training, "train_ppo", train)
    monkeypatch.setattr(pipeline.bayesian, "measure_occupancy", occupancy)
    with pytest.raises(KeyboardInterrupt):
        validate(TINY, tmp_path, progress=False)
    assert not ended


def test_a_folder_of_another_protocol_is_refused(tmp_path):
    stages = tmp_path / "stages"
    pipeline.Store(stages, {"protocol": "other"}).stage("exact", lambda: {"x": np.zeros(1)})
    with pytest.raises(ValueError, match=r"exact\.safetensors.*other settings"):
        validate(TINY, tmp_path, progress=False)


def test_single_precision_is_refused(tmp_path):
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64: got False"):
        validate(TINY, tmp_path, progress=False)


def test_command_line_reports_interruption_and_bad_files(tmp_path, monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("slt_rl.validation.validate", interrupted)
    assert cli.main(["validate", "--quick", "--out", str(tmp_path)]) == 130
    assert "run the same command to go on" in capsys.readouterr().err

    def unusable(*args, **kwargs):
        raise ValueError("stages: other settings")

    monkeypatch.setattr("slt_rl.validation.validate", unusable)
    assert cli.main(["validate", "--out", str(tmp_path)]) == 2
    assert "other settings" in capsys.readouterr().err

    def full(*args, **kwargs):
        raise OSError(28, "stages/ppo.safetensors: cannot be written (No space left on device)")

    monkeypatch.setattr("slt_rl.validation.validate", full)
    assert cli.main(["validate", "--out", str(tmp_path)]) == 2
    assert "ppo.safetensors: cannot be written (No space left" in capsys.readouterr().err
    with pytest.raises(SystemExit) as bad:
        cli.main(["validate", "--slow"])
    assert bad.value.code == 2

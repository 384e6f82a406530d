"""The climb as a whole, its measurements made up: report, resumption, exit status."""

import json

import jax
import pytest

from slt_rl import cli
from slt_rl.difficulty import QUICK, climb, pipeline
from slt_rl.difficulty.controls import control_checks
from slt_rl.report import Check
from tests.difficulty.made_up import made_up_arrays


@pytest.fixture
def measured(monkeypatch):
    """Numbers of the rungs measured; nothing is sampled."""
    numbers = []

    def measure_rung(key, rung, protocol, *, progress):
        numbers.append(rung.number)
        return made_up_arrays(rung)

    held = [Check("other", "Stands for checks that are tested elsewhere.", "true", True, True)]
    monkeypatch.setattr(pipeline, "measure_rung", measure_rung)
    monkeypatch.setattr(pipeline, "exact_checks", lambda: held)
    monkeypatch.setattr(pipeline, "control_checks", lambda key, protocol: [])
    return numbers


def test_a_climb_reports_and_resumes(measured, tmp_path):
    found = climb(QUICK, tmp_path, progress=False)
    assert measured == list(QUICK.rungs)
    # Made-up numbers cannot be outside where theory says so: nothing else fails.
    assert {c.name for c in found.checks if not c.held} == set()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert "figures/ladder.svg" in summary["figures"]
    assert (tmp_path / "report.html").stat().st_size > 20_000
    again = climb(QUICK, tmp_path, progress=False)
    assert measured == list(QUICK.rungs)
    assert [c.value for c in again.checks] == [c.value for c in found.checks]


def test_rungs_that_were_shared_out_are_not_measured_again(measured, tmp_path):
    pipeline.measure_rungs(QUICK, tmp_path, numbers=(3,), progress=False)
    pipeline.measure_rungs(QUICK, tmp_path, numbers=(6,), progress=False)
    pipeline.examine(QUICK, tmp_path, progress=False)
    assert measured == [3, 6, 1]


def test_the_command_ends_with_the_outcome(measured, tmp_path, capsys):
    assert cli.main(["ladder", "--quick", "--out", str(tmp_path)]) == 0
    assert "checks held" in capsys.readouterr().out


def test_single_precision_is_refused(tmp_path):
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(ValueError, match="jax_enable_x64"):
            climb(QUICK, tmp_path)
    finally:
        jax.config.update("jax_enable_x64", True)


def test_negative_controls_are_refused():
    checks = control_checks(jax.random.key(0), QUICK)
    assert len(checks) == 7
    assert [str(check) for check in checks if not check.held] == []

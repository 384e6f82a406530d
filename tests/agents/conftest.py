"""One small run for all tests of the package, and its curve."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import small_worlds

from slt_rl.agents.curve import Sampling
from slt_rl.agents.measure import make_subjects, measure_curve

QUICK = Sampling(num_draws=128)


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory):
    """FirstOnly, three seeds: plants rise above one and decay to one."""
    return small_worlds.first_only_run(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def toy_curve(toy_run):
    """Its LLC at eleven checkpoints and two localizations, measured with few draws."""
    subjects = make_subjects(toy_run, num_states=64, num_checkpoints=11)
    return measure_curve(
        toy_run.folder / "curves", "policy-reference", subjects, localizations=(100.0, 10.0),
        sampling=QUICK, num_threads=1,
    )  # fmt: skip

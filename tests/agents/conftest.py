"""One small run for all tests of the package, and its curve."""

import pytest

from slt_rl.agents.measure import make_subjects, measure_curve
from tests.agents import small_worlds


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
        sampling=small_worlds.QUICK, num_threads=1,
    )  # fmt: skip

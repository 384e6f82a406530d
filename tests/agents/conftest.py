"""One small run for all tests of the package, its curve, and worlds that are CartPole."""

import pytest

from slt_rl.agents.measure import make_subjects, measure_curve
from tests.agents import small_worlds
from tests.agents.toy_runs import play_cartpole


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


@pytest.fixture(scope="module")
def cartpole():
    """Every description of a world means CartPole in the tests of a module that asks for this."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        play_cartpole(monkeypatch)
        yield

"""Training on from a bundle of parameters: where it begins, and what is new."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.agents import branch_run, load_run, pack_run, restart_run, unpack_run
from slt_rl.agents.folder import write_statistics
from slt_rl.agents.restart import _counted
from slt_rl.agents.spec import LearningSpec
from slt_rl.agents.training import train_run
from slt_rl.array_files import load_arrays
from tests.agents.toy_runs import TOY

pytestmark = [pytest.mark.unoptimized, pytest.mark.usefixtures("cartpole")]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, cartpole):
    """A run that was stopped at its first checkpoint, and its bundles with and without critic."""
    del cartpole
    folder = tmp_path_factory.mktemp("restart")
    assert not train_run(TOY, folder / "run", seconds=0.0)
    for whole in (True, False):
        size = {"max_bytes": 200_000, "dtype": np.float64}
        pack_run(folder / "run", folder / f"whole-{whole}", whole=whole, **size)
    return folder


def test_training_goes_on_from_the_last_checkpoint(stopped, tmp_path):
    before, folder = load_run(stopped / "run"), tmp_path / "run"
    unpack_run(stopped / "whole-True", folder)
    update = restart_run(folder)
    assert update * TOY.steps_per_update == before.steps[-1] == 64
    assert train_run(TOY, folder)
    run = load_run(folder)
    assert run.steps.tolist() == [0, 64, 128, 192]
    for seed in run.seeds:
        one, other = (r.checkpoints(seed)[1] for r in (run, before))
        jax.tree.map(np.testing.assert_array_equal, one, other)
        for name, leaf in before.statistics(seed).items():
            np.testing.assert_array_equal(run.statistics(seed)[name][:update], leaf)
        assert run.statistics(seed)["steps"].size == 6
    assert run.record.segments[-1] == {"from_update": 2, "num_updates": 6, "restarted": True}


def test_only_what_the_parameters_do_not_hold_is_new(stopped, tmp_path):
    unpack_run(stopped / "whole-True", tmp_path / "run")
    update = restart_run(tmp_path / "run")
    states, marks = load_arrays(tmp_path / "run" / "state.safetensors")
    assert marks["update"] == update and (states["iteration"] == update).all()
    moments = [leaf for name, leaf in states.items() if "/mu/" in name or "/nu/" in name]
    assert moments and not any(leaf.any() for leaf in moments)
    with pytest.raises(ValueError, match="state.safetensors: exists; `train_run` goes on"):
        restart_run(tmp_path / "run")


def test_a_branch_goes_on_from_any_checkpoint_and_leaves_the_run_alone(tmp_path):
    assert train_run(TOY, tmp_path / "run")
    whole = load_run(tmp_path / "run")
    assert whole.steps.tolist() == [0, 64, 128, 192]
    assert branch_run(tmp_path / "run", tmp_path / "branch", step=128) == 4
    begun = load_run(tmp_path / "branch")
    assert begun.steps.tolist() == [0, 64, 128] and begun.statistics(3)["steps"].size == 4
    assert train_run(TOY, tmp_path / "branch")
    branch = load_run(tmp_path / "branch")
    np.testing.assert_array_equal(branch.steps, whole.steps)
    for seed in whole.seeds:
        ours, theirs = branch.checkpoints(seed), whole.checkpoints(seed)
        for index in range(3):
            jax.tree.map(np.testing.assert_array_equal, ours[index], theirs[index])
        last = [np.concatenate([x.ravel() for x in jax.tree.leaves(s[3])]) for s in (ours, theirs)]
        assert not np.array_equal(*last)
        counts = [run.statistics(seed)["counts"] for run in (branch, whole)]
        np.testing.assert_array_equal(counts[0][:4], counts[1][:4])
        assert len(counts[0]) == len(counts[1]) == 6
    assert branch.record.segments[-1] == {"from_update": 4, "num_updates": 6, "restarted": True}
    np.testing.assert_array_equal(load_run(tmp_path / "run").steps, whole.steps)
    with pytest.raises(ValueError, match="branch exists, choose another"):
        branch_run(tmp_path / "run", tmp_path / "branch", step=64)
    with pytest.raises(ValueError, match=r"step: got 65, expected one of \[0, 64, 128, 192\]"):
        branch_run(tmp_path / "run", tmp_path / "other", step=65)


def test_the_learning_rate_is_that_of_the_update():
    spec = dataclasses.replace(TOY, learning=LearningSpec(num_minibatches=2))
    optimizer = spec.learning.optimizer(spec.num_updates)
    params = {"w": jnp.zeros(3)}
    state = _counted(optimizer.init(params), spec, 4)
    # The first step of Adam is the learning rate in every direction; a third of it is left.
    moved, _ = optimizer.update({"w": jnp.array([0.1, -0.2, 0.3])}, state, params)
    rate = spec.learning.learning_rate / 3
    np.testing.assert_allclose(moved["w"], rate * np.array([-1, 1, -1]), rtol=1e-3)


def test_what_cannot_be_trained_on_is_refused(stopped, tmp_path):
    unpack_run(stopped / "whole-False", tmp_path / "run")
    with pytest.raises(ValueError, match=r"has \['policy'\] of \['policy', 'value'\]"):
        restart_run(tmp_path / "run")
    short = tmp_path / "short"
    unpack_run(stopped / "whole-True", short)
    other = load_run(short)
    for seed in other.seeds:
        rows = {name: leaf[:1] for name, leaf in other.statistics(seed).items()}
        write_statistics(short, other.record, seed, statistics=rows)
    with pytest.raises(ValueError, match="statistics end at update 1, before its last checkpoint"):
        restart_run(short)

"""Readouts of a planted bit: known where it is held, not where it is not."""

import numpy as np
import pytest

from benchmarks.craftax_decode import LEVELS, SOURCES, area, held_out_area, readouts


def test_the_area_counts_pairs():
    rng = np.random.default_rng(0)
    score, truth = rng.integers(0, 5, 40).astype(float), rng.random(40) < 0.4
    pairs = score[truth][:, None] - score[~truth][None, :]
    expected = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    assert area(score, truth) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(area(score, truth & False))


def test_what_says_nothing_about_other_environments_has_area_one_half():
    rng = np.random.default_rng(1)
    env = np.repeat(np.arange(50), 40)
    # A mark of the environment, in which nearly all steps have one outcome: no help in others.
    truth = (rng.random(50) < 0.5)[env] ^ (rng.random(env.size) < 0.05)
    marks = np.eye(50)[env]
    # Of 50 environments the area has a standard error of about 0.08.
    assert abs(held_out_area(marks, truth, fold=env % 5) - 0.5) < 0.1
    assert held_out_area(np.c_[marks, truth], truth, fold=env % 5) > 0.99


def test_each_source_says_what_it_holds():
    rng = np.random.default_rng(2)
    num_steps, num_envs = 60, 20
    clock = np.broadcast_to(np.arange(num_steps)[:, None], (num_steps, num_envs))
    # Planted after a random step: the clock says something, the second unit all.
    planted = clock > rng.integers(10, 50, num_envs)
    hidden = np.stack([rng.normal(size=planted.shape), planted], axis=-1)
    observation = rng.normal(size=(num_steps, num_envs, LEVELS.stop + 3)) * 0.0
    observation[..., LEVELS.start] = rng.normal(size=planted.shape)
    seen = {"observation": observation, "hidden": hidden, "clock": clock}
    which = rng.random(planted.shape) < 0.9
    found = dict(zip(SOURCES, readouts(seen, planted, which=which), strict=True))
    # 1080 steps: a standard error of 0.02.
    assert abs(found["levels"] - 0.5) < 0.08
    assert 0.75 < found["levels and clock"] < 0.99
    assert found["memory"] > 0.999 and found["memory, levels and clock"] > 0.999
    seen["hidden"] = hidden[..., :0]
    assert np.isnan(readouts(seen, planted, which=which)[2:]).all()

"""PPO on FirstOnly, small: many plants, then one; the peak falls with the cost; none, no decay."""

import jax
import numpy as np
import pytest

from slt_rl.development import EventEnv, event_curves, landmarks, overshoot_p_value
from slt_rl.rl import GymnaxEnv, init_runs, run_keys, train
from toy_models.first_only import (
    FirstOnlyEnv,
    FirstOnlyParams,
    plant_events,
    planting_params,
    planting_ppo,
)

WORLD = FirstOnlyEnv()
PPO_RULE = planting_ppo(WORLD)
NUM_UPDATES = {0.0: 50, 0.05: 80, 0.2: 80}


def initial(key):
    return planting_params(key, WORLD)


def plants_of(cost):
    """Curves of two seeds."""
    inner = GymnaxEnv(WORLD, FirstOnlyParams(cost=cost))
    env = EventEnv(inner, plant_events, ("plants", "rewarded"))
    keys = run_keys(jax.random.key(0), 2)
    states = init_runs(keys, PPO_RULE, env, init_fn=initial)
    schedule = range(NUM_UPDATES[cost] + 1)
    updates = train(keys, PPO_RULE, env, states=states, checkpoints=schedule)
    totals = [jax.device_get(now.envs.state.totals) for now, _ in updates]
    return event_curves(jax.tree.map(lambda *x: np.stack(x), *totals))


@pytest.fixture(scope="module")
def curves():
    return {cost: plants_of(cost) for cost in NUM_UPDATES}


def found_in(curves):
    rows = curves.per_episode[:, :, 0]
    return [landmarks(np.arange(y.size), y, final=1.0, num_end=10) for y in rows]


def test_every_episode_is_counted_once(curves):
    for found in curves.values():
        np.testing.assert_array_equal(found.num_episodes, 64)
        np.testing.assert_array_equal(found.mean_length, 20)
        # All episodes end with the window, so both ways of counting agree.
        np.testing.assert_allclose(found.per_step * 20, found.per_episode)
        assert np.all(found.per_episode[:, :, 1] <= 1)


def test_many_then_one(curves):
    for cost in (0.05, 0.2):
        plants, sem = curves[cost].per_episode[:, :, 0], curves[cost].sem[:, :, 0]
        for found, y, error in zip(found_in(curves[cost]), plants, sem, strict=True):
            assert y[0] < 0.5 and found.peak > 1.5
            assert found.end == pytest.approx(1.0, abs=0.05)
            assert found.peak_step < found.half_decay_step < y.size
            assert overshoot_p_value(0, y, error, num_end=10) < 0.01


def test_the_peak_falls_with_the_cost(curves):
    peaks = [[found.peak for found in found_in(curves[cost])] for cost in NUM_UPDATES]
    assert min(peaks[0]) > max(peaks[1]) and min(peaks[1]) > max(peaks[2])


def test_without_a_cost_there_is_no_decay_to_one(curves):
    assert all(found.end > 3 for found in found_in(curves[0.0]))

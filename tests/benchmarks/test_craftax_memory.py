"""The page of what agents remember, from made-up play whose memory is known."""

import numpy as np
import pytest

from benchmarks.craftax_decode import LEVELS
from benchmarks.craftax_memory import by_feature, make_page, remembered
from benchmarks.craftax_sight import Steps

TIME, ENVS, LENGTH = 120, 30, 40


def play(*, erased: bool):
    """A hidden state that holds whether a plant was in view three steps ago, and nothing else."""
    rng = np.random.default_rng(0)
    in_view = rng.random((TIME, ENVS)) < 0.5
    direction = np.eye(4)[rng.integers(0, 4, (TIME, ENVS))]
    clock = np.broadcast_to(np.arange(TIME)[:, None] % LENGTH, (TIME, ENVS))
    held = np.where(erased & (clock < 3), 0.5, np.roll(in_view, 3, axis=0))
    observation = np.zeros((TIME, ENVS, LEVELS.stop), np.float32)
    observation[..., LEVELS.start + 16 : LEVELS.start + 20] = direction
    nothing = np.zeros((TIME, ENVS))
    return Steps(
        nothing, nothing, in_view, nothing, nothing, nothing, clock, observation, held[..., None]
    )


@pytest.fixture(scope="module")
def found():
    return remembered(0, [play(erased=True)])


def test_the_lag_that_is_held_is_found_and_no_other(found):
    plant, facing = found.within.excess[:, 0], found.within.excess[:, 1:]
    assert plant[2] > 0.99
    # 3,000 pairs and about 30 inputs: R^2 of chance of a hundredth.
    assert np.abs(np.delete(plant, 2)).max() < 0.03 and np.abs(facing).max() < 0.03


def test_only_what_a_reset_does_not_erase_is_found_across_it():
    lags = np.array([3])
    # 600 pairs across a beginning and about 30 inputs: R^2 of chance of a twentieth.
    for erased, expected in ((True, 0.0), (False, 1.0)):
        memory = remembered(0, [play(erased=erased)] * 3, lags)
        plant, facing = by_feature(memory.across)
        assert abs(plant - expected) < 0.1 and abs(facing) < 0.2
        assert by_feature(memory.within)[0] > 0.99


def test_the_page_has_a_row_for_each_checkpoint():
    lags = list(range(1, 17))
    row = {
        "width": 8, "step": 80_000, "lags": lags, "plant": [[0.05] * 16] * 3,
        "facing": [[0.1] * 16] * 3,
    }  # fmt: skip
    worth = {"width": 8, "remembering": [4.0, 4.0, 4.0], "forgetting": [3.0, 3.0, 3.0]}
    worth |= {"within": [[0.2, 0.4]] * 3, "across": [[0.0, 0.1]] * 3}
    memory, gap, value = make_page([row], [worth]).tables
    assert memory.rows == [[8, 80_000, "0.80 [0.80, 0.80]", "1.60 [1.60, 1.60]"]]
    assert gap.rows[1] == [
        8, "direction", "0.400 [0.400, 0.400]", "0.100 [0.100, 0.100]", "0.300 [0.300, 0.300]"
    ]  # fmt: skip
    assert value.rows == [[8, "4.00 [4.00, 4.00]", "3.00 [3.00, 3.00]", "1.00 [1.00, 1.00]"]]

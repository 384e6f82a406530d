"""The steps at which an agent could plant, on made-up meadows."""

import jax
import jax.numpy as jnp
import pytest

pytest.importorskip("craftax")

from benchmarks.craftax_sight import _able, _plant_in_view
from slt_rl.rl.craftax_events import PLANT
from tests.rl.craftax_worlds import meadow, small_env

pytestmark = pytest.mark.unoptimized


@pytest.fixture(scope="module")
def state():
    with jax.enable_x64(False):
        env = meadow(small_env(), sapling=1)
        yield jax.tree.map(lambda leaf: leaf[0], env.pool[0])


def test_a_plant_can_be_placed_on_free_grass_with_a_sapling_at_hand(state):
    in_front = 28, 27
    assert _able(state)
    assert not _able(state.replace(map=state.map.at[in_front].set(3)))
    assert not _able(state.replace(mob_map=state.mob_map.at[in_front].set(True)))
    assert not _able(state.replace(is_sleeping=jnp.array(True)))
    none = state.inventory.replace(sapling=jnp.int32(0))
    assert not _able(state.replace(inventory=none))


@pytest.mark.parametrize(("place", "seen"), [((31, 28), True), ((24, 28), False), ((28, 24), True)])
def test_a_plant_is_seen_within_the_view(state, place, seen):
    assert bool(_plant_in_view(state.replace(map=state.map.at[place].set(PLANT)))) == seen


def test_the_view_is_wider_than_high(state):
    assert not _plant_in_view(state.replace(map=state.map.at[28, 23].set(PLANT)))

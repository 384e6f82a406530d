"""Craftax: worlds from a pool, ends kept apart, rewards as data, events counted exactly."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("craftax")

from slt_rl.development import EventEnv, EventTotals
from slt_rl.rl import craftax
from slt_rl.rl.craftax_events import BEHAVIORS, FRONT, craftax_events, event_names
from tests.rl.craftax_worlds import NO_CREATURES, meadow, planting_script, small_env

pytestmark = pytest.mark.unoptimized

NUM_ENVS = 32
NUM_STEPS = 160
LIMIT = 120
PLANT = BEHAVIORS.index("plant")


@pytest.fixture(autouse=True, scope="module")
def single_precision():
    with jax.enable_x64(False):
        yield


def counting(env):
    names = event_names(craftax.classic_world().achievements)
    return EventEnv(env, craftax_events, names, craftax.advance_craftax)


@jax.jit
def scripted(key, env, scripts):
    """Plays `[env, time]` actions; the totals after the last step, and what each step gave."""

    def step(states, inputs):
        number, actions = inputs
        keys = jax.random.split(jax.random.fold_in(key, number), actions.shape[0])
        moved = jax.vmap(env.step)(keys, states, actions)
        return moved.state, (moved.reward, moved.terminated, moved.truncated)

    states, _ = jax.vmap(env.reset)(jax.random.split(key, scripts.shape[0]))
    numbers = jnp.arange(scripts.shape[1])
    states, steps = jax.lax.scan(step, states, (numbers, scripts.T))
    return states.totals, steps


class Played:
    """An environment of the package whose one step is known already: played once, used twice."""

    def __init__(self, environment, values):
        self.is_terminal = environment.is_terminal
        self.values = values

    def step_env(self, *_):
        return self.values


@jax.jit
def random_play(key, env):
    """Random actions in `env`, with the package's own reward and flag of each step."""

    def one(keys, state, action):
        key_step = jax.random.split(keys)[0]
        own = env.environment.step_env(key_step, state, action, env.params)
        known = dataclasses.replace(env, environment=Played(env.environment, own))
        return known.step(keys, state, action), own, craftax_events(state, action, own[1])

    def step(states, number):
        key_act, key_step = jax.random.split(jax.random.fold_in(key, number))
        actions = jax.random.randint(key_act, (NUM_ENVS,), 0, 17)
        keys = jax.random.split(key_step, NUM_ENVS)
        moved, own, events = jax.vmap(one)(keys, states, actions)
        record = {
            "own_reward": own[2],
            "reward": moved.reward,
            "own_done": own[3],
            "terminated": moved.terminated,
            "truncated": moved.truncated,
            "health": own[1].player_health,
            "timestep": own[1].timestep,
            "events": events,
            "plants": jax.vmap(new_plant)(states, own[1]),
            "start": moved.state.timestep,
            "same": jnp.all(moved.observation == moved.final_observation, axis=-1),
            "seen": moved.final_observation[:, 1345:],
            "achievements": own[1].achievements,
        }
        return moved.state, record

    states, _ = jax.vmap(env.reset)(jax.random.split(key, NUM_ENVS))
    return jax.lax.scan(step, states, jnp.arange(NUM_STEPS))[1]


def new_plant(state, successor):
    """Whether a young plant stands where grass was in front of the agent: read off the map."""
    row, column = state.player_position + jnp.asarray(FRONT)[state.player_direction]
    return (state.map[row, column] == 2) & (successor.map[row, column] == 15)


@pytest.fixture(scope="module")
def play():
    env = small_env(params={"max_timesteps": LIMIT}, see_achievements=True)
    states, observations = env.pool
    # Saplings at hand: random play plants often.
    states = states.replace(inventory=states.inventory.replace(sapling=jnp.full(4, 9, jnp.int32)))
    env = dataclasses.replace(env, pool=(states, observations))
    return jax.device_get(random_play(jax.random.key(1), env))


def test_the_default_reward_is_the_game_s_own(play):
    np.testing.assert_allclose(play["reward"], play["own_reward"], atol=1e-6)
    assert np.abs(play["reward"]).max() >= 1


def test_ends_are_the_game_s_own_and_kept_apart(play):
    terminated, truncated = play["terminated"], play["truncated"]
    np.testing.assert_array_equal(terminated | truncated, play["own_done"])
    np.testing.assert_array_equal(terminated, play["health"] <= 0)
    assert truncated.sum() > 5 and terminated.sum() > 5 and not np.any(terminated & truncated)
    np.testing.assert_array_equal(play["timestep"][truncated], LIMIT)


def test_a_new_world_begins_where_an_episode_ended(play):
    done = play["terminated"] | play["truncated"]
    np.testing.assert_array_equal(play["start"] == 0, done)
    assert np.all(play["same"][~done]) and not np.any(play["same"][done])


def test_a_plant_is_counted_where_one_stands_on_the_map(play):
    plants = play["events"][..., PLANT].astype(bool)
    np.testing.assert_array_equal(plants, play["plants"])
    assert plants.sum() > 50


@pytest.mark.parametrize("end", ["truncated", "terminated"])
def test_a_script_that_plants_k_times_counts_k(end):
    length, num_plants = 20, (0, 1, 4, 9)
    env = small_env(params=NO_CREATURES | {"max_timesteps": length if end == "truncated" else 999})
    fields = {"sapling": 9}
    if end == "terminated":
        # Without food health falls when the counter passes -15: on the last step of the script.
        fields |= {"player_food": jnp.int32(0), "player_health": jnp.int32(1)}
        fields |= {"player_recover": jnp.float32(length - 16)}
    env = counting(meadow(env, **fields))
    scripts = np.array([planting_script(k, length) * 2 + [0] * 5 for k in num_plants])
    totals, steps = jax.device_get(scripted(jax.random.key(0), env, scripts))
    _, terminated, truncated = steps
    ended = {"terminated": terminated, "truncated": truncated}[end]
    np.testing.assert_array_equal(np.flatnonzero(ended[:, 0]), [length - 1, 2 * length - 1])
    totals = EventTotals(*totals)
    np.testing.assert_array_equal(totals.num_episodes, 2)
    np.testing.assert_array_equal(totals.episode_steps, 2 * length)
    np.testing.assert_array_equal(totals.episode_counts[:, PLANT], 2 * np.array(num_plants))
    np.testing.assert_array_equal(totals.episode_squares[:, PLANT], 2 * np.array(num_plants) ** 2)
    first = env.names.index("achievement/place_plant")
    np.testing.assert_array_equal(totals.episode_counts[:, first], [0, 2, 2, 2])


def test_what_the_numbers_of_blocks_and_actions_mean():
    from craftax.craftax.constants import BlockType as FullBlock
    from craftax.craftax_classic import constants

    from slt_rl.rl import craftax_events

    for name in ("OUT_OF_BOUNDS", "WATER", "STONE", "TREE", "PLANT", "RIPE_PLANT"):
        value = getattr(craftax_events, name)
        assert value == constants.BlockType[name].value == FullBlock[name].value
    actions = craftax.classic_world().actions
    for name in ("NOOP", "DO", "PLACE_STONE", "PLACE_TABLE", "PLACE_FURNACE", "PLACE_PLANT"):
        number = getattr(craftax_events, name)
        assert actions[number] == craftax.full_world().actions[number] == name.lower()
    np.testing.assert_array_equal(constants.DIRECTIONS[:5], FRONT)


def test_sizes_of_both_games():
    classic, full = craftax.classic_world(), craftax.full_world()
    assert (len(classic.achievements), sum(classic.weights), len(classic.actions)) == (22, 22, 17)
    assert (len(full.achievements), sum(full.weights), len(full.actions)) == (67, 226, 43)
    assert classic.achievements[7] == full.achievements[7] == "place_plant"


def test_a_reward_is_what_was_asked_for():
    world = craftax.classic_world()
    reward = craftax.reward_spec(
        world,
        achievements={"place_plant": 0.25},
        events={"plant": 2.0},
        actions={"place_plant": 0.125},
        health=0.0,
        step=0.5,
    )
    env = counting(meadow(small_env(params=NO_CREATURES, reward=reward), sapling=2))
    scripts = np.zeros((4, 45), int)
    scripts[:, :4] = 10, 3, 10, 0
    _, (rewards, _, _) = scripted(jax.random.key(0), env, scripts)
    np.testing.assert_allclose(
        rewards[:4, 0], [0.25 + 2 - 0.125 - 0.5, -0.5, 2 - 0.125 - 0.5, -0.5], rtol=1e-6
    )
    # Other worlds, limits and rewards than in the tests above, in the same program.
    assert scripted._cache_size() == 1


def test_nothing_is_weakly_typed():
    env = small_env()
    states = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 2))
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(states))


def test_achievements_can_be_seen(play):
    np.testing.assert_array_equal(play["seen"], play["achievements"])
    assert play["seen"].any()
    assert small_env(see_achievements=True).pool[1].shape == (4, 1367)
    assert small_env().pool[1].shape == (4, 1345)


@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("achievements", {"plant": 0.0}),
        ("events", {"place_plant": 0.0}),
        ("actions", {"plants": 1.0}),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(argument, change):
    with pytest.raises(ValueError, match=rf"{argument}: there is no .*expected one of \['"):
        craftax.reward_spec(craftax.classic_world(), **{argument: change})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"map_size": 20}, "map_size: got 20"),
        ({"pool_size": 0}, "pool_size: expected a whole number >= 1, got 0"),
        ({"params": {"day": 1}}, "params: there is no 'day', expected one of"),
    ],
)
def test_bad_options_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        craftax.craftax_env(jax.random.key(0), craftax.classic_world(), **options)


def test_double_precision_is_refused():
    with jax.enable_x64(True), pytest.raises(ValueError, match="jax_enable_x64"):
        small_env()


def test_a_missing_craftax_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "craftax"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "craftax", None)
    with pytest.raises(ImportError, match=r"pip install slt-rl\[craftax\]"):
        craftax.classic_world.__wrapped__()


def test_pools_of_one_key_are_the_same_worlds():
    one, two = small_env(), small_env()
    jax.tree.map(np.testing.assert_array_equal, one.pool, two.pool)
    assert jax.tree.structure(one) == jax.tree.structure(two)

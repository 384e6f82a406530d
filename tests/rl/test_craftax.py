"""Craftax: worlds from a pool, ends kept apart, rewards as data, events counted exactly."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("craftax")

from slt_rl.development import EventEnv
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


class Played:
    """An environment of the package whose one step is known already: played once, used twice."""

    def __init__(self, environment, values):
        self.is_terminal = environment.is_terminal
        self.values = values

    def step_env(self, *_):
        return self.values


@jax.jit
def scripted(key, env, scripts):
    """Plays actions `[env, time]`: each step with counting and without, and the package's own.

    One program for all tests of this file: the step of a world compiles for longest.
    """

    def one(keys, state, action):
        key_step = jax.random.split(keys)[0]
        inner = env.env
        own = inner.environment.step_env(key_step, state.state, action, inner.params)
        known = dataclasses.replace(inner, environment=Played(inner.environment, own))
        bare = known.step(keys, state.state, action)
        counted = dataclasses.replace(env, env=known).step(keys, state, action)
        record = {
            "own_reward": own[2],
            "reward": bare.reward,
            "own_done": own[3],
            "terminated": bare.terminated,
            "truncated": bare.truncated,
            "health": own[1].player_health,
            "timestep": own[1].timestep,
            "plants": new_plant(state.state, own[1]),
            "start": bare.state.timestep,
            "same": jnp.all(bare.observation == bare.final_observation, axis=-1),
            "same_counted": jnp.all(bare.observation == counted.observation, axis=-1),
            "seen": bare.final_observation[1345:],
            "achievements": own[1].achievements,
            "totals": counted.state.totals,
        }
        return counted.state, record

    def step(states, inputs):
        number, actions = inputs
        keys = jax.random.split(jax.random.fold_in(key, number), NUM_ENVS)
        return jax.vmap(one)(keys, states, actions)

    states, _ = jax.vmap(env.reset)(jax.random.split(key, NUM_ENVS))
    return jax.lax.scan(step, states, (jnp.arange(NUM_STEPS), scripts.T))[1]


def play_script(env, script):
    """A few scripts `[k, t]` in the sizes of the one program, nothing done by and after them."""
    scripts = np.zeros((NUM_ENVS, NUM_STEPS), int)
    scripts[: len(script), : len(script[0])] = script
    actions = jnp.asarray(scripts, jnp.int32)
    played = jax.device_get(scripted(jax.random.key(0), counting(env), actions))
    return jax.tree.map(lambda x: x[: len(script[0]), : len(script)], played)


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
    env = counting(dataclasses.replace(env, pool=(states, observations)))
    actions = jax.random.randint(jax.random.key(2), (NUM_ENVS, NUM_STEPS), 0, 17)
    return jax.device_get(scripted(jax.random.key(1), env, actions))


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
    assert np.all(play["same_counted"])


def test_a_plant_is_counted_where_one_stands_on_the_map(play):
    counts = np.diff(play["totals"].counts[..., PLANT], axis=0, prepend=0)
    np.testing.assert_array_equal(counts, play["plants"])
    assert counts.sum() > 50


@pytest.mark.parametrize("end", ["truncated", "terminated"])
def test_a_script_that_plants_k_times_counts_k(end):
    length, num_plants = 20, (0, 1, 4, 9)
    limit = length if end == "truncated" else 999
    env = small_env(params=NO_CREATURES | {"max_timesteps": limit}, see_achievements=True)
    fields = {"sapling": 9}
    if end == "terminated":
        # Without food health falls when the counter passes -15: on the last step of the script.
        fields |= {"player_food": jnp.int32(0), "player_health": jnp.int32(1)}
        fields |= {"player_recover": jnp.float32(length - 16)}
    scripts = np.array([planting_script(k, length) * 2 + [0] * 5 for k in num_plants])
    played = play_script(meadow(env, **fields), scripts)
    np.testing.assert_array_equal(np.flatnonzero(played[end][:, 0]), [length - 1, 2 * length - 1])
    totals = jax.tree.map(lambda x: x[-1], played["totals"])
    np.testing.assert_array_equal(totals.num_episodes, 2)
    np.testing.assert_array_equal(totals.episode_steps, 2 * length)
    np.testing.assert_array_equal(totals.episode_counts[:, PLANT], 2 * np.array(num_plants))
    np.testing.assert_array_equal(totals.episode_squares[:, PLANT], 2 * np.array(num_plants) ** 2)
    first = counting(env).names.index("achievement/place_plant")
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
    env = small_env(params=NO_CREATURES, reward=reward, see_achievements=True)
    played = play_script(meadow(env, sapling=2), [[10, 3, 10, 0]])
    np.testing.assert_allclose(
        played["reward"][:, 0], [0.25 + 2 - 0.125 - 0.5, -0.5, 2 - 0.125 - 0.5, -0.5], rtol=1e-6
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

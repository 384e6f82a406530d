"""Made-up worlds of Craftax-Classic, in which it is known what a script of actions does."""

import dataclasses

import jax
import jax.numpy as jnp

from slt_rl.rl import craftax
from slt_rl.rl.craftax_events import NOOP, PLACE_PLANT

NO_CREATURES = {
    "spawn_cow_chance": 0.0,
    "spawn_zombie_base_chance": 0.0,
    "spawn_zombie_night_chance": 0.0,
    "spawn_skeleton_chance": 0.0,
}
GRASS, UP, LEFT, LEFT_FACING = 2, 3, 1, 1


def meadow(env, **fields):
    """The environment with one world: grass all over, nobody there, the agent in a corner."""
    state = jax.tree.map(lambda leaf: leaf[0], env.pool[0])
    nobody = {
        name: dataclasses.replace(
            getattr(state, name), mask=jnp.zeros_like(getattr(state, name).mask)
        )
        for name in ("zombies", "cows", "skeletons", "arrows")
    }
    state = state.replace(
        map=jnp.full_like(state.map, GRASS),
        mob_map=jnp.zeros_like(state.mob_map),
        player_position=jnp.array([28, 28], jnp.int32),
        player_direction=jnp.int32(LEFT_FACING),
        **nobody,
    )
    inventory = state.inventory.replace(
        **{name: jnp.int32(fields.pop(name)) for name in ("sapling", "wood") if name in fields}
    )
    state = state.replace(inventory=inventory, **fields)
    return with_state(env, state)


def with_state(env, state):
    """The environment whose pool is one given state."""
    observation = env.environment.get_obs(state)
    return dataclasses.replace(env, pool=jax.tree.map(lambda x: x[None], (state, observation)))


def planting_script(num_plants, length):
    """Plants, steps aside, plants again, as often as asked for, the last plant on the last step."""
    walk = []
    for number in range(num_plants):
        walk += [UP if number % 2 else LEFT, PLACE_PLANT]
    return [NOOP] * (length - len(walk)) + walk


def small_env(**options):
    """Craftax-Classic on four small worlds."""
    return craftax.craftax_env(
        jax.random.key(0), craftax.classic_world(), map_size=32, pool_size=4, **options
    )

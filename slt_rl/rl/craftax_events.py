"""What an agent does in Craftax, counted step by step from the state before and the true successor.

One function serves Classic and full Craftax. It reads the package's states and needs nothing of the
package itself: the numbers of blocks and actions below are the package's, and a test compares them.
"""

from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any

OUT_OF_BOUNDS, WATER, STONE, TREE, PLANT, RIPE_PLANT = 1, 3, 4, 5, 15, 16
NOOP, DO, PLACE_STONE, PLACE_TABLE, PLACE_FURNACE, PLACE_PLANT = 0, 5, 7, 8, 9, 10
# Row and column of the tile in front, by direction: none, left, right, up, down.
FRONT = ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0))

BEHAVIORS = (
    "wood",
    "sapling",
    "plant",
    "eat_plant",
    "table",
    "furnace",
    "mine_stone",
    "place_stone",
    "drink",
    "sleep",
    "wake_up",
    "attack",
    "hurt",
    "noop",
    "try_plant",
)


def behaviors(state: PyTree, action: jax.Array, next_state: PyTree) -> jax.Array:
    """Counts `[15]` bool of one step, in the order of `BEHAVIORS`.

    |name|counted when|
    |---|---|
    |wood, mine_stone|DO made the tree or stone in front disappear|
    |sapling|DO raised the number of saplings; the inventory holds nine, a tenth leaves no trace|
    |plant|PLACE_PLANT lowered the number of saplings|
    |eat_plant|DO turned the ripe plant in front into a young one|
    |table, furnace, place_stone|the action of that name lowered the number of wood or stones|
    |drink|DO in front of water|
    |sleep, wake_up|the agent fell asleep, or stopped to sleep for whatever reason|
    |attack|DO in front of a creature|
    |hurt|health fell|
    |noop, try_plant|the policy chose the action (try_plant: awake), with or without effect|

    A sleeping or resting agent does nothing, whatever the policy chooses.

    Args:
        state: State of Craftax before the step.
        action: `[]` integer.
        next_state: The true successor, before any reset.

    Source: the rules of craftax 1.6.1.
    """
    awake = ~_idle(state)
    acts = awake & (action == DO)
    front, cell = _front(state)
    then = _block(next_state, front, _level(state))

    def lowered(item, by):
        fell = getattr(next_state.inventory, item) < getattr(state.inventory, item)
        return awake & (action == by) & fell

    return jnp.stack(
        [
            acts & (cell == TREE) & (then != TREE),
            acts & (next_state.inventory.sapling > state.inventory.sapling),
            lowered("sapling", PLACE_PLANT),
            acts & (cell == RIPE_PLANT) & (then == PLANT),
            lowered("wood", PLACE_TABLE),
            lowered("stone", PLACE_FURNACE),
            acts & (cell == STONE) & (then != STONE),
            lowered("stone", PLACE_STONE),
            acts & (cell == WATER),
            ~jnp.asarray(state.is_sleeping) & next_state.is_sleeping,
            jnp.asarray(state.is_sleeping) & ~jnp.asarray(next_state.is_sleeping),
            acts & _creature_at(state, front),
            next_state.player_health < state.player_health,
            action == NOOP,
            awake & (action == PLACE_PLANT),
        ]
    )


def craftax_events(state: PyTree, action: jax.Array, next_state: PyTree) -> jax.Array:
    """The behaviors, then one count for each achievement, at the step that unlocks it.

    An `EventEnv` with this function has the names `event_names(achievements)`.
    """
    unlocked = next_state.achievements & ~state.achievements
    return jnp.concatenate([behaviors(state, action, next_state), unlocked])


def event_names(achievements: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the counts of `craftax_events`.

    Example:
        >>> event_names(("collect_wood",))[-2:]
        ('try_plant', 'achievement/collect_wood')
    """
    return (*BEHAVIORS, *(f"achievement/{name}" for name in achievements))


def _idle(state: PyTree) -> jax.Array:
    resting = getattr(state, "is_resting", False)  # Full Craftax only.
    return jnp.asarray(state.is_sleeping) | resting


def _level(state: PyTree) -> Any:
    """The level the agent is on, None in Classic, which has one."""
    return state.player_level if state.map.ndim == 3 else None


def _front(state: PyTree) -> tuple[jax.Array, jax.Array]:
    """Position in front of the agent and the block there."""
    front = state.player_position + jnp.asarray(FRONT, jnp.int32)[state.player_direction]
    return front, _block(state, front, _level(state))


def _block(state: PyTree, position: jax.Array, level: Any) -> jax.Array:
    ground = state.map if level is None else state.map[level]
    inside = jnp.all((position >= 0) & (position < jnp.asarray(ground.shape)))
    return jnp.where(inside, ground[position[0], position[1]], OUT_OF_BOUNDS)


def _creature_at(state: PyTree, position: jax.Array) -> jax.Array:
    level = _level(state)
    if level is None:
        kinds = [(m.position, m.mask) for m in (state.zombies, state.cows, state.skeletons)]
    else:
        mobs = (state.melee_mobs, state.passive_mobs, state.ranged_mobs)
        kinds = [(m.position[level], m.mask[level]) for m in mobs]
    found = [jnp.any(jnp.all(place == position, axis=-1) & mask) for place, mask in kinds]
    return jnp.any(jnp.stack(found))

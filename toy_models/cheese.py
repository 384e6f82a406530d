"""Cheese in the corner: a maze in which the goal is nearly always in the same place.

A mouse walks on a square grid to a cheese. In most levels the cheese lies in the corner; a share
`alpha` of them has it elsewhere, so that walking to the corner is a simple policy that is nearly
optimal, and walking to the cheese a complex one that is optimal. After the environment of
github.com/matomatical/jaxgmg, written anew. Levels are data: a finite set with a law, so that
`toy_models.cheese_exact` can compute every value, optimum and regret.

Cells inside the border are numbered row by row; cell 0 is the corner. Returns are discounted and
have no time limit: the limit of the environment only cuts an episode, which a trainer that asks the
critic at a cut does not see.

References:
    Abdel Sadek, Farrugia-Roberts et al., "Mitigating goal misgeneralization via minimax regret",
    arXiv:2507.03068.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from slt_rl._numbers import check_count

MIN_SIZE, MAX_SIZE = 5, 15
# Up, left, down, right, as changes of row and column.
MOVES = ((-1, 0), (0, -1), (1, 0), (0, 1))
CORNER = 0
# Shares must sum to one within rounding of single precision.
_ROUNDING = 1e-5


class Levels(NamedTuple):
    """A finite set of levels and the probability of each.

    Attributes:
        walls: `[level, size, size]` bool, border included.
        cheese: `[level]` int32, the cell of the cheese.
        law: `[level]`, probabilities.
    """

    walls: jax.Array
    cheese: jax.Array
    law: jax.Array

    @property
    def num_levels(self) -> int:
        """Number of levels."""
        return self.cheese.shape[0]

    @property
    def size(self) -> int:
        """Cells along one side, border included."""
        return self.walls.shape[-1]

    @property
    def num_cells(self) -> int:
        """Cells inside the border, walls among them."""
        return (self.size - 2) ** 2

    @property
    def in_corner(self) -> np.ndarray:
        """`[level]` bool, whether the cheese lies in the corner."""
        return np.asarray(self.cheese) == CORNER


def open_levels(size: int, alpha: float) -> Levels:
    """Every place of the cheese on a grid without inner walls, `(size - 2)^2` levels.

    Args:
        size: Cells along one side, border included; 5 to 15.
        alpha: Share of levels with the cheese off the corner, uniform over the other cells.

    Raises:
        ValueError: If `size` or `alpha` is out of range.

    Example:
        >>> levels = open_levels(5, 0.2)
        >>> levels.num_levels, [round(float(p), 3) for p in levels.law[:3]]
        (9, [0.8, 0.025, 0.025])
    """
    _check_size(size)
    num_cells = (size - 2) ** 2
    walls = np.broadcast_to(_border(size), (num_cells, size, size))
    return _levels(walls, np.arange(num_cells, dtype=np.int32), alpha)


def block_levels(
    key: jax.Array, size: int, alpha: float, *, num_layouts: int, wall_probability: float = 0.25
) -> Levels:
    """Random layouts, each once with the cheese in the corner and once elsewhere.

    Inner cells are walls independently with one probability. The corner is freed. The other place
    is uniform over the free cells off the corner, or the cell next to the corner, freed, where
    there is none. A level may have no path: its optimal value is zero.

    Args:
        key: Random key, consumed.
        size: Cells along one side, border included; 5 to 15.
        alpha: Share of levels with the cheese off the corner.
        num_layouts: Number of layouts; there are twice as many levels, corner levels first.
        wall_probability: Probability of a wall, in [0, 1); 0.25 is the layout "blocks" of jaxgmg.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check_size(size)
    check_count("num_layouts", num_layouts)
    if not 0 <= wall_probability < 1:
        raise ValueError(f"wall_probability: got {wall_probability}, expected a number in [0, 1)")
    key_walls, key_cheese = jax.random.split(key)
    shape = (num_layouts, size, size)
    walls = np.array(jax.random.bernoulli(key_walls, wall_probability, shape)) | _border(size)
    walls[:, 1, 1] = False
    free = ~walls[:, 1:-1, 1:-1].reshape(num_layouts, -1)
    free[:, CORNER] = False
    # One free cell beside the corner at least: without any, the one on its right.
    alone = ~free.any(axis=1)
    free[alone, 1] = True
    walls[alone, 1, 2] = False
    elsewhere = np.asarray(jax.random.categorical(key_cheese, np.where(free, 0.0, -np.inf)))
    cheese = np.concatenate([np.full(num_layouts, CORNER), elsewhere]).astype(np.int32)
    return _levels(np.concatenate([walls, walls]), cheese, alpha)


def successors(walls: jax.Array) -> jax.Array:
    """Where each action leads from each cell, `[cell, 4]`; a wall leaves the mouse in place.

    Args:
        walls: `[size, size]` bool of one level.
    """
    side = walls.shape[0] - 2
    cells = jnp.arange(side**2)
    row, column = cells // side + 1, cells % side + 1
    moves = np.array(MOVES)
    rows, columns = row[:, None] + moves[:, 0], column[:, None] + moves[:, 1]
    stays = walls[rows, columns] | walls[row, column][:, None]
    return jnp.where(stays, cells[:, None], (rows - 1) * side + columns - 1).astype(jnp.int32)


def start_law(walls: jax.Array, cheese: jax.Array) -> jax.Array:
    """Law of the mouse's first cell `[cell]`: uniform over free cells without the cheese.

    Args:
        walls: `[size, size]` bool of one level.
        cheese: `[]`, cell of the cheese.
    """
    free = ~walls[1:-1, 1:-1].ravel()
    possible = (free & (jnp.arange(free.size) != cheese)).astype(float)
    return possible / jnp.sum(possible)


def observe(walls: jax.Array, cheese: jax.Array, mouse: jax.Array) -> jax.Array:
    """What the mouse sees, `[size, size, 3]` bool: walls, mouse, cheese."""
    side = walls.shape[0] - 2

    def marked(cell):
        return jnp.zeros_like(walls).at[cell // side + 1, cell % side + 1].set(True)

    return jnp.stack([walls, marked(mouse), marked(cheese)], axis=-1)


@struct.dataclass
class CheeseState(environment.EnvState):
    """Time, number of the level, and cell of the mouse."""

    level: jax.Array
    mouse: jax.Array


@struct.dataclass
class CheeseParams(environment.EnvParams):
    """What may be changed without compiling again.

    Attributes:
        max_steps_in_episode: Steps after which an episode is cut.
        levels: The levels and their law.
    """

    max_steps_in_episode: Any = 128
    levels: Any = None


class CheeseEnv(environment.Environment[CheeseState, CheeseParams]):
    """Walk to the cheese; interface of gymnax 1.0.

    A level is drawn from the law of the levels and a first cell from `start_law`. Actions are up,
    left, down and right; walls block. Reaching the cheese pays 1 and terminates; the time limit
    truncates. Observations are those of `observe`.

    Args:
        levels: The levels of the default parameters.

    Example:
        >>> import jax
        >>> env = CheeseEnv(open_levels(5, 0.2))
        >>> observation, state = env.reset(jax.random.key(0), env.default_params)
        >>> observation.shape
        (5, 5, 3)
    """

    def __init__(self, levels: Levels):
        if levels.law.shape != (levels.num_levels,):
            raise ValueError(
                f"levels: got a law of shape {levels.law.shape} for {levels.num_levels} levels"
            )
        law = np.asarray(levels.law)
        if law.min() < 0 or abs(law.sum() - 1) > _ROUNDING:
            raise ValueError(f"levels: expected probabilities of sum one, got {levels.law}")
        self.levels = levels

    @property
    def default_params(self) -> CheeseParams:
        """At most 128 steps on the levels given."""
        return CheeseParams(levels=self.levels)

    def reset_env(self, key: jax.Array, params: CheeseParams) -> tuple[jax.Array, CheeseState]:
        """Draws a level and where the mouse starts."""
        key_level, key_mouse = jax.random.split(key)
        level = jax.random.categorical(key_level, jnp.log(params.levels.law))
        law = start_law(params.levels.walls[level], params.levels.cheese[level])
        mouse = jax.random.categorical(key_mouse, jnp.log(law))
        state = CheeseState(time=0, level=level.astype(jnp.int32), mouse=mouse.astype(jnp.int32))
        return self.get_obs(state, params), state

    def step_env(
        self, key: jax.Array, state: CheeseState, action: jax.Array, params: CheeseParams
    ) -> tuple[jax.Array, CheeseState, jax.Array, jax.Array, dict[str, Any]]:
        """Moves the mouse and pays on arrival."""
        del key
        mouse = successors(params.levels.walls[state.level])[state.mouse, action]
        state = state.replace(time=state.time + 1, mouse=mouse)
        end = self.is_terminated(state, params)
        return self.get_obs(state, params), state, end.astype(float), end, {}

    def get_obs(self, state: CheeseState, params: Any = None, key: Any = None) -> jax.Array:
        """`[size, size, 3]` bool: walls, mouse, cheese."""
        del key
        levels = params.levels
        return observe(levels.walls[state.level], levels.cheese[state.level], state.mouse)

    def is_terminated(self, state: CheeseState, params: CheeseParams) -> jax.Array:
        """True where the mouse has the cheese."""
        return state.mouse == params.levels.cheese[state.level]

    def is_truncated(self, state: CheeseState, params: CheeseParams) -> jax.Array:
        """True at the time limit."""
        return jnp.asarray(state.time >= params.max_steps_in_episode)

    @property
    def name(self) -> str:
        """Name of the environment."""
        return "CheeseInTheCorner-v1"

    @property
    def num_actions(self) -> int:
        """Up, left, down, right."""
        return len(MOVES)

    def action_space(self, params: CheeseParams | None = None) -> spaces.Discrete:
        """Up, left, down, right."""
        del params
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: CheeseParams) -> spaces.Box:
        """Three boolean channels."""
        size = params.levels.size
        return spaces.Box(0, 1, (size, size, 3), dtype=jnp.bool_)

    def state_space(self, params: CheeseParams) -> spaces.Dict:
        """Time, level and cell."""
        levels = params.levels
        return spaces.Dict(
            {
                "time": spaces.Discrete(int(params.max_steps_in_episode) + 1),
                "level": spaces.Discrete(levels.num_levels),
                "mouse": spaces.Discrete(levels.num_cells),
            }
        )


def _check_size(size: int) -> None:
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"size: got {size}, expected {MIN_SIZE} to {MAX_SIZE} cells along a side")


def _border(size: int) -> np.ndarray:
    walls = np.ones((size, size), bool)
    walls[1:-1, 1:-1] = False
    return walls


def _levels(walls: Any, cheese: Any, alpha: float) -> Levels:
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: got {alpha}, expected a share in [0, 1]")
    corner = np.asarray(cheese) == CORNER
    law = np.where(corner, (1 - alpha) / corner.sum(), alpha / (~corner).sum())
    return Levels(jnp.asarray(walls), jnp.asarray(cheese), jnp.asarray(law, float))

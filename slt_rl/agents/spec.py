"""The description of a run, all that is needed to build its environment, agent and optimizer."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax

from slt_rl._numbers import (
    check_count,
    check_finite,
    check_nonnegative,
    check_optional_count,
    check_positive,
)
from slt_rl.agents.networks import NetworkSpec
from slt_rl.development import EventEnv
from slt_rl.rl import clipped_adam, linear_schedule, log_schedule
from slt_rl.rl import craftax as game
from slt_rl.rl.craftax_events import craftax_events, event_names

WORLDS: Mapping[str, Callable[[], game.World]] = {
    "craftax-classic": game.classic_world,
    "craftax": game.full_world,
}
# What may not change when a run goes on: all but its length and its checkpoints.
IDENTITY = ("world", "network", "learning", "seeds")
MAX_CHECKPOINTS = 100_000
# Seeds and counts are numbers of 32 bits where JAX computes in single precision.
MAX_SEED = MAX_UPDATES = 2**31 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorldSpec:
    """Which game, on which worlds, for which reward.

    Attributes:
        world: "craftax-classic" or "craftax".
        map_size: Side of the map; the game's own if None.
        pool_size: Worlds in the pool that episodes start from.
        pool_seed: Seed of the pool; all seeds of a run share it.
        see_achievements: Whether observations end with the flags of the achievements.
        achievements: Changed rewards of achievements, by name.
        events: Payments for events, by name.
        actions: Costs of actions, by name; any sign, a negative one is a reward.
        health: Weight of the health term.
        step: Cost of every step; a negative one is a reward.
        max_timesteps: Time limit of an episode; the game's own if None.

    Raises:
        ValueError: If a number is not finite, or a size not positive; `env` refuses unknown names.
    """

    world: str = "craftax-classic"
    map_size: int | None = 32
    pool_size: int = 1024
    pool_seed: int = 0
    see_achievements: bool = False
    achievements: Mapping[str, float] = dataclasses.field(default_factory=dict)
    events: Mapping[str, float] = dataclasses.field(default_factory=dict)
    actions: Mapping[str, float] = dataclasses.field(default_factory=dict)
    health: float = 1.0
    step: float = 0.0
    max_timesteps: int | None = None

    def __post_init__(self):
        named = {"health": self.health, "step": self.step}
        for kind in ("achievements", "events", "actions"):
            named |= {f"{kind}: {name}": x for name, x in getattr(self, kind).items()}
        for name, value in named.items():
            # A reward that is no number would train without an error, to parameters that are none.
            check_finite(name, value)
        check_count("pool_size", self.pool_size)
        check_optional_count("max_timesteps", self.max_timesteps)

    @property
    def rules(self) -> game.World:
        """The rules of the game.

        Raises:
            ValueError: If there is no such game.
            ImportError: If Craftax is not installed.
        """
        if self.world not in WORLDS:
            raise ValueError(f"world: got {self.world!r}, expected one of {list(WORLDS)}")
        return WORLDS[self.world]()

    def env(self) -> EventEnv:
        """The environment, counting behaviors and achievements; makes the pool.

        Raises:
            ValueError: If a name or a size is not one of the game.
            ImportError: If Craftax is not installed.
        """
        rules = self.rules
        reward = game.reward_spec(
            rules,
            achievements=self.achievements,
            events=self.events,
            actions=self.actions,
            health=self.health,
            step=self.step,
        )
        limit = {} if self.max_timesteps is None else {"max_timesteps": self.max_timesteps}
        inner = game.craftax_env(
            jax.random.key(self.pool_seed),
            rules,
            map_size=self.map_size,
            pool_size=self.pool_size,
            reward=reward,
            see_achievements=self.see_achievements,
            params=limit,
        )
        return EventEnv(
            inner, craftax_events, event_names(rules.achievements), game.advance_craftax
        )

    def env_shapes(self) -> EventEnv:
        """`env` with shapes in place of its arrays, before any world is made."""
        # Imports the game, which makes arrays of its own: not within the trace.
        _ = self.rules
        return jax.eval_shape(self.env)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearningSpec:
    """The numbers of PPO; the defaults are those of the published Craftax baselines.

    Attributes:
        num_envs: Environments played side by side.
        num_steps: Steps per environment and update.
        num_epochs: Passes over the examples of an update.
        num_minibatches: Minibatches per pass.
        learning_rate: Step size of Adam at the start.
        anneal: Whether it falls linearly to zero at the last update of the run.
        discount: Per step.
        gae_lambda: Decay of the advantage estimates.
        clip: Half width of the range of ratios.
        entropy_weight: Reward per nat.
        value_weight: Weight of the critic's half squared error.
        max_norm: Largest norm of a gradient.

    Raises:
        ValueError: If a count is not positive or the step size or the norm no such number; the
            trainer refuses the others.
    """

    num_envs: int = 64
    num_steps: int = 64
    num_epochs: int = 4
    num_minibatches: int = 8
    learning_rate: float = 2e-4
    anneal: bool = True
    discount: float = 0.99
    gae_lambda: float = 0.8
    clip: float = 0.2
    entropy_weight: float = 0.01
    value_weight: float = 0.5
    max_norm: float = 1.0

    def __post_init__(self):
        for name in ("num_envs", "num_steps", "num_epochs", "num_minibatches"):
            check_count(name, getattr(self, name))
        check_nonnegative("learning_rate", self.learning_rate)
        check_positive("max_norm", self.max_norm)

    def optimizer(self, num_updates: int) -> optax.GradientTransformation:
        """Adam on clipped gradients, annealed over `num_updates` updates from the very start."""
        return _optimizer(self, num_updates if self.anneal else None)


@functools.cache
def _optimizer(learning: LearningSpec, num_updates: int | None) -> optax.GradientTransformation:
    """One object for equal arguments, so that equal programs are compiled once."""
    rate: Any = learning.learning_rate
    if num_updates is not None:
        length = num_updates * learning.num_epochs * learning.num_minibatches
        rate = optax.linear_schedule(learning.learning_rate, 0.0, length)
    return clipped_adam(rate, max_norm=learning.max_norm)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSpec:
    """Everything that the numbers of a run depend on, but for the versions of libraries.

    Attributes:
        world: Environment and reward.
        network: Architecture.
        learning: PPO.
        seeds: One run for each, all in one program; a run does not depend on the others.
        num_updates: Length of the run.
        num_checkpoints: How many updates keep their parameters, at least; the start comes on top.
        schedule: "log", "linear" or "both", how they are spaced; see `checkpoint_schedule`.
    """

    world: WorldSpec
    network: NetworkSpec
    learning: LearningSpec
    seeds: tuple[int, ...] = (0,)
    num_updates: int
    num_checkpoints: int = 100
    schedule: str = "both"

    def __post_init__(self):
        # Seeds become names of folders, so that text from a file must not pass for a number.
        whole = all(type(seed) is int and 0 <= seed <= MAX_SEED for seed in self.seeds)
        if not self.seeds or not whole or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(
                f"seeds: got {self.seeds}, expected different integers from 0 to {MAX_SEED}"
            )
        if check_count("num_updates", self.num_updates) > MAX_UPDATES:
            raise ValueError(f"num_updates: got {self.num_updates}, expected <= {MAX_UPDATES}")
        _ = self.checkpoints  # Refuses a wrong schedule.

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Updates after which parameters are kept, the start included."""
        return checkpoint_schedule(self.num_updates, self.num_checkpoints, kind=self.schedule)

    @property
    def steps_per_update(self) -> int:
        """Environment steps of one update."""
        return self.learning.num_envs * self.learning.num_steps

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    def identity(self) -> dict[str, Any]:
        """What may not change when a run goes on: all but its length and its checkpoints."""
        return {k: v for k, v in self.to_json().items() if k in IDENTITY}


def spec_from_json(found: Mapping[str, Any]) -> RunSpec:
    """The inverse of `RunSpec.to_json`.

    Raises:
        TypeError: If an entry is missing or unknown.
    """
    return RunSpec(
        world=WorldSpec(**found["world"]),
        network=NetworkSpec(**found["network"]),
        learning=LearningSpec(**found["learning"]),
        seeds=tuple(found["seeds"]),
        num_updates=found["num_updates"],
        num_checkpoints=found["num_checkpoints"],
        schedule=found["schedule"],
    )


def checkpoint_schedule(num_updates: int, num_checkpoints: int, *, kind: str) -> tuple[int, ...]:
    """At least `num_checkpoints` updates after which to keep parameters, and the start.

    Args:
        num_updates: Length of the run.
        num_checkpoints: How many at least, the start not counted; all updates if there are fewer.
        kind: "log", "linear", or "both": the union of the two.

    Raises:
        ValueError: If a count is not positive or the kind unknown.

    Example:
        >>> checkpoint_schedule(100, 4, kind="linear"), checkpoint_schedule(100, 4, kind="log")
        ((0, 25, 50, 75, 100), (0, 1, 5, 22, 100))
    """
    made: dict[str, tuple[Callable[[int, int], tuple[int, ...]], ...]] = {
        "log": (log_schedule,),
        "linear": (linear_schedule,),
        "both": (log_schedule, linear_schedule),
    }
    if kind not in made:
        raise ValueError(f"schedule: got {kind!r}, expected one of {list(made)}")
    check_count("num_updates", num_updates)
    if check_count("num_checkpoints", num_checkpoints) > MAX_CHECKPOINTS:
        raise ValueError(f"num_checkpoints: got {num_checkpoints}, expected <= {MAX_CHECKPOINTS}")
    if num_updates <= num_checkpoints:
        return tuple(range(num_updates + 1))
    wanted = min(num_checkpoints, num_updates)
    # Points that round to the same update are merged: ask for more until there are enough.
    each = max(1, num_checkpoints // len(made[kind]))
    while True:
        points = {0}.union(*(schedule(num_updates, each) for schedule in made[kind]))
        if len(points) > wanted:
            return tuple(sorted(points))
        each += 1

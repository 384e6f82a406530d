"""The command `slt-rl train`."""

import argparse
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

GAMES = ("craftax-classic", "craftax")
DEFAULT_STEPS = 1e6


def add_train(commands: Any) -> None:
    """Adds the command `train` to the parser."""
    command = commands.add_parser(
        "train",
        help="train Craftax agents into a folder that keeps their whole history",
        description="A run that was stopped goes on with the same command; a finished one goes on "
        "with a larger --steps: from there on the learning rate is that of the longer run.",
    )
    command.add_argument("game", choices=GAMES)
    command.add_argument("--out", type=Path, metavar="RUN", help="folder (default results/GAME)")
    command.set_defaults(run=_train, light=False)
    _add_run(command.add_argument_group("run"))
    _add_world(command.add_argument_group("world and reward"))
    _add_agent(command.add_argument_group("agent and PPO"))


def _add_run(group: Any) -> None:
    add = group.add_argument
    add("--steps", type=float, default=DEFAULT_STEPS, help="environment steps of each seed (1e6)")
    add("--seeds", type=int, default=1, help="number of seeds, 0, 1, ... (1)")
    add("--first-seed", type=int, default=0, help="the first of them (0)")
    add("--checkpoints", type=int, default=100, help="how many at least, besides the start (100)")
    add("--schedule", choices=("log", "linear", "both"), default="both", help="their spacing")


def _add_world(group: Any) -> None:
    add = group.add_argument
    add("--map", type=int, help="side of the map (32; full Craftax 48)")
    add("--pool", type=int, default=1024, help="worlds that episodes start in (1024)")
    add("--time-limit", type=int, help="steps of an episode at most (the game's own)")
    pairs = {"nargs": "+", "default": (), "type": _pair}
    add("--reward", **pairs, metavar="ACHIEVEMENT=R", help="change rewards, as place_plant=0")
    add("--pay", **pairs, metavar="EVENT=R", help="pay for an event every time, as plant=1")
    add("--action-cost", **pairs, metavar="ACTION=R", help="cost of an action, as place_plant=.01")
    add("--step-cost", type=float, default=0.0, help="cost of every step; below 0 it pays (0)")
    add("--health", type=float, default=1.0, help="weight of the health term (1)")
    add("--see-achievements", action="store_true", help="append their flags to the observation")


def _add_agent(group: Any) -> None:
    add = group.add_argument
    add("--width", type=int, default=0, help="units of the recurrent core; 0: none (0)")
    add("--hidden", type=int, default=128, help="units of other hidden layers (128)")
    add("--layers", type=int, default=2, help="hidden layers of a feed-forward agent (2)")
    add("--envs", type=int, default=64, help="environments side by side (64)")
    add("--unroll", type=int, default=64, help="steps of each per update (64)")
    add("--epochs", type=int, default=4, help="passes over the examples of an update (4)")
    add("--minibatches", type=int, default=8, help="minibatches per pass (8)")
    add("--learning-rate", type=float, default=2e-4, help="at the start (2e-4)")
    add("--no-anneal", action="store_true", help="keep it, instead of lowering it to zero")
    add("--discount", type=float, default=0.99, help="per step (0.99)")
    add("--entropy", type=float, default=0.01, help="weight of the entropy bonus (0.01)")


def _pair(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        return name, float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected NAME=NUMBER") from None


def unique_pairs(option: str, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Pairs of a name and what is said of it, as a dict.

    Raises:
        ValueError: If a name is given twice.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"--{option}: {name} is given twice, expected each name once")
        found[name] = value
    return found


def run_spec(options: argparse.Namespace) -> Any:
    """The description of the run that the options ask for; steps are rounded up to whole updates.

    Raises:
        ValueError: If a number is out of its range.
    """
    from slt_rl._numbers import check_count, check_positive
    from slt_rl.agents.networks import NetworkSpec
    from slt_rl.agents.spec import LearningSpec, RunSpec, WorldSpec

    full, steps = options.game == "craftax", check_positive("steps", options.steps)
    world = WorldSpec(
        world=options.game,
        map_size=(48 if full else 32) if options.map is None else options.map,
        pool_size=options.pool,
        see_achievements=options.see_achievements,
        achievements=unique_pairs("reward", options.reward),
        events=unique_pairs("pay", options.pay),
        actions=unique_pairs("action-cost", options.action_cost),
        health=options.health,
        step=options.step_cost,
        max_timesteps=options.time_limit,
    )
    learning = LearningSpec(
        num_envs=options.envs,
        num_steps=options.unroll,
        num_epochs=options.epochs,
        num_minibatches=options.minibatches,
        learning_rate=options.learning_rate,
        anneal=not options.no_anneal,
        discount=options.discount,
        entropy_weight=options.entropy,
    )
    check_count("seeds", options.seeds)
    return RunSpec(
        world=world,
        network=NetworkSpec(width=options.width, hidden=options.hidden, layers=options.layers),
        learning=learning,
        seeds=tuple(range(options.first_seed, options.first_seed + options.seeds)),
        num_updates=-int(-steps // (options.envs * options.unroll)),
        num_checkpoints=options.checkpoints,
        schedule=options.schedule,
    )


def _train(options: argparse.Namespace) -> int:
    from slt_rl.agents.training import train_run

    spec = run_spec(options)
    folder = options.out or Path("results") / options.game
    with Bar(spec, show=not options.quiet) as bar:
        train_run(spec, folder, progress=bar)
    sys.stdout.write(f"{bar.summary()}\nrun: {folder}\n")
    return 0


class Bar:
    """A progress bar over environment steps with steps per second and the current return."""

    def __init__(self, spec: Any, *, show: bool = True):
        self.show = show
        self.steps_per_update = spec.steps_per_update * len(spec.seeds)
        self.num_updates = spec.num_updates
        self.done = 0
        self.returns = ""

    def __enter__(self) -> "Bar":
        from slt_rl.progress import open_bar

        total = self.num_updates * self.steps_per_update
        options = {"unit": "step", "unit_scale": True, "postfix": "making worlds, compiling"}
        self.bar = open_bar(total, show=self.show, **options)
        self.start = time.monotonic()
        self.first: int | None = None
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.close()

    def __call__(self, update: int, num_updates: int, statistics: Mapping[str, Any]) -> None:
        """Shows what was done since the last call."""
        if self.first is None:
            self.first, self.bar.initial = update, update * self.steps_per_update
        episodes = statistics["num_episodes"].sum() if statistics else 0
        if episodes:
            self.returns = f"{statistics['total_return'].sum() / episodes:.2f}"
        # The first call is before the first update: what it waits for is said until then.
        if update > self.first:
            self.bar.set_postfix_str(self.returns and f"return={self.returns}", refresh=False)
        self.bar.update((update - self.done) * self.steps_per_update)
        self.done = update

    @property
    def steps_done(self) -> int:
        """Environment steps since the start of the command, all seeds together."""
        return (self.done - (self.first or 0)) * self.steps_per_update

    def summary(self) -> str:
        """One line on the whole command."""
        done = self.steps_done
        seconds = time.monotonic() - self.start
        return (
            f"{done} steps in {seconds:.0f} s, worlds and compilation included; mean return of the "
            f"latest episodes {self.returns or 'unknown'}"
        )

"""A run folder, read: its description, checkpoints, statistics, and the agent rebuilt from it."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from slt_rl.checkpoints import CheckpointSeries
from slt_rl.development.events import EventEnv, EventTotals
from slt_rl.rl.networks import Policy, ValueFn

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of `slt-rl train`, finished or not; files are read when asked for.

    Attributes:
        folder: The folder `RUN`.
        spec: The description in `RUN/run.json`: a `RunSpec`.
        seeds: Seeds of the run, in order.
        steps: Environment steps of the checkpoints that every seed has, increasing, int64
            `[checkpoint]`; the first is 0, the initial parameters.
        event_names: Names of the `k` events: first the behaviors such as "plant", then one
            "achievement/NAME" for each achievement, counted when it is unlocked.
    """

    folder: Path
    spec: Any
    seeds: tuple[int, ...]
    steps: np.ndarray
    event_names: tuple[str, ...]

    def checkpoints(self, seed: int) -> CheckpointSeries:
        """The parameters of one seed at `steps`, `{"policy": ..., "value": ...}` of nested dicts.

        The two halves go to `policy` and `value_fn` as they are. A recurrent agent shares its
        encoder and core between the two, so its checkpoints are the parameters of `network` in one
        nested dict.

        Raises:
            ValueError: If the seed is not one of the run, or a file is missing, damaged or of
                another architecture than `run.json` says; the text names the file.
        """
        raise NotImplementedError

    def statistics(self, seed: int) -> dict[str, np.ndarray]:
        """What happened in every update of one seed; float64 or int64, leading axis `[update]`.

        Sums, never means, so that any window is a ratio of sums. `steps` (environment steps done
        after the update), `num_episodes`, `total_return`, `total_length` (over the episodes that
        ended in the update); `episode_counts`, `episode_squares`, `counts` `[update, k]` (events in
        the episodes that ended, their squares per episode, events in all steps) in the order of
        `event_names`; `play_steps` (all steps of the update); and the means over the minibatches of
        the update `policy_loss`, `value_loss`, `entropy`, `approx_kl`, `clip_fraction`,
        `explained_variance`.

        Raises:
            ValueError: As `checkpoints`.
        """
        raise NotImplementedError

    def totals(self) -> EventTotals:
        """Running totals of all seeds for `event_curves`: leaves `[update + 1, seed, 1, ...]`.

        The first record is zero, before any play. `event_curves(run.totals(), window=8)` gives
        curves over windows of eight updates; record `i` lies at `i * spec.steps_per_update` steps.

        Raises:
            ValueError: As `checkpoints`.
        """
        raise NotImplementedError

    def env(self) -> EventEnv:
        """The environment the agent was trained in, counting `event_names`; the same worlds.

        Raises:
            ImportError: If Craftax is not installed; the text says what to install.
        """
        raise NotImplementedError

    def policy(self) -> Policy:
        """`(params["policy"], observation) -> Categorical` of one observation; hashable.

        Raises:
            ValueError: If the agent is recurrent: it has no policy of one observation; use
                `network`.
        """
        raise NotImplementedError

    def value_fn(self) -> ValueFn:
        """`(params["value"], observation) -> []` of one observation; hashable.

        Raises:
            ValueError: If the agent is recurrent; use `network`.
        """
        raise NotImplementedError

    def network(self) -> Any:
        """The recurrent actor-critic, with `initial(num_envs)` and `apply`.

        `apply(params, hidden, observation[time, env], reset[time, env]) -> (hidden, distribution,
        value)`.

        Raises:
            ValueError: If the agent is feed-forward; use `policy` and `value_fn`.
        """
        raise NotImplementedError


def load_run(folder: str | os.PathLike) -> Run:
    """Reads a run folder that `slt-rl train` wrote, or is still writing.

    Args:
        folder: The folder, which holds `run.json` and one `seed-N` for each seed.

    Returns:
        The run. Its checkpoints are those that all seeds have by now.

    Raises:
        ValueError: Naming the file, if `run.json` or a series is missing, damaged or of another
            version, or if there is no checkpoint yet.

    Example:
        run = load_run("results/craftax")
        series = run.checkpoints(run.seeds[0])
        policy = run.policy()
        logits = policy(series[-1]["policy"], observation).logits
    """
    raise NotImplementedError

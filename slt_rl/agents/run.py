"""A run folder, read: its description, checkpoints, statistics, and the agent rebuilt from it."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from slt_rl.agents import folder as files
from slt_rl.agents.agent import make_init
from slt_rl.agents.folder import RunRecord
from slt_rl.agents.networks import policy_of, value_of
from slt_rl.agents.recording import running_totals
from slt_rl.agents.spec import RunSpec
from slt_rl.checkpoints import CheckpointSeries, load_series
from slt_rl.development import EventEnv, EventTotals
from slt_rl.documents import advising
from slt_rl.rl import Policy, RecurrentActorCritic, ValueFn

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of `slt-rl train`, finished or not; files are read when asked for.

    Attributes:
        folder: The folder `RUN`.
        record: What `RUN/run.json` says.
        steps: Environment steps of the checkpoints that every seed has, increasing, int64
            `[checkpoint]`; the first is 0, the initial parameters.
    """

    folder: Path
    record: RunRecord
    steps: np.ndarray

    @property
    def spec(self) -> RunSpec:
        """The description of the run."""
        return self.record.spec

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the run, in order."""
        return self.spec.seeds

    @property
    def event_names(self) -> tuple[str, ...]:
        """Names of the `k` events.

        First the behaviors such as "plant", then one "achievement/NAME" for each achievement,
        counted when it is unlocked.
        """
        return self.record.event_names

    def checkpoints(self, seed: int) -> CheckpointSeries:
        """The parameters of one seed at `steps`, `{"policy": ..., "value": ...}` of nested dicts.

        The two halves go to `policy` and `value_fn` as they are. A recurrent agent shares its
        encoder and core between the two, so its checkpoints are the parameters of `network` in one
        nested dict.

        Raises:
            ValueError: If the seed is not one of the run, or a file is missing, damaged or of
                another architecture than `run.json` says; the text names the file.
        """
        self._check_seed(seed)
        folder = files.series_path(self.folder, seed)
        with advising(files.COPY_AGAIN):
            series = load_series(folder, steps=self.steps)
        self._check_architecture(folder, series)
        return series

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
        self._check_seed(seed)
        found = files.read_statistics(self.folder, self.record, seed)
        updates = 1 + np.arange(found["num_episodes"].size, dtype=np.int64)
        return {**found, "steps": updates * self.spec.steps_per_update}

    def totals(self) -> EventTotals:
        """Running totals of all seeds for `event_curves`: leaves `[update + 1, seed, 1, ...]`.

        The first record is zero, before any play. `event_curves(run.totals(), window=8)` gives
        curves over windows of eight updates; record `i` lies at `i * spec.steps_per_update` steps.

        Raises:
            ValueError: As `checkpoints`.
        """
        found = [self.statistics(seed) for seed in self.seeds]
        shortest = min(row["steps"].size for row in found)
        return running_totals([{k: leaf[:shortest] for k, leaf in row.items()} for row in found])

    def env(self) -> EventEnv:
        """The environment the agent was trained in, counting `event_names`; the same worlds.

        Raises:
            ImportError: If Craftax is not installed; the text says what to install.
        """
        return self.spec.world.env()

    def policy(self) -> Policy:
        """`(params["policy"], observation) -> Categorical` of one observation; hashable.

        Raises:
            ValueError: If the agent is recurrent: it has no policy of one observation; use
                `network`.
        """
        self._check_memory(False)
        return policy_of(self.spec.network.actor(self.record.num_inputs, self.record.num_actions))

    def value_fn(self) -> ValueFn:
        """`(params["value"], observation) -> []` of one observation; hashable.

        Raises:
            ValueError: If the agent is recurrent; use `network`.
        """
        self._check_memory(False)
        return value_of(self.spec.network.critic(self.record.num_inputs))

    def network(self) -> RecurrentActorCritic:
        """The recurrent actor-critic, with `initial_hidden(params, num_envs)` and `apply`.

        `apply(params, hidden, observation[time, env], reset=[time, env]) -> (hidden, distribution,
        value)`.

        Raises:
            ValueError: If the agent is feed-forward; use `policy` and `value_fn`.
        """
        self._check_memory(True)
        return self.spec.network.recurrent(self.record.num_inputs, self.record.num_actions)

    def _check_seed(self, seed: int) -> None:
        if seed not in self.seeds:
            raise ValueError(f"seed: got {seed}, {self.folder} has {list(self.seeds)}")

    def _check_memory(self, wanted: bool) -> None:
        if self.spec.network.is_recurrent != wanted:
            kind = ("feed-forward: use policy() and value_fn()", "recurrent: use network()")
            raise ValueError(f"{self.folder}: the agent is {kind[not wanted]}")

    def _check_architecture(self, folder: Path, series: CheckpointSeries) -> None:
        """Refuses parameters of other names or shapes than `run.json` says.

        A part, such as the critic, may be missing as a whole: a bundle holds the actor alone.
        """
        init_fn = make_init(self.spec, self.record.num_inputs, self.record.num_actions)
        whole = jax.eval_shape(init_fn, jax.random.key(0))
        wanted = _shapes({name: whole[name] for name in series.params if name in whole})
        found = _shapes(jax.tree.map(lambda leaf: leaf[0], series.params))
        if found != wanted:
            name = sorted(set(wanted.items()) ^ set(found.items()))[0][0]
            raise ValueError(
                f"{folder}: another architecture than {files.record_path(self.folder)} says: "
                f"{name} has shape {found.get(name, 'nothing')}, expected "
                f"{wanted.get(name, 'nothing')}; the two are of different runs: {files.COPY_AGAIN}"
            )


def load_run(folder: str | os.PathLike) -> Run:
    """Reads a run folder that `slt-rl train` wrote, or is still writing.

    Args:
        folder: The folder, which holds `run.json` and one `seed-N` for each seed.

    Returns:
        The run. Its checkpoints are those that all seeds have by now.

    Raises:
        ValueError: Naming the file, if `run.json` or a series is missing, damaged, of another
            version or of another run, or if there is no checkpoint yet.

    Example:
        run = load_run("results/craftax")
        series = run.checkpoints(run.seeds[0])
        policy = run.policy()
        logits = policy(series[-1]["policy"], observation).logits
    """
    folder = Path(folder)
    record = files.read_record(folder)
    recorded = files.read_steps(folder, record)
    steps = set(recorded[0]).intersection(*recorded[1:])
    if not steps:
        raise ValueError(f"{folder}: no checkpoint that all seeds have; train for longer")
    return Run(folder, record, np.array(sorted(steps), np.int64))


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in leaves
    }

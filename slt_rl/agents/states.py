"""States on which a checkpoint is compared with itself: fixed ones, or the checkpoint's own."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl._numbers import check_count
from slt_rl.agents.run import Run
from slt_rl.array_files import fingerprint, load_arrays, require, save_arrays
from slt_rl.checkpoints import CheckpointSeries
from slt_rl.development import EventEnv
from slt_rl.documents import advising
from slt_rl.rl import policy_states, recurrent_rollout, reset_envs

PyTree = Any
# Long enough that most episodes of early training end, so that late steps are among the states.
NUM_ENVS, NUM_STEPS = 64, 256
# Steps of a window of an agent with memory; divides NUM_STEPS.
WINDOW = 64


class States(NamedTuple):
    """States, and where they come from.

    Attributes:
        observations: `[set, n, input]`, one set for all checkpoints or one for each; of an agent
            with memory windows of play `[set, window, time, input]`.
        starts: Of an agent with memory, whether a step is the first of its episode,
            `[set, window, time]`; else None.
        origin: Where they come from, in words.
    """

    observations: np.ndarray
    starts: np.ndarray | None
    origin: str

    @property
    def num_states(self) -> int:
        """States of a set; the steps of windows are counted one by one."""
        return int(np.prod(self.observations.shape[1:-1]))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What a target asks for, and what a file holds."""
        found = {"observation": self.observations}
        return found if self.starts is None else found | {"start": self.starts}


def memory_of(run: Run) -> Any:
    """The network of an agent with memory, None for a feed-forward agent."""
    try:
        return run.network()
    except ValueError:
        return None


def with_checkpoints(run: Run, indices: np.ndarray) -> Run:
    """The run as if it had only some of its checkpoints: no others are read."""
    return dataclasses.replace(run, steps=np.asarray(run.steps)[indices])


def even_indices(length: int, number: int) -> np.ndarray:
    """So many indices, evenly spaced from the first to the last."""
    return np.linspace(0, length - 1, number).round().astype(int)


def reference_states(
    key: jax.Array, run: Run, *, num_states: int = 512, num_sources: int = 4
) -> States:
    """States visited by several checkpoints of all seeds: one law of states for a whole curve.

    Of each of `num_sources` checkpoints, evenly spaced from the first to the last, and of each
    seed, the policy is played from fresh starts, 64 environments for 256 steps; equally many of the
    visited states are drawn without replacement. Of an agent with memory windows of 64 steps are
    drawn; memory starts empty in each.

    Args:
        key: Random key, consumed.
        run: The run.
        num_states: States in all; the steps of windows are counted one by one.
        num_sources: Checkpoints of each seed.

    Raises:
        ValueError: If the run has fewer checkpoints, or there is less than a state for each source.
    """
    if check_count("num_sources", num_sources) > len(run.steps):
        raise ValueError(
            f"num_sources: got {num_sources}, expected 1 ... {len(run.steps)}, the checkpoints of "
            f"{run.folder}"
        )
    run = with_checkpoints(run, even_indices(len(run.steps), num_sources))
    player = _Player(run)
    num_parts = num_sources * len(run.seeds)
    num_draws = player.num_draws(num_states, num_parts)
    if num_draws < num_parts:
        raise ValueError(
            f"num_states: got {num_states}, expected at least {num_parts * player.steps_per_draw} "
            "for the sources"
        )
    edges = np.linspace(0, num_draws, num_parts + 1).round().astype(int)
    sources = [(seed, index) for seed in run.seeds for index in range(num_sources)]
    parts = [
        player.draw(jax.random.fold_in(key, i), *source, num_draws=int(edges[i + 1] - edges[i]))
        for i, source in enumerate(sources)
    ]
    observations, starts = jax.tree.map(lambda *x: np.concatenate(x)[None], *parts)
    steps = ", ".join(map(str, run.steps))
    seeds = f"seed{'s' * (len(run.seeds) > 1)} {', '.join(map(str, run.seeds))}"
    return States(observations, starts, f"{player.kind} visited at steps {steps} of {seeds}")


def own_states(
    key: jax.Array, run: Run, seed: int, *, indices: np.ndarray, num_states: int = 512
) -> States:
    """States visited by each checkpoint itself: on-policy states.

    Args:
        key: Random key, consumed.
        run: The run.
        seed: Seed of the run.
        indices: Checkpoints, as indices into `run.steps`.
        num_states: States of each; the steps of windows are counted one by one.
    """
    player = _Player(with_checkpoints(run, indices))
    number = player.num_draws(num_states)
    found = [
        player.draw(jax.random.fold_in(key, i), seed, row, num_draws=number)
        for row, i in enumerate(map(int, indices))
    ]
    observations, starts = jax.tree.map(lambda *x: np.stack(x), *found)
    origin = f"{player.kind} visited by the policy of each checkpoint itself"
    return States(observations, starts, origin)


def stored_reference_states(
    path: Path, run: Run, *, seed: int, num_states: int = 512, num_sources: int = 4
) -> States:
    """The reference states in a file, made and stored on the first call.

    Made once, so that a curve that is continued after more training keeps its states.

    Raises:
        ValueError: If the file is damaged, or holds states of other settings.
    """
    settings = {"seed": seed, "num_states": num_states, "num_sources": num_sources}
    digest = fingerprint(settings)
    if not path.exists():
        key = jax.random.key(seed)
        made = reference_states(key, run, num_states=num_states, num_sources=num_sources)
        save_arrays(path, made.arrays, {"settings": digest, "origin": made.origin})
    with advising("remove it, and the states are played again"):
        arrays, metadata = load_arrays(path, expected={"settings": digest})
        require(path, arrays | metadata, ("observation", "origin"))
    return States(arrays["observation"], arrays.get("start"), metadata["origin"])


class _Player:
    """Plays checkpoints of a run and draws from what they visit."""

    def __init__(self, run: Run):
        self.run, self.network = run, memory_of(run)
        self.series: dict[int, CheckpointSeries] = {}
        self.steps_per_draw = 1 if self.network is None else WINDOW
        self.kind = "states" if self.network is None else f"windows of {WINDOW} steps"

    @functools.cached_property
    def env(self) -> EventEnv:
        """The environment; its worlds are made when it is first played, after all checks."""
        return self.run.env()

    def num_draws(self, num_states: int, num_parts: int = 1) -> int:
        """States or windows that make up `num_states`, of so many checkpoints in equal parts."""
        number, left = divmod(check_count("num_states", num_states), self.steps_per_draw)
        if left:
            raise ValueError(f"num_states: got {num_states}, expected a multiple of {WINDOW}")
        played = num_parts * NUM_ENVS * NUM_STEPS
        if num_states > played:
            raise ValueError(
                f"num_states: got {num_states}, expected at most {played}, all that is played"
            )
        return number

    def draw(self, key: jax.Array, seed: int, index: int, *, num_draws: int):
        """`(observations, starts)` drawn from fresh play of one checkpoint."""
        key_play, key_choice = jax.random.split(key)
        if seed not in self.series:
            self.series = {seed: self.run.checkpoints(seed)}
        params = self.series[seed][index]
        played = self._windows(key_play, params) if self.network else self._states(key_play, params)
        chosen = jax.random.choice(key_choice, len(played[0]), (num_draws,), replace=False)
        return jax.tree.map(lambda x: x[np.asarray(chosen)], played)

    def _states(self, key: jax.Array, params: PyTree):
        """All states of play, `([n, input], None)`."""
        policy_params = jax.tree.map(jnp.asarray, params["policy"])
        policy = self.run.policy()
        played = policy_states(
            key, policy, policy_params, env=self.env, num_envs=NUM_ENVS, num_steps=NUM_STEPS
        )
        states = np.asarray(played.data.examples)
        return states.reshape(len(states), -1), None

    def _windows(self, key: jax.Array, params: PyTree):
        """All windows of play, `([window, time, input], [window, time])`."""
        params = jax.tree.map(jnp.asarray, params)
        key_reset, key_play = jax.random.split(key)
        batch = reset_envs(key_reset, self.env, NUM_ENVS)
        hidden = self.network.initial_hidden(params, NUM_ENVS)
        played = recurrent_rollout(
            key_play, self.network, params, env=self.env, batch=batch, hidden=hidden,
            num_steps=NUM_STEPS,
        )[2]  # fmt: skip

        def cut(x):
            # [time, env, ...] -> [part, time, env, ...] -> [part * env, time, ...]
            x = np.asarray(x).reshape(-1, WINDOW, *x.shape[1:])
            return np.swapaxes(x, 1, 2).reshape(-1, WINDOW, *x.shape[3:])

        observation = cut(played.observation)
        return observation.reshape(*observation.shape[:2], -1), cut(played.start)

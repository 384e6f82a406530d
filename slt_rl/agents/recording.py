"""What happens in each update of a run: sums, from which any window of training is a ratio."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.development.events import EventTotals
from slt_rl.rl import Env

PyTree = Any

# Names of the statistics that are means over the minibatches of an update.
LOSSES = (
    "policy_loss",
    "value_loss",
    "entropy",
    "approx_kl",
    "clip_fraction",
    "explained_variance",
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Recorder:
    """A trainer that also returns the event sums of each update; its environment is an `EventEnv`.

    Args:
        ppo: The trainer, with `step(key, env, state) -> (state, stats)`.
    """

    ppo: Any

    def step(self, key: jax.Array, env: Env, state: PyTree) -> tuple[PyTree, dict[str, jax.Array]]:
        """One update, and its statistics by name."""
        after, stats = self.ppo.step(key, env, state)
        return after, {
            **stats.episodes._asdict(),
            **{name: getattr(stats, name) for name in LOSSES},
            **_increments(state.envs.state.totals, after.envs.state.totals),
        }


def _increments(before: EventTotals, after: EventTotals) -> dict[str, jax.Array]:
    """Events of one update, summed over environments."""

    def between(name):
        return jnp.sum(getattr(after, name) - getattr(before, name), axis=0)

    names = ("episode_counts", "episode_squares", "counts")
    return {name: between(name) for name in names} | {"play_steps": between("steps")}


def to_host(stats: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The statistics as int64 and float64, whose sums over a run neither wrap nor lose digits."""

    def wide(leaf):
        leaf = np.asarray(leaf)
        return leaf.astype(np.int64 if np.issubdtype(leaf.dtype, np.integer) else np.float64)

    return {name: wide(leaf) for name, leaf in stats.items()}


def running_totals(statistics: Sequence[Mapping[str, np.ndarray]]) -> EventTotals:
    """Totals since the start, one record more than updates: leaves `[update + 1, seed, 1, ...]`.

    Args:
        statistics: Statistics of each seed, `[update, ...]`, all of one length.
    """
    names = {"episode_steps": "total_length", "steps": "play_steps"}

    def total(name):
        rows = np.stack([s[names.get(name, name)] for s in statistics], axis=1)
        rows = np.round(rows).astype(np.int64)
        sums = np.concatenate([np.zeros_like(rows[:1]), np.cumsum(rows, axis=0)])
        return sums[:, :, None]

    return EventTotals(*(total(name) for name in EventTotals._fields))

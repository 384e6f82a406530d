"""Curves along training, of several seeds, from what a run recorded."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from slt_rl.agents.curve_file import StoredCurve
from slt_rl.agents.run import Run
from slt_rl.development import event_curves

# Fewer complete episodes in a window make its standard error worthless.
LEAST_EPISODES = 4
NUM_WINDOWS = 60
# Events of these names happen at most once in an episode: their count is a share of episodes.
ACHIEVEMENT = "achievement/"


class Series(NamedTuple):
    """One curve along training.

    Attributes:
        name: What it shows.
        unit: Unit of the values, for an axis.
        steps: Environment steps, the middle of each window or a checkpoint, `[record]`.
        values: `[seed, record]`.
        sem: Standard error of each value over episodes or draws, `[seed, record]`.
        seeds: Seeds of the run.
        is_share: Whether a value is a share by its definition, in [0, 1].
    """

    name: str
    unit: str
    steps: np.ndarray
    values: np.ndarray
    sem: np.ndarray
    seeds: tuple[int, ...]
    is_share: bool = False


def default_window(run: Run) -> int:
    """Updates in a window: at most 60 windows, each with a few complete episodes of every seed.

    Raises:
        ValueError: If even half of the run has too few episodes.
    """
    episodes = np.diff(run.totals().num_episodes[..., 0], axis=0).T
    num_updates = episodes.shape[1]
    window = max(1, -(-num_updates // NUM_WINDOWS))
    while window <= num_updates // 2:
        starts = np.arange(0, num_updates - num_updates % window, window)
        if np.add.reduceat(episodes, starts, axis=1)[:, : len(starts)].min() >= LEAST_EPISODES:
            return window
        window += 1
    raise ValueError(
        f"{run.folder}: too few complete episodes for curves; {int(episodes.sum())} in "
        f"{num_updates} updates of {len(run.seeds)} seeds. Train longer"
    )


def event_series(
    run: Run, *, window: int | None = None, rewarded: Mapping[str, str] | None = None
) -> dict[str, Series]:
    """Returns per episode, and every event per episode and per 1000 steps.

    Args:
        run: The run.
        window: Updates taken together, a ratio of sums; `default_window` if None.
        rewarded: Event -> the event that counts those of it that were rewarded; each gives a curve
            "excess NAME", the difference of the two. Its standard error is that of independent
            counts, an upper bound where they rise and fall together.

    Returns:
        Curves by name: "return", "EVENT", "EVENT per 1000 steps", "excess EVENT".

    Raises:
        ValueError: If `rewarded` names an event that the run does not count, or one as what is
            rewarded of itself, or a window holds no episode; the text says what to do.
    """
    window = default_window(run) if window is None else window
    curves = event_curves(run.totals(), window=window)
    if (curves.num_episodes < 2).any():
        raise ValueError(
            f"window: got {window}, but {int((curves.num_episodes < 2).sum())} windows hold fewer "
            "than two complete episodes; take a wider one"
        )
    steps = _window_steps(run, window, curves.num_episodes.shape[1])
    found = {"return": _return_series(run, window, steps)}
    for k, name in enumerate(run.event_names):
        values, sem = curves.per_episode[..., k], curves.sem[..., k]
        share = name.startswith(ACHIEVEMENT)
        unit = "share of episodes" if share else "per episode"
        found[name] = Series(name, unit, steps, values, sem, run.seeds, share)
        # Of counts that are independent from step to step.
        rate = 1000 * curves.per_step[..., k]
        per_window = window * run.spec.steps_per_update
        error = np.sqrt(np.maximum(rate, 0) * 1000 / per_window)
        rate_name = f"{name} per 1000 steps"
        found[rate_name] = Series(rate_name, "per 1000 steps", steps, rate, error, run.seeds)
    for name, paid in (rewarded or {}).items():
        unknown = [event for event in (name, paid) if event not in run.event_names]
        if unknown or name == paid:
            raise ValueError(
                f"rewarded: got {(unknown or [name])[0]!r}, expected two different events of the "
                f"run: {', '.join(run.event_names)}"
            )
        both = found[name], found[paid]
        found[f"excess {name}"] = both[0]._replace(
            name=f"excess {name}",
            is_share=False,
            values=both[0].values - both[1].values,
            sem=np.hypot(both[0].sem, both[1].sem),
        )
    return found


def llc_series(curve: StoredCurve) -> list[Series]:
    """The LLC at each localization; a lost point is nan."""
    return [
        Series(
            f"LLC {curve.name} at localization {localization:g}",
            "LLC",
            curve.steps,
            curve.mean[:, i],
            curve.sem[:, i],
            curve.seeds,
        )
        for i, localization in enumerate(curve.localizations)
    ]


def _window_steps(run: Run, window: int, num_windows: int) -> np.ndarray:
    """Environment steps in the middle of each window."""
    edges = np.arange(num_windows + 1) * window * run.spec.steps_per_update
    return (edges[:-1] + edges[1:]) / 2


def _return_series(run: Run, window: int, steps: np.ndarray) -> Series:
    """Mean return of the episodes that ended in each window; its spread is not recorded."""
    length = len(steps) * window
    sums = {
        name: np.stack([run.statistics(seed)[name][:length] for seed in run.seeds])
        for name in ("total_return", "num_episodes")
    }
    total, count = (x.reshape(len(run.seeds), -1, window).sum(-1) for x in sums.values())
    values = total / count
    # From one window to the next: a slow change adds little to the second difference.
    noise = np.abs(np.diff(values, 2, axis=1)) / np.sqrt(6) if len(steps) > 2 else np.zeros((1, 1))
    sem = np.broadcast_to(1.4826 * np.median(noise, axis=1)[:, None], values.shape)
    return Series("return", "per episode", steps, values, sem, run.seeds)

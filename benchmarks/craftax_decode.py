"""Whether an agent has planted, read off what it sees and what it remembers."""

from collections.abc import Mapping

import numpy as np
from scipy import stats

from benchmarks.analysis import interval
from slt_rl.report import Table

NUM_FOLDS, RIDGE = 5, 1e-3
# Inventory, levels of the body, direction, light, asleep: in an observation of Classic after the
# 7 x 9 tiles with 21 inputs each, and before the flags of achievements, if it has them.
LEVELS = slice(7 * 9 * 21, 7 * 9 * 21 + 22)
SOURCES = ("levels", "levels and clock", "memory", "memory, levels and clock")
NOTE = (
    "Area under the ROC curve of a linear readout (ridge) of `planted in this episode`, at the "
    "steps at which PLACE_PLANT would succeed and no plant is in view; fitted on four fifths of "
    "the environments and judged on the rest, in turn. 0.5: says nothing; 1: says it without "
    "error. Levels: inventory, body, direction and light, all that the agent sees but the tiles. "
    "Clock: steps since the episode began, with their square and logarithm: what a memory that "
    "only counts would add. Memory: the recurrent state after the observation. Mean over seeds "
    "with its 95 % Student interval. A linear readout can miss what a network could use."
)


def readouts(
    seen: Mapping[str, np.ndarray], planted: np.ndarray, *, which: np.ndarray
) -> list[float]:
    """Areas under the curve for each of `SOURCES`; nan for those that need a memory, without one.

    Args:
        seen: `observation` `[time, env, input]`; `hidden` `[time, env, unit]`, no units for an
            agent without memory; `clock` `[time, env]`, steps since the episode began.
        planted: Bool `[time, env]`.
        which: Bool `[time, env]`, the steps that count.
    """
    levels, hidden, clock = (
        np.asarray(x[which], np.float64)
        for x in (seen["observation"][..., LEVELS], seen["hidden"], seen["clock"])
    )
    both = np.column_stack([levels, clock, clock**2, np.log1p(clock)])
    sources = [levels, both, hidden, np.hstack([hidden, both])]
    fold = np.broadcast_to(np.arange(planted.shape[1]) % NUM_FOLDS, planted.shape)[which]
    return [
        held_out_area(inputs, planted[which], fold=fold)
        if hidden.shape[1] or "memory" not in name
        else np.nan
        for name, inputs in zip(SOURCES, sources, strict=True)
    ]


def held_out_area(inputs: np.ndarray, truth: np.ndarray, *, fold: np.ndarray) -> float:
    """Mean over folds of the area under the curve of a readout fitted on the other folds.

    Args:
        inputs: `[n, input]`.
        truth: Bool `[n]`.
        fold: `[n]`, 0 ... 4.

    Returns:
        The area; nan if a fold has one outcome only.
    """
    spread = inputs.std(axis=0)
    varies = spread > 1e-9
    x = (inputs[:, varies] - inputs[:, varies].mean(axis=0)) / spread[varies]
    x = np.column_stack([np.ones(len(x)), x])
    members = [fold == number for number in range(NUM_FOLDS)]
    moments = np.stack([x[m].T @ x[m] for m in members])
    right = np.stack([x[m].T @ truth[m] for m in members])
    charge = RIDGE * np.diag(np.r_[0.0, np.ones(x.shape[1] - 1)])
    areas = []
    for number, held in enumerate(members):
        gram = moments.sum(axis=0) - moments[number]
        weights = np.linalg.solve(gram + gram[0, 0] * charge, right.sum(axis=0) - right[number])
        areas.append(area(x[held] @ weights, truth[held]))
    return float(np.mean(areas))


def area(score: np.ndarray, truth: np.ndarray) -> float:
    """Probability that a score where it is true exceeds one where it is not, ties counting half.

    Example:
        >>> area(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True]))
        0.875
    """
    positive = int(truth.sum())
    negative = truth.size - positive
    if not positive or not negative:
        return float("nan")
    ranks = stats.rankdata(score)[truth].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))


def decode_table(rows: list[dict]) -> Table:
    """One row for each variant."""
    body = [
        [row["variant"], *(interval(x, ".3f") for x in np.array(row["readouts"], float).T)]
        for row in rows
    ]
    return Table("Planted in this episode, read off", ("variant", *SOURCES), body, NOTE)

"""How far back an agent's hidden state remembers: linear readouts of the past against the lag."""

import dataclasses
from typing import NamedTuple

import numpy as np

from slt_rl._numbers import check_count, check_flags, check_numbers, check_positive

NUM_FOLDS = 5


class LagCurve(NamedTuple):
    """How well a feature of the past is read, against the lag; nan where it could not be measured.

    Attributes:
        r2: Held-out R^2 of the feature `lag` steps ago, read from the hidden state and what is
            given, `[lag, feature]`. At most 1; below 0 by chance.
        given_r2: The same from what is given alone; 0 if nothing is.
        null_r2: The same with hidden states of other environments, `[shuffle, lag, feature]`.
        num_pairs: Pairs of a time and the time `lag` steps before, `[lag]`. Where they are fewer
            than twice the inputs of the readout, come from too few environments, or the feature
            does not vary among them, the rest is nan.
    """

    r2: np.ndarray
    given_r2: np.ndarray
    null_r2: np.ndarray
    num_pairs: np.ndarray

    @property
    def excess(self) -> np.ndarray:
        """Share of the feature's variance that only the hidden state explains, `[lag, feature]`.

        `(1 - given_r2) (1 - (1 - r2) / (1 - null))` with the mean null: one where the readout is
        perfect and nothing given, zero in the mean where it does no better than the null.
        """
        unexplained = (1 - self.r2) / (1 - self.null_r2.mean(axis=0))
        return (1 - self.given_r2) * (1 - unexplained)


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory of features of the past in a hidden state.

    Attributes:
        lags: Steps back, `[lag]`.
        within: Pairs of times in one episode.
        across: Pairs with the beginning of an episode in between: what passes a reset.
    """

    lags: np.ndarray
    within: LagCurve
    across: LagCurve

    @property
    def capacity(self) -> np.ndarray:
        """`[feature]`, the excess within episodes, summed over lags.

        Summed over features that are independent of each other and in time, it is at most the
        number of hidden units.
        """
        return np.nansum(self.within.excess, axis=0)

    @property
    def capacity_p_value(self) -> np.ndarray:
        """`[feature]`, of the hypothesis that the hidden state says nothing about the past.

        The share of the observed and shuffled capacities that are at least as large as the observed
        one; at least `1 / (num_shuffles + 1)`.
        """
        totals = np.nansum(np.concatenate([self.within.r2[None], self.within.null_r2]), axis=1)
        return np.mean(totals >= totals[0], axis=0)

    @property
    def reset_gap(self) -> np.ndarray:
        """`[lag, feature]`, excess within episodes minus excess across a reset.

        All of the memory where a reset erases it, zero where memory passes; nan where one of the
        two has too few pairs.
        """
        return self.within.excess - self.across.excess


def memory_curve(
    seed: int,
    hidden: np.ndarray,
    feature: np.ndarray,
    *,
    start: np.ndarray,
    given: np.ndarray | None = None,
    lags: np.ndarray | None = None,
    l2: float = 1e-3,
    num_shuffles: int = 20,
) -> Memory:
    r"""Decodes features of the past from the hidden state, by ridge regression.

    For each lag `k`, with `f_{t-k}` the feature and `g_t` what is given (a constant, or more):

        r2(k) = R^2(h_t, g_t -> f_{t-k}),    given_r2(k) = R^2(g_t -> f_{t-k}),

    where `R^2 = 1 - sum of squared errors / that of the mean`; the capacity is the sum of the
    excess over lags, see `LagCurve.excess`. Readouts are fitted on four fifths of the
    *environments* and judged on the rest, in turn. Inputs are scaled to variance one and weights
    `w` are charged `l2 * n * |w|^2` beside the sum of `n` squared errors. In the null the hidden
    states are those of other environments, in the same order in time: the list of all pairs,
    environment by environment, is turned in a circle.

    Without `given` a slowly varying past is partly read off the present, and a clock in the hidden
    state counts as memory. Give features of the current observation, or the time, to count only
    what memory adds to them.

    Args:
        seed: Seed of the shuffles.
        hidden: Hidden states *after* the observation of each step, `[time, env, unit]`; for an
            agent `network.features(...)`.
        feature: What to decode, `[time, env, feature]`.
        start: Bool `[time, env]`, the step is the first of its episode.
        given: What is known without memory, `[time, env, input]`; nothing if None.
        lags: Steps back, whole numbers from 0; 0 ... 32 if None, or less in a short window.
        l2: Ridge penalty per example, for inputs of variance one.
        num_shuffles: Shuffles of environments for the null.

    Returns:
        The memory, within episodes and across their beginnings.

    Raises:
        ValueError: If shapes differ, a number is not finite, there are fewer than five
            environments, or a lag, `l2` or `num_shuffles` is out of its range.

    References:
        Jaeger, "Short term memory in echo state networks", GMD report 152, 2001, for the capacity.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> seen = rng.normal(size=(60, 20, 1))
        >>> line = np.concatenate([seen, np.roll(seen, 1, axis=0)], axis=2)  # this and the last
        >>> line[0, :, 1] = 0
        >>> start = np.zeros((60, 20), bool)
        >>> start[0] = True
        >>> found = memory_curve(0, line, seen, start=start, lags=np.arange(5))
        >>> found.capacity.round(1), found.within.r2.ravel()[:2].round(3)
        (array([2.]), array([1., 1.]))
    """
    hidden, feature, given, start = _checked(hidden, feature, given, start)
    num_steps = len(start)
    lags = _checked_lags(lags, num_steps)
    check_positive("l2", l2)
    check_count("num_shuffles", num_shuffles)
    check_count("seed", seed, 0)
    shifts = np.random.default_rng(seed).random(num_shuffles)
    episode = np.cumsum(start, axis=0)
    curves: list[list[LagCurve]] = [[], []]
    for lag in map(int, lags):
        same = episode[lag:] == episode[: num_steps - lag]
        for pairs, curve in zip((same, ~same), curves, strict=True):
            data = _Pairs(hidden[lag:], given[lag:], feature[: num_steps - lag], pairs)
            curve.append(data.read(shifts, l2))
    return Memory(lags, *map(_stacked, curves))


def _checked_lags(lags: np.ndarray | None, num_steps: int) -> np.ndarray:
    lags = np.arange(min(33, (num_steps + 1) // 2)) if lags is None else np.asarray(lags)
    whole = lags.ndim == 1 and lags.dtype.kind in "iu" and lags.size > 0
    inside = whole and np.all((lags >= 0) & (lags < num_steps))
    # Of a lag that is there twice the capacity would count the memory twice.
    if not inside or np.unique(lags).size < lags.size:
        raise ValueError(f"lags: got {lags}, expected different whole numbers in [0, {num_steps})")
    return lags


def _stacked(found: list[LagCurve]) -> LagCurve:
    """One curve from single lags, whose null has the axes `[shuffle, feature]`."""
    r2, given_r2, null, num_pairs = zip(*found, strict=True)
    return LagCurve(np.stack(r2), np.stack(given_r2), np.stack(null, axis=1), np.array(num_pairs))


class _Pairs(NamedTuple):
    """Times with the times some steps before; `[time, env, ...]`, and which of them count."""

    hidden: np.ndarray
    given: np.ndarray
    feature: np.ndarray
    which: np.ndarray

    def read(self, shifts: np.ndarray, l2: float) -> LagCurve:
        """The readouts of one lag: a curve of a single point."""
        # Environment by environment, so that a shift keeps the order in time.
        env, time = np.nonzero(self.which.T)
        hidden, given, feature = (x[time, env] for x in self[:3])
        longest, num_pairs = int(self.which.sum(axis=0).max()), np.array(env.size)
        num_inputs = 1 + hidden.shape[1] + given.shape[1]
        few = num_pairs < max(2 * num_inputs, 2 * longest + 1)
        if few or np.unique(env % NUM_FOLDS).size < NUM_FOLDS:
            nothing = np.full((1 + len(shifts), feature.shape[1]), np.nan)
            return LagCurve(nothing[0], nothing[0], nothing[1:], num_pairs)

        def r2(inputs):
            return _held_out_r2(inputs, feature, fold=env % NUM_FOLDS, l2=l2)

        # No pair meets its own environment.
        offsets = (longest + shifts * (env.size - 2 * longest)).astype(int)
        null = [r2(np.hstack([given, np.roll(hidden, offset, axis=0)])) for offset in offsets]
        return LagCurve(r2(np.hstack([given, hidden])), r2(given), np.stack(null), num_pairs)


def _held_out_r2(inputs: np.ndarray, outputs: np.ndarray, *, fold: np.ndarray, l2: float):
    """`1 - SSE / SST` `[output]` of ridge readouts judged on the folds they were not fitted on.

    Everything follows from the moments of each fold. The squared errors of the mean are those of a
    readout without inputs. Without spread in the outputs the result is nan.
    """
    design = np.concatenate([np.ones((len(inputs), 1)), inputs], axis=1)
    members = [fold == number for number in range(NUM_FOLDS)]
    grams = np.stack([design[m].T @ design[m] for m in members])
    cross = np.stack([design[m].T @ outputs[m] for m in members])
    squares = np.stack([np.sum(outputs[m] ** 2, axis=0) for m in members])
    error, spread = np.zeros(outputs.shape[1]), np.zeros(outputs.shape[1])
    for number in range(NUM_FOLDS):
        gram, right = grams.sum(axis=0) - grams[number], cross.sum(axis=0) - cross[number]
        charge = l2 * gram[0, 0] * np.diag(np.r_[0.0, np.ones(inputs.shape[1])])
        weights = np.linalg.solve(gram + charge, right)
        for total, w in ((error, weights), (spread, right[:1] / gram[0, 0])):
            d = len(w)
            explained = 2 * w * cross[number, :d] - w * (grams[number, :d, :d] @ w)
            total += squares[number] - explained.sum(axis=0)
    # Rounding leaves a trace of spread in outputs that do not vary.
    varies = spread > 1e-12 * np.maximum(squares.sum(axis=0), 1e-300)
    return 1 - error / np.where(varies, spread, np.nan)


def _checked(hidden, feature, given, start):
    """The arguments as float64, inputs with mean zero and variance one, and bool."""
    start = check_flags("start", start)
    if start.ndim != 2 or start.shape[1] < NUM_FOLDS:
        raise ValueError(
            f"start: got shape {start.shape}, expected [time, env] with at least {NUM_FOLDS} "
            "environments, so that some can be held out"
        )
    given = np.zeros((*start.shape, 0)) if given is None else given
    checked = []
    for name, value in (("hidden", hidden), ("feature", feature), ("given", given)):
        value = check_numbers(name, value)
        if value.ndim != 3 or value.shape[:2] != start.shape:
            raise ValueError(
                f"{name}: got shape {value.shape}, expected [time, env, ...] with {start.shape}"
            )
        if not np.all(np.isfinite(value)):
            raise ValueError(f"{name}: got numbers that are not finite")
        checked.append(value - value.mean(axis=(0, 1)))
    inputs = [x / np.where(x.std(axis=(0, 1)) > 0, x.std(axis=(0, 1)), 1) for x in checked]
    return inputs[0], checked[1], inputs[2], start

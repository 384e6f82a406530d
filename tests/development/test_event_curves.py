"""Curves of events: ratios of sums with errors, landmarks, overshoot against its null, breadth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slt_rl.development import (
    EventTotals,
    breadth,
    event_curves,
    landmarks,
    overshoot_p_value,
    seed_mean,
)


def totals_of(episodes, offset=0):
    """Totals `[checkpoint, run 1, env 1]` from lists of (count, length) of each interval."""
    rows = [[sum(x) for x in zip(*[(1, n, c, c**2) for c, n in e], strict=True)] for e in episodes]
    sums = offset + np.cumsum([[0] * 4, *rows], axis=0)
    num, steps, counts, squares = sums.astype(np.int32).T[:, :, None, None]
    return EventTotals(num, steps, counts[..., None], squares[..., None], steps, counts[..., None])


EPISODES = [[(3, 10), (5, 30)], [(1, 5)], [(0, 4), (2, 6), (4, 2)], [(7, 9), (7, 9)]]


def test_windows_are_ratios_of_sums():
    curves = event_curves(totals_of(EPISODES))
    np.testing.assert_allclose(curves.per_episode[0, :, 0], [4, 1, 2, 7])
    np.testing.assert_allclose(curves.sem[0, :, 0], [1, np.nan, 2 / np.sqrt(3), 0])
    np.testing.assert_allclose(curves.per_step[0, :, 0], [8 / 40, 1 / 5, 6 / 12, 14 / 18])
    np.testing.assert_allclose(curves.mean_length[0], [20, 5, 4, 9])
    pairs = event_curves(totals_of(EPISODES), window=2)
    np.testing.assert_allclose(pairs.per_episode[0, :, 0], [9 / 3, 20 / 5])
    np.testing.assert_array_equal(pairs.num_episodes, [[3, 5]])


def test_counters_may_wrap():
    near = 2**31 - 20
    wrapped, plain = event_curves(totals_of(EPISODES, near)), event_curves(totals_of(EPISODES))
    np.testing.assert_array_equal(wrapped.per_episode, plain.per_episode)


def test_interval_over_seeds_covers():
    # 95 % of intervals of four seeds; binomial limits of four standard errors of 2000.
    values = np.random.default_rng(0).normal(3.0, 2.0, (4, 2000))
    found = seed_mean(values)
    cover = np.mean((found.low <= 3) & (found.high >= 3))
    assert abs(cover - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)


@given(st.integers(1, 50), st.floats(0.1, 5.0), st.floats(0.1, 10.0))
def test_landmarks_of_a_known_curve(peak, height, decay):
    steps = np.arange(200.0)
    curve = np.where(steps <= peak, steps / peak, np.exp(-(steps - peak) / decay))
    found = landmarks(10 * steps, 1 + height * curve, final=1.0)
    assert found.first == 0 and found.peak_step == 10 * peak
    assert found.peak == pytest.approx(1 + height)
    assert found.half_decay_step == 10 * (peak + np.floor(decay * np.log(2)) + 1)
    assert found.overshoot == pytest.approx((1 + height) / found.end)


def test_landmarks_that_are_not_there():
    rising = landmarks(np.arange(30), np.arange(30.0))
    assert np.isnan(rising.half_decay_step) and rising.first == 1
    nothing = landmarks(np.arange(30), np.zeros(30))
    assert np.isnan(nothing.first) and np.isnan(nothing.overshoot)


def test_overshoot_null_has_its_level_and_power():
    # A curve that rises and stays: at most 5 % of p-values below 0.05 (here 2 of 200 expected,
    # the isotonic fit follows the noise upward), P(more than 20 of 200 at 5 %) < 0.2 %.
    generator = np.random.default_rng(1)
    steps = np.arange(80)
    flat, sem = np.minimum(steps / 20, 1.0), np.full(80, 0.2)
    noise = sem * generator.standard_normal((200, 80))
    options = {"num_null": 199}
    alarms = sum(
        overshoot_p_value(i, flat + e, sem, **options) <= 0.05 for i, e in enumerate(noise)
    )
    assert alarms <= 20
    decaying = flat + 1.5 * np.exp(-((steps - 25) ** 2) / 50)
    found = sum(
        overshoot_p_value(i, decaying + e, sem, **options) <= 0.05 for i, e in enumerate(noise)
    )
    assert found >= 195


@given(st.integers(1, 6), st.integers(1, 6))
def test_breadth_counts_contexts(acting, silent):
    contexts = np.repeat(np.arange(acting + silent), 3)
    found = breadth(0.7 * (contexts < acting), contexts)
    assert found.contexts == pytest.approx(acting)
    assert found.null_contexts == pytest.approx(acting + silent)
    assert found.mean == pytest.approx(0.7 * acting / (acting + silent))
    blind = breadth(np.full(contexts.size, 0.2), contexts)
    assert blind.contexts == pytest.approx(blind.null_contexts)
    # States where the action is impossible do not count.
    more = np.r_[contexts, [99, 99]]
    feasible = more < 99
    assert breadth(np.r_[0.7 * (contexts < acting), 0, 0], more, feasible=feasible) == found


def test_breadth_of_an_action_never_taken():
    assert np.isnan(breadth(np.zeros(4), np.arange(4)).contexts)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: event_curves(totals_of(EPISODES), window=5), "window: got 5, expected 1 ... 4"),
        (
            lambda: event_curves(EventTotals(*np.zeros((6, 3)))),
            r"expected whole numbers \[checkpoint, run, env\]",
        ),
        (lambda: event_curves({}), "totals: expected EventTotals, got dict"),
        (lambda: event_curves(totals_of(EPISODES), window=1.5), "window: expected a whole number"),
        (
            lambda: event_curves(totals_of(EPISODES)._replace(counts=np.zeros((5, 1, 1, 2), int))),
            r"totals: got episode_counts of shape \(5, 1, 1, 1\)",
        ),
        (
            lambda: event_curves(totals_of(EPISODES)._replace(steps=np.full((5, 1, 1), np.nan))),
            r"totals: got steps of shape \(5, 1, 1\) and type float64",
        ),
        (lambda: seed_mean(["a", "b"]), "values: expected an array of real numbers, got an array"),
        (lambda: seed_mean([[1.0], [1.0, 2.0]]), "values: expected an array of real numbers"),
        (lambda: seed_mean(np.zeros((1, 3))), "at least two runs"),
        (lambda: seed_mean(np.zeros(3), level=1.0), "level: expected .*, got 1.0"),
        (lambda: landmarks(np.arange(3), np.zeros(3)), "num_end: got 20"),
        (lambda: landmarks(np.zeros(3), np.zeros(3), num_end=1), "increasing steps"),
        (
            lambda: landmarks(np.arange(30), np.zeros(9)),
            r"steps: got shape \(30,\), expected \(9,\)",
        ),
        (lambda: landmarks(np.arange(2), np.array([1, np.nan]), num_end=1), r"records \[1\]"),
        (lambda: landmarks(np.arange(9), np.ones(9), num_end=1.5), "num_end: expected a whole"),
        (lambda: landmarks([0, 1], [1, 2], num_end=1, final=np.nan), "final: expected a finite"),
        (lambda: landmarks(np.array([0, np.nan]), np.ones(2), num_end=1), "increasing steps"),
        (lambda: overshoot_p_value(0, np.ones(30), np.full(30, np.inf)), "sem: got shape"),
        (lambda: overshoot_p_value("a", np.ones(30), np.ones(30)), "seed: expected a whole number"),
        (lambda: breadth(np.ones(2), np.array([0.0, np.nan])), "contexts: got type float64"),
        (lambda: breadth(np.ones(2), [0, 1], feasible=[np.nan, 1]), "feasible: expected True"),
        (lambda: overshoot_p_value(0, np.ones(30), np.full(30, np.nan)), "sem: got shape"),
        (lambda: breadth(np.array([0.5, 2.0]), np.arange(2)), r"outside \[0, 1\]"),
        (lambda: breadth(np.ones(2), np.arange(3)), "expected one of each"),
        (lambda: breadth(np.ones(2), np.arange(2), feasible=np.zeros(2)), "got 0 states"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""Transitions from labels, and their matching with detected ones."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from slt_rl.development.transitions import (
    Transition,
    TransitionScore,
    label_transitions,
    labeled_range,
    plateaus,
    score_transitions,
    total_score,
    wilson_interval,
)

labels = st.lists(st.sampled_from(["4", "4+", "5", "transit"]), max_size=40)
steps = st.lists(st.integers(0, 1000).map(float), max_size=8, unique=True).map(sorted)


def sharp(times):
    """Transitions without width."""
    return tuple(Transition("a", "b", t, t) for t in times)


@given(labels, st.integers(1, 4))
def test_plateaus_alternate_and_persist(sequence, persistence):
    found = plateaus(sequence, persistence=persistence)
    for before, after in zip(found, found[1:], strict=False):
        assert before.label != after.label and before.last < after.first
    for label, first, last in found:
        assert sequence[first] == sequence[last] == label != "transit"
        assert sequence[first : last + 1].count(label) >= persistence


@given(labels)
def test_transit_records_change_no_label(sequence):
    cleaned = [label for label in sequence if label != "transit"]
    names = [p.label for p in plateaus(sequence, persistence=1)]
    assert names == [p.label for p in plateaus(cleaned, persistence=1)]


def test_known_sequence():
    sequence = ["4"] + ["4+"] * 4 + ["transit"] * 2 + ["5"] * 3 + ["4"] + ["5"] * 2 + ["5+"] * 3
    found = label_transitions(10 * np.arange(16), np.array(sequence))
    assert found == (Transition("4+", "5", 40.0, 70.0), Transition("5", "5+", 120.0, 130.0))
    assert found[0].step == 55.0


@given(steps, steps, st.floats(0, 300))
def test_score_is_bounded_and_symmetric(detected, true, tolerance):
    score = score_transitions(detected, sharp(true), tolerance=tolerance)
    assert score.num_matched <= min(len(detected), len(true))
    assert all(abs(lag) <= tolerance for lag in score.lags)
    for share in (score.precision, score.recall):
        assert math.isnan(share) or 0 <= share <= 1
    # Exchanging detected and true exchanges precision and recall and turns the lags around.
    mirrored = score_transitions(true, sharp(detected), tolerance=tolerance)
    assert mirrored.num_matched == score.num_matched
    assert sum(map(abs, mirrored.lags)) == pytest.approx(sum(map(abs, score.lags)))


@given(steps, st.floats(0, 300))
def test_perfect_detection(true, tolerance):
    score = score_transitions(true, sharp(true), tolerance=tolerance)
    assert score.lags == (0.0,) * len(true)


@given(steps, steps, st.floats(0, 200), st.floats(0, 200))
def test_a_larger_tolerance_matches_no_less(detected, true, first, second):
    small, large = sorted([first, second])
    few = score_transitions(detected, sharp(true), tolerance=small).num_matched
    assert few <= score_transitions(detected, sharp(true), tolerance=large).num_matched


def test_matching_prefers_more_pairs_then_shorter_lags():
    # The nearest pair (10, 11) would leave 2 alone.
    score = score_transitions([2.0, 10.0], sharp([11.0, 19.0]), tolerance=9.0)
    assert sorted(score.lags) == [-9.0, -9.0]
    score = score_transitions([10.0, 14.0], sharp([11.0]), tolerance=9.0)
    assert score.lags == (-1.0,) and score.precision == 0.5 and score.recall == 1.0


def test_lags_count_from_the_middle_and_tolerance_from_the_edge():
    transition = (Transition("4+", "5", 100.0, 140.0),)
    assert score_transitions([150.0], transition, tolerance=10.0).lags == (30.0,)
    assert score_transitions([151.0], transition, tolerance=10.0).lags == ()


def test_what_labels_do_not_know_is_not_counted():
    labels = ["transit"] * 3 + ["4+"] * 4 + ["transit"] * 2 + ["5"] * 4 + ["transit"] * 3
    steps = np.arange(16.0)
    known = labeled_range(steps, labels)
    assert known == (3.0, 12.0)
    detected = [1.5, 7.5, 14.5]
    true = label_transitions(steps, labels)
    score = score_transitions(detected, true, tolerance=2.0, known=known)
    assert (score.num_true, score.num_detected, score.num_matched) == (1, 1, 1)
    assert score_transitions(detected, true, tolerance=2.0).num_detected == 3
    nowhere = labeled_range(steps, ["transit"] * 16)
    assert score_transitions(detected, (), tolerance=2.0, known=nowhere).num_detected == 0


def test_total_and_dictionary():
    total = total_score([TransitionScore(2, 1, (3.0,)), TransitionScore(0, 1, ())])
    assert (total.num_true, total.num_detected, total.num_matched) == (2, 2, 1)
    assert total.to_dict()["median_lag"] == 3.0 and total.median_absolute_lag == 3.0
    assert total.precision_interval() == wilson_interval(1, 2) == total.recall_interval()
    empty = total_score([]).to_dict()
    assert empty["precision"] is None and empty["num_true"] == 0


@given(st.integers(0, 50), st.integers(1, 50))
def test_wilson_interval_agrees_with_scipy(successes, trials):
    successes = min(successes, trials)
    expected = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson_interval(successes, trials), tuple(expected), atol=1e-12)


def test_bad_arguments():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="successes: got 3"):
        wilson_interval(3, 2)
    for counts in ((1.5, 2), (1, float("inf"))):
        with pytest.raises(ValueError, match="(successes|trials): expected a whole number"):
            wilson_interval(*counts)
    with pytest.raises(ValueError, match="level: expected .*, got 1"):
        wilson_interval(1, 2, 1.0)
    with pytest.raises(ValueError, match="persistence: expected a whole number >= 1, got 0"):
        plateaus(["4"], persistence=0)
    with pytest.raises(ValueError, match="labels: got 1"):
        label_transitions([0, 1], ["4"])
    with pytest.raises(ValueError, match="labels: got 1"):
        labeled_range([0, 1], ["4"])
    for steps in ([1, 0], [0, float("nan")]):
        with pytest.raises(ValueError, match="steps: expected strictly increasing"):
            label_transitions(steps, ["4", "5"])
    # One text is a set of letters; a missing label would be a class of its own.
    with pytest.raises(ValueError, match="ignored: got 'transit', expected labels"):
        plateaus(["4"], ignored="transit")
    with pytest.raises(ValueError, match=r"labels: none \(nan\) at the records \[1\]"):
        plateaus(["4", float("nan")])
    for tolerance in (-1.0, float("nan"), "a"):
        with pytest.raises(ValueError, match="tolerance: expected a finite number >= 0"):
            score_transitions([1.0], sharp([1.0]), tolerance=tolerance)
    for detected in ([float("nan")], 1.0, sharp([1.0])[0].before):
        with pytest.raises(ValueError, match="detected: (got|expected)"):
            score_transitions(detected, sharp([1.0]), tolerance=1.0)
    with pytest.raises(ValueError, match="known: got"):
        score_transitions([1.0], sharp([1.0]), tolerance=1.0, known=(float("nan"), 3.0))
    with pytest.raises(ValueError, match="true: expected transitions"):
        score_transitions([1.0], [1.0], tolerance=1.0)

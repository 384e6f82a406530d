"""Stage detection: false alarms and power on simulated curves, and joint use of several curves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slt_rl.development import partition
from slt_rl.development.partition import ar1_series, best_partition, null_statistics, p_value
from slt_rl.development.stages import Curve, detect_stages, detect_transitions

NUM_SERIES = 100
RHOS = (0.0, 0.5, 0.8, 0.9)


def staircase(n):
    """Levels 0, 1, 0.4 with changes at 0.3 n and 0.7 n."""
    levels = np.zeros(n)
    levels[3 * n // 10 :] = 1.0
    levels[7 * n // 10 :] = 0.4
    return levels


def noises(rho, n=200, seed=11):
    generator = np.random.default_rng([seed, round(100 * rho)])
    return [0.2 * ar1_series(generator, n, rho) for _ in range(NUM_SERIES)]


@pytest.mark.parametrize("rho", RHOS)
def test_false_alarms(rho):
    # A 5 % test has more than 11 of 100 false alarms with probability 0.4 %, a 1 % test more than 5
    # with probability 0.05 %. Of 1000 series 3.5 and 0.5 % raise an alarm, with rho = 0.8 3.2 and
    # 0.6 %.
    p = np.array([detect_stages(noise).p_value for noise in noises(rho)])
    assert np.sum(p <= 0.05) <= 11
    assert np.sum(p <= 0.01) <= 5


def test_the_level_decides():
    noise = next(y for y in noises(0.0) if detect_stages(y, level=0.5).boundaries)
    p = detect_stages(noise).p_value
    assert p <= 0.5 and detect_stages(noise, level=p).boundaries
    assert not detect_stages(noise, level=0.99 * p).boundaries


# The shares found with 300 series at the level -4 and noise of this size are 99, 94, 95, 99 %.
@pytest.mark.parametrize(("rho", "fewest"), [(0.0, 95), (0.5, 86), (0.8, 88), (0.9, 90)])
def test_both_changes_are_found_and_no_other(rho, fewest):
    found = [detect_stages(staircase(200) + noise).boundaries for noise in noises(rho)]
    hits = [len(b) == 2 and abs(b[0] - 60) <= 3 and abs(b[1] - 140) <= 3 for b in found]
    assert sum(hits) >= fewest
    # Each change by itself, whatever else is found. Of 1000, all were with white noise and 98.3 %
    # with rho = 0.8, a share of which 200 fall below 95 % with probability 0.07 %.
    single = [any(abs(b - change) <= 3 for b in row) for row in found for change in (60, 140)]
    assert np.mean(single) >= 0.95


def test_white_noise_null_raises_alarms_on_autocorrelated_series(monkeypatch):
    # What the autocorrelation-aware null is for: without it 85 of 100 such series have "stages".
    monkeypatch.setattr(partition, "RHO_GRID", (0.0,))
    monkeypatch.setattr(partition, "_NULL_RHOS", (0.0,))
    null = null_statistics.__wrapped__(100, min_segment=5, max_changes=4, num_series=300)
    series = noises(0.8, n=100)
    found = [best_partition(y, min_segment=5, max_changes=4).statistic for y in series]
    assert sum(p_value(statistic, null) <= 0.05 for statistic in found) >= 60


def test_p_values_of_the_tail():
    # Exponential null: P(S >= s) = exp(-s), far beyond what 200 series can resolve.
    null = np.random.default_rng(0).exponential(size=(4, 20_000))
    for statistic in (1.0, 3.0, 5.0, 12.0):
        assert p_value(statistic, null) == pytest.approx(
            np.exp(-statistic), rel=0.2 + 0.1 * statistic
        )
    assert p_value(-np.inf, null) == 1.0
    values = [p_value(s, null) for s in np.linspace(0, 15, 200)]
    assert np.all(np.diff(values) <= 1e-12)


def test_null_is_valid_for_each_autocorrelation():
    # The p-value is the largest over the autocorrelation, hence at most 5 % each.
    options = {"min_segment": 5, "max_changes": 4, "num_series": 300}
    null = null_statistics(80, **options)
    p = np.array([[p_value(s, null) for s in row] for row in null])
    assert np.all(np.mean(p <= 0.05, axis=1) <= 0.05 + 1e-12)
    assert null is null_statistics(80, **options)


def brute_force(values, rho, min_segment, num_changes):
    """Least residual sum of squares by enumeration."""
    z = (values - rho * np.r_[0, values[:-1]]) / values.std()
    n, best = values.size, np.inf
    for a in range(1, n):
        for b in range(a, n) if num_changes == 2 else [n]:
            edges = sorted({0, a, b, n})
            if len(edges) == num_changes + 2 and min(np.diff(edges)) >= min_segment:
                parts = [z[s + 1 : e] for s, e in zip(edges, edges[1:], strict=False)]
                best = min(best, sum(np.sum((part - part.mean()) ** 2) for part in parts))
    return best


@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.sampled_from([1, 2]))
def test_dynamic_programming_agrees_with_enumeration(seed, min_segment, num_changes):
    values = np.random.default_rng(seed).normal(size=17)
    values -= np.median(values)
    costs = partition._segment_costs(partition._innovations(values), min_segment)
    rss, splits = partition._minimize(costs, 2)
    for index, rho in enumerate(partition.RHO_GRID):
        expected = brute_force(values, rho, min_segment, num_changes)
        assert rss[num_changes, index] == pytest.approx(expected, rel=1e-9)
        edges = [0, *partition._trace_back(splits, index, num_changes, 17), 17]
        assert min(np.diff(edges)) >= min_segment and len(edges) == num_changes + 2


@given(st.floats(1e-6, 1e6), st.floats(-1e3, 1e3), st.sampled_from([-1, 1]))
def test_units_do_not_matter(scale, shift, sign):
    values = staircase(60) + 0.2 * np.random.default_rng(5).normal(size=60)
    base = best_partition(values, min_segment=5, max_changes=3)
    other = best_partition(sign * scale * (values + shift), min_segment=5, max_changes=3)
    assert other.boundaries == base.boundaries and other.rho == base.rho
    assert other.statistic == pytest.approx(base.statistic, rel=1e-4, abs=1e-4)


def test_constant_and_exact_staircases():
    constant = detect_stages(np.full(40, 0.1), num_null=20)
    assert constant.boundaries == () and constant.levels == (0.1,) and constant.p_value == 1.0
    exact = detect_stages(staircase(40), num_null=20)
    # The first record of a stage is left out of the fit, so it may be given to either neighbor.
    assert np.all(np.abs(np.subtract(exact.boundaries, (12, 28))) <= 1)
    np.testing.assert_allclose(exact.levels, [0.0, 1.0, 0.4])


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_false_alarms_of_two_curves_together(rho):
    generator = np.random.default_rng([13, round(10 * rho)])
    alarms = 0
    for _ in range(NUM_SERIES):
        curves = [Curve(name, ar1_series(generator, 75, rho)) for name in ("loss", "llc")]
        alarms += bool(detect_transitions(np.arange(75), curves, min_segment=3))
    assert alarms <= 11


# --- transitions of curves like those of training: plateaus, transits of several records ---

LEVELS = {"4++": 0.09722, "4+": 0.10417, "5": 0.06874, "5+": 0.06180}
LLC = {"4++": 5.1, "4+": 5.0, "5": 6.4, "5+": 7.3}


def training(seed, plan, *, transit=4, llc_sem=0.3):
    """Loss and learning coefficient along `plan`, pairs of class and first record; 150 records."""
    generator = np.random.default_rng(seed)
    position = np.arange(150)
    knots, loss, llc = [], [], []
    for (label, first), end in zip(plan, [p[1] for p in plan[1:]] + [151], strict=True):
        knots += [first, end - transit - 1]
        loss += [LEVELS[label]] * 2
        llc += [LLC[label]] * 2
    log_loss = np.interp(position, knots, np.log(loss)) + 2e-3 * ar1_series(generator, 150, 0.5)
    log_loss[0] += 1.5  # the initialization
    noisy_llc = np.interp(position, knots, llc) + llc_sem * generator.normal(size=150)
    return log_loss, noisy_llc


PLANS = (
    (("4+", 0), ("5", 60)),
    (("4++", 0), ("4+", 30), ("5", 80), ("5+", 120)),
    (("4+", 0),),
)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("seed", range(3))
def test_transitions_of_training_curves(plan, seed):
    loss, llc = training(seed, plan)
    steps = 1500 * np.arange(1, 151)
    curves = [Curve("loss", loss, 0.03), Curve("llc", llc, 0.3)]
    found = detect_transitions(steps, curves, level=0.01, min_segment=3)
    assert len(found) == len(plan) - 1
    for detection, (_, first) in zip(found, plan[1:], strict=True):
        assert first - 4 <= detection.index <= first
        assert steps[detection.index - 1] < detection.step < steps[detection.index]
        assert detection.curves[0] == "loss" and detection.contrast > 5


def test_the_llc_alone_finds_five_to_five_plus():
    _, llc = training(3, (("5", 0), ("5+", 70)))
    (found,) = detect_transitions(np.arange(150), [Curve("llc", llc, 0.3)])
    assert abs(found.index - 68) <= 4 and found.shift == pytest.approx(0.9, abs=0.2)


def test_shifts_too_small_to_matter_are_left_out():
    loss, _ = training(1, (("4++", 0), ("4+", 50)))
    assert len(detect_transitions(np.arange(150), [Curve("loss", loss, 0.03)])) == 1
    assert detect_transitions(np.arange(150), [Curve("loss", loss, 0.10)]) == ()


def test_a_slow_transition_is_one():
    # Over twelve records, with hardly any noise, each record is a significant change.
    loss, _ = training(2, (("4+", 0), ("5", 75)), transit=12)
    (found,) = detect_transitions(np.arange(150), [Curve("loss", loss)], min_segment=3)
    assert abs(found.index - 68) <= 2
    assert found.shift == pytest.approx(np.log(LEVELS["5"] / LEVELS["4+"]), rel=0.05)


def test_a_stage_that_still_settles_is_one():
    # Loss of a supervised run: relaxes for ten records in a saddle (0.160), then in a minimum.
    head = "260 1645 1633 1623 1616 161 1605 1602 1599 1596 1594 1589 1565 1476 1272 1141 1117 1114"
    loss = np.full(150, 0.1111)
    loss[:18] = [float(f"0.{digits}") for digits in head.split()]
    values = np.log(loss) + 1e-4 * np.random.default_rng(9).normal(size=150)
    for min_segment in (3, 5):
        curves = [Curve("loss", values, 0.03)]
        (found,) = detect_transitions(np.arange(150), curves, min_segment=min_segment)
        assert found.index == 14


def test_one_detection_from_two_curves_takes_the_clearer():
    loss, llc = training(4, (("4+", 0), ("5", 75)))
    curves = [Curve("llc", llc), Curve("loss", loss)]
    (found,) = detect_transitions(np.arange(150), curves, level=0.01)
    assert found.curves == ("loss", "llc") and found.shift < 0


def test_a_descent_without_stages_is_no_transition():
    # A curve that falls all the time and then rests has one stage, its last.
    position = np.arange(75)
    noise = 2e-3 * ar1_series(np.random.default_rng(6), 75, 0.5)
    falling = np.maximum(1.5 - 0.05 * position, 0.0) + noise
    assert detect_transitions(position, [Curve("loss", falling, 0.03)], min_segment=3) == ()


def test_a_small_step_after_a_large_one_is_found():
    # The descent of 3 would hide the step of 0.1 if both were judged on one scale.
    position = np.arange(100)
    values = np.select([position < 30, position < 70], [3.0, 0.1], 0.0)
    values = values + 0.02 * np.random.default_rng(7).normal(size=100)
    assert len(detect_stages(values, max_changes=1).boundaries) == 1
    found = detect_transitions(position, [Curve("loss", values, 0.05)], max_changes=1)
    assert [abs(d.index - i) <= 1 for d, i in zip(found, (30, 70), strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 0.0}, "level: expected .*, got 0.0"),
        ({"level": 0.001}, "num_null: got 200"),
        ({"min_segment": 1}, "min_segment: expected a whole number >= 2, got 1"),
        ({"max_changes": 0}, "max_changes: expected a whole number >= 1, got 0"),
        ({"min_segment": 20}, "at least 41 records"),
        ({"num_null": 200.5}, "num_null: expected a whole number"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        detect_stages(np.arange(40.0), **options)


def test_bad_curves():
    steps = np.arange(40)
    with pytest.raises(ValueError, match=r"values: not finite at the records \[3\]"):
        detect_stages(np.where(steps == 3, np.nan, 1.0))
    with pytest.raises(ValueError, match="curves: got 0, expected at least one"):
        detect_transitions(steps, [])
    with pytest.raises(ValueError, match=r"'loss' has shape \(39,\), expected \(40,\)"):
        detect_transitions(steps, [Curve("loss", np.zeros(39))])
    loss = Curve("loss", np.zeros(40))
    for wrong in (steps[::-1], np.where(steps == 3, np.nan, steps), ["a"] * 40):
        with pytest.raises(ValueError, match="steps: (got|expected)"):
            detect_transitions(wrong, [loss])
    for wrong in (-1, np.nan, "a"):
        with pytest.raises(ValueError, match="window: expected a whole number >= 0"):
            detect_transitions(steps, [loss], window=wrong)
    for wrong in (-1.0, np.nan, "a"):
        with pytest.raises(ValueError, match="loss: min_shift: expected a finite number >= 0"):
            detect_transitions(steps, [loss._replace(min_shift=wrong)])
    for wrong in (loss, loss.values, [loss.values]):
        with pytest.raises(ValueError, match=r"curves: expected a list of Curve\(name, values\)"):
            detect_transitions(steps, wrong)
    with pytest.raises(ValueError, match="curves: got 2, expected .* of different names"):
        detect_transitions(steps, [loss, loss])

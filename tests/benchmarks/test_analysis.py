"""The analysis of benchmark rows sees the faults that are planted in them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks import accuracy, analysis, pages
from benchmarks.accuracy_figures import figures


def row(estimate=1.0, half=0.05, **changes):
    """A sound, trusted run of reference 1."""
    scale = half / stats.norm.ppf(0.975)
    ends = {f"{p:g}": stats.norm.ppf(0.5 + p / 2) * scale for p in (0.5, 0.8, 0.95)}
    intervals = {
        p: [None, None] if estimate is None else [estimate - h, estimate + h]
        for p, h in ends.items()
    }
    base = {
        "case": "problem_1",
        "key": 0,
        "estimate": estimate,
        "reference": 1.0,
        "reference_sem": 0.0,
        "verdict": "trusted",
        "regime": "plateau",
        "flags": [],
        "notes": [],
        "intervals": intervals,
        "budget": {"monte_carlo": scale, "anchor": 0.0},
        "gradients": 1000,
        "calibration_gradients": 300,
        "seconds": 1.0,
        "mode": "exact",
    }
    return base | changes


def sound_rows(number=400):
    """Runs whose errors are as large as their intervals say."""
    errors = np.random.default_rng(0).normal(0, 0.01, number)
    return [row(1 + e, half=0.01 * stats.norm.ppf(0.975)) for e in errors]


def failed(rows, tolerance=0.05):
    return {check.name for check in analysis.make_checks(rows, tolerance) if not check.held}


def test_sound_rows_meet_every_target():
    assert failed(sound_rows()) == set()


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (lambda r: r | {"estimate": r["estimate"] + 0.5}, "trusted with an error above 10 %"),
        (lambda r: r | {"verdict": "refused"}, "sound runs refused"),
        (lambda r: r | {"calibration_gradients": 900}, "share of calibration in gradients, median"),
        (lambda r: r | {"calibration_gradients": None},
         "share of calibration in gradients, median"),
        (lambda r: row(1.0, half=1.0), "coverage of the 95 % interval"),
        (lambda r: row(r["estimate"], half=1e-6), "coverage of the 50 % interval"),
        (lambda r: row(1.05, half=0.2),
         "median of the relative error to the value at finite temperature"),
    ],
)  # fmt: skip
def test_a_fault_in_every_row_is_seen(fault, check):
    assert check in failed([fault(r) for r in sound_rows()])


def test_a_single_trusted_wrong_run_is_seen_among_many():
    rows = [*sound_rows(), row(1.2, half=0.5)]
    assert failed(rows) == {"trusted with an error above 10 %"}
    assert analysis.trusted_but_wrong(rows) == [rows[-1]]


def test_runs_that_are_not_finite_are_never_left_out():
    rows = [*sound_rows(90), *[row(None, verdict="refused") for _ in range(10)]]
    assert "95th percentile of the relative error to the value at finite temperature" in failed(
        rows
    )
    assert analysis.coverage(rows, 0.95).total == 100
    assert math.isinf(analysis.relative_error(rows[-1]))
    # A refusal of a run that has no number is not a wrong refusal.
    assert analysis.sound_but_refused(rows).count == 0


def test_runs_without_reference_have_no_error_but_count_in_the_groups():
    rows = [row(), row(5.0, reference=None)]
    table = analysis.group_table("t", rows, lambda r: r["case"])
    assert table.rows[0][:3] == ["problem_1", 2, 1]
    assert analysis.trusted_but_wrong(rows) == []


def test_the_error_of_the_reference_widens_the_interval_in_quadrature():
    outside = row(1.06, half=0.05)
    assert not analysis.covers(outside, 0.95)
    known_to = 0.04 / stats.norm.ppf(0.975)
    assert analysis.covers(outside | {"reference_sem": known_to}, 0.95)
    assert not analysis.covers(row(1.07, half=0.05, reference_sem=known_to), 0.95)


def test_noise_checks_ask_for_accuracy_and_for_the_name_of_the_remedy():
    noisy = [row(1.01, half=0.1, mode="minibatch", notes=["batch enlarged"])]
    names = {check.name: check.held for check in analysis.make_checks(noisy, 0.05)}
    assert names["noisy labels at nbeta/b near 60: largest error"]
    assert names["noisy labels: remedy named"]
    assert "noisy labels: remedy named" in failed([noisy[0] | {"notes": []}])
    assert "noisy labels at nbeta/b near 60: largest error" in failed(
        [noisy[0] | {"estimate": 1.06}]
    )


def test_a_smaller_tolerance_has_smaller_targets():
    assert analysis.targets(0.05) == (0.02, 0.06)
    assert analysis.targets(0.01).median == pytest.approx(0.005)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), st.floats(0.01, 1))
def test_a_quantile_is_a_value_that_the_share_does_not_exceed(values, level):
    found = analysis.quantile(values, level)
    assert found in values
    assert np.mean(np.asarray(values) <= found) >= level - 1e-12
    below = [value for value in values if value < found]
    assert len(below) / len(values) < level


def test_share_has_the_wilson_interval():
    # Wilson's interval of 8 of 10, from its closed form.
    z, p, n = stats.norm.ppf(0.975), 0.8, 10
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    text = str(analysis.Share(8, 10))
    assert f"{100 * (middle - half):.1f} to {100 * (middle + half):.1f} %" in text
    assert str(analysis.Share(0, 0)) == "no runs"


def test_largest_term_of_the_budget():
    assert analysis.largest_term(row(budget={"a": 0.1, "b": -0.2, "c": None})) == "b"
    assert analysis.largest_term(row(budget={})) is None
    same_localization = {"monte_carlo": 0.01, "localization": 0.1}
    assert analysis.largest_term(row(budget=same_localization)) == "monte_carlo"


def test_page_holds_every_run_and_all_figures():
    rows = [*sound_rows(5), row(None, verdict="refused", budget=None)]
    page = accuracy.make_page(rows, 0.05, "accuracy")
    assert set(page.figures) == {"truth", "coverage", "budget", "cost"}
    made = {
        "command": "c",
        "date": "d",
        "commit": "x",
        "versions": {"python": "3"},
        "machine": {"cores": 2, "processor": "p", "memory_gib": 1},
        "stage_seconds": {"measurements": 1.0},
    }
    text = pages.as_markdown(page, made)
    assert text.count("|problem_1|") == 2 * len(rows)  # the worst and the whole list
    assert "**no**" in text
    assert set(figures([row(None, reference=None)])) == {"cost"}

"""Each check of the validation run holds on good results and fails on a planted fault."""

import dataclasses

import numpy as np
import pytest

from slt_rl.diagnostics import Z95
from slt_rl.validation import bayesian, curve_checks, exact, training
from slt_rl.validation.protocol import FULL, NUM_FEATURES
from toy_models import superposition as tms


def held(checks, name):
    return {check.name: check.held for check in checks}[name]


def test_closed_forms_hold():
    assert all(check.held for check in exact.closed_form_checks())


def test_a_wrong_closed_form_is_caught(monkeypatch):
    true_loss = tms.population_loss
    monkeypatch.setattr(
        tms, "population_loss", lambda *args, **kw: true_loss(*args, **kw) * (1 + 1e-7)
    )
    assert not held(exact.closed_form_checks(), "closed form")


def target_arrays(shift=0.0):
    rows = [v for row in exact.FINITE.values() for v in row.values()]
    known = np.array([7.0, 8.5, 8.5])
    return {
        "limit_mean": known * (1 + shift),
        "limit_sem": np.full(3, 0.05),
        "limit_verdict": np.array(["trusted"] * 3),
        "finite_row": np.arange(len(rows)),
        "finite_mean": np.array(rows) * (1 + shift),
        "finite_sem": np.full(len(rows), 0.05),
        "finite_verdict": np.array(["trusted"] * len(rows)),
    }


@pytest.mark.parametrize("shift", [0.0, 0.06, -0.06])
def test_targets_hold_only_where_estimates_are_right(shift):
    checks = exact.target_checks(target_arrays(shift))
    assert all(check.held for check in checks) == (shift == 0.0)


def staircase(labels, noise=0.0):
    """Arrays of a training whose runs sit exactly at the levels of their classes."""
    labels = np.asarray(labels)
    level = np.vectorize(lambda name: tms.level(tms.parse_class(name), NUM_FEATURES))
    generator = np.random.default_rng(0)
    loss = level(labels) + noise * generator.standard_normal(labels.shape)
    return {
        "steps": np.arange(1, labels.shape[1] + 1) * 100,
        "loss": loss,
        "labels": labels,
        "mean_return": -loss - NUM_FEATURES * training.ACTION_SCALE**2,
    }


SMALL = dataclasses.replace(FULL, min_supervised=6, min_ppo=6)
STAIRS = [["4+"] * 20 + ["5"] * 20, ["5"] * 20 + ["5+"] * 20, ["5"] * 20 + ["6"] * 20, ["4"] * 40]
STAIRS += [["5+"] * 40] * 2


def test_training_checks_hold_on_a_staircase_and_fail_off_levels():
    good = staircase(STAIRS)
    assert all(c.held for c in training.supervised_checks(good, SMALL))
    assert all(c.held for c in training.ppo_checks(good, SMALL))
    off = good | {"loss": good["loss"] + 0.003}
    assert not held(training.supervised_checks(off, SMALL), "supervised: levels")
    assert not held(training.ppo_checks(off, SMALL), "PPO: returns")
    still = staircase([["4"] * 40] * 6)
    assert not held(training.ppo_checks(still, SMALL), "PPO: stages")
    assert not held(training.ppo_checks(still, SMALL), "PPO: deep classes")
    few = {k: v if k == "steps" else v[:2] for k, v in good.items()}
    assert not held(training.supervised_checks(few, SMALL), "supervised: runs")


VALUES = {"4": 3.5, "4+": 4.1, "5": 5.4, "5+": 6.5, "6": 6.6}


def measured_runs(values=VALUES, shift=0.0, sem=0.12):
    """A measured staircase with Monte-Carlo noise; `shift` is planted in the regret and the KL."""
    arrays = staircase(STAIRS, noise=1e-4)
    generator = np.random.default_rng(1)
    means = np.vectorize(values.get)(arrays["labels"]).astype(float)

    def noisy(offset):
        return means + offset + sem * generator.standard_normal(means.shape)

    curves = []
    drawn = {"supervised": noisy(0), "regret": noisy(shift), "exact_regret": noisy(0)}
    drawn |= {"kl": noisy(shift), "kl_reference": noisy(0)}
    for run in range(len(means)):
        curve = {"programs": np.array(len(drawn) if run == 0 else 0)}
        for name, values_ in drawn.items():
            width = np.full(means.shape[1], sem)
            curve |= {f"{name}_mean": values_[run], f"{name}_sem": width}
            curve |= {f"{name}_half_width": Z95 * width}
        curves.append(curve)
    return curve_checks.Measured("Supervised", arrays, np.arange(len(means)), curves)


@pytest.mark.parametrize("compare", [curve_checks.compare_regret, curve_checks.compare_kl])
def test_agreement_holds_within_noise_and_fails_with_a_shift(compare):
    assert curve_checks.agreement_check(compare(measured_runs())).held
    assert not curve_checks.agreement_check(compare(measured_runs(shift=0.4))).held


def test_agreement_of_no_checkpoint_does_not_hold():
    measured = measured_runs()
    measured.training["labels"][:] = "4"
    assert not curve_checks.agreement_check(curve_checks.compare_regret(measured)).held


def test_order_holds_when_the_estimate_rises_and_fails_when_it_falls():
    assert curve_checks.order_check([measured_runs()]).held
    falling = VALUES | {"5+": 5.0, "6": 5.0}
    assert not curve_checks.order_check([measured_runs(falling)]).held


def test_transitions_are_found_from_curves_and_a_random_detector_fails():
    measured = measured_runs()
    true, detected = curve_checks.find_transitions(measured, "supervised")
    assert [len(t) for t in true] == [1, 1, 1, 0, 0, 0]
    score = curve_checks.transition_score(measured, detected)
    assert curve_checks.transition_check(measured, score).held
    rolled = [*detected[1:], detected[0]]
    wrong = [tuple(d for d in found) for found in [rolled[4], *rolled[:5]]]
    score = curve_checks.transition_score(measured, wrong[::-1])
    assert not curve_checks.transition_check(measured, score).held


def test_a_second_compilation_is_caught():
    measured = measured_runs()
    assert curve_checks.compilation_check([measured]).held
    measured.curves[3]["programs"] = np.array(6)
    assert not curve_checks.compilation_check([measured]).held


def occupancy_at(crossing):
    sizes = np.array([100.0, 200.0, 300.0, 400.0])
    share = 1 / (1 + np.exp(-(sizes - crossing) / 60))
    hulls = np.where(np.arange(1000)[None] < 1000 * share[:, None], 6, 5)
    return bayesian.occupancy({"sizes": sizes, "hulls": hulls}, None)


@pytest.mark.parametrize(("crossing", "good"), [(280.0, True), (200.0, False), (360.0, False)])
def test_occupancy_crossing(crossing, good):
    found = occupancy_at(crossing)
    assert found.crossing == pytest.approx(crossing, rel=0.02)
    assert held(bayesian.occupancy_checks(found), "occupancy of 5 and 6") == good


def test_occupancy_of_another_sampler_must_agree():
    sizes = np.array([100.0, 200.0])
    hulls = np.array([[4] * 300 + [5] * 600 + [6] * 100] * 2)
    chain = np.array([4] * 30 + [5] * 60 + [6] * 10)
    for nuts, good in ((chain, True), (np.full(100, 5), False)):
        draws = np.array([np.random.default_rng(i).permutation(nuts)[:90] for i in range(64)])
        found = bayesian.occupancy({"sizes": sizes, "hulls": hulls}, {"hulls": draws})
        assert held(bayesian.occupancy_checks(found), "occupancy by NUTS") == good

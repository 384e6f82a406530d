"""Training on the rungs at toy size, and the scores of made-up curves."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.difficulty import trained, trained_curves
from slt_rl.difficulty.rungs import ladder_rungs
from slt_rl.difficulty.trained import DRIFT, TRAINING, laws_of, regret_and_gain, train_rung
from slt_rl.validation.curve_checks import Measured
from toy_models import superposition as tms
from toy_models.superposition_rungs import drifted_point

RUNGS = {rung.number: rung for rung in ladder_rungs()}
SMALL = dataclasses.replace(
    TRAINING,
    num_runs=2,
    num_records=5,
    num_iterations=5,
    num_epochs=5,
    estimates=dataclasses.replace(
        TRAINING.estimates, num_examples=40, num_chains=2, num_draws=8, num_burnin=4
    ),
)


def stacked(points):
    """Parameters of one run whose records are the points."""
    return {name: np.stack([np.asarray(p[name]) for p in points])[None] for name in ("W", "b")}


@pytest.mark.parametrize(
    "number", [0, 1, *(pytest.param(number, marks=pytest.mark.very_slow) for number in (4, 5))]
)
def test_a_rung_is_trained(number):
    arrays = train_rung(jax.random.key(0), RUNGS[number], SMALL, start={})
    assert arrays["W"].shape == (2, 5, 2, 6)
    assert arrays["labels"].shape == (2, 5)
    assert np.all(np.diff(arrays["steps"]) > 0)
    assert np.all(np.isfinite(arrays["loss"]))
    assert not np.array_equal(arrays["W"][:, 0], arrays["W"][:, -1])


def test_drift_goes_on_from_the_trained_runs_with_the_weakest_feature_last():
    point = tms.critical_point(tms.parse_class("5"), 6)
    turned = {"W": jnp.roll(point["W"], 2, axis=1), "b": jnp.roll(point["b"], 2)}
    start = jax.tree.map(lambda x: np.stack([np.asarray(x)[None]] * 2), turned)
    last = trained.weakest_last({name: start[name][:, -1] for name in ("W", "b")})
    np.testing.assert_array_equal(last["W"][0, :, -1], 0)
    arrays = train_rung(jax.random.key(0), RUNGS[3], SMALL, start=start)
    # Class 5 is exact whatever the probability: five iterations do not leave it.
    assert set(arrays["labels"].ravel()) == {"5"}
    law = laws_of(3, 5)[0].probabilities[:, -1]
    np.testing.assert_allclose(law, DRIFT)
    # The regret is that under the law of the record.
    wanted = [p / 3 + (1 - p) * (6 * tms.level(tms.parse_class("5"), 6) - 1 / 3) / 5 for p in DRIFT]
    np.testing.assert_allclose(arrays["loss"][0], wanted, atol=3e-4)


def test_labels_are_those_of_the_critical_points_of_each_law():
    labels = ("5", "5+", "6")
    laws = jax.tree.map(lambda x: x[np.array([1, 1, 1])], laws_of(3, 5)[0])
    points = [drifted_point(tms.parse_class(c), DRIFT[1], 6) for c in labels]
    params = stacked(points)
    _, gain = regret_and_gain(RUNGS[3], params, laws)
    # 5+ is a saddle there: it is left, but not within a short descent.
    assert list(trained.labels_of(params, gain, laws)[0]) == list(labels)
    # By the levels of equal features two of them would be nowhere.
    assert list(tms.classify(params)[0]) == ["5", "transit", "transit"]
    off = {"W": 0.8 * params["W"], "b": params["b"]}
    _, gain = regret_and_gain(RUNGS[3], off, laws)
    assert set(trained.labels_of(off, gain, laws)[0]) == {"transit"}


def test_every_rung_has_the_labels_of_its_own_points():
    for rung in RUNGS.values():
        if rung.number in TRAINING.estimates.rungs and rung.number != 3:
            params = stacked(rung.points.values())
            laws = jax.tree.map(lambda x: x[:3], laws_of(rung.number, 5)[0])
            loss, gain = regret_and_gain(rung, params, laws)
            assert list(trained.labels_of(params, gain, laws)[0]) == list(rung.points)
            scale = float(rung.laws["5"].scale)
            wanted = [rung.regret_fn(p, p, rung.laws[c]) / scale for c, p in rung.points.items()]
            np.testing.assert_allclose(loss[0], wanted, rtol=1e-10)


def test_a_run_is_measured_under_the_potentials_asked_for():
    rung = RUNGS[3]
    points = stacked([*rung.points.values(), *list(rung.points.values())[:2]])
    names = ("KL, stale data", "KL, drift weights")
    found = trained_curves.measure_run(
        jax.random.key(0), rung, points, run=0, protocol=SMALL, names=names
    )
    assert set(found) == {
        f"{n}_{q}" for n in names for q in ("mean", "sem", "verdict", "gradients")
    }
    assert all(values.shape == (5,) for values in found.values())
    # In the first part the buffer is of the law now: the weights are near one there, not later.
    change = np.abs(found["KL, stale data_mean"] - found["KL, drift weights_mean"])
    assert np.all(change[1:] > 0)


def test_data_of_a_record_are_of_its_own_law_and_policy():
    method = {m.name: m for m in trained_curves.measured_methods(RUNGS[3])}
    points = stacked([RUNGS[3].points["5"]] * 5)
    checkpoints = {name: values[0] for name, values in points.items()}
    sizes = dataclasses.replace(SMALL.estimates, num_examples=4000)
    rung = trained_curves._at(RUNGS[3], checkpoints, laws_of(3, 5), 1)
    shares = {}
    for name in ("KL, stale data", "KL, drift weights"):
        data = method[name].build(jax.random.key(0), rung, "now", protocol=sizes).data
        last = data.examples["observation"]["feature"] == 5
        shares[name] = float(data.mean(last.astype(float)))
    # The buffer of the second part is of the first; weights are exact in the counts of features.
    assert abs(shares["KL, stale data"] - DRIFT[0]) < 4 * np.sqrt(DRIFT[0] / 4000)
    np.testing.assert_allclose(shares["KL, drift weights"], DRIFT[1], rtol=1e-6)


def made_up(*, llc):
    """Three plateaus of twelve records: 5, 5+, 6, and curves of which one shows the first step."""
    labels = np.repeat(["5", "5+", "6"], 12)[None]
    noise = np.random.default_rng(0).normal(size=(2, 36))
    loss = np.exp(np.repeat([-2.6, -2.6, -3.0], 12) + 0.003 * noise[0])[None]
    mean = np.repeat(llc, 12) + 0.1 * noise[1]
    curves = {"KL_mean": mean, "KL_sem": np.full(36, 0.1), "KL_verdict": np.zeros(36, int)}
    training = {"steps": np.arange(1, 37), "loss": loss, "labels": labels}
    return Measured("made up", training, np.array([0]), [curves])


def test_scores_count_what_the_curves_show():
    good = trained_curves.score_curves(RUNGS[1], made_up(llc=(7.0, 8.5, 8.5)), "KL")
    assert (good.scores["both"].recall, good.scores["both"].precision) == (1.0, 1.0)
    assert good.scores["both"].median_absolute_lag <= 0.5
    assert good.scores["loss"].recall == good.scores["llc"].recall == 0.5
    assert (good.ordered, good.pairs, good.rising, good.turns) == (2, 2, 1, 1)
    assert good.verdicts == (36, 0, 0)
    wrong = trained_curves.score_curves(RUNGS[1], made_up(llc=(8.5, 7.0, 7.0)), "KL")
    assert (wrong.ordered, wrong.rising) == (0, 0)

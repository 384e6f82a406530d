"""Curves of a run, what is said of them, and the page."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from slt_rl.agents import page
from slt_rl.agents.analysis import describe_series, landmark_table
from slt_rl.agents.develop import check_curves, develop_run, load_development
from slt_rl.agents.page import default_frame_steps, main_events, write_report
from slt_rl.agents.series import Series, default_window, event_series
from slt_rl.agents.turning import KINDS
from tests.agents import small_worlds

REWARDED = {"plants": "rewarded"}


@pytest.fixture(scope="module")
def described(toy_run, toy_curve):
    assert toy_curve.name == "policy-reference"
    develop_run(toy_run, rewarded=REWARDED, num_simulated=2)
    return load_development(toy_run.folder)


def test_curves_are_ratios_of_the_recorded_sums(toy_run):
    series = event_series(toy_run, window=3, rewarded=REWARDED)
    sums = toy_run.statistics(1)
    counts, episodes = sums["episode_counts"][3:6, 0].sum(), sums["num_episodes"][3:6].sum()
    assert series["plants"].values[1, 1] == counts / episodes
    assert series["return"].values[1, 1] == sums["total_return"][3:6].sum() / episodes
    rate = series["plants per 1000 steps"]
    assert rate.values[1, 1] == pytest.approx(1000 * sums["counts"][3:6, 0].sum() / (3 * 640))
    excess = series["excess plants"].values
    np.testing.assert_array_equal(excess, series["plants"].values - series["rewarded"].values)
    assert series["plants"].steps[:2].tolist() == [960.0, 2880.0]


def test_plants_overshoot_and_decay_in_every_seed(described):
    plants = described["series"]["plants"]
    assert all(p < 0.05 for p in plants["overshoot_p"])
    assert all(p > 0.05 for p in described["series"]["rewarded"]["overshoot_p"])
    marks = plants["landmarks"]
    assert min(marks["peak"]["per_seed"]) > 1.5 and max(marks["end"]["per_seed"]) < 1.2
    peaks = zip(*(marks["peak_step"][k] for k in ("low", "per_seed", "high")), strict=True)
    assert all(low <= step <= high for low, step, high in peaks)
    assert plants["forms"]["winner"] == "rise and decay"
    confusion = plants["forms"]["confusion"]
    assert confusion["truths"][0] == "rise and decay" and confusion["num_series"] == 2
    # Simulated from the best form itself, at the noise found: it wins, or is tied.
    best = confusion["forms"].index("rise and decay")
    assert confusion["wins"][0][best] + confusion["ties"][0][best] == 2
    assert plants["stages"]["boundary_steps"]


def test_the_llc_stands_beside_the_events(described):
    names = [f"LLC policy-reference at localization {g}" for g in (100, 10)]
    assert set(names) <= described["series"].keys()
    lags = [lag for lag in described["lags"] if lag["other"] == "plants"]
    assert {lag["curve"] for lag in lags} == set(names)
    assert {(lag["kind"], lag["other_kind"]) for lag in lags} == {
        (a, b) for a in KINDS for b in KINDS
    }
    assert all(len(lag["per_seed"]) == 3 for lag in lags)


def test_the_llc_may_be_locked_to_events_and_an_event_not_to_itself(described):
    def forms(name):
        return {row["form"] for row in described["series"][name]["forms"]["table"]}

    # The rewarded plants are a share, but nothing says so: they are no achievement.
    assert forms("plants") == forms("rewarded") and len(forms("plants")) == 5
    llc = "LLC policy-reference at localization 100"
    assert forms(llc) - forms("plants") == {"locked to plants", "free bumps"}
    rises = described["series"]["plants"]["turning"]["rise"]
    assert described["series"][llc]["observed"] == {"plants": rises} and None not in rises
    assert described["series"]["plants"]["observed"] == {}
    confusion = described["series"][llc]["forms"]["confusion"]
    assert set(confusion["forms"]) == forms(llc)


def test_achievements_are_shares_and_described_beside_what_they_pay_for(toy_run, tmp_path):
    names = ("plants", "achievement/rewarded")
    run = dataclasses.replace(toy_run, folder=tmp_path, event_names=names)
    develop_run(run, rewarded=dict([names]), num_simulated=0, progress=False)
    series = load_development(tmp_path)["series"]
    found = {name: one for name, one in series.items() if name in ("excess plants", *names)}
    has = {
        name: "replicator" in {row["form"] for row in one["forms"]["table"]}
        for name, one in found.items()
    }
    assert has == {"plants": False, "excess plants": False, "achievement/rewarded": True}
    assert found["achievement/rewarded"]["unit"] == "share of episodes"


STEPS = np.linspace(0.0, 6e5, 60)


def noisy_series(curves, noise_std, **what):
    """Curves `[seed, record]` with noise."""
    values = curves + noise_std * np.random.default_rng(0).standard_normal(curves.shape)
    sem = np.full_like(values, noise_std)
    return Series("x", "", STEPS, values, sem, tuple(range(len(curves))), **what)


@pytest.mark.parametrize("is_share", [True, False])
def test_a_planted_replicator_is_found_where_the_curve_is_a_share(is_share):
    params = np.array([[0.03, 20.0], [0.05, 15.0]])
    start, advantage = params.T[..., None]
    curves = 1 / (1 + (1 / start - 1) * np.exp(-advantage * STEPS / STEPS[-1]))
    series = noisy_series(curves, 0.02, is_share=is_share)
    found = describe_series(series, num_simulated=0)
    winners = {one["winner"] for one in found["forms_of_seeds"]}
    assert winners == {"replicator"} if is_share else "replicator" not in winners
    for row, one in zip(params, found["forms_of_seeds"] if is_share else (), strict=False):
        best = one["table"][0]
        fitted, sem = (np.array(list(best[name].values())) for name in ("params", "sem"))
        assert np.all(np.abs(fitted - row) < 4 * sem)


def test_a_planted_bump_is_locked_to_the_event_that_sets_in_with_it():
    onsets = np.array([1.2e5, 1.6e5, 2.0e5])
    since = np.maximum(STEPS - onsets[:, None], 0) / STEPS[-1]
    series = noisy_series(4 + 3 * (np.exp(-since / 0.3) - np.exp(-since / 0.02)), 0.1)
    observed = {"plant": onsets, "sapling": onsets - 6e4, "eat_plant": np.full(3, np.nan)}
    found = describe_series(series, num_simulated=2, observed=observed)
    # A bump at a free time nests it: tied where its chi-squared of one degree is above log 60 - 2,
    # in 15 of 100 series, and better by two where that is above log 60 + 2, in 1 of 100.
    assert all("locked to plant" in one["tied"] for one in found["forms_of_seeds"])
    assert sum(one["winner"] == "locked to plant" for one in found["forms_of_seeds"]) >= 2
    assert not any("locked to sapling" in one["tied"] for one in found["forms_of_seeds"])
    names = {row["form"] for row in found["forms"]["table"]}
    assert {"locked to plant", "locked to sapling", "free bumps"} == {
        name for name in names if name.startswith(("locked", "free"))
    }
    assert set(found["forms"]["confusion"]["forms"]) == names
    # Told of another time, no seed is locked to it.
    moved = describe_series(series, num_simulated=0, observed={"plant": onsets + 6e4})
    assert not any("locked" in str(one["tied"]) for one in moved["forms_of_seeds"])


def test_the_page_shows_everything_on_one_axis(toy_run, described):
    report = write_report(toy_run)
    text = (toy_run.folder / "report.html").read_text()
    assert "KL to the frozen policy" in text and "localization 100" in text.replace("\n", " ")
    assert text.count("<img") == 2 and "no map to draw" in text and "told apart" in text
    assert 'src="http' not in text and 'href="http' not in text
    summary = json.loads((toy_run.folder / "summary.json").read_text())
    assert {t["title"] for t in summary["tables"]} >= {"landmarks", "forms", "stages", "lags"}
    assert [check.name for check in report.checks][0] == "policy-reference: refused"
    assert main_events(described["series"])[0] == "plants"
    steps = default_frame_steps(toy_run, described["series"]["plants"])
    assert steps[0] == 0 and steps[-1] == toy_run.steps[-1] and len(steps) >= 3


def test_frames_of_no_checkpoint_are_refused_before_anything_is_drawn(toy_run, described):
    del described
    before = (toy_run.folder / "report.html").read_bytes()
    with pytest.raises(ValueError, match=r"frames: got \[641\], expected some of \[0, 1280"):
        write_report(toy_run, frame_steps=[0, 641])
    assert (toy_run.folder / "report.html").read_bytes() == before


def test_what_a_report_lacks_is_refused_before_anything_is_drawn(toy_run, described, monkeypatch):
    def draw(*_, **__):
        raise AssertionError("something was drawn")

    class Lost(type(toy_run)):
        def totals(self):
            raise ValueError("statistics.safetensors: missing")

    assert described["seeds"] == [0, 1, 2]
    monkeypatch.setattr(page, "save_figure", draw)
    with pytest.raises(ValueError, match=r"statistics\.safetensors: missing"):
        write_report(Lost(**vars(toy_run)))
    with pytest.raises(
        ValueError, match=r"development\.json: of seeds \[0, 1, 2\], but the run has"
    ):
        write_report(dataclasses.replace(toy_run, seeds=(0, 1)))


def test_landmarks_of_one_seed_have_no_interval_over_seeds():
    one = Series("x", "unit", np.arange(20.0), np.arange(20.0)[None], np.ones((1, 20)), (0,))
    table = landmark_table(one)
    assert table["peak"]["mean"] == 19.0 and np.isnan(table["peak"]["mean_low"])


def test_intervals_of_steps_end_with_the_curve():
    values = np.zeros((3, 20))
    values[[0, 1, 2], [1, 2, 18]] = 1.0
    table = landmark_table(Series("x", "unit", np.arange(20.0), values, 0 * values, (0, 1, 2)))
    # Without them: 7 -+ 4.30 x 5.51.
    assert table["peak_step"]["mean"] == 7.0
    assert (table["peak_step"]["mean_low"], table["peak_step"]["mean_high"]) == (0.0, 19.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"events": ["planting"]}, r"events: got \['planting'\], expected different ones"),
        ({"rewarded": {"plants": "pay"}}, "rewarded: got 'pay', expected two different events"),
        ({"rewarded": {"plants": "plants"}}, "rewarded: got 'plants', expected two different"),
        ({"window": 0}, "window: expected a whole number >= 1, got 0"),
        ({"num_simulated": -1}, "num_simulated: expected a whole number >= 0"),
        ({"window": 12}, "window: 12 updates leave 5 windows, expected at least 11"),
        ({"window": 61}, "window: got 61, expected 1 ... 60"),
        ({"window": 2.5}, "window: expected a whole number >= 1, got 2.5"),
        (
            {"events": ["plants", "plants"]},
            r"events: got \['plants', 'plants'\], expected different",
        ),
    ],
)
def test_what_cannot_be_described_is_refused(toy_run, change, message):
    with pytest.raises(ValueError, match=message):
        develop_run(toy_run, **{"rewarded": REWARDED} | change)


def test_gaps_name_the_curve():
    values = np.ones((2, 30))
    values[1, 4] = np.nan
    series = Series("plants", "per episode", np.arange(30.0), values, np.zeros((2, 30)), (0, 1))
    with pytest.raises(ValueError, match=r"plants: values: not finite at the records \[4\]"):
        describe_series(series)


RUN = SimpleNamespace(folder=Path("run"), seeds=(0, 2, 4), steps=10 * np.arange(12))


def curve_of(num_checkpoints, seeds=(0, 4)):
    steps = 10 * np.arange(num_checkpoints)
    mean = np.ones((2, 2, num_checkpoints))
    return SimpleNamespace(steps=steps, seeds=seeds, localizations=(300.0, 100.0), mean=mean)


def test_a_short_llc_curve_names_its_file_and_says_what_to_run():
    check_curves(RUN, {"policy-own": curve_of(11)})
    message = (
        r"run/curves/policy-own\.json: 10 checkpoints, expected at least 11 .*`slt-rl curve run"
    )
    with pytest.raises(ValueError, match=message):
        check_curves(RUN, {"policy-own": curve_of(10)})


def test_an_llc_curve_with_gaps_names_its_file_and_says_what_to_run():
    curve = curve_of(12)
    curve.mean[1, 1, 7] = np.nan
    message = (
        r"run/curves/policy-own\.json: 1 gaps, the first at step 70 of seed 4 at localization 100, "
        r".*remove run/curves/policy-own\.json .*--localizations"
    )
    with pytest.raises(ValueError, match=message):
        check_curves(RUN, {"policy-own": curve})


@pytest.mark.parametrize("curve", [curve_of(11, seeds=(0, 1)), curve_of(13)])
def test_a_curve_of_another_run_is_refused(curve):
    with pytest.raises(
        ValueError, match=r"policy-own\.json: of seeds .*the curve is of another run"
    ):
        check_curves(RUN, {"policy-own": curve})


def test_too_few_points_for_a_form_name_the_curve():
    series = Series(
        "plants", "per episode", np.arange(6.0), np.ones((1, 6)), np.zeros((1, 6)), (0,)
    )
    with pytest.raises(ValueError, match="plants: .*at least"):
        describe_series(series)


def test_a_run_that_was_not_described_says_what_to_run(tmp_path):
    run = small_worlds.ToyRun(tmp_path, (0,), np.arange(3), (), None, None, (), {}, {})
    with pytest.raises(ValueError, match="development.json: missing; run `slt-rl develop"):
        write_report(run)
    for text in ("{", "[]", "{}"):
        (tmp_path / "development.json").write_text(text)
        with pytest.raises(ValueError, match=r"development\.json"):
            load_development(tmp_path)


def test_a_run_with_too_few_episodes_says_so(toy_run):
    class Short:
        folder, seeds = toy_run.folder, (0,)

        def totals(self):
            return toy_run.totals()._replace(num_episodes=np.zeros((9, 1, 1), int))

    with pytest.raises(ValueError, match="too few complete episodes"):
        default_window(Short())


@pytest.mark.unoptimized
def test_another_world_gives_the_same_kind_of_curves(tmp_path):
    run = small_worlds.cartpole_run(tmp_path, num_updates=24)
    series = event_series(run, window=4)
    pushes = series["left"].values + series["right"].values
    # A push at every step, a point at every step: both are the length of an episode.
    np.testing.assert_allclose(pushes, series["return"].values)
    rates = series["left per 1000 steps"].values + series["right per 1000 steps"].values
    np.testing.assert_allclose(rates, 1000)
    with pytest.raises(ValueError, match="window: 4 updates leave 6 windows"):
        develop_run(run, window=4, events=["left"])

"""Lags of planted dips behind planted peaks, of several seeds with gaps."""

import numpy as np
import pytest

from benchmarks.craftax_turns import _as_json, curves_of, joined, with_kept
from benchmarks.craftax_turns_page import (
    Curves,
    localization_table,
    make_page,
    own_and_other,
    trusted_points,
)
from slt_rl.agents import Series, lags, turning_points

STEPS = np.linspace(0, 1e6, 101)
PEAKS = 8e4, 1.2e5, 2e5


def curve(name, at, seed, sign=1.0, noise=0.02):
    """One seed: a bump or a dip at a step."""
    x, center = (np.log(step + 2e4) for step in (STEPS, at))
    values = sign * np.exp(-0.5 * ((x - center) / 0.4) ** 2)
    values = values + noise * np.random.default_rng(seed).normal(size=STEPS.shape)
    return Series(name, "unit", STEPS, values[None], np.full((1, STEPS.size), noise), (seed,))


@pytest.fixture(scope="module")
def dips_and_peaks():
    """Dips half as late again as the peaks."""
    dips = [curve("LLC", 1.5 * at, i, sign=-1.0) for i, at in enumerate(PEAKS)]
    peaks = [curve("plant", at, 10 + i)._replace(seeds=(i,)) for i, at in enumerate(PEAKS)]
    return joined(dips), joined(peaks)


def test_the_lag_of_a_planted_dip_is_found_in_every_seed(dips_and_peaks):
    dips, peaks = dips_and_peaks
    (lag,) = [x for x in lags(dips, [peaks]) if (x.kind, x.other_kind) == ("dip", "peak")]
    true = np.log2(1.5)
    assert (lag.seed_low < true).all() and (true < lag.seed_high).all()
    assert (lag.seed_high - lag.seed_low < 0.5).all() and lag.low < true < lag.high
    own, other, share = own_and_other(turning_points(dips), turning_points(peaks), lag)
    assert own == pytest.approx(np.sqrt(np.mean(lag.per_seed**2)))
    # Lags log2(1.5 a / b) over the six pairs of different peaks a and b.
    pairs = [np.log2(1.5 * a / b) for a in PEAKS for b in PEAKS if a != b]
    assert other == pytest.approx(np.sqrt(np.mean(np.square(pairs))), abs=0.1)
    # Only the own assignment keeps the order of the seeds.
    assert share == pytest.approx(1 / 6)


def test_dips_at_one_time_belong_to_no_seed():
    dips = joined([curve("LLC", 1e5, 0, sign=-1.0)._replace(seeds=(i,)) for i in range(3)])
    peaks = joined([curve("plant", at, 10 + i)._replace(seeds=(i,)) for i, at in enumerate(PEAKS)])
    (lag,) = [x for x in lags(dips, [peaks]) if (x.kind, x.other_kind) == ("dip", "peak")]
    own, other, share = own_and_other(turning_points(dips), turning_points(peaks), lag)
    assert own == pytest.approx(other) and share == 1


def test_seeds_are_joined_where_all_have_a_number():
    first, second = curve("LLC", 1e5, 0), curve("LLC", 1e5, 1)
    first.values[0, 7] = np.nan
    second = second._replace(steps=STEPS[2:], values=second.values[:, 2:], sem=second.sem[:, 2:])
    found = joined([first, second])
    np.testing.assert_array_equal(found.steps, np.delete(STEPS, [0, 1, 7]))
    np.testing.assert_array_equal(found.values[1], np.delete(second.values[0], 5))
    assert found.seeds == (0, 1) and found.values.shape == found.sem.shape == (2, 98)


@pytest.fixture
def curves(dips_and_peaks):
    """Two LLC curves, the second a copy of the first; one point of the second seed is doubtful."""
    dips, peaks = dips_and_peaks
    llc = [dips._replace(name=f"LLC at {g}", unit="LLC") for g in (300, 100)]
    verdict = np.full((3, len(dips.steps)), "trusted", object)
    verdict[1, 7] = "doubtful"
    words = {
        "seeds": [0, 1, 2],
        "steps": [dips.steps.tolist()] * 3,
        "verdict": verdict.tolist(),
        "regime": np.full(verdict.shape, "plateau", object).tolist(),
        "commit": "0123456789",
        "date": "2026-11-27",
    }
    return Curves(llc, [peaks], [{"curve": series.name} | words for series in llc])


def table_of(page, title):
    (found,) = [table for table in page.tables if table.title == title]
    return found


def test_the_page_shows_the_lag_of_every_seed(curves):
    page = make_page(curves, {"every": curves})
    behind = {tuple(row[:4]) for row in table_of(page, "Lags of the LLC behind events").rows}
    assert ("LLC at 300", "dip", "plant", "peak") in behind
    # Of each seed the same with both rewards, since both are the same curves here.
    both = table_of(page, "With another reward: 'every'").rows
    assert [row[:3] for row in both] == [
        [name, kind, seed]
        for name, kind in (("LLC at 300", "dip"), ("LLC at 100", "dip"), ("plant", "peak"))
        for seed in range(3)
    ]
    assert all(row[3] == row[4] != "–" for row in both)
    counted = table_of(page, "Verdicts of 'every'").rows
    assert counted[1] == ["LLC at 300", 1, "100 trusted, 1 doubtful", "101 plateau",
                          "2026-11-27, 0123456"]  # fmt: skip


def test_every_point_is_shown_with_its_verdict_and_regime(curves):
    page = make_page(curves, {})
    points = table_of(page, "Points")
    assert len(points.rows) == 101 and points.header[4] == "at 100, seed 0"
    assert points.rows[7][2].endswith("± 0.02 dp") and points.rows[7][3].endswith("± 0.02 tp")
    found = trusted_points(curves.llc[0], curves.rows[0])
    np.testing.assert_array_equal(np.argwhere(~found), [[1, 7]])


def test_a_curve_has_no_lag_behind_itself_at_another_localization(curves):
    dips = curves.llc[0]
    later = dips._replace(name="LLC later", steps=1.5 * (dips.steps + 2e4) - 2e4)
    rows = {row[1]: row for row in localization_table([dips, later, curves.llc[1]]).rows}
    assert rows["LLC at 300"][0] == "dip" and rows["LLC at 300"][-1].startswith("0.00 ")
    lag = np.log2(turning_points(later).dip / turning_points(dips).dip)
    assert rows["LLC later"][-1].startswith(f"{lag.mean():.2f} ")
    # Where a seed has no such point there is no mean over seeds.
    values = np.concatenate([dips.values[:2], -dips.values[2:]])
    rows = localization_table([dips._replace(values=values), curves.llc[1]]).rows
    (row,) = [row for row in rows if row[0] == "dip"]
    assert row[3].endswith("; –") and row[4] == "–"


def test_curves_that_were_not_measured_again_are_those_of_the_stored_page(curves, tmp_path):
    assert curves_of(tmp_path, "every", [], when={}) is None
    stored = [*map(_as_json, [*curves.llc, *curves.events]), *curves.rows]
    kept = curves_of(tmp_path, "every", [{"variant": "every"} | row for row in stored], when={})
    assert kept.rows == curves.rows
    for one, other in zip([*kept.llc, *kept.events], [*curves.llc, *curves.events], strict=True):
        assert one.name == other.name and one.seeds == other.seeds
        np.testing.assert_allclose(one.values, other.values, atol=1e-5)
    row = curves.rows[0] | {"commit": "another"}
    again = with_kept(Curves(curves.llc[:1], curves.events, [row]), kept)
    assert [x.name for x in again.llc] == ["LLC at 300", "LLC at 100"]
    assert again.rows == [row, curves.rows[1]] and again.llc[0] is curves.llc[0]


def test_curves_of_a_stored_page_are_not_put_beside_other_runs(curves):
    (peaks,) = curves.events
    other = peaks._replace(values=peaks.values + 1e-4)
    measured = Curves(curves.llc[:1], [other], curves.rows[:1])
    with pytest.raises(ValueError, match=r"other runs; measure again: LLC at 100"):
        with_kept(measured, curves)
    # With nothing to keep, other runs are a page of their own.
    assert with_kept(Curves(curves.llc, [other], curves.rows), curves).events == [other]

"""Lags of planted dips behind planted peaks, of several seeds with gaps."""

import numpy as np
import pytest

from benchmarks.craftax_turns import joined
from benchmarks.craftax_turns_page import Curves, make_page, own_and_other
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


def test_the_page_shows_the_lag_of_every_seed(dips_and_peaks):
    dips, peaks = dips_and_peaks
    verdicts = {
        "curve": "LLC", "seeds": [0], "verdict": [["trusted"]], "regime": [["plateau"]]
    }  # fmt: skip
    curves = Curves([dips], [peaks], [verdicts])
    page = make_page(curves, {"every": curves})
    behind = {tuple(row[:4]) for row in page.tables[0].rows}
    assert ("LLC", "dip", "plant", "peak") in behind
    # Of each seed the same with both rewards, since both are the same curves here.
    assert [row[:3] for row in page.tables[1].rows] == [
        [name, kind, seed]
        for name, kind in (("LLC", "dip"), ("plant", "peak"))
        for seed in range(3)
    ]
    assert all(row[3] == row[4] != "–" for row in page.tables[1].rows)
    for table in page.tables[4:]:
        assert list(table.rows) == [["LLC", 0, "1 trusted", "1 plateau"]]

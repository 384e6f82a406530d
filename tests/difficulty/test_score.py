"""From measurements to outcomes, on measurements that are made up."""

import numpy as np
import pytest

from slt_rl.difficulty import measure, score
from slt_rl.difficulty.methods import methods_of
from slt_rl.difficulty.rungs import ladder_rungs
from tests.difficulty.made_up import made_up_arrays, part

RUNGS = ladder_rungs()


def score_of(**changes):
    return score._score(RUNGS[1], "KL", "KL", part(**changes), True)


def test_a_good_estimator_survives():
    found = score_of()
    assert found.survives
    assert found.covered == found.total == 30
    assert found.order == 1.0
    assert found.agreement == pytest.approx(1.0, abs=0.15)


def test_a_biased_one_has_a_wrong_value():
    found = score_of(shift=0.8)
    assert found.outcome == "wrong value"
    assert found.order == 1.0


def test_right_in_the_mean_with_narrow_intervals():
    made = part()
    narrow = {"low": made["mean"] - 0.05, "high": made["mean"] + 0.05}
    found = score._score(RUNGS[1], "KL", "KL", made | narrow, True)
    assert found.outcome == "narrow intervals"


def test_one_that_is_refused_does_not_serve():
    verdict = np.zeros((3, 10), int)
    verdict[1, :4] = measure.VERDICTS.index("refused")
    assert score_of(verdict=verdict).outcome == "refused"


def test_classes_out_of_order():
    found = score_of(wanted=np.array([7.0, 6.5, 7.0]))
    assert found.outcome == "wrong order"
    assert found.order < 0.9


def test_where_theory_expects_another_value():
    found = score_of(shift=1.0, predicted=np.array([5.1, 8.5, 9.5]))
    assert found.separated == ("5+", "6")
    assert found.outside == 1.0


@pytest.mark.parametrize(("hits", "few"), [(30, False), (26, False), (24, True)])
def test_too_few_by_chance(hits, few):
    assert score.is_too_few(hits, 30) == few


def test_the_recommendation_follows_from_the_scores():
    """KL is right everywhere; regret is biased under visitation; importance is refused."""
    scores = []
    for rung in RUNGS:
        arrays = made_up_arrays(rung)
        for place, method in enumerate(methods_of(rung)):
            if method.potential == "importance regret":
                arrays[f"{place}_verdict"][:] = measure.VERDICTS.index("refused")
            if rung.number == 4 and method.potential == "sampled regret":
                for name in ("mean", "low", "high"):
                    arrays[f"{place}_{name}"] += 2.0
        scores += score.rung_scores(rung, arrays)
    best = score.families(scores)[0]
    assert set(best.survived) == {1, 2, 3, 4, 5, 6, 7, 8}
    text = score.recommendation(scores)
    assert text.startswith("Of sampled potentials: KL, which survives rungs 1, 2, 3, 4, 5, 6, 7, 8")
    assert "sampled regret, which survives rungs 1, 2, 3, 5, 6, 7, 8 and not 4" in text
    assert text.endswith("Not to be used: importance regret.")

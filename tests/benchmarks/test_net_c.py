"""Checks of net C see a wrong value, a layer out of balance, and trust in the wrong place."""

import pytest

from benchmarks import net_c


def row(**changes):
    """A sound automatic run."""
    base = {"case": "automatic", "verdict": "trusted", "share": 0.95, "least layer": 0.99}
    return base | changes


def small(verdict):
    """A run of SGLD on the floor of half the rank."""
    return row(case="SGLD, small step", share=0.74, verdict=verdict, **{"least layer": 0.2})


def held(*found):
    """Which checks held."""
    return [check.held for check in net_c.make_checks(found)]


def test_a_sound_run_beside_a_refused_floor_passes():
    assert held(row(), row(share=0.975), small("refused")) == [True, True, True, True]


@pytest.mark.parametrize(
    ("changes", "failed"),
    [({"share": 0.9}, 0), ({"verdict": "doubtful"}, 1), ({"least layer": 0.96}, 2)],
)
def test_each_fault_fails_its_own_check(changes, failed):
    found = held(row(), row(**changes), small("refused"))
    assert [i for i, ok in enumerate(found) if not ok] == [failed]


def test_trust_in_the_floor_fails():
    assert held(row(), small("trusted"))[3] is False


def test_the_small_step_is_that_of_the_reference():
    sampler = net_c.CASES[1].options["sampler"]
    assert sampler.step_size == pytest.approx(0.03 / (8685.9 * 5), rel=1e-4)

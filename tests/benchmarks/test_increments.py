"""Differences of two kinds of increments: found where they are, and not where they are not."""

import numpy as np

from benchmarks import increments

NUM_PROBLEMS = 12


def rows(shift, seed=0):
    """Rows of a benchmark whose two-point increments alone shift every mean, relative."""
    rng = np.random.default_rng(seed)

    def run(true, factor=1.0):
        return {
            "mean": true * factor * (1 + 0.002 * rng.normal()),
            "sem": 0.002 * true,
            "blocks": 9,
        }

    found = []
    for number, true in enumerate(np.linspace(0.5, 8, NUM_PROBLEMS)):
        steps = [
            {"multiple": m, "normal": run(true), "binomial": run(true)}
            for m in increments.MULTIPLES
        ]
        next(s for s in steps if s["multiple"] == increments.CONTROL)["two-point"] = run(
            true, 1 + shift
        )
        found.append({"case": f"problem {number}", "steps": steps})
    return found


def test_a_shift_of_a_percent_is_seen_in_all_problems_together():
    total = increments.summarize(
        list(increments.differences(rows(0.01), "two-point", increments.CONTROL).values())
    )
    assert total.count == NUM_PROBLEMS
    assert abs(total.mean - 0.01) < 4 * total.sem
    assert np.isclose(total.sem, 0.002 * (2 / NUM_PROBLEMS) ** 0.5, rtol=0.05)
    assert total.p < 1e-6


def test_checks_hold_without_a_shift_and_fail_with_one():
    assert [check.held for check in increments.make_page(rows(0.01)).checks] == [True] * 2
    swapped = rows(0.01)
    for row in swapped:
        last = row["steps"][-1]
        last["binomial"], last["two-point"] = last["two-point"], last["binomial"]
    assert [check.held for check in increments.make_page(swapped).checks] == [True, False]


def test_a_run_that_left_the_finite_numbers_is_left_out():
    found = rows(0.01)
    found[0]["steps"][-1]["binomial"] = None
    found[1]["steps"][-1] = {"multiple": increments.MULTIPLES[-1], "normal": None}
    last = increments.differences(found, "binomial", increments.MULTIPLES[-1])
    assert len(last) == NUM_PROBLEMS - 2
    page = increments.make_page(found)
    # Of each of the others an interval and a point, as of all together, and the line of zero.
    drawn = [len(axis.lines) for axis in page.figures["differences"].axes]
    assert drawn == [2 * (n + 1) + 1 for n in (NUM_PROBLEMS, NUM_PROBLEMS - 2, NUM_PROBLEMS - 1)]
    cells = page.tables[1].rows
    assert [row[3] is None for row in cells] == [True, True] + [False] * (NUM_PROBLEMS - 2)

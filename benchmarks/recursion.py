"""Published values of plain SGLD, reproduced with the same data, step and temperature.

    python -m benchmarks.recursion [--cases SUBSTRING]

Writes `recursion.md` and `.json`; a run that was killed goes on where it stopped.
"""

import sys
from typing import Any

import jax

from benchmarks import pages, rows, runs
from benchmarks.recursion_cases import (
    RecursionCase,
    crossing,
    measure,
    monomial,
    noise_regression,
    teacher_regression,
)
from slt_rl.report import Check

# Published values and standard errors, in the order of the source.
_CROSSINGS = {
    (0, 1): (0.5295, 0.0017),
    (1, 1): (0.3991, 0.0108),
    (0, 2): (0.1813, 0.0029),
    (1, 2): (0.2302, 0.0083),
    (2, 2): (0.1152, 0.0033),
    (0, 3): (0.1555, 0.0033),
    (1, 3): (0.1516, 0.0043),
    (2, 3): (0.1143, 0.0040),
    (3, 3): (0.0862, 0.0029),
}
# Burn-in dropped, burn-in included, standard error.
_MONOMIALS = {
    (2,): (0.5201, 0.5185, 0.0065),
    (2, 2): (1.0253, 1.0305, 0.0076),
    (2, 2, 2): (1.5697, 1.5625, 0.0100),
    (4,): (0.2559, 0.2474, 0.0067),
    (4, 2): (0.7749, 0.7738, 0.0090),
}
_NOISE = {
    (5, 3, 5): (5.891, 0.027),
    (5, 4, 5): (7.228, 0.029),
    (4, 3, 8): (6.190, 0.035),
    (8, 3, 4): (6.934, 0.033),
    (3, 8, 4): (5.951, 0.017),
}
# Widths and rank: the value, and that at nbeta = 5000.
_TEACHERS = {
    ((5, 3, 5), 0): ((5.935, 0.028), (6.091, 0.053)),
    ((5, 3, 5), 2): ((9.232, 0.044), (9.346, 0.044)),
    ((4, 3, 8), 1): ((8.256, 0.045), (8.581, 0.051)),
    ((8, 3, 4), 1): ((8.603, 0.036), (8.682, 0.043)),
}


def cases() -> list[RecursionCase]:
    """Every published row."""
    found = [crossing(powers, *value) for powers, value in _CROSSINGS.items()]
    for powers, (dropped, included, sem) in _MONOMIALS.items():
        found.append(monomial(powers, (dropped, sem), 1_000))
        found.append(monomial(powers, (included, sem), 0))
    found += [noise_regression(widths, *value) for widths, value in _NOISE.items()]
    for (widths, rank), (warm, cold) in _TEACHERS.items():
        found.append(teacher_regression(widths, rank, warm))
        found.append(teacher_regression(widths, rank, cold, cold=True))
    return found


def make_page(found: list[dict[str, Any]]) -> pages.Page:
    """The table of all rows and the check on their largest deviation."""
    columns = ("case", "reference", "reference_sem", "estimate", "sem", "chain_sd", "diverged", "z")
    table = pages.Table("Rows", columns, [[row[name] for name in columns] for row in found])
    worst = max((abs(row["z"]) for row in found), default=float("inf"))
    check = Check(
        "recursion",
        "largest deviation in combined standard errors",
        "<= 3",
        worst,
        bool(worst <= 3),
        f"{len(found)} rows",
    )
    abstract = (
        "The library's SGLD against values of an independent implementation of the same recursion: "
        "same data, start, step, temperature and length. `z` is the difference in combined "
        "standard errors; `diverged` counts chains that left the finite numbers, out of both means."
    )
    return pages.Page("recursion", "Published values of plain SGLD", abstract, [check], [table])


def main() -> int:
    """Runs what is missing, then writes the results."""
    parser = runs.parser(__doc__)
    parser.add_argument("--cases", default="", help="only names that contain this")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    journal = rows.open_journal("recursion", {}, "benchmarks/recursion*.py")
    chosen = [case for case in cases() if options.cases in case.name]
    return runs.run(journal, chosen, measure, make_page=make_page, options=options)


if __name__ == "__main__":
    sys.exit(main())

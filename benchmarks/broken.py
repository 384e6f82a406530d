"""The sweep of runs that are broken on purpose: how many are caught, and for the right reason.

    python -m benchmarks.broken [--keys 3] [--cases SUBSTRING]

Writes `broken.md` and `.json`; a run that was killed goes on where it stopped.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax

from benchmarks import pages, rows, runs
from benchmarks.analysis import Share, grouped
from benchmarks.broken_cases import BrokenCase, cases, is_caught, is_harmless
from slt_rl.report import Check, Table

Row = dict[str, Any]


def measure(case: BrokenCase, key: jax.Array) -> Row:
    """One broken run."""
    return rows.estimate_row(case.run(key))


def judged(row: Row, case: BrokenCase) -> Row:
    """The row with what is expected of it; a refusal before the run has no estimate."""
    row = row | {"group": case.group, "reference": case.reference}
    return row | {"caught": is_caught(case, row), "harmless": is_harmless(row)}


def is_trusted(row: Row) -> bool:
    """Whether a wrong number would be believed: trusted, not caught and not right all the same."""
    return row["verdict"] == "trusted" and not row["caught"] and not row["harmless"]


def make_page(found: Sequence[Row]) -> pages.Page:
    """Checks and tables of judged rows."""
    wrong = [row for row in found if not row["harmless"]]
    caught = Share(sum(row["caught"] for row in wrong), len(wrong))
    trusted = [row for row in wrong if is_trusted(row)]
    checks = [
        Check(
            "caught",
            "broken runs flagged with the right reason",
            ">= 0.95",
            caught.value if caught.total else None,
            caught.value >= 0.95,
            str(caught),
        ),
        Check("believed", "broken runs trusted", "<= 0", len(trusted), bool(wrong) and not trusted),
    ]
    missed = [row for row in wrong if not row["caught"]]
    tables = [
        group_table(found),
        run_table("Broken and trusted", trusted),
        run_table("Not caught, or for another reason", missed),
        run_table("Every run", found),
    ]
    abstract = (
        "A run is caught if it is not trusted and a flag names what is wrong (for localization: if "
        "the regime says so). Runs whose number is right to 5 % all the same are harmless and left "
        "out of the shares, not out of the tables."
    )
    return pages.Page("broken", "Runs that are broken on purpose", abstract, checks, tables)


def group_table(found: Sequence[Row]) -> Table:
    """What became of each kind of fault."""
    header = (
        "fault",
        "runs",
        "harmless",
        "caught",
        "trusted",
        "doubtful",
        "refused",
        "share caught",
    )
    cells = []
    for name, members in grouped(found, lambda row: row["group"]).items():
        wrong = [row for row in members if not row["harmless"]]
        verdicts = Counter(row["verdict"] for row in members)
        caught = sum(row["caught"] for row in wrong)
        cells.append(
            (
                name,
                len(members),
                len(members) - len(wrong),
                caught,
                verdicts["trusted"],
                verdicts["doubtful"],
                verdicts["refused"],
                caught / len(wrong) if wrong else None,
            )
        )
    return Table("By fault", header, cells)


def run_table(title: str, found: Sequence[Row]) -> Table:
    """One line for each run."""
    columns = ("case", "key", "reference", "estimate", "verdict", "regime")
    cells = [(*(row.get(name) for name in columns), "; ".join(row["flags"])) for row in found]
    return Table(title, (*columns, "flags"), cells, "" if cells else "None.")


def main() -> int:
    """Runs what is missing, then writes the results."""
    parser = runs.parser(__doc__)
    parser.add_argument("--keys", type=int, default=3, help="runs of each case")
    parser.add_argument("--cases", default="", help="only names that contain this")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    chosen = {case.name: case for case in cases() if options.cases in case.name}
    journal = rows.open_journal("broken", {}, "benchmarks/broken*.py")
    measured = list(chosen.values())[options.share]
    found = rows.run_cases(journal, measured, measure, num_keys=options.keys)
    if options.share != rows.EVERY_CASE:
        return 0
    found = [judged(row, chosen[row["case"]]) for row in found]
    pages.write_page(make_page(found), found, vars(options), folder=options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The ladder of difficulty, as `slt-rl ladder` climbs it, with its table and figure committed.

    python -m benchmarks.ladder [--quick] [--share I/N]

Writes `ladder.md`, `.json` and `ladder_survival.svg`; a run that was killed goes on.
"""

import sys
from pathlib import Path

import jax

from benchmarks import pages, rows, runs
from slt_rl.difficulty import FULL, QUICK, presentation
from slt_rl.difficulty.pipeline import examine, measure_rungs
from slt_rl.difficulty.score import recommendation


def main() -> int:
    """Climbs what is missing, then writes the results."""
    parser = runs.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="three rungs, two data sets each")
    parser.add_argument("--work", type=Path, default=None, help="folder of finished rungs")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    protocol = QUICK if options.quick else FULL
    name = "ladder_quick" if options.quick else "ladder"
    work = options.work or rows.WORK / name
    if options.share != rows.EVERY_CASE:
        measure_rungs(protocol, work, numbers=protocol.rungs[options.share])
        return 0
    found = examine(protocol, work)
    tables = [presentation.score_table(found.scores), *presentation.value_tables(found)]
    page = pages.Page(
        name,
        "The ladder of difficulty",
        f"{presentation.abstract(protocol, found.checks)} {recommendation(found.scores)}",
        found.checks,
        tables,
        {"survival": presentation.draw(found)},
    )
    scored = [score._asdict() | {"outcome": score.outcome} for score in found.scores]
    timed = [{"rung": rung, "seconds": taken} for rung, taken in found.seconds.items()]
    settings = {"seed": protocol.seed, "protocol": protocol.name}
    pages.write_page(page, scored + timed, settings, folder=options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

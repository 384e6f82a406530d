"""Results on disk: a page to read and the same as JSON, both saying how they were made."""

import argparse
import dataclasses
import datetime
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from slt_rl.array_files import write_file
from slt_rl.report import Check, Table, collect_provenance
from slt_rl.report.checks import format_value, strict
from slt_rl.report.style import styled

RESULTS = Path(__file__).resolve().parent / "results"
# Arguments that say where files lie: nothing about the numbers, and something about the machine.
PLACES = ("--out", "--runs", "--add", "--add-curve")


@dataclasses.dataclass(frozen=True)
class Page:
    """The result of a benchmark.

    Attributes:
        name: Stem of the files.
        title: Heading.
        abstract: What was measured.
        checks: Figures with their targets.
        tables: Tables.
        figures: Figures by name: `curves` becomes `<page>_curves.svg`, `curves.png` is drawn in
            pixels, for figures of very many points.
    """

    name: str
    title: str
    abstract: str
    checks: Sequence[Check]
    tables: Sequence[Table]
    figures: Mapping[str, Figure] = dataclasses.field(default_factory=dict)


def parser(doc: str) -> argparse.ArgumentParser:
    """A command line that knows where results go (`--out`).

    Args:
        doc: Docstring of the benchmark; its first line describes the command.
    """
    found = argparse.ArgumentParser(description=doc.splitlines()[0])
    found.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    return found


def write_page(
    page: Page,
    rows: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    *,
    folder: Path,
    made: Mapping[str, Any] | None = None,
) -> None:
    """Writes `<name>.md`, `<name>.json` with all rows, and the figures; prints the checks.

    Args:
        page: What is shown.
        rows: What it was made from.
        settings: Arguments of the run.
        folder: Where the files go.
        made: How the rows were made, of a page that is drawn again; by this command if None.
    """
    made = how_made(rows, settings) if made is None else made
    checks = [dataclasses.asdict(check) for check in page.checks]
    write_json(folder / f"{page.name}.json", made | {"checks": checks, "rows": list(rows)})
    for name, figure in page.figures.items():
        with styled():
            figure.savefig(folder / _file(page, name), metadata={"Date": None})
    write_file(folder / f"{page.name}.md", as_markdown(page, made).encode())
    for check in page.checks:
        print(check)


def how_made(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Command, date, commit, versions and machine, and seconds that the rows took."""
    seconds = {"measurements": sum(row.get("seconds", 0.0) for row in rows)}
    # Where the files go says nothing about the numbers, and something about the machine; a page
    # is of all cases, whatever shares measured them.
    asked = {name: value for name, value in settings.items() if name not in ("out", "share")}
    made = dataclasses.asdict(collect_provenance(asked, seconds))
    return made | {"command": command(), "date": datetime.date.today().isoformat()}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes an object as JSON: the whole file or none of it."""
    text = json.dumps(strict(dict(content)), indent=1, allow_nan=False)
    write_file(path, f"{text}\n".encode())


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote, numbers that JSON does not know as numbers again."""
    found: dict[str, Any] = _numbers(json.loads(path.read_text()))
    return found


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def _file(page: Page, name: str) -> str:
    return f"{page.name}_{name}" if name.endswith(".png") else f"{page.name}_{name}.svg"


def command() -> str:
    """The command of this process, as it can be typed in the checkout; without its places."""
    arguments = sys.argv[1:]
    for name in PLACES:
        if name in arguments:
            place = arguments.index(name)
            del arguments[place : place + 2]
    return " ".join(["python -m", f"benchmarks.{Path(sys.argv[0]).stem}", *arguments])


def as_markdown(page: Page, made: Mapping[str, Any]) -> str:
    """The page as Markdown."""
    machine, cores = made["machine"], made["machine"]["cores"]
    seconds = sum(made["stage_seconds"].values())
    lines = [f"# {page.title}", "", page.abstract, ""]
    lines += [
        f"Made by `{made['command']}` on {made['date']} at commit {made['commit']}; "
        + ", ".join(f"{name} {version}" for name, version in made["versions"].items())
        + f"; {cores} core{'s' * (cores > 1)}, {machine['processor']}, {machine['memory_gib']} GiB"
        # A page of what other commands measured took no time of its own.
        + (f"; {seconds:.0f} s of measurements." if seconds else "."),
        "",
    ]
    if page.checks:
        lines += ["## Figures and targets", "", *_checks(page.checks), ""]
    lines += [line for name in page.figures for line in (f"![{name}]({_file(page, name)})", "")]
    for table in page.tables:
        lines += [f"## {table.title}", "", *_rows(table.header, table.rows), ""]
        lines += [table.note, ""] if table.note else []
    return "\n".join(lines).rstrip() + "\n"


def _checks(checks: Iterable[Check]) -> list[str]:
    cells = [
        (c.description, c.target, c.value, "yes" if c.held else "**no**", c.detail) for c in checks
    ]
    return _rows(("check", "target", "measured", "held", "detail"), cells)


def _rows(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = ["|" + "|".join(header) + "|", "|" + "---|" * len(header)]
    return lines + ["|" + "|".join(_cell(cell) for cell in row) + "|" for row in rows]


def _cell(value: Any) -> str:
    text = "–" if value is None else format_value(value)
    return text.replace("|", "\\|").replace("\n", " ")

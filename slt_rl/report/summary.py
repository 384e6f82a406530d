"""The report as data, and `summary.json`."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slt_rl.array_files import write_file
from slt_rl.report.checks import Check, all_held, require_unique_names, strict
from slt_rl.report.figure_files import FigureFile
from slt_rl.report.provenance import Provenance


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of values.

    Attributes:
        title: What the rows are.
        header: Name of each column.
        rows: Cells: numbers, text, or None.
        note: Shown under the table.

    Raises:
        ValueError: If a row has another length than the header.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(
                    f"rows: {self.title!r} has a row of {len(row)} cells, "
                    f"expected {len(self.header)}"
                )


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        title: Heading.
        paragraphs: Text.
        figures: Figures, shown after the text.
        tables: Tables, shown after all sections' figures under the same heading.
    """

    title: str
    paragraphs: Sequence[str] = ()
    figures: Sequence[FigureFile] = ()
    tables: Sequence[Table] = ()


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything that is reported.

    Attributes:
        title: What was done.
        abstract: What was done and found, in a few sentences.
        checks: Every check, with unique names.
        sections: Text, figures and tables.
        provenance: Where the numbers come from.

    Raises:
        ValueError: If two checks have the same name.
    """

    title: str
    abstract: str
    checks: Sequence[Check]
    sections: Sequence[Section]
    provenance: Provenance

    def __post_init__(self) -> None:
        require_unique_names(self.checks)

    @property
    def all_held(self) -> bool:
        """Whether every check held."""
        return all_held(self.checks)


def summary(report: Report) -> dict[str, Any]:
    """The report as JSON values: all checks, tables, names of figures, and the provenance."""
    provenance = report.provenance
    return {
        "title": report.title,
        "all_held": report.all_held,
        "num_checks": len(report.checks),
        "num_held": sum(check.held for check in report.checks),
        "checks": [strict(dataclasses.asdict(check)) for check in report.checks],
        "tables": [_table(table) for section in report.sections for table in section.tables],
        "figures": [file for s in report.sections for figure in s.figures for file in figure.files],
        "versions": strict(dict(provenance.versions)),
        "commit": provenance.commit,
        "keys": strict(dict(provenance.keys)),
        "machine": strict(dict(provenance.machine)),
        "stage_seconds": strict(dict(provenance.stage_seconds)),
        "total_seconds": provenance.total_seconds,
        "peak_memory_bytes": provenance.peak_memory_bytes,
        "notes": strict(dict(provenance.notes)),
    }


def _table(table: Table) -> Mapping[str, Any]:
    rows = [[strict(cell) for cell in row] for row in table.rows]
    return {"title": table.title, "header": list(table.header), "rows": rows}


def write_summary(folder: Path, report: Report) -> Path:
    """Writes `summary.json` atomically and returns its path."""
    path = Path(folder) / "summary.json"
    text = json.dumps(summary(report), indent=2, allow_nan=False, ensure_ascii=False)
    write_file(path, f"{text}\n".encode())
    return path

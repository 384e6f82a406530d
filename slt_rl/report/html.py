"""One page that holds the whole report and loads nothing from anywhere."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from slt_rl.array_files import write_file
from slt_rl.report.checks import Check, format_value
from slt_rl.report.figure_files import FigureFile
from slt_rl.report.summary import Report, Section, Table

_STYLE = """
:root { color-scheme: light; --ink: #1d1d1f; --muted: #5c5f66; --line: #e3e4e8;
  --good: #0b6b3a; --good-soft: #e5f4ec; --bad: #a3200f; --bad-soft: #fdeae7; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; letter-spacing: -0.01em; }
h2 { font-size: 1.35rem; margin: 3rem 0 0.8rem; padding-top: 0.6rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 0.5rem; }
p { margin: 0 0 0.9rem; max-width: 46rem; }
nav { margin: 1.2rem 0 0; font-size: 0.92rem; color: var(--muted); }
nav a { color: #1a5fb4; text-decoration: none; margin-right: 1rem; white-space: nowrap; }
nav a:hover, nav a:focus { text-decoration: underline; }
.verdict { border-left: 6px solid; border-radius: 4px; padding: 0.9rem 1.2rem;
  margin: 0 0 1.4rem; }
.verdict strong { font-size: 1.25rem; }
.verdict p, .verdict ul { margin: 0.3rem 0 0; }
.verdict.held { border-color: var(--good); background: var(--good-soft); }
.verdict.failed { border-color: var(--bad); background: var(--bad-soft); }
figure { margin: 1.4rem 0 2rem; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--muted); font-size: 0.9rem; max-width: 52rem; margin-top: 0.4rem; }
.scroll { overflow-x: auto; margin: 0.6rem 0 1.4rem; }
table { border-collapse: collapse; font-size: 0.88rem; min-width: 30rem; }
caption { text-align: left; font-weight: 600; padding: 0 0 0.4rem; }
th, td { text-align: left; vertical-align: top; padding: 0.42rem 0.9rem 0.42rem 0;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--muted); font-weight: 600; border-bottom-width: 2px; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.group th { background: #f6f7f9; padding-left: 0.5rem; }
table.checks { width: 100%; }
table.checks td:first-child { min-width: 14rem; max-width: 30rem; padding-left: 0.5rem; }
table.checks td:nth-child(2), table.checks td:nth-child(3) { max-width: 15rem;
  overflow-wrap: anywhere; white-space: normal; }
.detail { color: var(--muted); display: block; }
.badge { display: inline-block; border-radius: 3px; padding: 0.05rem 0.5rem; font-weight: 600;
  white-space: nowrap; }
.badge.held { color: var(--good); background: var(--good-soft); }
.badge.failed { color: var(--bad); background: var(--bad-soft); }
.facts { display: flex; flex-wrap: wrap; gap: 0 3.5rem; }
.facts table { min-width: 0; }
.note { color: var(--muted); font-size: 0.88rem; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 0.92em; }
@media print { main { max-width: none; padding: 0; } figure, tr { break-inside: avoid; }
  nav { display: none; } .scroll { overflow: visible; } }
"""


def write_html(folder: Path, report: Report) -> Path:
    """Writes `report.html` atomically and returns its path."""
    path = Path(folder) / "report.html"
    write_file(path, report_html(report).encode())
    return path


def report_html(report: Report) -> str:
    """The report as one page: verdict, figures, tables, provenance.

    Args:
        report: What is reported; every text in it is escaped.

    Returns:
        The page. It refers to nothing outside itself.
    """
    # A section of tables alone has nothing to show here: its tables stand below the checks.
    shown = [section for section in report.sections if section.paragraphs or section.figures]
    with_figures = [(f"part-{i}", section) for i, section in enumerate(shown)]
    parts = [
        f"<h1>{escape(report.title)}</h1>",
        _verdict(report),
        f"<p>{escape(report.abstract)}</p>",
        _navigation(with_figures, has_tables=any(section.tables for section in report.sections)),
        *(_section(anchor, section) for anchor, section in with_figures),
        '<h2 id="checks">All checks</h2>',
        _checks_table(report.checks),
        _tables(report.sections),
        '<h2 id="provenance">Provenance</h2>',
        _provenance(report),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _verdict(report: Report) -> str:
    failed = [check for check in report.checks if not check.held]
    number = len(report.checks)
    if report.all_held:
        headline = f"All {number} checks held."
    elif not report.checks:
        headline = "Nothing was checked."
    else:
        headline = f"{len(failed)} of {number} checks did not hold."
    seconds = report.provenance.total_seconds
    memory = report.provenance.peak_memory_bytes / 2**30
    facts = f"Computing took {_duration(seconds)} in sum, peak memory {memory:.2f} GiB."
    items = "".join(
        f'<li><a href="#{_anchor(check)}">{escape(check.name)}</a>: '
        f"{escape(format_value(check.value))}, expected {escape(check.target)}</li>"
        for check in failed
    )
    state = "held" if report.all_held else "failed"
    listing = f"<ul>{items}</ul>" if items else ""
    return (
        f'<div class="verdict {state}"><strong>{headline}</strong>'
        f"<p>{escape(facts)}</p>{listing}</div>"
    )


def _navigation(sections: Sequence[tuple[str, Section]], *, has_tables: bool) -> str:
    targets = [(anchor, section.title) for anchor, section in sections]
    targets += [("checks", "All checks")]
    targets += [("tables", "Tables")] if has_tables else []
    targets += [("provenance", "Provenance")]
    links = "".join(f'<a href="#{anchor}">{escape(title)}</a> ' for anchor, title in targets)
    return f'<nav aria-label="Contents">{links}</nav>'


def _section(anchor: str, section: Section) -> str:
    paragraphs = "\n".join(f"<p>{escape(text)}</p>" for text in section.paragraphs)
    figures = "\n".join(_figure(figure) for figure in section.figures)
    return f'<h2 id="{anchor}">{escape(section.title)}</h2>\n{paragraphs}\n{figures}'


def _figure(figure: FigureFile) -> str:
    files = ", ".join(f"<code>{escape(name)}</code>" for name in figure.files)
    return (
        f'<figure id="figure-{escape(figure.name, quote=True)}">'
        f'<img src="{escape(figure.image, quote=True)}" width="{figure.width}" '
        f'alt="{escape(figure.alt, quote=True)}">'
        f"<figcaption>{escape(figure.caption)} ({files})</figcaption></figure>"
    )


def _checks_table(checks: Iterable[Check]) -> str:
    rows: list[str] = []
    for group, members in _groups(checks).items():
        if group:
            heading = f'<th colspan="4" scope="rowgroup">{escape(group)}</th>'
            rows.append(f'<tr class="group">{heading}</tr>')
        rows += [_check_row(check) for check in members]
    head = "".join(f'<th scope="col">{x}</th>' for x in ("Check", "Target", "Value", "Verdict"))
    return (
        f'<div class="scroll"><table class="checks"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _groups(checks: Iterable[Check]) -> dict[str, list[Check]]:
    groups: dict[str, list[Check]] = {}
    for check in checks:
        groups.setdefault(check.group, []).append(check)
    return groups


def _check_row(check: Check) -> str:
    state, word = ("held", "\u2713 held") if check.held else ("failed", "\u2717 not held")
    detail = f'<span class="detail">{escape(check.detail)}</span>' if check.detail else ""
    return (
        f'<tr id="{_anchor(check)}"><td><strong>{escape(check.name)}</strong><br>'
        f"{escape(check.description)}{detail}</td><td>{escape(check.target)}</td>"
        f'<td class="number">{escape(format_value(check.value))}</td>'
        f'<td><span class="badge {state}">{word}</span></td></tr>'
    )


def _anchor(check: Check) -> str:
    """Letters and digits as they are, the rest by number: different names, different anchors."""
    return "check-" + "".join(c if c.isalnum() else f"-{ord(c):x}-" for c in check.name)


def _tables(sections: Iterable[Section]) -> str:
    tables = [(section.title, table) for section in sections for table in section.tables]
    if not tables:
        return ""
    parts = ['<h2 id="tables">Tables</h2>']
    for title, table in tables:
        parts.append(_table(table, f"{title}: {table.title}"))
    return "\n".join(parts)


def _table(table: Table, title: str) -> str:
    head = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in table.header)
    rows = "".join(
        "<tr>" + "".join(f"<td{_kind(x)}>{_cell(x)}</td>" for x in row) + "</tr>"
        for row in table.rows
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<div class="scroll"><table><caption>{escape(title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}"
    )


def _cell(value: Any) -> str:
    return "\u2013" if value is None else escape(format_value(value))


def _kind(value: Any) -> str:
    is_number = not isinstance(value, str | bool) and value is not None
    return ' class="number"' if is_number else ""


def _provenance(report: Report) -> str:
    p = report.provenance
    timings = {name: _duration(seconds) for name, seconds in p.stage_seconds.items()}
    timings["sum"] = _duration(p.total_seconds)
    facts = {"commit": p.commit, "peak memory": f"{p.peak_memory_bytes / 2**30:.2f} GiB"}
    groups: dict[str, Mapping[str, Any]] = {
        "Source": facts | dict(p.notes),
        "Machine": p.machine,
        "Versions": p.versions,
        "Keys and settings": p.keys,
        "Wall time": timings,
    }
    tables = [
        _table(Table(title, ("Name", "Value"), [(k, format_value(v)) for k, v in m.items()]), title)
        for title, m in groups.items()
        if m
    ]
    return f'<div class="facts">{"".join(tables)}</div>'


def _duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)} min {rest:.0f} s" if minutes else f"{rest:.1f} s"

"""The page and the summary: complete, escaped, and self-contained."""

import base64
import json
import re
import zlib
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slt_rl.report import Check, Section, Table, run_figure, save_figure, write_html, write_summary
from slt_rl.report.checks import format_value
from slt_rl.report.html import report_html

from .examples import CHECKS, LEVELS, make_report

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags, addresses and text of a page; fails on tags that are not closed in order."""

    def __init__(self, text):
        HTMLParser.__init__(self)
        self.tags, self.ids, self.words, self.open = [], [], [], []
        self.links, self.sources = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.links += [attrs["href"]] if "href" in attrs else []
        self.sources += [attrs["src"]] if "src" in attrs else []
        self.ids += [attrs["id"]] if "id" in attrs else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return "".join(self.words)


@pytest.fixture
def saved(tmp_path, curves):
    figure = save_figure(run_figure(curves, 1, LEVELS), tmp_path, "run", caption="One <run>.")
    report = make_report(sections=(Section("Part & parcel", ("a < b",), (figure,)),))
    return tmp_path, report


def test_page_loads_nothing(saved):
    folder, report = saved
    text = write_html(folder, report).read_text(encoding="utf-8")
    page = Page(text)
    assert page.sources and all(source.startswith("data:image/") for source in page.sources)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert "url(" not in text and "@import" not in text and "http" not in text
    for source in page.sources:
        svg = base64.b64decode(source.split(",", 1)[1]).decode()
        assert "<script" not in svg
        assert not re.search(r"(href|src)\s*=\s*[\"'](?!#|data:)", svg)
        assert not re.search(r"url\((?!#)", svg)


def test_files_of_figures_exist_and_are_named(saved):
    folder, report = saved
    summary = json.loads(write_summary(folder, report).read_text(encoding="utf-8"))
    assert summary["figures"] == ["figures/run.pdf", "figures/run.svg"]
    page = Page(report_html(report))
    for name in summary["figures"]:
        assert (folder / name).stat().st_size > 1000 and name in page.text
    assert (folder / "figures/run.pdf").read_bytes().startswith(b"%PDF")


def test_the_same_figure_gives_the_same_bytes(tmp_path, curves):
    names = ("one", "two")
    for name in names:
        save_figure(run_figure(curves, 1, LEVELS), tmp_path, name, caption="c")
    for kind in ("svg", "pdf"):
        first, second = (tmp_path / "figures" / f"{name}.{kind}" for name in names)
        assert first.read_bytes() == second.read_bytes()


def test_fonts_in_a_pdf_hold_glyphs_alone(tmp_path, curves):
    from fontTools import subset

    before = subset.Options().drop_tables
    save_figure(run_figure(curves, 1, LEVELS), tmp_path, "run", caption="c")
    content = (tmp_path / "figures/run.pdf").read_bytes()
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL)
    fonts = [zlib.decompress(s) for s in streams if s.startswith(b"x")]
    fonts = [font for font in fonts if font.startswith(b"\0\1\0\0")]
    assert fonts
    for font in fonts:
        assert b"glyf" in font[:400] and b"GPOS" not in font[:400] and b"GSUB" not in font[:400]
    assert subset.Options().drop_tables == before


def test_large_figures_are_embedded_as_png(tmp_path, curves, monkeypatch):
    monkeypatch.setattr("slt_rl.report.figure_files._LARGEST_SVG", 10)
    saved = save_figure(run_figure(curves, 1, LEVELS), tmp_path, "run", caption="c", alt="d")
    assert saved.image.startswith("data:image/png;base64,") and saved.alt == "d"
    with pytest.raises(ValueError, match="name: got '../x'"):
        save_figure(run_figure(curves, 1, LEVELS), tmp_path, "../x", caption="c")


def test_check_table_is_complete():
    page = Page(report_html(make_report()))
    for check in CHECKS:
        for part in (check.name, check.description, check.target, check.detail, check.group):
            assert part in page.text
        assert format_value(check.value) in page.text
    assert page.text.count("✓ held") == 1 and page.text.count("✗ not held") == 1
    table = report_html(make_report()).split('<table class="checks">')[1].split("</table>")[0]
    # The header, a heading for each of the two groups, and the checks.
    assert table.count("<tr") == 1 + 2 + len(CHECKS)


@pytest.mark.parametrize(
    ("checks", "headline", "state"),
    [
        (CHECKS, "1 of 2 checks did not hold.", "failed"),
        (CHECKS[:1], "All 1 checks held.", "held"),
        ((), "Nothing was checked.", "failed"),
    ],
)
def test_the_verdict_comes_first(checks, headline, state):
    text = report_html(make_report(checks=checks))
    assert headline in text and f'class="verdict {state}"' in text
    assert text.index(headline) < text.index("What was done.") < text.index("All checks</h2>")
    assert text.index("All checks</h2>") < text.index("Provenance</h2>")


words = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20)


@given(words, words, words)
def test_every_text_is_escaped(a, b, c):
    checks = (Check(a, b, c, a, False, b, group=c),)
    table = Table(a, (b, c), [(a, b)], note=c)
    sections = (Section(b, (c,), (), (table,)),)
    report = make_report(title=a, abstract=b, checks=checks, sections=sections)
    page = Page(report_html(report))
    assert page.words.count(a) >= 4 and page.words.count(b) >= 4 and page.words.count(c) >= 4
    assert set(page.tags) <= set(Page(report_html(make_report())).tags)


def test_a_section_of_tables_alone_has_no_empty_heading():
    section = Section("Counts", (), (), (Table("of runs", ("a",), [(1,)]),))
    page = Page(report_html(make_report(sections=(section,))))
    assert "Counts" not in page.words and "Counts: of runs" in page.words
    assert "#tables" in page.links


def test_summary_has_everything(tmp_path):
    report = make_report(
        checks=(*CHECKS, Check("nan", "n.", "finite", float("nan"), False)),
    )
    summary = json.loads(write_summary(tmp_path, report).read_text(encoding="utf-8"))
    assert (summary["num_checks"], summary["num_held"], summary["all_held"]) == (3, 1, False)
    for check, written in zip(CHECKS, summary["checks"], strict=False):
        assert written == {
            "name": check.name,
            "description": check.description,
            "target": check.target,
            "value": check.value,
            "held": check.held,
            "detail": check.detail,
            "group": check.group,
        }
    assert summary["checks"][2]["value"] == "nan"
    assert summary["total_seconds"] == 63.5 and summary["stage_seconds"]["train"] == 61.0
    assert summary["peak_memory_bytes"] == 2**30 and summary["commit"] == "abc"
    assert summary["keys"] == {"seed": 1} and summary["machine"] == {"cores": 2}
    assert summary["tables"][0]["rows"] == [["4+ → 5", 3], ["<4>", None]]


def test_bad_reports():
    with pytest.raises(ValueError, match="occur more than once"):
        make_report(checks=CHECKS * 2)
    with pytest.raises(ValueError, match="'t' has a row of 1 cells, expected 2"):
        Table("t", ("a", "b"), [(1,)])

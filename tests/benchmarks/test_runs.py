"""A benchmark from its arguments to its page: shares measure, a whole run collects and writes."""

import json
from typing import NamedTuple

from benchmarks import pages, runs
from benchmarks.rows import Journal


class Named(NamedTuple):
    name: str


def test_shares_write_no_page_and_a_whole_run_writes_that_of_all(tmp_path, capsys):
    journal, calls = Journal(tmp_path / "rows.jsonl", {"nbeta": 2.0}, "source"), []

    def measure(case, key):
        calls.append(case.name)
        return {"number": len(calls)}

    def make_page(found):
        check = pages.Check("all", "number of rows", "3", len(found), len(found) == 3)
        return pages.Page("named", "Named", "Three cases.", [check], [])

    def run(*words):
        options = runs.parser("Measures.\n").parse_args([*words, "--out", str(tmp_path / "out")])
        cases = [Named(name) for name in "abc"]
        return runs.run(journal, cases, measure, make_page=make_page, options=options)

    assert run("--share", "1/2") == 0
    assert calls == ["b"] and not (tmp_path / "out").exists()
    assert run() == 0
    assert calls == ["b", "a", "c"]
    result = json.loads((tmp_path / "out" / "named.json").read_text())
    assert [row["case"] for row in result["rows"]] == list("abc")
    assert result["keys"] == {"nbeta": 2.0} and result["checks"][0]["held"]
    assert "Three cases." in (tmp_path / "out" / "named.md").read_text()
    assert capsys.readouterr().out == "held  all: 3 (target 3)\n"

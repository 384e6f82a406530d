"""A whole benchmark: its arguments, the rows that its journal lacks, and the page of all rows."""

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import pages, rows


def parser(doc: str) -> argparse.ArgumentParser:
    """A command line that knows where results go (`--out`) and of shares (`--share`).

    Args:
        doc: Docstring of the benchmark; its first line describes the command.
    """
    found = pages.parser(doc)
    rows.add_share_argument(found)
    return found


def run(
    journal: rows.Journal,
    cases: Sequence[rows.Case],
    measure: Callable[[Any, Any], dict[str, Any]],
    *,
    make_page: Callable[[list[dict[str, Any]]], pages.Page],
    options: argparse.Namespace,
    num_keys: int = 1,
    complete: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda found: found,
) -> int:
    """Measures what is missing, then writes the page; a share only measures.

    Args:
        journal: Where rows are kept; its settings go to the page, with the options.
        cases: What is measured.
        measure: `(case, key) -> row` of JSON values.
        make_page: The page of all rows.
        options: Of a command line that `parser` began.
        num_keys: Keys per case.
        complete: Adds to all rows, before the page, what was measured elsewhere.

    Returns:
        The exit status, 0.
    """
    found = rows.run_cases(journal, cases[options.share], measure, num_keys=num_keys)
    if options.share == rows.EVERY_CASE:
        found = complete(found)
        settings = {**vars(options), **journal.settings}
        pages.write_page(make_page(found), found, settings, folder=options.out)
    return 0


def in_process(*words: Any, environment: Mapping[str, str]) -> str:
    """The last line that a fresh Python prints, which starts in the checkout.

    Args:
        words: Its arguments.
        environment: All its variables.

    Raises:
        RuntimeError: If it fails; with the end of what it said.
    """
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True, text=True, cwd=rows.ROOT, env=environment, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr[-2000:]}")
    return done.stdout.splitlines()[-1]

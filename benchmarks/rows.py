"""Rows of a benchmark: one JSON line for each case and key, so that a killed run goes on."""

import argparse
import dataclasses
import hashlib
import json
import math
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
from tqdm import tqdm

import slt_rl
from slt_rl.array_files import fingerprint

ROOT = Path(__file__).resolve().parent.parent
# Where rows are kept while a benchmark runs; git ignores it, so rows do not change the commit.
WORK = ROOT / "results" / "benchmarks"
LEVELS = (0.5, 0.8, 0.95)
EVERY_CASE = slice(None)
# What all numbers depend on: not on reports, the main run and the command line.
_SOURCES = ("slt_rl/*.py", "slt_rl/rl/*.py", "toy_models/*.py")


class Case(Protocol):
    """Something that is measured with several keys."""

    @property
    def name(self) -> str:
        """A unique name."""
        ...


@dataclasses.dataclass(frozen=True)
class Journal:
    """A file of rows that belong to one set of settings and one state of the source.

    Attributes:
        path: The file, one JSON object a line.
        settings: JSON values that the rows depend on.
        source: Digest of the source; rows made by other code are not used.
    """

    path: Path
    settings: Mapping[str, Any]
    source: str

    @property
    def fingerprint(self) -> str:
        """What a row must carry to be used again."""
        return fingerprint({"settings": dict(self.settings), "source": self.source})[:16]

    def read(self) -> dict[tuple[str, int], dict[str, Any]]:
        """Rows by case and key; foreign rows and a last line that was cut off are passed over."""
        rows: dict[tuple[str, int], dict[str, Any]] = {}
        if not self.path.exists():
            return rows
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if row["fingerprint"] == self.fingerprint:
                rows[row["case"], row["key"]] = row
        return rows

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds a row; the line is complete or ignored when read."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**row, "fingerprint": self.fingerprint}, allow_nan=False)
        with self.path.open("a+b") as file:
            # A line that was cut off must not swallow the next one.
            if file.seek(0, 2) and file.seek(-1, 2) is not None and file.read(1) != b"\n":
                file.write(b"\n")
            file.write(f"{text}\n".encode())


def source_digest(*own: str) -> str:
    """SHA-256 over the files that decide the numbers.

    Args:
        own: Patterns of the benchmark's own files, relative to the checkout.
    """
    digest = hashlib.sha256()
    for pattern in (*_SOURCES, *own):
        for path in sorted(ROOT.glob(pattern)):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def open_journal(name: str, settings: Mapping[str, Any], *own: str) -> Journal:
    """The journal of a benchmark.

    Args:
        name: Stem of its file in `WORK`.
        settings: JSON values that the rows depend on.
        own: Patterns of the benchmark's own files, relative to the checkout.
    """
    return Journal(WORK / f"{name}.jsonl", settings, source_digest(*own))


def case_key(name: str, number: int) -> jax.Array:
    """The random key of a case: it does not depend on the other cases of a run."""
    base = jax.random.fold_in(jax.random.key(0), zlib.crc32(name.encode()))
    return jax.random.fold_in(base, number)


def add_share_argument(parser: argparse.ArgumentParser) -> None:
    """Lets processes that run side by side divide the cases; a run without it then collects."""
    parser.add_argument(
        "--share",
        type=parse_share,
        default=EVERY_CASE,
        metavar="I/N",
        help="only measure every Nth case from the Ith (0 to N - 1) on, and write no page",
    )


def parse_share(text: str) -> slice:
    """The cases of share "I/N"."""
    first, _, number = text.partition("/")
    if not (first.isdecimal() and number.isdecimal() and int(first) < int(number)):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected I/N with 0 <= I < N")
    return slice(int(first), None, int(number))


def run_cases(
    journal: Journal,
    cases: Sequence[Case],
    measure: Callable[[Any, jax.Array], dict[str, Any]],
    *,
    num_keys: int = 1,
) -> list[dict[str, Any]]:
    """Measures every case with every key that the journal does not have yet.

    All keys of a case run one after the other, so that they share its compiled programs, which are
    dropped afterwards. A `ValueError` is a refusal and becomes a row with its message.

    Args:
        journal: Where rows are kept.
        cases: What is measured.
        measure: `(case, key) -> row` of JSON values.
        num_keys: Keys per case.

    Returns:
        The rows in the order of cases and keys.
    """
    rows = journal.read()
    with tqdm(total=len(cases) * num_keys, disable=None) as bar:
        for case in cases:
            bar.set_postfix_str(case.name, refresh=False)
            for number in range(num_keys):
                if (case.name, number) not in rows:
                    row = _measure(case, number, measure)
                    journal.append(row)
                    rows[case.name, number] = row
                bar.update()
            jax.clear_caches()
    return [rows[case.name, number] for case in cases for number in range(num_keys)]


def _measure(case: Case, number: int, measure: Callable) -> dict[str, Any]:
    start = time.perf_counter()
    try:
        row = measure(case, case_key(case.name, number))
    except ValueError as error:
        row = {"estimate": None, "verdict": "refused", "regime": None, "flags": [str(error)]}
    seconds = round(time.perf_counter() - start, 3)
    return {"case": case.name, "key": number, "seconds": seconds, **_finite(row)}


def _finite(value: Any) -> Any:
    """JSON values with None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) or hasattr(value, "dtype"):
        return float(value) if math.isfinite(value) else None
    return value


def estimate_row(estimate: slt_rl.LLCEstimate) -> dict[str, Any]:
    """What a table may want to know of an estimate, as JSON values."""
    diagnostics = estimate.diagnostics
    names = ("equipartition", "equipartition_sem", "equipartition_worst_leaf", "split_r_hat", "ess")
    names += ("drift", "localization_slope", "localization_slope_sem")
    names += ("temperature_slope", "temperature_slope_sem")
    return {
        "estimate": float(estimate.mean),
        "sem": float(estimate.sem),
        "verdict": estimate.verdict,
        "regime": estimate.regime,
        "flags": list(estimate.flags),
        "notes": list(getattr(estimate, "notes", ())),
        "intervals": _intervals(estimate.interval),
        "nbeta": float(estimate.nbeta),
        "localization": float(estimate.localization),
        "step_size": float(estimate.step_size),
        "budget": dict(estimate.error_budget),
        "gradients": int(estimate.num_gradient_evaluations),
        "calibration_gradients": diagnostics.get("calibration_gradients"),
        "diagnostics": {name: diagnostics[name] for name in names if name in diagnostics},
    }


def _intervals(interval: Callable[[float], Iterable[float]]) -> dict[str, list[float]]:
    return {f"{level:g}": [float(end) for end in interval(level)] for level in LEVELS}

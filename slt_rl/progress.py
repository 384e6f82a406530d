"""How far a call is: bars on a terminal and in a notebook, lines in a log."""

import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from slt_rl.diagnostics import Z95
from slt_rl.draws import Draws
from slt_rl.estimators import mean_estimate

# A bar is drawn anew at most every so many seconds: cheap beside what it shows, and readable.
TERMINAL_SECONDS, LOG_SECONDS = 0.5, 10.0
MAX_FLAG_LENGTH = 80
# So many blocks tell how well the mean is known.
MIN_BLOCKS = 4


class _Lines:
    """Standard error that is no terminal: every state of a bar is a line of its own."""

    def write(self, text: str) -> None:
        """Writes the state that a bar would draw over its last one."""
        if text.strip():
            sys.stderr.write(text.strip() + "\n")

    def flush(self) -> None:
        """As of a file."""
        sys.stderr.flush()


def open_bar(total: int | None, *, show: bool, **options: Any) -> Any:
    """A bar of tqdm; where standard error is a file, a line every ten seconds in its place.

    Args:
        total: Of what there is to do, `None` where it is not known yet.
        show: Whether to show it at all.
        **options: Of tqdm: `desc`, `unit`.
    """
    from tqdm.auto import tqdm
    from tqdm.notebook import tqdm_notebook

    paced = _paced(tqdm)
    # No least number of things done: it is the time that decides what is drawn.
    options |= {"total": total, "disable": not show, "miniters": 0}
    if sys.stderr.isatty() or issubclass(tqdm, tqdm_notebook):
        return paced(mininterval=TERMINAL_SECONDS, **options)
    form = "{l_bar} {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
    return paced(mininterval=LOG_SECONDS, file=_Lines(), position=0, bar_format=form, **options)


def _paced(kind: Any) -> Any:
    """A bar of tqdm whose time left is told by what was done since it first drew something done.

    Before that it waits for compilation, or reads what an earlier command finished: neither says
    how long the rest takes.
    """

    class Paced(kind):
        since: tuple[float, float] | None = None

        def update(self, n: float = 1) -> bool | None:
            drawn: bool | None = kind.update(self, n)
            if n < 0 and self.since is not None and self.n <= self.since[1]:
                self.since = None  # It begins again.
            if drawn and self.since is None and self.n > self.initial:
                self.since = kind.format_dict.fget(self)["elapsed"], self.n
            return drawn

        @property
        def format_dict(self) -> dict[str, Any]:
            shown: dict[str, Any] = kind.format_dict.fget(self)
            if self.since is None:
                pace = 0.0
            else:
                elapsed, done = self.since
                pace = (self.n - done) / max(shown["elapsed"] - elapsed, 1e-9)
            # What is finished has the mean pace of all of it, compilation included.
            return shown | {"rate": None if self.n == self.total else pace}

    return Paced


def tell(bar: Any, text: str) -> None:
    """Says something beside a bar, when it is next due."""
    bar.set_postfix_str(text, refresh=False)
    bar.update(0)


class DrawsBar:
    """The bar of a single estimate: steps of each chain, time left, what the draws say so far.

    Args:
        num_chains: Chains of the estimate.
    """

    def __init__(self, num_chains: int):
        self.bar = open_bar(None, show=True, desc=f"{num_chains} chains", unit="draw")
        self.means: list[np.ndarray] = []

    def __enter__(self) -> "DrawsBar":
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.close()

    def burn_in(self, done: int, planned: int) -> None:
        """Shows a burn-in, which calibrates and may begin again."""
        self._move(done, planned, "calibrating")

    def sample(self, draws: Draws, start: int, total: int, *, nbeta: float) -> None:
        """Shows one more block of draws, and the estimate from all that are kept.

        Args:
            draws: Of the block, axes `[center, chain, draw]`.
            start: Draws of each chain that are dropped.
            total: Draws of each chain in all, dropped ones included, as planned so far.
            nbeta: Inverse temperature.
        """
        self.means.append(nbeta * draws.excess_loss[0].mean(axis=1, dtype=np.float64))
        length = draws.excess_loss.shape[2]
        text = ""
        if self._is_due():
            lost = int(np.sum(~draws.alive[0, :, -1]))
            text = _estimate_of(self.means[-(-start // length) :])
            text += f", {lost} chains not finite" if lost else ""
        self._move(min(length * len(self.means), total), total, text)

    def finish(self, estimate: Any) -> None:
        """Shows the result and the first of its flags."""
        self.bar.set_postfix_str(described(estimate), refresh=False)  # Closing draws it.

    def _is_due(self) -> bool:
        return time.time() - self.bar.last_print_t >= self.bar.mininterval

    def _move(self, done: int, total: int, text: str) -> None:
        if text:
            self.bar.set_postfix_str(text, refresh=False)
        _set_total(self.bar, total)
        self.bar.update(done - self.bar.n)


def _set_total(bar: Any, total: int) -> None:
    """Sets what a bar counts up to; the picture of a notebook's bar has a scale of its own."""
    bar.total = total
    if hasattr(bar, "container"):
        _, picture, _ = bar.container.children
        # What `reset` of tqdm does, which would begin to count seconds anew.
        picture.max, picture.bar_style, picture.layout.width = total, "", None


def _estimate_of(means: list[np.ndarray]) -> str:
    """The estimate from the means of blocks, each `[chain]`, with half an interval of 95 %."""
    if len(means) < MIN_BLOCKS:
        return "burn-in" if not means else f"llc {np.mean(means):.4g}"
    found = mean_estimate(np.stack(means, axis=1))
    return f"llc {found.mean:.4g} +- {Z95 * found.sem:.2g}"


def described(estimate: Any) -> str:
    """An `LLCEstimate` in a few words: number, verdict, the first flag.

    Example:
        >>> from types import SimpleNamespace
        >>> described(SimpleNamespace(mean=2.5, verdict="refused", flags=("a chain was lost",)))
        'llc 2.5 refused: a chain was lost'
    """
    flags = "".join(f": {flag[:MAX_FLAG_LENGTH]}" for flag in estimate.flags[:1])
    return f"llc {estimate.mean:.4g} {estimate.verdict}{flags}"


class CurveBar:
    """The bar of a curve: checkpoints, time left, the last estimate, how many are not trusted.

    Checkpoints that are sampled together count by the share of their draws, so that a curve of a
    single chunk moves too. Chunks tell from threads of their own.

    Args:
        total: How many checkpoints.
        show: Whether to show anything.
    """

    def __init__(self, total: int, *, show: bool):
        self.bar = open_bar(total, show=show, desc="curve", unit="checkpoint")
        self.show, self.lock = show, threading.Lock()
        self.finished = self.doubted = 0
        self.in_work: dict[int, float] = {}
        self.said = ""

    def __enter__(self) -> "CurveBar":
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.close()

    def chunk(self, start: int, count: int) -> "ChunkBar | None":
        """What the chains of a chunk of `count` checkpoints tell, `None` where nothing is shown."""
        return ChunkBar(self, start, count) if self.show else None

    def work(self, start: int, done: float, text: str) -> None:
        """Shows how many checkpoints' worth of draws the chunk that begins at `start` has."""
        with self.lock:
            self.in_work[start] = done
            self._move(text)

    def finish(self, start: int, estimates: Sequence[Any]) -> None:
        """Shows the last `LLCEstimate` of a chunk, in place of its chains."""
        with self.lock:
            self.in_work.pop(start, None)
            self.finished += len(estimates)
            self.doubted += sum(estimate.verdict != "trusted" for estimate in estimates)
            count = f"{self.doubted} of {self.finished} not trusted"
            self.said = f"{described(estimates[-1])}; {count}"
            self._move("")

    def _move(self, text: str) -> None:
        self.bar.set_postfix_str("; ".join(filter(None, (text, self.said))), refresh=False)
        # In eighths, which are added up without rounding: no bar says 0.30000000000000004.
        eighths = int(8 * sum(self.in_work.values()))
        done = self.finished + (eighths / 8 if eighths % 8 else eighths // 8)
        if done < self.bar.n:  # Chains were lengthened: it goes on from there.
            self.bar.update(done - self.bar.n)
        self.bar.n = done
        self.bar.update(0)


class ChunkBar:
    """Tells the bar of a curve how far the chains of a chunk are; takes what `DrawsBar` takes."""

    def __init__(self, curve: CurveBar, start: int, count: int):
        self.curve, self.start, self.count = curve, start, count
        self.num_draws = 0

    def burn_in(self, done: int, planned: int) -> None:
        """Shows a burn-in, which calibrates and may begin again; it counts for nothing yet."""
        self.curve.work(self.start, 0.0, f"calibrating {done}/{planned}")

    def sample(self, draws: Draws, start: int, total: int, **_: Any) -> None:
        """Shows one more block of draws, with the arguments of `DrawsBar.sample`."""
        self.num_draws += draws.excess_loss.shape[2]
        done = min(self.num_draws, total)
        text = f"{'draw' if done > start else 'burn-in'} {done}/{total}"
        self.curve.work(self.start, self.count * done / total, text)

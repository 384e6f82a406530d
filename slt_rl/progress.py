"""How far a call is: bars on a terminal and in a notebook, lines in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
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

    # No least number of things done: it is the time that decides what is drawn.
    options |= {"total": total, "disable": not show, "miniters": 0}
    if sys.stderr.isatty() or issubclass(tqdm, tqdm_notebook):
        return tqdm(mininterval=TERMINAL_SECONDS, **options)
    form = "{l_bar} {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
    return tqdm(mininterval=LOG_SECONDS, file=_Lines(), position=0, bar_format=form, **options)


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
        self.bar.total = total
        self.bar.update(done - self.bar.n)


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


def shown(found: Iterable[list[Any]], total: int, show: bool) -> Iterator[list[Any]]:
    """Yields the chunks of a curve as they are finished.

    Args:
        found: Lists of `LLCEstimate`, chunk by chunk.
        total: How many checkpoints.
        show: Show a bar: checkpoints, time left, the last estimate, how many are not trusted.
    """
    seen = doubted = 0
    with open_bar(total, show=show, desc="curve", unit="checkpoint") as bar:
        for chunk in found:
            seen += len(chunk)
            doubted += sum(estimate.verdict != "trusted" for estimate in chunk)
            text = f"{described(chunk[-1])}; {doubted} of {seen} not trusted"
            bar.set_postfix_str(text, refresh=False)
            bar.update(len(chunk))
            yield chunk

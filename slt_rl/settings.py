"""What the public calls have checked: how to sample."""

from typing import Any, NamedTuple

from slt_rl.observer import Observer
from slt_rl.progress import ChunkBar, DrawsBar


class Settings(NamedTuple):
    """How to sample: checked arguments of the public calls.

    Args:
        sampler: a given sampler, `None` to calibrate one.
        num_chains: chains per center.
        num_draws: draws to keep of each chain, `None` as many as the result asks for.
        num_burnin: draws to drop, `None` for the default.
        batch_size: examples per gradient, `None` for full data.
        tolerance: relative error to aim at.
        observer: what to compute beside the draws.
        num_parts: parts of the chains to run at the same time.
        bar: shows how far the chains are; changes nothing.
    """

    sampler: Any
    num_chains: int
    num_draws: int | None
    num_burnin: int | None
    batch_size: int | None
    tolerance: float
    observer: Observer | None = None
    num_parts: int = 1
    bar: DrawsBar | ChunkBar | None = None

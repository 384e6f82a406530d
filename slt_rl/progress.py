"""A bar for the chunks of a curve, with what was found so far."""

from collections.abc import Iterable, Iterator

from slt_rl.result import LLCEstimate


def shown(
    found: Iterable[list[LLCEstimate]], total: int, show: bool
) -> Iterator[list[LLCEstimate]]:
    """Yields the chunks as they are finished.

    Args:
        found: Estimates, chunk by chunk.
        total: How many chunks.
        show: Show a bar: chunks, time left, the last estimate, how many are not trusted.
    """
    if not show:
        yield from found
        return
    from tqdm.auto import tqdm

    seen: list[LLCEstimate] = []
    with tqdm(total=total, desc="checkpoints", unit="chunk") as bar:
        for chunk in found:
            seen += chunk
            doubted = sum(estimate.verdict != "trusted" for estimate in seen)
            last = f"llc {seen[-1].mean:.4g} {seen[-1].verdict}"
            bar.set_postfix_str(f"{last}, {doubted} of {len(seen)} not trusted", refresh=False)
            bar.update()
            yield chunk

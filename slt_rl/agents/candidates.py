"""Which forms compete for a curve of a run."""

import dataclasses
from collections.abc import Mapping

from slt_rl.agents.series import Series
from slt_rl.development import Form, event_locked, free_bumps, replicator, standard_forms


def candidate_forms(series: Series, observed: Mapping[str, float]) -> tuple[Form, ...]:
    """The standard forms, and those that apply to the curve by their definition.

    The replicator has no free level or size: only a share may be one. A bump may be locked to an
    event whose time was observed in another curve; a bump at a free time is its competitor.

    Args:
        series: The curve.
        observed: Event -> environment step at which it set in; one outside of the curve, or nan, is
            left out.

    Returns:
        The forms, of distinct names; "locked to EVENT" for each of the events.

    Example:
        >>> import numpy as np
        >>> llc = Series("LLC", "LLC", np.arange(0.0, 90.0, 10.0), np.ones((1, 9)), None, (0,))
        >>> [form.name for form in candidate_forms(llc, {"plant": 30.0, "eat": 99.0})[5:]]
        ['locked to plant', 'free bumps']
    """
    steps = series.steps
    locked = [
        dataclasses.replace(event_locked(steps.tolist(), [step]), name=f"locked to {event}")
        for event, step in observed.items()
        if steps[0] <= step < steps[-1]
    ]
    share = [replicator()] if series.is_share else []
    return (*standard_forms(), *share, *locked, *([free_bumps(1)] if locked else []))

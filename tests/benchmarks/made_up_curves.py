"""Curves of one seed whose points, errors and verdicts are given."""

import numpy as np

from benchmarks.craftax_kinds import Kind
from slt_rl.agents import StoredCurve

STEPS = 1000 * np.arange(21)


def kind(name, mean, *, steps=STEPS, part="", verdict="trusted", sem=0.01, localization=300.0):
    """A curve of one seed at one localization, with the same error at all points."""
    mean = np.asarray(mean, float)[None, None]
    words = np.full(mean.shape, verdict)
    curve = StoredCurve(
        name=name, facts={"part": part, "num_free_parameters": 7}, nbeta=82.1, seeds=(0,),
        localizations=(localization,), steps=steps, mean=mean, sem=np.full(mean.shape, sem),
        low=mean - 2 * sem, high=mean + 2 * sem, verdicts=words,
        regimes=np.full(mean.shape, "localization-dominated"), flags=np.full(mean.shape, ""),
    )  # fmt: skip
    return Kind("run", name, curve, 0)

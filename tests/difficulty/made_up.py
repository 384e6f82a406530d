"""Measurements that are made up: normal estimates with honest intervals about given values."""

import numpy as np

from slt_rl.difficulty import measure
from slt_rl.difficulty.methods import methods_of
from slt_rl.difficulty.rungs import limits

WANTED = np.array([5.0, 6.5, 7.0])
SEM, NUM_KEYS = 0.15, 10


def part(*, wanted=WANTED, predicted=None, shift=0.0, verdict=None, seed=0):
    """What `measure` leaves of one estimator; `shift` is its bias."""
    noise = np.random.default_rng(seed).normal(size=(3, NUM_KEYS)).clip(-1.9, 1.9)
    mean = wanted[:, None] + shift + SEM * noise
    return {
        "wanted": wanted,
        "wanted_sem": np.full(3, 0.02),
        "predicted": wanted if predicted is None else predicted,
        "predicted_sem": np.full(3, 0.02),
        "mean": mean,
        "sem": np.full_like(mean, SEM),
        "low": mean - 2 * SEM,
        "high": mean + 2 * SEM,
        "data": np.broadcast_to(wanted[:, None] + shift, mean.shape).copy(),
        "data_sem": np.full_like(mean, 0.05),
        "verdict": np.zeros(mean.shape, int) if verdict is None else verdict,
        "gradients": np.full(mean.shape, 1e4),
    }


def made_up_arrays(rung):
    """What `measure_rung` leaves if every estimator is right."""
    found = {}
    for name in (*measure.EXACT, *(str(i) for i in range(len(methods_of(rung))))):
        found |= {f"{name}_{k}": v for k, v in part().items()}
    for name in measure.EXACT:
        found[f"{name}_limit"] = np.array([limits()[c] for c in measure.CLASSES])
        found[f"{name}_limit_sem"] = np.full(3, 0.05)
    return found

"""The error of the step, from two groups of chains whose steps differ."""

from typing import NamedTuple

import numpy as np

from slt_rl.diagnostics import check_trace
from slt_rl.estimators import Estimate, mean_estimate


class StepExtrapolation(NamedTuple):
    """Two groups of chains with different steps, carried to step zero.

    Args:
        estimate: the value at step zero, with its own, larger standard error.
        bias: by how much the pooled mean of both groups exceeds it.
        bias_sem: standard error of `bias`.
    """

    estimate: Estimate
    bias: float
    bias_sem: float


def extrapolate_step(
    values: np.ndarray, steps: np.ndarray, *, order: int
) -> StepExtrapolation | None:
    r"""Carries the mean of `values` to step zero, its error being of the stated order in the step.

    With the means `m_f, m_c` of the chains of the finer and the coarser step, `x = step^order`,

        bias = (m_c - m_f) (x_f + x_c) / (2 (x_c - x_f)),   estimate = (m_f + m_c)/2 - bias

    Args:
        values: `[chain, draw]`.
        steps: `[chain]`, of two different values.
        order: order of the error of the dynamics: 1 for SGLD, 2 for kinetic Langevin.

    Returns:
        The extrapolation, or None if there are not two groups of chains.

    References:
        Durmus et al., "Stochastic gradient Richardson-Romberg Markov chain Monte Carlo", 2016.
    """
    values, steps = check_trace(values), np.asarray(steps, np.float64)
    if np.ptp(steps) == 0:
        return None
    is_fine = steps == steps.min()
    fine, coarse = mean_estimate(values[is_fine]), mean_estimate(values[~is_fine])
    low, high = steps.min() ** order, steps.max() ** order
    lever = (low + high) / (2 * (high - low))
    difference = coarse.mean - fine.mean
    sem = float(np.hypot((0.5 + lever) * fine.sem, (0.5 - lever) * coarse.sem))
    own_bias = difference / (high - low) * steps**order
    estimate = Estimate(
        (fine.mean + coarse.mean) / 2 - lever * difference,
        sem,
        values.mean(axis=1) - own_bias,
        min(fine.ess, coarse.ess),
    )
    bias_sem = lever * float(np.hypot(fine.sem, coarse.sem))
    return StepExtrapolation(estimate, lever * difference, bias_sem)

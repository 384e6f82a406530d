"""The error of the step, from two groups of chains whose steps differ."""

from typing import NamedTuple

import numpy as np

from slt_rl.diagnostics import check_trace, equipartition, leaf_equipartition_excess
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


class Balance(NamedTuple):
    """Equipartition ratios, which are 1 at equilibrium.

    Args:
        ratio: of all parameters.
        sem: its standard error.
        per_leaf: `[leaf]`.
        leaf_excess: `[leaf]`, signed distance from 1 beyond 3.5 standard errors.
    """

    ratio: float
    sem: float
    per_leaf: np.ndarray
    leaf_excess: np.ndarray


def balance_of(virial: np.ndarray, sizes: np.ndarray, steps: np.ndarray | None) -> Balance:
    """Equipartition, carried to step zero where `steps` of two groups of chains are given.

    A first-order step inflates it by what the extrapolation takes out of the estimate: this is no
    lack of equilibrium.

    Args:
        virial: `[chain, draw, leaf]`, `(w - w*) . grad U` per parameter of the leaf.
        sizes: `[leaf]`, number of parameters of each leaf.
        steps: `[chain]`, or `None` for dynamics without an error of first order.
    """
    virial, sizes = np.asarray(virial, np.float64), np.asarray(sizes)
    if steps is None or np.ptp(steps) == 0:
        return Balance(*equipartition(virial, sizes), leaf_equipartition_excess(virial))
    traces = [virial @ (sizes / sizes.sum()), *np.moveaxis(virial, -1, 0)]
    found = [extrapolate_step(x, steps, order=1) for x in traces]
    whole, *leaves = (x.estimate for x in found if x is not None)
    per_leaf = np.array([x.mean for x in leaves])
    excess = np.maximum(np.abs(per_leaf - 1) - 3.5 * np.array([x.sem for x in leaves]), 0.0)
    return Balance(whole.mean, whole.sem, per_leaf, np.copysign(excess, per_leaf - 1))

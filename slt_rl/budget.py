"""From draws to a number with an error budget: every term in units of the learning coefficient."""

from typing import NamedTuple

import numpy as np

from slt_rl import diagnostics, estimators
from slt_rl.chains import Draws
from slt_rl.estimators import Estimate
from slt_rl.rounding import is_flat, rounding_of
from slt_rl.step_error import balance_of, extrapolate_step

# A systematic term is reported by what exceeds so many of its own standard errors: a sound run then
# has none, and its interval keeps its coverage.
SIGNIFICANT = 2.5
# How much lambda_hat may follow localization or temperature and still be at a plateau; a slope that
# is not significant is known only where its standard error is smaller.
PLATEAU_SLOPE = 0.1
# Differences of a loss, in units of the temperature, that are no drop.
SMALL_DROP = 1e-3
# Share of draws below the center from which on it is no minimum.
BELOW_SHARE = 0.01
# Growth of a smooth loss away from its minimum: 2 if quadratic, more if degenerate, 1 for a norm.
SMOOTH_GROWTH = 1.5
# Share of the rise of the loss on the way to the chains that its slope must be able to explain.
EXPLAINED_SHARE = 0.1
# All terms of the error budget.
TERMS = (
    "monte_carlo",
    "discretization",
    "minibatch",
    "relaxation",
    "anchor",
    "data_set",
    "localization",
)
# Fractions of the way from the center to the chains; 0 first, then each twice the one before.
RAY_FRACTIONS = (0.0, *(2.0**-k for k in range(12, -1, -1)))
# Halvings of the thermal distance at which growth is looked at.
RAY_HALVINGS = 3


class Context(NamedTuple):
    """What is known of a run beside its draws.

    Args:
        nbeta: inverse temperature.
        localization: in 1/parameter^2.
        center_loss: `L(w*)`, by whose size its differences are rounded.
        step_sizes: `[chain]`.
        step_order: order of the error of the dynamics in the step; 0 if it has none.
        extrapolate: whether the estimate is carried to step zero.
        step_bias: relative error of the given sampler's step in the stiffest direction, by its law.
        heating: what gradient noise adds to first order in the step, in units of the coefficient.
        tolerance: relative error aimed at.
        leaf_sizes: `[leaf]`, parameters of each leaf.
        anchor_drop: `nbeta` times the loss that a better center nearby would gain (quadratic model
            along the gradient), in units of the learning coefficient.
        data_set: standard error over data sets, NaN for an exact potential.
        beta: `nbeta / n`, zero for an exact potential.
        growth_at_center: exponent of the loss along rays to the chains, see `growth_on_rays`; NaN
            where the draws themselves leave no doubt of it.
        audit: adjusted draws that went on from the chains, or None.
        stable: whether calibration found a stable step.
        notes: what calibration did, in words.
        num_gradients: gradient evaluations in all.
        calibration_gradients: of these, outside the draws.
    """

    nbeta: float
    localization: float
    center_loss: float
    step_sizes: np.ndarray
    step_order: int
    extrapolate: bool
    step_bias: float
    heating: float
    tolerance: float
    leaf_sizes: np.ndarray
    anchor_drop: float
    data_set: float
    beta: float
    growth_at_center: float
    explained_by_slope: float
    audit: Draws | None
    stable: bool
    notes: tuple[str, ...]
    num_gradients: int
    calibration_gradients: int


class Budget(NamedTuple):
    """An estimate, what is wrong with it, and the numbers that say so.

    Args:
        estimate: the learning coefficient with its Monte-Carlo error.
        terms: error terms in units of the learning coefficient.
        numbers: diagnostics.
    """

    estimate: Estimate
    terms: dict[str, float]
    numbers: dict[str, float]


def make_budget(draws: Draws, context: Context) -> Budget:
    """Turns draws `[chain, draw]` (burn-in dropped, all finite) into a number with its errors."""
    scaled = context.nbeta * np.asarray(draws.excess_loss, np.float64)
    estimate = estimators.mean_estimate(scaled)
    steps = None
    if context.step_order:
        steps = extrapolate_step(scaled, context.step_sizes, order=context.step_order)
    if steps is not None and context.extrapolate:
        estimate = steps.estimate
    numbers = _numbers(draws, context, estimate)
    moved, sem = diagnostics.half_difference(scaled)
    numbers["drift"] = diagnostics.in_errors(moved, sem)
    size = abs(estimate.mean)
    terms = {
        "monte_carlo": estimate.sem,
        "discretization": size * context.step_bias,
        "minibatch": context.heating,
        "relaxation": _relaxation((moved, sem), numbers, size),
        "anchor": max(context.anchor_drop, numbers["drop_seen"]),
        "data_set": context.data_set,
        "localization": size * _known_slope(numbers),
    }
    if steps is not None:
        numbers |= {"step_bias": steps.bias, "step_bias_sem": steps.bias_sem}
        if context.extrapolate:
            # Both errors are of first order in the step; their squares are what is left.
            terms["minibatch"] = context.heating**2 / size if size else 0.0
        else:
            terms["discretization"] = beyond(steps.bias, steps.bias_sem)
    if context.audit is not None:
        numbers |= _audit(context, estimate)
        terms["discretization"] = max(
            terms["discretization"], beyond(numbers["audit_shift"], numbers["audit_shift_sem"])
        )
    return Budget(estimate, terms, numbers)


def beyond(value: float, sem: float) -> float:
    """What of a difference its own standard error does not explain."""
    return max(abs(value) - SIGNIFICANT * sem, 0.0)


def _known_slope(numbers: dict[str, float]) -> float:
    """The size of the slope in localization; NaN where the draws do not tell it from none."""
    slope, sem = abs(numbers["localization_slope"]), numbers["localization_slope_sem"]
    return slope if sem < PLATEAU_SLOPE or beyond(slope, sem) > 0 else float("nan")


def _numbers(draws: Draws, context: Context, estimate: Estimate) -> dict[str, float]:
    steps = context.step_sizes if context.extrapolate else None
    balance = balance_of(draws.virial, context.leaf_sizes, steps)
    worst = int(np.argmax(np.abs(balance.leaf_excess)))
    excess = draws.excess_loss
    distance = float(np.mean(draws.squared_distance))
    posterior = {"nbeta": context.nbeta, "localization": context.localization}
    flat = is_flat(draws, **posterior)
    rounding = rounding_of(draws, **posterior, center_loss=context.center_loss)
    scaled = context.nbeta * np.asarray(excess)
    return {
        "ess": estimate.ess,
        "split_r_hat": diagnostics.split_r_hat(excess),
        "equipartition": balance.ratio,
        "equipartition_sem": balance.sem,
        "equipartition_worst_leaf": float(balance.per_leaf[worst]),
        "equipartition_worst_leaf_excess": float(balance.leaf_excess[worst]),
        "kinetic_temperature": float(np.mean(draws.kinetic_temperature)),
        "acceptance": float(np.mean(draws.acceptance)),
        "fraction_below_center": _fraction_below(scaled, rounding),
        "drop_seen": _drop_seen(scaled, context.heating, rounding),
        "growth": growth_of(draws, context.leaf_sizes, context.localization, nbeta=context.nbeta),
        "growth_at_center": context.growth_at_center,
        "explained_by_slope": context.explained_by_slope,
        "rms_distance": distance**0.5,
        "heating": context.heating,
        "calibration_gradients": float(context.calibration_gradients),
        "variance_llc": context.nbeta**2 * float(np.var(excess, dtype=np.float64)),
        "is_flat": float(flat),
        "rounding": rounding,
        **_slopes(draws, context, flat=flat),
    }


def _slopes(draws: Draws, context: Context, *, flat: bool) -> dict[str, float]:
    """How the estimate follows localization and temperature; that of a flat loss stays at zero."""
    scaled = context.nbeta * np.asarray(draws.excess_loss)
    slope = slope_sem = temperature = temperature_sem = 0.0
    if not flat:
        slope, slope_sem = _localization_slope(draws, context)
        temperature = estimators.temperature_slope(draws.excess_loss, context.nbeta)
        temperature_sem = _temperature_slope_sem(scaled)
    return {
        "localization_slope": slope,
        "localization_slope_sem": slope_sem,
        "temperature_slope": temperature,
        "temperature_slope_sem": temperature_sem,
    }


def _localization_slope(draws: Draws, context: Context) -> tuple[float, float]:
    r"""`d log lambda_hat / d log localization` and its standard error, from two forms.

    With `l = nbeta (L - L*)` and `g` the localization, linear response gives `-Cov[l, g |v|^2] / 2`
    over `E[l]`. Free directions drown it: `g |v|^2` varies by their number. They cancel in
    `G = v . grad U - g |v|^2 = nbeta v . grad L`, and integration by parts, `Cov[l, v . grad U] =
    E[G]`, gives the same as `(Cov[l, G] - E[G]) / 2`: noisier in a regular model, where `g |v|^2`
    is small. Their difference has mean zero, a control variate: the combination is taken that
    varies least. The second is not used with gradient noise, which `l` and `G` have in common.
    """
    scaled = context.nbeta * np.asarray(draws.excess_loss, np.float64)
    pull = context.localization * np.asarray(draws.squared_distance, np.float64)
    centered, size = scaled - scaled.mean(), scaled.mean()
    values = -centered * (pull - pull.mean()) / 2
    if context.heating == 0:
        inner = np.asarray(draws.virial, np.float64) @ context.leaf_sizes - pull
        control = values - (centered * (inner - inner.mean()) - inner) / 2
        spread = np.var(control)
        share = np.mean((values - values.mean()) * control) / spread if spread else 0.0
        values = values - share * control
    found = estimators.mean_estimate(values)
    return float(found.mean / size), float(found.sem / abs(size))


def _temperature_slope_sem(scaled: np.ndarray) -> float:
    """Standard error of `1 - Var[l]/E[l]`, from its first variation in the law of `l`."""
    scaled = np.asarray(scaled, np.float64)
    size, deviation = scaled.mean(), scaled - scaled.mean()
    variation = (deviation**2 - deviation * scaled.var() / size) / size
    return estimators.mean_estimate(variation).sem


def growth_of(draws: Draws, leaf_sizes: np.ndarray, localization: float, *, nbeta: float) -> float:
    """`E[(w - w*) . grad L] / E[L - L*]` over draws `[chain, draw]`.

    It is the degree of a homogeneous loss. Where chains reach beyond the basin it is about what
    lies there and not about the center.
    """
    excess = nbeta * float(np.mean(draws.excess_loss, dtype=np.float64))
    virial = float(np.mean(np.asarray(draws.virial, np.float64), axis=(0, 1)) @ leaf_sizes)
    pull = virial - localization * float(np.mean(draws.squared_distance, dtype=np.float64))
    return pull / excess if excess else float("nan")


def growth_on_rays(losses: np.ndarray, slopes: np.ndarray, size: float) -> float:
    r"""The largest exponent with which the loss grows from the center at thermal distances.

    On the ray `w* + t v` to a chain let `T` be the largest `t` up to which the loss stays below its
    thermal mean: a chain may have gone round a ridge. With `s(t) = v . grad L(w* + t v)`, and sums
    over rays,

        p = 1 + log_2 [sum (s(2t) - s(0)) / sum (s(t) - s(0))],   t = T/2, T/4, T/8

    It is `p` for a loss homogeneous of degree `p`, whatever flat directions `v` has, and tends to 2
    or more as `t` falls for a smooth loss. So a loss is not smooth there if no `t` shows such an
    exponent: 1 for a norm.

    Args:
        losses: `[chain, t]`, the loss at `RAY_FRACTIONS`.
        slopes: `[chain, t]`, `s(t)` there.
        size: the mean of `L - L*` over the draws.

    Returns:
        The largest exponent; NaN if the loss rises at no scale.
    """
    losses, slopes = np.asarray(losses, np.float64), np.asarray(slopes, np.float64)
    above = losses - losses[:, :1] > size
    first_above = np.where(above.any(axis=1), above.argmax(axis=1), above.shape[1])
    thermal = np.maximum(first_above - 1, RAY_HALVINGS + 1)
    columns = thermal[:, None] - np.arange(RAY_HALVINGS + 1)
    rise = (np.take_along_axis(slopes, columns, axis=1) - slopes[:, :1]).sum(axis=0)
    both = (rise[1:] > 0) & (rise[:-1] > 0)
    if not both.any():
        return float("nan")
    return float(np.max(1 + np.log2(rise[:-1][both] / rise[1:][both])))


def explained_on_rays(losses: np.ndarray, slopes: np.ndarray) -> float:
    r"""The rise of the loss from the center to the chains that its slope can explain, relative.

        sum int |s(t)| dt / sum (L(1) - L(0)),   s(t) = v . grad L(w* + t v)

    One or more for a loss with a gradient, zero for one that is flat in pieces: a share of errors,
    or what is rounded. A trapezoid rule over `RAY_FRACTIONS`: for a loss homogeneous of degree 2
    it is exact, and 1.2 at degree 4.

    Args:
        losses: `[chain, t]`, the loss at `RAY_FRACTIONS`.
        slopes: `[chain, t]`, `s(t)` there.

    Returns:
        The share; NaN if the loss does not rise.
    """
    rise = float(np.sum(losses[:, -1] - losses[:, 0]))
    size = np.abs(slopes)
    integral = float(np.sum((size[:, 1:] + size[:, :-1]) @ np.diff(RAY_FRACTIONS)) / 2)
    return integral / rise if rise > 0 else float("nan")


def _fraction_below(scaled: np.ndarray, rounding: float) -> float:
    """Share of draws below the center, in units of the temperature, by more than rounding."""
    return float(np.mean(scaled < -max(SMALL_DROP, rounding)))


def _drop_seen(scaled: np.ndarray, heating: float, rounding: float) -> float:
    """How far below the center one draw in a hundred lies, in units of the temperature.

    The gradient at the center says what a quadratic would gain; a loss that falls ever more slowly,
    as a softmax policy's regret does, gains more. Noise of minibatches would be taken for a drop.
    """
    drop = -float(np.quantile(scaled, BELOW_SHARE))
    return drop if drop > max(SMALL_DROP, rounding) and heating == 0 else 0.0


def _relaxation(moved: tuple[float, float], numbers: dict[str, float], size: float) -> float:
    """The larger of two shortfalls: from equipartition, and between the halves of the chains."""
    off_balance = size * beyond(numbers["equipartition"] - 1, numbers["equipartition_sem"])
    # The mean over both halves misses half of what still moves between them.
    return max(off_balance, beyond(*moved) / 2)


def _audit(context: Context, estimate: Estimate) -> dict[str, float]:
    audit = context.audit
    assert audit is not None
    adjusted = estimators.mean_llc(audit.excess_loss, context.nbeta)
    return {
        "audit_shift": adjusted.mean - estimate.mean,
        "audit_shift_sem": float(np.hypot(adjusted.sem, estimate.sem)),
        "audit_acceptance": float(np.mean(audit.acceptance)),
    }

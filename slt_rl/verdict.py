"""From draws to an estimate with flags: what may be believed, and why not."""

from typing import NamedTuple

import numpy as np

from slt_rl.budget import (
    BELOW_SHARE,
    EXPLAINED_SHARE,
    PLATEAU_SLOPE,
    SMOOTH_GROWTH,
    TERMS,
    Budget,
    Context,
    beyond,
    make_budget,
)
from slt_rl.chains import Draws
from slt_rl.diagnostics import Z95
from slt_rl.estimators import Estimate
from slt_rl.result import LLCEstimate

EQUIPARTITION = (0.95, 1.05)
EQUIPARTITION_REFUSED = (0.8, 1.25)
# No direction of a loss that grows at least like a distance holds more than one unit: a chain at so
# many times the number of parameters has run away, however little its draws know their mean.
RUNAWAY = 10.0
# The estimate from a log-likelihood varies over data sets by about sqrt(lambda beta / 2).
NOISY_DATA = 2.0


class Flags(NamedTuple):
    """Reasons against a number, in words: those that forbid it and those that make it doubtful."""

    refused: list[str]
    doubtful: list[str]

    def add(self, text: str, *, refuse: bool) -> None:
        """Adds a reason."""
        (self.refused if refuse else self.doubtful).append(text)


def judge(draws: Draws, context: Context) -> LLCEstimate:
    """Turns draws `[chain, draw]` (burn-in dropped) into an estimate with a verdict."""
    alive = np.atleast_1d(np.asarray(draws.alive).all(axis=1))
    if not alive.all():
        return _refuse_frozen(draws, context, alive)
    budget = make_budget(draws, context)
    flags = Flags([], [])
    _runaway_flag(budget.estimate.per_chain, context.leaf_sizes.sum(), flags)
    for add_flags in (_anchor_flags, _step_flags, _relaxation_flags, _precision_flags, _data_flags):
        add_flags(budget, context, flags)
    return LLCEstimate(
        mean=budget.estimate.mean,
        sem=budget.estimate.sem,
        per_chain=budget.estimate.per_chain,
        nbeta=context.nbeta,
        localization=context.localization,
        step_size=float(np.mean(context.step_sizes)),
        verdict="refused" if flags.refused else "doubtful" if flags.doubtful else "trusted",
        regime=_regime(budget.numbers),
        flags=tuple(flags.refused + flags.doubtful),
        notes=context.notes,
        error_budget=budget.terms,
        num_gradient_evaluations=context.num_gradients,
        diagnostics=budget.numbers,
        draws=draws,
    )


def _regime(numbers: dict[str, float]) -> str:
    """What the slopes say; a plateau is claimed only where no slope may reach the limit.

    A slope is about the share of the number that is missing to its plateau: for one direction of
    curvature `kappa` both are `localization/(kappa + localization)`.
    """
    if _reaches_limit(numbers["localization_slope"], numbers["localization_slope_sem"]):
        return "localization-dominated"
    if _reaches_limit(numbers["temperature_slope"], numbers["temperature_slope_sem"]):
        return "temperature-dependent"
    sems = numbers["localization_slope_sem"], numbers["temperature_slope_sem"]
    return "plateau" if max(sems) < PLATEAU_SLOPE else "unknown"


def _reaches_limit(slope: float, sem: float) -> bool:
    """Is the slope there for sure, and may it be as large as no plateau's?

    Its interval decides, not its value: of two keys of one run one would else be a plateau by luck.
    A slope that cannot be told from zero says nothing, unless it is not known at all.
    """
    return beyond(slope, sem) > 0 and abs(slope) + Z95 * sem > PLATEAU_SLOPE


def _sure_slope(numbers: dict[str, float]) -> float:
    """The slope in localization as far as its standard error does not explain it."""
    slope = numbers["localization_slope"]
    return float(np.copysign(beyond(slope, numbers["localization_slope_sem"]), slope))


def _runaway_flag(per_chain: np.ndarray, dimension: int, flags: Flags) -> None:
    """Is a chain where no equilibrium can be?"""
    highest = float(np.max(per_chain))
    if highest > RUNAWAY * dimension:
        flags.add(
            f"a chain has run away: it stands at {highest:.3g}, and {dimension} parameters hold "
            f"{dimension} at most; use a smaller step or larger localization",
            refuse=True,
        )


def _anchor_flags(budget: Budget, context: Context, flags: Flags) -> None:
    """Is the center a minimum of a smooth loss?"""
    estimate, numbers, drop = budget.estimate, budget.numbers, context.anchor_drop
    # What is below the rounding of the losses shows nothing, and no estimate is known better.
    rounding = numbers["rounding"]
    size = max(abs(estimate.mean), rounding)
    if estimate.mean + 2 * estimate.sem < -rounding:
        flags.add(
            f"negative estimate {estimate.mean:.3g}: the center is not a minimum at this "
            "temperature; polish it, raise localization, or use the two-temperature estimator",
            refuse=True,
        )
    seen = numbers["drop_seen"]
    if max(drop, seen) > context.tolerance * size:
        large = max(drop, seen) > 0.5 * size
        found = (
            f"its gradient is {'large' if large else 'not small'}, nbeta times the expected drop "
            f"is {drop:.3g}"
            if drop > context.tolerance * size
            else f"nbeta times the loss of one draw in a hundred is {seen:.3g} or more below it"
        )
        flags.add(
            f"the center is not a minimum: {found}; train further, or use a potential with "
            "its minimum at the center (KL to the policy)",
            refuse=large,
        )
    _smoothness(estimate, context, numbers, flags=flags)
    _localization_slope(numbers, flags)


def _smoothness(
    estimate: Estimate, context: Context, numbers: dict[str, float], *, flags: Flags
) -> None:
    """Is the loss smooth at the center?"""
    # The exponent is no average over draws: how well these know the mean does not matter, but
    # noise of minibatches may be all that the mean is.
    growth = numbers["growth_at_center"]
    noise = max(2 * estimate.sem if context.heating else 0.0, numbers["rounding"])
    if estimate.mean > noise and growth < SMOOTH_GROWTH:
        flags.add(
            f"the loss grows like distance to the power {growth:.2f} < 2: it is not smooth at the "
            "center (a norm or square root doubles the coefficient of its square); use the square",
            refuse=True,
        )
    if estimate.mean > noise and numbers["explained_by_slope"] < EXPLAINED_SHARE:
        flags.add(
            "the loss rises from the center but its gradient does not say so: it is flat in "
            "pieces, as a share of errors or what is rounded, and has no learning coefficient by "
            "gradients; use the loss that was minimized",
            refuse=True,
        )


def _localization_slope(numbers: dict[str, float], flags: Flags) -> None:
    """Does the estimate rise with localization? At a minimum it falls."""
    if _sure_slope(numbers) <= PLATEAU_SLOPE:
        return
    if numbers["fraction_below_center"] > BELOW_SHARE:
        flags.add(
            "the loss falls away from the center, only localization holds the chain: no minimum "
            "here, so no finite learning coefficient (the estimate grows with log nbeta); use a "
            "potential with its minimum at the center (KL to the policy)",
            refuse=True,
        )
    else:
        flags.add(
            "the loss levels off or falls again far from the center, though never below it: the "
            "number belongs to this localization alone; raise localization to stay in the basin",
            refuse=False,
        )


def _step_flags(budget: Budget, context: Context, flags: Flags) -> None:
    """Do step and gradient noise leave the law as it is?"""
    size, numbers = abs(budget.estimate.mean), budget.numbers
    if not context.stable:
        flags.add(
            "no stable step size was found: the loss may not be smooth at this scale; raise "
            "localization, or use a smooth loss",
            refuse=True,
        )
    if context.step_bias > context.tolerance:
        flags.add(
            f"step size too large: it inflates the stiffest direction by {context.step_bias:.1%}; "
            "use a smaller step",
            refuse=context.step_bias > 0.25,
        )
    elif budget.terms["discretization"] > context.tolerance * size:
        flags.add(
            "step size too large: chains with different steps, or with accepted and rejected "
            f"steps, differ by {budget.terms['discretization']:.3g} more than their errors; use a "
            "smaller tolerance, which takes smaller steps, or raise localization",
            refuse=budget.terms["discretization"] > 0.25 * size,
        )
    if budget.terms["minibatch"] > context.tolerance * size:
        flags.add(
            f"gradient noise too large: minibatches add about {budget.terms['minibatch']:.3g} to "
            "the estimate; use a larger batch, the anchored control variate or full data",
            refuse=budget.terms["minibatch"] > 0.25 * size,
        )
    ratio, error = numbers["equipartition"], 2 * numbers["equipartition_sem"]
    if ratio - error > EQUIPARTITION[1]:
        flags.add(
            f"equipartition {ratio:.3f} > 1: step size or gradient noise too large; "
            "use a smaller step or a larger batch",
            refuse=ratio - error > EQUIPARTITION_REFUSED[1],
        )
    if numbers["kinetic_temperature"] > EQUIPARTITION[1] + 2 * error:
        flags.add(
            f"kinetic temperature {numbers['kinetic_temperature']:.3f} > 1: step size or gradient "
            "noise too large; use a smaller step or a larger batch",
            refuse=False,
        )


def _relaxation_flags(budget: Budget, context: Context, flags: Flags) -> None:
    """Have all directions reached equilibrium?"""
    del context
    numbers = budget.numbers
    ratio, error = numbers["equipartition"], 2 * numbers["equipartition_sem"]
    if ratio + error < EQUIPARTITION[0]:
        flags.add(
            f"equipartition {ratio:.3f} < 1: some directions have not relaxed or the chain left "
            "for another basin; run longer, or raise localization",
            refuse=ratio + error < EQUIPARTITION_REFUSED[0],
        )
    elif ratio - error < EQUIPARTITION_REFUSED[0]:
        # An error so large that it hides what would be refused is no evidence of equilibrium.
        flags.add(
            f"equipartition {ratio:.3f} is known to {error:.2g} only: whether all directions have "
            "relaxed cannot be told; run longer",
            refuse=False,
        )
    leaf = numbers["equipartition_worst_leaf_excess"]
    if abs(leaf) > 1 - EQUIPARTITION[0]:
        flags.add(
            f"equipartition {numbers['equipartition_worst_leaf']:.3f} in one leaf of the "
            "parameters: it has not relaxed, or its step is too large; run longer",
            refuse=abs(leaf) > 1 - EQUIPARTITION_REFUSED[0],
        )
    if numbers["split_r_hat"] > 1.05:
        flags.add(
            f"chains disagree (split R-hat {numbers['split_r_hat']:.3f}); run longer",
            refuse=numbers["split_r_hat"] > 1.3,
        )
    if budget.terms["relaxation"] > 2 * budget.estimate.sem + 0.1 * abs(budget.estimate.mean):
        flags.add(
            f"not relaxed: the estimate still moves by about {budget.terms['relaxation']:.3g}; "
            "run longer",
            refuse=False,
        )


def _precision_flags(budget: Budget, context: Context, flags: Flags) -> None:
    estimate = budget.estimate
    half_width = Z95 * estimate.sem
    if budget.numbers["is_flat"]:
        return  # Zero, and rounding has no relative precision.
    if estimate.ess < 50 or half_width > 2 * context.tolerance * abs(estimate.mean):
        flags.add(
            f"interval half-width {half_width:.3g} is more than twice the tolerance "
            f"{context.tolerance:g} of the estimate, or its effective draws "
            f"({estimate.ess:.0f}) fewer than 50: run more draws or chains",
            refuse=False,
        )


def _data_flags(budget: Budget, context: Context, flags: Flags) -> None:
    """Is the sampled loss as regular as a log-likelihood?"""
    error, size = context.data_set, abs(budget.estimate.mean)
    regular = NOISY_DATA * (size * context.beta / 2) ** 0.5
    if np.isnan(error) or error <= max(size / 2, regular):
        return
    flags.add(
        f"the sampled loss is too noisy for its n: over data sets of this size the estimate would "
        f"vary by {error:.3g} (one standard error). Importance weights or a regret that is not "
        "renormalizable do this at every n; use exact evaluation, or KL to the policy",
        refuse=True,
    )


def _refuse_frozen(draws: Draws, context: Context, alive: np.ndarray) -> LLCEstimate:
    """Some chain left the finite numbers: no average is taken over the others."""
    excess = np.asarray(draws.excess_loss, np.float64)
    per_chain = np.where(alive, context.nbeta * excess.mean(axis=1), np.nan)
    names = ", ".join(str(i) for i in np.flatnonzero(~alive))
    flag = (
        "step size too large, or no basin, or a loss that is NaN near the center: chain(s) "
        f"{names} left the finite numbers and were frozen; the others are in per_chain but not "
        "averaged: use a smaller step or larger localization"
    )
    nan = float("nan")
    return LLCEstimate(
        mean=nan,
        sem=nan,
        per_chain=per_chain,
        nbeta=context.nbeta,
        localization=context.localization,
        step_size=float(np.mean(context.step_sizes)),
        verdict="refused",
        regime="unknown",
        flags=(flag,),
        notes=context.notes,
        error_budget=dict.fromkeys(TERMS, nan) | {"anchor": context.anchor_drop},
        num_gradient_evaluations=context.num_gradients,
        diagnostics={"ess": 0.0, "calibration_gradients": float(context.calibration_gradients)},
        draws=draws,
    )

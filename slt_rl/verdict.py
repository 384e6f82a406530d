"""From draws to an estimate with flags: what may be believed, and why not."""

from typing import NamedTuple

import numpy as np

from slt_rl import diagnostics, estimators
from slt_rl.chains import Draws
from slt_rl.result import LLCEstimate

# Regimes: how much lambda_hat may follow localization or temperature and still be a plateau.
PLATEAU_SLOPE = 0.1
EQUIPARTITION = (0.95, 1.05)
EQUIPARTITION_REFUSED = (0.8, 1.25)


class Context(NamedTuple):
    """What the verdict needs beside the draws.

    Args:
        nbeta: inverse temperature.
        localization: in 1/parameter^2.
        step_size: of the sampler.
        tolerance: relative error aimed at.
        leaf_sizes: `[leaf]`, parameters of each leaf.
        anchor_drop: `nbeta` times the loss that a better center nearby would gain (quadratic
            model along the gradient), in units of the learning coefficient.
        stable: whether calibration found a stable step.
        num_gradients: gradient evaluations outside the draws given here.
    """

    nbeta: float
    localization: float
    step_size: float
    tolerance: float
    leaf_sizes: np.ndarray
    anchor_drop: float
    stable: bool
    num_gradients: int


def judge(draws: Draws, context: Context) -> LLCEstimate:
    """Turns draws `[chain, draw]` (burn-in dropped) into an estimate with a verdict."""
    alive = np.atleast_1d(np.asarray(draws.alive).all(axis=1))
    if not alive.all():
        return _refuse_frozen(draws, context, alive)
    estimate = estimators.mean_llc(draws.excess_loss, context.nbeta)
    ratio, ratio_sem, per_leaf = diagnostics.equipartition(draws.virial, context.leaf_sizes)
    numbers = {
        "ess": estimate.ess,
        "split_r_hat": diagnostics.split_r_hat(draws.excess_loss),
        "drift": diagnostics.drift(draws.excess_loss),
        "equipartition": ratio,
        "equipartition_sem": ratio_sem,
        "equipartition_worst_leaf": float(per_leaf[np.argmax(np.abs(per_leaf - 1))]),
        "kinetic_temperature": float(np.mean(draws.kinetic_temperature)),
        "acceptance": float(np.mean(draws.acceptance)),
        "fraction_below_center": float(np.mean(np.asarray(draws.excess_loss) < 0)),
        "variance_llc": estimators.variance_llc(draws.excess_loss, context.nbeta).mean,
        **_slopes(draws, context),
    }
    refused, doubtful = _reasons(estimate, numbers, context)
    return LLCEstimate(
        mean=estimate.mean,
        sem=estimate.sem,
        per_chain=estimate.per_chain,
        nbeta=context.nbeta,
        localization=context.localization,
        step_size=context.step_size,
        verdict="refused" if refused else "doubtful" if doubtful else "trusted",
        regime=_regime(numbers),
        flags=tuple(refused + doubtful),
        error_budget=_budget(estimate, numbers, context),
        num_gradient_evaluations=context.num_gradients,
        diagnostics=numbers,
        draws=draws,
    )


def _slopes(draws: Draws, context: Context) -> dict[str, float]:
    excess = draws.excess_loss
    return {
        "localization_slope": estimators.localization_slope(
            excess,
            draws.squared_distance,
            nbeta=context.nbeta,
            localization=context.localization,
        ),
        "temperature_slope": estimators.temperature_slope(excess, context.nbeta),
    }


def _regime(numbers: dict[str, float]) -> str:
    if abs(numbers["localization_slope"]) > PLATEAU_SLOPE:
        return "localization-dominated"
    if abs(numbers["temperature_slope"]) > PLATEAU_SLOPE:
        return "temperature-dependent"
    return "plateau"


def _budget(estimate, numbers: dict[str, float], context: Context) -> dict[str, float]:
    """Error terms in units of lambda.

    The equilibrium term is what departs from equipartition beyond its own sampling error; the
    anchor term is the drop to a better center beyond rounding.
    """
    excess = max(abs(numbers["equipartition"] - 1) - 2 * numbers["equipartition_sem"], 0.0)
    return {
        "monte_carlo": estimate.sem,
        "equilibrium": excess * abs(estimate.mean),
        "anchor": context.anchor_drop,
    }


def _reasons(estimate, numbers: dict[str, float], context: Context):
    """Collects `(refused, doubtful)` flags."""
    refused: list[str] = []
    doubtful: list[str] = []
    if not context.stable:
        refused.append("no stable step size was found: the loss may not be smooth at this scale")
    _anchor_reasons(estimate, context, refused, doubtful)
    ratio, error = numbers["equipartition"], 2 * numbers["equipartition_sem"]
    if ratio + error < EQUIPARTITION[0]:
        target = refused if ratio + error < EQUIPARTITION_REFUSED[0] else doubtful
        target.append(
            f"equipartition {ratio:.3f} < 1: some directions have not relaxed or the chain left "
            "for another basin; run longer, or raise localization"
        )
    if ratio - error > EQUIPARTITION[1]:
        target = refused if ratio - error > EQUIPARTITION_REFUSED[1] else doubtful
        target.append(
            f"equipartition {ratio:.3f} > 1: step size or gradient noise too large; "
            "use a smaller step or a larger batch"
        )
    if numbers["kinetic_temperature"] > EQUIPARTITION[1]:
        doubtful.append(
            f"kinetic temperature {numbers['kinetic_temperature']:.3f} > 1: step size or gradient "
            "noise too large"
        )
    if numbers["split_r_hat"] > 1.05:
        target = refused if numbers["split_r_hat"] > 1.3 else doubtful
        target.append(f"chains disagree (split R-hat {numbers['split_r_hat']:.3f}); run longer")
    half_width = 1.96 * estimate.sem
    if estimate.ess < 50 or half_width > 2 * context.tolerance * abs(estimate.mean):
        doubtful.append(
            f"interval half-width {half_width:.3g} is more than twice the tolerance "
            f"{context.tolerance:g} of the estimate ({estimate.ess:.0f} effective draws): "
            "run more draws or chains"
        )
    return refused, doubtful


def _anchor_reasons(estimate, context: Context, refused: list[str], doubtful: list[str]) -> None:
    drop = context.anchor_drop
    if estimate.mean + 2 * estimate.sem < 0:
        refused.append(
            f"negative estimate {estimate.mean:.3g}: the center is not a minimum at this "
            "temperature; polish it, raise localization, or use the two-temperature estimator"
        )
    if drop > 0.5 * abs(estimate.mean):
        refused.append(
            f"the center has a large gradient: nbeta times the expected drop is {drop:.3g}; "
            "train further, or use a potential with its minimum at the center (KL to the policy)"
        )
    elif drop > context.tolerance * abs(estimate.mean):
        doubtful.append(
            f"the gradient at the center is not small: nbeta times the expected drop is {drop:.3g}"
        )


def _refuse_frozen(draws: Draws, context: Context, alive: np.ndarray) -> LLCEstimate:
    """Some chain left the finite numbers: no average is taken over the others."""
    excess = np.asarray(draws.excess_loss, np.float64)
    per_chain = np.where(alive, context.nbeta * excess.mean(axis=1), np.nan)
    names = ", ".join(str(i) for i in np.flatnonzero(~alive))
    flag = (
        f"chain(s) {names} left the finite numbers and were frozen; the others are in per_chain "
        "but not averaged: use a smaller step or larger localization"
    )
    nan = float("nan")
    return LLCEstimate(
        mean=nan,
        sem=nan,
        per_chain=per_chain,
        nbeta=context.nbeta,
        localization=context.localization,
        step_size=context.step_size,
        verdict="refused",
        regime="unknown",
        flags=(flag,),
        error_budget={"monte_carlo": nan, "equilibrium": nan, "anchor": context.anchor_drop},
        num_gradient_evaluations=context.num_gradients,
        diagnostics={"ess": 0.0},
        draws=draws,
    )

"""Checks that need no sampling: thresholds, branches, shifted points."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from slt_rl.difficulty.protocol import ACTION_SCALE, CLASSES, HIDDEN, NUM_FEATURES
from slt_rl.difficulty.rungs import VISITATION
from slt_rl.report.checks import Check
from slt_rl.validation.exact import signature_at
from toy_models import superposition as tms
from toy_models import superposition_rungs as rungs
from toy_models import superposition_visitation as visits

EXACT = "Exact points"
LABELS = tuple(tms.parse_class(name) for name in CLASSES)
THRESHOLD = 0.292556
EQUAL = (0.1080, 0.1085)
BRANCH = {0.06: 0.043163, 0.08: 0.045690, 0.25: 0.047180, 0.30: 0.045866}
SHIFTED = {0.5: (1.17022, -0.28207, 0.092725), 0.3: (1.16692, -0.27894, 0.117035),
           0.25: (1.15663, -0.26947, 0.126278)}  # fmt: skip
DESCENT_STEPS = 40_000
POINT_5, POINT_5_PLUS, POINT_6 = LABELS


def exact_checks() -> list[Check]:
    """Drift, visitation and masks against their known values."""
    return [*_drift_checks(), _visitation_check(), _hexagon_check(), _mask_check()]


def _drift_checks() -> list[Check]:
    threshold, equal = rungs.dead_feature_threshold(), rungs.equal_regret()
    branch = {
        last: float(rungs.law_regret(rungs.drifted_point(POINT_6, last), rungs.drifted_law(last)))
        for last in BRANCH
    }
    worst = max(abs(branch[last] - value) for last, value in BRANCH.items())
    return [
        Check(
            "drift: 5+ loses stability",
            "Probability of the last feature at which two eigenvalues of the Hessian at 5+ cross "
            "zero.",
            f"{THRESHOLD} within 1e-6",
            threshold,
            abs(threshold - THRESHOLD) < 1e-6,
            group=EXACT,
        ),
        Check(
            "drift: 5+ and 6 equal",
            "Probability of the last feature at which both have the same regret.",
            f"between {EQUAL[0]:g} and {EQUAL[1]:g}",
            equal,
            EQUAL[0] < equal < EQUAL[1],
            group=EXACT,
        ),
        Check(
            "drift: the branch of the hexagon",
            "Regret along the deformed hexagon at four probabilities of the last feature.",
            "within 1e-6 of the known values",
            worst,
            worst < 1e-6,
            group=EXACT,
        ),
        _pentagon_check(),
        _hysteresis_check(),
    ]


def _pentagon_check() -> Check:
    worst = 0.0
    for last in np.linspace(0.0, 0.9, 10):
        point = rungs.drifted_point(POINT_5, float(last))
        law = rungs.drifted_law(float(last))
        worst = max(worst, _steepest(lambda w, law=law: rungs.law_regret(w, law), point))
    return Check(
        "drift: the pentagon is exact",
        "Gradient of the regret at class 5, ten probabilities of the last feature from 0 to 0.9.",
        "below 1e-12",
        worst,
        worst < 1e-12,
        group=EXACT,
    )


def _hysteresis_check() -> Check:
    """Gradient descent from the noisy minimum, with the law on either side of where it ends."""
    noise = 1e-4 * jax.random.normal(jax.random.key(0), (2, NUM_FEATURES))

    def settle(label, start: float, last: float) -> tuple[str, float]:
        point = rungs.drifted_point(label, start)
        moved = {"W": point["W"] + noise, "b": point["b"]}
        _, regret = rungs.descend(moved, rungs.drifted_law(last), num_steps=DESCENT_STEPS)
        return _nearest(last, float(regret)), float(regret)

    found = {
        "up to 0.290": settle(POINT_5_PLUS, 0.29, 0.290),
        "up to 0.295": settle(POINT_5_PLUS, 0.29, 0.295),
        "down to 0.060": settle(POINT_6, 0.06, 0.060),
        "down to 0.058": settle(POINT_6, 0.06, 0.058),
    }
    expected = {"up to 0.290": "5+", "up to 0.295": "6", "down to 0.060": "6", "down to 0.058": "5"}
    classes = {way: name for way, (name, _) in found.items()}
    return Check(
        "drift: hysteresis",
        "Class reached by gradient descent as the last feature becomes more frequent, from 5+, and "
        "rarer, from 6.",
        "5+ until 0.290, then 6; 6 until 0.060, then 5",
        classes,
        classes == expected,
        "; ".join(f"{way}: regret {regret:.6f}" for way, (_, regret) in found.items()),
        EXACT,
    )


def _nearest(last: float, regret: float) -> str:
    """The class whose regret under the law is within 1e-6; "none" if there is none."""
    for label in LABELS:
        try:
            point = rungs.drifted_point(label, last)
        except ArithmeticError:
            continue
        if abs(float(rungs.law_regret(point, rungs.drifted_law(last))) - regret) < 1e-6:
            return str(label)
    return "none"


def _visitation_check() -> Check:
    worst, signs = 0.0, {}
    for tau, known in SHIFTED.items():
        visitation = visits.Visitation(tau, ACTION_SCALE)
        point = visits.visited_point(POINT_5, visitation)
        length = float(jnp.linalg.norm(point["W"][:, 0]))
        regret = float(visits.visitation_regret(point, visitation))
        found = (length, float(point["b"][0]), regret)
        worst = max(worst, *(abs(a - b) for a, b in zip(found, known, strict=True)))
        signs[tau] = signature_at(lambda w, v=visitation: visits.visitation_regret(w, v), point)
    return Check(
        "visitation: the pentagon shifts",
        "Length, bias and average regret of the shifted pentagon at tau = 0.5, 0.3, 0.25, and the "
        "signs (negative, zero, positive) of its Hessian.",
        "within 6e-6 of the known values, (0, 4, 14)",
        {"largest difference": worst, **{f"tau {t:g}": str(s) for t, s in signs.items()}},
        worst < 6e-6 and all(s == (0, 4, 14) for s in signs.values()),
        group=EXACT,
    )


def _hexagon_check() -> Check:
    point = visits.visited_point(POINT_6, VISITATION)

    def average_regret(params):
        return visits.visitation_regret(params, VISITATION)

    size, signs = _steepest(average_regret, point), signature_at(average_regret, point)
    return Check(
        "visitation: the hexagon stays",
        "Gradient of the average regret at the hexagon of the supervised loss, and the signs of "
        "its Hessian.",
        "below 1e-13, (0, 1, 17)",
        {"gradient": size, "signs": str(signs)},
        size < 1e-13 and signs == (0, 1, 17),
        group=EXACT,
    )


def _mask_check() -> Check:
    law = rungs.uniform_law(NUM_FEATURES, hidden=HIDDEN)
    worst = 0.0
    for label in tms.known_classes(NUM_FEATURES):
        if label.hull >= 5 and not label.negative:
            point = tms.critical_point(label, NUM_FEATURES)
            worst = max(worst, _steepest(lambda w: rungs.law_regret(w, law), point))
    return Check(
        "masks: points stay",
        "Gradient of the masked regret at classes 5, 5+ and 6 of the supervised loss.",
        "below 1e-12",
        worst,
        worst < 1e-12,
        group=EXACT,
    )


def _steepest(potential_fn: Callable, point: tms.Params) -> float:
    """Largest entry of the gradient, in size."""
    return float(jnp.abs(ravel_pytree(jax.grad(potential_fn)(point))[0]).max())

"""Checks that need no sampling: thresholds, branches, shifted points."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from slt_rl.difficulty.protocol import ACTION_SCALE, CLASSES, DEAD_BIAS, HIDDEN, NUM_FEATURES
from slt_rl.difficulty.rungs import VISITATION
from slt_rl.report.checks import Check
from slt_rl.validation.exact import signature_at
from toy_models import superposition as tms
from toy_models import superposition_memory as memory
from toy_models import superposition_rungs as rungs
from toy_models import superposition_visitation as visits

EXACT = "Exact points"
LABELS = tuple(tms.parse_class(name) for name in CLASSES)
THRESHOLD = 0.292556
EQUAL = (0.1080, 0.1085)
BRANCH = {0.06: 0.043163, 0.08: 0.045690, 0.25: 0.047180, 0.30: 0.045866}
SHIFTED = {0.5: (1.17022, -0.28207, 0.092725), 0.3: (1.16692, -0.27894, 0.117035),
           0.25: (1.15663, -0.26947, 0.126278)}  # fmt: skip
# From `THRESHOLD` by the scaling law that the tests of `superposition_rungs` derive.
AMPLITUDE_THRESHOLD = 1.374100
MEMORY_SIGNS = {"gains, 5": (0, 6, 18), "gains, 5+": (0, 3, 21), "gains, 6": (0, 2, 22),
                "matrix, 5": (2, 33, 19), "matrix, 5+": (4, 28, 22),
                "matrix, 6": (2, 28, 24)}  # fmt: skip
DESCENT_STEPS = 40_000
POINT_5, POINT_5_PLUS, POINT_6 = LABELS


def exact_checks() -> list[Check]:
    """Drift, visitation, masks and memory against their known values."""
    return [*_drift_checks(), _visitation_check(), _hexagon_check(), _mask_check(), _memory_check()]


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
        _amplitude_check(),
        *_hysteresis_checks(),
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


def _hysteresis_checks() -> list[Check]:
    """Gradient descent from the noisy minimum, with the law on either side of where it ends."""
    equal = 1 / NUM_FEATURES
    rarer = {
        "up to 0.290": _settle(POINT_5_PLUS, (0.29, 1.0), (0.290, 1.0)),
        "up to 0.295": _settle(POINT_5_PLUS, (0.29, 1.0), (0.295, 1.0)),
        "down to 0.060": _settle(POINT_6, (0.06, 1.0), (0.060, 1.0)),
        "down to 0.058": _settle(POINT_6, (0.06, 1.0), (0.058, 1.0)),
    }
    smaller = {
        "up to 1.36": _settle(POINT_5_PLUS, (equal, 1.36), (equal, 1.36)),
        "up to 1.39": _settle(POINT_5_PLUS, (equal, 1.36), (equal, 1.39)),
        "down to 0.43": _settle(POINT_6, (equal, 0.43), (equal, 0.43)),
        "down to 0.41": _settle(POINT_6, (equal, 0.43), (equal, 0.41)),
    }
    return [
        _hysteresis_check("drift: hysteresis", "more frequent", "rarer", rarer),
        _hysteresis_check("drift of amplitude: hysteresis", "larger", "smaller", smaller),
    ]


def _hysteresis_check(name: str, up: str, down: str, found: dict) -> Check:
    classes = {way: reached for way, (reached, _) in found.items()}
    ways = list(found)
    return Check(
        name,
        f"Class reached by gradient descent as the last feature becomes {up}, from 5+, and {down}, "
        "from 6.",
        f"5+ {ways[0]}, 6 {ways[1]}; 6 {ways[2]}, 5 {ways[3]}",
        classes,
        list(classes.values()) == ["5+", "6", "6", "5"],
        "; ".join(f"{way}: regret {regret:.6f}" for way, (_, regret) in found.items()),
        EXACT,
    )


def _settle(label, start: tuple[float, float], end: tuple[float, float]) -> tuple[str, float]:
    """Class and regret reached from a point of one law `(probability, amplitude)` under another."""
    noise = 1e-4 * jax.random.normal(jax.random.key(0), (2, NUM_FEATURES))
    point = rungs.drifted_point(label, start[0], amplitude=start[1])
    law = rungs.drifted_law(end[0], amplitude=end[1])
    moved = {"W": point["W"] + noise, "b": point["b"]}
    regret = float(rungs.descend(moved, law, num_steps=DESCENT_STEPS)[1])
    for candidate in LABELS:
        try:
            other = rungs.drifted_point(candidate, end[0], amplitude=end[1])
        except ArithmeticError:
            continue
        if abs(float(rungs.law_regret(other, law)) - regret) < 1e-6:
            return str(candidate), regret
    return "none", regret


def _amplitude_check() -> Check:
    found = rungs.dead_feature_amplitude()
    return Check(
        "drift of amplitude: 5+ loses stability",
        "Amplitude range of the last of equally frequent features at which two eigenvalues of the "
        "Hessian at 5+ cross zero; by a scaling law it follows from the probability above.",
        f"{AMPLITUDE_THRESHOLD} within 1e-5",
        found,
        abs(found - AMPLITUDE_THRESHOLD) < 1e-5,
        group=EXACT,
    )


def _memory_check() -> Check:
    """What a learned memory does to the points: signs of the Hessian of the regret."""
    found = {}
    for name, start in (("gains", jnp.ones(NUM_FEATURES)), ("matrix", jnp.eye(NUM_FEATURES))):
        for label in LABELS:
            point = tms.critical_point(label, NUM_FEATURES)
            if label == POINT_5:
                point = point | {"b": point["b"].at[-1].set(DEAD_BIAS)}
            point = point | {"memory": start}
            found[f"{name}, {label}"] = signature_at(memory.memory_regret, point)
    return Check(
        "memory: what is learned besides",
        "Signs (negative, zero, positive) of the Hessian of the regret where the memory is "
        "learned, one gain for each feature or a matrix.",
        "; ".join(f"{name}: {signs}" for name, signs in MEMORY_SIGNS.items()),
        {name: str(signs) for name, signs in found.items()},
        found == MEMORY_SIGNS,
        group=EXACT,
    )


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

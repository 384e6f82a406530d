"""Checks on exact potentials: closed forms, critical points, tabulated learning coefficients."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from slt_rl import LLCEstimate, estimate_llc, llc_curve
from slt_rl.report.checks import Check
from slt_rl.rl import Batch, GaussianPolicy, score_surrogate
from slt_rl.validation.protocol import ACTION_SCALE, NUM_FEATURES, Protocol
from slt_rl.validation.quadrature import loss_by_quadrature
from toy_models import superposition as tms

GROUP = "Exact potential"
CLASSES = (tms.PhaseClass(5, 0, 0), tms.PhaseClass(5, 1, 0), tms.PhaseClass(6, 0, 0))

# arXiv:2310.06301, appendix (polygons); levels by its loss formula. Given to the digits shown.
POLYGONS = {4: (1.0, 0.0), 5: (1.1704596391, -0.2822972831), 6: (1.3205263308, -0.6181351319)}
LEVELS = {
    (5, "4"): 0.0666667,
    (5, "4+"): 0.0566667,
    (5, "5"): 0.0158256,
    (6, "4"): 0.1111111,
    (6, "4+"): 0.1041667,
    (6, "4++"): 0.0972222,
    (6, "5"): 0.06874,
    (6, "5+"): 0.06180,
    (6, "6"): 0.0481923760,
}
# Independent MALA runs on the exact loss, 24 chains of 14,000 steps, none of which left its
# minimum: {(class, localization): {n: value of nbeta (E[L] - L*)}}, standard error at most 0.03.
FINITE = {
    ("5", 10.0): {500: 4.63, 1000: 5.44, 2000: 6.18, 100_000: 7.16},
    ("5", 100.0): {500: 1.67, 1000: 2.37, 2000: 3.19, 5000: 4.32, 20_000: 5.78, 100_000: 6.64},
    ("6", 10.0): {500: 5.54, 1000: 6.52, 2000: 7.26, 5000: 7.94, 20_000: 8.30, 100_000: 8.43},
    ("6", 100.0): {500: 2.02, 1000: 2.83, 2000: 3.74, 5000: 4.97, 20_000: 6.60, 100_000: 7.80},
}
FINITE_SEM = 0.03
# Strong enough that no chain drifts along the flat directions of class 5 into class 5+ (its dead
# bias is at -0.7, four standard deviations from zero), weak beside the curvature at nbeta = 1e5.
LIMIT_LOCALIZATION = 30.0


def closed_form_checks() -> list[Check]:
    """Closed forms against quadrature, and constants against published digits."""
    polygons = max(
        max(abs(found - known) for found, known in zip(tms.solve_polygon(k), values, strict=True))
        for k, values in POLYGONS.items()
    )
    levels = max(
        abs(tms.level(tms.parse_class(name), count) - known)
        for (count, name), known in LEVELS.items()
    )
    return [
        _quadrature_check(),
        Check(
            "polygons",
            "Length and bias of the regular 4-, 5- and 6-gon against their published digits.",
            "largest difference < 1e-6",
            polygons,
            polygons < 1e-6,
            group=GROUP,
        ),
        Check(
            "levels",
            "Loss of the classes for 5 and 6 features against the published levels.",
            "largest difference < 5.1e-6, half a unit of their last digit",
            levels,
            levels < 5.1e-6,
            group=GROUP,
        ),
        _six_digit_levels(),
    ]


def _quadrature_check() -> Check:
    generator = np.random.default_rng(0)
    closed_form = jax.jit(tms.population_loss)
    worst = 0.0
    for _ in range(50):
        count = int(generator.integers(2, 8))
        params = {"W": generator.normal(size=(2, count)), "b": generator.normal(size=count) / 2}
        law = {
            "probabilities": generator.dirichlet(np.ones(count)),
            "amplitudes": generator.uniform(0.5, 2, count),
            "output_weights": generator.uniform(0.5, 2, count),
        }
        exact = closed_form(params, **law)
        numeric = loss_by_quadrature(params["W"], params["b"], **law)
        worst = max(worst, abs(float(exact) - numeric))
    return Check(
        "closed form",
        "Closed-form population loss against quadrature between the kinks, 50 random networks of "
        "2 to 7 features with random probabilities, amplitudes, output weights.",
        "largest difference < 1e-9",
        worst,
        worst < 1e-9,
        group=GROUP,
    )


def _six_digit_levels() -> Check:
    """The level formula against the closed-form loss at the constructed point."""
    closed_form = jax.jit(tms.population_loss)
    worst = 0.0
    for count in (5, 6):
        for label in tms.known_classes(count):
            params = tms.critical_point(label, count)
            difference = abs(float(closed_form(params)) - tms.level(label, count))
            worst = max(worst, difference)
    return Check(
        "constructed points",
        "Closed-form loss at every constructed critical point of 5 and 6 features against the "
        "level formula of its class.",
        "largest difference < 1e-6",
        worst,
        worst < 1e-6,
        group=GROUP,
    )


def _points():
    points = [tms.critical_point(label, NUM_FEATURES) for label in CLASSES]
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *points)


def _population_target(params):
    del params
    return tms.population_loss


def measure_targets(key: jax.Array, protocol: Protocol) -> dict[str, np.ndarray]:
    """Estimates at `nbeta = 1e5` and at the tabulated temperatures, all steps automatic."""
    key_limit, key_finite = jax.random.split(key)
    curve = llc_curve(
        key_limit,
        _population_target,
        _points(),
        nbeta=1e5,
        localization=LIMIT_LOCALIZATION,
        num_chains=protocol.num_target_chains,
        tolerance=0.02,
        # One center at a time: the same program as for the rows of the table.
        chunk_size=1,
    )
    limit = {"mean": curve.mean, "sem": curve.sem, "verdict": np.array(curve.verdicts)}
    found = [
        _finite_estimate(jax.random.fold_in(key_finite, i), row, protocol.num_target_chains)
        for i, row in enumerate(_rows()[:: protocol.target_stride])
    ]
    finite = {
        "row": np.arange(len(_rows()))[:: protocol.target_stride],
        "mean": np.array([e.mean for e in found]),
        "sem": np.array([e.sem for e in found]),
        "verdict": np.array([e.verdict for e in found]),
    }
    return {f"limit_{k}": v for k, v in limit.items()} | {
        f"finite_{k}": v for k, v in finite.items()
    }


def _rows() -> list[tuple[str, float, int, float]]:
    """The table as rows `(class, localization, n, value)`."""
    return [(name, g, n, v) for (name, g), row in FINITE.items() for n, v in row.items()]


def _finite_estimate(key: jax.Array, row: tuple, num_chains: int) -> LLCEstimate:
    name, localization, n, _ = row
    point = tms.critical_point(tms.parse_class(name), NUM_FEATURES)
    curve = llc_curve(
        key,
        _population_target,
        jax.tree.map(lambda x: jnp.asarray(x)[None], point),
        nbeta=n / np.log(n),
        localization=localization,
        num_chains=num_chains,
        # Not longer: at n = 1e5 a chain leaves class 5 about once in 1e6 steps.
        num_draws=2000,
        num_burnin=1000,
    )
    return curve[0]


def target_checks(arrays: Mapping[str, np.ndarray]) -> list[Check]:
    """Estimates on the exact potential against exact and tabulated values."""
    checks = [_limit_check(arrays, i) for i in range(len(CLASSES))]
    rows = [_rows()[i] for i in arrays["finite_row"]]
    target = np.array([row[3] for row in rows])
    mean, sem = arrays["finite_mean"], arrays["finite_sem"]
    scores = (mean - target) / np.hypot(sem, FINITE_SEM)
    errors = np.abs(mean / target - 1)
    detail = "; ".join(
        f"{name} n={n} localization={g:g}: {m:.3f} ± {s:.3f} (target {v})"
        for (name, g, n, v), m, s in zip(rows, mean, sem, strict=True)
    )
    return [
        *checks,
        Check(
            "finite temperature, standard errors",
            f"Estimates at {len(target)} tabulated (class, n, localization) of classes 5 and 6.",
            "every difference within 3 combined standard errors",
            {"largest": float(np.abs(scores).max()), "spread of z": float(scores.std())},
            bool(np.all(np.abs(scores) < 3)),
            detail,
            GROUP,
        ),
        Check(
            "finite temperature, relative",
            "The same estimates, relative to the tabulated values.",
            "every difference within 5 %",
            float(errors.max()),
            bool(np.all(errors < 0.05)),
            group=GROUP,
        ),
    ]


def _limit_check(arrays: Mapping[str, np.ndarray], index: int) -> Check:
    label = CLASSES[index]
    known = tms.exact_llc(label, NUM_FEATURES)
    assert known is not None
    mean, sem = float(arrays["limit_mean"][index]), float(arrays["limit_sem"][index])
    error = mean / known[0] - 1
    return Check(
        f"learning coefficient of {label}",
        f"Estimate at nbeta = 1e5, localization {LIMIT_LOCALIZATION:g}, with automatic step at "
        f"class {label}.",
        f"{known[0]:g} within 3 %",
        {"estimate": mean, "sem": sem, "relative error": error},
        abs(error) < 0.03,
        f"verdict {arrays['limit_verdict'][index]}",
        GROUP,
    )


def signature(matrix: np.ndarray) -> tuple[int, int, int]:
    """Numbers of negative, zero and positive eigenvalues; zero within 1e-6 of the largest."""
    values = np.linalg.eigvalsh(matrix)
    small = 1e-6 * np.abs(values).max()
    negative, positive = int(np.sum(values < -small)), int(np.sum(values > small))
    return negative, len(values) - negative - positive, positive


def _hessian_at(potential_fn: Callable, params: tms.Params) -> jax.Array:
    """Hessian of a potential `params -> []` in the flattened parameters."""
    flat, unravel = ravel_pytree(params)
    return jax.hessian(lambda w: potential_fn(unravel(w)))(flat)


def signature_at(potential_fn: Callable, params: tms.Params) -> tuple[int, int, int]:
    """Signs of the Hessian of a potential `params -> []`, as `signature` counts them."""
    hessian = jax.jit(lambda w: _hessian_at(potential_fn, w))(params)
    return signature(np.asarray(hessian))


@jax.jit
@jax.vmap
def _surrogate_hessians(point: tms.Params) -> jax.Array:
    """Hessians of the score-function surrogate of each policy at its own parameters."""

    def surrogate(params):
        # -2 E<x - f_old, f_w> = L(w) - E|f_w - f_old|^2 + const: both terms in closed form.
        divergence = tms.population_kl(params, point, ACTION_SCALE)
        return tms.population_loss(params) - 2 * ACTION_SCALE**2 * divergence

    return _hessian_at(surrogate, point)


def control_checks(key: jax.Array) -> list[Check]:
    """Negative controls: the score surrogate is indefinite, and refused."""
    hessians = _surrogate_hessians(_points())
    signs = [signature(np.asarray(one)) for one in hessians]
    found = dict(zip(map(str, CLASSES), signs, strict=True))
    indefinite = all(n > 0 and p > 0 for n, _, p in found.values())
    refusal = _refusal(key)
    return [
        Check(
            "score surrogate, curvature",
            "Signs (negative, zero, positive) of the Hessian of the score-function surrogate at "
            "classes 5, 5+, 6, in closed form.",
            "indefinite at all three",
            {k: str(v) for k, v in found.items()},
            indefinite,
            group="Negative controls",
        ),
        Check(
            "score surrogate, refusal",
            "An estimate on the score-function surrogate without the explicit flag.",
            "refused with the reason",
            refusal,
            "wrong curvature" in refusal,
            group="Negative controls",
        ),
    ]


def _refusal(key: jax.Array) -> str:
    """The message with which an estimate on the score surrogate is refused, or what it returned."""
    point = jax.tree.map(jnp.asarray, tms.critical_point(CLASSES[2], NUM_FEATURES))
    key_batch, key_llc = jax.random.split(key)
    policy = GaussianPolicy(tms.forward, ACTION_SCALE)
    loss_fn, data = score_surrogate(policy, _acted(key_batch, point, policy))
    try:
        return str(estimate_llc(key_llc, loss_fn, point, data, num_draws=50, num_burnin=0))
    except ValueError as error:
        return str(error)


@functools.partial(jax.jit, static_argnums=2)
def _acted(key: jax.Array, point: tms.Params, policy: GaussianPolicy) -> Batch:
    """What a policy did in 256 states, the rewards less their mean as advantages."""
    key_states, key_action = jax.random.split(key)
    states = tms.dense_inputs(tms.sample_examples(key_states, 256, NUM_FEATURES), NUM_FEATURES)
    distribution = jax.vmap(lambda x: policy(point, x))(states)
    action = jax.vmap(lambda d, k: d.sample(k))(distribution, jax.random.split(key_action, 256))
    log_prob = jax.vmap(lambda d, a: d.log_prob(a))(distribution, action)
    reward = -jnp.sum((action - states) ** 2, axis=1)
    return Batch(states, action, log_prob, reward - reward.mean())

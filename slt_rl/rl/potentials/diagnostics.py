"""Whether a sampled potential may be used: noise against curvature, and the spread of weights."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from slt_rl.data import Dataset
from slt_rl.rl.drift import effective_sample_size

PyTree = Any

# Typical draws of which the worst must still have enough weights: with few, it is a matter of luck.
NUM_DRAWS = 32


@dataclasses.dataclass(frozen=True)
class ImportanceDiagnostics:
    """What speaks for and against a sampled regret; see `importance_diagnostics`.

    Attributes:
        noise_ratio: `nu = tr(H^-1 J)` at the center; infinite where noise has a direction without
            curvature.
        rank: Rank of `H`, twice the learning coefficient of the regular part.
        expected_bias: `nbeta nu / (2 n)`, by how much noise lowers the estimate to first order.
        center_ess: Effective sample size of the importance weights at the center.
        chain_ess: The smallest over draws of the local posterior in its quadratic approximation.
        usable: True if nothing was found against it.
        reasons: What was found, in words.
    """

    noise_ratio: float
    rank: int
    expected_bias: float
    center_ess: float
    chain_ess: float
    usable: bool
    reasons: tuple[str, ...]


def importance_diagnostics(
    key: jax.Array,
    loss_fn: Any,
    data: Dataset,
    *,
    params: PyTree,
    nbeta: float,
    potential_fn: Callable[[PyTree], jax.Array] | None = None,
    tolerance: float = 0.1,
    min_ess: float = 10.0,
) -> ImportanceDiagnostics:
    """Says whether an importance-weighted regret may be used for a learning coefficient.

    With `H` the Hessian of the mean loss and `J` the covariance of the gradient of one example, a
    regular minimum known exactly gives, in the mean over data sets,

        E llc = d/2 - (beta/2) tr(H^-1 J),    beta = nbeta/n

    since the mean gradient, of covariance `J/n`, lowers the minimum of the sampled loss below its
    value at the center by `tr(H^-1 J)/(2 n)`. For a log-likelihood `J = H` and the second term is
    harmless; the noise of rewards and weights is arbitrary. Where the regret is flatter than the
    policy, `H` vanishes in a direction in which `J` does not: `nu` is infinite and no number of
    examples helps. Dense: for some hundred parameters at most.

    The potential is refused if `beta nu > tolerance rank(H)`, if `H` has a negative direction, if
    the effective sample size of the weights is below the floor at the center or on a typical draw
    `w - w* ~ N(0, (nbeta H)^-1)`, or if their mean at the center is below one by five standard
    errors: it is the share of the policy on actions that the behavior may take.

    Args:
        key: Random key, consumed.
        loss_fn: From `importance_regret`, `trajectory_regret` or `per_decision_regret`.
        data: Its data set.
        params: The center.
        nbeta: Inverse temperature of the estimate.
        potential_fn: Exact potential whose Hessian to take, if known; the sampled Hessian is itself
            noisy.
        tolerance: Largest relative bias.
        min_ess: Floor of the effective sample size.

    Returns:
        The diagnostics.

    Raises:
        ValueError: If `loss_fn` has no importance weights or `nbeta` is not positive.
    """
    if not callable(getattr(loss_fn, "importance_weights", None)):
        raise ValueError(f"loss_fn: got {loss_fn!r}, expected one with importance weights")
    if not nbeta > 0:
        raise ValueError(f"nbeta: got {nbeta}, expected a positive number")
    hessian, covariance, moves = _curvature_and_noise(key, loss_fn, data, params, potential_fn)
    eigenvalues, vectors = np.linalg.eigh(hessian)
    noise = np.einsum("ij,ik,kj->j", vectors, covariance, vectors)
    stiff = np.abs(eigenvalues) > 1e-6 * max(np.abs(eigenvalues).max(), 1e-300)
    # Rounding leaves a trace of noise in directions that nothing depends on.
    loose = bool(np.any(noise[~stiff] > 1e-9 * max(noise.max(), 1e-300)))
    ratio = math.inf if loose else float(np.sum(noise[stiff] / eigenvalues[stiff]))
    scale = np.where(stiff & (eigenvalues > 0), eigenvalues, np.inf)
    draws = (moves / np.sqrt(nbeta * scale)) @ vectors.T
    weights = _weights_at(loss_fn, data, params, draws)
    sizes = [_ess_or_zero(w) for w in weights]
    center_ess, chain_ess = sizes[0], min(sizes[1:])
    rank = int(np.sum(stiff))
    beta = nbeta / len(data)
    reasons = _reasons(beta * ratio, rank, eigenvalues[stiff], tolerance)
    reasons += _few_weights(center_ess, chain_ess, min_ess) + _lost_support(weights[0])
    return ImportanceDiagnostics(
        noise_ratio=ratio,
        rank=rank,
        expected_bias=beta * ratio / 2,
        center_ess=center_ess,
        chain_ess=chain_ess,
        usable=not reasons,
        reasons=reasons,
    )


def _reasons(bias: float, rank: int, curvatures: np.ndarray, tolerance: float) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    if np.any(curvatures < 0):
        found += (f"curvature {curvatures.min():.3g} < 0: the center is no minimum",)
    if math.isinf(bias):
        found += (
            "noise without curvature: the sampled regret is flatter than the policy and has the "
            "wrong learning coefficient however large n is",
        )
    elif not bias <= tolerance * rank:
        found += (
            f"beta nu = {bias:.3g} exceeds {tolerance:g} of the rank {rank}: noise biases the "
            "estimate; lower nbeta, or evaluate exactly",
        )
    return found


def _curvature_and_noise(key, loss_fn, data, params, potential_fn):
    """Hessian `[d, d]`, covariance of one gradient `[d, d]`, and standard normal moves."""
    flat, unflatten = jax.flatten_util.ravel_pytree(params)

    def mean_loss(w):
        if potential_fn is not None:
            return potential_fn(unflatten(w))
        return data.mean(loss_fn(unflatten(w), data.examples))

    def losses(w):
        values = loss_fn(unflatten(w), data.examples)
        return values if data.weights is None else values * jnp.asarray(data.weights)

    # Column by column: the Jacobian [n, d] is never stored as a batch of backward passes.
    gradients = jax.jit(jax.jacfwd(losses))(flat)
    centered = gradients - jnp.mean(gradients, axis=0)
    covariance = centered.T @ centered / len(data)
    moves = jax.random.normal(key, (NUM_DRAWS, flat.size), flat.dtype)
    hessian = jax.jit(jax.hessian(mean_loss))(flat)
    return tuple(np.asarray(x, np.float64) for x in (hessian, covariance, moves))


def _weights_at(loss_fn, data, params, draws) -> np.ndarray:
    """Importance weights `[1 + draws, n]`, at the center first."""
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    points = jnp.concatenate([flat[None], flat + jnp.asarray(draws, flat.dtype)])
    weights = jax.jit(jax.vmap(lambda w: loss_fn.importance_weights(unflatten(w), data.examples)))(
        points
    )
    return np.asarray(weights, np.float64)


def _few_weights(center: float, chain: float, floor: float) -> tuple[str, ...]:
    places = (("at the center", center), ("on a draw of the chain", chain))
    return tuple(
        f"effective sample size of the weights {ess:.3g} {place}"
        for place, ess in places
        if ess < floor
    )


def _lost_support(weights: np.ndarray) -> tuple[str, ...]:
    """The mean weight is one wherever the behavior may take every action of the policy."""
    mean, sem = weights.mean(), weights.std() / len(weights) ** 0.5
    # Rounding of logarithms is no lost action.
    if not mean < 1 - 5 * sem - 1e-3:
        return ()
    return (
        f"mean of the weights {mean:.3g} at the center: the policy takes actions that were never "
        "tried, and no weight stands for them; collect data with them",
    )


def _ess_or_zero(weights: np.ndarray) -> float:
    """Effective sample size; zero if the weights have left the finite numbers or vanish."""
    if not np.all(np.isfinite(weights)) or not np.any(weights > 0):
        return 0.0
    return effective_sample_size(weights)

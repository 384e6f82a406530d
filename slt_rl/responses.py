r"""Covariances of the posterior and what they mean: float64 NumPy on recorded traces.

Traces have axes `[chain, draw, ...]`. Every result carries a standard error from a jackknife that
leaves out one batch of consecutive draws at a time, ten batches a chain. It knows autocorrelation
as far as a batch is longer than the memory of the chain.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Batches of a chain: few, since one must be longer than the memory of the chain. Those of
# `diagnostics.effective_sample_size` are more, for it takes their autocorrelation into account.
NUM_BATCHES = 10


class Statistic(NamedTuple):
    """Numbers from chains.

    Args:
        value: `[...]`, the estimates.
        sem: `[...]`, their standard errors.
    """

    value: np.ndarray
    sem: np.ndarray


def jackknife(statistic: Callable, *batch_means: np.ndarray) -> Statistic:
    r"""A function of expectations, its bias removed, and its standard error.

    With `B` batches, `s` the function of all draws' means and `s_b` without batch `b`:

        value = B s - (B - 1) mean_b s_b,   sem^2 = (B - 1)/B sum_b (s_b - mean s_b)^2

    Args:
        statistic: `statistic(*means) -> [...]`, each mean `[...]`.
        batch_means: `[batch, ...]` each, from `batch_means`.

    References:
        Miller, "The jackknife - a review", Biometrika 61 (1974).
    """
    count = len(batch_means[0])
    whole = np.asarray(statistic(*(m.mean(axis=0) for m in batch_means)))
    replicates = np.stack(
        [
            statistic(*((m.mean(axis=0) * count - m[b]) / (count - 1) for m in batch_means))
            for b in range(count)
        ]
    )
    center = replicates.mean(axis=0)
    spread = (count - 1) / count * np.sum((replicates - center) ** 2, axis=0)
    return Statistic(count * whole - (count - 1) * center, np.sqrt(spread))


def batch_means(trace: np.ndarray) -> np.ndarray:
    """Means of consecutive draws, `[chain * batch, ...]`; all chains pooled.

    Args:
        trace: `[chain, draw, ...]`.

    Raises:
        ValueError: if there are fewer than 4 draws.
    """
    return _batches(trace).mean(axis=1)


def _batches(trace: np.ndarray) -> np.ndarray:
    """Cuts `[chain, draw, ...]` into `[batch, draw, ...]`; draws left over go from the start."""
    trace = np.asarray(trace, np.float64)
    if trace.ndim < 2 or trace.shape[0] < 1 or trace.shape[1] < 4:
        raise ValueError(
            "trace: expected a [chain, draw, ...] array with at least 4 draws, "
            f"got shape {trace.shape}"
        )
    num_batches = min(NUM_BATCHES, trace.shape[1] // 2)
    length = trace.shape[1] // num_batches
    kept = trace[:, trace.shape[1] - num_batches * length :]
    return kept.reshape(-1, length, *trace.shape[2:])


class _Moments(NamedTuple):
    """Batch means of two centered traces, their squares and their products."""

    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    yy: np.ndarray
    xy: np.ndarray


def _moments(first: np.ndarray, second: np.ndarray) -> _Moments:
    x, y = _flat_batches("first", first), _flat_batches("second", second)
    if np.shape(first)[:2] != np.shape(second)[:2]:
        raise ValueError(
            f"second: expected the [chain, draw] of first, {np.shape(first)[:2]}, "
            f"got {np.shape(second)[:2]}"
        )
    # Covariances do not depend on the origin; near zero no digits are lost.
    x, y = x - x.mean(axis=(0, 1)), y - y.mean(axis=(0, 1))
    products = np.matmul(x.transpose(0, 2, 1), y) / x.shape[1]
    return _Moments(
        x.mean(axis=1), y.mean(axis=1), (x**2).mean(axis=1), (y**2).mean(axis=1), products
    )


def _flat_batches(name: str, trace: np.ndarray) -> np.ndarray:
    """`[batch, draw, k]`, from a trace `[chain, draw]` or `[chain, draw, k]`."""
    if np.ndim(trace) not in (2, 3):
        raise ValueError(
            f"{name}: expected [chain, draw] or [chain, draw, k], got shape {np.shape(trace)}"
        )
    batches = _batches(trace)
    return batches if batches.ndim == 3 else batches[:, :, None]


def _shaped(statistic: Statistic, first: np.ndarray, second: np.ndarray) -> Statistic:
    """Drops the axes that a trace without components does not have."""
    shape = np.shape(first)[2:] + np.shape(second)[2:]
    return Statistic(statistic.value.reshape(shape), statistic.sem.reshape(shape))


def _covariance(x, y, xx, yy, xy):
    return xy - x[:, None] * y


def _correlation(x, y, xx, yy, xy):
    scale = np.sqrt((xx - x**2)[:, None] * (yy - y**2))
    return (xy - x[:, None] * y) / np.where(scale > 0, scale, np.nan)


def covariance(first: np.ndarray, second: np.ndarray) -> Statistic:
    """`Cov[first, second]` over the draws of all chains.

    Args:
        first: `[chain, draw]` or `[chain, draw, a]`.
        second: `[chain, draw]` or `[chain, draw, b]`, of the same draws.

    Returns:
        `[a, b]`; an axis that a trace lacks is left out.
    """
    return _shaped(jackknife(_covariance, *_moments(first, second)), first, second)


def correlation(first: np.ndarray, second: np.ndarray) -> Statistic:
    """Pearson correlation, as `covariance`; NaN where a trace is constant."""
    return _shaped(jackknife(_correlation, *_moments(first, second)), first, second)


def susceptibility(observable: np.ndarray, perturbation: np.ndarray) -> Statistic:
    r"""Response of an observable to a change of the data, per unit of `nbeta`.

        chi = (1/nbeta) d E[phi] / dh = -Cov[phi, dL]   where L_h = L + h dL

    For a component `C` of the parameters draw from the posterior restricted to it
    (`slt_rl.observables.restrict`), with `phi = L - L(w*)`.

    Args:
        observable: `phi`, `[chain, draw]` or `[chain, draw, a]`.
        perturbation: `dL`, `[chain, draw]` or `[chain, draw, b]`, of the same draws.

    References:
        arXiv:2504.18274.
    """
    value, sem = covariance(observable, perturbation)
    return Statistic(-value, sem)


def sample_susceptibility(observable: np.ndarray, losses: np.ndarray) -> Statistic:
    r"""Susceptibility to putting more weight on one example: `chi_x = -Cov[phi, l_x - L]`.

    `L` is the mean of the losses given, so the values sum to zero.

    Args:
        observable: `phi`, `[chain, draw]`.
        losses: `[chain, draw, n]` per-example losses of the same draws.

    Returns:
        `[n]`.
    """
    losses = np.asarray(losses, np.float64)
    return susceptibility(observable, losses - losses.mean(axis=2, keepdims=True))


def group_susceptibility(
    observable: np.ndarray, losses: np.ndarray, *, before: np.ndarray, after: np.ndarray
) -> Statistic:
    r"""Susceptibility to the distribution of groups or levels, `-Cov[phi, L_after - L_before]`.

    Times `nbeta` it is the derivative of `E[phi]` along `(1 - h) before + h after`.

    Args:
        observable: `phi`, `[chain, draw]`.
        losses: `[chain, draw, group]`, mean loss or regret of each group.
        before: `[group]`, the distribution over groups that was sampled.
        after: `[group]`, the one to move towards.

    Raises:
        ValueError: if a distribution does not have one probability for each group, summing to 1.
    """
    losses = np.asarray(losses, np.float64)
    for name, weights in (("before", before), ("after", after)):
        weights = np.asarray(weights, np.float64)
        shaped = weights.shape == losses.shape[2:] and np.all(weights >= 0)
        if not shaped or abs(weights.sum() - 1) > 1e-6:
            raise ValueError(
                f"{name}: expected {losses.shape[2:]} probabilities that sum to 1, got {weights}"
            )
    return susceptibility(observable, losses @ (np.asarray(after) - np.asarray(before)))


def two_chain_susceptibility(
    observable: np.ndarray, restricted_losses: np.ndarray, full_losses: np.ndarray
) -> Statistic:
    r"""Per-sample susceptibility of a component from two posteriors.

        chi_x = E_r[phi (L - l_x)] - E_r[phi] E_f[L - l_x],   phi = L - L(w*) under r

    with `r` the posterior restricted to the component and `f` the full one. It is the
    susceptibility of the full posterior to within a factor that does not depend on the sample:
    compare across samples only.

    Args:
        observable: `phi`, `[chain, draw]` of the restricted posterior.
        restricted_losses: `[chain, draw, n]` per-example losses of the same draws.
        full_losses: `[chain, draw, n]` of draws of the full posterior.

    Returns:
        `[n]`.

    References:
        arXiv:2504.18274, in the form of the code published with it.
    """
    gaps = [
        losses.mean(axis=2, keepdims=True) - losses
        for losses in (np.asarray(x, np.float64) for x in (restricted_losses, full_losses))
    ]
    phi = np.asarray(observable, np.float64)[..., None]
    joint, single, full = batch_means(phi * gaps[0]), batch_means(phi), batch_means(gaps[1])
    level = full.mean(axis=0)
    first = jackknife(lambda xy, x: xy - x * level, joint, single)
    second = jackknife(lambda y: single.mean(axis=0) * y, full)
    return Statistic(first.value, np.hypot(first.sem, second.sem))


def bayesian_influence(losses: np.ndarray, observable: np.ndarray) -> Statistic:
    r"""Local Bayesian influence `BIF(z_i, phi) = -Cov(l_i, phi)`.

    `nbeta / n` times it is the derivative of `E[phi]` by the weight of example `i` (mean one). On
    a quadratic it is the influence function damped by the localization, `(H + gamma I)^-1`.
    Its normalized form is `-correlation(losses, observable)`.

    Args:
        losses: `[chain, draw, n]` per-example losses.
        observable: `[chain, draw]` or `[chain, draw, b]`, of the same draws.

    Returns:
        `[n]` or `[n, b]`.

    References:
        arXiv:2509.26544.
    """
    return susceptibility(losses, observable)


def loss_kernel(losses: np.ndarray) -> Statistic:
    """The loss kernel `K_ij = Cov(l_i, l_j)`; normalized it is `correlation(losses, losses)`.

    Args:
        losses: `[chain, draw, n]` per-example losses. The jackknife holds `[batch, n, n]` numbers.

    Returns:
        `[n, n]`.

    References:
        arXiv:2509.26537.
    """
    return covariance(losses, losses)

r"""How well the posterior predicts and how far it depends on the data, from per-example losses.

Plain float64 NumPy on `[chain, draw, n]` losses `l_i(w) = -log p(z_i | w)` of draws from
`exp(-nbeta L(w))`, `L = (1/n) sum_i l_i`; localization widens or narrows nothing in the formulas,
it is part of the posterior they describe.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from slt_rl.responses import Statistic, batch_means, jackknife


def _check_losses(losses: np.ndarray) -> np.ndarray:
    losses = np.asarray(losses, np.float64)
    if losses.ndim != 3:
        raise ValueError(f"losses: expected [chain, draw, n], got shape {losses.shape}")
    return losses


def _check_mean_loss(mean_loss: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    mean_loss = np.asarray(mean_loss, np.float64)
    if mean_loss.shape != shape:
        raise ValueError(
            f"mean_loss: expected the [chain, draw] of excess_losses, {shape}, "
            f"got {mean_loss.shape}"
        )
    return mean_loss


def _centered_moments(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean loss of each example, and batch means of what is left and of its square."""
    center = losses.mean(axis=(0, 1))
    rest = losses - center
    return center, batch_means(rest), batch_means(rest**2)


def singular_fluctuation(losses: np.ndarray, nbeta: float) -> Statistic:
    r"""The singular fluctuation `nu = (beta/2) V`, `V = sum_i Var[l_i]`, `beta = nbeta / n`.

    For a regular, realizable model it tends to `d/2`. Exact losses only: minibatch noise adds
    to the variance.

    Args:
        losses: `[chain, draw, n]`.
        nbeta: inverse temperature of the draws.

    Returns:
        `[]`.

    References:
        Watanabe, "Asymptotic equivalence of Bayes cross validation and widely applicable
        information criterion in singular learning theory", JMLR 11 (2010).
    """
    losses = _check_losses(losses)
    _, first, second = _centered_moments(losses)
    beta = nbeta / losses.shape[2]
    return jackknife(lambda m, s: beta / 2 * np.sum(s - m**2), first, second)


class WAIC(NamedTuple):
    """The widely applicable information criterion, in nats per example.

    Args:
        waic: `T + beta V / n`, an estimate of the generalization loss.
        training_loss: `T = -(1/n) sum_i log E[exp(-l_i)]`.
        functional_variance: `V = sum_i Var[l_i]`.
    """

    waic: Statistic
    training_loss: Statistic
    functional_variance: Statistic


def waic(losses: np.ndarray, nbeta: float) -> WAIC:
    r"""WAIC of the posterior `exp(-beta sum_i l_i)`, `beta = nbeta / n`.

        WAIC = T + beta V / n,   T = -(1/n) sum_i log E[exp(-l_i)],   V = sum_i Var[l_i]

    Args:
        losses: `[chain, draw, n]` negative log-likelihoods, normalizing constants included.
        nbeta: inverse temperature of the draws; `n` for the Bayes posterior.

    References:
        Watanabe, JMLR 11 (2010).
    """
    losses = _check_losses(losses)
    num_examples = losses.shape[2]
    center, first, second = _centered_moments(losses)
    likelihood = batch_means(np.exp(center - losses))

    def training(p):
        return np.mean(center - np.log(p))

    def variance(m, s):
        return np.sum(s - m**2)

    def criterion(p, m, s):
        return training(p) + nbeta / num_examples**2 * variance(m, s)

    return WAIC(
        jackknife(criterion, likelihood, first, second),
        jackknife(training, likelihood),
        jackknife(variance, first, second),
    )


def weight_response(
    excess_losses: np.ndarray, nbeta: float, *, mean_loss: np.ndarray | None = None
) -> Statistic:
    r"""Derivative of the learning coefficient by the weight of each example, by linear response.

        d llc / d omega_i = (nbeta/n) E[l_i - l_i(w*)] - (nbeta^2/n) Cov[L, l_i]

    at `omega_i = 1`, `nbeta` and the tether fixed. `w*` may follow the data: at a minimum its
    shift changes nothing to first order, but through the localization. If the data have
    weights, multiply each loss by its weight first.

    Args:
        excess_losses: `[chain, draw, n]`, `l_i(w) - l_i(w*)`.
        nbeta: inverse temperature of the draws.
        mean_loss: `[chain, draw]`, `L(w) - L(w*)` over all examples, where `excess_losses` are of
            a sample of `n` of them; without it their own mean, right where they are all.

    Returns:
        `[n]`.
    """
    response_fn, moments = _response(excess_losses, nbeta, mean_loss)
    return jackknife(response_fn, *moments)


def _response(
    excess_losses: np.ndarray, nbeta: float, mean_loss: np.ndarray | None
) -> tuple[Callable, tuple[np.ndarray, ...]]:
    """The response as a function of moments, and their batch means."""
    losses = nbeta * _check_losses(excess_losses)
    center = losses.mean(axis=(0, 1))
    rest = losses - center
    if mean_loss is None:
        total = rest.mean(axis=2, keepdims=True)
    else:
        total = nbeta * _check_mean_loss(mean_loss, losses.shape[:2])[..., None]
        total -= total.mean()

    def response_fn(single, mean, product):
        return (center + single - (product - mean * single)) / losses.shape[2]

    return response_fn, (batch_means(rest), batch_means(total), batch_means(total * rest))


class DataSetError(NamedTuple):
    """How far the learning coefficient would move with another sample of the data.

    Args:
        sd: the standard deviation; 0 if it cannot be told from Monte-Carlo noise.
        variance: `sd^2` with the noise taken off, not clamped: negative means unresolved.
        variance_sem: its standard error.
    """

    sd: float
    variance: float
    variance_sem: float


def data_set_error(
    excess_losses: np.ndarray, nbeta: float, *, mean_loss: np.ndarray | None = None
) -> DataSetError:
    r"""Data-set error of the learning coefficient by the infinitesimal jackknife.

        sd^2 = sum_i (D_i - mean D)^2,   D_i = d llc / d omega_i (see `weight_response`)

    for independent examples. The noise of each `D_i` would add to the sum; the jackknife over
    batches of draws takes it off.

    From a sample of `m` of `n` examples the variance is `n/m` times that of all. Give the mean loss
    of all with it: the sample's own would add `nbeta^2 d/m (1/m - 1/n)` in a regular model.

    Args:
        excess_losses: `[chain, draw, n]`, `l_i(w) - l_i(w*)`.
        nbeta: inverse temperature of the draws.
        mean_loss: as in `weight_response`.

    References:
        Efron, "Jackknife-after-bootstrap standard errors and influence functions", JRSS B 54
        (1992); Giordano and Broderick, "The Bayesian infinitesimal jackknife for variance",
        arXiv:2305.06466.
    """
    response_fn, moments = _response(excess_losses, nbeta, mean_loss)

    def sum_of_squares(*means):
        response = response_fn(*means)
        return np.sum((response - response.mean()) ** 2)

    value, sem = jackknife(sum_of_squares, *moments)
    return DataSetError(float(np.sqrt(np.maximum(value, 0))), float(value), float(sem))

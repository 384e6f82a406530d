r"""Numbers from traces: float64 NumPy on `[chain, draw]` arrays, usable on traces from any tool.

Every estimator takes losses of draws from `p(w) ~ exp(-nbeta L(w) - localization/2 |w-w*|^2)`.
"""

from typing import NamedTuple

import numpy as np

from slt_rl.diagnostics import check_trace, effective_sample_size


class Estimate(NamedTuple):
    """A number from chains.

    Args:
        mean: the estimate.
        sem: its standard error.
        per_chain: `[chain]`, the estimate from each chain alone.
        ess: effective number of independent draws behind `mean`.
    """

    mean: float
    sem: float
    per_chain: np.ndarray
    ess: float


def mean_estimate(values: np.ndarray) -> Estimate:
    """The mean of `[chain, draw]` values with a standard error that knows autocorrelation.

    `sem = sd / sqrt(ESS)`, with the spread and ESS pooled over chains, so that chains that
    disagree widen it.

    Args:
        values: `[chain, draw]`.

    Raises:
        ValueError: if `values` is not a `[chain, draw]` array with at least 4 draws.
    """
    values = check_trace(values)
    per_chain = values.mean(axis=1)
    mean = float(per_chain.mean())
    if not np.all(np.isfinite(values)):
        return Estimate(float("nan"), float("nan"), per_chain, 0.0)
    ess = effective_sample_size(values)
    return Estimate(mean, float(values.std() / np.sqrt(ess)), per_chain, ess)


def mean_llc(excess_loss: np.ndarray, nbeta: float) -> Estimate:
    r"""The mean estimator `nbeta (E[L(w)] - L(w*))`.

    Args:
        excess_loss: `[chain, draw]`, `L(w) - L(w*)`, paired on the same examples for minibatches.
        nbeta: inverse temperature.

    References:
        Lau et al., arXiv:2308.12108; Watanabe, "A widely applicable Bayesian information
        criterion", arXiv:1208.6338.

    Example:
        >>> import numpy as np
        >>> excess = np.random.default_rng(0).chisquare(4, (4, 1000)) / (2 * 50.0)
        >>> abs(mean_llc(excess, nbeta=50.0).mean - 2.0) < 0.1
        True
    """
    return mean_estimate(nbeta * check_trace(excess_loss))


def variance_llc(excess_loss: np.ndarray, nbeta: float) -> Estimate:
    r"""The variance estimator `nbeta^2 Var[L(w)]`; it needs no `L(w*)`.

    At finite temperature it is not the mean estimator's value: they differ by
    `d lambda_hat / d log nbeta`. Valid for full-data losses: minibatch noise adds to the variance.

    Args:
        excess_loss: `[chain, draw]`, losses up to a constant.
        nbeta: inverse temperature.

    References:
        Imai, "Estimating real log canonical thresholds", arXiv:1906.01341.
    """
    losses = nbeta * check_trace(excess_loss)
    deviations = (losses - losses.mean()) ** 2
    return mean_estimate(deviations)


def two_temperature_llc(
    losses_1: np.ndarray, losses_2: np.ndarray, *, nbeta_1: float, nbeta_2: float
) -> Estimate:
    r"""The two-temperature estimator; it needs no `L(w*)`, so `w*` need not be a minimum.

        (E_1[L] - E_2[L]) / (1/nbeta_1 - 1/nbeta_2)

    Args:
        losses_1: `[chain, draw]` losses (up to a constant common to both) drawn at `nbeta_1`.
        losses_2: the same at `nbeta_2`.
        nbeta_1: first inverse temperature.
        nbeta_2: second inverse temperature, different from the first.

    Raises:
        ValueError: if the temperatures are equal.

    References:
        Watanabe, arXiv:1208.6338, corollary 3.
    """
    if nbeta_1 == nbeta_2:
        raise ValueError(f"nbeta_2: expected a value different from nbeta_1, got {nbeta_2}")
    gap = 1 / nbeta_1 - 1 / nbeta_2
    first, second = mean_estimate(losses_1), mean_estimate(losses_2)
    mean = (first.mean - second.mean) / gap
    sem = float(np.hypot(first.sem, second.sem)) / abs(gap)
    num_chains = min(len(first.per_chain), len(second.per_chain))
    per_chain = (first.per_chain[:num_chains] - second.per_chain[:num_chains]) / gap
    return Estimate(mean, sem, per_chain, min(first.ess, second.ess))


def temperature_slope(excess_loss: np.ndarray, nbeta: float) -> float:
    r"""The slope `d log lambda_hat / d log nbeta` by linear response.

    It is `1 - nbeta^2 Var[L] / lambda_hat`, from `d E[L] / d nbeta = -Var[L]`. Zero where the
    learning coefficient has converged in temperature.
    """
    losses = nbeta * check_trace(excess_loss)
    return float(1 - losses.var() / losses.mean())


def localization_slope(
    excess_loss: np.ndarray, squared_distance: np.ndarray, *, nbeta: float, localization: float
) -> float:
    r"""The slope `d log lambda_hat / d log localization` by linear response.

    From `d E[L] / d localization = -Cov[L, |w-w*|^2] / 2`. It is 0 at a plateau and -1 where
    the localization alone decides.
    """
    losses = nbeta * check_trace(excess_loss)
    distances = check_trace(squared_distance)
    covariance = np.mean((losses - losses.mean()) * (distances - distances.mean()))
    return float(-localization / 2 * covariance / losses.mean())


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


def data_set_error(excess_losses: np.ndarray, nbeta: float, num_examples: int) -> float:
    r"""Standard error of `lambda_hat` over data sets, by the infinitesimal jackknife.

    With weights `omega_i` on the examples, linear response of both the loss and the posterior is

        g_i = d lambda_hat / d omega_i = (nbeta/n) (E[l_i - l_i(w*)] - nbeta Cov[L, l_i])

    and the variance over data sets of the same size is the sum of the squared `g_i - mean(g)`. The
    squares are products of two estimates from different chains, so that their noise has mean zero.

    Args:
        excess_losses: `[chain, draw, example]`, `l_i(w) - l_i(w*)` at draws far apart.
        nbeta: inverse temperature.
        num_examples: size `n` of the data set, if `example` is a sample of it.

    Returns:
        The standard error, in units of lambda; zero if it is below its own noise.

    References:
        Efron, "Jackknife-after-bootstrap standard errors", JRSS B 54 (1992); Giordano, Broderick,
        "The Bayesian infinitesimal jackknife for variance", arXiv:2305.06466.
    """
    losses = np.asarray(excess_losses, np.float64)
    if losses.shape[0] < 2:
        losses = losses.reshape(2, -1, losses.shape[-1])

    def response(part):
        part = part.reshape(-1, part.shape[-1])
        total = part.mean(axis=1)
        covariance = (total - total.mean()) @ part / (len(part) - 1)
        gradient = nbeta / num_examples * (part.mean(axis=0) - nbeta * covariance)
        return gradient - gradient.mean()

    product = float(np.mean(response(losses[::2]) * response(losses[1::2])))
    return float(np.sqrt(max(product * num_examples, 0.0)))

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

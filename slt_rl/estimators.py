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


def virial_llc(
    virial: np.ndarray, squared_distance: np.ndarray, *, sizes: np.ndarray, localization: float
) -> Estimate:
    r"""The virial estimator `nbeta/2 E[(w - w*) . grad L]`; it needs no `L(w*)`.

        nbeta (w - w*) . grad L = (w - w*) . grad U - localization |w - w*|^2

    Equal to the mean estimator draw by draw where `L - L(w*)` is quadratic, `p/2` times it where
    it is homogeneous of degree `p`: the ratio of the two is half an effective degree.

    Args:
        virial: `[chain, draw, leaf]`, `(w - w*) . grad U` per parameter of the leaf.
        squared_distance: `[chain, draw]`, `|w - w*|^2`.
        sizes: `[leaf]`, number of parameters of each leaf, in the order of `jax.tree.leaves`.
        localization: strength of the tether.

    Raises:
        ValueError: if there is not one size for each leaf.
    """
    virial = np.asarray(virial, np.float64)
    sizes = np.asarray(sizes)
    if virial.ndim != 3 or sizes.shape != virial.shape[2:]:
        raise ValueError(
            f"sizes: expected one for each leaf of virial {virial.shape}, got shape {sizes.shape}"
        )
    return mean_estimate((virial @ sizes - localization * check_trace(squared_distance)) / 2)


def minibatch_variance_llc(minibatch_losses: np.ndarray, nbeta: float) -> Estimate:
    r"""The variance estimator from minibatch losses (SIVE); it needs no `L(w*)`.

        nbeta^2 (Var_m[Lbar_m] - mean_m[s_m^2] / N)

    with `Lbar_m` and `s_m^2` the mean and sample variance of the `N` minibatch losses at draw `m`:
    what the choice of minibatches adds to the variance is taken off. Not clamped: a negative value
    is evidence that noise decides.

    Args:
        minibatch_losses: `[chain, draw, N]`, losses of `N >= 2` independent minibatches at a draw.
        nbeta: inverse temperature.

    Raises:
        ValueError: if there are fewer than two minibatches a draw.

    References:
        arXiv:2606.22389, without its clamp at zero.
    """
    losses = nbeta * np.asarray(minibatch_losses, np.float64)
    if losses.ndim != 3 or losses.shape[2] < 2:
        raise ValueError(
            f"minibatch_losses: expected [chain, draw, N] with N >= 2, got shape {losses.shape}"
        )
    means = check_trace(losses.mean(axis=2))
    noise = losses.var(axis=2, ddof=1) / losses.shape[2]
    return mean_estimate((means - means.mean()) ** 2 - noise)


def wbic(losses: np.ndarray, num_examples: int) -> Estimate:
    r"""WBIC, `n E[L]` over draws at `nbeta = n / log n`: the free energy up to `O(log log n)`.

    The learning coefficient from it, `(WBIC - n L(w*)) / log n`, is `mean_llc`.

    Args:
        losses: `[chain, draw]`, mean negative log-likelihoods (not their excess).
        num_examples: `n`.

    References:
        Watanabe, arXiv:1208.6338.
    """
    return mean_estimate(num_examples * check_trace(losses))


class LogLawFit(NamedTuple):
    """The limit of the learning coefficient at zero temperature, from a fit.

    Args:
        llc: the limit `lambda`.
        sem: its standard error, from the errors of the points alone.
        multiplicity: `m`, fitted or given; never rounded.
        multiplicity_sem: its standard error, 0 where it was given.
        chi_square: weighted sum of squared residuals.
        num_free: points minus fitted numbers, the expectation of `chi_square` if the law holds.
    """

    llc: float
    sem: float
    multiplicity: float
    multiplicity_sem: float
    chi_square: float
    num_free: int


def fit_log_law(
    llcs: np.ndarray, sems: np.ndarray, nbetas: np.ndarray, *, multiplicity: float | None = None
) -> LogLawFit:
    r"""Fits `llc(nbeta) = lambda - (m - 1) / log nbeta` by weighted least squares.

    The law leaves out terms in `1/log^2 nbeta`, which the standard errors do not know: compare fits
    of the upper and the lower half of the temperatures, and look at `chi_square`.

    Args:
        llcs: `[temperature]`, estimates.
        sems: `[temperature]`, their standard errors, > 0.
        nbetas: `[temperature]`, increasing inverse temperatures > 1.
        multiplicity: `m` if known; `None` fits it.

    Raises:
        ValueError: if the temperatures do not increase, or are fewer than the numbers to fit.

    Example:
        >>> nbetas = np.array([1e3, 1e4, 1e5])
        >>> fit = fit_log_law(1.5 - 1 / np.log(nbetas), np.full(3, 1e-3), nbetas)
        >>> round(fit.llc, 6), round(fit.multiplicity, 6)
        (1.5, 2.0)
    """
    nbetas = check_ladder(nbetas)
    llcs, sems = np.asarray(llcs, np.float64), np.asarray(sems, np.float64)
    if llcs.shape != nbetas.shape or sems.shape != nbetas.shape or not np.all(sems > 0):
        raise ValueError(f"sems: expected one number > 0 for each nbeta, got {sems}")
    columns = np.stack([np.ones(len(nbetas)), -1 / np.log(nbetas)], axis=1)
    target = llcs
    if multiplicity is not None:
        target, columns = llcs - (multiplicity - 1) * columns[:, 1], columns[:, :1]
    if len(nbetas) < columns.shape[1]:
        raise ValueError(f"nbetas: expected at least two to fit the multiplicity, got {nbetas}")
    covariance = np.linalg.inv(columns.T @ (columns / sems[:, None] ** 2))
    solution = covariance @ (columns.T @ (target / sems**2))
    residual = (target - columns @ solution) / sems
    errors = np.sqrt(np.diag(covariance))
    m, m_sem = (solution[1] + 1, errors[1]) if multiplicity is None else (multiplicity, 0.0)
    return LogLawFit(
        float(solution[0]),
        float(errors[0]),
        float(m),
        float(m_sem),
        float(residual @ residual),
        len(nbetas) - len(solution),
    )


def check_ladder(nbetas: np.ndarray) -> np.ndarray:
    """Returns increasing inverse temperatures > 1 as an array, or raises `ValueError`."""
    try:
        ladder = np.asarray(nbetas, np.float64)
    except (TypeError, ValueError):
        ladder = np.empty(0)
    increasing = ladder.ndim == 1 and len(ladder) > 0 and np.all(np.diff(ladder) > 0)
    if not increasing or not np.all(np.isfinite(ladder)) or ladder[0] <= 1:
        raise ValueError(f"nbetas: expected increasing finite numbers > 1, got {nbetas!r}")
    return ladder

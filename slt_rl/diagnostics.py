"""Is the chain at equilibrium? Plain float64 NumPy on `[chain, draw]` arrays.

All of these are necessary, none is sufficient: see docs/how-to-choose.md.
"""

import numpy as np
from numpyro import diagnostics as numpyro_diagnostics

# Means of so many batches of a chain: long enough to average an oscillation out.
NUM_BATCHES = 50
# Half-width of an interval of 95 % in standard errors, where these are known well enough to be
# taken for exact. Few values ask for a Student quantile in its place.
Z95 = 1.96


def check_trace(values: np.ndarray) -> np.ndarray:
    """Returns `values` as a float64 `[chain, draw]` array, or raises `ValueError`."""
    trace = np.asarray(values, dtype=np.float64)
    if trace.ndim != 2 or trace.shape[0] < 1 or trace.shape[1] < 4:
        raise ValueError(
            f"trace: expected a [chain, draw] array with at least 4 draws, got shape {trace.shape}"
        )
    return trace


def effective_sample_size(values: np.ndarray) -> float:
    """The number of independent draws that would give the same standard error of the mean.

    The smaller of two estimates from the autocorrelation (computed by numpyro): of the draws, and
    of the means of fifty batches a chain. The sum of the first stops at the first dip, and is far
    too small where a trace oscillates, as the energy of a kinetic Langevin chain of little friction
    does, or where a slow part of it hides behind a fast one. In means of batches the oscillation
    and the fast part are averaged out, and the sum runs on to what is slow.

    Args:
        values: `[chain, draw]`.

    References:
        Gelman et al., Bayesian Data Analysis, 3rd ed., section 11.5; Geyer, "Practical Markov
        chain Monte Carlo", Statistical Science 7 (1992).
    """
    trace = check_trace(values)
    if trace.std() == 0:
        return float(trace.size)
    batches = _batch_means(trace)
    ess = float(numpyro_diagnostics.effective_sample_size(trace))
    if batches.std() > 0:
        of_batches = float(numpyro_diagnostics.effective_sample_size(batches))
        # Their mean is the same and its variance is theirs: draws that would give this variance.
        ess = min(ess, of_batches * float(trace.var() / batches.var()))
    # Anticorrelated traces can exceed the number of draws; the bound keeps intervals honest.
    return float(np.clip(ess, 1.0, trace.size)) if np.isfinite(ess) else 1.0


def _batch_means(trace: np.ndarray) -> np.ndarray:
    """`[chain, batch]`; of a short chain, batches of two draws or more."""
    num_batches = min(NUM_BATCHES, trace.shape[1] // 2)
    length = trace.shape[1] // num_batches
    return trace[:, : num_batches * length].reshape(len(trace), num_batches, length).mean(axis=2)


def split_r_hat(values: np.ndarray) -> float:
    """Split R-hat: 1 when halves of chains agree with each other.

    References:
        Gelman et al., Bayesian Data Analysis, 3rd ed., section 11.4; computed by numpyro.
    """
    trace = check_trace(values)
    if trace.std() == 0:
        return 1.0
    return float(numpyro_diagnostics.split_gelman_rubin(trace))


def half_difference(values: np.ndarray) -> tuple[float, float]:
    """Second half minus first half of the draws and its standard error, zeros for a short trace.

    Args:
        values: `[chain, draw]`; halves of fewer than four draws tell nothing.
    """
    trace = check_trace(values)
    half = trace.shape[1] // 2
    if half < 4 or trace.std() == 0:
        return 0.0, 0.0
    halves = trace[:, :half], trace[:, half:]
    errors = (part.std() / np.sqrt(effective_sample_size(part)) for part in halves)
    return float(halves[1].mean() - halves[0].mean()), float(np.hypot(*errors))


def drift(values: np.ndarray) -> float:
    """Second half minus first half of the draws, in standard errors of that difference."""
    return in_errors(*half_difference(values))


def in_errors(difference: float, sem: float) -> float:
    """A difference in units of its standard error: infinite without error, 0 if it is none."""
    if difference == 0:
        return 0.0
    with np.errstate(divide="ignore"):
        return float(np.float64(difference) / sem)


def equipartition(virial: np.ndarray, sizes: np.ndarray) -> tuple[float, float, np.ndarray]:
    r"""The equipartition ratio `R = E[(w - w*) . grad U] / d`, which is 1 at equilibrium.

    By integration by parts; also for each leaf of the parameters. `R < 1`: not relaxed, or another
    basin; `R > 1`: step or gradient noise too large.

    Args:
        virial: `[chain, draw, leaf]`, `(w - w*) . grad U` per parameter of the leaf.
        sizes: `[leaf]`, number of parameters of each leaf.

    Returns:
        The ratio, its standard error, and the ratio of each leaf.
    """
    virial = np.asarray(virial, dtype=np.float64)
    total = virial @ (np.asarray(sizes) / np.sum(sizes))
    error = float(total.std() / np.sqrt(effective_sample_size(total)))
    return float(total.mean()), error, virial.mean(axis=(0, 1))


def leaf_equipartition_excess(virial: np.ndarray) -> np.ndarray:
    """How far the ratio of each leaf is from 1 beyond what its standard error explains.

    The allowance is 3.5 standard errors, so that of hundreds of leaves none stands out by chance.

    Args:
        virial: `[chain, draw, leaf]`, `(w - w*) . grad U` per parameter of the leaf.

    Returns:
        `[leaf]`, signed; zero for a leaf within its error.
    """
    virial = np.asarray(virial, np.float64)
    sems = np.array(
        [x.std() / np.sqrt(effective_sample_size(x)) for x in np.moveaxis(virial, -1, 0)]
    )
    deviation = virial.mean(axis=(0, 1)) - 1
    return np.sign(deviation) * np.maximum(np.abs(deviation) - 3.5 * sems, 0.0)

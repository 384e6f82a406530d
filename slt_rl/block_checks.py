"""What one block of a burn-in says: are its chains stable, and how large is the estimate?"""

import numpy as np

from slt_rl.chains import Draws

# A stable chain has kinetic temperature 1; so hot, or so many standard errors of one independent
# draw per chain above 1, is unstable.
HOT, HOT_ERRORS = 1.5, 6.0
# Where the numbers of a diverging chain are cut off, so that a mean over them is finite.
HUGE = 1e9


def is_stable(draws: Draws, dimension: int) -> np.ndarray:
    """Whether all chains of a center are finite and cool, `[center]`.

    Args:
        draws: one block, axes `[center, chain, draw]`.
        dimension: number of parameters.
    """
    # Samplers without momenta record NaN; a diverging chain must not overflow the mean.
    heat = np.nan_to_num(np.asarray(draws.kinetic_temperature, np.float64), nan=1.0)
    _, num_chains, length = heat.shape
    error = (2 / (num_chains * dimension)) ** 0.5
    late = np.minimum(heat, HUGE)[..., length // 2 :].mean(axis=(1, 2))
    return np.asarray(draws.alive).all(axis=(1, 2)) & (late < max(HOT, 1 + HOT_ERRORS * error))


def size_of(draws: Draws, nbeta: float) -> np.ndarray:
    """The estimate of a block, `[center]`, which is of some size even at the start.

    Args:
        draws: one block, axes `[center, chain, draw]`.
        nbeta: inverse temperature.
    """
    # A diverging chain must not overflow the mean.
    excess = np.clip(np.asarray(draws.excess_loss, np.float64), -HUGE / nbeta, HUGE / nbeta)
    return np.maximum(nbeta * np.nan_to_num(excess).mean(axis=(1, 2)), 0.25)

"""Estimates at several temperatures, and their limit."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from slt_rl.estimators import LogLawFit, check_ladder, fit_log_law
from slt_rl.llc import estimate_llc
from slt_rl.result import LLCEstimate

PyTree = Any


class TemperatureLadder(NamedTuple):
    """Estimates at increasing inverse temperatures.

    Args:
        nbetas: `[temperature]`.
        estimates: one for each temperature, each with its verdict.
    """

    nbetas: np.ndarray
    estimates: tuple[LLCEstimate, ...]

    def fit(self, multiplicity: float | None = None) -> LogLawFit:
        """Fits `lambda - (m - 1)/log nbeta`, see `slt_rl.estimators.fit_log_law`."""
        llcs = np.array([estimate.mean for estimate in self.estimates])
        sems = np.array([estimate.sem for estimate in self.estimates])
        return fit_log_law(llcs, sems, self.nbetas, multiplicity=multiplicity)


def temperature_ladder(
    key: jax.Array,
    loss_fn: Callable,
    params: PyTree,
    *,
    nbetas: np.ndarray,
    data: PyTree = None,
    **options: Any,
) -> TemperatureLadder:
    """Runs `estimate_llc` at each of several inverse temperatures, compiled once.

    Args:
        key: random key, consumed.
        loss_fn: as in `estimate_llc`.
        params: the center, the same at all temperatures.
        nbetas: `[temperature]`, increasing inverse temperatures > 1.
        data: as in `estimate_llc`.
        options: any other keyword of `estimate_llc` but `nbeta`.

    Raises:
        ValueError: if `nbetas` do not increase, before anything is sampled.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def potential(w):
        ...     return 0.5 * jnp.sum(w**2)
        >>> ladder = temperature_ladder(
        ...     jax.random.key(0), potential, jnp.zeros(4), nbetas=[1e4, 1e5], localization=1.0
        ... )
        >>> fit = ladder.fit(multiplicity=1)
        >>> abs(fit.llc - 2) < 4 * fit.sem
        True
    """
    ladder = check_ladder(nbetas)
    keys = jax.random.split(key, len(ladder))
    estimates = [
        estimate_llc(k, loss_fn, params, data, nbeta=float(nbeta), **options)
        for k, nbeta in zip(keys, ladder, strict=True)
    ]
    return TemperatureLadder(ladder, tuple(estimates))

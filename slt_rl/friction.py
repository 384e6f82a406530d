"""Friction of kinetic Langevin dynamics: stiff directions ask for much, weak ones for little."""

import numpy as np

from slt_rl.diagnostics import Z95

# Friction that mixes the energy of a stiff direction best, in units of its frequency.
STIFF_FRICTION = 0.3
LEAST, LARGEST = 0.03, 0.5
# Relaxation times of the weakest directions in a run: burn-in and draws.
RELAXATIONS = 4.0
# Independent draws of a chain below which split R-hat, of half chains, cannot fall to 1.05.
LEAST_INDEPENDENT = 36.0
# So many times less friction must be of use before the geometric mean is left.
MIN_GAIN = 2.0


def mixing_friction(omega: np.ndarray) -> np.ndarray:
    """The geometric mean of what stiff and weak directions ask for, within bounds.

    Args:
        omega: frequency of the weakest direction over that of the stiffest.

    Returns:
        Friction in units of the stiffest frequency.
    """
    return np.clip(np.sqrt(STIFF_FRICTION * 2 * omega), LEAST, LARGEST)


def gliding_friction(omega: np.ndarray, size: np.ndarray, *, num_chains: int, tolerance: float):
    r"""The friction `f` at which relaxation and interval together cost least.

    In units of the stiffest frequency, a weak direction of frequency `omega` relaxes in
    `f/omega^2` if `f >= 2 omega`, its critical damping. Energies are forgotten in `1/f`. That of an
    estimate `lambda` has the relative variance `1/lambda`, so each of `C` chains must run for
    `N/f`, with `N` the larger of `(1.96/tolerance)^2/(lambda C)` and what lets chains agree, and

        R f/omega^2 + N/f   is least at   f = omega (N/R)^(1/2)

    with `R` relaxation times in a run. A large coefficient is an average over so many directions
    that weak ones are all that takes time: at `tolerance = 0.05`, `C = 8` from `lambda = 5` on.

    Args:
        omega: frequency of the weakest direction over that of the stiffest.
        size: rough value of `lambda`, of the same shape.
        num_chains: chains `C`.
        tolerance: relative half-width of the interval.

    Returns:
        Friction in units of the stiffest frequency.
    """
    independent = (Z95 / tolerance) ** 2 / (size * num_chains)
    return omega * np.sqrt(np.maximum(independent, LEAST_INDEPENDENT) / RELAXATIONS)


def choose_friction(
    omega: np.ndarray, size, *, num_chains: int, tolerance: float, length: np.ndarray | None = None
):
    """The mixing friction, or the gliding one where it is far smaller and there is time for it.

    A gliding chain forgets its energy slowly and must run on until it has; one that is stopped
    before knows less than a mixing chain of the same length.

    Args:
        omega: frequency of the weakest direction over that of the stiffest; 0: nothing is known.
        size: rough value of the coefficient, of the same shape; `None`: nothing is known.
        num_chains: number of chains.
        tolerance: relative half-width of the interval.
        length: time that a chain is given, in units of the inverse stiffest frequency, of the same
            shape; `None`: as long as it asks for.

    Returns:
        Friction in units of the stiffest frequency, and whether it is the gliding one.

    Example:
        >>> friction, glides = choose_friction(
        ...     np.array([0.1, 1e-3]), np.array([50.0, 50.0]), num_chains=8, tolerance=0.05
        ... )
        >>> friction.round(4).tolist(), glides.tolist()
        ([0.2449, 0.003], [False, True])
    """
    mixing = mixing_friction(omega)
    if size is None:
        return mixing, np.zeros(omega.shape, bool)
    gliding = gliding_friction(omega, size, num_chains=num_chains, tolerance=tolerance)
    glides = (omega > 0) & (MIN_GAIN * gliding < mixing)
    if length is not None:
        # At the gliding friction both terms of its cost are the same.
        glides &= 2 * RELAXATIONS * gliding <= length * omega**2
    return np.where(glides, gliding, mixing), glides


def gliding_note(friction: np.ndarray, omega: np.ndarray, glides: np.ndarray) -> tuple[str, ...]:
    """Says that chains glide and with which friction, of the stiffest such center, in words.

    Args:
        friction: in units of the stiffest frequency.
        omega: frequency of the weakest direction over that of the stiffest.
        glides: whether the friction is the gliding one; all of the same shape.

    Example:
        >>> gliding_note(np.array([0.003]), np.array([1e-3]), np.array([False]))
        ()
    """
    if not glides.any():
        return ()
    stiffest = np.flatnonzero(glides)[np.argmin(omega[glides])]
    share = "" if len(glides) == 1 else f" at {glides.sum()} of {len(glides)} centers"
    return (
        f"chains glide{share}: friction {friction[stiffest]:.2g} of the stiffest frequency instead "
        f"of {mixing_friction(omega)[stiffest]:.2g}, for the weakest directions are "
        f"{1 / omega[stiffest]:.2g} times slower than the stiffest",
    )

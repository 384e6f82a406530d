"""What of a difference of losses is rounding: such a difference shows nothing."""

import numpy as np

from slt_rl.draws import Draws

# Relative size of what single precision, 1e-7 a number, makes of a difference of potentials.
FLAT = 3e-6
# By so many units of its precision a draw's `U` and what is subtracted from it may be off.
ROUNDINGS = 2.0


def rounding_of(draws: Draws, *, nbeta: float, localization: float, center_loss: float) -> float:
    r"""How far rounding may move `nbeta (L - L*)` of a draw, which is told from `U` by differences.

        ROUNDINGS eps (localization/2 max |w - w*|^2 + nbeta |L*|)

    with `eps` of the precision of the draws. Of ten thousand free parameters the tether alone is
    5,000: single precision then leaves 1e-3, and what a layer behind one of zeros does is less.

    Args:
        draws: of one center.
        nbeta: inverse temperature.
        localization: in 1/parameter^2.
        center_loss: `L*`, the loss at the center.
    """
    tether = _largest_tether(draws, localization)
    eps = float(np.finfo(np.asarray(draws.excess_loss).dtype).eps)
    return ROUNDINGS * eps * (tether + nbeta * abs(center_loss))


def is_flat(draws: Draws, *, nbeta: float, localization: float) -> bool:
    """Is the loss the same everywhere, but for what rounding leaves of it beside the tether?

    A high temperature makes losses small as well; the tether's part of `U`, from which the loss is
    told by a difference, says what is rounding.

    Args:
        draws: of one center.
        nbeta: inverse temperature.
        localization: in 1/parameter^2.
    """
    largest = nbeta * np.max(np.abs(draws.excess_loss))
    return bool(largest < FLAT * max(_largest_tether(draws, localization), 1.0))


def _largest_tether(draws: Draws, localization: float) -> float:
    return localization / 2 * float(np.max(draws.squared_distance))

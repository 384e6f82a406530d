"""What the chains record, draw by draw."""

from typing import Any, NamedTuple

import numpy as np


class Draws(NamedTuple):
    """What is recorded at a draw; axes `[chain, draw]`, or `[center, chain, draw]` for a curve.

    Args:
        excess_loss: `L(w) - L(w*)`, paired on the same examples for minibatches.
        virial: `[..., leaf]`, `(w - w*) . grad U` per parameter of each leaf (1 at equilibrium).
        squared_distance: `|w - w*|^2`.
        acceptance: Metropolis acceptance probability, NaN where none is computed.
        kinetic_temperature: mean squared momentum, NaN without momenta.
        num_gradients: gradient evaluations of the draw.
        alive: false from the first non-finite step on; the chain is frozen where it was.
    """

    excess_loss: Any
    virial: Any
    squared_distance: Any
    acceptance: Any
    kinetic_temperature: Any
    num_gradients: Any
    alive: Any

    def after(self, num_burnin: int) -> "Draws":
        """Drops the first `num_burnin` draws of every chain."""
        axis = np.ndim(self.excess_loss) - 1
        keep = (slice(None),) * axis + (slice(num_burnin, None),)
        return Draws(*(np.asarray(x)[keep] for x in self))

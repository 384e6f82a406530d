"""What a climb of the ladder does: its sizes, and the difficulty of each rung."""

import dataclasses
import math

NUM_FEATURES = 6
ACTION_SCALE = 0.1
CLASSES = ("5", "5+", "6")
# The dead feature of class 5 lies deeper in its flat region than in the standard representative:
# where it has become frequent a chain would otherwise leave for 5+.
DEAD_BIAS = -1.5
# Drift: the buffer was collected when the last feature was rare; it is more frequent now. "5+" is a
# minimum below 0.2926; nearer to that than here chains leave it for the hexagon.
STALE, CURRENT = 0.05, 0.20
# Drift of the amplitude range of the last feature: it has become smaller. "5+" is a minimum below
# 1.3741, the hexagon exists above 0.423.
STALE_AMPLITUDE, CURRENT_AMPLITUDE = 1.0, 0.8
# Policy-dependent visitation: below 0.25 the shifted pentagon is no minimum.
TAU = 0.3
# Delayed reward: paid `DELAY` steps after the end of an episode, as the sum over its steps.
DISCOUNT, DELAY, EPISODE = 0.9, 5, 4
# Masked observation: the input is hidden from the policy with this probability.
HIDDEN = 0.2


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Sizes of a climb of the ladder of difficulty with six features.

    Attributes:
        name: Names the protocol in the report.
        seed: Seed of every random key of the run.
        num_keys: Data sets, and keys of the sampler, for each cell of the table.
        num_examples: Size `n` of every sampled data set; `nbeta` is `n / log n` throughout.
        localization: Of every estimate, in 1/parameter^2.
        num_chains: Chains of an estimate.
        num_draws: Draws kept of a chain.
        num_burnin: Draws dropped.
        num_reference_chains: Chains of the reference.
        num_reference_draws: Draws kept of a reference chain.
        num_positions: Reference positions of a chain at which sampled losses are evaluated.
        limit_nbeta: Inverse temperature of the estimates at low temperature.
        rungs: Numbers of the rungs that are climbed.
    """

    name: str
    seed: int = 0
    num_keys: int = 10
    num_examples: int = 2000
    # At 10 chains leave 5+ for the hexagon: three of eight supervised estimates are refused there.
    localization: float = 30.0
    num_chains: int = 8
    num_draws: int = 800
    num_burnin: int = 200
    num_reference_chains: int = 32
    num_reference_draws: int = 1200
    num_positions: int = 32
    limit_nbeta: float = 1e5
    rungs: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7, 8)

    @property
    def nbeta(self) -> float:
        """Inverse temperature of every estimate, `n / log n`."""
        return self.num_examples / math.log(self.num_examples)


FULL = Protocol("full")
QUICK = Protocol(
    "quick",
    num_keys=2,
    num_draws=400,
    num_reference_draws=500,
    num_positions=16,
    rungs=(1, 3, 6),
)

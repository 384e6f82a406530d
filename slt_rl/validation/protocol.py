"""What a validation run does: its sizes, nothing else."""

import dataclasses

import numpy as np

NUM_FEATURES = 6
ACTION_SCALE = 0.1
POTENTIALS = ("supervised", "regret", "kl", "exact_regret", "exact_kl")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Sizes of a validation run of the toy model of superposition with six features.

    Attributes:
        name: Names the protocol in the report.
        seed: Seed of every random key of the run.
        num_supervised: Supervised runs.
        num_epochs: Epochs of a supervised run, 50 SGD steps each.
        num_ppo: Runs trained by PPO.
        num_iterations: PPO iterations of a run.
        num_checkpoints: Stored checkpoints of a run, evenly spaced.
        num_llc_runs: Runs of each training whose learning coefficient is measured.
        num_examples: Size `n` of every sampled data set.
        localization: Of every curve along training, in 1/parameter^2.
        num_chains: Chains per checkpoint.
        num_draws: Draws kept of a chain on sampled potentials.
        num_burnin: Draws dropped.
        precision: Floating-point type of the chains on sampled potentials. Single precision takes
            three fifths of the time; its rounding is some 1e-6 of an estimate.
        num_target_chains: Chains of the tests against tabulated values.
        target_stride: Of the table of values at finite temperature every so many rows are tested.
        occupancy_sizes: Numbers of examples at which the posterior is sampled.
        num_particles: Particles of tempered SMC.
        num_nuts_chains: Chains of the cross-check by NUTS.
        potentials: What is measured along training; names of `curves.potentials`.
        cartpole_steps: Environment steps of each of the five CartPole runs; 0 leaves it out.
        min_supervised: Fewest supervised runs that the check on them accepts.
        min_ppo: Fewest PPO runs that the check on them accepts.
    """

    name: str
    seed: int = 0
    num_supervised: int = 24
    num_epochs: int = 4500
    num_ppo: int = 32
    num_iterations: int = 1500
    num_checkpoints: int = 80
    num_llc_runs: int = 8
    num_examples: int = 1000
    localization: float = 10.0
    num_chains: int = 4
    num_draws: int = 800
    num_burnin: int = 200
    precision: str = "float32"
    num_target_chains: int = 8
    target_stride: int = 1
    occupancy_sizes: tuple[int, ...] = (100, 200, 250, 300, 350, 400)
    num_particles: int = 6000
    num_nuts_chains: int = 64
    potentials: tuple[str, ...] = POTENTIALS
    cartpole_steps: int = 250_000
    min_supervised: int = 20
    min_ppo: int = 16

    @property
    def nbeta(self) -> float:
        """Inverse temperature of every curve, `n / log n`."""
        return float(self.num_examples / np.log(self.num_examples))


FULL = Protocol("full")
QUICK = Protocol(
    "quick",
    num_ppo=16,
    num_iterations=1000,
    num_checkpoints=36,
    num_llc_runs=2,
    # Chains run in blocks of 128 steps: of 400 draws a fourth block would keep 16.
    num_draws=384,
    num_burnin=192,
    target_stride=8,
    occupancy_sizes=(200, 300, 400),
    num_particles=2000,
    num_nuts_chains=0,
    # No check reads the divergence in closed form, and a potential more is a compilation more.
    potentials=POTENTIALS[:-1],
    cartpole_steps=0,
    min_ppo=16,
)

"""A slow sampler without bias: Hamiltonian Monte Carlo with trajectories of many lengths.

Every trajectory is accepted or rejected, on the exact potential in float64, from the center. The
run judges itself: split R-hat, drift, equipartition as a whole and of each leaf.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import slt_rl
import toy_models
from slt_rl import chains, diagnostics, estimators

NUM_CHAINS = 64
# Trajectories between two looks at the chains.
BLOCK = 16
NUM_ADAPTATIONS = 16
ACCEPTANCE = 0.85
# The shortest run, in draws of a chain.
MIN_DRAWS = 256
MAX_LEAPFROG = 1024
# A trajectory has between this share and the whole of the longest length.
SHORTEST = 0.3
# `nbeta (L(w) - L(w*))` from which on a chain has found a lower minimum; rounding is far above it.
LEFT = -1.0
# With more of them the center is not even metastable.
MAX_LEFT = NUM_CHAINS // 10


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DispersedHMC:
    """Hamiltonian Monte Carlo whose step is drawn anew for each trajectory.

    Steps of `step_size` times a uniform number of [0.3, 1] disperse the lengths, so that no
    direction comes back to its start, and let chains into regions where the largest step is
    unstable. A mixture of kernels that leave the law invariant leaves it invariant.

    Args:
        step_size: `[]`, the largest leapfrog step, in units of parameter.
        num_leapfrog: `[]`, leapfrog steps of a trajectory.
    """

    step_size: Any
    num_leapfrog: Any

    def init(self, key, position, oracle):
        """Starts at `position`."""
        return self._kernel(self.step_size).init(key, position, oracle)

    def step(self, key, state, oracle):
        """One trajectory."""
        key_step, key_move = jax.random.split(key)
        share = jax.random.uniform(key_step, minval=SHORTEST, maxval=1.0)
        return self._kernel(share * self.step_size).step(key_move, state, oracle)

    def _kernel(self, step_size):
        # A number and not a constant of the program: adapting it compiles nothing.
        return slt_rl.HMC(step_size, jnp.round(self.num_leapfrog).astype(jnp.int32))


def hmc_of_step(step_size: float, localization: float) -> DispersedHMC:
    """Trajectories of, on average, a quarter of the period of a direction without curvature."""
    longest = np.pi / 2 / localization**0.5 / ((1 + SHORTEST) / 2)
    return DispersedHMC(step_size, float(np.clip(np.ceil(longest / step_size), 4, MAX_LEAPFROG)))


class Run(NamedTuple):
    """One seed.

    Attributes:
        mean: `nbeta (E[L] - L(w*))`.
        sem: Its standard error: the larger one of that from autocorrelations and that from chains.
        draws: Draws in all chains.
        gradients: Gradient evaluations, adaptation included.
        step_size: The largest step.
        acceptance: Mean acceptance.
        left: Chains that left for a lower minimum; they are not part of the value.
        split_r_hat: Of the loss.
        equipartition: Mean virial per parameter, 1 at equilibrium.
        worst_leaf: The ratio of the leaf that is farthest from 1.
        faults: What is wrong; empty for a run that may be believed.
    """

    mean: float
    sem: float
    draws: int
    gradients: int
    step_size: float
    acceptance: float
    left: int
    split_r_hat: float
    equipartition: float
    worst_leaf: float
    faults: tuple[str, ...]


def sample(
    key: jax.Array,
    problem: toy_models.ToyProblem,
    nbeta: float,
    *,
    localization: float,
    step: float,
    sem: float,
    seconds: float,
) -> Run:
    """One seed: adapts, samples until `sem` (relative) is reached, judges itself.

    Where a lower minimum is within reach the law at the center is only metastable. A chain that
    leaves is dropped whole: the value is then that of the law given that the chain stays.

    Args:
        key: Random key, consumed.
        problem: What is sampled.
        nbeta: Inverse temperature.
        localization: In 1/parameter^2.
        step: Factor on the adapted step.
        sem: Relative standard error to stop at.
        seconds: Processor time to stop at, of this process.
    """
    start = time.process_time()
    target = _target(problem, nbeta, localization)
    key_anchor, key_chains = jax.random.split(key)
    anchors = chains.find_anchors(key_anchor, target)
    keys = chains.center_keys(key_chains, 1)

    def advance(sampler, state):
        stream = chains.run_chains(
            keys, target, anchors, sampler=sampler, state=state, block_length=BLOCK
        )
        state, draws = next(stream)
        return state, jax.tree.map(lambda x: x[0], draws)

    sampler = hmc_of_step(
        float(1 / np.sqrt(nbeta * anchors.curvature[0] + localization)), localization
    )
    state = chains.start_chains(keys, target, anchors, sampler=sampler, num_chains=NUM_CHAINS)
    sampler, state, spent = _adapt(advance, sampler, state, localization)
    sampler = hmc_of_step(step * sampler.step_size, localization)
    blocks: list[chains.Draws] = []
    while True:
        state, draws = advance(sampler, state)
        blocks.append(draws)
        # Looked at when the run has become longer by an eighth: judging costs time too.
        if len(blocks) * BLOCK < MIN_DRAWS or len(blocks) % max(len(blocks) // 8, 1):
            continue
        run = judge(blocks, target, step_size=sampler.step_size, spent=spent)
        enough = run.sem <= sem * run.mean and not run.faults
        if enough or time.process_time() - start > seconds:
            return run


def _adapt(advance, sampler: DispersedHMC, state, localization: float):
    """Brings the acceptance near its aim, from the center on; these draws are the burn-in."""
    spent = 0
    for _ in range(NUM_ADAPTATIONS):
        state, draws = advance(sampler, state)
        spent += int(np.sum(draws.num_gradients, dtype=np.int64))
        factor = np.exp(np.nan_to_num(np.mean(draws.acceptance)) - ACCEPTANCE)
        sampler = hmc_of_step(float(sampler.step_size * factor), localization)
    return sampler, state, spent


def _target(problem: toy_models.ToyProblem, nbeta: float, localization: float) -> chains.Problem:
    centers = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64)[None], problem.params)
    make_target = chains.constant_target(problem.potential)  # type: ignore[arg-type]
    return chains.Problem(make_target, centers, None, jnp.float64(nbeta), jnp.float64(localization))


def judge(
    blocks: Sequence[chains.Draws],
    target: chains.Problem,
    *,
    step_size: float,
    spent: int,
) -> Run:
    """The value of the draws so far, its error, and what speaks against it.

    Args:
        blocks: Draws `[chain, draw]`.
        target: What was sampled.
        step_size: The largest step.
        spent: Gradients of the adaptation.
    """
    draws = chains.Draws(*(np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True)))
    stayed = np.all(float(target.nbeta) * draws.excess_loss > LEFT, axis=1)
    left = int(np.sum(~stayed))
    if left <= MAX_LEFT:
        draws = chains.Draws(*(np.asarray(x)[stayed] for x in draws))
    values = float(target.nbeta) * draws.excess_loss
    by_chain = values.mean(axis=1).std(ddof=1) / len(values) ** 0.5
    sem = max(estimators.mean_estimate(values).sem, by_chain)
    ratio, ratio_sem, leaves = diagnostics.equipartition(draws.virial, target.leaf_sizes)
    leaf_excess = diagnostics.leaf_equipartition_excess(draws.virial)
    r_hat = diagnostics.split_r_hat(values)
    faults = {
        f"more than {MAX_LEFT} chains left for a lower minimum": left > MAX_LEFT,
        "a chain left the finite numbers": not np.all(draws.alive),
        "split R-hat above 1.01": not r_hat < 1.01,
        "halves of the run differ": not abs(diagnostics.drift(values)) < 4,
        "equipartition is violated": not abs(ratio - 1) < 3.5 * ratio_sem,
        "equipartition of a leaf is violated": np.any(leaf_excess != 0),
        "equipartition is known to worse than 3 %": not ratio_sem < 0.03,
    }
    return Run(
        mean=float(values.mean()),
        sem=float(sem),
        draws=values.size,
        gradients=spent + int(np.sum(draws.num_gradients, dtype=np.int64)),
        step_size=step_size,
        acceptance=float(np.mean(draws.acceptance)),
        left=left,
        split_r_hat=r_hat,
        equipartition=ratio,
        worst_leaf=float(leaves[np.argmax(np.abs(leaves - 1))]),
        faults=tuple(name for name, found in faults.items() if found),
    )

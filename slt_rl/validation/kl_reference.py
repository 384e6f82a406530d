"""The divergence on sampled states by another road: exact draws under the exact law, reweighted.

HMC draws from the posterior of the closed-form divergence `K`, without error from its step. The
posterior of the divergence `K_n` on `n` sampled states has the density `exp(-nbeta (K_n - K))`
beside it, so that

    nbeta E_n[K_n] = nbeta E[r K_n] / E[r],    r = exp(-nbeta (K_n - K))

The answer owes nothing to the calibrated sampler nor to the gradient of the sampled potential.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl import HMC, chains
from slt_rl.estimators import mean_estimate
from slt_rl.rl import GaussianPolicy, policy_kl
from slt_rl.validation.protocol import ACTION_SCALE, Protocol
from toy_models import superposition as tms

POLICY = GaussianPolicy(tms.forward, ACTION_SCALE)
NUM_LEAPFROG = 16
# HMC steps in units of the calibrated step of kinetic Langevin, which is half the stiffest period
# over 2 pi; and steps between the positions that are kept.
STEP, BLOCK = 2.0, 4
NUM_BLOCKS, NUM_BURNIN_BLOCKS = 200, 20


def exact_kl_target(params: Any):
    """The divergence from the frozen policy in closed form."""
    return lambda w: tms.population_kl(w, params, ACTION_SCALE)


def _exact_kl(params: Any, shared: Any):
    """The same as a target of chains."""
    del shared
    return exact_kl_target(params), None


@jax.jit
def _sampled_kl(positions, centers, observations):
    """`K_n` at chain positions, `[center, chain]`."""

    def one(center, position):
        loss_fn, data = policy_kl(POLICY, center, observations)
        return data.mean(loss_fn(position, data.examples))

    return jax.vmap(jax.vmap(one, in_axes=(None, 0)))(centers, positions)


def kl_reference(
    key: jax.Array,
    checkpoints: Any,
    observations: jax.Array,
    *,
    step_sizes: np.ndarray,
    chosen: np.ndarray,
    protocol: Protocol,
) -> dict[str, np.ndarray]:
    """The coefficient of the sampled divergence at chosen checkpoints, NaN at the others.

    Args:
        key: Random key, consumed.
        checkpoints: Parameters of a run, `[record]`.
        observations: The sampled states.
        step_sizes: `[record]`, calibrated steps of kinetic Langevin.
        chosen: `[record]`, whether to measure.
        protocol: Sizes.

    Returns:
        `{kl_reference_*: [record]}`: mean, sem, and the share of draws that the weights leave.
    """
    names = ("mean", "sem", "weight_share")
    found = {f"kl_reference_{name}": np.full(chosen.size, np.nan) for name in names}
    indices = np.flatnonzero(chosen)
    # Whole chunks, so that every run has the same program.
    size = -(-protocol.num_checkpoints // 4)
    for start in range(0, indices.size, size):
        part = indices[start : start + size]
        padded = np.resize(part, size)
        values = _measure(
            jax.random.fold_in(key, start),
            jax.tree.map(lambda x, i=padded: x[i], checkpoints),
            observations,
            step_sizes=step_sizes[padded],
            protocol=protocol,
        )
        for name in names:
            found[f"kl_reference_{name}"][part] = values[name][: part.size]
    return found


def _measure(key, centers, observations, *, step_sizes, protocol: Protocol):
    """Draws, weights and averages of one chunk of checkpoints."""
    problem = chains.Problem(
        _exact_kl, centers, None, jnp.asarray(protocol.nbeta), jnp.asarray(protocol.localization)
    )
    anchors = chains.find_anchors(key, problem)
    keys = chains.center_keys(key, problem.num_centers)
    sampler = HMC(STEP * step_sizes, NUM_LEAPFROG)
    state = chains.start_chains(
        keys, problem, anchors, sampler=sampler, num_chains=protocol.num_chains
    )
    blocks = chains.run_chains(
        keys, problem, anchors, sampler=sampler, state=state, block_length=BLOCK
    )
    exact, sampled = [], []
    for number, (state, draws) in zip(range(NUM_BURNIN_BLOCKS + NUM_BLOCKS), blocks, strict=False):
        if number >= NUM_BURNIN_BLOCKS:
            exact.append(draws.excess_loss[..., -1])
            sampled.append(_sampled_kl(state.sampler_state.position, centers, observations))
    return _reweighted(
        protocol.nbeta * np.stack(exact, axis=-1),
        protocol.nbeta * np.stack([np.asarray(x) for x in sampled], axis=-1),
    )


def _reweighted(exact: np.ndarray, sampled: np.ndarray) -> dict[str, np.ndarray]:
    """Averages of `sampled` under the weights `exp(exact - sampled)`; both `[center, chain, draw]`.

    The standard error is that of the ratio of two means, by its linear part.
    """
    log_weight = exact - sampled
    weight = np.exp(log_weight - log_weight.max(axis=(1, 2), keepdims=True))
    weight /= weight.mean(axis=(1, 2), keepdims=True)
    mean = (weight * sampled).mean(axis=(1, 2))
    residual = weight * (sampled - mean[:, None, None])
    return {
        "mean": mean,
        "sem": np.array([mean_estimate(one).sem for one in residual]),
        "weight_share": 1 / (weight**2).mean(axis=(1, 2)),
    }

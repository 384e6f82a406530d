"""The divergence on sampled states by another road: exact draws under the exact law, reweighted.

The answer owes nothing to the calibrated sampler nor to the gradient of the sampled potential; see
`slt_rl.validation.reference`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.rl import GaussianPolicy, policy_kl
from slt_rl.validation.protocol import ACTION_SCALE, Protocol
from slt_rl.validation.reference import sample_reference, value_on_data
from toy_models import superposition as tms

POLICY = GaussianPolicy(tms.forward, ACTION_SCALE)
# Chains, draws of each, and how many of these are evaluated on the sampled states.
SIZES = (16, 240, 120)


def exact_kl_target(params: Any):
    """The divergence from the frozen policy in closed form."""
    return lambda w: tms.population_kl(w, params, ACTION_SCALE)


def _exact_kl(params, center, law):
    """The same as a potential of the reference sampler."""
    del law
    return tms.population_kl(params, center, ACTION_SCALE)


def kl_reference(
    key: jax.Array,
    checkpoints: Any,
    observations: jax.Array,
    *,
    chosen: np.ndarray,
    protocol: Protocol,
) -> dict[str, np.ndarray]:
    """The coefficient of the sampled divergence at chosen checkpoints, NaN at the others.

    Args:
        key: Random key, consumed.
        checkpoints: Parameters of a run, `[record]`.
        observations: The sampled states.
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
        centers = jax.tree.map(lambda x, i=padded: x[i], checkpoints)
        references = sample_reference(
            jax.random.fold_in(key, start),
            _exact_kl,
            centers,
            laws=jnp.zeros(size),
            nbeta=protocol.nbeta,
            localization=protocol.localization,
            sizes=SIZES,
        )
        for i, reference in zip(part, references, strict=False):
            center = jax.tree.map(lambda x, i=i: x[i], checkpoints)
            loss_fn, data = policy_kl(POLICY, center, observations)
            value = value_on_data(reference, loss_fn, data, center=center, nbeta=protocol.nbeta)
            for name, number in zip(names, value, strict=True):
                found[f"kl_reference_{name}"][i] = number
    return found

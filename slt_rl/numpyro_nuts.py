"""Cross-check of the reference sampler by an independent program: NumPyro's NUTS.

Same convention as `slt_rl.tempered_smc`: the target is ``prior(w) exp(-nbeta L(w))``.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from slt_rl.tempered_smc import Prior

PyTree = Any


def nuts_posterior(
    key: jax.Array,
    potential: Callable[[PyTree], jax.Array],
    prior: Prior,
    *,
    nbeta: float,
    num_chains: int = 64,
    num_warmup: int = 300,
    num_samples: int = 200,
    max_tree_depth: int = 6,
) -> tuple[PyTree, np.ndarray]:
    """Draws from ``prior(w) exp(-nbeta potential(w))`` by many short chains from prior draws.

    Chains seldom cross between separated phases, so that how the chains fall into phases depends on
    their starts. Compare occupancies with tempered SMC only where chains still cross, that is at
    small ``nbeta``.

    Args:
        key: Random key, consumed.
        potential: ``params -> []``, nats per example.
        prior: The prior.
        nbeta: Inverse temperature; ``n`` for ``n`` examples at temperature one.
        num_chains: Chains, run side by side.
        num_warmup: Steps of adaptation, discarded.
        num_samples: Draws kept of each chain.
        max_tree_depth: At most ``2^depth - 1`` leapfrog steps for a draw.

    Returns:
        Draws with leading axes ``[chain, draw]``, and their potential ``[chain, draw]``.

    Raises:
        ValueError: If ``nbeta`` is not positive.
    """
    from numpyro.infer import MCMC, NUTS  # imported here: it takes a second

    if not nbeta > 0:
        raise ValueError(f"nbeta: got {nbeta}, expected a positive number")

    def energy(params):
        return nbeta * potential(params) - prior.logdensity_fn(params)

    key_start, key_run = jax.random.split(key)
    start = jax.vmap(prior.sample_fn)(jax.random.split(key_start, num_chains))
    sampler = MCMC(
        NUTS(potential_fn=energy, max_tree_depth=max_tree_depth),
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=num_chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    sampler.run(key_run, init_params=start)
    draws = sampler.get_samples(group_by_chain=True)
    losses = jax.jit(jax.vmap(jax.vmap(potential)))(draws)
    return jax.tree.map(np.asarray, draws), np.asarray(losses)

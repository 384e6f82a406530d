"""Cross-check of the reference sampler by an independent program: NumPyro's NUTS.

Same convention as `slt_rl.tempered_smc`: the target is ``prior(w) exp(-nbeta L(w))``.
"""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:  # It imports blackjax, whose import runs an operation.
    from slt_rl.tempered_smc import Prior

PyTree = Any


def nuts_posterior(
    key: jax.Array,
    potential: Callable[[PyTree], jax.Array],
    prior: "Prior",
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
    small ``nbeta``. Compiled once for a potential, a prior and counts.

    Args:
        key: Random key, consumed.
        potential: ``params -> []``, nats per example; hashable.
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
    if not nbeta > 0:
        raise ValueError(f"nbeta: got {nbeta}, expected a positive number")
    draws, losses = _posterior(
        key,
        float(nbeta),
        potential=potential,
        prior=prior,
        num_chains=num_chains,
        num_warmup=num_warmup,
        num_samples=num_samples,
        max_tree_depth=max_tree_depth,
    )
    return jax.tree.map(np.asarray, draws), np.asarray(losses)


@functools.partial(
    jax.jit,
    static_argnames=("potential", "prior", "max_tree_depth")
    + ("num_chains", "num_warmup", "num_samples"),
)
def _posterior(key, nbeta, *, potential, prior, max_tree_depth, num_chains, **lengths):
    def energy(params):
        return nbeta * potential(params) - prior.logdensity_fn(params)

    key_start, key_run = jax.random.split(key)
    start = jax.vmap(prior.sample_fn)(jax.random.split(key_start, num_chains))
    kernel = {"potential_fn": energy, "max_tree_depth": max_tree_depth}
    draws = nuts_draws(key_run, kernel, start=start, num_chains=num_chains, **lengths)
    return draws, jax.vmap(jax.vmap(potential))(draws)


def nuts_draws(
    key: jax.Array,
    kernel: Mapping[str, Any],
    *arguments: Any,
    num_chains: int,
    num_warmup: int,
    num_samples: int,
    start: PyTree = None,
) -> PyTree:
    """Draws of NumPyro's NUTS; called within a compiled function, for by itself it compiles anew.

    Args:
        key: Random key, consumed.
        kernel: Options of `numpyro.infer.NUTS`: `model` or `potential_fn`, and others.
        *arguments: Of the model.
        num_chains: Chains, run side by side.
        num_warmup: Steps of adaptation, discarded.
        num_samples: Draws kept of each chain.
        start: With a potential, where the chains start: leading axis ``[chain]``.

    Returns:
        Draws with leading axes ``[chain, draw]``.

    Example:
        >>> import jax.numpy as jnp
        >>> kernel = {"potential_fn": lambda w: jnp.sum(w**2) / 2}
        >>> sizes = {"num_chains": 2, "num_warmup": 10, "num_samples": 5}
        >>> @jax.jit
        ... def draw(key):
        ...     return nuts_draws(key, kernel, start=jnp.zeros((2, 3)), **sizes)
        >>> draw(jax.random.key(0)).shape
        (2, 5, 3)
    """
    from numpyro.infer import MCMC, NUTS  # imported here: it takes a second

    sampler = MCMC(
        NUTS(**kernel),
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=num_chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    sampler.run(key, *arguments, init_params=start)
    return sampler.get_samples(group_by_chain=True)

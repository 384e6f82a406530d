"""Values to compare with, by another road: plain Hamiltonian Monte Carlo on closed-form potentials.

The posterior of the closed-form potential is sampled in coordinates in which its quadratic part is
the unit matrix. Nothing is shared with the calibrated samplers: neither dynamics, step, length nor
estimator; a Metropolis test removes the error of the step. The posterior of a sampled loss `L_n`
has the density `r = exp(-nbeta (L_n - L))` beside that of its mean `L`, so that

    nbeta E_n[L_n] = nbeta E[r L_n] / E[r]

gives the value on that very data set from the same draws.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from slt_rl.estimators import mean_estimate
from slt_rl.posterior import mean_loss

PyTree = Any
# In units of the largest stable step, 2, of the whitened quadratic: near-independent draws.
STEP, NUM_LEAPFROG, NUM_BURNIN = 0.3, 5, 50


class Reference(NamedTuple):
    """Draws from the posterior of an exact potential.

    Attributes:
        mean: `nbeta (E[L] - L(w*))`.
        sem: Its Monte-Carlo standard error.
        acceptance: Mean Metropolis acceptance.
        excess: `nbeta (L(w) - L(w*))` at the kept positions, `[chain, draw]`.
        positions: Parameters at the kept positions, leaves `[chain, draw, ...]`.
    """

    mean: float
    sem: float
    acceptance: float
    excess: np.ndarray
    positions: PyTree


def sample_reference(
    key: jax.Array,
    potential_fn: Callable[[PyTree, PyTree, PyTree], jax.Array],
    centers: PyTree,
    *,
    laws: PyTree,
    nbeta: float,
    localization: float,
    sizes: tuple[int, int, int],
) -> list[Reference]:
    """Samples `exp(-nbeta L - localization/2 |w - w*|^2)` around many centers in one program.

    Args:
        key: Random key, consumed.
        potential_fn: `(params, center, law) -> []`, the exact potential `L`; hashable.
        centers: Parameters with leading axis `[cell]`.
        laws: What else the potential depends on, leading axis `[cell]`.
        nbeta: Inverse temperature.
        localization: In 1/parameter^2.
        sizes: Chains, draws of each, and how many of these are kept as positions.

    Returns:
        One reference for each cell.
    """
    num_chains, num_draws, num_kept = sizes
    run = _sampler(potential_fn, num_chains, num_draws)
    keys = jax.random.split(key, jax.tree.leaves(centers)[0].shape[0])
    excess, acceptance, positions = run(keys, centers, laws, nbeta, localization)
    kept = np.linspace(0, num_draws - 1, num_kept).round().astype(int)
    found = []
    for i in range(len(keys)):
        estimate = mean_estimate(np.asarray(excess[i]))
        where = jax.tree.map(lambda x, i=i: x[i][:, kept], positions)
        values = np.asarray(excess[i])[:, kept]
        rate = float(acceptance[i].mean())
        found.append(Reference(estimate.mean, estimate.sem, rate, values, where))
    return found


@functools.lru_cache(maxsize=16)
def _sampler(potential_fn, num_chains: int, num_draws: int):
    """The jitted sampler of one kind of potential, over cells and chains."""

    def one_cell(key, center, law, nbeta, localization):
        flat, unravel = ravel_pytree(center)

        def loss(w):
            return nbeta * potential_fn(unravel(w), center, law)

        # One linearization for the loss, gradient and Hessian at the center: each potential in a
        # program is compiled for seconds.
        (base, slope), product_fn = jax.linearize(jax.value_and_grad(loss), flat)
        hessian = jax.vmap(lambda v: product_fn(v)[1])(jnp.eye(flat.size, dtype=flat.dtype))

        def energy(w):
            excess = loss(w) - base
            return excess + localization / 2 * jnp.sum((w - flat) ** 2), excess

        stiffness, vectors = jnp.linalg.eigh(hessian)
        spread = vectors / jnp.sqrt(jnp.maximum(stiffness, 0) + localization)

        def whitened(z):
            return energy(flat + spread @ z)

        zero = jnp.zeros_like(base)
        start = (jnp.zeros_like(flat), (zero, zero), spread.T @ slope)
        chain = functools.partial(_chain, whitened, start, num_draws=num_draws)
        z, excess, accepted = jax.vmap(chain)(jax.random.split(key, num_chains))
        positions = jax.vmap(jax.vmap(lambda z: unravel(flat + spread @ z)))(z)
        return excess, accepted, positions

    return jax.jit(jax.vmap(one_cell, in_axes=(0, 0, 0, None, None)))


def _chain(energy_fn, start, key, *, num_draws: int):
    """One chain from `(z, (energy, excess), gradient)`; positions, excess, acceptance of draws."""
    gradient_fn = jax.value_and_grad(energy_fn, has_aux=True)

    def leapfrog(_, state):
        z, momentum, gradient, step, _ = state
        momentum = momentum - step / 2 * gradient
        z = z + step * momentum
        value, gradient = gradient_fn(z)
        return z, momentum - step / 2 * gradient, gradient, step, value

    def move(state, key):
        z, (energy, excess), gradient = state
        key_momentum, key_step, key_accept = jax.random.split(key, 3)
        momentum = jax.random.normal(key_momentum, z.shape)
        step = STEP * jax.random.uniform(key_step, minval=0.6, maxval=1.4)
        old = (z, momentum, gradient, step, (energy, excess))
        new, last, new_gradient, _, value = jax.lax.fori_loop(0, NUM_LEAPFROG, leapfrog, old)
        change = energy - value[0] + (jnp.sum(momentum**2) - jnp.sum(last**2)) / 2
        accept = jnp.log(jax.random.uniform(key_accept)) < change
        state = jax.tree.map(
            lambda a, b: jnp.where(accept, a, b),
            (new, value, new_gradient),
            (z, (energy, excess), gradient),
        )
        return state, (state[0], state[1][1], accept)

    keys = jax.random.split(key, NUM_BURNIN + num_draws)
    _, kept = jax.lax.scan(move, start, keys)
    return jax.tree.map(lambda x: x[NUM_BURNIN:], kept)


def value_on_data(
    reference: Reference, loss_fn: Callable, data: Any, *, center: PyTree, nbeta: float
) -> tuple[float, float, float]:
    """The value on one data set, from draws under the mean of its loss.

    Args:
        reference: Draws under the exact potential.
        loss_fn: `(params, examples) -> [n]`.
        data: A `Dataset`.
        center: The parameters `w*`.
        nbeta: Inverse temperature.

    Returns:
        `nbeta (E_n[L_n] - L_n(w*))`, its standard error (of the ratio of two means, by its linear
        part), and the share of the draws that the weights leave.
    """
    sampled = nbeta * np.asarray(_losses(loss_fn, reference.positions, center, data))
    log_weight = reference.excess - sampled
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.mean()
    mean = float(np.mean(weight * sampled))
    # The exact excess has the same noise at these positions, and its mean is known from all draws.
    known = float(np.mean(reference.excess))
    residual = weight * (sampled - mean) - (reference.excess - known)
    sem = np.hypot(mean_estimate(residual).sem, reference.sem)
    return mean - known + reference.mean, float(sem), float(1 / np.mean(weight**2))


@functools.partial(jax.jit, static_argnums=0)
def _losses(loss_fn, positions, center, data):
    """`L_n(w) - L_n(w*)` at positions `[chain, draw]`, draw by draw to bound the memory."""
    loss = functools.partial(mean_loss, loss_fn, data)
    by_draw = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), positions)
    return jax.lax.map(jax.vmap(loss), by_draw).T - loss(center)

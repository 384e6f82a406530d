"""Reference sampler for a whole posterior with a prior: tempered sequential Monte Carlo.

Where the LLC estimators look at one point, this looks everywhere: it follows a population of
particles from the prior to ``p(w) exp(-nbeta L(w))`` through a ladder of inverse temperatures, so
that it weighs separated phases against each other and yields the evidence. The kernels are
blackjax's.

Likelihood convention: the target is ``exp(-nbeta L)`` with ``L`` as given. If ``L`` is a squared
error that is not halved, ``nbeta = n`` is a Gaussian likelihood of variance 1/2 on ``n`` examples;
a likelihood of variance one is ``nbeta = n/2``.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.mcmc import hmc
from blackjax.smc import ess, resampling, solver, tempered
from jax.flatten_util import ravel_pytree
from jax.scipy.special import logsumexp

from slt_rl._numbers import check_count

PyTree = Any

_EFFECTIVE = 0.6  # share of the particles that one change of temperature keeps effective
_ACCEPTANCE = 0.65  # between the efficiency optima of MALA and of long Hamiltonian trajectories
_EXTRA_BLOCKS = 2  # at a requested temperature, to forget common ancestors


class Prior(NamedTuple):
    """A prior that can be sampled and evaluated; samplers compile once for equal functions.

    Attributes:
        sample_fn: ``key -> params``.
        logdensity_fn: ``params -> []``, normalized if the evidence is wanted.
    """

    sample_fn: Callable[[jax.Array], PyTree]
    logdensity_fn: Callable[[PyTree], jax.Array]


class TemperedSamples(NamedTuple):
    """Particles of equal weight at each requested inverse temperature.

    Attributes:
        nbetas: Requested inverse temperatures ``[k]``, in 1/nats per example.
        particles: Parameters with leading axes ``[k, particle]``.
        losses: Potential of each particle ``[k, particle]``.
        log_evidence: ``log E_prior[exp(-nbeta L)]`` ``[k]``.
        acceptance: Mean acceptance of the mutations in the last block ``[k]``.
        num_temperatures: Temperatures passed up to each request ``[k]``.
    """

    nbetas: np.ndarray
    particles: PyTree
    losses: np.ndarray
    log_evidence: np.ndarray
    acceptance: np.ndarray
    num_temperatures: np.ndarray


class Population(NamedTuple):
    """Particles of equal weight at one temperature.

    Attributes:
        particles: Parameters with a leading particle axis.
        nbeta: Inverse temperature.
        step_size: Common scale of the leapfrog step, in parameter units.
        log_evidence: Log evidence up to this temperature.
        acceptance: Mean acceptance of the last block of moves.
    """

    particles: PyTree
    nbeta: jax.Array
    step_size: jax.Array
    log_evidence: jax.Array
    acceptance: jax.Array


def normal_prior(params: PyTree, std: float = 1.0) -> Prior:
    """Independent ``N(0, std^2)`` on every entry of parameters shaped like ``params``.

    Raises:
        ValueError: If ``std`` is not positive.
    """
    if not std > 0:
        raise ValueError(f"std: got {std}, expected a positive number")
    leaves, structure = jax.tree.flatten(jax.eval_shape(lambda tree: tree, params))
    size = sum(leaf.size for leaf in leaves)
    return Prior(_NormalSample(std, structure, tuple(leaves)), _NormalLogDensity(std, size))


@dataclasses.dataclass(frozen=True)
class _NormalSample:
    """Equal where what it draws is distributed equally, as its density: nothing recompiles."""

    std: float
    structure: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    def __call__(self, key: jax.Array) -> PyTree:
        zeros = [jnp.zeros(leaf.shape, leaf.dtype) for leaf in self.leaves]
        flat, unravel = ravel_pytree(jax.tree.unflatten(self.structure, zeros))
        return unravel(self.std * jax.random.normal(key, flat.shape, flat.dtype))


@dataclasses.dataclass(frozen=True)
class _NormalLogDensity:
    std: float
    size: int

    def __call__(self, value: PyTree) -> jax.Array:
        log_scale = self.size * (np.log(self.std) + np.log(2 * np.pi) / 2)
        return -jnp.sum(ravel_pytree(value)[0] ** 2) / (2 * self.std**2) - log_scale


def tempered_smc(
    key: jax.Array,
    potential: Callable[[PyTree], jax.Array],
    prior: Prior,
    *,
    nbetas: Sequence[float],
    num_particles: int = 2000,
    num_moves: int = 25,
    num_leapfrog: int = 1,
    progress: Callable[[float], None] | None = None,
) -> TemperedSamples:
    """Samples ``prior(w) exp(-nbeta potential(w))`` at each of several inverse temperatures.

    From one temperature to the next the effective sample size of the weights ``exp(-(t' - t) L)``
    falls to 0.6 of the particles; then systematic resampling and Metropolized moves: Hamiltonian
    with ``num_leapfrog`` steps (one is MALA), step ``epsilon exp(0.3 N(0, 1))`` for each particle,
    ``epsilon`` adapted towards 0.65 acceptance. At a requested temperature two further blocks of
    moves let the particles forget their common ancestors. Compiled once for a potential, a prior
    and counts: name the potential, do not write a new lambda each call.

    Args:
        key: Random key, consumed.
        potential: ``params -> []``, nats per example; hashable.
        prior: The prior.
        nbetas: Increasing positive inverse temperatures.
        num_particles: Number of particles.
        num_moves: Moves of each particle at each temperature.
        num_leapfrog: Gradient evaluations of one move.
        progress: Called with the inverse temperature reached after every temperature.

    Returns:
        Particles, losses and evidence at each requested temperature.

    Raises:
        ValueError: If a count is not positive, the temperatures do not increase from zero, or no
            prior draw has a finite potential.
    """
    targets = np.asarray(nbetas, float)
    if targets.ndim != 1 or not targets.size or not np.all(np.diff(targets, prepend=0.0) > 0):
        raise ValueError(f"nbetas: got {nbetas}, expected increasing positive numbers")
    for name, count in (
        ("num_particles", num_particles),
        ("num_moves", num_moves),
        ("num_leapfrog", num_leapfrog),
    ):
        check_count(name, count)
    step_fn = functools.partial(_next_population, potential, prior, num_moves, num_leapfrog)
    return _follow(key, potential, prior, step_fn, targets, num_particles, progress)


def _follow(
    key: jax.Array,
    potential: Callable,
    prior: Prior,
    step_fn: Callable,
    targets: np.ndarray,
    num_particles: int,
    progress: Callable | None,
) -> TemperedSamples:
    """Follows the population through all temperatures and collects it at the requested ones."""
    key, key_prior = jax.random.split(key)
    population = _start(prior.sample_fn, num_particles, key_prior)
    losses_fn = functools.partial(_losses, potential)
    if not np.any(np.isfinite(losses_fn(population.particles))):
        raise ValueError("potential: not finite at any prior draw; check the scale of the prior")
    rows, count = [], 0
    for target in targets:
        limit = jnp.asarray(target, population.nbeta.dtype)
        extra = 0
        while extra < _EXTRA_BLOCKS:
            extra += bool(population.nbeta >= limit)
            population = step_fn(jax.random.fold_in(key, count), population, limit)
            count += 1
            if progress is not None:
                progress(float(population.nbeta))
        particles = jax.tree.map(np.asarray, population.particles)
        numbers = losses_fn(particles), population.log_evidence, population.acceptance, count
        rows.append((particles, *map(np.asarray, numbers)))
    return TemperedSamples(targets, *jax.tree.map(lambda *leaves: np.stack(leaves), *rows))


@functools.partial(jax.jit, static_argnums=0)
def _losses(potential: Callable, particles: PyTree) -> jax.Array:
    return jax.vmap(potential)(particles)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _start(sample_fn: Callable, num_particles: int, key: jax.Array) -> Population:
    particles = jax.vmap(sample_fn)(jax.random.split(key, num_particles))
    zero = jnp.zeros((), jnp.result_type(*jax.tree.leaves(particles)))
    return Population(particles, zero, zero + 0.3, zero, zero)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _next_population(
    potential: Callable,
    prior: Prior,
    num_moves: int,
    num_leapfrog: int,
    key: jax.Array,
    population: Population,
    limit: jax.Array,
) -> Population:
    """Reweights, resamples and moves the particles to the next temperature, at most `limit`."""
    kernel = tempered.build_kernel(
        prior.logdensity_fn,
        lambda params: -potential(params),
        functools.partial(hmc.build_kernel(), num_integration_steps=num_leapfrog),
        hmc.init,
        resampling.systematic,
    )
    losses = jax.vmap(potential)(population.particles)
    losses = jnp.where(jnp.isfinite(losses), losses, jnp.inf)
    nbeta, log_weights = _reweight(losses, population.nbeta, limit)
    weighted = tempered.TemperedSMCState(population.particles, jax.nn.softmax(log_weights), nbeta)
    key_moves, key_spread = jax.random.split(key)
    # Called with its own temperature, blackjax's kernel resamples and moves, nothing else. Its
    # adaptive variant would choose the increment from particles that still carry weights.
    tuning = _tuning(key_spread, population)
    moved, info = kernel(key_moves, weighted, num_moves, nbeta, tuning)
    acceptance = jnp.mean(info.update_info.acceptance_rate)
    return Population(
        moved.particles,
        nbeta,
        population.step_size * jnp.exp(acceptance - _ACCEPTANCE),
        population.log_evidence + logsumexp(log_weights) - jnp.log(losses.size),
        acceptance,
    )


def _reweight(losses: jax.Array, nbeta: jax.Array, limit: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The next inverse temperature and the unnormalized log weights that lead to it."""
    gap = limit - nbeta
    delta = ess.ess_solver(lambda _: -losses, None, _EFFECTIVE, gap, solver.dichotomy)
    delta = jnp.clip(delta, 0, gap)
    log_weights = jnp.where(delta > 0, -delta * losses, 0)
    return jnp.where(delta >= gap, limit, nbeta + delta), log_weights


def _tuning(key: jax.Array, population: Population) -> dict[str, jax.Array]:
    """Step size of each particle, and a unit mass matrix that all share."""
    leaves = jax.tree.leaves(population.particles)
    dtype = population.step_size.dtype
    spread = jnp.exp(0.3 * jax.random.normal(key, leaves[0].shape[:1], dtype))
    mass = jnp.ones((1, sum(leaf[0].size for leaf in leaves)), dtype)
    return {"step_size": population.step_size * spread, "inverse_mass_matrix": mass}

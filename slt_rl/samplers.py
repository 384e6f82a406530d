"""Samplers of a local posterior: the SGLD family, kinetic Langevin, and blackjax's kernels.

A sampler is a frozen pytree whose numbers are leaves. `init(key, position, oracle)` gives a state;
`step(key, state, oracle)` gives the next state and an `Info` on one recorded position. The oracle
is `(key, w) -> (U(w), grad U(w))`, exact or on a minibatch. Samplers know nothing of posteriors.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from slt_rl.increments import binomial_like, normal_like

PyTree = Any
Oracle = Callable[[jax.Array, PyTree], tuple[jax.Array, PyTree]]
NOT_RECORDED = float("nan")


class Info(NamedTuple):
    """What a diagnosis needs of the recorded position.

    Args:
        position: pytree, the recorded parameters.
        potential: `[]`, `U` at the position.
        gradient: pytree, the gradient of `U` at the position, on the same examples.
        acceptance: `[]`, Metropolis acceptance probability, NaN where none is computed.
        kinetic_temperature: `[]`, mean squared momentum (1 at equilibrium), NaN without momenta.
        num_gradients: `[]`, gradient evaluations of `U` spent on this step.
    """

    position: PyTree
    potential: jax.Array
    gradient: PyTree
    acceptance: jax.Array | float = NOT_RECORDED
    kinetic_temperature: jax.Array | float = NOT_RECORDED
    num_gradients: jax.Array | int = 1


class SGLDState(NamedTuple):
    """Position, and the preconditioner's state where there is one."""

    position: PyTree
    preconditioner: Any = ()
    mean_precision: PyTree = ()
    num_steps: Any = ()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SGLD:
    r"""Stochastic gradient Langevin dynamics, optionally preconditioned.

        w' = w - (step_size/2) G grad U(w) + sqrt(step_size G) xi,   xi ~ N(0, I)

    `G` is the identity, or the diagonal by which an optax transformation scales the gradient. The
    drift term of a changing `G` is left out, which biases the chain; with `freeze_after` the
    scales are averaged over the first steps and then kept, and the bias goes away with the step.
    The gradient vanishes at the center where chains start: give `optax.scale_by_rms` an
    `initial_scale` of about `nbeta` times the curvature, or its first steps are huge.

    Args:
        step_size: `[]`, in parameter^2 (for `G = 1`). blackjax's step is half of this.
        control_variate: anchor minibatch gradients at the center; no effect on full data.
        preconditioner: an optax transformation that scales coordinates, such as
            `optax.scale_by_rms(initial_scale=...)`; `None` for plain SGLD.
        freeze_after: number of steps after which `G` is frozen at its average; `None`: never.
        binomial_increments: draw `xi` from 9 values with the moments of a normal number up to the
            fifth (`slt_rl.increments.binomial_like`): cheaper. Six exact potentials show no shift
            of the coefficient (`benchmarks/results/increments.md`).

    References:
        Welling and Teh, "Bayesian learning via stochastic gradient Langevin dynamics", ICML 2011.
        Li et al., "Preconditioned SGLD", arXiv:1512.07666.

    Example:
        >>> SGLD(1e-4).step_size
        0.0001
    """

    step_size: Any
    control_variate: bool = dataclasses.field(default=False, metadata={"static": True})
    preconditioner: Any = dataclasses.field(default=None, metadata={"static": True})
    freeze_after: int | None = dataclasses.field(default=None, metadata={"static": True})
    binomial_increments: bool = dataclasses.field(default=False, metadata={"static": True})

    def init(self, key: jax.Array, position: PyTree, oracle: Oracle) -> SGLDState:
        """Starts at `position`."""
        del key, oracle
        if self.preconditioner is None:
            return SGLDState(position)
        zeros = optax.tree.zeros_like(position)
        return SGLDState(position, self.preconditioner.init(position), zeros, jnp.int32(0))

    def step(self, key: jax.Array, state: SGLDState, oracle: Oracle) -> tuple[SGLDState, Info]:
        """Records the position it leaves, then moves."""
        key_batch, key_noise = jax.random.split(key)
        potential, gradient = oracle(key_batch, state.position)
        draw = binomial_like if self.binomial_increments else normal_like
        noise = draw(key_noise, gradient)
        # Python floats stay weakly typed: the chain keeps the dtype of the parameters.
        half, root = self.step_size / 2, self.step_size**0.5
        state, scale = self._precondition(state, gradient)
        moved = jax.tree.map(
            lambda w, g, z, s: (w - half * s * g + root * s**0.5 * z).astype(w.dtype),
            state.position,
            gradient,
            noise,
            scale,
        )
        gradients = 2 if self.control_variate else 1
        info = Info(state.position, potential, gradient, num_gradients=gradients)
        return state._replace(position=moved), info

    def _precondition(self, state: SGLDState, gradient: PyTree) -> tuple[SGLDState, PyTree]:
        """Updates the preconditioner and returns the diagonal of `G`."""
        if self.preconditioner is None:
            return state, jax.tree.map(lambda _: 1.0, gradient)
        # The scale is read off as output over input, so the input must not be exactly zero.
        probe = jax.tree.map(lambda g: jnp.where(g == 0, 1e-12, g), gradient)
        updates, inner = self.preconditioner.update(probe, state.preconditioner, state.position)
        scale = jax.tree.map(lambda u, g: jnp.abs(u / g), updates, probe)
        count = state.num_steps + 1
        # Averages 1/G^2 (for RMS scaling, the squared gradient): one huge G leaves no trace in it.
        mean = jax.tree.map(lambda m, s: m + (s**-2 - m) / count, state.mean_precision, scale)
        updated = state._replace(preconditioner=inner, mean_precision=mean, num_steps=count)
        if self.freeze_after is None:
            return updated, scale
        frozen = state.num_steps >= self.freeze_after
        kept = state._replace(num_steps=count)
        chosen = jax.tree.map(lambda old, new: jnp.where(frozen, old, new), kept, updated)
        scale = jax.tree.map(
            lambda s, m: jnp.where(frozen, m**-0.5, s), scale, state.mean_precision
        )
        return chosen, scale


class KineticState(NamedTuple):
    """Position, momentum, and the potential and gradient at the position."""

    position: PyTree
    momentum: PyTree
    potential: jax.Array
    gradient: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KineticLangevin:
    r"""Underdamped Langevin dynamics, unit mass, one gradient a step.

    Unadjusted, the BAOAB splitting:

        p <- p - (h/2) grad U(q);  q <- q + (h/2) p;  p <- a p + sqrt(1 - a^2) xi,  a = exp(-f h)
        q <- q + (h/2) p;  p <- p - (h/2) grad U(q)

    The marginal of `q` is exact on quadratics at every stable step (`h sqrt(kappa_max) < 2`), so
    the `1/(1 - c/4)` bias of SGLD is absent. It needs full-data or exact gradients: minibatch
    noise heats it. The kinetic temperature, mean `p^2`, is 1 at equilibrium.

    Adjusted, the momentum is refreshed first and the rest is one leapfrog step, accepted with
    probability `min(1, exp(-W))`, `W` the energy it gained; on rejection the momentum is reversed
    (generalized HMC). The law is then exact at every step size, but each rejection turns the chain
    round: unadjusted chains mix better, adjusted ones audit them.

    Args:
        step_size: `[]`, `h`, in units of parameter (unit mass and temperature).
        friction: `[]`, `f`, in inverse units of `step_size`.
        adjusted: `[]`, whether to accept or reject; a number like the others, so that an audit
            needs no second compilation. The same for all chains.

    References:
        Leimkuhler and Matthews, "Rational construction of stochastic numerical methods for
        molecular sampling", Applied Mathematics Research eXpress 2013.
        Horowitz, "A generalized guided Monte Carlo algorithm", Physics Letters B 268 (1991).
    """

    step_size: Any
    friction: Any
    adjusted: Any = False

    def init(self, key: jax.Array, position: PyTree, oracle: Oracle) -> KineticState:
        """Starts at `position` with momenta from N(0, I)."""
        key_oracle, key_momentum = jax.random.split(key)
        # What is added is nothing, but without it every device would draw all of the numbers.
        drawn = normal_like(key_momentum, position)
        momentum = jax.tree.map(lambda p, w: p + 0 * w, drawn, position)
        return KineticState(position, momentum, *oracle(key_oracle, position))

    def step(self, key: jax.Array, state: KineticState, oracle: Oracle):
        """Moves, then records the position it arrived at.

        The recorded acceptance is `min(1, exp(-W))`, `W` the energy that the step gained beside its
        exchange with the bath: of an unadjusted chain too, where it measures the step's error.
        """
        key_oracle, key_noise, key_accept = jax.random.split(key, 3)
        adjusted = jnp.asarray(self.adjusted, bool)
        half = self.step_size / 2
        first = _where(adjusted, self._refresh(key_noise, state.momentum), state.momentum)
        pushed = _push(first, state.gradient, -half)
        position = _push(state.position, pushed, half)
        middle = _where(adjusted, pushed, self._refresh(key_noise, pushed))
        position = _push(position, middle, half)
        potential, gradient = oracle(key_oracle, position)
        last = _push(middle, gradient, -half)
        exchanged = _kinetic(middle) - _kinetic(pushed)
        work = potential - state.potential + _kinetic(last) - _kinetic(first) - exchanged
        # A step that leaves the finite numbers is rejected if it can be.
        acceptance = jnp.minimum(1.0, jnp.exp(jnp.where(jnp.isnan(work), -jnp.inf, -work)))
        accepted = jax.random.uniform(key_accept) < acceptance
        moved = KineticState(position, last, potential, gradient)
        stayed = state._replace(momentum=optax.tree.scale(-1, first))
        # A branch and not a choice: XLA would compute the gradient again for each thing chosen.
        new = jax.lax.cond(
            adjusted, lambda x, y: _where(accepted, x, y), lambda x, y: x, moved, stayed
        )
        temperature = 2 * _kinetic(new.momentum) / optax.tree.size(last)
        info = Info(new.position, new.potential, new.gradient, acceptance, temperature)
        return new, info

    def _refresh(self, key: jax.Array, momentum: PyTree) -> PyTree:
        """The exact Ornstein-Uhlenbeck step of the momentum over one step."""
        decay = jnp.exp(-self.friction * self.step_size)
        spread = jnp.sqrt(-jnp.expm1(-2 * self.friction * self.step_size))
        noise = normal_like(key, momentum)
        return jax.tree.map(lambda p, z: (decay * p + spread * z).astype(p.dtype), momentum, noise)


def _push(x: PyTree, direction: PyTree, factor: jax.Array) -> PyTree:
    """`x + factor direction`, in the dtype of `x`."""
    return jax.tree.map(lambda a, b: (a + factor * b).astype(a.dtype), x, direction)


def _where(condition: jax.Array, x: PyTree, y: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), x, y)


def _kinetic(momentum: PyTree) -> jax.Array:
    return optax.tree.norm(momentum, squared=True) / 2


def _as_logdensity(oracle: Oracle):
    """The log density of an exact oracle, which does not use its key."""
    return lambda position: -oracle(jax.random.key(0), position)[0]


def _blackjax():
    """Imported late: it runs an operation, which settles XLA's flags, and belongs to no trace."""
    with jax.ensure_compile_time_eval():
        import blackjax
    return blackjax


def _trajectory(algorithm, key: jax.Array, state, oracle: Oracle, step_size, length: int):
    """A trajectory of blackjax with identity mass, of so many steps or doublings."""
    mass = jnp.ones(optax.tree.size(state.position), dtype=state.logdensity.dtype)
    return algorithm.build_kernel()(key, state, _as_logdensity(oracle), step_size, mass, length)


def _blackjax_info(state, acceptance, num_gradients) -> Info:
    gradient = optax.tree.scale(-1, state.logdensity_grad)
    return Info(
        state.position, -state.logdensity, gradient, acceptance, num_gradients=num_gradients
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MALA:
    """Metropolis-adjusted Langevin: an SGLD step, accepted or rejected (blackjax).

    Args:
        step_size: `[]`, in parameter^2, in this library's convention (`SGLD`): blackjax is given
            `step_size / 2`.

    References:
        Roberts and Tweedie, Bernoulli 2 (1996). blackjax: Cabezas et al., arXiv:2402.10797.
    """

    step_size: Any

    def init(self, key: jax.Array, position: PyTree, oracle: Oracle):
        """Starts at `position`."""
        del key
        return _blackjax().mala.init(position, _as_logdensity(oracle))

    def step(self, key: jax.Array, state, oracle: Oracle):
        """One proposal; records the position after the accept or reject."""
        kernel = _blackjax().mala.build_kernel()
        state, info = kernel(key, state, _as_logdensity(oracle), self.step_size / 2)
        return state, _blackjax_info(state, info.acceptance_rate, 1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HMC:
    """Hamiltonian Monte Carlo with identity mass (blackjax).

    Args:
        step_size: `[]`, leapfrog step in units of parameter.
        num_integration_steps: leapfrog steps per proposal.

    References:
        Neal, "MCMC using Hamiltonian dynamics", 2011. blackjax: arXiv:2402.10797.
    """

    step_size: Any
    num_integration_steps: int = dataclasses.field(default=16, metadata={"static": True})

    def init(self, key: jax.Array, position: PyTree, oracle: Oracle):
        """Starts at `position`."""
        del key
        return _blackjax().hmc.init(position, _as_logdensity(oracle))

    def step(self, key: jax.Array, state, oracle: Oracle):
        """One trajectory; records the position after the accept or reject."""
        length = self.num_integration_steps
        state, info = _trajectory(_blackjax().hmc, key, state, oracle, self.step_size, length)
        return state, _blackjax_info(state, info.acceptance_rate, length)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NUTS:
    """The no-U-turn sampler with identity mass (blackjax).

    Args:
        step_size: `[]`, leapfrog step in units of parameter.
        max_num_doublings: at most `2**max_num_doublings` leapfrog steps a draw.

    References:
        Hoffman and Gelman, JMLR 15 (2014). blackjax: arXiv:2402.10797.
    """

    step_size: Any
    max_num_doublings: int = dataclasses.field(default=8, metadata={"static": True})

    def init(self, key: jax.Array, position: PyTree, oracle: Oracle):
        """Starts at `position`."""
        del key
        return _blackjax().nuts.init(position, _as_logdensity(oracle))

    def step(self, key: jax.Array, state, oracle: Oracle):
        """One trajectory; records the chosen position."""
        length = self.max_num_doublings
        state, info = _trajectory(_blackjax().nuts, key, state, oracle, self.step_size, length)
        return state, _blackjax_info(state, info.acceptance_rate, info.num_integration_steps)

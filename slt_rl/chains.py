"""The one loop: vmapped chains over vmapped centers, in jitted blocks streamed to the host.

The key of a step is `fold_in(fold_in(key, chain), step)`: draws do not depend on the length of a
block, on the number of chains or centers beside them, or on a restart.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from slt_rl.compilation import LightJit
from slt_rl.convolutions import with_fast_convolutions
from slt_rl.data import Dataset
from slt_rl.dots import dot, squared_norm
from slt_rl.draws import Draws
from slt_rl.groups import Sizes, group_size, in_groups
from slt_rl.keys import unrolled
from slt_rl.observer import Observer, scan_and_observe
from slt_rl.posterior import (
    Anchor,
    LocalPosterior,
    center_oracle,
    find_anchor,
    full_oracle,
    minibatch_oracle,
)

PyTree = Any
# Long enough that a block's own work (the center's loss, dispatch) does not count.
BLOCK_LENGTH = 128


class Problem(NamedTuple):
    """Centers to sample around, and how the target is made from a center.

    Args:
        make_target: `make_target(params, shared)` gives `(loss_fn, data)`; static and hashable.
        centers: pytree of parameters, leading axis `[center]`.
        shared: pytree of arrays passed to every `make_target` call.
        nbeta: `[]`, inverse temperature.
        localization: `[]`, in 1/parameter^2.
    """

    make_target: Callable
    centers: PyTree
    shared: PyTree
    nbeta: Any
    localization: Any

    @property
    def num_centers(self) -> int:
        """Number of centers."""
        return jax.tree.leaves(self.centers)[0].shape[0]

    @property
    def leaf_sizes(self) -> np.ndarray:
        """Parameters of each leaf of one center, `[leaf]`."""
        return np.array([leaf.size // len(leaf) for leaf in jax.tree.leaves(self.centers)])


class ChainState(NamedTuple):
    """The state of the loop: what a restart needs. Axes `[center, chain]` but for `step`."""

    sampler_state: PyTree
    alive: jax.Array
    step: jax.Array


class Numbers(NamedTuple):
    """The arrays of a problem, without its callable: arguments of the jitted functions."""

    centers: PyTree
    shared: PyTree
    nbeta: Any
    localization: Any
    anchors: Any


def numbers_of(problem: Problem, anchors: Anchor) -> Numbers:
    """Separates the arrays of a problem from its callable."""
    return Numbers(problem.centers, problem.shared, problem.nbeta, problem.localization, anchors)


# The axes of `Numbers` in a `vmap` over centers.
PER_CENTER = Numbers(0, None, None, None, 0)


def posterior_of(make_target: Callable, numbers: Numbers) -> LocalPosterior:
    """The local posterior around one center, inside a jitted function."""
    loss_fn, data = make_target(numbers.centers, numbers.shared)
    anchor, scales = numbers.anchors, (numbers.nbeta, numbers.localization)
    known = (numbers.centers, anchor.loss, anchor.gradient)
    return LocalPosterior(loss_fn, data, *known, *scales, anchor.example_losses)


def _oracle(posterior: LocalPosterior, sampler, batch_size: int | None):
    if batch_size is None:
        return full_oracle(posterior)
    return minibatch_oracle(posterior, batch_size, sampler.control_variate)


@functools.partial(LightJit, static_argnums=(0, 4))
def _find_anchors(make_target, centers, shared, key, num_iterations) -> Anchor:
    def one(params):
        loss_fn, data = make_target(params, shared)
        return find_anchor(key, loss_fn, data, params=params, num_iterations=num_iterations)

    return jax.vmap(one)(centers)


def find_anchors(key: jax.Array, problem: Problem, *, num_iterations: int = 30) -> Anchor:
    """Computes the anchors of all centers in one program, axes `[center]`; see `find_anchor`."""
    return _find_anchors(problem.make_target, problem.centers, problem.shared, key, num_iterations)


@functools.partial(LightJit, static_argnums=(0, 4, 5))
def _init(make_target, numbers, sampler, keys, num_chains, batch_size) -> ChainState:
    def one_center(numbers, sampler, key):
        if batch_size is None:
            oracle = center_oracle(numbers.anchors, numbers.centers, numbers.nbeta)
        else:
            oracle = _oracle(posterior_of(make_target, numbers), sampler, batch_size)
        # Step numbers are 0, 1, ...; the last uint32 keeps the start apart from all of them.
        fold, number = jax.random.fold_in, jnp.arange(num_chains)
        chain_keys = unrolled(jax.vmap(lambda i: fold(fold(key, i), 2**32 - 1))(number))
        over_chains = jax.vmap(lambda s, k: s.init(k, numbers.centers, oracle), in_axes=(axes, 0))
        return over_chains(sampler, unrolled(chain_keys))

    axes = _sampler_axes(sampler)
    state = jax.vmap(one_center, in_axes=(PER_CENTER, axes, 0))(numbers, sampler, keys)
    alive = jnp.ones((keys.shape[0], num_chains), dtype=bool)
    return ChainState(state, alive, jnp.int32(0))


def _record(posterior: LocalPosterior, info, alive) -> Draws:
    leaves = jax.tree.leaves
    displacement = optax.tree.sub(info.position, posterior.center)
    virial = jnp.stack(
        [
            dot(d, g) / d.size
            for d, g in zip(leaves(displacement), leaves(info.gradient), strict=True)
        ]
    )
    squared_distance = squared_norm(displacement)
    dtype = virial.dtype
    return Draws(
        posterior.excess_loss(info.potential, squared_distance),
        virial,
        squared_distance,
        jnp.asarray(info.acceptance, dtype),
        jnp.asarray(info.kinetic_temperature, dtype),
        jnp.asarray(info.num_gradients, jnp.int32),
        alive,
    )


@functools.partial(with_fast_convolutions, static_argnums=(0, 4))
def _advance_block(make_target, numbers, sampler, keys, sizes: Sizes, observer, state):
    """Runs all chains of all centers for a block, whose end takes the place of `state`.

    `keys` are those of the centers, or `[center, chain]` of the chains.
    """

    def one_chain(posterior, fixed, start):
        sampler, key = fixed
        oracle = _oracle(posterior, sampler, sizes.batch_size)

        def step(carry, number):
            old, alive, marked = carry
            new, info = sampler.step(jax.random.fold_in(key, number), old, oracle)
            draw = _record(posterior, info, alive)
            # Sums are finite only if all their terms are: the position, and its gradient.
            total = draw.excess_loss + jnp.sum(draw.virial) + draw.squared_distance
            alive = alive & jnp.isfinite(total)
            new = jax.tree.map(lambda a, b: jnp.where(alive, a, b), new, old)
            marked = marked if observer is None else observer.mark(number, info.position, marked)
            return (new, alive, marked), draw._replace(alive=alive)

        numbers = state.step + jnp.arange(sizes.num_steps)
        end, *found = scan_and_observe(step, start, numbers, posterior=posterior, observer=observer)
        return end, tuple(found)

    def one_center(numbers, sampler, key, chain_states, alive):
        posterior = posterior_of(make_target, numbers)
        keys = unrolled(key if key.ndim else center_keys(key, alive.shape[0]))
        over_chains = jax.vmap(functools.partial(one_chain, posterior), in_axes=((axes, 0), 0))
        return in_groups(over_chains, (sampler, keys), (chain_states, alive), size=sizes.together)

    axes = _sampler_axes(sampler)
    (new, alive), (draws, observations) = jax.vmap(one_center, in_axes=(PER_CENTER, axes, 0, 0, 0))(
        numbers, sampler, keys, state.sampler_state, state.alive
    )
    return ChainState(new, alive, state.step + sizes.num_steps), draws, observations


_compiled = functools.partial(jax.jit, _advance_block, static_argnums=(0, 4), donate_argnums=6)
_advance = _compiled()
# No threads within one operation: with as many programs as cores they would wait for each other.
_advance_on_one_core = _compiled(compiler_options={"xla_cpu_multi_thread_eigen": False})


def per_chain(sampler: Any, problem: Problem, num_chains: int) -> Any:
    """Gives the leaves of a sampler the dtype of the problem and the axes `[center, chain]`.

    A leaf without axes is common to all chains and stays so; one that is right, as a mere shape is.
    """
    shape, dtype = (problem.num_centers, num_chains), problem.nbeta.dtype

    def spread(leaf):
        if hasattr(leaf, "dtype") and leaf.dtype == dtype and leaf.shape in ((), shape):
            return leaf
        # Chains lie over devices where an array of JAX does; the others compile nothing.
        numbers = jnp if isinstance(leaf, jax.Array) else np
        leaf = numbers.asarray(leaf, dtype)
        leaf = leaf[:, None] if leaf.ndim == 1 else leaf
        return numbers.broadcast_to(leaf, shape) if leaf.ndim else leaf

    return jax.tree.map(spread, sampler)


def _sampler_axes(sampler: Any) -> Any:
    """Which leaves of a sampler a `vmap` runs over."""
    return jax.tree.map(lambda leaf: 0 if jnp.ndim(leaf) else None, sampler)


def start_chains(
    keys: jax.Array,
    problem: Problem,
    anchors: Anchor,
    *,
    sampler: Any,
    num_chains: int,
    batch_size: int | None = None,
) -> ChainState:
    """Starts `num_chains` chains at every center.

    Args:
        keys: `[center]` random keys.
        problem: centers and target.
        anchors: from `find_anchors`.
        sampler: a sampler whose leaves have the axes `[center, chain]`, or `[center]`, or none.
        num_chains: chains per center.
        batch_size: examples per minibatch, `None` for full data.
    """
    sampler = per_chain(sampler, problem, num_chains)
    numbers = numbers_of(problem, anchors)
    if batch_size is not None:
        return _init(problem.make_target, numbers, sampler, keys, num_chains, batch_size)
    # Of the target the anchor alone is needed: without the rest one program serves all targets.
    numbers = numbers._replace(shared=None, anchors=anchors._replace(example_losses=None))
    return _init(None, numbers, sampler, keys, num_chains, batch_size)


def block_call(
    keys: jax.Array,
    problem: Problem,
    anchors: Anchor,
    *,
    sampler: Any,
    state: ChainState,
    block_length: int,
    batch_size: int | None = None,
    observer: Observer | None = None,
) -> functools.partial:
    """Returns what advances chains by a block: a compiled function that lacks only the state.

    Args:
        keys: `[center]` random keys, the same as at the start; or `chain_keys` of them, `[center,
            chain]`, for chains that are a part of all: each part keeps to one core of a CPU.
        problem: centers and target.
        anchors: from `find_anchors`.
        sampler: as in `start_chains`.
        state: one of the states; only its shapes count.
        block_length: steps per block, a multiple of `observer.every`; draws do not depend on it.
        batch_size: examples per minibatch, `None` for full data.
        observer: what to compute beside the draws; it does not change them.
    """
    numbers = numbers_of(problem, anchors)
    sampler = per_chain(sampler, problem, state.alive.shape[1])
    together = group_size(state.sampler_state.position, sampler, numbers)
    advance = _advance if keys.ndim == 1 else _advance_on_one_core
    arguments = numbers, sampler, keys, Sizes(block_length, batch_size, together), observer
    return functools.partial(advance, problem.make_target, *arguments)


def observe_chains(
    keys: jax.Array, problem: Problem, anchors: Anchor, *, state: ChainState, **options
) -> Iterator[tuple[ChainState, Draws, PyTree]]:
    """Yields `(state, draws, observations)` block after block, without end; the caller stops.

    A block is written where the state before it lay, given or yielded: copy what is needed longer.

    Args:
        keys: as in `block_call`, like the next two and the options.
        problem: centers and target.
        anchors: their anchors.
        state: from `start_chains`, or saved from an earlier block; consumed.
        **options: of `block_call`.

    Yields:
        The state after the block, draws with axes `[center, chain, block_length]`, and what
        `observer` returns with axes `[center, chain, block_length // every, ...]`.
    """
    call = block_call(keys, problem, anchors, state=state, **options)
    while True:
        state, draws, observations = call(state)
        # All arrays travel at once.
        yield state, *jax.device_get((draws, observations))


def run_chains(
    keys: jax.Array, problem: Problem, anchors: Anchor, **options
) -> Iterator[tuple[ChainState, Draws]]:
    """Yields `(state, draws)`: `observe_chains`, whose options it takes, without an observer."""
    for state, draws, _ in observe_chains(keys, problem, anchors, **options):
        yield state, draws


def center_keys(key: jax.Array, num_centers: int, first: Any = 0) -> jax.Array:
    """The keys of the centers: `fold_in(key, index)`, whatever the chunking."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(num_centers))


@functools.partial(LightJit, static_argnums=1)
def chain_keys(keys: jax.Array, num_chains: int) -> jax.Array:
    """The keys of the chains of every center, `[center, chain]`."""
    return jax.vmap(lambda key: center_keys(key, num_chains))(keys)


def constant_target(loss_fn: Callable) -> "_ConstantTarget":
    """A `make_target` that ignores the center; equal for equal `loss_fn`, so nothing recompiles."""
    return _ConstantTarget(loss_fn)


class _ConstantTarget(NamedTuple):
    loss_fn: Callable

    def __call__(self, _: PyTree, shared: Dataset | None):
        return self.loss_fn, shared


def num_programs() -> int:
    """How many sampling programs this process has compiled: one per kind of problem."""
    programs: Any = (_advance, _advance_on_one_core)
    return sum(program._cache_size() for program in programs)

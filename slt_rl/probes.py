"""What is measured at the positions of chains beside their draws: curvature, noise, losses."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from slt_rl.chains import PER_CENTER, Problem, numbers_of, posterior_of
from slt_rl.compilation import LightJit
from slt_rl.posterior import (
    Anchor,
    curvature_along,
    largest_curvature,
    mean_loss,
    minibatch_oracle,
)

PyTree = Any
# Power iteration approaches the largest eigenvalue from below; steps keep this much distance.
CURVATURE_MARGIN = 1.2


@functools.partial(LightJit, static_argnums=(0, 5))
def _curvatures(make_target, centers, shared, positions, key, num_iterations):
    def one(center, position):
        loss_fn, data = make_target(center, shared)
        return largest_curvature(key, loss_fn, data, params=position, num_iterations=num_iterations)

    over_chains = jax.vmap(one, in_axes=(None, 0))
    return jax.vmap(over_chains)(centers, positions)


def curvatures_at(
    key: jax.Array, problem: Problem, positions: PyTree, *, num_iterations: int = 20
) -> jax.Array:
    """Largest curvature of the loss at chain positions, `[center, chain]`.

    Args:
        key: random key, consumed.
        problem: centers and target.
        positions: pytree with axes `[center, chain]`.
        num_iterations: of the power iteration.
    """
    numbers = problem.centers, problem.shared, positions, key
    return _curvatures(problem.make_target, *numbers, num_iterations)


@functools.partial(LightJit, static_argnums=(0, 7))
def _judged(make_target, centers, shared, gradients, ends, indices, key, num_iterations):
    def one_center(center, gradient, ends):
        loss_fn, data = make_target(center, shared)
        data = data if indices is None else data.take(indices)

        def largest(position):
            options = {"params": position, "num_iterations": num_iterations}
            return largest_curvature(key, loss_fn, data, **options)

        positions = jax.tree.map(lambda c, e: jnp.concatenate([c[None], e]), center, ends)
        # A product of its own, which compiles in less time than it would take at all the ends.
        along = curvature_along(loss_fn, data, params=center, direction=gradient)
        return jax.vmap(largest)(positions), along

    return jax.vmap(one_center)(centers, gradients, ends)


def judged_curvatures(
    key: jax.Array,
    problem: Problem,
    anchors: Anchor,
    *,
    ends: PyTree,
    num_iterations: int,
    num_examples: int,
) -> functools.partial:
    """A call, to be compiled ahead or made, for the curvatures that a given sampler is judged by.

    Args:
        key: random key, consumed.
        problem: centers and target.
        anchors: from `find_anchors`, for their gradients.
        ends: where chains ended, pytree with axes `[center, chain]`.
        num_iterations: of the power iteration.
        num_examples: so many examples drawn from larger data stand for all of them.

    Returns:
        A call that returns the largest curvatures `[center, 1 + chain]`, at the center before the
        ends, and at the center the one along its gradient, `[center]`.
    """
    size, indices = num_examples_of(anchors), None
    if size is not None and size > num_examples:
        indices = choose_examples(key, size, num_examples)
    numbers = problem.centers, problem.shared, anchors.gradient, ends, indices, key
    return functools.partial(_judged, problem.make_target, *numbers, num_iterations)


def stiffness_of(problem: Problem, curvature: np.ndarray) -> np.ndarray:
    """`kappa_max = nbeta h_max + localization`, at least 1 so that a step always exists."""
    stiffness = float(problem.nbeta) * CURVATURE_MARGIN * np.asarray(curvature, np.float64)
    return np.maximum(stiffness + float(problem.localization), 1.0)


# Compiled once and run once.
@functools.partial(LightJit, static_argnums=(0, 4, 5), level=0)
def _gradient_noise(make_target, numbers, positions, key, batch_size, control_variate):
    def one(posterior, position):
        oracle = minibatch_oracle(posterior, batch_size, control_variate)
        gradients = jax.lax.map(lambda k: oracle(k, position)[1], jax.random.split(key))
        difference = jax.tree.map(lambda g: g[0] - g[1], gradients)
        return optax.tree.norm(difference, squared=True) / (2 * optax.tree.size(difference))

    def one_center(numbers, positions):
        posterior = posterior_of(make_target, numbers)
        return jax.vmap(lambda position: one(posterior, position))(positions).mean()

    return jax.vmap(one_center, in_axes=(PER_CENTER, 0))(numbers, positions)


def gradient_noise(
    key: jax.Array,
    problem: Problem,
    anchors: Anchor,
    *,
    sampler: Any,
    positions: PyTree,
    batch_size: int,
) -> functools.partial:
    """A call, to be compiled ahead or made, for the variance of the minibatch gradient of `U`.

    Args:
        key: random key, consumed.
        problem: centers and target.
        anchors: from `find_anchors`.
        sampler: whose gradient it is, with its control variate or without.
        positions: where it is measured, pytree with axes `[center, chain]`.
        batch_size: examples per gradient.

    Returns:
        A call that returns the variance per parameter, `[center]`, from two minibatches at every
        position: half the squared difference of their gradients.
    """
    numbers = numbers_of(problem, anchors), positions, key
    return functools.partial(
        _gradient_noise, problem.make_target, *numbers, batch_size, sampler.control_variate
    )


def heating_of(noise: jax.Array, sampler: Any, problem: Problem) -> np.ndarray:
    """What gradient noise adds to the estimate, `[center]`, to first order in the step.

    Noise of variance `s_i^2` in the gradient of `U` raises the temperature of direction `i` by
    `epsilon s_i^2/4`, and each stiff direction holds half a unit: `epsilon sum_i s_i^2 / 8`.
    """
    epsilon = step_sizes_of(sampler, problem).mean(axis=-1)
    dimension = problem.leaf_sizes.sum()
    total = epsilon * np.asarray(noise, np.float64) * dimension / 8
    return np.nan_to_num(total, nan=np.inf)


def step_sizes_of(sampler: Any, problem: Problem) -> np.ndarray:
    """Steps with an axis of chains, `[center, chain]`; of one chain if all have the same."""
    steps = np.asarray(sampler.step_size, np.float64)
    return np.broadcast_to(steps, (problem.num_centers, *(steps.shape[1:] or (1,))))


@functools.partial(LightJit, static_argnums=0)
def _along_rays(make_target, centers, shared, positions, fractions):
    def one(center, position):
        loss_fn, data = make_target(center, shared)
        ray = optax.tree.sub(position, center)

        def along(fraction):
            at = jax.tree.map(lambda c, r: (c + fraction * r).astype(c.dtype), center, ray)
            return jax.jvp(lambda w: mean_loss(loss_fn, data, w), (at,), (ray,))

        return jax.lax.map(along, fractions)

    over_chains = jax.vmap(one, in_axes=(None, 0))
    return jax.vmap(over_chains)(centers, positions)


def along_rays(
    problem: Problem, positions: PyTree, fractions: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Loss and slope, `L(w* + t v)` and `v . grad L(w* + t v)` with `v = w - w*`.

    Args:
        problem: centers and target.
        positions: the `w`, axes `[center, chain]`.
        fractions: `[t]`.

    Returns:
        Two arrays `[center, chain, t]`.
    """
    return _along_rays(problem.make_target, problem.centers, problem.shared, positions, fractions)


@functools.partial(LightJit, static_argnums=0)
def _example_losses(make_target, centers, shared, center_losses, positions, indices):
    def one_center(center, center_losses, positions):
        loss_fn, data = make_target(center, shared)
        batch = data.take(indices)
        losses = jax.vmap(loss_fn, in_axes=(0, None))(positions, batch.examples)
        losses -= center_losses[indices]
        return losses if batch.weights is None else batch.weights * losses

    return jax.vmap(one_center)(centers, center_losses, positions)


def example_losses(
    problem: Problem, anchors: Anchor, *, positions: PyTree, indices: np.ndarray
) -> jax.Array:
    """Weighted excess losses `l_i(w) - l_i(w*)` of chosen examples, `[center, chain, index]`."""
    return _example_losses(
        problem.make_target,
        problem.centers,
        problem.shared,
        anchors.example_losses,
        positions,
        indices,
    )


def num_examples_of(anchors: Anchor) -> int | None:
    """Examples of the data set, the same for all centers; None for an exact potential."""
    return None if anchors.example_losses is None else anchors.example_losses.shape[1]


def choose_examples(key: jax.Array, num_examples: int, most: int) -> np.ndarray:
    """Indices of all examples, or of `most` of them drawn without replacement; others for each.

    By NumPy, seeded with the key: a program that sorts would have to be compiled for every size.
    """
    if num_examples <= most:
        return np.arange(num_examples)
    seed = [*np.asarray(jax.random.key_data(key)).ravel().tolist(), most]
    return np.random.default_rng(seed).choice(num_examples, most, replace=False)

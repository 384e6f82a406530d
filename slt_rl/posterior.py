"""The local posterior: the only owner of `n * beta`, of the localization and of the center."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from slt_rl.data import Dataset
from slt_rl.dots import squared_norm, tree_dot
from slt_rl.increments import normal_like
from slt_rl.keys import unrolled

PyTree = Any
# `(key, w) -> (U(w), grad U(w))`: all that samplers see of a posterior.
Oracle = Callable[[jax.Array, PyTree], tuple[jax.Array, PyTree]]
# Examples in each of two batches whose losses are compared with those of both together.
COMPARED_EXAMPLES = 16


class Anchor(NamedTuple):
    """What is known of the center `w*`, computed once on the full data.

    Args:
        loss: `[]`, `L(w*)` in nats per example.
        gradient: the gradient of `L` at `w*`, a pytree like the parameters.
        squared_gradient: `[]`, `|g|^2`.
        curvature: `[]`, largest absolute eigenvalue of the Hessian of `L` near `w*`.
        gradient_curvature: `[]`, `g'Hg / |g|^2`, the curvature along the gradient.
        example_losses: `[n]`, the losses of the examples at `w*`, `None` for an exact potential.
        batch_dependence: `[]`, see `batch_dependence`; 0 for an exact potential.
    """

    loss: jax.Array
    gradient: PyTree
    squared_gradient: jax.Array
    curvature: jax.Array
    gradient_curvature: jax.Array
    example_losses: jax.Array | None
    batch_dependence: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LocalPosterior:
    """The localized, tempered posterior around a center `w*`.

        p(w) ~ exp(-U(w)),   U(w) = n beta (L(w) - L(w*)) + localization/2 |w - w*|^2

    Args:
        loss_fn: `loss_fn(params, examples) -> [n]` per-example losses in nats if `data` is given,
            else an exact potential `loss_fn(params) -> []`.
        data: the data set, or `None` for an exact potential.
        center: pytree of parameters `w*`.
        center_loss: `[]`, `L(w*)` on the full data.
        center_gradient: the gradient of `L` at `w*` on the full data.
        nbeta: `[]`, inverse temperature `n beta`.
        localization: `[]`, in 1/parameter^2.
        center_losses: `[n]`, the losses of the examples at `w*`; without them every minibatch
            computes its own.

    References:
        Lau et al., "The Local Learning Coefficient", arXiv:2308.12108.
    """

    loss_fn: Callable = dataclasses.field(metadata={"static": True})
    data: Dataset | None
    center: PyTree
    center_loss: Any
    center_gradient: PyTree
    nbeta: Any
    localization: Any
    center_losses: Any = None

    def squared_distance(self, params: PyTree) -> jax.Array:
        """Returns `|w - w*|^2`."""
        return squared_norm(optax.tree.sub(params, self.center))

    def potential(self, params: PyTree) -> jax.Array:
        """Returns `U(w)` on the full data; `U(w*) = 0`."""
        excess = mean_loss(self.loss_fn, self.data, params) - self.center_loss
        return self.nbeta * excess + self.localization / 2 * self.squared_distance(params)

    def excess_loss(self, potential: jax.Array, squared_distance: jax.Array) -> jax.Array:
        """Recovers `L(w) - L(w*)` from `U(w)` and `|w - w*|^2`."""
        return (potential - self.localization / 2 * squared_distance) / self.nbeta


def mean_loss(loss_fn: Callable, data: Dataset | None, params: PyTree) -> jax.Array:
    """Returns the loss `L(w)`: the weighted mean over the data, or the exact potential."""
    if data is None:
        return loss_fn(params)
    return data.mean(loss_fn(params, data.examples))


def full_oracle(posterior: LocalPosterior) -> Oracle:
    """Returns `(key, w) -> (U(w), grad U(w))` on the full data; the key is not used."""
    value_and_grad = jax.value_and_grad(posterior.potential)
    return lambda key, params: value_and_grad(params)


def center_oracle(anchor: Anchor, center: PyTree, nbeta: Any) -> Oracle:
    """Returns the tangent of the full-data `U` at `w*`, known from the anchor: `(U, grad U)`.

    For chains that start at the center, where it is exact: no loss is compiled to know this, so
    that one program starts the chains of all targets.
    """
    gradient = optax.tree.scale(nbeta, anchor.gradient)

    def oracle(key, params):
        # Not the constant zero: some samplers differentiate the value.
        value = tree_dot(gradient, optax.tree.sub(params, center))
        return value.astype(anchor.loss.dtype), gradient

    return oracle


def minibatch_oracle(
    posterior: LocalPosterior, batch_size: int, control_variate: bool = False
) -> Oracle:
    """Returns unbiased minibatch estimates of `(U(w), grad U(w))`.

    The value is paired: `n beta (L_B(w) - L_B(w*))` on the same examples `B`, drawn uniformly
    with replacement, so that the noise common to both positions cancels; the losses of all
    examples at `w*` are known from the start. With the control variate the gradient is
    `g_B(w) - g_B(w*) + g_n(w*)`, whose noise vanishes at the center, and the value its integral,
    `n beta (L_B(w) - L_B(w*) - (g_B(w*) - g_n(w*)) . (w - w*))`, whose noise is of second order in
    the distance; it costs one more gradient a step.

    Args:
        posterior: the local posterior; its `data` is required.
        batch_size: examples per minibatch.
        control_variate: whether to anchor the gradient at the center.

    References:
        Baker et al., "Control variates for stochastic gradient MCMC", arXiv:1706.05439.
    """
    data = posterior.data
    assert data is not None

    def batch_loss(params, batch):
        return batch.mean(posterior.loss_fn(params, batch.examples))

    def oracle(key, params):
        indices = jax.random.randint(key, (batch_size,), 0, len(data))
        batch = data.take(indices)
        loss, gradient = jax.value_and_grad(batch_loss)(params, batch)
        pull = optax.tree.sub(params, posterior.center)
        if control_variate:
            center_loss, center_gradient = jax.value_and_grad(batch_loss)(posterior.center, batch)
            noise = optax.tree.sub(center_gradient, posterior.center_gradient)
            gradient = optax.tree.sub(gradient, noise)
            center_loss += tree_dot(noise, pull)
        elif posterior.center_losses is None:
            center_loss = batch_loss(posterior.center, batch)
        else:
            center_loss = batch.mean(posterior.center_losses[indices])
        value = posterior.nbeta * (loss - center_loss)
        value += posterior.localization / 2 * squared_norm(pull)
        return value, jax.tree.map(
            lambda g, p: posterior.nbeta * g + posterior.localization * p, gradient, pull
        )

    return oracle


def largest_curvature(
    key: jax.Array,
    loss_fn: Callable,
    data: Dataset | None,
    *,
    params: PyTree,
    num_iterations: int = 30,
) -> jax.Array:
    """Returns the largest absolute Hessian eigenvalue of the loss, by power iteration.

    Each iteration is one Hessian-vector product (forward over reverse); the result approaches the
    eigenvalue from below.
    """
    return curvatures(key, loss_fn, data, params=params, num_iterations=num_iterations)[0]


def curvatures(
    key: jax.Array,
    loss_fn: Callable,
    data: Dataset | None,
    *,
    params: PyTree,
    direction: PyTree = None,
    num_iterations: int = 30,
) -> tuple[jax.Array, jax.Array]:
    """Returns `largest_curvature`, and `g'Hg / |g|^2` for a direction `g` in the same program.

    With a direction the first of the products is along it: one more iteration, and the Hessian is
    compiled once. Zero along a direction of length zero, or without one.
    """
    gradient_fn = jax.grad(lambda w: mean_loss(loss_fn, data, w))

    def iterate(carry, number):
        vector, along = carry
        is_first = number < 0
        used = vector
        if direction is not None:
            used = jax.tree.map(lambda d, v: jnp.where(is_first, d, v), direction, vector)
        product = jax.jvp(gradient_fn, (params,), (used,))[1]
        norm = optax.tree.norm(product)
        along = jnp.where(is_first, tree_dot(used, product), along)
        # A zero product (flat loss) keeps the old vector: the curvature is then zero.
        moves = (norm > 0) & ~is_first
        scale = jnp.where(moves, 1 / jnp.where(moves, norm, 1), 0)
        vector = jax.tree.map(lambda p, v: jnp.where(moves, p * scale, v), product, vector)
        return (vector, along), norm

    start = normal_like(unrolled(key), params)
    start = optax.tree.scale(1 / optax.tree.norm(start), start)
    numbers = jnp.arange(0 if direction is None else -1, num_iterations)
    zero = jnp.zeros((), optax.tree.norm(start).dtype)
    (_, along), norms = jax.lax.scan(iterate, (start, zero), numbers)
    if direction is None:
        return norms[-1], along
    return norms[-1], _per_square(along, direction)


def curvature_along(
    loss_fn: Callable, data: Dataset | None, *, params: PyTree, direction: PyTree
) -> jax.Array:
    """Returns `g'Hg / |g|^2` for a direction `g`, with one product; zero where its length is."""
    gradient_fn = jax.grad(lambda w: mean_loss(loss_fn, data, w))
    product = jax.jvp(gradient_fn, (params,), (direction,))[1]
    return _per_square(tree_dot(direction, product), direction)


def _per_square(along: jax.Array, direction: PyTree) -> jax.Array:
    square = squared_norm(direction)
    return jnp.where(square > 0, along / jnp.where(square > 0, square, 1), 0)


def find_anchor(
    key: jax.Array,
    loss_fn: Callable,
    data: Dataset | None,
    *,
    params: PyTree,
    num_iterations: int = 30,
) -> Anchor:
    """Computes loss, gradient and curvatures at the center on the full data.

    Each iteration of the power iteration for the largest curvature is a Hessian-vector product;
    with none the curvatures are not measured: NaN.
    """

    def loss_and_losses(w):
        if data is None:
            return loss_fn(w), None
        losses = loss_fn(w, data.examples)
        return data.mean(losses), losses

    (loss, losses), gradient = jax.value_and_grad(loss_and_losses, has_aux=True)(params)
    square = optax.tree.norm(gradient, squared=True)
    curvature = along = jnp.full_like(loss, jnp.nan)
    if num_iterations:
        curvature, along = curvatures(
            key, loss_fn, data, params=params, direction=gradient, num_iterations=num_iterations
        )
    dependence = jnp.zeros(()) if data is None else batch_dependence(loss_fn, data, params)
    return Anchor(loss, gradient, square, curvature, along, losses, dependence)


def batch_dependence(loss_fn: Callable, data: Dataset, params: PyTree) -> jax.Array:
    r"""By how much the loss of an example depends on the others in its batch, relative.

        sum_i |l_i(together) - l_i(apart)| / sum_i |l_i(together)|

    over `2k` examples that are spread over the data: all of them in one batch, and in two batches
    of `k`. Zero but for rounding where the loss is one of single examples. It is asked beside the
    parameters, for at them all losses may be zero; any point tells.

    Raises:
        ValueError: if the loss of a batch of `k` examples has not the shape `[k]`.
    """
    size = min(COMPARED_EXAMPLES, len(data) // 2)
    if size == 0:
        return jnp.zeros(())
    spread = np.linspace(0, len(data) - 1, 2 * size).astype(int)
    together = data.take(spread).examples
    apart = jax.tree.map(lambda x: x.reshape(2, size, *x.shape[1:]), together)
    beside = jax.tree.map(_beside, params)
    losses_fn = functools.partial(_batch_losses, loss_fn, len(data))
    whole = losses_fn(beside, together)
    halves = jax.vmap(losses_fn, in_axes=(None, 0))(beside, apart).reshape(2 * size)
    scale = jnp.sum(jnp.abs(whole))
    return jnp.sum(jnp.abs(whole - halves)) / jnp.where(scale > 0, scale, 1)


def _beside(leaf: jax.Array) -> jax.Array:
    """Parameters moved by about a tenth, each by another amount, zeros as well."""
    moves = jnp.cos(jnp.arange(1, leaf.size + 1).reshape(leaf.shape))
    return (leaf + 0.1 * (1 + jnp.abs(leaf)) * moves).astype(leaf.dtype)


def _batch_losses(loss_fn: Callable, num_examples: int, params: PyTree, examples: PyTree):
    """The losses of a batch, or an error that says what is wrong with a loss that has none."""
    size = jax.tree.leaves(examples)[0].shape[0]
    expected = (
        f"loss_fn: of a batch of {size} of the {num_examples} examples, [{size}] losses are "
        "expected, from the examples it is handed and no others; "
    )
    try:
        losses = loss_fn(params, examples)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{expected}it failed: {error}") from error
    if losses.shape != (size,):
        raise ValueError(f"{expected}it returned shape {losses.shape}")
    return losses

"""Exact population loss and exact policy divergence of the toy model of superposition."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from toy_models.superposition_model import Params, check_params, check_shape, gram_matrix


def population_loss(
    params: Params,
    probabilities: jax.Array | None = None,
    amplitudes: jax.Array | None = None,
    *,
    output_weights: jax.Array | None = None,
) -> jax.Array:
    """Exact population loss ``sum_ij p_i v_j E (mu 1[i=j] - relu(mu W_i.W_j + b_j))^2``.

    With ``mu = A_i s`` and ``g = A_i W_i.W_j`` the pre-activation ``u = g s + b_j`` is linear on
    ``s in [0, 1]`` and positive on an interval of width ``h``. With ``d = A_i 1[i=j]`` and the end
    values ``u_0, u_1 >= 0`` of the rectified output, the pair contributes

        d^2 (1 - h)^3 / 3 + h (e_0^2 + e_0 e_1 + e_1^2) / 3,
        e_0 = d (1 - h) - u_0,    e_1 = d - u_1,

    a sum of squares without cancellation, so that it serves in float32 too. (A diagonal pair has
    ``g >= 0``: it is silent on ``[0, 1 - h]``.) The width depends on the parameters and is
    differentiated: the diagonal of the Hessian needs it.

    Args:
        params: ``{"W": [2, c], "b": [c]}``.
        probabilities: Feature probabilities ``p`` ``[c]``; ``1/c`` if None.
        amplitudes: Amplitude ranges ``A`` ``[c]``, ``mu ~ U[0, A_i]``; one if None.
        output_weights: Weights ``v`` ``[c]`` of the output coordinates; one if None.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If a shape is not ``[c]``.
    """
    check_params(params)
    num_features = params["b"].shape[0]
    for name, value in (
        ("probabilities", probabilities),
        ("amplitudes", amplitudes),
        ("output_weights", output_weights),
    ):
        check_shape(name, value, num_features)
    gram = gram_matrix(params["W"])
    targets = jnp.eye(num_features, dtype=gram.dtype)
    if amplitudes is not None:
        scale = jnp.asarray(amplitudes, gram.dtype)[:, None]
        gram, targets = scale * gram, scale * targets
    costs = pair_costs(gram, params["b"], targets, xp=jnp)
    if output_weights is not None:
        costs = costs * jnp.asarray(output_weights, gram.dtype)
    if probabilities is None:
        return jnp.sum(costs) / num_features
    return jnp.sum(jnp.asarray(probabilities, gram.dtype)[:, None] * costs)


def population_loss_host(weights: np.ndarray, biases: np.ndarray) -> np.ndarray:
    """The uniform population loss in float64 NumPy for stacked parameters.

    Args:
        weights: ``W`` of shape ``[..., 2, c]``.
        biases: ``b`` of shape ``[..., c]``.

    Returns:
        Losses of shape ``[...]``.
    """
    weights = np.asarray(weights, np.float64)
    gram = np.swapaxes(weights, -1, -2) @ weights
    biases = np.asarray(biases, np.float64)[..., None, :]
    costs = pair_costs(gram, biases, np.eye(gram.shape[-1]), xp=np)
    return np.mean(np.sum(costs, axis=-1), axis=-1)


def population_kl(
    params: Params,
    reference: Params,
    sigma: float | jax.Array,
    *,
    probabilities: jax.Array | None = None,
    amplitudes: jax.Array | None = None,
) -> jax.Array:
    """Exact ``E|f(x, w) - f(x, w_ref)|^2 / (2 sigma^2)``, the mean KL of two Gaussian policies.

    For each pair of features the difference ``D(s)`` of the two outputs is continuous and linear
    between the break points of either, so each piece gives ``width (D_a^2 + D_a D_b + D_b^2)/3``:
    a sum of squares, exactly zero at the reference and with the right curvature there.

    Args:
        params: ``{"W": [2, c], "b": [c]}``.
        reference: The frozen parameters, of the same shapes.
        sigma: Standard deviation of each action coordinate.
        probabilities: Feature probabilities ``[c]``; ``1/c`` if None.
        amplitudes: Amplitude ranges ``[c]``; one if None.

    Returns:
        The divergence in nats, a scalar.

    Raises:
        ValueError: If shapes differ or ``sigma`` is a number that is not positive.
    """
    check_params(params)
    check_params(reference)
    num_features = params["b"].shape[0]
    if reference["b"].shape[0] != num_features:
        raise ValueError(
            f"reference: has {reference['b'].shape[0]} features, expected {num_features}"
        )
    if isinstance(sigma, (int, float)) and not sigma > 0:
        raise ValueError(f"sigma: got {sigma}, expected a positive number")
    check_shape("probabilities", probabilities, num_features)
    check_shape("amplitudes", amplitudes, num_features)
    dtype = params["W"].dtype
    reference = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), reference)
    scale = 1.0 if amplitudes is None else jnp.asarray(amplitudes, dtype)[:, None]
    lines = [line_of(scale * gram_matrix(p["W"]), p["b"]) for p in (params, reference)]
    cost = jnp.sum(squared_difference(*lines), axis=-1)
    if probabilities is None:
        return jnp.mean(cost) / (2 * sigma**2)
    return jnp.sum(jnp.asarray(probabilities, dtype) * cost) / (2 * sigma**2)


class Line(NamedTuple):
    """A rectified line ``relu(slope s + offset)`` on [0, 1] and its break point, if inside."""

    slope: jax.Array
    offset: jax.Array
    inside: jax.Array
    point: jax.Array


def line_of(slope: jax.Array, bias: jax.Array) -> Line:
    """The line of each pair, slopes ``[c, c]`` and biases ``[c]`` of the outputs."""
    offset = jnp.broadcast_to(bias, slope.shape)
    inside = offset * (slope + offset) < 0
    point = jnp.where(inside, -offset / jnp.where(inside, slope, 1), 0)
    return Line(slope, offset, inside, point)


def _value_at(line: Line, s: jax.Array, active: jax.Array) -> jax.Array:
    """Value at ``s``; ``active`` tells on which side of its own break point a line is at ``s``.

    The side is passed in because at coinciding break points the sign of a rounded pre-activation
    would pick an arbitrary chamber, and with it a wrong Hessian.
    """
    broken = jnp.where(active, line.slope * (s - line.point), 0)
    return jnp.where(line.inside, broken, jax.nn.relu(line.slope * s + line.offset))


def squared_difference(own: Line, other: Line) -> jax.Array:
    """``int_0^1 (relu(own) - relu(other))^2 ds``, elementwise."""
    at_zero = jax.nn.relu(own.offset) - jax.nn.relu(other.offset)
    at_one = jax.nn.relu(own.slope + own.offset) - jax.nn.relu(other.slope + other.offset)
    own_first = own.point <= other.point
    other_active = (other.slope < 0) == own_first
    own_active = (own.slope > 0) == own_first
    at_own = jnp.where(own.inside, -_value_at(other, own.point, other_active), at_zero)
    at_other = jnp.where(other.inside, _value_at(own, other.point, own_active), at_zero)
    first = jnp.where(own_first, own.point, other.point)
    second = jnp.where(own_first, other.point, own.point)
    at_first = jnp.where(own_first, at_own, at_other)
    at_second = jnp.where(own_first, at_other, at_own)
    return (
        _piece(first, at_zero, at_first)
        + _piece(second - first, at_first, at_second)
        + _piece(1 - second, at_second, at_one)
    )


def _piece(width: Any, start: Any, end: Any) -> Any:
    """Integral of the square of a line over an interval from its values at the ends."""
    return width * (start**2 + start * end + end**2) / 3


def pair_costs(gram: Any, biases: Any, targets: Any, *, xp: Any) -> Any:
    """Integral over ``s`` of ``(target s - relu(gram s + bias))^2`` for each pair.

    Args:
        gram: Slopes ``[..., c, c]``, not negative where the target is not zero.
        biases: Offsets, broadcastable to the slopes.
        targets: Slopes of the targets, broadcastable to the slopes.
        xp: The array module, ``jax.numpy`` or ``numpy``.

    Returns:
        Costs of the shape of the slopes.
    """
    end = gram + biases
    inside = biases * end < 0
    at_zero, at_one = _relu(biases + 0 * gram, xp), _relu(end, xp)
    # Only where the line crosses zero is the slope surely non-zero: guard the division elsewhere.
    crossing = (at_one - at_zero) / xp.where(inside, gram, 1)
    width = xp.where(inside, crossing, xp.where(at_zero + at_one > 0, 1, 0))
    silent = targets * (1 - width)
    return _piece(1 - width, 0, silent) + _piece(width, silent - at_zero, targets - at_one)


def _relu(x: Any, xp: Any) -> Any:
    return jax.nn.relu(x) if xp is jnp else np.maximum(x, 0)

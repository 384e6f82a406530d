"""Two-layer linear policies: Gaussian at several anchors, and softmax.

References:
    Aoyagi and Watanabe, Neural Networks 18 (2005) 924. At the anchor ``(I, 0)`` the zero fiber is
    smooth of codimension four, so the learning coefficient is 2 there and 3/2 at ``(0, 0)``.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from toy_models import deep_linear, networks, quadrature_layers
from toy_models.problem import ToyProblem


def gaussian_zero(widths: tuple[int, int, int]) -> ToyProblem:
    """KL of ``N(W_2 W_1 s, I)`` to the policy of zero mean, ``E s s^T = I``, at zero layers.

    Args:
        widths: State, hidden and action dimension, one of them at most two.

    Returns:
        The problem, equal in value to `toy_models.networks.reduced_rank_zero`.
    """
    name = "linear_policy_kl_" + "_".join(map(str, widths))
    return dataclasses.replace(networks.reduced_rank_zero(widths), name=name, kind="rl")


def gaussian_rank(rank: int) -> ToyProblem:
    """KL of ``N(W_2 W_1 s, I)``, all 2 x 2, ``E s s^T = I``, to a frozen mean of a positive rank.

    The frozen mean is that of the first ``rank`` coordinates of the state, the others are zero.

    Args:
        rank: 1 or 2.

    Returns:
        The problem, centered at balanced layers.

    Raises:
        ValueError: If the rank is neither; `gaussian_zero` is that of rank zero.
    """
    if rank not in (1, 2):
        raise ValueError(f"rank: got {rank}, expected 1 or 2")
    name = f"linear_policy_kl_2_2_2_rank_{rank}"
    return dataclasses.replace(
        deep_linear.deep_linear((2, 2, 2), (1.0,) * rank, name=name), kind="rl"
    )


def gaussian_value(hidden: int, out: int) -> ToyProblem:
    """KL of a two-layer linear Gaussian policy of one state feature to a truth of rank one.

    Args:
        hidden: Hidden width.
        out: Action dimension.

    Returns:
        The problem, equal in value to `toy_models.networks.reduced_rank_one`.
    """
    name = f"linear_policy_kl_1_{hidden}_{out}_rank_1"
    return dataclasses.replace(networks.reduced_rank_one(hidden, out), name=name, kind="rl")


def state_subset_identity() -> ToyProblem:
    """The 2 x 2 x 2 linear policy of zero mean at ``W_1 = I, W_2 = 0``: 2, not the 3/2 of zero.

    The policy is the same as at ``(0, 0)``. At weak localization the chain leaks to singular
    ``W_1`` and the finite value tends to 3/2; the exact value includes that.

    Returns:
        The problem.
    """
    return ToyProblem(
        name="linear_policy_kl_at_identity",
        kind="rl",
        params=(jnp.eye(2), jnp.zeros((2, 2))),
        llc=2.0,
        potential=lambda params: jnp.sum(deep_linear.product(params) ** 2) / 2,
        finite_llc=lambda nbeta, localization: (
            quadrature_layers.near_identity(nbeta, localization).llc
        ),
    )


def softmax_two_layers(rank: int = 0) -> ToyProblem:
    """KL of ``softmax(W_2 W_1 x)``, three actions, two hidden units, twelve inputs, to a truth.

    The common shift of logits is flat, so two outputs count: reduced rank regression (2, 2, 2).

    Args:
        rank: 0 for the uniform truth, 2 for logits ``C x`` with ``C = [[1,0],[0,1],[-1,.3]]``.

    Returns:
        The problem, centered at balanced layers.

    Raises:
        ValueError: If the rank is neither.
    """
    if rank not in (0, 2):
        raise ValueError(f"rank: got {rank}, expected 0 or 2")
    inputs = np.random.default_rng(0).normal(size=(12, 2))
    target = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.3]]) if rank else np.zeros((3, 2))
    left, singular, right = np.linalg.svd(target, full_matrices=False)
    logits = inputs @ target.T
    frozen = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    root = np.sqrt(singular)
    llc, multiplicity = deep_linear.deep_linear_llc((2, 2, 2), rank)

    def potential(params):
        dtype = params[0].dtype
        log_policy = jax.nn.log_softmax(jnp.asarray(inputs, dtype) @ deep_linear.product(params).T)
        log_frozen = jnp.asarray(frozen, dtype)
        return jnp.mean(jnp.sum(jnp.exp(log_frozen) * (log_frozen - log_policy), axis=1))

    return ToyProblem(
        name=f"softmax_two_layers_rank_{rank}",
        kind="rl",
        params=(jnp.asarray(root[:, None] * right), jnp.asarray(left * root)),
        llc=llc,
        multiplicity=multiplicity,
        potential=potential,
    )


def suite() -> tuple[ToyProblem, ...]:
    """The problems of this file for the catalog."""
    return (
        gaussian_zero((2, 2, 2)),
        gaussian_zero((3, 1, 3)),
        gaussian_rank(1),
        gaussian_rank(2),
        gaussian_value(2, 3),
        state_subset_identity(),
        softmax_two_layers(0),
        softmax_two_layers(2),
    )

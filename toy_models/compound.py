"""Coupled quadratics, products of many coordinates, and sums of independent blocks.

References:
    Watanabe, "Algebraic Geometry and Statistical Learning Theory", 2009: normal crossings, sums
    over disjoint variables (``llc`` adds, ``m - 1`` adds). Finite values:
    `toy_models.quadrature_layers`.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from toy_models import exact, quadrature, quadrature_layers
from toy_models.problem import ToyProblem


def coupled_quadratic(curvatures: Sequence[float], seed: int = 0) -> ToyProblem:
    """``K = 1/2 |diag(sqrt h) Q w|^2`` with a random rotation ``Q``: no coordinate is an axis.

    Args:
        curvatures: The ``h_i >= 0``, not all zero.
        seed: Seed of the rotation.

    Returns:
        The problem, centered at zero; its learning coefficient is half the number of ``h_i > 0``.

    Raises:
        ValueError: If a curvature is negative or all are zero.
    """
    h = np.asarray(curvatures, float)
    if np.any(h < 0) or not np.any(h > 0):
        raise ValueError(f"curvatures: got {curvatures}, expected numbers >= 0, not all zero")
    normal = np.random.default_rng(seed).normal(size=(h.size, h.size))
    root = np.sqrt(h)[:, None] * np.linalg.qr(normal)[0]
    rank = int(np.sum(h > 0))
    condition = np.log10(h.max() / h[h > 0].min())
    return ToyProblem(
        name=f"coupled_quadratic_{rank}_of_{h.size}_condition_1e{condition:.0f}",
        kind="supervised",
        params={"w": jnp.zeros(h.size)},
        llc=rank / 2,
        potential=lambda params: (
            jnp.sum((jnp.asarray(root, params["w"].dtype) @ params["w"]) ** 2) / 2
        ),
        finite_llc=lambda nbeta, localization: quadrature.quadratic(h, nbeta, localization).llc,
    )


def monomial(powers: Sequence[int]) -> ToyProblem:
    """``K = 1/2 prod w_i^(2 k_i)`` of any number of coordinates; ``k_i = 0`` is a flat one.

    The learning coefficient is ``1/(2 max k)``, its multiplicity the number of maximal ``k_i``.

    Args:
        powers: The ``k_i >= 0``, not all zero.

    Returns:
        The problem, centered at zero. Its ``finite_llc`` needs a positive localization.

    Raises:
        ValueError: If a power is negative or all are zero.
    """
    powers = tuple(powers)
    if min(powers) < 0 or not any(powers):
        raise ValueError(f"powers: got {powers}, expected integers >= 0, not all zero")

    def potential(params):
        factors = [params["w"][i] ** (2 * k) for i, k in enumerate(powers) if k]
        return jnp.prod(jnp.stack(factors)) / 2

    return ToyProblem(
        name="monomial_" + "_".join(map(str, powers)),
        kind="supervised",
        params={"w": jnp.zeros(len(powers))},
        llc=1 / (2 * max(powers)),
        multiplicity=powers.count(max(powers)),
        potential=potential,
        finite_llc=lambda nbeta, localization: (
            quadrature_layers.product(
                lambda u: u**2 / 2, powers, nbeta=nbeta, localization=localization
            ).llc
        ),
    )


def block_sum(blocks: Sequence[ToyProblem], name: str) -> ToyProblem:
    """The sum of potentials of disjoint parameters: learning coefficients add.

    Multiplicities combine as ``sum m - (blocks - 1)``; finite-temperature values add exactly.

    Args:
        blocks: Problems with potentials.
        name: Name of the sum.

    Returns:
        The problem; ``finite_llc`` is None unless every block has one.

    Raises:
        ValueError: If a block has no potential.
    """
    blocks = tuple(blocks)
    if not blocks or any(block.potential is None for block in blocks):
        raise ValueError(f"blocks: got {[b.name for b in blocks]}, expected ones with potentials")

    potentials = [block.potential for block in blocks if block.potential is not None]
    finite_values = [block.finite_llc for block in blocks if block.finite_llc is not None]

    def potential(params):
        parts = [value(part) for value, part in zip(potentials, params, strict=True)]
        return jnp.sum(jnp.stack(parts))

    def finite(nbeta, localization):
        return float(np.sum([value(nbeta, localization) for value in finite_values]))

    return ToyProblem(
        name=name,
        kind=blocks[0].kind,
        params=tuple(block.params for block in blocks),
        llc=sum(block.llc for block in blocks),
        multiplicity=sum(block.multiplicity for block in blocks) - len(blocks) + 1,
        potential=potential,
        finite_llc=finite if len(finite_values) == len(blocks) else None,
    )


def suite() -> tuple[ToyProblem, ...]:
    """The problems of this file, and more monomials of `toy_models.exact`, for the catalog."""
    return (
        coupled_quadratic(np.geomspace(1, 1e-2, 10).tolist()),
        coupled_quadratic(np.geomspace(10, 1e-3, 20).tolist(), seed=1),
        coupled_quadratic([*np.geomspace(1, 0.1, 6), *np.zeros(6)], seed=2),
        coupled_quadratic(np.geomspace(1, 1e-1, 50).tolist(), seed=3),
        exact.homogeneous(3, 6),
        exact.homogeneous(10, 4),
        exact.homogeneous(2, 8),
        exact.separable((2, 2, 4), (1.0, 0.1, 2.0)),
        exact.separable((4, 4, 6, 8), (1.0, 3.0, 0.5, 1.0)),
        monomial((1, 1, 0)),
        monomial((1, 1, 1)),
        monomial((2, 2)),
        monomial((1, 3)),
        monomial((1, 2, 2)),
        block_sum((exact.normal_crossing(), exact.normal_crossing()), "two_crossings"),
        block_sum(
            (exact.normal_crossing((1, 2)), exact.regular_quadratic((1.0, 0.1, 0.0))),
            "crossing_and_quadratic",
        ),
    )

"""Regular and monomial problems with exact learning coefficients and finite-temperature values.

Every builder returns a `ToyProblem`; parameters have JAX's default floating type.

References:
    Watanabe, "Algebraic Geometry and Statistical Learning Theory", 2009 (regular models, normal
    crossings, sums and products). Values at finite temperature: `toy_models.quadrature`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.data import Dataset
from toy_models import quadrature
from toy_models.problem import ToyProblem


def regular_quadratic(curvatures: Sequence[float] = (4.0, 2.0, 1.0, 0.5, 0.25)) -> ToyProblem:
    """``K = 1/2 sum h_i w_i^2``: half the number of non-zero curvatures; zeros are flat directions.

    Args:
        curvatures: The ``h_i >= 0``.

    Returns:
        The problem, centered at zero.

    Raises:
        ValueError: If a curvature is negative or all are zero.
    """
    h = np.asarray(curvatures, float)
    if np.any(h < 0) or not np.any(h > 0):
        raise ValueError(f"curvatures: got {curvatures}, expected numbers >= 0, not all zero")
    rank = int(np.sum(h > 0))
    name = "regular_quadratic" if rank == h.size else "minimally_singular"
    return ToyProblem(
        name=f"{name}_{rank}_of_{h.size}",
        kind="supervised",
        params={"w": jnp.zeros(h.size)},
        llc=rank / 2,
        potential=lambda params: jnp.sum(h.astype(params["w"].dtype) * params["w"] ** 2) / 2,
        finite_llc=lambda nbeta, localization: quadrature.quadratic(h, nbeta, localization).llc,
    )


def homogeneous(dimension: int = 4, degree: int = 4) -> ToyProblem:
    """``K = |w|^degree``: the learning coefficient is ``dimension/degree``.

    Without localization ``nbeta E[K] = dimension/degree`` at every temperature.

    Args:
        dimension: Number of parameters.
        degree: An even number, at least 2.

    Returns:
        The problem, centered at zero.

    Raises:
        ValueError: If the degree is odd or a number is too small.
    """
    if dimension < 1 or degree < 2 or degree % 2:
        raise ValueError(f"degree: got {degree}, expected an even number >= 2 in dimension >= 1")
    return ToyProblem(
        name=f"homogeneous_{dimension}_degree_{degree}",
        kind="supervised",
        params={"w": jnp.zeros(dimension)},
        llc=dimension / degree,
        potential=lambda params: jnp.sum(params["w"] ** 2) ** (degree // 2),
        finite_llc=lambda nbeta, localization: (
            quadrature.radial(dimension, degree, 1.0, nbeta=nbeta, localization=localization).llc
        ),
    )


def separable(
    powers: Sequence[int] = (2, 4, 6), scales: Sequence[float] = (1.0, 1.0, 1.0)
) -> ToyProblem:
    """``K = sum c_i w_i^(p_i)``: the learning coefficient is ``sum 1/p_i``.

    Args:
        powers: Even powers ``p_i``.
        scales: Positive ``c_i``.

    Returns:
        The problem, centered at zero.

    Raises:
        ValueError: If a power is not even, a scale is not positive, or lengths differ.
    """
    if len(powers) != len(scales) or any(p < 2 or p % 2 for p in powers):
        raise ValueError(f"powers: got {powers}, expected even numbers, as many as scales")
    if any(not c > 0 for c in scales):
        raise ValueError(f"scales: got {scales}, expected positive numbers")
    pairs = tuple(zip(powers, scales, strict=True))

    def potential(params):
        return sum(c * params["w"][i] ** p for i, (p, c) in enumerate(pairs))

    def finite(nbeta, localization):
        fixed = {"nbeta": nbeta, "localization": localization}
        return float(sum(quadrature.radial(1, p, c, **fixed).llc for p, c in pairs))

    return ToyProblem(
        name="separable_" + "_".join(map(str, powers)),
        kind="supervised",
        params={"w": jnp.zeros(len(powers))},
        llc=sum(1 / p for p in powers),
        potential=potential,
        finite_llc=finite,
    )


def normal_crossing(powers: tuple[int, int] = (1, 1)) -> ToyProblem:
    """``K = 1/2 w_1^(2 k_1) w_2^(2 k_2)``: ``1/(2 max k)``, of multiplicity two if they are equal.

    Args:
        powers: ``(k_1, k_2)``, positive.

    Returns:
        The problem, centered at the crossing. Its ``finite_llc`` needs a positive localization.

    Raises:
        ValueError: If there are not two positive powers.
    """
    if len(powers) != 2 or min(powers) < 1:
        raise ValueError(f"powers: got {powers}, expected two positive integers")
    k1, k2 = powers
    return ToyProblem(
        name=f"normal_crossing_{k1}_{k2}",
        kind="supervised",
        params={"w": jnp.zeros(2)},
        llc=1 / (2 * max(powers)),
        multiplicity=2 if k1 == k2 else 1,
        potential=lambda params: params["w"][0] ** (2 * k1) * params["w"][1] ** (2 * k2) / 2,
        finite_llc=lambda nbeta, localization: (
            quadrature.crossing((k1, k2), nbeta, localization).llc
        ),
    )


def noisy_regression(
    curvatures: Sequence[float] = (2.0, 1.0, 0.5, 0.25), noise: float = 1.0
) -> ToyProblem:
    """Linear regression with noisy labels: ``loss = (y - w . x)^2 / 2``.

    The data are random but adjusted so that ``E_n[x x^T] = diag(curvatures)``, ``E_n[x e] = 0`` and
    ``E_n[e^2] = noise^2`` hold exactly in every data set. So ``w*`` minimizes the empirical loss,
    its excess is exactly ``1/2 sum h_i (w_i - w*_i)^2``, and the exact value holds for any data
    set, while minibatches have the full noise of labels.

    Args:
        curvatures: Second moments ``h_i > 0`` of the inputs.
        noise: Standard deviation of the labels about the truth.

    Returns:
        The problem; ``dataset(key, n)`` needs ``n > len(curvatures) + 1``.

    Raises:
        ValueError: If a curvature or the noise is not positive.
    """
    h = np.asarray(curvatures, float)
    if np.any(h <= 0) or not noise > 0:
        raise ValueError(f"curvatures, noise: got {curvatures}, {noise}, expected positive numbers")
    truth = np.linspace(-1, 1, h.size)

    def dataset(key, num_examples):
        basis = orthonormal_columns(key, num_examples, h.size + 1)
        x = basis[:, :-1] * np.sqrt(h)
        return Dataset({"x": jnp.asarray(x), "y": jnp.asarray(x @ truth + noise * basis[:, -1])})

    def excess(params):
        dtype = params["w"].dtype
        return jnp.sum(h.astype(dtype) * (params["w"] - truth.astype(dtype)) ** 2) / 2

    return ToyProblem(
        name="noisy_regression",
        kind="supervised",
        params={"w": jnp.asarray(truth)},
        llc=h.size / 2,
        potential=excess,
        loss_fn=lambda params, examples: (examples["y"] - examples["x"] @ params["w"]) ** 2 / 2,
        dataset=dataset,
        finite_llc=lambda nbeta, localization: quadrature.quadratic(h, nbeta, localization).llc,
    )


def orthonormal_columns(key: jax.Array, num_rows: int, num_columns: int) -> np.ndarray:
    """Gaussian columns made exactly uncorrelated: ``A^T A = num_rows * identity``, float64.

    Raises:
        ValueError: If there are not more rows than columns.
    """
    if num_rows <= num_columns:
        raise ValueError(f"n: got {num_rows} examples, expected more than {num_columns}")
    normal = np.asarray(jax.random.normal(key, (num_rows, num_columns)), np.float64)
    factor = np.linalg.cholesky(normal.T @ normal / num_rows)
    return np.linalg.solve(factor, normal.T).T

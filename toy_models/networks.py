"""Small networks and mixtures: two-layer linear maps, tanh units, a ReLU unit, a Gaussian mixture.

References:
    Aoyagi and Watanabe, Neural Networks 18 (2005) 924 (reduced rank regression). Watanabe's tanh
    result for a zero truth is from the literature and has no independent check here beyond one
    unit. Finite values: `toy_models.quadrature_layers`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from toy_models import deep_linear, quadrature, quadrature_layers
from toy_models.problem import ToyProblem

NODES = 40


def _normal_rule(num_nodes: int = NODES) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and probabilities of the Gauss-Hermite rule for ``N(0, 1)``."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(num_nodes)
    return nodes, weights / weights.sum()


def reduced_rank_zero(widths: tuple[int, int, int]) -> ToyProblem:
    """Reduced rank regression ``1/2 |B A|^2`` at zero, with its exact finite-temperature value.

    Args:
        widths: ``(in, hidden, out)``, one of them at most two.

    Returns:
        The problem of `toy_models.deep_linear.deep_linear`.

    Raises:
        ValueError: If the widths are out of range.
    """
    return _with_finite(
        deep_linear.deep_linear(widths),
        lambda nbeta, localization: quadrature_layers.two_layers(widths, nbeta, localization).llc,
    )


def reduced_rank_one(hidden: int, out: int, scale: float = 1.0) -> ToyProblem:
    """Reduced rank regression with one input and a truth of rank one.

    At the block teacher ``a* = sqrt(scale) e_1``, ``B* = sqrt(scale) e_1 e_1^T``.

    Args:
        hidden: Hidden width.
        out: Number of outputs.
        scale: The singular value.

    Returns:
        The problem.
    """
    return _with_finite(
        deep_linear.deep_linear((1, hidden, out), (scale,)),
        lambda nbeta, localization: (
            quadrature_layers.rank_one(
                hidden, out, scale, nbeta=nbeta, localization=localization
            ).llc
        ),
    )


def _with_finite(problem: ToyProblem, finite_llc) -> ToyProblem:
    return ToyProblem(
        name=problem.name.replace("deep_linear", "reduced_rank"),
        kind=problem.kind,
        params=problem.params,
        llc=problem.llc,
        multiplicity=problem.multiplicity,
        potential=problem.potential,
        finite_llc=finite_llc,
    )


def tanh_zero(hidden: int = 1, out: int = 1) -> ToyProblem:
    """``1/2 E |sum_i a_i tanh(b_i x)|^2``, truth zero, ``x`` the 40-point rule for ``N(0, 1)``.

    With one output, ``llc = (H + i^2 + i)/(4 i + 2)``, ``i = floor(sqrt H)``, of multiplicity two
    if ``i^2 = H``. With one hidden unit and more outputs it is 1/2, of multiplicity one.

    Args:
        hidden: Number of units ``H``.
        out: Number of outputs; more than one only for a single unit.

    Returns:
        The problem, centered at zero; ``finite_llc`` is known for a single unit.

    Raises:
        ValueError: If there are several units and several outputs.
    """
    if hidden < 1 or out < 1 or min(hidden, out) > 1:
        raise ValueError(f"hidden, out: got {hidden}, {out}, expected one of them to be 1")
    nodes, probabilities = _normal_rule()
    i = int(np.sqrt(hidden))
    multiplicity = 2 if i * i == hidden and out == 1 else 1

    def potential(params):
        dtype = params["a"].dtype
        features = jnp.tanh(jnp.asarray(nodes, dtype)[:, None] * params["b"])
        squares = jnp.sum((features @ params["a"]) ** 2, axis=1)
        return jnp.sum(jnp.asarray(probabilities, dtype) * squares) / 2

    def finite(nbeta, localization):
        return quadrature_layers.linear_readout(
            lambda b: np.tanh(b[:, None] * nodes) ** 2 @ probabilities,
            out,
            nbeta=nbeta,
            localization=localization,
        ).llc

    return ToyProblem(
        name=f"tanh_1_{hidden}_{out}_zero",
        kind="supervised",
        params={"a": jnp.zeros((hidden, out)), "b": jnp.zeros(hidden)},
        llc=(hidden + i * i + i) / (4 * i + 2),
        multiplicity=multiplicity,
        potential=potential,
        finite_llc=finite if hidden == 1 else None,
    )


def mixture_of_two() -> ToyProblem:
    """KL of ``N(0, 1)`` to the even mixture of ``N(m_1, 1)`` and ``N(m_2, 1)``, means free.

    With ``r`` the excess of the density ratio, ``K = E[r - log(1 + r)]``, which is the divergence
    because ``E r = 0``, and is not negative under the 40-point rule either. Near zero it is
    ``(m_1 + m_2)^2/8 + (m_1^2 + m_2^2)^2/16`` to leading order: ``llc = 1/2 + 1/4``.

    Returns:
        The problem, centered at zero. Its ``finite_llc`` needs a positive localization.
    """
    nodes, probabilities = _normal_rule()

    def potential(params):
        dtype = params["means"].dtype
        means = params["means"][:, None]
        excess = jnp.mean(jnp.expm1(means * jnp.asarray(nodes, dtype) - means**2 / 2), axis=0)
        return jnp.sum(jnp.asarray(probabilities, dtype) * (excess - jnp.log1p(excess)))

    def finite(nbeta, localization):
        quadrature_layers.check_proper(nbeta, localization)
        # Sum and difference of the means over sqrt 2, both even: one quadrant is enough.
        x = np.linspace(-22, np.log(9 / np.sqrt(localization)), 500)
        u, v = np.exp(x)[:, None], np.exp(x)
        first, second = (u + v) / 2**0.5, (u - v) / 2**0.5
        energy = np.zeros((x.size, x.size))
        for node, probability in zip(nodes, probabilities, strict=True):
            excess = np.expm1(first * node - first**2 / 2) / 2
            excess = excess + np.expm1(second * node - second**2 / 2) / 2
            # Where the ratio underflows K is large anyway; the bound keeps it finite.
            excess = np.maximum(excess, -1 + 1e-15)
            energy += nbeta * probability * (excess - np.log1p(excess))
        log_weight = x[:, None] + x - energy - localization * (u**2 + v**2) / 2
        return quadrature.average(log_weight, energy).llc

    return ToyProblem(
        name="gaussian_mixture_two_means",
        kind="supervised",
        params={"means": jnp.zeros(2)},
        llc=0.75,
        potential=potential,
        finite_llc=finite,
    )


def relu_inside_cell() -> ToyProblem:
    """One ReLU unit ``a relu(w x + b)``, its kink away from every input: ``(3 - 1)/2``.

    Four inputs at -2, -1, 1, 2 and the truth ``relu(x)``: near the center two of them are active,
    and rescaling the unit is a flat direction. Far away the cell changes.

    Returns:
        The problem.
    """
    inputs = np.array([-2.0, -1.0, 1.0, 2.0])

    def potential(params):
        a, w, b = params["w"]
        x = jnp.asarray(inputs, params["w"].dtype)
        return jnp.mean((a * jax.nn.relu(w * x + b) - jax.nn.relu(x)) ** 2) / 2

    return ToyProblem(
        name="relu_inside_cell",
        kind="supervised",
        params={"w": jnp.array([1.0, 1.0, 0.0])},
        llc=1.0,
        potential=potential,
    )


def suite() -> tuple[ToyProblem, ...]:
    """The problems of this file, and more deep linear networks, for the catalog."""
    zeros = ((2, 1, 4), (4, 1, 2), (1, 3, 1), (1, 2, 2), (3, 2, 3), (2, 3, 2), (5, 2, 4))
    return (
        *(reduced_rank_zero(widths) for widths in zeros),
        reduced_rank_one(1, 3),
        reduced_rank_one(2, 2),
        reduced_rank_one(4, 3, 2.0),
        deep_linear.deep_linear((3, 2, 3), (1.0,)),
        deep_linear.deep_linear((4, 4, 4, 4), (1.0, 0.5)),
        deep_linear.deep_linear((6, 5, 4, 5, 6), (1.0, 1.0, 0.5)),
        deep_linear.benchmark_nets()[2],
        tanh_zero(1),
        tanh_zero(1, 3),
        tanh_zero(2),
        tanh_zero(3),
        mixture_of_two(),
        relu_inside_cell(),
    )

"""Bandits and short tasks of reinforcement learning with exact learning coefficients."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from toy_models import quadrature, quadrature_layers, quadrature_peaked
from toy_models.problem import ToyProblem


def hadamard_bandit_regret(gaps: Sequence[float] = (0.5, 0.5)) -> ToyProblem:
    """Regret of ``pi_a = w_a^2/|w|^2``: ``sum gap_a w_a^2/|w|^2``, the first arm the best.

    The scale of ``w`` is flat; every worse arm is one quadratic direction: ``(arms - 1)/2``.

    Args:
        gaps: Positive gaps of the worse arms.

    Returns:
        The problem, centered at the best arm; ``finite_llc`` is known for equal gaps.

    Raises:
        ValueError: If a gap is not positive.
    """
    if not gaps or min(gaps) <= 0:
        raise ValueError(f"gaps: got {gaps}, expected positive numbers")
    all_gaps, equal = np.array([0.0, *gaps]), len(set(gaps)) == 1

    def potential(params):
        squares = params["w"] ** 2
        return jnp.sum(jnp.asarray(all_gaps, squares.dtype) * squares) / jnp.sum(squares)

    def finite(nbeta, localization):
        return quadrature_peaked.sphere(
            all_gaps.size, gaps[0], nbeta, localization=localization
        ).llc

    return ToyProblem(
        name=f"hadamard_bandit_{all_gaps.size}_{'equal' if equal else 'unequal'}_gaps",
        kind="rl",
        params={"w": jnp.zeros(all_gaps.size).at[0].set(1.0)},
        llc=len(gaps) / 2,
        potential=potential,
        finite_llc=finite if equal else None,
    )


def tabular_kl(
    ones: Sequence[float], state_weights: Sequence[float], name: str = "tabular_kl"
) -> ToyProblem:
    """KL to a frozen tabular policy of two actions, averaged over states.

    ``K = sum_s rho_s KL(pi_0(.|s) | pi(.|s))``, softmax over two logits a state: 1/2 for every
    state of positive weight; in each, the common shift of logits is flat. States are independent,
    so each is a one-dimensional integral over the difference of logits at temperature
    ``nbeta rho_s``. With reach probabilities of nodes for weights this is the divergence of an
    autoregressive policy on a tree of tokens.

    Args:
        ones: Probability of the second action in each state.
        state_weights: ``rho_s >= 0``; unvisited states have zero.
        name: Name of the problem.

    Returns:
        The problem.

    Raises:
        ValueError: If probabilities are not inside (0, 1) or weights are negative or all zero.
    """
    p, rho = np.asarray(ones, float), np.asarray(state_weights, float)
    if p.shape != rho.shape or np.any(p <= 0) or np.any(p >= 1):
        raise ValueError(f"ones: got {ones}, expected probabilities inside (0, 1), one a state")
    if np.any(rho < 0) or not np.any(rho > 0):
        raise ValueError(f"state_weights: got {state_weights}, expected >= 0, not all zero")
    frozen = np.log(np.stack([1 - p, p], axis=1))

    def potential(params):
        logits = params["logits"]
        log_frozen = jnp.asarray(frozen, logits.dtype)
        kl = jnp.sum(jnp.exp(log_frozen) * (log_frozen - jax.nn.log_softmax(logits)), axis=1)
        return jnp.sum(jnp.asarray(rho, logits.dtype) * kl)

    def finite(nbeta, localization):
        # The difference of two logits, each localized, is localized half as strongly.
        visited = [(q, r) for q, r in zip(p, rho, strict=True) if r > 0]
        values = []
        for q, r in visited:
            potential_fn = functools.partial(_logit_kl, p=q)
            values.append(quadrature_peaked.line(potential_fn, nbeta * r, localization / 2).llc)
        return float(np.sum(values))

    return ToyProblem(
        name=name,
        kind="rl",
        params={"logits": jnp.asarray(frozen)},
        llc=float(np.sum(rho > 0)) / 2,
        potential=potential,
        finite_llc=finite,
    )


def _logit_kl(shift: np.ndarray, p: float) -> np.ndarray:
    """KL when the logit moves by ``shift`` from that of ``p``: ``log E e^x - p x``, stable."""
    excess = p * np.expm1(np.minimum(shift, 30.0))
    exact = np.log1p(excess) - p * shift
    small = p * (1 - p) * shift**2 / 2 + p * (1 - p) * (1 - 2 * p) * shift**3 / 6
    large = shift + np.log(p) - p * shift
    return np.where(np.abs(shift) < 1e-4, small, np.where(shift > 30, large, exact))


def parity_kl(num_steps: int = 4) -> ToyProblem:
    """KL over trajectories to the uniform policy in the parity task: ``T log cosh(theta/2)``.

    The regret of the same policy has ``1/T`` (`toy_models.policies.parity_regret`), this has 1/2.

    Args:
        num_steps: Number of steps ``T``.

    Returns:
        The problem. Its ``finite_llc`` needs a positive localization.

    Raises:
        ValueError: If there is no step.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps: got {num_steps}, expected a positive number")

    def log_cosh(half):
        # log cosh x = log1p(2 sinh^2(x/2)) loses nothing near zero.
        return np.log1p(2 * np.sinh(np.minimum(half, 300.0) / 2) ** 2)

    return ToyProblem(
        name=f"parity_kl_{num_steps}",
        kind="rl",
        params={"theta": jnp.zeros(())},
        llc=0.5,
        potential=lambda params: num_steps * jnp.log1p(2 * jnp.sinh(params["theta"] / 4) ** 2),
        finite_llc=lambda nbeta, localization: (
            quadrature.even_line(
                lambda theta: num_steps * log_cosh(theta / 2), nbeta, localization
            ).llc
        ),
    )


def aliased_regret() -> ToyProblem:
    """Two steps with one observation, rewarded if the actions differ; logit ``a b c``.

    The regret is ``tanh^2(a b c / 2)``: a normal crossing of learning coefficient 1/2 and
    multiplicity three.

    Returns:
        The problem, centered at zero. Its ``finite_llc`` needs a positive localization.
    """
    return ToyProblem(
        name="aliased_two_step_regret",
        kind="rl",
        params={"w": jnp.zeros(3)},
        llc=0.5,
        multiplicity=3,
        potential=lambda params: (
            jnp.tanh(params["w"][0] * params["w"][1] * params["w"][2] / 2) ** 2
        ),
        finite_llc=lambda nbeta, localization: (
            quadrature_layers.product(
                lambda u: np.tanh(u / 2) ** 2,
                (1, 1, 1),
                nbeta=nbeta,
                localization=localization,
            ).llc
        ),
    )


def product_policy_regret(powers: Sequence[int]) -> ToyProblem:
    """Regret of a Gaussian mean ``prod w_i^(k_i) s``, reward ``-a^2``, ``E s^2 = 1``.

    It is ``prod w_i^(2 k_i)``: ``1/(2 max k)``, of multiplicity the number of maximal ``k_i``.

    Args:
        powers: The positive ``k_i``.

    Returns:
        The problem, centered at zero. Its ``finite_llc`` needs a positive localization.

    Raises:
        ValueError: If a power is not positive.
    """
    powers = tuple(powers)
    if not powers or min(powers) < 1:
        raise ValueError(f"powers: got {powers}, expected positive integers")
    return ToyProblem(
        name="product_policy_" + "_".join(map(str, powers)),
        kind="rl",
        params={"w": jnp.zeros(len(powers))},
        llc=1 / (2 * max(powers)),
        multiplicity=powers.count(max(powers)),
        potential=lambda params: jnp.prod(
            jnp.stack([params["w"][i] ** (2 * k) for i, k in enumerate(powers)])
        ),
        finite_llc=lambda nbeta, localization: (
            quadrature_layers.product(np.square, powers, nbeta=nbeta, localization=localization).llc
        ),
    )


def suite() -> tuple[ToyProblem, ...]:
    """The problems of this file for the catalog."""
    return (
        hadamard_bandit_regret((1.0,)),
        hadamard_bandit_regret((0.5, 0.5, 0.5)),
        hadamard_bandit_regret((0.5, 0.8, 1.0)),
        tabular_kl((0.3, 0.5, 0.2, 0.6, 0.4), (0.4, 0.3, 0.2, 0.1, 0.0)),
        tabular_kl((0.4, 0.3, 0.7), (1.0, 0.6, 0.4), name="token_tree_kl"),
        parity_kl(2),
        parity_kl(4),
        aliased_regret(),
        product_policy_regret((1, 1, 1)),
        product_policy_regret((1, 2)),
    )

"""Tabular Markov decision processes, values, and the linear-quadratic regulator, all exact.

The performance-difference lemma gives regrets as sums of non-negative terms, which vanish with
their gradient at the optimum in any precision:

    soft:      J* - J = temperature sum_s d(s) KL(pi(.|s) | pi*(.|s))
    hard:      J* - J = sum_s d(s) sum_a pi(a|s) gap(s, a)
    regulator: J - J* = Tr[S (K - K*)^T (R + discount B^T P B) (K - K*)]

with the discounted occupancy ``d`` of the policy and the state covariance ``S`` of the gain.

References:
    Fazel et al., "Global convergence of policy gradient methods for the linear quadratic
    regulator", 2018 (the third identity).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from toy_models import deep_linear, quadrature, quadrature_peaked
from toy_models.problem import ToyProblem

DISCOUNT = 0.9


class TabularMdp(NamedTuple):
    """Transition probabilities ``[S, A, S]`` and rewards ``[S, A]``; starts are uniform."""

    transitions: np.ndarray
    rewards: np.ndarray


def random_mdp(seed: int, num_states: int = 3, num_actions: int = 3) -> TabularMdp:
    """Transitions uniform on the simplex, then rewards uniform on [0, 1)."""
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.ones(num_states), size=(num_states, num_actions))
    return TabularMdp(transitions, rng.random((num_states, num_actions)))


def optimal_values(mdp: TabularMdp, temperature: float = 0.0) -> np.ndarray:
    """Optimal action values ``[S, A]`` by iteration, soft for a positive temperature."""
    values = np.zeros(mdp.rewards.shape[0])
    for _ in range(400):
        q = mdp.rewards + DISCOUNT * mdp.transitions @ values
        top = q.max(axis=1)
        values = top
        if temperature > 0:
            soft = np.exp((q - top[:, None]) / temperature).sum(axis=1)
            values = top + temperature * np.log(soft)
    return q


def occupancy(mdp: TabularMdp, policy: jax.Array) -> jax.Array:
    """Discounted visits ``[S]`` of a policy ``[S, A]`` from the uniform start, not normalized."""
    size = mdp.rewards.shape[0]
    moves = jnp.einsum("sa,sat->st", policy, jnp.asarray(mdp.transitions, policy.dtype))
    start = jnp.full(size, 1 / size, policy.dtype)
    return jnp.linalg.solve(jnp.eye(size, dtype=policy.dtype) - DISCOUNT * moves.T, start)


def soft_regret(
    seed: int = 0, num_states: int = 3, num_actions: int = 3, *, temperature: float = 0.5
) -> ToyProblem:
    """Entropy-regularized regret of a softmax policy at its interior optimum.

    A regular minimum up to the common shift of logits in every state: ``S (A - 1)/2``.

    Args:
        seed: Seed of `random_mdp`.
        num_states: ``S``.
        num_actions: ``A``.
        temperature: Weight of the entropy, positive.

    Returns:
        The problem.

    Raises:
        ValueError: If the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature: got {temperature}, expected a positive number")
    mdp = random_mdp(seed, num_states, num_actions)
    logits = optimal_values(mdp, temperature) / temperature
    best = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def potential(params):
        log_policy = jax.nn.log_softmax(params["logits"])
        policy = jnp.exp(log_policy)
        kl = jnp.sum(policy * (log_policy - jnp.asarray(best, policy.dtype)), axis=1)
        return temperature * jnp.sum(occupancy(mdp, policy) * kl)

    return ToyProblem(
        name=f"soft_mdp_regret_{num_states}_{num_actions}",
        kind="rl",
        params={"logits": jnp.asarray(best)},
        llc=num_states * (num_actions - 1) / 2,
        potential=potential,
        finite_llc=peaked_value(potential, {"logits": best}),
    )


def peaked_value(potential, center):
    """``finite_llc`` of a potential by `toy_models.quadrature_peaked.peaked`, built when called.

    Args:
        potential: The potential, ``params -> []``.
        center: The parameters, a dict of one array.

    Returns:
        ``(nbeta, localization) -> float``, for large ``nbeta`` only.
    """
    ((name, array),) = center.items()
    flat = np.asarray(array, float).ravel()

    def of(vector):
        return potential({name: vector.reshape(np.shape(array))})

    @functools.cache
    def prepared():
        return np.asarray(jax.hessian(of)(jnp.asarray(flat))), jax.jit(jax.vmap(of))

    def finite(nbeta, localization):
        quadrature.check_temperature(nbeta, localization)
        with jax.enable_x64(True):
            hessian, evaluate = prepared()
            rank = np.linalg.matrix_rank(hessian, 1e-9 * np.abs(hessian).max())
            return quadrature_peaked.peaked(
                # XLA on the CPU was seen to mix up rows of a batched product beyond 16,384.
                lambda shift: np.concatenate(
                    [
                        evaluate(flat + part)
                        for part in np.array_split(shift, 1 + len(shift) // 8192)
                    ]
                ),
                hessian,
                nbeta,
                localization=localization,
                order=9 if rank <= 4 else 6,
            ).llc

    return finite


def hadamard_regret(seed: int = 3) -> ToyProblem:
    """Regret of ``pi(a|s) = w_sa^2/|w_s|^2`` in a random MDP with three states and actions.

    Half the number of worse actions: 3.

    Args:
        seed: Seed of `random_mdp`.

    Returns:
        The problem, centered at the optimal policy.
    """
    mdp = random_mdp(seed)
    q = optimal_values(mdp)
    gaps = q.max(axis=1, keepdims=True) - q

    def potential(params):
        squares = params["w"] ** 2
        policy = squares / jnp.sum(squares, axis=1, keepdims=True)
        worse = jnp.sum(policy * jnp.asarray(gaps, policy.dtype), axis=1)
        return jnp.sum(occupancy(mdp, policy) * worse)

    return ToyProblem(
        name="hadamard_mdp_regret",
        kind="rl",
        params={"w": jnp.asarray((gaps == 0).astype(float))},
        llc=float(np.sum(gaps > 0)) / 2,
        potential=potential,
    )


def value_regression(bellman: bool = False, seed: int = 3) -> ToyProblem:
    """Half the mean squared error of tabular values, or of their exact Bellman residual.

    The residual is ``(I - discount P)`` times the error; the matrix is invertible, so both have
    half the number of states.

    Args:
        bellman: Whether to use the residual.
        seed: Seed of `random_mdp`; the policy is uniform.

    Returns:
        The problem, centered at the true values.
    """
    mdp = random_mdp(seed)
    size = mdp.rewards.shape[0]
    system = np.eye(size) - DISCOUNT * mdp.transitions.mean(axis=1)
    values = np.linalg.solve(system, mdp.rewards.mean(axis=1))
    matrix = system if bellman else np.eye(size)
    h = np.linalg.eigvalsh(matrix.T @ matrix / size)

    def potential(params):
        error = params["values"] - jnp.asarray(values, params["values"].dtype)
        return jnp.mean((jnp.asarray(matrix, error.dtype) @ error) ** 2) / 2

    return ToyProblem(
        name="bellman_residual" if bellman else "value_regression",
        kind="rl",
        params={"values": jnp.asarray(values)},
        llc=size / 2,
        potential=potential,
        finite_llc=lambda nbeta, localization: quadrature.quadratic(h, nbeta, localization).llc,
    )


def regulator(name: str, dynamics, cost, *, factored: bool) -> ToyProblem:
    """Regret of a linear gain in the discounted linear-quadratic regulator, two states and inputs.

    ``x' = A x + u``, ``u = -K x``, cost ``x^T Q x + |u|^2``, discount 0.95, starts ``N(0, I)``. The
    regret is comparable to ``|K - K*|^2``: 2 for a direct gain, that of reduced rank regression
    for ``K = W_2 W_1``. Beyond the stable gains it is infinite.

    Args:
        name: Name of the problem.
        dynamics: ``A``.
        cost: ``Q``, zero or positive definite.
        factored: Whether the gain is a product of two 2 x 2 layers.

    Returns:
        The problem, centered at the optimal gain, factored by its singular values.
    """
    best, regret = _regret_of_gains(np.asarray(dynamics, float), np.asarray(cost, float))
    if not factored:

        def potential(params):
            return regret(params["gain"])

        return ToyProblem(
            name=name,
            kind="rl",
            params={"gain": jnp.asarray(best)},
            llc=2.0,
            potential=potential,
            finite_llc=peaked_value(potential, {"gain": best}),
        )
    left, singular, right = np.linalg.svd(best)
    llc, multiplicity = deep_linear.deep_linear_llc((2, 2, 2), int(np.sum(singular > 1e-9)))
    return ToyProblem(
        name=name,
        kind="rl",
        params=(
            jnp.asarray(np.sqrt(singular)[:, None] * right),
            jnp.asarray(left * np.sqrt(singular)),
        ),
        llc=llc,
        multiplicity=multiplicity,
        potential=lambda params: regret(deep_linear.product(params)),
    )


def _regret_of_gains(a: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, Callable]:
    """The optimal gain, and the regret of a gain: infinite beyond the stable ones."""
    best, weight = _riccati(a, q)

    def regret(gain):
        closed, start = jnp.asarray(a, gain.dtype) - gain, jnp.eye(2, dtype=gain.dtype)
        recursion = jnp.eye(4, dtype=gain.dtype) - 0.95 * jnp.kron(closed, closed)
        covariance = jnp.linalg.solve(recursion, start.ravel()).reshape(2, 2)
        error = gain - jnp.asarray(best, gain.dtype)
        value = jnp.trace(covariance @ error.T @ jnp.asarray(weight, gain.dtype) @ error)
        # The equation has a solution for unstable gains too, which is then no covariance.
        stable = (jnp.trace(covariance) > 0) & (jnp.linalg.det(covariance) > 0)
        return jnp.where(stable, value, jnp.inf)

    return best, regret


def _riccati(a: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The optimal gain and ``R + discount P`` for identity input and control cost."""
    cost_to_go, eye = np.zeros((2, 2)), np.eye(2)
    for _ in range(400):
        weight = eye + 0.95 * cost_to_go
        gain = np.linalg.solve(weight, 0.95 * cost_to_go @ a)
        closed = a - gain
        cost_to_go = q + gain.T @ gain + 0.95 * closed.T @ cost_to_go @ closed
    return gain, weight


def suite() -> tuple[ToyProblem, ...]:
    """The problems of this file for the catalog."""
    stable, slow = [[0.5, 0.1], [0.0, 0.4]], [[0.9, 0.2], [0.0, 0.7]]
    return (
        soft_regret(),
        soft_regret(1, 2, 2),
        hadamard_regret(),
        value_regression(),
        value_regression(bellman=True),
        regulator("regulator_direct", slow, np.eye(2), factored=False),
        regulator("regulator_factored_rank_2", slow, np.eye(2), factored=True),
        regulator("regulator_factored_rank_0", stable, np.zeros((2, 2)), factored=True),
    )

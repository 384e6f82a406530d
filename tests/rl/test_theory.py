"""Identities that docs/theory-rl.md derives and no other file checks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_are, solve_discrete_lyapunov

import slt_rl
from slt_rl.rl import GaussianPolicy, policy_kl


def test_the_divergence_of_trajectories_is_the_sum_over_their_steps():
    """Every trajectory of two states, two actions and three steps, written out."""
    rng = np.random.default_rng(0)
    start, moves = rng.dirichlet([1, 1]), rng.dirichlet([1, 1], (2, 2))
    frozen, other = rng.dirichlet([1, 1], 2), rng.dirichlet([1, 1], 2)

    def probability(policy, states, actions):
        law = start[states[0]] * np.prod(policy[states, actions])
        return law * np.prod(moves[states[:-1], actions[:-1], states[1:]])

    paths = list(itertools.product(range(2), repeat=3))
    total = 0.0
    for states, actions in itertools.product(paths, paths):
        states, actions = np.array(states), np.array(actions)
        p, q = (probability(policy, states, actions) for policy in (frozen, other))
        total += p * np.log(p / q)
    law, steps = start, 0.0
    for _ in range(3):
        steps += law @ np.sum(frozen * np.log(frozen / other), axis=1)
        law = np.einsum("s,sa,sat->t", law, frozen, moves)
    assert total == pytest.approx(steps, rel=1e-12)


def test_regret_of_a_gain_is_a_square_around_the_optimum():
    rng = np.random.default_rng(1)
    a, b, q, r = np.array([[0.9, 0.2], [0.0, 0.7]]), rng.normal(size=(2, 2)), np.eye(2), np.eye(2)
    discount, start = 0.95, np.eye(2)
    root = np.sqrt(discount)
    cost_to_go = solve_discrete_are(root * a, root * b, q, r)
    weight = r + discount * b.T @ cost_to_go @ b
    best = np.linalg.solve(weight, discount * b.T @ cost_to_go @ a)

    def covariance(gain):
        return solve_discrete_lyapunov(root * (a - b @ gain), start)

    def cost(gain):
        return np.trace((q + gain.T @ r @ gain) @ covariance(gain))

    for _ in range(5):
        gain = best + 0.1 * rng.normal(size=(2, 2))
        assert np.max(np.abs(np.linalg.eigvals(root * (a - b @ gain)))) < 1
        square = np.trace(covariance(gain) @ (gain - best).T @ weight @ (gain - best))
        assert cost(gain) - cost(best) == pytest.approx(square, rel=1e-10)


def test_equipartition_counts_parameters_and_the_relaxed_share():
    """Exact Gaussian draws after a time of Langevin dynamics, in four directions."""
    curvature, size = np.array([100.0, 10.0, 1.0, 0.1]), 400_000
    for time in (np.inf, 0.1):
        share = 1 - np.exp(-curvature * time)
        noise = np.asarray(jax.random.normal(jax.random.key(0), (size, 4)))
        draws = noise * np.sqrt(share / curvature)
        virial = np.sum(draws * curvature * draws, axis=1)
        sem = np.std(virial) / np.sqrt(size)
        assert abs(virial.mean() - share.sum()) < 4 * sem
    # And for a potential that is no quadratic: w^4 in one dimension, by quadrature.
    grid = jnp.linspace(-6, 6, 20_001)
    weights = jnp.exp(-(grid**4))
    assert float(jnp.sum(grid * 4 * grid**3 * weights) / jnp.sum(weights)) == pytest.approx(1)


def test_one_policy_is_told_apart_at_two_parameters_on_a_subset_of_states():
    """Layers (0, 0) and (I, 0) of a linear policy, equal in every state (GT-13).

    So any regret is equal too; the coefficients are 3/2 and 2, and the values at this temperature
    and localization 0.747 and 1.978, by the quadrature of `test_state_subset`.
    """
    policy = GaussianPolicy(lambda w, x: w[1] @ w[0] @ x, 1.0)
    states = 2**0.5 * jnp.eye(2)  # Of unit second moment.
    zeros = jnp.zeros((2, 2))
    layers = (jnp.stack([zeros, jnp.eye(2)]), jnp.stack([zeros, zeros]))

    def make_target(params):
        loss_fn, data = policy_kl(policy, params, states)
        return lambda w: jnp.mean(loss_fn(w, data.examples))

    first, second = (tuple(x[i] for x in layers) for i in range(2))
    assert float(make_target(first)(second)) == 0.0
    curve = slt_rl.llc_curve(
        jax.random.key(0), make_target, layers, nbeta=1e4, localization=100.0, tolerance=0.1
    )
    bounds = curve.interval()
    assert bounds[0, 1] < bounds[1, 0]
    for (low, high), exact in zip(bounds, (0.747, 1.978), strict=True):
        assert low < exact < high

"""Cells of the table of potentials and situations in docs/how-to-choose.md, by derivatives.

A potential has the coefficient of a minimum only at one. So "no" is a slope or a negative curvature
at the center, which the verdict refuses (`tests/test_verdict.py`), and "yes" is neither.
"""

import itertools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl import Dataset
from slt_rl.rl import (
    Batch,
    Categorical,
    DiagonalGaussian,
    GaussianPolicy,
    Transitions,
    all_action_regret,
    behavior_cloning,
    bellman_error,
    expected_bellman_error,
    importance_diagnostics,
    importance_regret,
    policy_kl,
    sampled_regret,
    soft_regret,
    value_error,
)
from tests.rl.chain_mdp import BEHAVIOR, random_mdp, softmax_policy, table

KEY = jax.random.key(0)
STATES = jnp.arange(3)
MDP = random_mdp(3)
BEST = jnp.asarray(MDP.action_values(MDP.optimal_values))
TEMPERATURE = 0.5
SOFT_CENTER = {"logits": jnp.asarray(MDP.soft_optimum(TEMPERATURE))}
GAP = 9.0
GREEDY = {"logits": GAP * jnp.asarray(MDP.gaps < 1e-12, float)}
FLAT = {"left": jnp.zeros((3, 2)), "right": jnp.zeros((2, 3))}


def two_layers(params, state):
    """All logits are zero at zero layers, where every potential of the policy has no slope."""
    return Categorical(params["left"][state] @ params["right"])


def mean(pair):
    loss_fn, data = pair
    return jax.jit(lambda w: data.mean(loss_fn(w, data.examples)))


def slope(f, params):
    gradient, _ = jax.flatten_util.ravel_pytree(jax.jit(jax.grad(f))(params))
    return float(jnp.max(jnp.abs(gradient)))


def curvatures(f, params):
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    return np.linalg.eigvalsh(jax.jit(jax.hessian(lambda w: f(unflatten(w))))(flat))


def every_action():
    """Each state and action once: the exact law of uniform play."""
    states, actions = (x.ravel() for x in jnp.meshgrid(STATES, STATES, indexing="ij"))
    return states, actions


def weighted(policy):
    states, actions = every_action()
    rewards = jnp.asarray(BEST)[states, actions]
    return mean(importance_regret(policy, Batch(states, actions, jnp.full(9, -np.log(3)), rewards)))


OF_RETURN = {
    "soft": lambda policy: soft_regret(MDP, policy, STATES, temperature=TEMPERATURE),
    "all_action": lambda policy: mean(all_action_regret(policy, STATES, BEST)),
    "importance": weighted,
}
# One program for each potential, whatever the center.
SOFTMAX = {name: jax.jit(jax.value_and_grad(f(softmax_policy))) for name, f in OF_RETURN.items()}
every_return = pytest.mark.parametrize("name", OF_RETURN)


def at_softmax(name, params):
    value, gradient = SOFTMAX[name](params)
    return float(value), float(jnp.max(jnp.abs(gradient["logits"])))


@every_return
def test_in_the_middle_of_training_a_return_has_a_slope(name):
    assert at_softmax(name, BEHAVIOR)[1] > 0.01


@every_return
def test_at_a_plateau_a_return_has_a_saddle(name):
    potential = jax.jit(jax.value_and_grad(OF_RETURN[name](two_layers)))
    at_center, gradient = potential(FLAT)
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient)) < 1e-12
    moves = np.random.default_rng(0).normal(scale=0.01, size=(20, 2, 3, 2))
    near = [potential({"left": a, "right": b.T})[0] for a, b in moves]
    assert min(near) < at_center - 1e-6


@every_return
def test_a_greedy_softmax_optimum_is_at_infinity_or_elsewhere(name):
    here, steep = at_softmax(name, GREEDY)
    assert steep > 1e-5
    further, _ = at_softmax(name, {"logits": 2 * GREEDY["logits"]})
    assert (further < here) == (name != "soft")


def test_rewards_alone_have_a_slope_at_the_soft_optimum():
    assert at_softmax("soft", SOFT_CENTER)[1] < 1e-10
    assert at_softmax("all_action", SOFT_CENTER)[1] > 0.01
    assert at_softmax("importance", SOFT_CENTER)[1] > 0.01


def likelihood(params):
    """Behavior cloning on every action, weighted by the policy's own probability."""
    states, actions = every_action()
    data = Dataset(states, 3 * table(params)[states, actions])
    return mean(behavior_cloning(softmax_policy, data, actions))


@pytest.mark.parametrize("center", [BEHAVIOR, SOFT_CENTER, GREEDY], ids=["any", "soft", "greedy"])
def test_divergence_and_likelihood_are_regular_at_every_policy_inside_the_simplex(center):
    kl = mean(policy_kl(softmax_policy, center, STATES))
    for potential in (kl, likelihood(center)):
        assert slope(potential, center) < 1e-9
        found = curvatures(potential, center)
        assert found.min() > -1e-12
        # Two directions a state; the common shift of the logits is flat.
        assert np.sum(found > 1e-6) == 6


def test_the_divergence_flattens_towards_the_greedy_optimum():
    """Curvatures fall with the probability of the rest, so larger `nbeta` is needed."""
    largest = []
    for scale in (1.0, 2.0):
        center = {"logits": scale * GREEDY["logits"]}
        largest.append(curvatures(mean(policy_kl(softmax_policy, center, STATES)), center).max())
    assert largest[1] / largest[0] == pytest.approx(np.exp(-GAP), rel=0.01)


# Gaussian policies of one action, exact by quadrature over the noise.
NODES, SHARES = np.polynomial.hermite_e.hermegauss(21)
NOISE = Dataset(jnp.zeros((21, 1)), 21 * SHARES / SHARES.sum())


def gaussian(params, observation):
    return DiagonalGaussian(params["mean"], jnp.exp(params["log_scale"]))


def test_behavior_cloning_of_a_gaussian_has_the_curvature_of_the_divergence():
    center = {"mean": jnp.array([0.3]), "log_scale": jnp.array(-0.4)}
    actions = 0.3 + jnp.exp(-0.4) * jnp.asarray(NODES)[:, None]
    cloning = mean(behavior_cloning(gaussian, NOISE, actions))
    kl = mean(policy_kl(gaussian, center, jnp.zeros((1, 1))))
    assert slope(cloning, center) < 1e-12
    np.testing.assert_allclose(curvatures(cloning, center), curvatures(kl, center), atol=1e-10)


def quadratic(policy, params):
    """Regret of the reward `-a^2` on common random numbers, at the nodes instead of draws."""
    zeros = jnp.zeros((21, 1))
    loss_fn, data = sampled_regret(
        KEY,
        policy,
        lambda x, a: -jnp.sum(a**2),
        params=params,
        observations=zeros,
    )
    examples = data.examples | {"noise": jnp.asarray(NODES)[:, None]}
    return mean((loss_fn, Dataset(examples, NOISE.weights)))


def test_common_random_numbers_need_the_optimum_of_the_return():
    center = {"mean": jnp.array([0.3]), "log_scale": jnp.array(-0.4)}
    assert slope(quadratic(gaussian, center), center) > 0.1
    # With an entropy bonus the best scale is positive; of rewards alone it has a slope.
    soft = {"mean": jnp.zeros(1), "log_scale": jnp.log(jnp.sqrt(TEMPERATURE / 2))}
    assert slope(quadratic(gaussian, soft), soft) == pytest.approx(TEMPERATURE)

    product = GaussianPolicy(lambda w, x: w["left"] * w["right"] - 1.0, 0.5)
    plateau = {"left": jnp.zeros(1), "right": jnp.zeros(1)}
    potential = quadratic(product, plateau)
    assert slope(potential, plateau) < 1e-12
    assert curvatures(potential, plateau).min() < -1


def test_weights_for_actions_that_were_never_tried_do_not_exist():
    """The mean of the weights is the share of the policy that the data covers."""
    states, actions = (x[jnp.array([0, 1, 3, 4, 6, 7])] for x in every_action())
    batch = Batch(states, actions, jnp.full(6, -np.log(2)), jnp.asarray(BEST)[states, actions])
    loss_fn, data = importance_regret(softmax_policy, batch)
    covered = table(BEHAVIOR)[:, :2]
    weights = loss_fn.importance_weights(BEHAVIOR, data.examples)
    assert float(weights.mean()) == pytest.approx(float(covered.sum(axis=1).mean()))
    known = -float(jnp.mean(jnp.sum(covered * BEST[:, :2], axis=1)))
    assert float(jnp.mean(loss_fn(BEHAVIOR, data.examples))) == pytest.approx(known)
    many = jax.tree.map(lambda x: jnp.tile(x, 50), data)
    report = importance_diagnostics(KEY, loss_fn, many, params=BEHAVIOR, nbeta=10.0)
    assert not report.usable and "never tried" in report.reasons[-1]


# Hidden state: two steps, the second action may depend on the first through memory alone.
HISTORIES = jnp.array([[0, 0], [1, 0], [1, 1]])  # Step and first action; the first step has none.


def memory_policy(params, history):
    index = history[0] * (1 + history[1])
    return Categorical(jnp.stack([jnp.zeros(()), params["logit"][index]]))


def test_with_histories_as_states_divergence_and_likelihood_are_those_of_whole_episodes():
    center = {"logit": jnp.array([0.4, -1.0, 0.7])}
    other = {"logit": jnp.array([-0.2, 0.5, 1.1])}

    def episodes(params):
        p = jax.nn.softmax(jax.vmap(lambda h: memory_policy(params, h).logits)(HISTORIES))
        return p[0][:, None] * p[1:]

    frozen, moved = episodes(center), episodes(other)
    visits = jnp.concatenate([jnp.ones(1), frozen.sum(axis=1)])
    states = Dataset(HISTORIES, 3 * visits / visits.sum())
    kl = mean(policy_kl(memory_policy, center, states))
    exact = jnp.sum(frozen * jnp.log(frozen / moved))
    assert float(visits.sum() * kl(other)) == pytest.approx(float(exact))
    sequences = list(itertools.product([0, 1], repeat=2))
    taken = jnp.array([[(0, 0, a), (1, a, b)] for a, b in sequences]).reshape(8, 3)
    each = Dataset(taken[:, :2], 8 * jnp.repeat(frozen.ravel(), 2) / 2)
    cloning = mean(behavior_cloning(memory_policy, each, taken[:, 2]))
    assert float(2 * (cloning(other) - cloning(center))) == pytest.approx(float(exact))


def test_with_histories_as_states_a_value_is_at_its_own_minimum_and_counts_histories():
    def value_fn(params, history):
        return params[history[0] * (1 + history[1])]

    center = jnp.array([0.2, -0.5, 1.0])
    targets = jax.vmap(lambda h: value_fn(center, h))(HISTORIES)
    potential = mean(value_error(value_fn, HISTORIES, targets))
    assert float(potential(center)) == 0 and slope(potential, center) == 0
    assert np.sum(curvatures(potential, center) > 1e-9) == 3


def test_without_the_state_a_bellman_residual_has_no_zero():
    """Three states that look alike: no value of the one observation solves every equation."""
    alike = jnp.zeros((3, 1))
    policy = table(BEHAVIOR)
    loss_fn, data = expected_bellman_error(lambda w, x: w[0], MDP, policy, observations=alike)
    potential = mean((loss_fn, data))
    # Quadratic in the one value: its least is at the Newton step.
    best = -jax.grad(potential)(jnp.zeros(1)) / curvatures(potential, jnp.zeros(1))[0]
    assert slope(potential, best) < 1e-12
    assert float(potential(best)) > 1e-3


def tabular_value(params, state):
    return params[state]


@pytest.mark.parametrize("policy", [BEHAVIOR, GREEDY], ids=["any", "greedy"])
def test_bellman_error_has_its_minimum_at_the_values_of_the_policy_and_a_slope_elsewhere(policy):
    values = MDP.values(table(policy))
    residual = mean(expected_bellman_error(tabular_value, MDP, table(policy), observations=STATES))
    assert slope(residual, values) < 1e-12
    assert slope(residual, values + jnp.array([0.1, 0.0, 0.0])) > 0.01


def test_regularized_values_solve_another_bellman_equation():
    policy = table(SOFT_CENTER)
    bonus = -TEMPERATURE * jnp.sum(policy * jnp.log(policy), axis=1)
    soft_values = MDP.accumulated(policy, jnp.sum(policy * MDP.reward, axis=1) + bonus)
    residual = mean(expected_bellman_error(tabular_value, MDP, policy, observations=STATES))
    assert slope(residual, soft_values) > 0.01


def linear_steps(noise):
    """`x' = x/2 + noise z`, paid `-x^2`, discount 0.9: values `-x^2/(1 - 0.225) + const`."""
    x, share = np.meshgrid(np.linspace(-1, 1, 5), SHARES / SHARES.sum(), indexing="ij")
    following = x / 2 + noise * NODES
    size = x.size
    flags = jnp.zeros(size, bool)
    steps = Transitions(
        observation=jnp.asarray(x.reshape(-1, 1)),
        action=jnp.zeros((size, 1)),
        reward=jnp.asarray(-(x.ravel() ** 2)),
        terminated=flags,
        truncated=flags,
        log_prob=None,
        final_observation=jnp.asarray(following.reshape(-1, 1)),
        start=flags,
        version=jnp.zeros(size, int),
        step=jnp.zeros(size, int),
    )
    return Dataset(steps, jnp.asarray(share.ravel() * len(SHARES)))


def test_bellman_error_on_continuous_actions_needs_deterministic_steps():
    def value_fn(params, x):
        return params["square"] * x[0] ** 2 + params["constant"]

    square = -1 / (1 - 0.9 / 4)
    slopes = []
    for noise in (0.0, 0.5):
        center = {
            "square": jnp.array(square),
            "constant": jnp.array(0.9 * square * noise**2 / (1 - 0.9)),
        }
        data = linear_steps(noise)
        loss_fn, data = bellman_error(value_fn, data, discount=0.9)
        slopes.append(slope(mean((loss_fn, data)), center))
    assert slopes[0] < 1e-12
    assert slopes[1] > 0.05

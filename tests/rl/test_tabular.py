"""Exact processes: dynamic programming, the two performance-difference identities, refusals."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.rl import (
    TabularMDP,
    all_action_regret,
    expected_bellman_error,
    policy_kl,
    soft_regret,
    tabular_regret,
    value_error,
)
from tests.rl.chain_mdp import logits, random_mdp, softmax_policy, table

TEMPERATURE = 0.5
STATES = jnp.arange(3)
SOFT_MDP = random_mdp(0)
HARD_MDP = random_mdp(3)
POINTS = [logits(seed) for seed in range(3)]


def rank(f, params):
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    hessian = jax.jit(jax.hessian(lambda w: f(unflatten(w))))(flat)
    values = np.linalg.eigvalsh(hessian)
    assert values.min() > -1e-9
    return int(np.sum(values > 1e-8))


def test_gaps_of_the_reference_problem():
    expected = [[0, 0.780, 0.055], [0.236, 0.629, 0], [0, 0.684, 0.270]]
    np.testing.assert_allclose(HARD_MDP.gaps, expected, atol=6e-4)


def test_values_occupancy_and_return_agree():
    policy = table(POINTS[0])
    by_visits = jnp.sum(SOFT_MDP.occupancy(policy)[:, None] * policy * SOFT_MDP.reward)
    assert float(SOFT_MDP.start @ SOFT_MDP.values(policy)) == pytest.approx(float(by_visits))
    assert float(jnp.sum(SOFT_MDP.occupancy(policy))) == pytest.approx(10)


@pytest.mark.parametrize("params", POINTS, ids=str)
def test_regret_is_suboptimal_mass_with_gaps(params):
    regret = tabular_regret(HARD_MDP, softmax_policy, STATES)
    exact = HARD_MDP.optimal_return - HARD_MDP.start @ HARD_MDP.values(table(params))
    assert float(regret(params)) == pytest.approx(float(exact), abs=1e-10)
    gap = HARD_MDP.optimal_values - HARD_MDP.values(table(params))
    np.testing.assert_allclose(regret.per_start(params), gap, atol=1e-10)


@pytest.mark.parametrize("with_prior", [False, True])
@pytest.mark.parametrize("params", POINTS, ids=str)
def test_soft_regret_is_a_divergence_from_the_soft_optimum(params, with_prior):
    prior = np.log(np.asarray(table(logits(9)))) if with_prior else None
    regret = soft_regret(SOFT_MDP, softmax_policy, STATES, temperature=TEMPERATURE, log_prior=prior)
    optimum = SOFT_MDP.soft_optimum(TEMPERATURE, prior)
    log_policy = jnp.log(table(params))
    gap = SOFT_MDP.soft_return(optimum, TEMPERATURE, prior) - SOFT_MDP.soft_return(
        log_policy, TEMPERATURE, prior
    )
    assert float(gap) > 0.01
    assert abs(float(regret(params)) - float(gap)) < 1e-10


def test_soft_optimum_solves_the_soft_bellman_equation():
    optimum = SOFT_MDP.soft_optimum(TEMPERATURE)
    policy = np.exp(optimum)
    paid = np.sum(policy * (SOFT_MDP.reward - TEMPERATURE * optimum), axis=1)
    step = 0.9 * np.einsum("sa,sat->st", policy, SOFT_MDP.transition)
    values = np.linalg.solve(np.eye(3) - step, paid)
    scores = SOFT_MDP.action_values(values) / TEMPERATURE
    np.testing.assert_allclose(
        values, TEMPERATURE * np.logaddexp.reduce(scores, axis=1), atol=1e-12
    )


def test_soft_regret_at_its_optimum_is_regular_with_half_its_rank():
    regret = soft_regret(SOFT_MDP, softmax_policy, STATES, temperature=TEMPERATURE)
    center = {"logits": jnp.asarray(SOFT_MDP.soft_optimum(TEMPERATURE))}
    assert abs(float(regret(center))) < 1e-14
    np.testing.assert_allclose(jax.grad(regret)(center)["logits"], 0, atol=1e-13)
    kl_fn, data = policy_kl(softmax_policy, center, STATES)
    assert rank(regret, center) == rank(lambda w: jnp.mean(kl_fn(w, data.examples)), center) == 6


def test_one_state_is_the_tilted_policy():
    """Without dynamics the optimum is prior * exp(reward / temperature), normalized."""
    reward, prior = np.array([[1.0, 0.0, 0.3]]), np.array([[0.2, 0.5, 0.3]])
    mdp = TabularMDP(np.zeros((1, 3, 1)), reward, np.ones(1), 1.0)
    tilted = prior * np.exp(reward / 0.7)
    np.testing.assert_allclose(
        np.exp(mdp.soft_optimum(0.7, np.log(prior))), tilted / tilted.sum(), atol=1e-14
    )


def test_states_add_up_and_can_be_had_one_by_one():
    regret = soft_regret(SOFT_MDP, softmax_policy, STATES, temperature=TEMPERATURE)
    loss_fn, data = regret.by_state()
    values = loss_fn(POINTS[0], data.examples)
    assert values.shape == (3,) and np.all(np.asarray(values) > 0)
    np.testing.assert_allclose(values / 3, regret.per_state(POINTS[0]), atol=1e-15)
    assert float(data.mean(values)) == pytest.approx(float(regret(POINTS[0])))
    assert float(SOFT_MDP.start @ regret.per_start(POINTS[0])) == pytest.approx(
        float(regret(POINTS[0]))
    )
    # A part of the states alone gives their values, and not others.
    np.testing.assert_allclose(loss_fn(POINTS[0], {"state": STATES[1:]}), values[1:])


def test_a_unit_divides_the_soft_regret_and_is_stated():
    plain = soft_regret(SOFT_MDP, softmax_policy, STATES, temperature=TEMPERATURE)
    halved = soft_regret(SOFT_MDP, softmax_policy, STATES, temperature=TEMPERATURE, unit=2.0)
    assert float(halved(POINTS[0])) == pytest.approx(float(plain(POINTS[0])) / 2, rel=1e-14)
    assert "raw units of reward" in plain.scale_note and "units of 2 of reward" in halved.scale_note
    assert halved.by_state()[0].scale_note == halved.scale_note


def test_in_units_of_a_regret_the_scale_of_rewards_drops_out():
    scaled = TabularMDP(HARD_MDP.transition, 7 * HARD_MDP.reward, HARD_MDP.start, 0.9)
    uniform = {"logits": jnp.zeros((3, 3))}

    def normalized(mdp):
        unit = float(tabular_regret(mdp, softmax_policy, STATES)(uniform))
        return float(tabular_regret(mdp, softmax_policy, STATES, unit=unit)(POINTS[1]))

    plain = [
        float(tabular_regret(m, softmax_policy, STATES)(POINTS[1])) for m in (HARD_MDP, scaled)
    ]
    assert plain[1] == pytest.approx(7 * plain[0])
    assert normalized(scaled) == pytest.approx(normalized(HARD_MDP), abs=1e-12)


def test_a_greedy_policy_of_infinite_logits_has_no_regret_and_a_finite_gradient():
    regret = tabular_regret(HARD_MDP, softmax_policy, STATES)
    greedy = {"logits": jnp.asarray(np.where(HARD_MDP.gaps < 1e-12, 0.0, -np.inf))}
    value, gradient = jax.value_and_grad(regret)(greedy)
    assert float(value) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(gradient["logits"], 0, atol=1e-12)


def test_all_actions_on_frozen_states_lack_only_the_visits():
    """So the two are comparable where every state is visited: visits lie in [1/3, 10]."""
    q = jnp.asarray(HARD_MDP.action_values(HARD_MDP.optimal_values))
    loss_fn, data = all_action_regret(softmax_policy, STATES, q)
    regret = tabular_regret(HARD_MDP, softmax_policy, STATES)
    for params in POINTS:
        visits = HARD_MDP.occupancy(table(params))
        assert np.all((np.asarray(visits) >= 1 / 3) & (np.asarray(visits) <= 10))
        terms = visits * loss_fn(params, data.examples)
        np.testing.assert_allclose(terms, regret.per_state(params), atol=1e-12)


def test_bellman_and_value_error_have_the_same_minimum_and_rank():
    """The residual is an invertible affine map of the values, so the ranks agree (lemma GT-18)."""
    policy = table(POINTS[0])
    values = SOFT_MDP.values(policy)

    def value_fn(params, state):  # Two layers; of eight parameters three directions are held fixed.
        hidden = params["first"] @ jnp.eye(3)[state]
        return params["second"] @ hidden + values[state]

    center = {"first": jnp.zeros((2, 3)), "second": jnp.ones(2)}
    bellman, data = expected_bellman_error(value_fn, SOFT_MDP, policy, observations=STATES)
    plain, targets = value_error(value_fn, STATES, values)

    def mean(loss_fn, examples):
        return lambda w: jnp.mean(loss_fn(w, examples))

    np.testing.assert_allclose(bellman(center, data.examples), 0, atol=1e-25)
    assert rank(mean(bellman, data.examples), center) == 3
    assert rank(mean(plain, targets.examples), center) == 3


def test_equal_numbers_are_equal_processes():
    assert random_mdp(0) == SOFT_MDP and hash(random_mdp(0)) == hash(SOFT_MDP)
    assert random_mdp(0) != HARD_MDP


def test_bad_processes_and_policies_are_named():
    good = (SOFT_MDP.transition, SOFT_MDP.reward, SOFT_MDP.start)
    with pytest.raises(ValueError, match="discount: got 1.0 with a policy that never ends"):
        TabularMDP(*good, 1.0)
    with pytest.raises(ValueError, match="reward: got shape"):
        TabularMDP(good[0], np.full((3, 3), np.nan), good[2], 0.9)
    with pytest.raises(ValueError, match="transition: expected probabilities"):
        TabularMDP(2 * good[0], good[1], good[2], 0.9)
    with pytest.raises(ValueError, match="start: expected probabilities"):
        TabularMDP(good[0], good[1], np.ones(3), 0.9)
    with pytest.raises(ValueError, match="observations: got 2, expected one per state, 3"):
        tabular_regret(SOFT_MDP, softmax_policy, STATES[:2])
    with pytest.raises(ValueError, match="temperature: got 0"):
        soft_regret(SOFT_MDP, softmax_policy, STATES, temperature=0)
    with pytest.raises(ValueError, match="unit: expected a finite number > 0, got -1"):
        tabular_regret(SOFT_MDP, softmax_policy, STATES, unit=-1)

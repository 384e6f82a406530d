"""Weights against exact laws: occupancies by linear solve, closed-form losses, identities."""

import functools

import hypothesis.extra.numpy as hnp
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import slt_rl
from slt_rl.rl import (
    Categorical,
    GaussianPolicy,
    age_weights,
    by_step,
    by_trajectory,
    by_transition,
    correct_states,
    covered_mass,
    density_ratio_weights,
    designed_states,
    drift_statement,
    effective_sample_size,
    implied_nbeta,
    importance_weights,
    log_ratios,
    normalized_weights,
    per_decision_weights,
    policy_divergence,
    policy_kl,
    prefix_weights,
    self_normalized,
    weighted_mean,
)
from tests.rl.chain_mdp import (
    BEHAVIOR,
    MDP,
    TARGET,
    behavior_buffer,
    behavior_trajectories,
    mean_and_sem,
    softmax_policy,
    table,
)
from toy_models.superposition import (
    critical_point,
    example_loss,
    parse_class,
    population_kl,
    population_loss,
    sample_examples,
)

# One on the actions that the target policy prefers: the two policies differ clearly.
VALUES = np.asarray(table(TARGET) > table(BEHAVIOR), float)
WEIGHTS = hnp.arrays(np.float64, st.integers(1, 40), elements=st.floats(1e-3, 1e3))


def exact_mean(policy, values):
    """`sum_s,a d(s) pi(a|s) f(s, a)` per episode, with the occupancy from a linear solve."""
    return float(jnp.sum(MDP.occupancy(policy)[:, None] * policy * values))


def per_trajectory(weights, values):
    """Sum over the steps of each trajectory of weight times value."""
    steps, mask = behavior_trajectories().data.examples
    f = values[np.asarray(steps.observation), np.asarray(steps.action)]
    return np.sum(np.where(mask, weights * f, 0), axis=1)


def ratios_and_mask():
    steps, mask = behavior_trajectories().data.examples
    return log_ratios(softmax_policy, TARGET, steps), np.asarray(mask)


def test_whatever_finished_in_time_is_too_short_and_a_fixed_number_is_not():
    """Of 20 steps all but the last 7/3 are in whole episodes, six in number; their mean is 10/3."""
    mean, sem = mean_and_sem(np.asarray(behavior_trajectories().data.examples.mask).sum(axis=1))
    assert abs(mean - 10 / 3) < 4 * sem
    early = by_trajectory(jax.tree.map(lambda x: x[:20], behavior_buffer()))
    mean, sem = mean_and_sem(np.asarray(early.data.examples.mask).sum(axis=1))
    assert abs(mean - (20 - 7 / 3) / 6) < 4 * sem
    assert abs(mean - 10 / 3) > 8 * sem


def test_unweighted_means_are_those_of_the_behavior_policy():
    found, sem = mean_and_sem(per_trajectory(1.0, VALUES))
    assert abs(found - exact_mean(table(BEHAVIOR), VALUES)) < 4 * sem
    assert abs(found - exact_mean(table(TARGET), VALUES)) > 8 * sem


def test_per_decision_weights_recover_the_occupancy_of_another_policy():
    ratios, mask = ratios_and_mask()
    found, sem = mean_and_sem(per_trajectory(per_decision_weights(ratios, mask), VALUES))
    assert abs(found - exact_mean(table(TARGET), VALUES)) < 4 * sem
    assert abs(found - exact_mean(table(BEHAVIOR), VALUES)) > 4 * sem


def test_prefix_weights_recover_the_law_of_states():
    """With the prefix alone actions stay those of the behavior policy."""
    ratios, mask = ratios_and_mask()
    visits = np.asarray(MDP.occupancy(table(TARGET)))
    by_state = np.broadcast_to(np.array([[0.0], [0.0], [1.0]]), (3, 3))
    found, sem = mean_and_sem(per_trajectory(prefix_weights(ratios, mask), by_state))
    assert abs(found - visits[2]) < 4 * sem
    assert abs(found - float(MDP.occupancy(table(BEHAVIOR))[2])) > 4 * sem
    np.testing.assert_allclose(
        prefix_weights(ratios, mask)[:, 1:], per_decision_weights(ratios, mask)[:, :-1]
    )


def test_self_normalized_weights_agree_and_have_mean_one_at_every_step():
    ratios, mask = ratios_and_mask()
    plain = per_decision_weights(ratios, mask)[:, :5]
    weights = self_normalized(plain)
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=1e-12)
    sems = plain.std(axis=0) / np.sqrt(len(plain))
    assert np.all(np.abs(plain.mean(axis=0) - 1) < 4 * sems)
    with pytest.raises(ValueError, match="all zero at some step"):
        self_normalized(np.zeros((2, 2)))


def test_steps_of_weighted_trajectories_are_a_weighted_data_set():
    ratios, mask = ratios_and_mask()
    weights = prefix_weights(ratios, mask)
    synthesis = by_step(behavior_trajectories(), weights)
    share = float(synthesis.data.mean(synthesis.data.examples.observation == 0))
    visits = np.asarray(MDP.occupancy(table(TARGET)))
    numerator = per_trajectory(weights, np.eye(3)[:, :1] * np.ones(3))
    total = per_trajectory(weights, np.ones((3, 3)))
    exact = visits[0] / visits.sum()
    sem = np.std(numerator - exact * total) / total.mean() / np.sqrt(len(total))
    assert abs(share - exact) < 4 * sem
    assert synthesis.effective_num_units < synthesis.num_units


def test_one_step_ratios_have_mean_one_and_recover_actions():
    """On the states of the data: the behavior policy's visits, the target policy's actions."""
    flat = by_transition(behavior_buffer()).data.examples
    ratios = log_ratios(softmax_policy, TARGET, flat)
    report = policy_divergence(ratios)
    # Given the states actions are independent, so the standard error needs no correction.
    assert abs(report.mean_ratio - 1) < 4 * report.mean_ratio_sem
    weights = importance_weights(ratios)
    state = np.asarray(flat.observation)
    found, sem = weighted_mean(VALUES[state, np.asarray(flat.action)], weights)
    expected = np.mean(np.sum(np.asarray(table(TARGET)) * VALUES, axis=1)[state])
    assert abs(found - expected) < 4 * sem
    plain, plain_sem = mean_and_sem(VALUES[state, np.asarray(flat.action)])
    assert abs(plain - expected) > 8 * plain_sem


def test_divergences_agree_with_their_exact_values():
    flat = by_transition(behavior_buffer()).data.examples
    report = policy_divergence(log_ratios(softmax_policy, TARGET, flat))
    p, q = (np.asarray(table(w))[np.asarray(flat.observation)] for w in (BEHAVIOR, TARGET))
    size = len(p)
    exact = {
        "kl_from_behavior": np.sum(p * np.log(p / q), axis=1).mean(),
        "kl_to_behavior": np.sum(q * np.log(q / p), axis=1).mean(),
        "chi_square": np.sum((q - p) ** 2 / p, axis=1).mean(),
    }
    terms = {
        "kl_from_behavior": p * (q / p - 1 - np.log(q / p)) ** 2,
        "kl_to_behavior": p * (q / p * np.log(q / p) - q / p + 1) ** 2,
        "chi_square": (q - p) ** 4 / p**3,
    }
    for name, value in exact.items():
        sem = np.sqrt(np.sum(terms[name], axis=1).mean() / size)
        assert abs(getattr(report, name) - value) < 4 * sem, name
    assert report.max_ratio == pytest.approx((q / p).max())
    ratio = report.effective_sample_size / size
    assert ratio == pytest.approx(1 / (1 + exact["chi_square"]), rel=0.02)


def test_clipping_bounds_the_weights():
    ratios = np.log([0.5, 1.0, 8.0])
    weights = importance_weights(ratios, clip=2.0, min_ess=1)
    np.testing.assert_allclose(weights, np.array([0.5, 1, 2]) / np.mean([0.5, 1, 2]))
    products = per_decision_weights([[np.log(8), np.log(8), 5.0]], [[1, 1, 0]], clip=2.0)
    np.testing.assert_allclose(products, [[2, 4, 4]])
    with pytest.raises(ValueError, match="clip: got 0.5"):
        importance_weights(ratios, clip=0.5)


@given(size=st.integers(1, 200))
def test_effective_sample_size_of_unit_weights_is_n(size):
    assert effective_sample_size(np.ones(size)) == pytest.approx(size)


@given(size=st.integers(1, 200), data=st.data())
def test_effective_sample_size_of_a_point_mass_is_one(size, data):
    weights = np.zeros(size)
    weights[data.draw(st.integers(0, size - 1))] = 3.0
    assert effective_sample_size(weights) == 1.0


@given(weights=WEIGHTS, scale=st.floats(1e-200, 1e200))
def test_effective_sample_size_is_bounded_and_blind_to_scale(weights, scale):
    ess = effective_sample_size(weights)
    assert 1 - 1e-12 <= ess <= weights.size * (1 + 1e-12)
    assert effective_sample_size(scale * weights) == pytest.approx(ess)
    relative_variance = np.var(weights) / np.mean(weights) ** 2
    assert ess == pytest.approx(weights.size / (1 + relative_variance))


@given(weights=WEIGHTS, copies=st.integers(1, 5))
def test_copies_multiply_the_effective_sample_size(weights, copies):
    """Of what is copied, as any count of examples would."""
    ess = effective_sample_size(np.tile(weights, copies))
    assert ess == pytest.approx(copies * effective_sample_size(weights))


@given(weights=WEIGHTS)
def test_normalized_weights_have_mean_one_and_the_same_proportions(weights):
    found = normalized_weights(weights, min_ess=1)
    assert found.mean() == pytest.approx(1)
    np.testing.assert_allclose(found / found[0], weights / weights[0], rtol=1e-9)


def test_the_error_of_a_weighted_mean_is_that_of_the_examples_that_count():
    values = np.random.default_rng(0).normal(size=400)
    expected = np.mean(values[:100]), np.std(values[:100]) / 10
    for scale in (1.0, 7.0):
        weights = scale * (np.arange(400) < 100)
        np.testing.assert_allclose(weighted_mean(values, weights), expected, atol=1e-14)


def test_nbeta_of_unit_weights_is_watanabes():
    assert implied_nbeta(np.ones(1000)) == pytest.approx(1000 / np.log(1000))
    half = np.repeat([2.0, 0.0], 500)
    assert implied_nbeta(half) == pytest.approx(500 / np.log(500))
    with pytest.raises(ValueError, match="effective sample size 1, expected at least e"):
        implied_nbeta([1.0, 0.0])


def test_age_weights_tend_to_one_and_to_the_newest():
    step = np.arange(100)
    np.testing.assert_allclose(age_weights(step, half_life=1e9), 1, atol=1e-6)
    newest = age_weights(step, half_life=1e-3, min_ess=1)
    np.testing.assert_allclose(newest, 100.0 * (step == 99), atol=1e-200)
    weights = age_weights(step, half_life=10)
    np.testing.assert_allclose(weights[10:] / weights[:-10], 2)
    with pytest.raises(ValueError, match="effective sample size 1 of 100, expected at least"):
        age_weights(step, half_life=1e-3)
    with pytest.raises(ValueError, match="half_life: got 0"):
        age_weights(step, half_life=0)


# The toy model of superposition under a feature probability that drifts.

CENTER = critical_point(parse_class("5+"), 6)
OLD, NEW = (np.array([(1 - p) / 5] * 5 + [p]) for p in (1 / 6, 0.02))


@functools.cache
def stale_losses():
    examples = sample_examples(jax.random.key(5), 40_000, 6, probabilities=OLD)
    moved = jax.tree.map(lambda x: x + 0.05, CENTER)
    return np.asarray(examples["feature"]), np.asarray(example_loss(moved, examples)), moved


def test_state_weights_correct_the_loss_of_stale_inputs():
    features, losses, params = stale_losses()
    exact_old, exact_new = (float(population_loss(params, p)) for p in (OLD, NEW))
    plain, plain_sem = mean_and_sem(losses)
    assert abs(plain - exact_old) < 4 * plain_sem
    assert abs(plain - exact_new) > 20 * plain_sem
    for source in (OLD, None):  # The exact ratio, and counts of the data in its place.
        weights = correct_states(features, target=NEW, source=source)
        found, sem = weighted_mean(losses, weights)
        assert abs(found - exact_new) < 4 * sem


def test_what_the_correction_leaves_of_the_sample():
    features, _, _ = stale_losses()
    weights = correct_states(features, target=NEW, source=OLD)
    # n / (1 + chi^2), chi^2 = sum (new - old)^2 / old.
    expected = len(features) / (1 + np.sum((NEW - OLD) ** 2 / OLD))
    assert effective_sample_size(weights) == pytest.approx(expected, rel=0.005)
    assert implied_nbeta(weights) == pytest.approx(expected / np.log(expected), rel=0.005)


def test_counts_give_each_state_exactly_its_current_probability():
    features, _, _ = stale_losses()
    weights = correct_states(features, target=NEW)
    shares = np.bincount(features, weights) / len(features)
    np.testing.assert_allclose(shares, NEW, atol=1e-12)


def test_density_ratios_correct_amplitudes():
    """Amplitudes uniform on [0, 1] when collected, with density 2 mu now."""
    mu = np.random.default_rng(0).random(20_000)
    weights = density_ratio_weights(2 * mu, np.ones_like(mu))
    found, sem = weighted_mean(mu, weights)
    assert abs(found - 2 / 3) < 4 * sem
    outside = np.where(mu < 0.5, 1.0, 0.0)  # Half of the mass of a law on [-1/2, 1/2].
    with pytest.raises(ValueError, match="mean ratio 0.4967 .* support was lost"):
        density_ratio_weights(outside, np.ones_like(mu))
    with pytest.raises(ValueError, match="not normalized alike"):
        density_ratio_weights(4 * mu, np.ones_like(mu))


# What theory says.


def test_bounded_ratios_leave_the_learning_coefficient_alone():
    statement = drift_statement(NEW, OLD, zero_at_center=True)
    assert statement.possible and not statement.needed
    assert statement.min_ratio == pytest.approx(0.12)
    assert statement.max_ratio == pytest.approx(0.98 / 5 * 6)
    assert "unneeded for the learning coefficient" in str(statement)


def test_within_its_bounds_the_lagging_potential_is_the_current_one():
    """Theorem T1 in numbers: `c K_old <= K_new <= C K_old` for a divergence at any parameters."""
    statement = drift_statement(NEW, OLD, zero_at_center=True)
    policy = GaussianPolicy(lambda w, x: w["W"] @ x, 0.5)
    loss_fn, data = policy_kl(policy, {"W": jnp.zeros((2, 6))}, jnp.eye(6))
    for seed in range(5):
        losses = loss_fn({"W": jax.random.normal(jax.random.key(seed), (2, 6))}, data.examples)
        ratio = float(NEW @ losses / (OLD @ losses))
        assert statement.min_ratio <= ratio <= statement.max_ratio


@functools.cache
def kl_curvature():
    """Hessian of the exact divergence at the 5+ point, as a function of feature probabilities."""
    flat, unflatten = jax.flatten_util.ravel_pytree(CENTER)

    def divergence(w, probabilities):
        return population_kl(unflatten(w), CENTER, 1.0, probabilities=probabilities)

    hessian = jax.jit(jax.hessian(divergence))
    return lambda probabilities: np.linalg.eigvalsh(hessian(flat, jnp.asarray(probabilities)))


def quadratic_llc(curvatures, nbeta, localization=1.0):
    x = nbeta * curvatures
    return 0.5 * np.sum(x / (x + localization))


def test_drift_keeps_the_coefficient_and_moves_the_value_at_finite_temperature_within_bounds():
    """At 5+ the coefficient is 8.5 under both laws: 17 directions of the divergence are curved."""
    statement = drift_statement(NEW, OLD, zero_at_center=True)
    old, new = (kl_curvature()(p) for p in (OLD, NEW))
    assert np.sum(old > 1e-9) == np.sum(new > 1e-9) == 17
    low, high = (quadratic_llc(old, 1e3 * c) for c in (statement.min_ratio, statement.max_ratio))
    assert low <= quadratic_llc(new, 1e3) <= high
    assert abs(quadratic_llc(new, 1e3) - quadratic_llc(old, 1e3)) > 0.005
    for law in (old, new):
        assert quadratic_llc(law, 1e9) == pytest.approx(8.5, abs=1e-4)


def test_an_estimate_from_corrected_data_is_that_of_the_current_law_and_a_stale_one_is_not():
    """A Gaussian mean in each of three contexts: the potential is quadratic, its value exact."""
    old, new = np.array([0.45, 0.45, 0.1]), np.array([0.02, 0.08, 0.9])
    contexts = np.random.default_rng(0).choice(3, size=3000, p=old)
    weights = correct_states(contexts, target=new, source=old)
    policy = GaussianPolicy(lambda w, context: w[context][None], 1.0)
    exact = quadratic_llc(new, implied_nbeta(weights), 5.0)
    held = []
    for given_weights in (weights, np.ones(3000)):
        states = designed_states(contexts).weighted(given_weights)
        loss_fn, data = policy_kl(policy, jnp.zeros(3), states.data)
        estimate = slt_rl.estimate_llc(
            jax.random.key(0),
            loss_fn,
            jnp.zeros(3),
            data=data,
            nbeta=implied_nbeta(weights),
            localization=5.0,
        )
        low, high = estimate.interval()
        assert estimate.verdict == "trusted" and high - low < 0.2
        held.append(low <= exact <= high)
    assert held == [True, False]


def test_a_moving_minimum_needs_correction():
    statement = drift_statement(NEW, OLD, zero_at_center=False)
    assert statement.possible and statement.needed
    assert not drift_statement(OLD, OLD, zero_at_center=False).needed


def test_states_left_behind_need_correction():
    statement = drift_statement([0.5, 0.5, 0.0], [1, 1, 1], zero_at_center=True)
    assert statement.possible and statement.needed and statement.min_ratio == 0
    assert "hold directions fixed" in statement.reason or "fixed that" in statement.reason


def test_lost_support_cannot_be_corrected():
    statement = drift_statement([0.5, 0.3, 0.2], [6, 4, 0], zero_at_center=True)
    assert not statement.possible
    assert statement.covered_mass == pytest.approx(0.8)
    assert statement.max_ratio == statement.chi_square == np.inf
    with pytest.raises(ValueError, match="correction impossible: the data covers 0.8"):
        correct_states([0, 1, 0], target=[0.5, 0.3, 0.2], source=[0.4, 0.3, 0.3], min_ess=1)
    assert covered_mass([[0.5, 0.3], [0.1, 0.1]], [[9, 9], [0, 1]]) == pytest.approx(0.9)


def test_a_forbidden_action_is_an_infinite_divergence():
    report = policy_divergence(np.array([0.0, -np.inf, 0.1]))
    assert report.kl_from_behavior == np.inf and np.isfinite(report.kl_to_behavior)


# Refusals.


def refused_steps():
    return jax.tree.map(lambda x: x[:2, :3], behavior_buffer())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_prob": None}, "no behavior log probabilities"),
        ({"log_prob": np.full((2, 3), np.nan)}, "6 values that are not finite"),
        ({"action": np.zeros((2, 3, 2))}, "action: got float64 of shape \\(2,\\)"),
        ({"action": np.zeros((2, 3))}, "action: got float64 of shape \\(\\), but the policy acts"),
        ({"action": np.full((2, 3), 3)}, "got actions from 3 to 3, but the policy has 3"),
        ({"action": np.full((2, 3), -1)}, "got actions from -1 to -1"),
    ],
    ids=str,
)
def test_steps_that_do_not_fit_the_policy_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        log_ratios(softmax_policy, TARGET, refused_steps()._replace(**change))


def test_ratios_of_the_acting_policy_are_zero_and_forbidden_actions_have_none():
    steps = refused_steps()
    np.testing.assert_allclose(log_ratios(softmax_policy, BEHAVIOR, steps), 0, atol=1e-14)

    def only_first(params, state):
        return Categorical(jnp.array([0.0, -jnp.inf, -jnp.inf]))

    ratios = log_ratios(only_first, None, steps)
    np.testing.assert_array_equal(np.isneginf(ratios), steps.action > 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: normalized_weights([1.0, -1.0]), "weights: expected finite numbers >= 0"),
        (lambda: normalized_weights([0.0, 0.0]), "not all zero"),
        (lambda: normalized_weights([]), "weights: got shape"),
        (lambda: normalized_weights([1.0, 1e-9] * 4), "effective sample size 4 of 8"),
        (lambda: weighted_mean([np.nan], [1.0]), "values: expected finite"),
        (lambda: correct_states(np.ones(3), target=[1.0]), "got float64 of shape"),
        (lambda: correct_states([0, 5], target=[0.5, 0.5]), "states: got 0 to 5"),
        (lambda: correct_states([0, 1], target=[1, 1], source=[1, 0]), "source: zero on a state"),
        (lambda: drift_statement([1.0], [1, 1], zero_at_center=True), "source: got shape"),
        (lambda: covered_mass([0.0], [1]), "probabilities: expected"),
        (lambda: per_decision_weights([1.0], [True]), "expected both"),
        (lambda: policy_divergence([np.nan, 0.0]), "none NaN"),
        (lambda: density_ratio_weights([1.0], [0.0]), "expected positive numbers"),
    ],
    ids=range(13),
)
def test_bad_weights_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

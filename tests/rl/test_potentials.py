"""Potentials: values and curvatures by hand, tracing, equality, and the negative controls."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.rl import (
    MLP,
    Batch,
    CategoricalPolicy,
    GaussianPolicy,
    all_action_regret,
    clipped_surrogate,
    exact_regret,
    importance_regret,
    policy_kl,
    sampled_regret,
    score_surrogate,
    value_error,
)

KEY = jax.random.key(4)
SIGMA = 0.3
NETWORK = MLP(3, 2, hidden=(4,))
POLICY = GaussianPolicy(NETWORK, SIGMA)
DISCRETE = CategoricalPolicy(NETWORK)
PARAMS = NETWORK.init(jax.random.key(0))
OTHER = NETWORK.init(jax.random.key(1))
OBSERVATIONS = jax.random.normal(jax.random.key(2), (50, 3))


def reward_fn(observation, action):
    return -jnp.sum((action - observation[:2]) ** 2)


def best_action(observation):
    return observation[:2]


def flat_hessian(f, params):
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    return jax.jit(jax.hessian(lambda w: f(unflatten(w))))(flat)


def flat_jacobian(f, params):
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    return jax.jit(jax.jacobian(lambda w: f(unflatten(w))))(flat)


def make_batch():
    distribution = jax.vmap(lambda x: POLICY(PARAMS, x))(OBSERVATIONS)
    noise = jax.random.normal(jax.random.key(3), (50, 2))
    action = jax.vmap(lambda d, z: d.transform(z))(distribution, noise)
    log_prob = jax.vmap(lambda d, a: d.log_prob(a))(distribution, action)
    return Batch(OBSERVATIONS, action, log_prob, jax.vmap(reward_fn)(OBSERVATIONS, action))


def test_exact_regret_is_the_gap():
    regret = exact_regret(sum, 5)
    assert regret([1.0, 2.0]) == 2.0
    assert regret == exact_regret(sum, 5.0)
    assert hash(regret) == hash(exact_regret(sum, 5.0))
    with pytest.raises(ValueError, match="optimal_return: got nan"):
        exact_regret(sum, float("nan"))
    with pytest.raises(ValueError, match="return_fn: got 3"):
        exact_regret(3, 1.0)
    with pytest.raises(ValueError, match="unit: expected a finite number > 0, got 0"):
        exact_regret(sum, 1.0, unit=0)


def test_numbers_that_are_not_finite_are_named():
    bad = jnp.zeros((50, 2)).at[7, 1].set(jnp.nan)
    with pytest.raises(ValueError, match="action_values: got 1 values that are not finite"):
        all_action_regret(DISCRETE, OBSERVATIONS, bad)
    with pytest.raises(ValueError, match="targets: got 1 values that are not finite"):
        value_error(lambda w, x: jnp.sum(x), OBSERVATIONS, bad[:, 1])
    with pytest.raises(ValueError, match="observations: got shapes .* of length n >= 1"):
        policy_kl(POLICY, PARAMS, OBSERVATIONS[:0])


def test_regret_in_units_of_reward_does_not_know_the_scale_of_rewards():
    scaled = exact_regret(lambda w: 100 * sum(w), 500, unit=100)
    assert scaled([1.0, 2.0]) == exact_regret(sum, 5)([1.0, 2.0])
    assert "in units of 100 of reward" in scaled.scale_note


def test_what_is_in_units_of_reward_says_so_and_what_is_in_nats_does_not():
    batch = make_batch()
    one = jnp.zeros(50)
    of_reward = (
        exact_regret(sum, 0.0),
        importance_regret(POLICY, batch)[0],
        sampled_regret(KEY, POLICY, reward_fn, params=PARAMS, observations=OBSERVATIONS)[0],
        all_action_regret(DISCRETE, OBSERVATIONS, jnp.zeros((50, 2)))[0],
    )
    assert all("this number at nbeta/c;" in loss.scale_note for loss in of_reward)
    values = value_error(lambda w, x: jnp.sum(x), OBSERVATIONS, one)[0]
    assert "squared raw units of reward" in values.scale_note
    assert "this number at nbeta/c^2;" in values.scale_note
    assert not hasattr(policy_kl(POLICY, PARAMS, OBSERVATIONS)[0], "scale_note")


def test_sampled_regret_is_regression_with_label_noise():
    loss_fn, data = sampled_regret(
        jax.random.key(4),
        POLICY,
        reward_fn,
        params=PARAMS,
        observations=OBSERVATIONS,
        best_action_fn=best_action,
    )
    found = loss_fn(OTHER, data.examples)
    error = jax.vmap(lambda x: NETWORK(OTHER, x))(OBSERVATIONS) - OBSERVATIONS[:, :2]
    noise = data.examples["noise"]
    exact = jnp.sum(error**2, -1) + 2 * SIGMA * jnp.sum(noise * error, -1)
    np.testing.assert_allclose(found, exact, atol=1e-12)


def test_sampled_regret_without_a_best_policy_differs_by_a_constant():
    arguments = {"params": PARAMS, "observations": OBSERVATIONS}
    key = jax.random.key(4)
    plain, data = sampled_regret(key, POLICY, reward_fn, **arguments)
    gap, gap_data = sampled_regret(key, POLICY, reward_fn, **arguments, best_action_fn=best_action)
    difference = [plain(w, data.examples) - gap(w, gap_data.examples) for w in (PARAMS, OTHER)]
    np.testing.assert_allclose(difference[0], difference[1], atol=1e-12)
    assert plain == gap


@pytest.mark.parametrize("policy", [POLICY, DISCRETE])
def test_policy_kl_vanishes_with_its_gradient_at_the_reference_only(policy):
    loss_fn, data = policy_kl(policy, PARAMS, OBSERVATIONS)
    gradient = jax.grad(lambda w: jnp.mean(loss_fn(w, data.examples)))(PARAMS)
    np.testing.assert_allclose(loss_fn(PARAMS, data.examples), 0, atol=1e-15)
    assert all(np.allclose(leaf, 0, atol=1e-15) for leaf in jax.tree.leaves(gradient))
    assert np.all(np.asarray(loss_fn(OTHER, data.examples)) > 0)


def test_policy_kl_is_from_the_frozen_policy_to_the_other():
    loss_fn, data = policy_kl(DISCRETE, PARAMS, OBSERVATIONS)
    p, q = (
        jax.vmap(lambda x, w=w: jax.nn.softmax(NETWORK(w, x)))(OBSERVATIONS)
        for w in (PARAMS, OTHER)
    )
    expected = jnp.sum(p * jnp.log(p / q), axis=-1)
    np.testing.assert_allclose(loss_fn(OTHER, data.examples), expected, atol=1e-12)


def test_policy_kl_has_the_fisher_information_as_hessian():
    loss_fn, data = policy_kl(POLICY, PARAMS, OBSERVATIONS)
    hessian = flat_hessian(lambda w: jnp.mean(loss_fn(w, data.examples)), PARAMS)
    jacobian = flat_jacobian(lambda w: jax.vmap(lambda x: NETWORK(w, x))(OBSERVATIONS), PARAMS)
    fisher = jnp.einsum("nki,nkj->ij", jacobian, jacobian) / (50 * SIGMA**2)
    np.testing.assert_allclose(hessian, fisher, atol=1e-10)


def test_policy_kl_can_be_traced_with_the_reference_as_argument():
    @jax.jit
    def divergence(reference, params):
        loss_fn, data = policy_kl(POLICY, reference, OBSERVATIONS)
        return jnp.mean(loss_fn(params, data.examples))

    loss_fn, data = policy_kl(POLICY, PARAMS, OBSERVATIONS)
    expected = float(jnp.mean(loss_fn(OTHER, data.examples)))
    assert float(divergence(PARAMS, OTHER)) == pytest.approx(expected)
    assert float(divergence(OTHER, OTHER)) == pytest.approx(0, abs=1e-15)
    assert divergence._cache_size() == 1


def test_builders_give_equal_losses_for_equal_arguments():
    batch = make_batch()
    for build in (
        lambda: policy_kl(GaussianPolicy(MLP(3, 2, hidden=(4,)), SIGMA), PARAMS, OBSERVATIONS)[0],
        lambda: value_error(NETWORK, OBSERVATIONS, jnp.zeros(50))[0],
        lambda: clipped_surrogate(POLICY, batch, clip=0.1)[0],
        lambda: score_surrogate(POLICY, batch)[0],
        lambda: importance_regret(POLICY, batch)[0],
    ):
        assert build() == build()
        assert hash(build()) == hash(build())


def test_value_error_is_half_the_squared_error():
    targets = jnp.arange(50.0)
    loss_fn, data = value_error(lambda params, x: params * x[0], OBSERVATIONS, targets)
    found = loss_fn(2.0, data.examples)
    np.testing.assert_allclose(found, 0.5 * (2 * OBSERVATIONS[:, 0] - targets) ** 2)
    assert len(data) == 50
    with pytest.raises(ValueError, match=r"targets: got shape \(3,\), expected \(50,\)"):
        value_error(NETWORK, OBSERVATIONS, jnp.zeros(3))


def test_surrogates_share_their_gradient_at_the_behavior_policy():
    batch = make_batch()
    gradients = []
    for build in (importance_regret, clipped_surrogate, score_surrogate):
        loss_fn, data = build(POLICY, batch)
        gradients.append(
            flat_jacobian(lambda w, f=loss_fn, d=data: jnp.mean(f(w, d.examples)), PARAMS)
        )
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-12)
    np.testing.assert_allclose(gradients[0], gradients[2], atol=1e-12)


def test_only_the_negative_controls_say_so():
    batch = make_batch()
    assert "clip" in clipped_surrogate(POLICY, batch)[0].negative_control
    assert "indefinite" in score_surrogate(POLICY, batch)[0].negative_control
    for loss_fn in (
        importance_regret(POLICY, batch)[0],
        policy_kl(POLICY, PARAMS, OBSERVATIONS)[0],
        exact_regret(sum, 0.0),
    ):
        assert not hasattr(loss_fn, "negative_control")


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="observations: got shapes"):
        policy_kl(POLICY, PARAMS, jnp.zeros((0, 3)))
    with pytest.raises(ValueError, match="policy: got None, expected a callable"):
        policy_kl(None, PARAMS, OBSERVATIONS)
    with pytest.raises(ValueError, match="clip: got 0"):
        clipped_surrogate(POLICY, make_batch(), clip=0)
    with pytest.raises(ValueError, match="leading axes differ"):
        score_surrogate(POLICY, make_batch()._replace(advantage=jnp.zeros(3)))

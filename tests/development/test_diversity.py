"""Diversity of attributions: the scores of known kernels, and a null that knows single units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.development import attributions, ensemble_diversity


def scores(rows):
    found = ensemble_diversity(0, rows, num_shuffles=1)
    return found.vendi, found.participation_ratio


@pytest.mark.parametrize(
    ("rows", "number"),
    [
        (np.outer(np.arange(1.0, 8), [3.0, -4.0, 0.5]), 1),
        (5 * np.eye(6), 6),
        (np.repeat(np.eye(3, 40), 7, axis=0), 3),
        (np.repeat(np.eye(40)[:3], 70, axis=0), 3),
    ],
    ids=["equal", "orthogonal", "three groups of few samples", "three groups of many"],
)
def test_it_counts_groups(rows, number):
    np.testing.assert_allclose(scores(rows), number, rtol=1e-9)


def test_groups_of_other_sizes_count_by_their_entropy_and_squares():
    share = np.array([0.5, 0.3, 0.2])
    rows = np.repeat(np.eye(3), [50, 30, 20], axis=0)
    expected = np.exp(-share @ np.log(share)), 1 / (share @ share)
    np.testing.assert_allclose(scores(rows), expected, rtol=1e-9)


def test_rotations_orders_and_lengths_do_not_matter():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 5)) @ np.diag([5, 3, 1, 0.1, 0.1])
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    moved = (rng.uniform(0.1, 10, size=(30, 1)) * rows)[rng.permutation(30)] @ turn
    np.testing.assert_allclose(scores(moved), scores(rows), rtol=1e-9)


def test_units_that_act_alone_are_within_the_null_and_groups_below_it():
    rng = np.random.default_rng(1)
    p_values = [
        ensemble_diversity(seed, rng.normal(1.0, 1.0, size=(60, 12)), num_shuffles=19).p_value
        for seed in range(60)
    ]
    # Uniform on 0.05 ... 1: a mean of 0.525 with a standard error of 0.037.
    assert abs(np.mean(p_values) - 0.525) < 0.12
    teams = np.repeat(rng.normal(1.0, 1.0, size=(60, 3)), 4, axis=1)
    found = ensemble_diversity(0, teams)
    assert found.p_value == 1 / 21 and found.vendi < 0.7 * found.null_vendi.min()
    assert found.participation_ratio < found.null_participation_ratio.min()


def test_attributions_of_a_linear_head_are_exact():
    key_w, key_h = jax.random.split(jax.random.key(0))
    weights, h = jax.random.normal(key_w, (4, 3)), jax.random.normal(key_h, (20, 4))
    actions = jnp.arange(20) % 3

    def log_prob(h, action):
        return jax.nn.log_softmax(h @ weights)[action]

    found = attributions(log_prob, h, actions)
    mean = jax.nn.softmax(h @ weights) @ weights.T
    np.testing.assert_allclose(found, h * (weights.T[actions] - mean), atol=1e-9)
    # All activations larger by a factor: the sum over units, to first order.
    grown = [jax.vmap(log_prob)((1 + x) * h, actions) for x in (1e-4, -1e-4)]
    np.testing.assert_allclose(found.sum(axis=1), (grown[0] - grown[1]) / 2e-4, atol=1e-6)


def chosen(h, action):
    return jax.nn.log_softmax(h)[action]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ensemble_diversity(0, np.ones(3)), r"per_sample: got shape \(3,\)"),
        (lambda: ensemble_diversity(0, np.ones((1, 3))), "at least two samples"),
        (lambda: ensemble_diversity("a", np.eye(3)), "seed: expected a whole number"),
        (lambda: attributions(3, jnp.ones((3, 2)), jnp.arange(3)), "log_prob_fn: expected a fun"),
        (lambda: attributions(chosen, jnp.ones((3, 2)), jnp.arange(2)), r"expected \[n, unit\]"),
        (
            lambda: attributions(chosen, jnp.ones(3), jnp.arange(3)),
            r"activations: got shape \(3,\)",
        ),
        (lambda: attributions(chosen, jnp.ones((3, 2), int), jnp.arange(3)), "floating-point"),
        (lambda: attributions(chosen, jnp.full((3, 2), jnp.nan), jnp.arange(3)), "finite numbers"),
        (lambda: attributions(chosen, jnp.ones((3, 2)), jnp.ones(3)), "an action of type float64"),
        (
            lambda: attributions(lambda h, action: h, jnp.ones((3, 2)), jnp.arange(3)),
            r"log_prob_fn: returned shape \(2,\), expected one number",
        ),
        (lambda: ensemble_diversity(0, np.full((2, 2), np.nan)), "per_sample: got shape"),
        (lambda: ensemble_diversity(0, np.eye(3)[[0, 1, 1]] * [1, 0, 1]), "2 of 3 samples are zer"),
        (
            lambda: ensemble_diversity(0, np.eye(2), num_shuffles=0),
            "num_shuffles: expected a whole number >= 1, got 0",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()

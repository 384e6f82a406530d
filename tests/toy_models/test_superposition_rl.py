"""Superposition by reinforcement: the potentials against each other, and a short PPO."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slt_rl.rl import Batch, GaussianPolicy, importance_regret
from toy_models.superposition import (
    critical_point,
    dense_inputs,
    example_loss,
    forward,
    outputs,
    parse_class,
    population_kl,
    population_loss,
    sample_examples,
)
from toy_models.superposition_env import reconstruction_reward
from toy_models.superposition_rl import (
    ExactScoreSurrogate,
    PPORecipe,
    sparse_policy,
    start_ppo,
    superposition_kl,
    superposition_ppo,
    superposition_regret,
    superposition_sampled_regret,
    train_ppo,
)

SIGMA = 0.3
LABELS = ["5", "5+", "6"]


def point(label):
    return critical_point(parse_class(label), 6)


def near(label, seed, size=0.05):
    keys = jax.random.split(jax.random.key(seed))
    noise = {"W": jax.random.normal(keys[0], (2, 6)), "b": jax.random.normal(keys[1], (6,))}
    return jax.tree.map(lambda w, z: w + size * z, point(label), noise)


def flat_hessian(f, params):
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    return np.asarray(jax.hessian(lambda w: f(unflatten(w)))(flat))


def signature(hessian):
    values = np.linalg.eigvalsh(hessian)
    return np.sum(values < -1e-8), np.sum(abs(values) <= 1e-8), np.sum(values > 1e-8)


def test_exact_regret_is_the_supervised_loss():
    regret = superposition_regret(SIGMA)
    for label in LABELS:
        w = near(label, 0)
        assert float(regret(w)) == pytest.approx(float(population_loss(w)), abs=1e-14)
    assert regret == superposition_regret(SIGMA)


def test_sampled_regret_is_the_loss_on_the_same_inputs_plus_label_noise():
    w = near("5", 1)
    loss_fn, data = superposition_sampled_regret(jax.random.key(0), w, SIGMA, num_examples=500)
    examples = data.examples["observation"]
    error = outputs(w, examples) - dense_inputs(examples, 6)
    label_noise = 2 * SIGMA * jnp.sum(data.examples["noise"] * error, axis=-1)
    expected = example_loss(w, examples) + label_noise
    np.testing.assert_allclose(loss_fn(w, data.examples), expected, atol=1e-13)


@pytest.mark.parametrize("label", LABELS)
def test_sampled_regret_is_unbiased(label):
    w = near(label, 2)
    loss_fn, data = superposition_sampled_regret(jax.random.key(1), w, SIGMA, num_examples=40_000)
    losses = np.asarray(loss_fn(w, data.examples))
    sem = losses.std() / np.sqrt(losses.size)
    assert abs(losses.mean() - float(population_loss(w))) < 4 * sem
    assert sem < 0.003


def test_sampled_divergence_is_unbiased_and_can_be_traced():
    reference, w = point("6"), near("6", 3)
    examples = sample_examples(jax.random.key(2), 40_000, 6)

    @jax.jit
    def divergences(reference, w):
        loss_fn, data = superposition_kl(reference, examples, SIGMA)
        return loss_fn(w, data.examples)

    values = np.asarray(divergences(reference, w))
    exact = float(population_kl(w, reference, SIGMA))
    assert abs(values.mean() - exact) < 4 * values.std() / np.sqrt(values.size)
    np.testing.assert_array_equal(divergences(reference, reference), 0)


@jax.jit
def divergence_and_information(reference):
    """Hessian of the sampled divergence, and E[J'J]/sigma^2 on the same inputs."""
    examples = sample_examples(jax.random.key(3), 500, 6)
    loss_fn, data = superposition_kl(reference, examples, SIGMA)
    flat, unflatten = jax.flatten_util.ravel_pytree(reference)
    hessian = jax.hessian(lambda w: jnp.mean(loss_fn(unflatten(w), data.examples)))(flat)
    jacobian = jax.jacobian(lambda w: outputs(unflatten(w), examples))(flat)
    return hessian, jnp.einsum("nki,nkj->ij", jacobian, jacobian) / (500 * SIGMA**2)


@pytest.mark.parametrize("label", LABELS)
def test_divergence_has_the_fisher_information_as_hessian(label):
    np.testing.assert_allclose(*divergence_and_information(point(label)), atol=1e-10)


@pytest.mark.parametrize(
    ("label", "expected"), [("5", (9, 7, 2)), ("5+", (11, 5, 2)), ("6", (12, 4, 2))]
)
def test_score_surrogate_is_indefinite_where_the_regret_has_a_minimum(label, expected):
    reference = point(label)
    surrogate = ExactScoreSurrogate(reference)
    assert signature(flat_hessian(surrogate, reference)) == expected
    regret = flat_hessian(superposition_regret(SIGMA), reference)
    assert signature(regret)[0] == 0
    # What is missing is the Gauss-Newton part, 2 E[J'J] = 2 sigma^2 times the Hessian of the KL.
    divergence = flat_hessian(lambda w: population_kl(w, reference, SIGMA), reference)
    missing = regret - flat_hessian(surrogate, reference)
    np.testing.assert_allclose(missing, 2 * SIGMA**2 * divergence, atol=1e-9)
    assert "indefinite" in surrogate.negative_control


def test_score_surrogate_has_the_gradient_of_the_regret():
    reference = near("5+", 4)
    surrogate = jax.grad(ExactScoreSurrogate(reference))(reference)
    regret = jax.grad(population_loss)(reference)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-14), surrogate, regret)


def behavior_batch(reference, num_examples):
    """Actions of the reference policy, with the exact mean reward as baseline."""
    keys = jax.random.split(jax.random.key(5))
    examples = sample_examples(keys[0], num_examples, 6)
    mean = outputs(reference, examples)
    noise = jax.random.normal(keys[1], mean.shape)
    inputs = dense_inputs(examples, 6)
    rewards = reconstruction_reward(inputs, mean + SIGMA * noise)
    baseline = reconstruction_reward(inputs, mean) - 6 * SIGMA**2
    log_prob = -jnp.sum(0.5 * noise**2 + jnp.log(SIGMA * jnp.sqrt(2 * jnp.pi)), axis=-1)
    return Batch(examples, mean + SIGMA * noise, log_prob, rewards - baseline)


@pytest.mark.parametrize("label", LABELS)
def test_importance_regret_is_the_regret_with_its_curvature(label):
    """Value and second difference along random directions, in units of Monte-Carlo error."""
    reference = point(label)
    loss_fn, data = importance_regret(sparse_policy(SIGMA), behavior_batch(reference, 100_000))
    losses = jax.jit(lambda w: loss_fn(w, data.examples))

    def check(found, exact):
        sem = float(jnp.std(found)) / np.sqrt(found.size)
        assert abs(float(jnp.mean(found)) - float(exact)) < 4 * sem
        return abs(float(exact)) / sem

    def along(t, direction):
        return jax.tree.map(lambda w, d: w + t * d, reference, direction)

    resolution = []
    for seed in range(4):
        moved = near(label, seed, size=1.0)
        direction = jax.tree.map(lambda a, b: 0.05 * (a - b), moved, reference)
        plus, minus, here = (along(t, direction) for t in (1, -1, 0))
        check(losses(plus), population_loss(plus) - population_loss(reference))
        second = population_loss(plus) + population_loss(minus) - 2 * population_loss(here)
        resolution.append(check(losses(plus) + losses(minus) - 2 * losses(here), second))
    assert max(resolution) > 10  # the curvature is seen, not lost in the noise


def test_sparse_and_dense_policy_are_one():
    w = near("6", 6)
    examples = sample_examples(jax.random.key(6), 20, 6)
    sparse = jax.vmap(lambda x: sparse_policy(SIGMA)(w, x))(examples)
    dense = jax.vmap(lambda x: GaussianPolicy(forward, SIGMA)(w, x))(dense_inputs(examples, 6))
    np.testing.assert_allclose(sparse.mean, dense.mean, atol=1e-14)


def test_ppo_descends_the_exact_loss():
    recipe = PPORecipe(
        num_envs=128,
        optimizer_fn=optax.adam,
        learning_rate=3e-3,
        weight_scales=(0.2, 0.5),
        square_share=0.0,
    )
    key = jax.random.key(0)
    states = start_ppo(key, recipe, 3)
    before = jax.vmap(population_loss)(states.params["policy"])
    *_, (states, stats) = train_ppo(key, recipe, states, checkpoints=(50, 150))
    after = jax.vmap(population_loss)(states.params["policy"])
    assert np.all(np.asarray(after) < np.asarray(before) - 0.05)
    # What is paid while training is the exact return of the policy, up to its noise.
    late = stats.mean_return[:, -10:].mean(axis=1)
    np.testing.assert_allclose(late, -(after + 6 * recipe.sigma**2), atol=0.02)


def test_starts_are_of_the_two_kinds():
    keys = jax.random.split(jax.random.key(8), 400)
    starts = jax.vmap(PPORecipe().init_params)(keys)["policy"]
    # The hull of a 4-gon of length 0.9 has its opposite columns opposed.
    sums = np.asarray(starts["W"][:, :, :2] + starts["W"][:, :, 2:4])
    is_square = np.all(np.abs(sums) < 0.1, axis=(1, 2))
    assert abs(is_square.mean() - 0.5) < 4 * np.sqrt(0.25 / 400)
    assert np.all(np.asarray(starts["b"])[is_square, 4:] >= 0)
    assert np.std(np.asarray(starts["b"])[~is_square]) == pytest.approx(0.03, rel=0.1)


def test_a_recipe_gives_one_trainer():
    assert superposition_ppo(PPORecipe()) is superposition_ppo(PPORecipe())

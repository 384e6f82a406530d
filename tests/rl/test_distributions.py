"""Distributions: identities that hold for every parameter, and samples against probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from slt_rl.rl import Categorical, DiagonalGaussian

logits = arrays(np.float64, 5, elements=st.floats(-8, 8))
means = arrays(np.float64, 3, elements=st.floats(-5, 5))
scales = arrays(np.float64, 3, elements=st.floats(0.05, 5))


@given(logits)
def test_categorical_probabilities_sum_to_one_and_ignore_a_common_shift(x):
    p = np.exp([Categorical(jnp.asarray(x)).log_prob(jnp.int32(a)) for a in range(5)])
    q = np.exp([Categorical(jnp.asarray(x + 3)).log_prob(jnp.int32(a)) for a in range(5)])
    assert p.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(p, q, rtol=1e-10)


@given(logits, logits)
def test_categorical_entropy_and_kl_are_their_sums(x, y):
    p, q = (np.exp(z) / np.exp(z).sum() for z in (x, y))
    one, two = Categorical(jnp.asarray(x)), Categorical(jnp.asarray(y))
    assert float(one.entropy()) == pytest.approx(-np.sum(p * np.log(p)), abs=1e-10)
    assert float(one.kl(two)) == pytest.approx(np.sum(p * np.log(p / q)), abs=1e-10)
    assert float(one.kl(one)) == 0
    assert int(one.mode()) == np.argmax(x)


def test_forbidden_actions_cost_nothing_and_give_finite_gradients():
    forbidden = jnp.array([0.0, -jnp.inf, 1.0])
    gradient = jax.grad(lambda x: Categorical(forbidden + x).kl(Categorical(forbidden - x)))(
        jnp.array([0.1, 0.2, 0.3])
    )
    assert float(Categorical(forbidden).kl(Categorical(forbidden))) == 0
    assert np.isfinite(Categorical(forbidden).entropy())
    assert np.all(np.isfinite(gradient))


def test_categorical_samples_have_the_stated_frequencies():
    distribution = Categorical(jnp.array([0.3, -1.0, 1.2]))
    draws = jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), 20_000))
    p = np.asarray(jax.nn.softmax(distribution.logits))
    frequency = np.bincount(np.asarray(draws), minlength=3) / 20_000
    sem = np.sqrt(p * (1 - p) / 20_000)
    assert np.all(np.abs(frequency - p) < 4 * sem)


@given(means, scales, means)
def test_gaussian_density_and_entropy_agree_with_scipy(mean, scale, action):
    distribution = DiagonalGaussian(jnp.asarray(mean), jnp.asarray(scale))
    exact = scipy.stats.norm(mean, scale)
    assert float(distribution.log_prob(action)) == pytest.approx(exact.logpdf(action).sum())
    assert float(distribution.entropy()) == pytest.approx(exact.entropy().sum())


@given(means, scales, means, scales)
def test_gaussian_kl_is_minus_entropy_minus_mean_log_density(mean, scale, other_mean, other_scale):
    p = DiagonalGaussian(jnp.asarray(mean), jnp.asarray(scale))
    q = DiagonalGaussian(jnp.asarray(other_mean), jnp.asarray(other_scale))
    # E_p log q in closed form: the second moment of (a - m')/s' under p.
    second_moment = (scale**2 + (mean - other_mean) ** 2) / other_scale**2
    cross = -np.sum(0.5 * second_moment + np.log(other_scale) + 0.5 * np.log(2 * np.pi))
    assert float(p.kl(q)) == pytest.approx(-float(p.entropy()) - cross, rel=1e-9, abs=1e-9)
    assert float(p.kl(p)) == 0


def test_one_scale_for_all_coordinates_is_the_same_as_many():
    mean, action = jnp.array([0.1, -2.0, 3.0]), jnp.array([0.0, 1.0, 2.0])
    one, many = DiagonalGaussian(mean, 0.3), DiagonalGaussian(mean, jnp.full(3, 0.3))
    for f in (
        lambda d: d.log_prob(action),
        lambda d: d.entropy(),
        lambda d: d.kl(DiagonalGaussian(action, 0.7)),
        lambda d: d.kl(DiagonalGaussian(action, jnp.full(3, 0.7))),
    ):
        assert float(f(one)) == pytest.approx(float(f(many)), rel=1e-12)


def test_gaussian_samples_have_the_stated_moments_and_come_from_transform():
    distribution = DiagonalGaussian(jnp.array([1.0, -2.0]), jnp.array([0.5, 2.0]))
    keys = jax.random.split(jax.random.key(1), 20_000)
    draws = np.asarray(jax.vmap(distribution.sample)(keys))
    z = (draws - np.array([1.0, -2.0])) / np.array([0.5, 2.0])
    assert np.all(np.abs(z.mean(0)) < 4 / np.sqrt(20_000))
    assert np.all(np.abs(z.var(0) - 1) < 4 * np.sqrt(2 / 20_000))
    noise = jax.random.normal(keys[0], (2,))
    np.testing.assert_array_equal(distribution.transform(noise), distribution.sample(keys[0]))


def test_kl_has_zero_gradient_at_the_reference():
    reference = DiagonalGaussian(jnp.array([0.3, 0.4]), jnp.array([0.2, 0.6]))
    gradient = jax.grad(lambda d: reference.kl(d))(reference)
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(gradient))


def test_dtype_follows_the_inputs():
    mean = jnp.zeros(2, jnp.float32)
    distribution = DiagonalGaussian(mean, jnp.float32(0.5))
    assert distribution.sample(jax.random.key(0)).dtype == jnp.float32
    assert distribution.log_prob(mean).dtype == jnp.float32
    assert Categorical(mean).kl(Categorical(mean)).dtype == jnp.float32

"""Many runs of stochastic gradient descent: the same numbers however they are cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toy_models import superposition as tms
from toy_models import superposition_training as training

KEY = jax.random.key(11)


def last(runs, epochs, **kwargs):
    return list(training.train(runs, epochs, **kwargs))[-1][1]


def assert_equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_numbers_do_not_depend_on_blocks_or_restarts():
    runs = training.start_runs(KEY, 3, num_examples=200)
    whole = last(runs, [7])
    assert_equal(last(runs, range(8)), whole)
    saved = jax.tree.map(np.asarray, last(runs, [3]))
    resumed = training.Runs(*jax.tree.map(jnp.asarray, saved))
    assert_equal(last(resumed, [2, 3, 7]), whole)


def test_a_run_does_not_know_how_many_others_there_are():
    few, many = (training.start_runs(KEY, count, num_examples=100) for count in (2, 3))
    assert_equal(jax.tree.map(lambda leaf: leaf[:2], (many.params, many.data)), few[:2])
    first, second = last(few, [2]).params, last(many, [2]).params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[:2], rtol=1e-12), first, second)


def test_steps_count_minibatches_and_passed_epochs_are_skipped():
    runs = training.start_runs(KEY, 2, num_examples=100)
    assert [step for step, _ in training.train(runs, [0, 1, 4])] == [0, 5, 20]
    later = last(runs, [4])
    assert [step for step, _ in training.train(later, [0, 1, 4, 5])] == [25]


def test_one_epoch_is_plain_gradient_descent_over_a_permutation():
    """A full batch leaves no freedom: one step along the mean gradient of the unhalved loss."""
    runs = training.start_runs(KEY, 2, num_examples=50)
    found = last(runs, [1], learning_rate=0.1, batch_size=50).params

    def loss(params, examples):
        error = tms.forward(params, tms.dense_inputs(examples, 6)) - tms.dense_inputs(examples, 6)
        return jnp.sum(error**2) / 50

    gradient = jax.vmap(jax.grad(loss))(runs.params, runs.data)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, runs.params, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-14), found, expected)


def test_permutations_are_uniform():
    count, draws = 5, 20_000
    orders = jax.jit(jax.vmap(lambda key: training._permutation(key, count)))(
        jax.random.split(jax.random.key(0), draws)
    )
    assert bool(jnp.all(jnp.sort(orders, axis=1) == jnp.arange(count)))
    shares = jnp.stack([jnp.mean(orders == value, axis=0) for value in range(count)])
    sem = (0.2 * 0.8 / draws) ** 0.5
    assert float(jnp.max(jnp.abs(shares - 0.2))) < 4.5 * sem


def start_many(start_fn, keys):
    return jax.jit(jax.vmap(lambda key: start_fn(key, 6)))(keys)


def test_starts_are_as_stated():
    keys = jax.random.split(KEY, 4000)
    square = start_many(training.square_start, keys)
    lengths = jnp.linalg.norm(square["W"], axis=1)
    assert np.mean(lengths[:, :4]) == pytest.approx(1.0, abs=1e-3)
    assert np.std(square["W"][:, :, 4:]) == pytest.approx(0.01, rel=0.03)
    assert np.std(square["b"]) == pytest.approx(0.01, rel=0.03)
    products = jnp.sum(square["W"][:, :, :4] * jnp.roll(square["W"][:, :, :4], 1, axis=2), axis=1)
    assert np.max(np.abs(products)) < 0.15
    angle = jnp.arctan2(square["W"][:, 1, 0], square["W"][:, 0, 0])
    assert abs(jnp.mean(jnp.exp(1j * angle))) < 4 / 4000**0.5
    wide = start_many(training.wide_bias_start, keys)
    assert np.std(wide["b"]) == pytest.approx(1.0, rel=0.03)


def test_training_settles_on_known_levels():
    """Six short runs at the protocol's noise: most end on a plateau of the 4-gon family."""
    runs = training.start_runs(jax.random.key(0), 6)
    final = last(runs, [400])
    labels = tms.classify(final.params)
    assert np.mean(labels != "transit") >= 0.5
    assert {str(label) for label in labels} <= {"4", "4+", "4++", "5", "5+", "4-", "transit"}


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda runs: training.start_runs(KEY, 0), "num_runs"),
        (lambda runs: training.start_runs(KEY, 1, 3), "num_features"),
        (lambda runs: training.train(runs, [1], batch_size=30), "batch_size"),
        (lambda runs: training.train(runs, [1], learning_rate=0.0), "learning_rate"),
        (lambda runs: training.train(runs, [2, 1]), "epochs"),
    ],
)
def test_bad_input_is_named(call, name):
    runs = training.start_runs(KEY, 1, num_examples=100)
    with pytest.raises(ValueError, match=f"^{name}: (expected .*, )?got"):
        call(runs)

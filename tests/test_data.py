"""Dataset: the pytree where reinforcement learning meets the estimator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.data import Dataset, as_dataset


def test_weighted_mean_is_the_importance_weighted_average():
    data = Dataset(jnp.arange(4.0), weights=jnp.array([2.0, 1.0, 1.0, 0.0]))
    assert data.mean(data.examples) == pytest.approx((0 * 2 + 1 + 2) / 4)


def test_is_a_pytree_that_keeps_its_parts():
    data = Dataset({"x": jnp.ones((3, 2))}, weights=jnp.ones(3))
    doubled = jax.tree.map(lambda x: 2 * x, data)
    assert isinstance(doubled, Dataset)
    np.testing.assert_array_equal(doubled.examples["x"], 2 * np.ones((3, 2)))
    assert len(jax.jit(lambda d: d)(data)) == 3


def test_take_selects_examples_and_their_weights():
    data = Dataset(jnp.arange(3.0), weights=jnp.array([0.5, 1.0, 1.5]))
    subset = data.take(jnp.array([2, 2]))
    np.testing.assert_array_equal(subset.examples, [2.0, 2.0])
    np.testing.assert_array_equal(subset.weights, [1.5, 1.5])


@pytest.mark.parametrize(
    ("examples", "weights", "message"),
    [
        ({}, None, "data: expected a pytree with at least one array"),
        (np.zeros((0, 2)), None, "at least one example"),
        ({"a": np.zeros(3), "b": np.zeros(4)}, None, r"leading axes differ.*\[3, 4\]"),
        (np.float64(1.0) * np.ones(()), None, "leading example axis"),
        (np.zeros(3), np.array([1.0, 1.0]), r"weights: expected shape \(3,\), got \(2,\)"),
        (np.zeros(2), np.array([3.0, -1.0]), "weights: expected finite numbers >= 0"),
        (np.zeros(2), np.array([np.nan, 1.0]), "weights: expected finite numbers >= 0"),
        (np.zeros(2), np.array([np.inf, 1.0]), "weights: expected finite numbers >= 0"),
        (np.zeros(2), np.array([3.0, 1.0]), "weights: expected mean one, got 2"),
        (np.zeros(2), np.zeros(2), "weights: expected at least one number > 0, got all zero"),
        (np.zeros(2), ["a", "b"], "weights: expected numbers, got <U1"),
    ],
)
def test_bad_data_is_refused_with_the_reason(examples, weights, message):
    with pytest.raises(ValueError, match=message):
        Dataset(examples, weights)


def test_weights_may_be_a_list():
    data = Dataset(jnp.arange(3.0), weights=[0.5, 1.0, 1.5])
    assert data.mean(data.examples) == pytest.approx(4 / 3)
    np.testing.assert_array_equal(data.take(jnp.array([2])).weights, [1.5])


def test_as_dataset_wraps_once():
    data = as_dataset({"x": np.ones(3)})
    assert as_dataset(data) is data

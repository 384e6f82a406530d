"""Sums over parameters: right for every shape, and to the accuracy of the type."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.dots import dot, squared_norm, tree_dot


@pytest.mark.parametrize(
    "shape", [(), (1,), (7,), (3, 5), (8, 2), (17, 3), (2, 3, 4, 5), (2, 19, 3), (0, 4)]
)
def test_dot_of_any_shape(shape):
    x, y = np.random.default_rng(0).standard_normal((2, *shape))
    found = dot(jnp.asarray(x), jnp.asarray(y))
    assert found.shape == ()
    assert float(found) == pytest.approx(float(np.sum(x * y)), rel=1e-13, abs=1e-13)


def test_rounding_does_not_grow_with_the_size():
    x = np.random.default_rng(1).uniform(size=(1000, 1000)).astype(np.float32)
    exact = float(np.sum(x.astype(np.float64) ** 2))
    assert float(jax.jit(dot)(x, x)) == pytest.approx(exact, rel=3e-7)


def test_squared_norm_of_a_tree():
    tree = {"a": jnp.full((9, 2), 2.0), "b": jnp.array(3.0)}
    assert float(squared_norm(tree)) == 18 * 4 + 9


def test_dot_of_trees():
    one = {"a": jnp.arange(18.0).reshape(9, 2), "b": jnp.array(3.0)}
    two = {"a": jnp.full((9, 2), 2.0), "b": jnp.array(-1.0)}
    assert float(tree_dot(one, two)) == 2 * 153 - 3

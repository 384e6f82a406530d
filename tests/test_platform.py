"""What the library takes for granted of the numbers below it."""

import jax
import numpy as np
import pytest


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_batches_of_small_products_are_right(dtype):
    """jaxlib 0.10.2 returned wrong rows from 16,384 on: that version is excluded."""
    rng = np.random.default_rng(0)
    matrix, rows = rng.normal(size=(3, 3)).astype(dtype), rng.normal(size=(40_000, 3)).astype(dtype)
    found = jax.jit(jax.vmap(lambda row: ((matrix @ row) ** 2).sum()))(rows)
    np.testing.assert_allclose(found, ((rows @ matrix.T) ** 2).sum(axis=1), rtol=1e-3)

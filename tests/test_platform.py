"""What the library takes for granted of the numbers below it."""

import os
import subprocess
import sys

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


@pytest.mark.parametrize("module", ["slt_rl", "slt_rl.rl", "slt_rl.development", "toy_models"])
def test_an_import_runs_no_operation(module):
    """Until the first operation XLA reads its flags, and rejects one that it does not know."""
    program = (
        f"import os, {module}, jax.numpy as jnp; "
        "os.environ['XLA_FLAGS'] = '--xla_no_such_flag=1'; jnp.ones(2) + 1"
    )
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode != 0
    assert "xla_no_such_flag" in done.stderr

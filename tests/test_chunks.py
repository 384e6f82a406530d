"""Checkpoints in chunks: about equal ones, within a stated memory."""

import jax.numpy as jnp
import pytest

from slt_rl.chunks import size_of_chunks


@pytest.mark.parametrize(
    ("num", "most", "size"), [(100, 16, 13), (16, 16, 16), (17, 16, 9), (5, 2, 2), (9, 1, 1)]
)
def test_few_places_of_the_last_chunk_are_empty(num, most, size):
    assert size_of_chunks({"w": jnp.zeros((num, 2))}, most) == size

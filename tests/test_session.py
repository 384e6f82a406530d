"""Settings of the test session hold where they are asked for and nowhere else."""

import jax
import pytest

FLAG = "jax_disable_most_optimizations"


@pytest.mark.unoptimized
def test_a_marked_test_compiles_without_optimizations():
    assert jax.config.read(FLAG)


def test_the_next_test_compiles_as_the_commands_do():
    assert not jax.config.read(FLAG)

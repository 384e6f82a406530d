"""The written-out generator gives the numbers of JAX's own, whatever is drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.keys import threefry, unrolled

KEY = jax.random.key(5)
DRAWS = {
    "normal": lambda key: jax.random.normal(key, (7, 3)),
    "normal, float32": lambda key: jax.random.normal(key, (9,), jnp.float32),
    "randint": lambda key: jax.random.randint(key, (9,), 0, 5120),
    "bits16": lambda key: jax.random.bits(key, (5,), "uint16"),
    "permutation": lambda key: jax.random.permutation(key, 9),
    "split": lambda key: jax.random.key_data(jax.random.split(key, (2, 2))),
    "fold_in": lambda key: jax.random.key_data(jax.random.fold_in(key, 2**32 - 1)),
    "nothing": lambda key: jax.random.normal(key, (0,)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_those_of_the_default_generator(name):
    draw = DRAWS[name]
    keys = jax.vmap(lambda i: jax.random.fold_in(KEY, i))(jnp.arange(3))
    np.testing.assert_array_equal(draw(unrolled(KEY)), draw(KEY))
    np.testing.assert_array_equal(jax.vmap(draw)(unrolled(keys)), jax.vmap(draw)(keys))


def test_keys_without_a_type_are_the_same_keys():
    raw = jax.random.PRNGKey(5)
    np.testing.assert_array_equal(jax.random.normal(unrolled(raw)), jax.random.normal(KEY))


def test_keys_of_other_generators_are_left_alone():
    key = jax.random.key(5, impl="rbg")
    assert unrolled(key) is key
    assert unrolled(unrolled(KEY)).dtype == unrolled(KEY).dtype
    with jax.threefry_partitionable(False):
        assert unrolled(KEY) is KEY


def test_counters_beyond_32_bits_carry():
    high = jnp.array([0, 1], jnp.uint32)
    low = jnp.array([3, 3], jnp.uint32)
    words = threefry(jax.random.key_data(KEY), high, low)
    assert int(words[0][0]) != int(words[0][1])
    first = jax.random.key_data(jax.random.fold_in(KEY, 3))
    np.testing.assert_array_equal([words[0][0], words[1][0]], first)

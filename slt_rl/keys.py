"""Random keys whose numbers are those of JAX's default generator, faster on CPUs.

JAX compiles its default generator, threefry, on CPUs as a loop over its rounds, each of which reads
and writes memory. Written out, the rounds become one pass that XLA fuses with what uses the bits.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import random as jax_extend_random

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def threefry(key: Any, high: jax.Array, low: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the two words of threefry-2x32 with 20 rounds, as `uint32` like the counters.

    Args:
        key: `[2]` uint32, or a pair of arrays like the counters: a key for each of them.
        high: uint32 counters, the first words.
        low: uint32 counters of the same shape, the second words.

    References:
        Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x, y = high + schedule[0], low + schedule[1]
    # The rounds in the operations of `lax`: those of `jnp` take several times as long to trace.
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = lax.add(x, y)
            left = lax.shift_left(y, np.uint32(rotation))
            right = lax.shift_right_logical(y, np.uint32(32 - rotation))
            y = lax.bitwise_xor(x, lax.bitwise_or(left, right))
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def _counted(key: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """The words of the counters 0, 1, ... of an array."""
    # XLA makes a 64-bit counter fast only if it need not: most arrays are smaller than 2^32.
    size = int(np.prod(shape))
    if size < 2**32:
        low = lax.iota(jnp.uint32, size).reshape(shape)
        return threefry(key, jnp.zeros_like(low), low)
    count = lax.iota(jnp.uint64, size).reshape(shape)
    return threefry(key, (count >> 32).astype(jnp.uint32), count.astype(jnp.uint32))


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.stack(_counted(key, shape), axis=-1)


def _fold_in(key: jax.Array, data: int | jax.Array) -> jax.Array:
    low = jnp.asarray(data).astype(jnp.uint32)
    return jnp.stack(threefry(key, jnp.zeros_like(low), low))


def _random_bits(key: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    high, low = _counted(key, shape)
    if bit_width == 64:
        return (high.astype(jnp.uint64) << 32) | low.astype(jnp.uint64)
    return (high ^ low).astype(f"uint{bit_width}")


_UNROLLED = jax_extend_random.define_prng_impl(
    key_shape=(2,),
    seed=jax_extend_random.threefry_prng_impl.seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32_unrolled",
    tag="u3fry",
)


def unrolled(keys: jax.Array) -> jax.Array:
    """Returns keys that give the same random numbers faster; other generators' keys as they are.

    Example:
        >>> key = jax.random.key(0)
        >>> bool(jnp.all(jax.random.normal(unrolled(key), 3) == jax.random.normal(key, 3)))
        True
    """
    typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    default = not typed or str(jax.random.key_impl(keys)) == "threefry2x32"
    # The older layout of counters gives other numbers.
    if not default or not jax.config.jax_threefry_partitionable:  # type: ignore[attr-defined]
        return keys
    data = jax.random.key_data(keys) if typed else keys
    return jax.random.wrap_key_data(data, impl=_UNROLLED)


def map_joint_bits(function: Callable, keys: jax.Array, sizes: Sequence[int]) -> jax.Array:
    """Returns `function` of the 32-bit words of several keys one after another, in one loop.

    The words of a key are those of `jax.random.bits(key, (size,))`. Many small arrays are drawn
    faster so: on a CPU XLA draws each where it is used, along its last axis, however short.

    Args:
        function: what to make of the words, `[n] -> [n]`, entry by entry.
        keys: `[key]`, from `unrolled`.
        sizes: words of each key, fewer than 2^32 in all.
    """
    # Two passes of a loop, for one alone would be no loop; a word is added to an odd number.
    count = sum(sizes)
    sizes = (*sizes[:-1], sizes[-1] + count % 2)
    counter = np.concatenate([np.arange(size, dtype=np.uint32) for size in sizes])

    def of_each_word(part):
        # Joined, since to gather a key for every word takes longer than to make numbers of it.
        joined = [jnp.broadcast_to(x, size) for x, size in zip(part, sizes, strict=True)]
        return jnp.concatenate(joined).reshape(2, -1)

    def draw(rows):
        *key, low = rows
        high, low = threefry(key, jnp.zeros_like(low), low)
        return function(high ^ low)

    parts = map(of_each_word, jnp.moveaxis(jax.random.key_data(keys), -1, 0))
    return lax.map(draw, (*parts, counter.reshape(2, -1))).ravel()[:count]


def is_unrolled(keys: jax.Array) -> bool:
    """Whether keys are such as `unrolled` gives."""
    typed = jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)
    return typed and str(jax.random.key_impl(keys)) == str(_UNROLLED)

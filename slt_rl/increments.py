"""Increments of Langevin dynamics: normal numbers drawn fast, and numbers cheaper than those."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.keys import is_unrolled, map_joint_bits

PyTree = Any
# Leaves of fewer numbers are drawn together on CPUs: little memory, and their rows may be short.
_SMALL = 4096
# sqrt(2) erfinv(x)/x as a polynomial of -log(1 - x^2)/8 - 1, for single precision: a fit in
# Chebyshev polynomials whose weights equalize relative errors, which are below 6e-8.
_QUANTILE = (
    3.7638426, 1.9952514, -0.45756435, 0.17794596, -0.051603172, -0.024021568, 0.059710257,
    -0.055768762, 0.045564882, -0.043478221, 0.0011778089, 0.051080734, -0.029522611,
    -0.012529359, 0.010188976,
)  # fmt: skip
_BITS = 8
_NUMBERS_PER_WORD = 32 // _BITS
# With these the second and the fourth moment are 1 and 3.
_LINEAR, _CUBIC = 0.9594195372731159, 0.014603816851302114


def normal_like(key: jax.Array, tree: PyTree) -> PyTree:
    """Draws numbers from N(0, 1): those of JAX's `normal` with a key for each leaf, but faster.

    In single precision the same random bits go through another formula of the normal quantile, with
    one polynomial for all of its range: numbers are the same but for rounding, and nearer to the
    exact quantiles (relative error 4e-7 at most, where XLA's `erf_inv` has 6e-6). Other precisions
    are JAX's own.

    Args:
        key: random key, consumed.
        tree: pytree of arrays, whose shapes and floating-point types the draws have.

    Example:
        >>> draws = normal_like(jax.random.key(0), {"w": jnp.ones((200, 200))})
        >>> float(jnp.std(draws["w"])).__round__(2)
        1.0
    """
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    small = [i for i, leaf in enumerate(leaves) if leaf.size < _SMALL and _is_plain(leaf)]
    # Asked while tracing: both ways give the same numbers, and to trace both takes twice as long.
    together = is_unrolled(keys) and jax.default_backend() == "cpu"
    if not together or sum(leaves[i].size for i in small) == 0:
        small = []
    return jax.tree.unflatten(structure, _drawn(leaves, keys, small))


def _apart(leaf: Any, key: jax.Array) -> jax.Array:
    """Normal numbers of a leaf by its own key."""
    if _is_plain(leaf):
        return _quantile(jax.random.bits(key, leaf.shape, jnp.uint32))
    sharding = jax.typeof(leaf).sharding
    return jax.random.normal(key, leaf.shape, leaf.dtype, out_sharding=sharding)


def _drawn(leaves: Sequence[Any], keys: jax.Array, small: list[int]) -> list[jax.Array]:
    """Normal numbers of every leaf by its own key, those of the small leaves in one loop."""
    draws = {}
    if small:
        sizes = [leaves[i].size for i in small]
        joint = map_joint_bits(_quantile, keys[np.array(small)], sizes)
        parts = jnp.split(joint, np.cumsum(sizes)[:-1].tolist())
        draws = {i: part.reshape(leaves[i].shape) for i, part in zip(small, parts, strict=True)}
    return [
        draws[i] if i in draws else _apart(leaf, key)
        for i, (leaf, key) in enumerate(zip(leaves, keys, strict=True))
    ]


def _is_plain(leaf: Any) -> bool:
    """Whether a leaf is in single precision, and its layout over devices not a part of its type."""
    axes = jax.typeof(leaf).sharding.spec
    return leaf.dtype == jnp.float32 and all(axis is None for axis in axes)


def _quantile(words: jax.Array) -> jax.Array:
    """Normal numbers in single precision from 32-bit words, by JAX's map of words to (-1, 1)."""
    bits = (words >> np.uint32(9)) | np.uint32(0x3F800000)
    x = 2 * (jax.lax.bitcast_convert_type(bits, jnp.float32) - 1) - np.float32(1 - 2**-24)
    t = jnp.log((1 - x) * (1 + x)) * np.float32(-1 / 8) - 1
    return x * jnp.polyval(np.array(_QUANTILE[::-1], np.float32), t)


def binomial_like(key: jax.Array, tree: PyTree) -> PyTree:
    r"""Draws symmetric numbers with the moments of N(0, 1), from the number of ones in 8 bits.

        xi = a x + b x^3,   x = (k - 4) / sqrt(2),   k ~ Binomial(8, 1/2)

    Odd moments are zero; the second and the fourth are exactly 1 and 3, the sixth is 14.5 instead
    of 15, the eighth 92.1 instead of 105. The 9 values lie 0.68 to 0.87 apart and reach 3.04.

    An Euler step with such increments has the weak order of one with normal increments: the laws
    of a diffusion that is sampled with step `h` differ by a term of order `h^2` from the first
    moment in which the increments differ, beside the error of order `h` that both share. On a
    quadratic potential the stationary moments up to the fifth are the same at every step size.

    Args:
        key: random key, consumed.
        tree: pytree of arrays, whose shapes and floating-point types the draws have.

    References:
        Kloeden and Platen, "Numerical Solution of Stochastic Differential Equations" (1992),
        section 14.1, the simplified weak Euler scheme.

    Example:
        >>> draws = binomial_like(jax.random.key(0), {"w": jnp.ones((200, 200))})
        >>> float(jnp.std(draws["w"])).__round__(2)
        1.0
    """
    leaves, structure = jax.tree.flatten(tree)
    sizes = [_num_words(leaf.shape) for leaf in leaves]
    words = jnp.split(_words(key, sum(sizes)), np.cumsum(sizes)[:-1].tolist(), axis=1)
    draws = [_unpacked(w, leaf.shape, leaf.dtype) for w, leaf in zip(words, leaves, strict=True)]
    return jax.tree.unflatten(structure, draws)


def _rows_and_columns(shape: tuple[int, ...]) -> tuple[int, int]:
    return int(np.prod(shape[:-1])), shape[-1] if shape else 1


def _num_words(shape: tuple[int, ...]) -> int:
    """Half of a leaf's words. Rows stay whole, so that XLA reads them as vectors."""
    rows, columns = _rows_and_columns(shape)
    return -(-rows // (2 * _NUMBERS_PER_WORD)) * columns


def _words(key: jax.Array, count: int) -> jax.Array:
    """`[2, count]` random words, each half of them by a key of its own.

    On a CPU XLA computes a generator again for every number that is made from a word, unless a loop
    has written the words to memory.
    """

    def draw(key):
        return jax.random.bits(key, (count,), jnp.uint32)

    return jax.lax.platform_dependent(
        jax.random.split(key), cpu=lambda keys: jax.lax.map(draw, keys), default=jax.vmap(draw)
    )


def _unpacked(words: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Four numbers from every word."""
    rows, columns = _rows_and_columns(shape)
    shifts = np.arange(0, 32, _BITS, dtype=np.uint32)[:, None]
    parts = (words.reshape(-1, 1, columns) >> shifts) & np.uint32(2**_BITS - 1)
    ones = jax.lax.population_count(parts).reshape(-1, columns)[:rows].reshape(shape)
    x = (ones.astype(dtype) - _BITS / 2) / (_BITS / 4) ** 0.5
    return x * (_LINEAR + _CUBIC * x * x)

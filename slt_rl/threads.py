"""How many programs may run side by side: one, where they factor matrices on the CPU.

jaxlib cuts a batch of factorizations into tasks for the pool of threads that runs the programs
themselves, and waits for them on a thread of that pool. As many programs as threads then wait for
each other for ever: on two cores, two.
"""

from collections.abc import Callable
from typing import Any

import jax

from slt_rl.data import Dataset
from slt_rl.groups import is_spread
from slt_rl.jaxprs import equations_of

# Chunks of a curve that are sampled at the same time, if nothing is in the way.
MOST_THREADS = 2
# Multiplications of a step that are worth a thread of their own.
WORTH_A_THREAD = 2**17
# Parameters of all chains up to which they may run in parts, which hold their states once more.
MOST_IN_PARTS = 2**23

# Those of `jax.lax.linalg`, and the transform that XLA runs in the same way.
_WAITING = frozenset(
    ("cholesky", "cholesky_update", "eig", "eigh", "fft", "geqp3", "geqrf", "hessenberg")
    + ("householder_product", "lu", "ormqr", "qr", "schur", "svd", "triangular_solve")
    + ("tridiagonal", "tridiagonal_solve")
)


def factors_matrices(fn: Callable, *arguments: Any) -> bool:
    """Whether a function calls LAPACK, or a Fourier transform, anywhere inside.

    Args:
        fn: A function of pytrees, traced once.
        *arguments: What it is called with.

    Example:
        >>> import jax.numpy as jnp
        >>> factors_matrices(jnp.linalg.solve, jnp.eye(2), jnp.ones(2))
        True
        >>> factors_matrices(jnp.tanh, jnp.ones(2))
        False
    """
    jaxpr = jax.make_jaxpr(fn)(*arguments)
    return not _WAITING.isdisjoint(e.primitive.name for e in equations_of(jaxpr.jaxpr))


def default_parts(
    loss_fn: Callable, params: Any, data: Dataset | None, *, num_chains: int, batch_size: int | None
) -> int:
    """Parts of the chains of one estimate to sample at the same time: two or one.

    One program does not keep two cores busy. Two, each on a core of its own, where a step is long
    enough to be worth a thread and a second copy of the chains is no matter.

    Args:
        loss_fn: `loss_fn(params, examples) -> [n]`.
        params: the center.
        data: the data set; with `None` it is not known what a step costs.
        num_chains: chains.
        batch_size: examples per gradient, `None` for all.
    """
    if data is None or num_chains % 2:
        return 1
    size = num_chains * sum(leaf.size for leaf in jax.tree.leaves(params))
    is_short = size * (batch_size or len(data)) < 2 * WORTH_A_THREAD
    if size > MOST_IN_PARTS or is_short or is_spread(params) or jax.default_backend() != "cpu":
        return 1
    return default_threads((loss_fn, (params, data.examples)))


def default_threads(*programs: tuple[Callable, tuple]) -> int:
    """Chunks to sample at the same time: two, or one on a CPU if a program factors matrices.

    Args:
        *programs: Functions with their arguments.
    """
    if jax.default_backend() == "cpu" and any(factors_matrices(f, *xs) for f, xs in programs):
        return 1
    return MOST_THREADS

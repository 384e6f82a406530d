"""Opposing staircases with exact steps: regret falls while the learning coefficient rises.

A contextual quadratic bandit with a two-layer linear policy: state ``s ~ N(0, I_4)``, action
``a ~ N(W_2 W_1 s, I_4)``, reward ``-|a - K s|^2`` with ``K = diag(3, 1.5, .75, 0)``, three
hidden units. The noise of the actions costs every policy the same, so the regret against the best
policy of the same noise is exactly

    R(W) = |W_2 W_1 - K|_F^2

From small layers gradient descent learns one singular value after another. In phase ``k``, ``k`` of
them are learned: the regret is the sum of squares of the others, and the KL between the policies at
``W`` and of the phase, ``|W_2 W_1 - P_k|_F^2 / 2``, is reduced rank regression at a truth of rank
``k`` with ``k`` nonzero singular values in each layer, where Aoyagi's global coefficient is
attained.

References:
    Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks", arXiv:1312.6120.
    Aoyagi and Watanabe, Neural Networks 18 (2005) 924.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl._numbers import check_count
from toy_models import deep_linear
from toy_models.problem import ToyProblem

__all__ = [
    "Phase",
    "Records",
    "classify",
    "exact_gradient",
    "phase_problem",
    "phases",
    "policy_kl",
    "regret",
    "reinforce_gradient",
    "target",
    "train",
]

Layers = tuple[jax.Array, ...]
GradientFn = Callable[[jax.Array, Layers], Layers]

WIDTHS = (4, 3, 4)
SINGULAR_VALUES = (3.0, 1.5, 0.75)


class Phase(NamedTuple):
    """A plateau of training.

    Attributes:
        rank: Number of singular values that are learned.
        regret: Regret of the policy, in units of reward.
        llc: Learning coefficient of the KL to the phase's own policy.
        multiplicity: Its multiplicity.
    """

    rank: int
    regret: float
    llc: float
    multiplicity: int


class Records(NamedTuple):
    """What training leaves behind.

    Attributes:
        steps: Training step of each record, ``[record]``.
        params: Layers with leading axes ``[run, record]``.
    """

    steps: np.ndarray
    params: Layers


def phases() -> tuple[Phase, ...]:
    """The phases in the order of training.

    Example:
        >>> [(phase.regret, phase.llc) for phase in phases()]
        [(11.8125, 5.0), (2.8125, 6.0), (0.5625, 7.0), (0.0, 7.5)]
    """
    squares = np.square(SINGULAR_VALUES)
    return tuple(
        Phase(rank, float(squares[rank:].sum()), *deep_linear.deep_linear_llc(WIDTHS, rank))
        for rank in range(len(SINGULAR_VALUES) + 1)
    )


def target() -> np.ndarray:
    """The matrix ``K`` of the best policy, ``[action, state]``."""
    return np.diag((*SINGULAR_VALUES, 0.0))


def regret(params: Layers) -> jax.Array:
    """The exact regret ``|W_2 W_1 - K|_F^2``.

    Args:
        params: ``(W_1 [3, 4], W_2 [4, 3])``.

    Returns:
        ``[]``, in units of reward.
    """
    error = deep_linear.product(params) - jnp.asarray(target(), params[0].dtype)
    return jnp.sum(error**2)


def policy_kl(params: Layers, center: Layers) -> jax.Array:
    """KL between the policies at two parameters, ``|W_2 W_1 - P|_F^2 / 2``, exact over states.

    Args:
        params: Layers.
        center: Layers of the frozen policy, whose product is ``P``.

    Returns:
        ``[]``, in nats per state.
    """
    return jnp.sum((deep_linear.product(params) - deep_linear.product(center)) ** 2) / 2


def phase_problem(rank: int) -> ToyProblem:
    """The KL to the policy of a phase, at layers that share each singular value equally.

    Args:
        rank: Number of singular values that are learned, 0 to 3.

    Returns:
        The problem.

    Raises:
        ValueError: If the rank is out of range.
    """
    if not 0 <= rank <= len(SINGULAR_VALUES):
        raise ValueError(f"rank: got {rank}, expected 0 ... {len(SINGULAR_VALUES)}")
    name = f"staircase_phase_{rank}"
    problem = deep_linear.deep_linear(WIDTHS, SINGULAR_VALUES[:rank], name=name)
    return dataclasses.replace(problem, kind="rl")


def exact_gradient(key: jax.Array, params: Layers) -> Layers:
    """Gradient of the exact regret; the key is not used."""
    del key
    return jax.grad(regret)(params)


def reinforce_gradient(key: jax.Array, params: Layers, *, batch_size: int = 256) -> Layers:
    """REINFORCE: an unbiased estimate of the gradient of the regret, from rewards alone.

        -(1/B) sum_i (r_i - b_i) grad log pi(a_i|s_i),    b_i the mean reward of the others

    Args:
        key: Random key, consumed.
        params: Layers.
        batch_size: States ``B``, each with one action; at least two.

    Returns:
        The estimate, of the shape of the layers.
    """
    key_state, key_noise = jax.random.split(key)
    dtype = params[0].dtype
    states = jax.random.normal(key_state, (batch_size, WIDTHS[0]), dtype)
    noise = jax.random.normal(key_noise, (batch_size, WIDTHS[2]), dtype)
    actions = states @ deep_linear.product(params).T + noise
    rewards = -jnp.sum((actions - states @ jnp.asarray(target(), dtype).T) ** 2, axis=1)
    # r - (mean of the others) = (r - mean of all) B/(B - 1).
    advantages = (rewards - jnp.mean(rewards)) * batch_size / (batch_size - 1)

    def surrogate(layers):
        means = states @ deep_linear.product(layers).T
        log_prob = -jnp.sum((jax.lax.stop_gradient(actions) - means) ** 2, axis=1) / 2
        return -jnp.mean(jax.lax.stop_gradient(advantages) * log_prob)

    return jax.grad(surrogate)(params)


def train(
    key: jax.Array,
    num_runs: int,
    gradient_fn: GradientFn = exact_gradient,
    *,
    num_records: int = 100,
    record_every: int = 20,
    learning_rate: float = 5e-3,
    start_scale: float = 1e-4,
) -> Records:
    """Descends from small layers, all runs in one program.

    Run ``r`` depends on ``fold_in(key, r)`` only, not on the number of runs.

    Args:
        key: Random key, consumed.
        num_runs: Number of independent runs.
        gradient_fn: ``(key, params) -> gradient`` of the regret, exact or estimated; hashable.
        num_records: Number of records after the start.
        record_every: Steps from one record to the next.
        learning_rate: Step length.
        start_scale: Standard deviation of each parameter at the start.

    Returns:
        The records; the first is the start.

    Raises:
        ValueError: If a count, the rate or the scale is not positive.
    """
    counts = {"num_runs": num_runs, "num_records": num_records, "record_every": record_every}
    for name, value in counts.items():
        check_count(name, value)
    for name, number in {"learning_rate": learning_rate, "start_scale": start_scale}.items():
        if not number > 0:
            raise ValueError(f"{name}: got {number}, expected a positive number")
    keys = jax.vmap(lambda run: jax.random.fold_in(key, run))(jnp.arange(num_runs))
    numbers = {"learning_rate": learning_rate, "start_scale": start_scale}
    params = _descend(keys, gradient_fn, num_records, record_every, numbers)
    return Records(record_every * np.arange(num_records + 1), params)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _descend(keys, gradient_fn, num_records, record_every, numbers):
    def step(params, key):
        gradient = gradient_fn(key, params)
        return jax.tree.map(lambda w, g: w - numbers["learning_rate"] * g, params, gradient), None

    def stretch(params, key):
        params, _ = jax.lax.scan(step, params, jax.random.split(key, record_every))
        return params, params

    def run(key):
        key_first, key_second, key_steps = jax.random.split(key, 3)
        states, hidden, actions = WIDTHS
        start = (
            numbers["start_scale"] * jax.random.normal(key_first, (hidden, states)),
            numbers["start_scale"] * jax.random.normal(key_second, (actions, hidden)),
        )
        _, rest = jax.lax.scan(stretch, start, jax.random.split(key_steps, num_records))
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), start, rest)

    return jax.vmap(run)(keys)


def classify(params: Layers, *, tolerance: float = 0.2) -> np.ndarray:
    """The phase of each policy: ``"0"`` to ``"3"``, or ``"transit"`` where it is near none.

    Args:
        params: Layers with any leading axes.
        tolerance: Largest distance ``|W_2 W_1 - P_k|_F`` from a phase; phases are .75 apart.

    Returns:
        Labels with the leading axes.
    """
    products = np.asarray(params[1] @ params[0])
    means = [np.diag((*SINGULAR_VALUES[: p.rank], *[0.0] * (4 - p.rank))) for p in phases()]
    distances = np.stack([np.linalg.norm(products - mean, axis=(-2, -1)) for mean in means], -1)
    labels = np.argmin(distances, axis=-1).astype("U7")
    return np.where(distances.min(axis=-1) <= tolerance, labels, "transit")

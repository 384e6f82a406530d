"""Many runs in one compiled program, streamed to the host at checkpoints."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl._numbers import check_count
from slt_rl.convolutions import with_fast_convolutions
from slt_rl.rl.env import Env
from slt_rl.rl.ppo import PPO, PPOState, PPOStats
from slt_rl.rl.recurrent_ppo import RecurrentPPO

PyTree = Any


def run_keys(key: jax.Array, num_runs: int) -> jax.Array:
    """The keys `fold_in(key, run)`, `[run]`: a run is the same whatever runs beside it."""
    check_count("num_runs", num_runs)
    return jax.vmap(lambda run: jax.random.fold_in(key, run))(jnp.arange(num_runs))


def init_runs(
    keys: jax.Array, ppo: PPO | RecurrentPPO, env: Env, *, init_fn: Callable[[jax.Array], PyTree]
) -> PPOState:
    """Starts one run per key.

    Args:
        keys: `[run]` keys, from `run_keys`; the same keys go to `train`.
        ppo: Hyper-parameters.
        env: The environment.
        init_fn: `key -> params`, initial parameters of one run, for `PPO`
            `{"policy": ..., "value": ...}`; hashable.

    Returns:
        States with leading axis `[run]`.
    """
    return _init_runs(keys, ppo, env, init_fn)


@functools.partial(jax.jit, static_argnames="init_fn")
def _init_runs(keys, ppo, env, init_fn):
    def one(key):
        # Iterations are numbered from zero; the last uint32 keeps the start apart from all of them.
        key_params, key_envs = jax.random.split(jax.random.fold_in(key, 2**32 - 1))
        return ppo.init(key_envs, env, init_fn(key_params))

    return jax.vmap(one)(keys)


def train(
    keys: jax.Array,
    ppo: PPO | RecurrentPPO,
    env: Env,
    *,
    states: PPOState,
    checkpoints: Sequence[int],
) -> Iterator[tuple[PPOState, PPOStats]]:
    """Trains all runs and yields at each checkpoint.

    The program is compiled once for a schedule. A run depends on its key and its state alone: not
    on the schedule, nor on an interruption, nor on the other runs.

    Args:
        keys: `[run]` keys, the same as at the start.
        ppo: Hyper-parameters.
        env: The environment.
        states: `[run]`, from `init_runs` or yielded earlier and saved.
        checkpoints: Increasing iteration numbers; those already passed are skipped, and 0 yields
            the start itself.

    Yields:
        The states at the checkpoint, and statistics `[run, iteration]` on the host of the
        iterations since the one before.

    Raises:
        ValueError: If the checkpoints are negative or do not increase, or keys and states differ
            in the number of runs.

    Example:
        >>> import gymnax, jax, optax
        >>> from slt_rl.rl import MLP, CategoricalPolicy, GymnaxEnv, PPO, ValueNetwork
        >>> env = GymnaxEnv(*gymnax.make("CartPole-v1"))
        >>> actor, critic = MLP(4, 2, hidden=(8,)), MLP(4, 1, hidden=(8,))
        >>> ppo = PPO(policy=CategoricalPolicy(actor), value_fn=ValueNetwork(critic),
        ...           optimizer=optax.adam(1e-3), num_envs=4, num_steps=8)
        >>> init_fn = lambda key: {"policy": actor.init(key), "value": critic.init(key)}
        >>> keys = run_keys(jax.random.key(0), 2)
        >>> states = init_runs(keys, ppo, env, init_fn=init_fn)
        >>> for states, stats in train(keys, ppo, env, states=states, checkpoints=(1, 3)):
        ...     print(stats.entropy.shape)
        (2, 1)
        (2, 2)
    """
    schedule = _checked(checkpoints)
    if states.iteration.shape != keys.shape:
        raise ValueError(
            f"states: got leading shape {states.iteration.shape}, expected one state per key, "
            f"{keys.shape}"
        )
    return _train(keys, ppo, env, states, schedule)


def advance_call(
    keys: jax.Array,
    ppo: PPO | RecurrentPPO,
    env: Env,
    *,
    states: PPOState,
    checkpoints: Sequence[int],
) -> functools.partial:
    """The call that `train` makes at each checkpoint, for `compiling`; arguments may be shapes."""
    return functools.partial(_advance, keys, ppo, env, states, 0, _longest(_checked(checkpoints)))


def _checked(checkpoints: Sequence[int]) -> np.ndarray:
    schedule = np.asarray(checkpoints, dtype=np.int64)
    if schedule.ndim != 1 or not schedule.size or np.any(np.diff(schedule, prepend=-1) < 1):
        raise ValueError(f"checkpoints: got {list(checkpoints)}, expected increasing integers >= 0")
    return schedule


def _longest(schedule: np.ndarray) -> int:
    """Of the whole schedule, so that a resumed run uses the very same program."""
    return max(int(np.max(np.diff(schedule, prepend=0))), 1)


def _train(keys, ppo, env, states, schedule):
    longest = _longest(schedule)
    iteration = int(np.max(states.iteration))
    for checkpoint in map(int, schedule):
        if checkpoint < iteration or checkpoint == iteration > 0:
            continue
        length = checkpoint - iteration
        states, stats = _advance(keys, ppo, env, states, length, longest)
        iteration = checkpoint
        yield states, jax.tree.map(lambda x, n=length: np.asarray(x)[:, :n], stats)


@functools.partial(jax.jit, static_argnums=5)
@functools.partial(with_fast_convolutions, static_argnums=5)
def _advance(keys, ppo, env, states, length, longest):
    """Runs `length` iterations, known only at run time; statistics fill the first of `longest`."""

    def step(key, state):
        return ppo.step(key, env, state)

    def iterate(states):
        if keys.shape[0] > 1:
            return jax.vmap(step)(keys, states)
        # One run by itself: mapped over an axis of one, Craftax took a tenth longer on a CPU.
        alone = step(*jax.tree.map(lambda x: x[0], (keys, states)))
        return jax.tree.map(lambda x: x[None], alone)

    def body(number, carry):
        states, records = carry
        states, stats = iterate(states)
        records = jax.tree.map(lambda r, s: r.at[:, number].set(s), records, stats)
        return states, records

    empty = jax.tree.map(
        lambda s: jnp.zeros((s.shape[0], longest, *s.shape[1:]), s.dtype),
        jax.eval_shape(iterate, states)[1],
    )
    return jax.lax.fori_loop(0, length, body, (states, empty))


def linear_schedule(num_iterations: int, num_checkpoints: int) -> tuple[int, ...]:
    """At most `num_checkpoints` evenly spaced iterations, the last one included.

    Raises:
        ValueError: If a count is not positive.

    Example:
        >>> linear_schedule(100, 4)
        (25, 50, 75, 100)
    """
    _check_schedule(num_iterations, num_checkpoints)
    points = np.linspace(0, num_iterations, num_checkpoints + 1)[1:]
    return _distinct(points)


def log_schedule(num_iterations: int, num_checkpoints: int, *, first: int = 1) -> tuple[int, ...]:
    """At most `num_checkpoints` logarithmically spaced iterations, from `first` to the last.

    Early points that round to the same iteration are merged, so there may be fewer.

    Raises:
        ValueError: If a count is not positive, or `first` is not within the iterations.

    Example:
        >>> log_schedule(1000, 4)
        (1, 10, 100, 1000)
    """
    _check_schedule(num_iterations, num_checkpoints)
    if not 1 <= first <= num_iterations:
        raise ValueError(f"first: got {first}, expected an integer in [1, {num_iterations}]")
    if num_checkpoints == 1:
        return (num_iterations,)
    return _distinct(np.geomspace(first, num_iterations, num_checkpoints))


def _check_schedule(num_iterations: int, num_checkpoints: int) -> None:
    check_count("num_iterations", num_iterations)
    check_count("num_checkpoints", num_checkpoints)


def _distinct(points: np.ndarray) -> tuple[int, ...]:
    return tuple(int(p) for p in np.unique(np.maximum(np.rint(points), 1)))

"""From interactions to data sets: what one example is, and what `n` counts.

A learning coefficient is taken of a loss and a data set. In reinforcement learning the data set
is a choice; each function here makes one and says on the result what was chosen.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl._numbers import check_count
from slt_rl.data import Dataset
from slt_rl.rl.buffer import Transitions
from slt_rl.rl.drift import effective_sample_size, normalized_weights
from slt_rl.rl.env import Env
from slt_rl.rl.networks import Policy
from slt_rl.rl.rollout import reset_envs, rollout

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Synthesis:
    """A data set made from interactions, with what it is made of.

    Attributes:
        data: Examples and weights, to be given to a potential.
        unit: What one example is: a state, a transition or a trajectory.
        num_steps: Environment steps behind the examples.
        num_dropped: Steps left out, such as those of unfinished trajectories.
        origin: Where the examples come from, in words.

    Example:
        >>> import jax.numpy as jnp
        >>> print(designed_states(jnp.eye(3)))
        n counts 3 states (designed by the user); effective sample size 3.0
    """

    data: Dataset
    unit: str
    num_steps: int
    num_dropped: int = 0
    origin: str = ""

    @property
    def num_units(self) -> int:
        """What `n` counts: examples, each one `unit`."""
        return len(self.data)

    @property
    def effective_num_units(self) -> float:
        """Effective sample size of the weights; `num_units` for unit weights."""
        if self.data.weights is None:
            return float(self.num_units)
        return effective_sample_size(self.data.weights)

    def weighted(self, weights: Any, *, min_ess: float = 10.0) -> "Synthesis":
        """The same examples with their weights multiplied by `weights`, normalized to mean one.

        Args:
            weights: `[n]`, not negative, of any scale.
            min_ess: Refuse if the effective sample size is below.

        Raises:
            ValueError: If the shape is wrong or `normalized_weights` refuses.
        """
        if np.shape(weights) != (self.num_units,):
            raise ValueError(
                f"weights: got shape {np.shape(weights)}, expected ({self.num_units},)"
            )
        own = 1.0 if self.data.weights is None else np.asarray(self.data.weights, np.float64)
        product = normalized_weights(own * np.asarray(weights, np.float64), min_ess=min_ess)
        return dataclasses.replace(self, data=Dataset(self.data.examples, jnp.asarray(product)))

    def __str__(self) -> str:
        dropped = f"; {self.num_dropped} steps dropped" if self.num_dropped else ""
        return (
            f"n counts {self.num_units} {_plural(self.unit)} ({self.origin}); effective sample "
            f"size {self.effective_num_units:.1f}{dropped}"
        )


class Trajectories(NamedTuple):
    """Whole episodes, padded to a common length by repeating their last step.

    Attributes:
        steps: `[n, time, ...]`.
        mask: `[n, time]` bool, true on the steps that were played.
    """

    steps: Transitions
    mask: jax.Array


def by_transition(buffer: Transitions) -> Synthesis:
    """One example is one transition; `n` counts transitions, which within an episode are dependent.

    For losses without noise of their own, as a KL to a frozen policy, dependence only makes `n`
    transitions cover less of the state law than `n` independent ones. For sampled rewards count
    trajectories instead.

    Args:
        buffer: `[time, env]`.

    Returns:
        Examples `Transitions` with leading axis `[n]`, `n = time * env`, in order of time.

    Raises:
        ValueError: If the buffer is empty.
    """
    num_rows, num_envs = buffer.reward.shape
    _check_not_empty("buffer", num_rows * num_envs)
    flat = jax.tree.map(lambda x: jnp.asarray(x.reshape(-1, *x.shape[2:])), buffer)
    return Synthesis(Dataset(flat), "transition", num_rows * num_envs, origin=_versions(buffer))


def by_trajectory(buffer: Transitions, *, num_episodes: int | None = None) -> Synthesis:
    """One example is one whole episode, the independent unit of reinforcement learning.

    An episode is whole if its first step, its last and all between are in the buffer. Taking all
    of them favors short ones: what is unfinished when the buffer ends is more often long, and with
    a mean length `l` in `t` steps of play lengths come out too short by a share of about `l / t`.
    The first `num_episodes` of every environment, a number fixed in advance, are free of that bias.

    Args:
        buffer: `[time, env]`.
        num_episodes: Whole episodes to take from each environment; all if None.

    Returns:
        Examples `Trajectories` with leading axis `[n]`; environment after environment.

    Raises:
        ValueError: If there is no whole episode, or an environment has fewer than `num_episodes`.
    """
    # Environment after environment, so that an episode is a run of consecutive rows.
    flat = jax.tree.map(lambda x: np.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), buffer)
    num_rows, num_envs = buffer.reward.shape
    first, last = _segments(flat, num_rows)
    done = flat.terminated | flat.truncated
    whole = flat.start[first] & done[last]
    _check_not_empty("buffer", int(np.sum(whole)), "no whole episode in")
    first, length = first[whole], (last - first + 1)[whole]
    if num_episodes is not None:
        taken = _first_of_each(first // num_rows, num_envs, num_episodes)
        first, length = first[taken], length[taken]
    offsets = np.arange(length.max())
    rows = first[:, None] + np.minimum(offsets, length[:, None] - 1)
    steps = jax.tree.map(lambda x: jnp.asarray(x[rows]), flat)
    mask = jnp.asarray(offsets < length[:, None])
    num_steps = int(length.sum())
    return Synthesis(
        Dataset(Trajectories(steps, mask)),
        "trajectory",
        num_steps,
        num_dropped=flat.reward.size - num_steps,
        origin=_versions(buffer),
    )


def _first_of_each(env: np.ndarray, num_envs: int, number: int) -> np.ndarray:
    """Indices of the first `number` entries of each environment in the sorted list `env`."""
    counts = np.bincount(env, minlength=num_envs)
    if not 1 <= number <= counts.min():
        raise ValueError(
            f"num_episodes: got {number}, expected 1 to {counts.min()}, the fewest whole episodes "
            "of an environment"
        )
    begins = np.cumsum(counts) - counts
    return (begins[:, None] + np.arange(number)).ravel()


def _segments(flat: Transitions, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last index of each run of rows that belong to one episode."""
    done = flat.terminated | flat.truncated
    begins = flat.start | (np.arange(done.size) % num_rows == 0)
    begins[1:] |= done[:-1] | (flat.step[1:] != flat.step[:-1] + 1)
    first = np.flatnonzero(begins)
    return first, np.append(first[1:], done.size) - 1


def by_step(trajectories: Synthesis, weights: Any, *, min_ess: float = 10.0) -> Synthesis:
    """The steps of whole trajectories as single examples with a weight for each.

    With `prefix_weights` the examples follow the state law of the policy under study, with
    `per_decision_weights` its law of states and actions.

    Args:
        trajectories: From `by_trajectory`.
        weights: `[n, time]`, not negative; ignored on padding.
        min_ess: Refuse if the effective sample size is below.

    Returns:
        Examples `Transitions` with leading axis `[num_steps]` and weights of mean one.

    Raises:
        ValueError: If `trajectories` holds something else, shapes differ, or the weights are
            refused.
    """
    examples = trajectories.data.examples
    if not isinstance(examples, Trajectories):
        raise ValueError(f"trajectories: got {trajectories.unit} examples, expected trajectories")
    mask = np.asarray(examples.mask)
    if np.shape(weights) != mask.shape:
        raise ValueError(f"weights: got shape {np.shape(weights)}, expected {mask.shape}")
    steps = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)[mask]), examples.steps)
    flat = normalized_weights(np.asarray(weights)[mask], min_ess=min_ess)
    return dataclasses.replace(
        trajectories, data=Dataset(steps, jnp.asarray(flat)), unit="transition"
    )


def policy_states(
    key: jax.Array,
    policy: Policy,
    params: PyTree,
    *,
    env: Env,
    num_envs: int,
    num_steps: int,
) -> Synthesis:
    """States visited by a policy that is played from fresh starts.

    *On-policy* data is this at each checkpoint. *Fixed-reference* data is this once, at one
    reference, and its result used for every checkpoint of a curve: numbers along training are then
    of one state law, and differences between them are not differences of data.

    Args:
        key: Random key, consumed.
        policy: `(params, observation) -> distribution`, hashable.
        params: Parameters of the policy that plays.
        env: The environment.
        num_envs: Environments played side by side.
        num_steps: Steps in each.

    Returns:
        Examples are observations `[num_envs * num_steps]`.

    Raises:
        ValueError: If a count is not positive.
    """
    check_count("num_envs", num_envs)
    check_count("num_steps", num_steps)
    observations = _visited(key, policy, params, env, num_envs, num_steps)
    size = num_envs * num_steps
    origin = f"{num_envs} environments played for {num_steps} steps by one policy"
    return Synthesis(Dataset(observations), "state", size, origin=origin)


@functools.partial(jax.jit, static_argnums=(1, 4, 5))
def _visited(key, policy, params, env, num_envs, num_steps):
    key_reset, key_play = jax.random.split(key)
    batch = reset_envs(key_reset, env, num_envs)
    _, played, _ = rollout(key_play, policy, params, env=env, batch=batch, num_steps=num_steps)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), played.observation)


def mixture_states(parts: Sequence[Synthesis], shares: Sequence[float] | None = None) -> Synthesis:
    """A stratified mixture of state sets: each part keeps exactly its share of the total weight.

        weight_i = share_k * (n / n_k) * weight_i within part k

    Stratified, so that the share of a part carries no sampling noise.

    Args:
        parts: State sets with the same kind of observation, such as those of several policies.
        shares: Positive, of sum one; equal if None.

    Returns:
        All examples, part after part.

    Raises:
        ValueError: If there are no parts, units differ, or shares are not positive of sum one.
    """
    _check_not_empty("parts", len(parts))
    shares = [1 / len(parts)] * len(parts) if shares is None else [float(s) for s in shares]
    if len(shares) != len(parts) or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"shares: got {shares}, expected {len(parts)} positive, of sum one")
    units = sorted({part.unit for part in parts})
    if len(units) > 1:
        raise ValueError(f"parts: got units {units}, expected one")
    size = sum(part.num_units for part in parts)
    weights = [
        share * size / part.num_units * _weights_of(part)
        for part, share in zip(parts, shares, strict=True)
    ]
    examples = jax.tree.map(
        lambda *leaves: jnp.concatenate(leaves), *(part.data.examples for part in parts)
    )
    return Synthesis(
        Dataset(examples, jnp.asarray(np.concatenate(weights))),
        units[0],
        sum(part.num_steps for part in parts),
        num_dropped=sum(part.num_dropped for part in parts),
        origin=f"stratified mixture of {len(parts)} parts, shares {shares}",
    )


def designed_states(observations: PyTree, weights: Any = None) -> Synthesis:
    """States chosen by the user: a grid, a subset, states of special interest.

    Args:
        observations: Pytree with leading axis `[n]`.
        weights: `[n]`, of any scale; equal if None.

    Returns:
        Examples are the observations; no environment steps are behind them.

    Raises:
        ValueError: If there are no states, or weights are negative, not finite or all zero.
    """
    leaves = jax.tree.leaves(observations)
    _check_not_empty("observations", min((len(leaf) for leaf in leaves), default=0))
    data = Dataset(jax.tree.map(jnp.asarray, observations))
    states = Synthesis(data, "state", 0, origin="designed by the user")
    return states if weights is None else states.weighted(weights, min_ess=1.0)


def _weights_of(part: Synthesis) -> np.ndarray:
    if part.data.weights is None:
        return np.ones(part.num_units)
    return np.asarray(part.data.weights, np.float64)


def _versions(buffer: Transitions) -> str:
    versions = np.unique(buffer.version)
    if versions.size == 1:
        return f"played by version {versions[0]} of the policy"
    return f"played by {versions.size} versions of the policy, {versions[0]} to {versions[-1]}"


def _plural(unit: str) -> str:
    return unit.removesuffix("y") + ("ies" if unit.endswith("y") else "s")


def _check_not_empty(name: str, size: int, what: str = "nothing in") -> None:
    if size < 1:
        raise ValueError(f"{name}: {what} it, expected at least one example")

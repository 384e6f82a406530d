"""What was played, kept on the host with the policy that played it and the time at which it did."""

from typing import Any, NamedTuple

import jax
import numpy as np

from slt_rl._numbers import check_count
from slt_rl.rl.rollout import Rollout

PyTree = Any


class Transitions(NamedTuple):
    """Steps of play as NumPy arrays; leading axes `[time, env]` in a buffer, `[n]` in a data set.

    Attributes:
        observation: What was acted on.
        action: What was done.
        reward: Reward of the step; finite.
        terminated: Bool, the episode ended for good.
        truncated: Bool, the episode was cut.
        log_prob: Log probability (density) of the action under the policy that acted, in nats; None
            if it was never recorded, and then nothing can be weighted by it.
        final_observation: True observation of the successor, before any reset.
        start: Bool, the observation is the first of its episode.
        version: Integer, the version of the policy that acted, such as a training iteration.
        step: Integer, the time of collection: rises by one from row to row of one stretch of play.
    """

    observation: PyTree
    action: Any
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    log_prob: Any
    final_observation: PyTree
    start: np.ndarray
    version: np.ndarray
    step: np.ndarray


def record(rollout: Rollout, *, version: int, step: int, start: Any) -> Transitions:
    """Brings a stretch of play to the host and labels it.

    Args:
        rollout: `[time, env]`, from `rollout` or `gymnasium_rollout`; its `log_prob` may be None.
        version: Version of the policy that acted.
        step: Time of collection of the first row; the rows count up from it.
        start: `[env]` bool, whether the first row begins an episode: `batch.episode_length == 0`
            of the environments given to `rollout`. Unknown is False: an episode whose beginning was
            not seen is then never taken for a whole one.

    Returns:
        The transitions `[time, env]`, a buffer by themselves.

    Raises:
        ValueError: If there are no steps, a shape is wrong or a reward is not finite.
    """
    reward = np.asarray(rollout.reward, np.float64)
    if reward.ndim != 2 or reward.size == 0:
        raise ValueError(f"rollout: got rewards of shape {reward.shape}, expected [time, env]")
    if not np.all(np.isfinite(reward)):
        bad = tuple(int(i) for i in np.argwhere(~np.isfinite(reward))[0])
        raise ValueError(f"rollout: got reward {reward[bad]} at [time, env] = {bad}, not finite")
    start = np.asarray(start, bool)
    if start.shape != reward.shape[1:]:
        raise ValueError(f"start: got shape {start.shape}, expected {reward.shape[1:]}")
    terminated, truncated = np.asarray(rollout.terminated), np.asarray(rollout.truncated)
    done = terminated | truncated
    times = np.arange(reward.shape[0])[:, None]
    buffer = Transitions(
        observation=_on_host(rollout.observation),
        action=_on_host(rollout.action),
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        log_prob=_on_host(rollout.log_prob),
        final_observation=_on_host(rollout.final_observation),
        start=np.concatenate([start[None], done[:-1]]),
        version=np.full(reward.shape, version, np.int64),
        step=np.broadcast_to(step + times, reward.shape).astype(np.int64),
    )
    _check_axes(buffer)
    return buffer


def append(buffer: Transitions, new: Transitions) -> Transitions:
    """Puts new rows after the old ones.

    Args:
        buffer: `[time, env]`.
        new: `[more time, env]`, of the same environments.

    Returns:
        The longer buffer.

    Raises:
        ValueError: If the two differ in environments, in the shape or kind of their actions or
            observations, or in whether log probabilities were recorded.
    """
    kinds: list[Any] = [jax.tree.structure(tree) for tree in (buffer, new)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            "new: other contents than the buffer; expected the same observations, and behavior log "
            "probabilities in both or in neither"
        )
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(buffer)]
    for name, old, more in zip(names, jax.tree.leaves(buffer), jax.tree.leaves(new), strict=True):
        if old.shape[1:] != more.shape[1:] or old.dtype.kind != more.dtype.kind:
            raise ValueError(
                f"new: {name} is {more.dtype} with axes {more.shape[1:]} after time, expected "
                f"{old.dtype} with {old.shape[1:]} as in the buffer"
            )
    return jax.tree.map(lambda old, more: np.concatenate([old, more]), buffer, new)


def keep_latest(buffer: Transitions, capacity: int) -> Transitions:
    """A ring: the last `capacity` rows, each a step in every environment.

    Raises:
        ValueError: If `capacity` is not positive.
    """
    check_count("capacity", capacity)
    return jax.tree.map(lambda x: x[-capacity:], buffer)


def reservoir(
    key: jax.Array, buffer: Transitions | None, new: Transitions, *, capacity: int, num_seen: int
) -> Transitions:
    """A uniform sample of all rows ever seen, in bounded memory.

    Of `num_seen` old rows the buffer holds `k`, uniformly chosen. With `m` new rows the number of
    new ones among those to keep is hypergeometric, and within old and new each choice is equally
    likely: every row seen is then kept with probability `min(1, capacity / (num_seen + m))`, as in
    reservoir sampling row by row.

    Args:
        key: Random key, consumed.
        buffer: The sample so far; None at the beginning.
        new: `[time, env]`, rows that follow.
        capacity: Rows to keep at most.
        num_seen: Rows seen before `new`.

    Returns:
        The sample in the order of collection. Rows are no longer consecutive: whole trajectories
        can be taken from it only where by chance no row of theirs is missing.

    Raises:
        ValueError: If `capacity` is not positive, or the buffer does not hold
            `min(capacity, num_seen)` rows.

    References:
        Vitter, "Random sampling with a reservoir", ACM TOMS 11 (1985).
    """
    check_count("capacity", capacity)
    held = 0 if buffer is None else len(buffer.reward)
    if held != min(capacity, num_seen):
        raise ValueError(
            f"buffer: holds {held} rows, expected min(capacity, num_seen) = "
            f"{min(capacity, num_seen)}"
        )
    everything = new if buffer is None else append(buffer, new)
    num_new = len(new.reward)
    seed = np.asarray(jax.random.key_data(key)).tolist()
    generator = np.random.default_rng(seed)
    kept = min(capacity, num_seen + num_new)
    from_new = int(generator.hypergeometric(num_new, num_seen, kept))
    chosen = np.concatenate(
        [
            generator.permutation(held)[: kept - from_new],
            held + generator.permutation(num_new)[:from_new],
        ]
    )
    rows = np.sort(chosen).astype(np.int64)
    return jax.tree.map(lambda x: x[rows], everything)


def _on_host(tree: PyTree) -> PyTree:
    return jax.tree.map(np.asarray, tree)


def _check_axes(buffer: Transitions) -> None:
    expected = buffer.reward.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(buffer):
        if leaf.shape[:2] != expected:
            raise ValueError(
                f"rollout: {jax.tree_util.keystr(path)} has shape {leaf.shape}, expected leading "
                f"axes [time, env] = {expected}"
            )

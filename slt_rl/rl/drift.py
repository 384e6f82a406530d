"""Weights for data collected under older policies, and what they leave of the sample size.

Float64 NumPy on the host. Weights of a data set do not depend on the parameters that are sampled:
they are computed once, at the checkpoint under study. Whether there is anything to correct is said
by `slt_rl.rl.support`.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.rl.actions import action_log_prob
from slt_rl.rl.buffer import Transitions
from slt_rl.rl.distributions import Categorical
from slt_rl.rl.networks import Policy

PyTree = Any


def log_ratios(policy: Policy, params: PyTree, steps: Transitions) -> np.ndarray:
    """Log importance ratios `log pi_w(a|s) - log mu(a|s)` of recorded actions.

    Args:
        policy: `(params, observation) -> distribution`, hashable.
        params: Parameters of the policy under study.
        steps: Transitions with any leading axes, with behavior log probabilities.

    Returns:
        Float64 of the shape of `steps.reward`, in nats; minus infinity where the policy forbids
        the action.

    Raises:
        ValueError: If behavior log probabilities are missing or not finite, or the actions are not
            those of the policy: another shape, another kind, or an index out of range.
    """
    if steps.log_prob is None:
        raise ValueError(
            "steps: has no behavior log probabilities (log_prob is None), which every importance "
            "weight needs; record them, or use age_weights or correct_states"
        )
    shape = steps.reward.shape
    behavior = np.asarray(steps.log_prob, np.float64)
    if behavior.shape != shape or not np.all(np.isfinite(behavior)):
        raise ValueError(
            f"steps: got log_prob of shape {behavior.shape} with {np.sum(~np.isfinite(behavior))} "
            f"values that are not finite, expected finite numbers of shape {shape}"
        )

    flat = jax.tree.map(lambda x: jnp.asarray(x).reshape(-1, *x.shape[len(shape) :]), steps)
    found = np.asarray(_log_probs(policy, params, flat), np.float64)
    _check_range(policy, params, flat)
    return found.reshape(shape) - behavior


def _check_range(policy: Policy, params: PyTree, steps: Transitions) -> None:
    """Raises ValueError where an action of a policy over `k` actions is not one of 0 to k - 1."""
    distribution = policy(params, jax.tree.map(lambda x: x[0], steps.observation))
    if isinstance(distribution, Categorical):
        low, high = int(jnp.min(steps.action)), int(jnp.max(steps.action))
        count = distribution.logits.shape[-1]
        if low < 0 or high >= count:
            raise ValueError(
                f"steps: got actions from {low} to {high}, but the policy has {count} of them"
            )


_log_probs = functools.partial(jax.jit, static_argnums=0)(action_log_prob)


def importance_weights(
    ratios: Any, *, clip: float | None = None, min_ess: float = 10.0
) -> np.ndarray:
    """One-step importance weights `min(exp(log ratio), clip)`, normalized to mean one.

    They carry data of the behavior policy's *actions* over to the policy under study; the law of
    states stays that of the data. Clipping bounds the variance and is biased towards the behavior
    policy by the mass it cuts off.

    Args:
        ratios: `[n]` log ratios, from `log_ratios`.
        clip: Largest ratio, at least one; None does not clip.
        min_ess: Refuse if the effective sample size is below.

    Returns:
        `[n]`, mean one.

    Raises:
        ValueError: If `clip` is below one or the weights are refused.
    """
    return normalized_weights(np.exp(_clipped(ratios, clip)), min_ess=min_ess)


def per_decision_weights(ratios: Any, mask: Any, *, clip: float | None = None) -> np.ndarray:
    """Products of ratios up to and including each step, `w_t = prod_{k <= t} pi_w/mu`.

    `E_mu[w_t f(s_t, a_t)] = E_pi[f(s_t, a_t)]` for each `t`: the weight of what depends on the
    state and the action of step `t`, such as its reward.

    Args:
        ratios: `[n, time]` log ratios of whole trajectories.
        mask: `[n, time]` bool, true on played steps. After its end a trajectory keeps its weight.
        clip: Largest ratio of a single step, at least one; None does not clip.

    Returns:
        `[n, time]`, of mean one over trajectories in expectation; not normalized.

    Raises:
        ValueError: If shapes differ or `clip` is below one.

    References:
        Precup, Sutton, Singh, "Eligibility traces for off-policy policy evaluation", ICML 2000.
    """
    return np.exp(np.cumsum(_masked(ratios, mask, clip), axis=1))


def prefix_weights(ratios: Any, mask: Any, *, clip: float | None = None) -> np.ndarray:
    """Products of ratios *before* each step, `prod_{k < t} pi_w/mu`: the weight of the state.

    `E_mu[w_t f(s_t)] = E_pi[f(s_t)]`: with these weights the states of whole trajectories follow
    the law of the policy under study, without any density of states being known.

    Args:
        ratios: `[n, time]` log ratios of whole trajectories.
        mask: `[n, time]` bool, true on played steps.
        clip: Largest ratio of a single step, at least one; None does not clip.

    Returns:
        `[n, time]`, one at the first step; not normalized.

    Raises:
        ValueError: If shapes differ or `clip` is below one.
    """
    logs = _masked(ratios, mask, clip)
    return np.exp(np.cumsum(np.pad(logs[:, :-1], ((0, 0), (1, 0))), axis=1))


def self_normalized(weights: Any) -> np.ndarray:
    """Divides the weights of each step by their mean over trajectories.

    Bounded by the number of trajectories, consistent, and biased by `O(1/n)`.

    Args:
        weights: `[n, time]`.

    Returns:
        `[n, time]`, of mean one at each step.

    Raises:
        ValueError: If at some step all weights are zero.
    """
    weights = np.asarray(weights, np.float64)
    mean = weights.mean(axis=0)
    if not np.all(mean > 0):
        raise ValueError("weights: all zero at some step, expected an action the policy takes")
    return weights / mean


def _clipped(ratios: Any, clip: float | None) -> np.ndarray:
    logs = np.asarray(ratios, np.float64)
    if clip is None:
        return logs
    if not clip >= 1:
        raise ValueError(f"clip: got {clip}, expected a ratio of at least 1")
    return np.minimum(logs, math.log(clip))


def _masked(ratios: Any, mask: Any, clip: float | None) -> np.ndarray:
    logs, mask = _clipped(ratios, clip), np.asarray(mask, bool)
    if logs.ndim != 2 or logs.shape != mask.shape:
        raise ValueError(
            f"ratios: got shape {logs.shape}, mask {mask.shape}, expected both [n, time]"
        )
    return np.where(mask, logs, 0.0)


def age_weights(step: Any, *, half_life: float, min_ess: float = 10.0) -> np.ndarray:
    """Weights that halve with every `half_life` of age, `2^(-(newest - step)/half_life)`.

    For lack of anything better: no law of states or actions is corrected, recent data only counts
    more. As the half-life goes to infinity all weights are one; as it goes to zero only the newest
    data counts.

    Args:
        step: `[n]` times of collection, or policy versions.
        half_life: In the units of `step`, positive.
        min_ess: Refuse if the effective sample size is below.

    Returns:
        `[n]`, mean one.

    Raises:
        ValueError: If the half-life is not positive or the weights are refused.
    """
    if not half_life > 0:
        raise ValueError(f"half_life: got {half_life}, expected a positive number")
    step = np.asarray(step, np.float64)
    return normalized_weights(np.exp2((step - step.max()) / half_life), min_ess=min_ess)


def normalized_weights(weights: Any, *, min_ess: float = 10.0) -> np.ndarray:
    """Scales weights to mean one, as `Dataset` wants them, or refuses.

    Args:
        weights: `[n]`, not negative, finite, of any scale.
        min_ess: Refuse if the effective sample size is below.

    Returns:
        `[n]`, float64, mean one.

    Raises:
        ValueError: If weights are negative, not finite or all zero, or too few examples carry them.
    """
    weights = _checked(weights)
    ess = effective_sample_size(weights)
    if ess < min_ess * (1 - 1e-9):
        raise ValueError(
            f"weights: effective sample size {ess:.3g} of {weights.size}, expected at least "
            f"min_ess = {min_ess:g}; the data is too far from the policy under study: collect "
            "newer data, clip the ratios, or use a potential without importance weights"
        )
    return weights / weights.max() / np.mean(weights / weights.max())


def effective_sample_size(weights: Any) -> float:
    """Kish's effective sample size `(sum w)^2 / sum w^2`.

    `n` for equal weights, 1 for a point mass, unchanged by scaling, and `n / (1 + chi^2)` in terms
    of the relative variance `chi^2` of the weights. A weighted mean of independent examples whose
    losses do not depend on the weights has the variance of an unweighted mean over so many.

    Args:
        weights: `[n]`, not negative, finite, not all zero.

    Raises:
        ValueError: If they are not.

    Example:
        >>> effective_sample_size([1, 1, 0, 0])
        2.0
    """
    weights = _checked(weights)
    scaled = weights / weights.max()
    return float(np.sum(scaled) ** 2 / np.sum(scaled**2))


def implied_nbeta(weights: Any) -> float:
    """The `nbeta` of Watanabe's rule with the effective sample size in the place of `n`.

        nbeta = ESS / log ESS

    The empirical loss `(1/n) sum w_i l_i` fluctuates as the mean of `ESS` independent losses does,
    so that is what can be resolved. For weights bounded as `n` grows `ESS / n` tends to a constant:
    the rule then changes the temperature by a constant factor and the learning coefficient not at
    all. For unit weights it is `n / log n`.

    Args:
        weights: `[n]`, of any scale.

    Returns:
        The inverse temperature, in 1/loss.

    Raises:
        ValueError: If the effective sample size is below `e`, where the rule has its minimum.
    """
    ess = effective_sample_size(weights)
    if ess < math.e:
        raise ValueError(f"weights: effective sample size {ess:.3g}, expected at least e = 2.72")
    return ess / math.log(ess)


def weighted_mean(values: Any, weights: Any) -> tuple[float, float]:
    """Self-normalized mean `sum w f / sum w` and its standard error.

    The standard error is that of a ratio of means, `sqrt(sum w^2 (f - mean)^2) / sum w`, for
    independent examples.

    Args:
        values: `[n]`.
        weights: `[n]`, of any scale.

    Returns:
        Mean and `sem`.

    Raises:
        ValueError: If shapes differ, a value is not finite or weights are refused.
    """
    values, weights = np.asarray(values, np.float64), _checked(weights)
    if values.shape != weights.shape or not np.all(np.isfinite(values)):
        raise ValueError(f"values: expected finite numbers of shape {weights.shape}")
    total = np.sum(weights)
    mean = float(np.sum(weights * values) / total)
    return mean, float(np.sqrt(np.sum((weights * (values - mean)) ** 2)) / total)


def _checked(weights: Any) -> np.ndarray:
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 1 or weights.size == 0:
        raise ValueError(f"weights: got shape {weights.shape}, expected [n] with n >= 1")
    if not np.all(np.isfinite(weights)) or np.any(weights < 0) or not np.any(weights > 0):
        raise ValueError(
            f"weights: expected finite numbers >= 0, not all zero; got minimum {weights.min()}, "
            f"maximum {weights.max()}"
        )
    return weights

"""How far data is from the policy under study, and whether that can and must be corrected.

For a potential `K_rho = sum_s rho(s) k_s` with `k_s >= 0`, all zero at the center, the learning
coefficient depends on the law of states `rho` through its support only: if
`c rho <= rho' <= C rho` with `c, C > 0`, then `c K_rho <= K_rho' <= C K_rho`, and comparable
potentials have the same learning coefficient and multiplicity.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from slt_rl.rl.drift import effective_sample_size, normalized_weights


@dataclasses.dataclass(frozen=True)
class PolicyDivergence:
    """Distances between behavior `mu` and policy under study `pi`, from actions of `mu`.

    Attributes:
        num_examples: Number of actions.
        mean_ratio: Mean of `pi/mu`; estimates the share of `pi`'s mass on actions `mu` can take.
            Significantly below one means lost support (or ratios too rare to be seen).
        mean_ratio_sem: Its standard error.
        max_ratio: Largest ratio seen; a lower bound of the supremum.
        kl_from_behavior: Estimate of `KL(mu || pi)` in nats, the mean of `(r - 1) - log r`, every
            term of which is not negative; infinite if the policy forbids a recorded action.
        kl_to_behavior: Estimate of `KL(pi || mu)` in nats, the mean of `r log r - r + 1`.
        chi_square: Estimate of `chi^2(pi || mu)`, the mean of `(r - 1)^2`.
        effective_sample_size: Of the ratios as weights; 0 if all are zero.
    """

    num_examples: int
    mean_ratio: float
    mean_ratio_sem: float
    max_ratio: float
    kl_from_behavior: float
    kl_to_behavior: float
    chi_square: float
    effective_sample_size: float


def policy_divergence(ratios: Any) -> PolicyDivergence:
    """Measures how far the policy under study is from the one that acted.

    Args:
        ratios: Log ratios of any shape, from `log_ratios`.

    Returns:
        The measures, over all actions.

    Raises:
        ValueError: If there are fewer than two, or one is NaN or plus infinity.
    """
    logs = np.asarray(ratios, np.float64).ravel()
    if logs.size < 2 or np.any(np.isnan(logs)) or np.any(logs == np.inf):
        raise ValueError(f"ratios: got {logs.size} log ratios, expected two or more, none NaN")
    r = np.exp(logs)
    finite = np.where(r > 0, logs, 0.0)
    return PolicyDivergence(
        num_examples=logs.size,
        mean_ratio=float(r.mean()),
        mean_ratio_sem=float(r.std(ddof=1) / math.sqrt(logs.size)),
        max_ratio=float(r.max()),
        kl_from_behavior=float(np.mean(r - 1 - logs)),
        kl_to_behavior=float(np.mean(r * finite - r + 1)),
        chi_square=float(np.mean((r - 1) ** 2)),
        effective_sample_size=effective_sample_size(r) if np.any(r > 0) else 0.0,
    )


def covered_mass(probabilities: Any, counts: Any, *, min_count: int = 1) -> float:
    """Share of a law's mass on what the data has seen at least `min_count` times.

    Args:
        probabilities: The law of the policy under study over states, or states and actions; not
            negative, of any scale.
        counts: How often the data has each, of the same shape.
        min_count: Count from which something is covered.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: If shapes differ, or the law is negative or all zero.

    Example:
        >>> covered_mass([0.5, 0.3, 0.2], [10, 2, 0])
        0.8
    """
    law = _law("probabilities", probabilities)
    counts = np.asarray(counts)
    if counts.shape != law.shape:
        raise ValueError(f"counts: got shape {counts.shape}, expected {law.shape}")
    return float(np.sum(law[counts >= min_count]))


@dataclasses.dataclass(frozen=True)
class DriftStatement:
    """What theory says of a lagging law of states.

    Attributes:
        possible: A correction exists: the data covers every state of the current law.
        needed: Without a correction the learning coefficient itself may be another one. If False,
            it is the same, and a correction only moves the value at finite temperature.
        covered_mass: Share of the current law on states the data covers.
        min_ratio: Smallest ratio current/lagging over the states of the data.
        max_ratio: Largest; infinite if support was lost.
        chi_square: `chi^2(current || lagging)`; infinite if support was lost.
        reason: The statement in words.
    """

    possible: bool
    needed: bool
    covered_mass: float
    min_ratio: float
    max_ratio: float
    chi_square: float
    reason: str

    def __str__(self) -> str:
        return self.reason


def drift_statement(target: Any, source: Any, *, zero_at_center: bool) -> DriftStatement:
    """Says whether a lagging law of finite states can and must be corrected.

    1. *Impossible*: the current law has a state the data lacks. Its losses were never seen.
    2. *Needed*: the data has states the current policy never visits, whose losses hold directions
       fixed that the current law leaves free; or the loss is not zero at the center state by state,
       so that another law has another minimum.
    3. *Unneeded for the learning coefficient*: ratios bounded both ways and every state's loss zero
       at the center (a KL to the frozen policy, a value error against its own values). The
       potentials are within `[min_ratio, max_ratio]` of each other, so that using the lagging one
       is like changing `nbeta` within these factors.

    Args:
        target: `[S]` current law of states, or counts.
        source: `[S]` law of the data, or counts.
        zero_at_center: Every state's loss is not negative and zero at the center. False for the
            regret of one-step problems, whose minimum moves with the law.

    Returns:
        The statement.

    Raises:
        ValueError: If shapes differ, or a law is negative or all zero.
    """
    q, p = _law("target", target), _law("source", source)
    if q.shape != p.shape:
        raise ValueError(f"source: got shape {p.shape}, expected {q.shape}")
    seen = p > 0
    covered = float(np.sum(q[seen]))
    ratio = q[seen] / p[seen]
    lost = bool(np.any(q[~seen] > 0))
    highest = math.inf if lost else float(ratio.max())
    chi_square = math.inf if lost else float(np.sum(p[seen] * (ratio - 1) ** 2))
    extra = bool(np.any(ratio == 0))
    moved = chi_square > 1e-20  # not by rounding alone
    needed = extra or lost or (moved and not zero_at_center)
    reason = _reason(lost, extra, moved, zero_at_center, (covered, float(ratio.min()), highest))
    return DriftStatement(
        not lost, needed, covered, float(ratio.min()), highest, chi_square, reason
    )


def _reason(lost: bool, extra: bool, moved: bool, zero: bool, numbers: tuple) -> str:
    covered, low, high = numbers
    if lost:
        return (
            f"impossible: the data covers {covered:.4g} of the current law of states; no weight "
            "can stand for states that were never seen"
        )
    if not moved:
        return "unneeded: the two laws of states are equal"
    if extra:
        return (
            "needed: the data has states of probability zero under the current law, and may hold "
            "directions fixed that the current law leaves free"
        )
    if not zero:
        return (
            "needed: losses are not zero at the center state by state, so that the minimum moves "
            "with the law of states"
        )
    return (
        f"unneeded for the learning coefficient: density ratios lie in [{low:.3g}, {high:.3g}]; "
        "at finite temperature the value differs as if nbeta were multiplied by a number in there"
    )


def correct_states(
    states: Any, *, target: Any, source: Any = None, min_ess: float = 10.0
) -> np.ndarray:
    """Weights that turn the lagging law of finite states into the current one.

        weight_i = target(s_i) / source(s_i)

    With the law of the data unknown its counts are used, and each state then carries exactly its
    current probability.

    Args:
        states: `[n]` integers, the state of each example.
        target: `[S]` current law, or counts of states in fresh play.
        source: `[S]` law under which the data was collected, if known exactly; counts of `states`
            if None.
        min_ess: Refuse if the effective sample size is below.

    Returns:
        `[n]`, mean one.

    Raises:
        ValueError: If the states are not integers below `S` (a ratio of unknown densities is not
            estimated: see `density_ratio_weights`), if support was lost, or the weights are
            refused.
    """
    q = _law("target", target)
    states = np.asarray(states)
    if states.ndim != 1 or states.size == 0 or states.dtype.kind not in "iu":
        raise ValueError(
            f"states: got {states.dtype} of shape {states.shape}, expected integers [n], n >= 1. "
            "For other states the ratio of densities must be known: give both densities to "
            "density_ratio_weights; with whole trajectories use prefix_weights"
        )
    if states.min() < 0 or states.max() >= q.size:
        raise ValueError(
            f"states: got {states.min()} to {states.max()}, expected 0 to {q.size - 1}"
        )
    counts = np.bincount(states, minlength=q.size)
    p = _law("source", counts if source is None else source)
    if np.any((p == 0) & (counts > 0)):
        raise ValueError("source: zero on a state that is in the data")
    # A state of the law that happens not to be in the data leaves a gap as well.
    statement = drift_statement(q, np.where(counts > 0, p, 0), zero_at_center=True)
    if not statement.possible:
        raise ValueError(f"states: correction {statement.reason}")
    return normalized_weights(q[states] / p[states], min_ess=min_ess)


def density_ratio_weights(
    target_density: Any, source_density: Any, *, min_ess: float = 10.0
) -> np.ndarray:
    """Weights `target/source` from two known, normalized densities at each example.

    The mean of the ratio over the data estimates the mass of the target on the support of the
    source. If it is below one by more than four standard errors support was lost.

    Args:
        target_density: `[n]` current density at each example.
        source_density: `[n]` density under which the data was collected, positive.
        min_ess: Refuse if the effective sample size is below.

    Returns:
        `[n]`, mean one.

    Raises:
        ValueError: If shapes differ, the source is not positive, support was lost, the densities
            are not normalized, or the weights are refused.
    """
    q, p = (np.asarray(d, np.float64) for d in (target_density, source_density))
    if q.ndim != 1 or q.shape != p.shape or not np.all(p > 0):
        raise ValueError(
            f"source_density: got shape {p.shape}, expected positive numbers [n] as the target's "
            f"{q.shape}"
        )
    weights = normalized_weights(q / p, min_ess=min_ess)
    ratio = q / p
    gap, sem = ratio.mean() - 1, ratio.std() / math.sqrt(q.size)
    if abs(gap) > 4 * sem + 1e-9:
        cause = "support was lost" if gap < 0 else "the densities are not normalized alike"
        raise ValueError(
            f"target_density: mean ratio {1 + gap:.4g} with standard error {sem:.2g}, expected 1: "
            f"{cause}"
        )
    return weights


def _law(name: str, law: Any) -> np.ndarray:
    law = np.asarray(law, np.float64)
    if law.size == 0 or not np.all(np.isfinite(law)) or np.any(law < 0) or law.sum() <= 0:
        raise ValueError(f"{name}: expected probabilities or counts >= 0, not all zero")
    return law / law.sum()

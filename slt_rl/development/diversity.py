"""How many ways an agent has to decide on one thing: diversity of its per-sample attributions."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl._checks import check_callable, check_params
from slt_rl._numbers import check_count, check_numbers


@dataclasses.dataclass(frozen=True)
class Diversity:
    """In how many ways the units act together, over samples; from 1 to the number of samples.

    Attributes:
        vendi: `exp(-sum_i lambda_i log lambda_i)` of the eigenvalues of the kernel.
        participation_ratio: `1 / sum_i lambda_i^2`, which counts the large eigenvalues only.
        null_vendi: The Vendi score with every unit shuffled over the samples, `[shuffle]`.
        null_participation_ratio: The participation ratio likewise.
    """

    vendi: float
    participation_ratio: float
    null_vendi: np.ndarray
    null_participation_ratio: np.ndarray

    @property
    def p_value(self) -> float:
        """Of the hypothesis that units act independently of each other.

        The share of the observed and shuffled Vendi scores that are at most the observed one; at
        least `1 / (num_shuffles + 1)`.
        """
        return float(np.mean(np.append(self.null_vendi, self.vendi) <= self.vendi))


def attributions(
    log_prob_fn: Callable[[jax.Array, jax.Array], jax.Array],
    activations: jax.Array,
    actions: jax.Array,
) -> np.ndarray:
    r"""What each unit contributes to an action: `h * d/dh log pi(a given h)`, for each sample.

    Args:
        log_prob_fn: `(activations [unit], action []) -> []`, the log probability of an action from
            the activations of one layer on; differentiable.
        activations: Of that layer, `[n, unit]`.
        actions: Actions, `[n]`.

    Returns:
        `[n, unit]`. The sum over units is the change of the log probability, to first order, as all
        activations grow by the same factor.

    Raises:
        ValueError: If `activations` are not finite floating-point numbers `[n, unit]`, there is not
            one action for each, or `log_prob_fn` returns no scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> def log_prob(h, action):
        ...     return jax.nn.log_softmax(h)[action]
        >>> attributions(log_prob, jnp.array([[1.0, 1.0]]), jnp.array([0])).tolist()
        [[0.5, -0.5]]
    """
    check_callable("log_prob_fn", log_prob_fn)
    activations = check_params("activations", activations)
    if np.ndim(activations) != 2 or np.shape(actions) != np.shape(activations)[:1]:
        raise ValueError(
            f"activations: got shape {np.shape(activations)} beside actions {np.shape(actions)}, "
            "expected [n, unit] beside [n]"
        )
    actions = jnp.asarray(actions)
    try:
        shape = jax.eval_shape(log_prob_fn, activations[0], actions[0]).shape
    except (TypeError, AttributeError) as error:
        raise ValueError(
            f"log_prob_fn: failed on activations [unit] and an action of type {actions.dtype}: "
            f"{error}"
        ) from error
    if shape != ():
        raise ValueError(f"log_prob_fn: returned shape {shape}, expected one number for an action")
    return np.asarray(jax.vmap(jax.grad(log_prob_fn))(activations, actions) * activations)


def ensemble_diversity(seed: int, per_sample: np.ndarray, *, num_shuffles: int = 20) -> Diversity:
    r"""Effective number of different attributions among samples.

    With `g_s` the attributions of sample `s` at unit length and `K_st = g_s . g_t`, `lambda` are
    the eigenvalues of `K / n`, which sum to one. Equal attributions give 1, orthogonal ones `n`,
    three groups of equal size and orthogonal attributions 3. No rotation of the units and no order
    of the samples matters.

    Few samples have few directions: compare numbers of equal `n`. In the null each unit keeps its
    values but they are dealt out anew to the samples, independently of the other units': what is
    left is what single units do. A score below it says that units act in groups.

    Args:
        seed: Seed of the shuffles.
        per_sample: Attributions `[n, unit]`, for example of `attributions`; at least two samples.
        num_shuffles: Shuffles for the null.

    Returns:
        Both measures and their null.

    Raises:
        ValueError: If the shape is another, a number is not finite, a sample has no attribution at
            all, or `num_shuffles` is below one.

    References:
        Friedman and Dieng, "The Vendi score", arXiv:2210.02410.

    Example:
        >>> found = ensemble_diversity(0, np.repeat(np.eye(3), 4, axis=0))
        >>> round(found.vendi, 6), round(found.participation_ratio, 6)
        (3.0, 3.0)
    """
    check_count("seed", seed, 0)
    rows = check_numbers("per_sample", per_sample)
    if rows.ndim != 2 or len(rows) < 2 or not np.isfinite(rows).all():
        raise ValueError(
            f"per_sample: got shape {rows.shape}, expected finite numbers [n, unit] of at least "
            "two samples"
        )
    empty = int((np.abs(rows).max(axis=1, initial=0.0) == 0).sum())
    if empty:
        raise ValueError(f"per_sample: {empty} of {len(rows)} samples are zero; leave them out")
    check_count("num_shuffles", num_shuffles)
    rng = np.random.default_rng(seed)
    null = np.array([_scores(rng.permuted(rows, axis=0)) for _ in range(num_shuffles)])
    return Diversity(*_scores(rows), null[:, 0], null[:, 1])


def _scores(rows: np.ndarray) -> tuple[float, float]:
    """Vendi score and participation ratio."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    # The kernel [n, n] and the moments [unit, unit] have the same eigenvalues but for zeros.
    moments = unit @ unit.T if len(unit) < unit.shape[1] else unit.T @ unit
    share = np.linalg.eigvalsh(moments / len(unit))
    share = share[share > 1e-15]
    return float(np.exp(-share @ np.log(share))), float(1 / (share @ share))

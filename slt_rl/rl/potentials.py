"""Potentials of reinforcement learning: what the local learning coefficient may be taken of.

Each builder returns an exact potential `loss_fn(params) -> []`, or `(loss_fn, Dataset)` with
per-example losses `loss_fn(params, examples) -> [n]`. Loss functions are frozen dataclasses that
compare equal for equal arguments, so that building one again compiles nothing; whatever depends on
a checkpoint is in the data set, and every builder can be traced with a checkpoint as argument.

Policies, value functions and rewards are functions of *one* observation.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from slt_rl.data import Dataset
from slt_rl.rl.distributions import DiagonalGaussian
from slt_rl.rl.networks import Policy, ValueFn
from slt_rl.rl.ppo import Batch

PyTree = Any


@dataclasses.dataclass(frozen=True)
class ExactRegret:
    """`R(w) = optimal_return - return_fn(w)`; see `exact_regret`."""

    return_fn: Callable[[PyTree], jax.Array]
    optimal_return: float

    def __call__(self, params: PyTree) -> jax.Array:
        """The regret `[]`, in units of return."""
        return self.optimal_return - self.return_fn(params)


def exact_regret(return_fn: Callable[[PyTree], jax.Array], optimal_return: float) -> ExactRegret:
    """Exact regret of a policy whose expected return is known in closed form.

        R(w) = J* - J(w)

    Args:
        return_fn: `params -> []`, the exact expected return `J`; hashable, and equal for equal
            arguments if the potential is built more than once.
        optimal_return: `J*`, the best return of the same class of policies, a number. It shifts the
            potential by a constant, to which a learning coefficient is blind.

    Returns:
        An exact potential.

    Raises:
        ValueError: If `return_fn` is not callable or `optimal_return` is not a finite number.

    Example:
        >>> import jax.numpy as jnp
        >>> regret = exact_regret(lambda w: 1.0 - jnp.sum(w**2), 1.0)
        >>> float(regret(jnp.ones(2)))
        2.0
    """
    _check_callable("return_fn", return_fn)
    value = float(optimal_return)
    if not -jnp.inf < value < jnp.inf:
        raise ValueError(f"optimal_return: got {optimal_return}, expected a finite number")
    return ExactRegret(return_fn, value)


@dataclasses.dataclass(frozen=True)
class SampledRegret:
    """Regret of one-step problems on common random numbers; see `sampled_regret`."""

    policy: Callable[[PyTree, PyTree], DiagonalGaussian]
    reward_fn: Callable[[PyTree, jax.Array], jax.Array]

    def __call__(self, params: PyTree, examples: PyTree) -> jax.Array:
        """Losses `[n]`, in units of reward."""
        rewards = jax.vmap(lambda x, z: self.reward_fn(x, self.policy(params, x).transform(z)))
        return examples["best_reward"] - rewards(examples["observation"], examples["noise"])


def sampled_regret(
    key: jax.Array,
    policy: Callable[[PyTree, PyTree], DiagonalGaussian],
    reward_fn: Callable[[PyTree, jax.Array], jax.Array],
    *,
    params: PyTree,
    observations: PyTree,
    best_action_fn: Callable[[PyTree], jax.Array] | None = None,
) -> tuple[SampledRegret, Dataset]:
    """Regret on sampled observations with common random numbers, `a = mean + scale * z`.

        loss_i(w) = r(x_i, best(x_i) + scale z_i) - r(x_i, mean_w(x_i) + scale z_i)

    The noise `z_i` is drawn once: the loss is a fixed differentiable function of the parameters.
    Its mean is unbiased for the regret of one-step problems. For the reward `-|a - x|^2` it is
    regression with label noise, `L_n - (2 scale/n) sum <z, x - f> + const`.

    Args:
        key: Random key, consumed.
        policy: `(params, observation) -> DiagonalGaussian`, hashable.
        reward_fn: `(observation, action) -> []`, differentiable in the action; hashable.
        params: Parameters that give the shape of an action; their values matter only if the scale
            is learned and `best_action_fn` is given.
        observations: Pytree with leading axis `[n]`.
        best_action_fn: `observation -> action`, the mean of the best policy, which acts with the
            same noise. Without it the loss is the negative reward, which is the regret plus
            something that does not depend on the parameters.

    Returns:
        `(loss_fn, data)`, losses in units of reward.

    Raises:
        ValueError: If an argument is not callable or there are no observations.
    """
    _check_callable("policy", policy)
    _check_callable("reward_fn", reward_fn)
    num_examples = _leading_axis("observations", observations)
    distribution = jax.vmap(functools.partial(policy, params))(observations)
    noise = jax.random.normal(key, distribution.mean.shape, distribution.mean.dtype)
    best = jnp.zeros(num_examples, noise.dtype)
    if best_action_fn is not None:
        means = jax.vmap(best_action_fn)(observations).astype(noise.dtype)
        actions = jax.vmap(lambda d, m, z: dataclasses.replace(d, mean=m).transform(z))(
            distribution, means, noise
        )
        best = jax.vmap(reward_fn)(observations, actions)
    examples = {"observation": observations, "noise": noise, "best_reward": best}
    return SampledRegret(policy, reward_fn), Dataset(examples)


@dataclasses.dataclass(frozen=True)
class PolicyKL:
    """Divergence from a frozen policy; see `policy_kl`."""

    policy: Policy

    def __call__(self, params: PyTree, examples: PyTree) -> jax.Array:
        """Losses `[n]`, in nats."""
        return jax.vmap(lambda x, frozen: frozen.kl(self.policy(params, x)))(
            examples["observation"], examples["reference"]
        )


def policy_kl(
    policy: Policy, reference_params: PyTree, observations: PyTree
) -> tuple[PolicyKL, Dataset]:
    """Divergence of a policy from its frozen self, on given observations.

        loss_i(w) = KL(pi_{w*}(. | x_i) || pi_w(. | x_i))

    Non-negative, zero at the reference and with zero gradient there, whether or not the reference
    is a critical point of the return: defined at every checkpoint of a training.

    Args:
        policy: `(params, observation) -> distribution`, hashable.
        reference_params: Parameters `w*` of the frozen policy; may be traced.
        observations: Pytree with leading axis `[n]`.

    Returns:
        `(loss_fn, data)`, losses in nats. The parameters of the frozen distributions are stored in
        the data, and not computed again.

    Raises:
        ValueError: If `policy` is not callable or there are no observations.
    """
    _check_callable("policy", policy)
    _leading_axis("observations", observations)
    reference = jax.vmap(functools.partial(policy, reference_params))(observations)
    return PolicyKL(policy), Dataset({"observation": observations, "reference": reference})


@dataclasses.dataclass(frozen=True)
class SquaredValueError:
    """Half squared error of a value function; see `value_error`."""

    value_fn: ValueFn

    def __call__(self, params: PyTree, examples: PyTree) -> jax.Array:
        """Losses `[n]`, in units of squared return."""
        values = jax.vmap(functools.partial(self.value_fn, params))(examples["observation"])
        return 0.5 * (values - examples["target"]) ** 2


def value_error(
    value_fn: ValueFn, observations: PyTree, targets: jax.Array
) -> tuple[SquaredValueError, Dataset]:
    """Half squared error of a value function.

        loss_i(w) = (V_w(x_i) - target_i)^2 / 2

    Args:
        value_fn: `(params, observation) -> []`, hashable.
        observations: Pytree with leading axis `[n]`.
        targets: `[n]`, in units of return. With the values of the checkpoint itself as targets it
            is the minimum; with other targets it must first be trained to one.

    Returns:
        `(loss_fn, data)`, losses in units of squared return.

    Raises:
        ValueError: If `value_fn` is not callable or the leading axes differ.
    """
    _check_callable("value_fn", value_fn)
    num_examples = _leading_axis("observations", observations)
    if jnp.shape(targets) != (num_examples,):
        raise ValueError(f"targets: got shape {jnp.shape(targets)}, expected ({num_examples},)")
    return SquaredValueError(value_fn), Dataset({"observation": observations, "target": targets})


@dataclasses.dataclass(frozen=True)
class ImportanceRegret:
    """Regret by importance weights; see `importance_regret`."""

    policy: Policy

    def __call__(self, params: PyTree, examples: Batch) -> jax.Array:
        """Losses `[n]`, in units of advantage."""
        log_ratio = _log_prob(self.policy, params, examples) - examples.log_prob
        return -jnp.exp(log_ratio) * examples.advantage


def importance_regret(policy: Policy, batch: Batch) -> tuple[ImportanceRegret, Dataset]:
    """Regret of one-step problems from actions of another policy, by importance weights.

        loss_i(w) = -(pi_w(a_i|x_i) / pi_old(a_i|x_i)) A_i,    E loss = R(w) - R(w_old)

    exactly, for one step and a fixed law of observations; the same critical points and learning
    coefficients as the regret. Over several steps the law of states moves with the policy and this
    is only a first-order statement. The variance grows like `exp(|f - f_old|^2 / scale^2)`, and
    where the regret is flatter than the policy the sampled potential has the wrong learning
    coefficient however large `n` is: prefer exact regret or common random numbers.

    Args:
        policy: `(params, observation) -> distribution`, hashable.
        batch: Actions with their behavior log probabilities, and advantages `A` that are not
            normalized; targets are ignored.

    Returns:
        `(loss_fn, data)`, losses in units of advantage, not bounded below.

    Raises:
        ValueError: If `policy` is not callable or leading axes differ.
    """
    _check_callable("policy", policy)
    return ImportanceRegret(policy), _policy_data(batch)


@dataclasses.dataclass(frozen=True)
class ClippedSurrogate:
    """PPO's clipped objective, a negative control; see `clipped_surrogate`."""

    policy: Policy
    clip: float

    negative_control = (
        "PPO's clipped surrogate is no potential: its gradient at the behavior policy is the "
        "policy gradient, and beyond the clip range it is flat"
    )

    def __call__(self, params: PyTree, examples: Batch) -> jax.Array:
        """Losses `[n]`, in units of advantage."""
        ratio = jnp.exp(_log_prob(self.policy, params, examples) - examples.log_prob)
        clipped = jnp.clip(ratio, 1 - self.clip, 1 + self.clip)
        return -jnp.minimum(ratio * examples.advantage, clipped * examples.advantage)


def clipped_surrogate(
    policy: Policy, batch: Batch, *, clip: float = 0.2
) -> tuple[ClippedSurrogate, Dataset]:
    """PPO's clipped objective as a loss: a *negative control*, not to be used for an LLC.

        loss_i(w) = -min(r_i A_i, clip(r_i, 1 - clip, 1 + clip) A_i)

    Args:
        policy: `(params, observation) -> distribution`, hashable.
        batch: Actions, behavior log probabilities and advantages; targets are ignored.
        clip: Half width of the range of ratios.

    Returns:
        `(loss_fn, data)`; `loss_fn.negative_control` says why it is refused.

    Raises:
        ValueError: If `clip` is not positive, `policy` not callable, or leading axes differ.
    """
    _check_callable("policy", policy)
    if not clip > 0:
        raise ValueError(f"clip: got {clip}, expected a positive number")
    return ClippedSurrogate(policy, float(clip)), _policy_data(batch)


@dataclasses.dataclass(frozen=True)
class ScoreSurrogate:
    """The score-function objective, a negative control; see `score_surrogate`."""

    policy: Policy

    negative_control = (
        "the score-function surrogate has the right gradient at the behavior policy and the wrong "
        "curvature: its Hessian is indefinite at the minima of the regret"
    )

    def __call__(self, params: PyTree, examples: Batch) -> jax.Array:
        """Losses `[n]`, in units of advantage times nats."""
        return -examples.advantage * _log_prob(self.policy, params, examples)


def score_surrogate(policy: Policy, batch: Batch) -> tuple[ScoreSurrogate, Dataset]:
    """The score-function objective as a loss: a *negative control*, not to be used for an LLC.

        loss_i(w) = -A_i log pi_w(a_i|x_i)

    Args:
        policy: `(params, observation) -> distribution`, hashable.
        batch: Actions and advantages; targets and behavior log probabilities are ignored.

    Returns:
        `(loss_fn, data)`; `loss_fn.negative_control` says why it is refused.

    Raises:
        ValueError: If `policy` is not callable or leading axes differ.
    """
    _check_callable("policy", policy)
    return ScoreSurrogate(policy), _policy_data(batch)


def _log_prob(policy: Policy, params: PyTree, batch: Batch) -> jax.Array:
    return jax.vmap(lambda x, a: policy(params, x).log_prob(a))(batch.observation, batch.action)


def _policy_data(batch: Batch) -> Dataset:
    return Dataset(batch._replace(target=None))


def _check_callable(name: str, value: Any) -> None:
    if not callable(value):
        raise ValueError(f"{name}: got {value!r}, expected a callable")


def _leading_axis(name: str, tree: PyTree) -> int:
    """The common length of the leading axis of a pytree."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]
    lengths = {shape[0] if shape else 0 for shape in shapes}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"{name}: got shapes {shapes}, expected one leading axis of length n >= 1")
    return lengths.pop()

"""The toy model of superposition as problems with known truth, by supervision and as a bandit.

In the contextual bandit the state is ``x``, the policy ``N(f(x), sigma^2 I)`` and the reward
``-|a - x|^2``. Then ``-E[r] = L + c sigma^2``, so the regret against the best policy of the same
``sigma`` is the supervised loss, with the same critical points and learning coefficients.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from slt_rl.data import Dataset
from toy_models.problem import ToyProblem
from toy_models.superposition_critical import PhaseClass, critical_point, exact_llc
from toy_models.superposition_loss import population_kl, population_loss
from toy_models.superposition_model import (
    Examples,
    Params,
    dense_inputs,
    example_loss,
    outputs,
    sample_examples,
)


def supervised(label: PhaseClass, num_features: int = 6) -> ToyProblem:
    """The squared error at a critical point.

    The minimum of the loss of a data set is near ``w*``, not at it.

    Args:
        label: A class whose learning coefficient is known.
        num_features: Number of features ``c``.

    Returns:
        The problem.

    Raises:
        ValueError: If the learning coefficient of the class is not known.
    """
    return _problem(
        label,
        num_features,
        name=f"superposition_{label}_supervised",
        kind="supervised",
        potential=population_loss,
        loss_fn=example_loss,
        dataset=lambda key, n: Dataset(sample_examples(key, n, num_features)),
    )


def regret(label: PhaseClass, num_features: int = 6, sigma: float = 0.1) -> ToyProblem:
    """The regret of the bandit at a critical point, equal to the supervised loss.

    A sampled regret uses common random numbers ``z``: with ``a = f(x) + sigma z`` the loss of an
    example is ``|a - x|^2 - sigma^2 |z|^2``, of mean ``L`` and with noise like that of labels.

    Args:
        label: A class whose learning coefficient is known.
        num_features: Number of features ``c``.
        sigma: Standard deviation of the policy.

    Returns:
        The problem.

    Raises:
        ValueError: If the learning coefficient of the class is not known.
    """
    return _problem(
        label,
        num_features,
        name=f"superposition_{label}_regret",
        kind="rl",
        potential=population_loss,
        loss_fn=functools.partial(_sampled_regret, sigma=sigma),
        dataset=functools.partial(_states_with_noise, num_features=num_features),
    )


def policy_kl(label: PhaseClass, num_features: int = 6, sigma: float = 0.1) -> ToyProblem:
    """The KL of the bandit's policy to itself frozen at a critical point.

    Its Hessian is ``2 E[J^T J]/(2 sigma^2)``, of the same rank as that of the regret at minima.

    Args:
        label: A class whose learning coefficient is known.
        num_features: Number of features ``c``.
        sigma: Standard deviation of the policy.

    Returns:
        The problem.

    Raises:
        ValueError: If the learning coefficient of the class is not known.
    """
    center = critical_point(label, num_features)

    def state_kl(params, examples):
        difference = outputs(params, examples) - outputs(center, examples)
        return jnp.sum(difference**2, axis=-1) / (2 * sigma**2)

    return _problem(
        label,
        num_features,
        name=f"superposition_{label}_kl",
        kind="rl",
        potential=lambda params: population_kl(params, center, sigma),
        loss_fn=state_kl,
        dataset=lambda key, n: Dataset(sample_examples(key, n, num_features)),
    )


def _problem(label: PhaseClass, num_features: int, **parts: Any) -> ToyProblem:
    """A problem at a critical point whose learning coefficient must be known."""
    known = exact_llc(label, num_features)
    if known is None:
        raise ValueError(f"label: got {label} for {num_features} features, expected a known llc")
    params, (llc, multiplicity) = critical_point(label, num_features), known
    return ToyProblem(params=params, llc=llc, multiplicity=multiplicity, **parts)


def _sampled_regret(params: Params, examples: Examples, *, sigma: float) -> jax.Array:
    error = outputs(params, examples) - dense_inputs(examples, params["b"].shape[-1])
    noise = sigma * examples["noise"]
    return jnp.sum(error**2 + 2 * error * noise, axis=-1)


def _states_with_noise(key: jax.Array, num_examples: int, *, num_features: int) -> Dataset:
    key_states, key_noise = jax.random.split(key)
    states = sample_examples(key_states, num_examples, num_features)
    noise = jax.random.normal(key_noise, (num_examples, num_features))
    return Dataset({**states, "noise": noise})

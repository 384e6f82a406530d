"""All toy problems."""

import dataclasses

from toy_models import (
    bandits,
    compound,
    deep_linear,
    exact,
    linear_policies,
    mdps,
    networks,
    policies,
    superposition_problems,
)
from toy_models.problem import ToyProblem
from toy_models.references import stored_references
from toy_models.superposition_critical import PhaseClass


def problems() -> tuple[ToyProblem, ...]:
    """Every problem with a known local learning coefficient, small ones first in each family.

    Returns:
        Problems with unique names, of at most 1550 parameters; larger deep linear networks are
        built by `toy_models.deep_linear.deep_linear`. Those without an exact value at finite
        temperature have a sampled one, see `ToyProblem.reference`.
    """
    stored = stored_references()
    return tuple(
        dataclasses.replace(problem, references=stored.get(problem.name, ()))
        for problem in _problems()
    )


def _problems() -> tuple[ToyProblem, ...]:
    classes = PhaseClass(5), PhaseClass(5, 1), PhaseClass(6)
    return (
        exact.regular_quadratic(),
        exact.regular_quadratic((3.0, 1.0, 1.0, 0.3, 0.0, 0.0)),
        exact.homogeneous(),
        exact.separable(),
        exact.normal_crossing((1, 1)),
        exact.normal_crossing((1, 2)),
        exact.noisy_regression(),
        *compound.suite(),
        deep_linear.deep_linear((3, 1, 3)),
        deep_linear.deep_linear((2, 2, 2)),
        deep_linear.deep_linear((4, 3, 8)),
        *deep_linear.benchmark_nets()[:2],
        *networks.suite(),
        policies.gaussian_policy_kl(),
        policies.quadratic_bandit_regret(),
        policies.quadratic_bandit_kl(),
        policies.softmax_bandit_kl(),
        policies.parity_regret(),
        policies.parity_regret(2),
        policies.softmax_bandit_kl((0.5, 0.3, 0.2), name="softmax_bandit_kl_3"),
        *bandits.suite(),
        *linear_policies.suite(),
        *mdps.suite(),
        *(superposition_problems.supervised(label) for label in classes),
        *(superposition_problems.regret(label) for label in classes),
        *(superposition_problems.policy_kl(label) for label in classes),
    )

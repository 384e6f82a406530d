"""Potentials of reinforcement learning: what the local learning coefficient may be taken of.

Each builder returns an exact potential `loss_fn(params) -> []`, or `(loss_fn, Dataset)` with
per-example losses `loss_fn(params, examples) -> [n]`. Loss functions are frozen dataclasses that
compare equal for equal arguments, so that building one again compiles nothing (those that hold
arrays say that they are equal by identity); whatever depends on a checkpoint is in the data set,
and every builder of a pair can be traced with a checkpoint as argument.

Policies, value functions and rewards are functions of *one* observation. Where observations are
asked for, a `Dataset` may be given, and its weights are kept.
"""

from slt_rl.rl.potentials.controls import clipped_surrogate, score_surrogate
from slt_rl.rl.potentials.diagnostics import ImportanceDiagnostics, importance_diagnostics
from slt_rl.rl.potentials.divergence import behavior_cloning, policy_kl, trajectory_kl
from slt_rl.rl.potentials.importance import (
    importance_regret,
    per_decision_regret,
    self_normalized_regret,
    trajectory_regret,
)
from slt_rl.rl.potentials.regret import all_action_regret, exact_regret, sampled_regret
from slt_rl.rl.potentials.tabular import TabularRegret, soft_regret, tabular_regret
from slt_rl.rl.potentials.value import bellman_error, expected_bellman_error, value_error

__all__ = [
    "ImportanceDiagnostics",
    "TabularRegret",
    "all_action_regret",
    "behavior_cloning",
    "bellman_error",
    "clipped_surrogate",
    "exact_regret",
    "expected_bellman_error",
    "importance_diagnostics",
    "importance_regret",
    "per_decision_regret",
    "policy_kl",
    "sampled_regret",
    "score_surrogate",
    "self_normalized_regret",
    "soft_regret",
    "tabular_regret",
    "trajectory_kl",
    "trajectory_regret",
    "value_error",
]

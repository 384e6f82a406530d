"""Reinforcement learning: environments, PPO, and potentials for the LLC."""

from slt_rl.rl.advantages import generalized_advantages
from slt_rl.rl.distributions import Categorical, DiagonalGaussian, Distribution
from slt_rl.rl.env import Env, GymnaxEnv, Transition
from slt_rl.rl.networks import (
    MLP,
    CategoricalPolicy,
    GaussianPolicy,
    LearnedGaussianPolicy,
    Policy,
    ValueFn,
    ValueNetwork,
)
from slt_rl.rl.potentials import (
    clipped_surrogate,
    exact_regret,
    importance_regret,
    policy_kl,
    sampled_regret,
    score_surrogate,
    value_error,
)
from slt_rl.rl.ppo import PPO, Batch, PPOState, PPOStats, clipped_adam
from slt_rl.rl.rollout import (
    EnvBatch,
    EpisodeSums,
    Evaluation,
    Rollout,
    evaluate,
    reset_envs,
    rollout,
)
from slt_rl.rl.train import init_runs, linear_schedule, log_schedule, run_keys, train

__all__ = [
    "MLP",
    "PPO",
    "Batch",
    "Categorical",
    "CategoricalPolicy",
    "DiagonalGaussian",
    "Distribution",
    "Env",
    "EnvBatch",
    "EpisodeSums",
    "Evaluation",
    "GaussianPolicy",
    "GymnaxEnv",
    "LearnedGaussianPolicy",
    "PPOState",
    "PPOStats",
    "Policy",
    "Rollout",
    "Transition",
    "ValueFn",
    "ValueNetwork",
    "clipped_adam",
    "clipped_surrogate",
    "evaluate",
    "exact_regret",
    "generalized_advantages",
    "importance_regret",
    "init_runs",
    "linear_schedule",
    "log_schedule",
    "policy_kl",
    "reset_envs",
    "rollout",
    "run_keys",
    "sampled_regret",
    "score_surrogate",
    "train",
    "value_error",
]

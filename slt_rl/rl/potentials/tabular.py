"""Exact regret of policies on finite Markov decision processes, with and without regularization.

By the performance difference lemma regret is a sum over states of non-negative terms,

    J* - J(w) = sum_s d_w(s) sum_a pi_w(a|s) (V*(s) - Q*(s, a))
    J* - J(w) = temperature sum_s d_w(s) KL(pi_w(.|s) || pi*(.|s))       (regularized)

with `d_w` the discounted visits of the policy itself. In this form the regret of the optimum is
zero up to rounding, and what each state contributes is at hand.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl._numbers import check_positive
from slt_rl.data import Dataset
from slt_rl.rl.distributions import Categorical
from slt_rl.rl.networks import Policy
from slt_rl.rl.potentials.examples import (
    check_callable,
    leading_axis,
    scale_statement,
)
from slt_rl.rl.tabular import TabularMDP

PyTree = Any


@dataclasses.dataclass(frozen=True, eq=False)
class TabularRegret:
    """Exact regret, plain or regularized; see `tabular_regret` and `soft_regret`.

    One object per program: equal programs are recognized by the identity of the object.
    """

    mdp: TabularMDP
    policy: Policy
    observations: PyTree
    costs: np.ndarray
    temperature: float
    unit: float = 1.0

    @property
    def scale_note(self) -> str:
        """In which unit of reward the loss is; repeated in the `notes` of an estimate."""
        return scale_statement(self.unit)

    def __call__(self, params: PyTree) -> jax.Array:
        """The regret `[]`, in units of return."""
        return jnp.sum(self.per_state(params))

    def per_state(self, params: PyTree) -> jax.Array:
        """What each state contributes, `[S]`; not negative, and the sum is the regret."""
        policy, terms = self._local_terms(params)
        return self.mdp.occupancy(policy) * terms

    def per_start(self, params: PyTree) -> jax.Array:
        """Regret of episodes from each first state, `[S]`; the mean under `start` is the regret."""
        policy, terms = self._local_terms(params)
        return self.mdp.accumulated(policy, terms)

    def _local_terms(self, params: PyTree) -> tuple[jax.Array, jax.Array]:
        """The policy `[S, A]`, and what one visit to each state costs `[S]`."""
        log_policy = log_policy_table(self.policy, params, self.observations)
        policy = jnp.exp(log_policy)
        paid = jnp.asarray(self.costs, policy.dtype) + self.temperature * log_policy
        # An action of probability zero costs nothing, also where its logarithm is infinite.
        costs = jnp.where(policy > 0, policy * jnp.where(policy > 0, paid, 0), 0)
        return policy, jnp.sum(costs, axis=1)

    def by_state(self) -> tuple["StateTerms", Dataset]:
        """The regret as a mean over states: `loss_s = S * per_state(w)[s]`, and the states.

        The states are not a sample: `nbeta` must be given and is that of the exact potential.
        """
        return StateTerms(self), Dataset({"state": jnp.arange(self.mdp.num_states)})


@dataclasses.dataclass(frozen=True)
class StateTerms:
    """Contributions of single states to an exact regret; see `TabularRegret.by_state`."""

    regret: TabularRegret

    @property
    def scale_note(self) -> str:
        """In which unit of reward the loss is; repeated in the `notes` of an estimate."""
        return self.regret.scale_note

    def __call__(self, params: PyTree, examples: PyTree) -> jax.Array:
        """Losses `[n]`, in units of return; their mean over all states is the regret."""
        terms = self.regret.per_state(params)
        return terms.shape[0] * terms[examples["state"]]


def tabular_regret(
    mdp: TabularMDP, policy: Policy, observations: PyTree, *, unit: float = 1.0
) -> TabularRegret:
    """Exact regret `J* - J(w)` on a finite MDP, by dynamic programming.

    Comparable to the probability of suboptimal actions if every state can be a first one: dynamics
    then drop out of the learning coefficient. A softmax policy has its infimum at infinity and no
    learning coefficient; use `soft_regret`, or a class of policies that contains its optimum.

    Args:
        mdp: The process.
        policy: `(params, observation) -> Categorical`, hashable.
        observations: `[S, ...]`, what the policy sees in each state; states may look alike.
        unit: Divides the regret. At a given `nbeta` the scale of rewards is a temperature: with the
            regret of the uniform policy as unit, numbers do not depend on it.

    Returns:
        An exact potential, with `per_state`, `per_start` and `by_state`.

    Raises:
        ValueError: If `policy` is not callable, observations are not one per state, or `unit` is
            not positive.
    """
    check_positive("unit", unit)
    _check_states(mdp, policy, observations)
    return TabularRegret(mdp, policy, observations, mdp.gaps / unit, 0.0, float(unit))


def soft_regret(
    mdp: TabularMDP,
    policy: Policy,
    observations: PyTree,
    *,
    temperature: float,
    log_prior: Any = None,
    unit: float = 1.0,
) -> TabularRegret:
    """Exact regret of the entropy- or KL-regularized return, against the best of all policies.

        J(w) = E sum discount^t [r - temperature (log pi_w(a|s) - log_prior(a|s))]
        J* - J(w) = temperature sum_s d_w(s) KL(pi_w(.|s) || pi*(.|s))

    Its optimum is an interior policy, and its learning coefficient there is that of the KL
    divergence. With one state and no discount this is the objective of RLHF,
    `pi* ~ prior exp(r/temperature)`.

    Args:
        mdp: The process.
        policy: `(params, observation) -> Categorical`, hashable.
        observations: `[S, ...]`, what the policy sees in each state.
        temperature: Positive, in units of reward per nat.
        log_prior: `[S, A]` log probabilities of the policy to stay close to; zero, the entropy
            bonus, if None.
        unit: Divides the regret, as in `tabular_regret`.

    Returns:
        An exact potential, with `per_state`, `per_start` and `by_state`.

    Raises:
        ValueError: If `policy` is not callable, observations are not one per state, the temperature
            or `unit` is not positive, or the prior has another shape or forbids an action.
    """
    check_positive("unit", unit)
    _check_states(mdp, policy, observations)
    optimum = mdp.soft_optimum(temperature, log_prior)
    share = float(temperature) / unit
    return TabularRegret(mdp, policy, observations, -share * optimum, share, float(unit))


def log_policy_table(policy: Policy, params: PyTree, observations: PyTree) -> jax.Array:
    """Log probabilities `[n, A]` of every action at every observation.

    Raises:
        ValueError: If the policy does not return a `Categorical`.
    """
    distribution = jax.vmap(lambda x: policy(params, x))(observations)
    if not isinstance(distribution, Categorical):
        raise ValueError(
            f"policy: got a {type(distribution).__name__}, expected a Categorical over actions"
        )
    return jax.nn.log_softmax(distribution.logits)


def _check_states(mdp: TabularMDP, policy: Policy, observations: PyTree) -> None:
    check_callable("policy", policy)
    found = leading_axis("observations", observations)
    if found != mdp.num_states:
        raise ValueError(f"observations: got {found}, expected one per state, {mdp.num_states}")

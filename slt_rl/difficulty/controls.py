"""Negative controls: what must be refused."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl import estimate_llc
from slt_rl.difficulty import targets
from slt_rl.difficulty.acting import POLICY, act
from slt_rl.difficulty.protocol import NUM_FEATURES, Protocol
from slt_rl.report.checks import Check
from slt_rl.rl import (
    Batch,
    clipped_surrogate,
    correct_states,
    density_ratio_weights,
    importance_diagnostics,
    importance_regret,
    importance_weights,
    score_surrogate,
)
from toy_models import superposition as tms
from toy_models import superposition_rungs as rungs

GROUP = "Negative controls"
# Steps of an episode whose weight is a product: small inputs, on which all hexagons act alike,
# leave single steps with weights that can be used.
NUM_STEPS = 20
# Floor of the effective share of the examples on a draw of the chain.
MIN_SHARE = 0.05


def control_checks(key: jax.Array, protocol: Protocol) -> list[Check]:
    """Surrogates, weights that few examples carry, and lost support are refused with the reason.

    Args:
        key: Random key, consumed.
        protocol: Sizes.
    """
    key_batch, key_llc, key_diagnosis = jax.random.split(key, 3)
    acting = tms.critical_point(tms.PhaseClass(NUM_FEATURES), NUM_FEATURES)
    # Another hexagon: neighbors in the plane have become opposite, so that actions differ.
    order = np.array([0, 3, 1, 4, 2, 5])
    other = {"W": acting["W"][:, order], "b": acting["b"]}
    batch = _batch(key_batch, acting, protocol.num_examples)

    def estimate(build_fn):
        loss_fn, data = build_fn(POLICY, batch)
        return estimate_llc(key_llc, loss_fn, acting, data, num_draws=50, num_burnin=0)

    def carry_over():
        loss_fn, data = importance_regret(POLICY, batch)
        ratios = loss_fn.importance_weights(other, data.examples)
        # A ratio that underflows is zero, and its logarithm minus infinity.
        with np.errstate(divide="ignore"):
            steps = np.log(np.asarray(ratios)).reshape(-1, NUM_STEPS)
        return importance_weights(np.sum(steps, axis=1))

    return [
        _refusal("score surrogate", functools.partial(estimate, score_surrogate), "curvature"),
        _refusal("clipped surrogate", functools.partial(estimate, clipped_surrogate), "flat"),
        _refusal("importance weights of other episodes", carry_over, "effective sample size"),
        *_lost_support(batch.observation),
        *(
            _diagnosis(key_diagnosis, name, found, protocol)
            for name, found in (
                ("importance regret, diagnosis", importance_regret(POLICY, batch)),
                ("importance regret of late sums, diagnosis", targets.trajectory_data(batch)),
            )
        ),
    ]


def _lost_support(inputs: Any) -> list[Check]:
    """Data without the last feature; amplitudes of it that have grown beyond all that was seen."""
    uniform = rungs.uniform_law(NUM_FEATURES)
    grown = rungs.drifted_law(1 / NUM_FEATURES, NUM_FEATURES, amplitude=2.0)

    def unseen():
        features = np.asarray(inputs["feature"])
        law = rungs.drifted_law(0.2, NUM_FEATURES).probabilities
        return correct_states(features[features < NUM_FEATURES - 1], target=np.asarray(law))

    def too_large():
        densities = (targets.input_density(inputs, law) for law in (grown, uniform))
        return density_ratio_weights(*densities)

    return [
        _refusal("drift weights after lost support", unseen, "impossible"),
        _refusal("amplitude weights after lost support", too_large, "support was lost"),
    ]


def _batch(key: jax.Array, params: tms.Params, num_examples: int) -> Batch:
    """Actions of a policy on uniform inputs, with their advantages over the mean reward."""
    key_inputs, key_action = jax.random.split(key)
    inputs = rungs.sample_law(key_inputs, num_examples, rungs.uniform_law(NUM_FEATURES))
    return act(key_action, params, inputs, baseline_fn=jnp.mean)


def _refusal(name: str, call: Callable[[], object], reason: str) -> Check:
    """The call must raise ValueError and name the reason."""
    try:
        found = f"returned {call()}"
    except ValueError as error:
        found = str(error)
    return Check(
        name,
        "The message with which it is refused.",
        f'a refusal that names "{reason}"',
        found,
        reason in found and not found.startswith("returned"),
        group=GROUP,
    )


def _diagnosis(key: jax.Array, name: str, target: tuple, protocol: Protocol) -> Check:
    """A potential by weights must not be found usable at class 6 with its own actions."""
    loss_fn, data = target
    found = importance_diagnostics(
        key,
        loss_fn,
        data,
        params=tms.critical_point(tms.PhaseClass(NUM_FEATURES), NUM_FEATURES),
        nbeta=protocol.nbeta,
        potential_fn=tms.population_loss,
        min_ess=MIN_SHARE * len(data),
    )
    return Check(
        name,
        "Whether the importance-weighted regret may be used at class 6 with its own actions, at "
        "the temperature of the ladder.",
        "not usable",
        "; ".join(found.reasons) or "usable",
        not found.usable,
        f"effective sample size {found.center_ess:.0f} at the center, {found.chain_ess:.1f} at the "
        f"least on a draw; noise ratio {found.noise_ratio:.3g}",
        GROUP,
    )

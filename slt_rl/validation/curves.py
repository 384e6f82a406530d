"""The learning coefficient along training, under five potentials, and what it shows."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl import LLCCurve, chains, llc_curve
from slt_rl.development.transitions import plateaus
from slt_rl.rl import policy_kl, sampled_regret
from slt_rl.validation.kl_reference import POLICY, exact_kl_target, kl_reference
from slt_rl.validation.protocol import NUM_FEATURES, Protocol
from slt_rl.validation.training import PERSISTENCE, as_params, sequences, states_of
from toy_models import superposition as tms
from toy_models.superposition_env import reconstruction_reward

DEEP = ("5", "5+", "6")
# How many times the draws of the protocol: an exact potential costs a tenth of a sampled one, and
# the target of the sampled divergence is far narrower than that of the regret.
LENGTHENING = {"supervised": 1, "regret": 1, "kl": 2, "exact_regret": 4, "exact_kl": 2}
# Potentials measured side by side. Compilation takes most of a short run, and one compilation uses
# one core.
NUM_WORKERS = 2


def exact_regret_target(params):
    """The regret in closed form; the same potential for every checkpoint."""
    del params
    return tms.population_loss


def sampled_kl_target(params, observations):
    """The divergence from the frozen policy on sampled states."""
    return policy_kl(POLICY, params, observations)


def _best_action(observation):
    return observation


def potentials(key: jax.Array, examples: Mapping[str, jax.Array]) -> dict[str, tuple[Any, Any]]:
    """`{name: (make_target, data)}`; the sampled ones share one set of states.

    Args:
        key: Random key of the actions' noise, consumed.
        examples: Sparse states of the run.
    """
    dense = tms.dense_inputs(dict(examples), NUM_FEATURES)
    zeros = {"W": jnp.zeros((2, NUM_FEATURES)), "b": jnp.zeros(NUM_FEATURES)}
    regret_fn, regret_data = sampled_regret(
        key,
        POLICY,
        reconstruction_reward,
        params=zeros,
        observations=dense,
        best_action_fn=_best_action,
    )
    return {
        "supervised": (chains.constant_target(tms.example_loss), dict(examples)),
        "regret": (chains.constant_target(regret_fn), regret_data),
        "kl": (sampled_kl_target, dense),
        "exact_regret": (exact_regret_target, None),
        "exact_kl": (exact_kl_target, None),
    }


def choose_runs(arrays: Mapping[str, np.ndarray], num_runs: int) -> np.ndarray:
    """The runs to measure: each next one adds most of the classes 5, 5+, 6, then transitions.

    The choice looks at classes alone, never at a learning coefficient.
    """
    visits = [[p.label for p in plateaus(row, persistence=PERSISTENCE)] for row in arrays["labels"]]
    chosen: list[int] = []
    covered: set[str] = set()
    while len(chosen) < min(num_runs, len(visits)):
        rest = [i for i in range(len(visits)) if i not in chosen]
        best = max(rest, key=lambda i: (len(set(visits[i]) & set(DEEP) - covered), len(visits[i])))
        chosen.append(best)
        covered |= set(visits[best])
    return np.array(sorted(chosen))


def measure_run(
    key: jax.Array, arrays: Mapping[str, np.ndarray], run: int, *, protocol: Protocol
) -> dict[str, np.ndarray]:
    """Every potential at every checkpoint of one run; `{potential_quantity: [record]}`."""
    key_noise, key_curve, key_reference = jax.random.split(key, 3)
    checkpoints, found = as_params(arrays, run), potentials(key_noise, states_of(arrays, run))
    targets = {name: found[name] for name in protocol.potentials}
    before = chains.num_programs()

    def measure(index: int, name: str) -> dict[str, np.ndarray]:
        curve_key = jax.random.fold_in(key_curve, index)
        curve = _measure_potential(curve_key, name, targets[name], checkpoints, protocol)
        return {f"{name}_{k}": v for k, v in _quantities(curve).items()}

    def refer() -> dict[str, np.ndarray]:
        chosen = np.isin(arrays["labels"][run], DEEP)
        states = targets["kl"][1]
        return kl_reference(key_reference, checkpoints, states, chosen=chosen, protocol=protocol)

    with ThreadPoolExecutor(NUM_WORKERS) as pool:
        # The reference first: it runs on one thread, and alone at the end would leave a core idle.
        parts = [pool.submit(refer)] + [pool.submit(measure, *item) for item in enumerate(targets)]
        values = {k: v for part in parts for k, v in part.result().items()}
    programs = np.array(chains.num_programs() - before)
    return {"programs": programs} | values


def _measure_potential(
    key: jax.Array, name: str, target: tuple[Any, Any], checkpoints: Any, protocol: Protocol
) -> LLCCurve:
    make_target, data = target
    if data is not None:
        checkpoints, data = (_rounded(x, protocol.precision) for x in (checkpoints, data))
    return llc_curve(
        key,
        make_target,
        checkpoints,
        nbeta=protocol.nbeta,
        localization=protocol.localization,
        num_chains=protocol.num_chains,
        num_draws=protocol.num_draws * LENGTHENING[name],
        num_burnin=protocol.num_burnin * LENGTHENING[name],
        data=data,
        chunk_size=-(-protocol.num_checkpoints // 4),
    )


def _rounded(tree: Any, dtype: str) -> Any:
    """The floating-point leaves in another precision."""
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


def _quantities(curve: LLCCurve) -> dict[str, np.ndarray]:
    return {
        "mean": curve.mean,
        "sem": curve.sem,
        # Of the interval for these very states, on which potentials are compared.
        "half_width": np.array(
            [np.diff(e.interval(given_data=True))[0] / 2 for e in curve.estimates]
        ),
        "verdict": np.array(curve.verdicts),
        "gradients": np.array([e.num_gradient_evaluations for e in curve.estimates]),
    }


def describe_choice(arrays: Mapping[str, np.ndarray], runs: np.ndarray) -> str:
    """The chosen runs with their sequences of classes, for the report."""
    names = sequences(arrays["labels"])
    return "; ".join(f"run {i}: {names[i]}" for i in runs)

"""Measures one rung: every estimator at every class and key, beside its reference."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl import LLCCurve, LLCEstimate, estimate_llc, llc_curve
from slt_rl.difficulty.methods import Method, Target, methods_of
from slt_rl.difficulty.protocol import CLASSES, Protocol
from slt_rl.difficulty.rungs import Population, Rung
from slt_rl.validation.reference import Reference, sample_reference, value_on_data
from toy_models import superposition_rungs as rungs

EXACT = ("exact regret", "exact KL")
VERDICTS = ("trusted", "doubtful", "refused")
Progress = Callable[[str, int, int], None]


def _ignore(stage: str, done: int, total: int) -> None:
    del stage, done, total


def measure_rung(
    key: jax.Array, rung: Rung, protocol: Protocol, *, progress: Progress = _ignore
) -> dict[str, np.ndarray]:
    """Everything measured on one rung.

    Args:
        key: Random key, consumed.
        rung: The rung.
        protocol: Sizes.
        progress: Called as `(rung, methods done, methods)`.

    Returns:
        For each method, by its place in `methods_of(rung)`: `{place}_wanted`, `_wanted_sem`,
        `_predicted` by class; `_mean`, `_sem`, `_low`, `_high`, `_verdict`, `_gradients`, `_data`,
        `_data_sem` by class and key. For each exact potential the same under its name, and
        `_limit`, `_limit_sem` at low temperature.
    """
    keys = jax.random.split(key, 3)
    methods = methods_of(rung)
    references = _references(keys[0], rung, methods, protocol)
    found: dict[str, np.ndarray] = {}
    for name in EXACT:
        population = _exact_population(rung, name)
        # The index in the list, not a hash of the name, which differs between processes.
        part = jax.random.fold_in(keys[1], EXACT.index(name))
        arrays = _measure_exact(part, rung, population, references, protocol)
        found |= {f"{name}_{k}": v for k, v in arrays.items()}
    for place, method in enumerate(methods):
        part = jax.random.fold_in(keys[2], place)
        arrays = _measure_sampled(part, rung, method, references, protocol)
        found |= {f"{place}_{k}": v for k, v in arrays.items()}
        progress(rung.title, place + 1, len(methods))
    return found


def _exact_population(rung: Rung, name: str) -> Callable[[str], Population]:
    return rung.wanted_regret if name == EXACT[0] else rung.wanted_kl


def _references(key, rung: Rung, methods: tuple[Method, ...], protocol: Protocol):
    """`{population name: Reference}`, all populations of one potential in one program."""
    wanted = [(p(label), label) for p in (rung.wanted_regret, rung.wanted_kl) for label in CLASSES]
    for method in methods:
        for population_fn in (method.wanted, method.predicted):
            if population_fn is not None:
                wanted += [(population_fn(rung, label), label) for label in CLASSES]
    unique = {population.name: (population, label) for population, label in wanted}
    by_potential: dict[Callable, list[tuple[Population, str]]] = {}
    for population, label in unique.values():
        by_potential.setdefault(population.potential_fn, []).append((population, label))
    found: dict[str, Reference] = {}
    sizes = (protocol.num_reference_chains, protocol.num_reference_draws, protocol.num_positions)
    for i, (potential_fn, cells) in enumerate(by_potential.items()):
        references = sample_reference(
            jax.random.fold_in(key, i),
            potential_fn,
            _stack([rung.points[label] for _, label in cells]),
            laws=_stack([population.law for population, _ in cells]),
            nbeta=protocol.nbeta,
            localization=protocol.localization,
            sizes=sizes,
        )
        found |= {p.name: r for (p, _), r in zip(cells, references, strict=True)}
    return found


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *trees)


def _measure_sampled(
    key: jax.Array,
    rung: Rung,
    method: Method,
    references: dict[str, Reference],
    protocol: Protocol,
) -> dict[str, np.ndarray]:
    """One method at every class and key."""
    columns: dict[str, list] = {}
    for index, label in enumerate(CLASSES):
        wanted = None if method.wanted is None else references[method.wanted(rung, label).name]
        predicted = wanted
        if method.predicted is not None:
            predicted = references[method.predicted(rung, label).name]
        extra = 0.0
        if method.has_critic:
            extra = rungs.critic_llc(rung.laws[label], protocol.nbeta, protocol.localization)
        cell = _expected(wanted, predicted, extra)
        for k in range(protocol.num_keys):
            part = jax.random.fold_in(jax.random.fold_in(key, index), k)
            row = _one_estimate(part, method, rung, label, predicted, protocol)
            for name, value in row.items():
                cell.setdefault(name, []).append(value)
        for name, value in cell.items():
            columns.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in columns.items()}


def _expected(wanted: Reference | None, predicted: Reference | None, extra: float) -> dict:
    return {
        "wanted": extra + (0.0 if wanted is None else wanted.mean),
        "wanted_sem": 0.0 if wanted is None else wanted.sem,
        "predicted": extra + (0.0 if predicted is None else predicted.mean),
        "predicted_sem": 0.0 if predicted is None else predicted.sem,
    }


def estimate_target(key: jax.Array, target: Target, protocol: Protocol) -> LLCEstimate:
    """The estimate of a target at the temperature and with the lengths of a protocol."""
    return estimate_llc(
        key,
        target.loss_fn,
        target.center,
        target.data,
        nbeta=protocol.nbeta,
        localization=protocol.localization,
        num_chains=protocol.num_chains,
        num_draws=protocol.num_draws,
        num_burnin=protocol.num_burnin,
    )


def _one_estimate(key, method: Method, rung: Rung, label: str, predicted, protocol) -> dict:
    key_data, key_llc = jax.random.split(key)
    target = method.build(key_data, rung, label, protocol=protocol)
    estimate = estimate_target(key_llc, target, protocol)
    row = _quantities(estimate)
    row["data"], row["data_sem"], row["weight_share"] = np.nan, np.nan, np.nan
    if predicted is not None and not method.has_critic:
        found = _value_on(predicted, target, protocol)
        row["data"], row["data_sem"], row["weight_share"] = found
    return row


def _value_on(reference: Reference, target: Target, protocol: Protocol):
    return value_on_data(
        reference, target.loss_fn, target.data, center=target.center, nbeta=protocol.nbeta
    )


def _quantities(estimate: LLCEstimate) -> dict[str, Any]:
    low, high = estimate.interval()
    return {
        "mean": estimate.mean,
        "sem": estimate.sem,
        "low": low,
        "high": high,
        "verdict": VERDICTS.index(estimate.verdict),
        "gradients": estimate.num_gradient_evaluations,
    }


@functools.lru_cache(maxsize=8)
def curve_target(potential_fn: Callable) -> Callable:
    """`make_target` of an exact potential; the same object for the same potential."""

    def make_target(params, law):
        return lambda w: potential_fn(w, params, law)

    return make_target


def _measure_exact(
    key: jax.Array,
    rung: Rung,
    population_fn: Callable[[str], Population],
    references: dict[str, Reference],
    protocol: Protocol,
) -> dict[str, np.ndarray]:
    """An exact potential at every class and key, and at low temperature."""
    columns: dict[str, list] = {}
    for index, label in enumerate(CLASSES):
        population = population_fn(label)
        reference = references[population.name]
        key_here, key_limit = jax.random.split(jax.random.fold_in(key, index))
        measure = functools.partial(_curve, population, rung.points[label], protocol)
        curve = measure(key_here, protocol.nbeta, protocol.localization)
        limit = measure(key_limit, protocol.limit_nbeta, protocol.localization)
        cell = _expected(reference, reference, 0.0)
        rows = [_quantities(estimate) for estimate in curve.estimates]
        cell |= {name: [row[name] for row in rows] for name in rows[0]}
        cell["limit"] = float(np.mean(limit.mean))
        cell["limit_sem"] = float(np.sqrt(np.sum(limit.sem**2)) / len(limit))
        for name, value in cell.items():
            columns.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in columns.items()}


def _curve(population: Population, point, protocol: Protocol, key, nbeta, localization) -> LLCCurve:
    copies = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x)] * protocol.num_keys), point)
    law = jax.tree.map(jnp.asarray, population.law)
    return llc_curve(
        key,
        curve_target(population.potential_fn),
        copies,
        nbeta=nbeta,
        localization=localization,
        num_chains=protocol.num_chains,
        num_draws=protocol.num_draws,
        num_burnin=protocol.num_burnin,
        data=law,
        chunk_size=protocol.num_keys,
    )

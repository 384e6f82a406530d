"""The learning coefficient along training on a rung, and the transitions that it shows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl import LLCEstimate, llc_curve
from slt_rl.development.stages import Curve, Detection, detect_transitions
from slt_rl.development.transitions import TransitionScore
from slt_rl.difficulty.measure import VERDICTS, curve_target, estimate_target
from slt_rl.difficulty.methods import Method, methods_of
from slt_rl.difficulty.protocol import ACTION_SCALE, Protocol
from slt_rl.difficulty.rungs import VISITATION, Rung, kl
from slt_rl.difficulty.trained import TrainingProtocol, laws_of
from slt_rl.validation.curve_checks import (
    LLC_SHIFT,
    LOG_LOSS_SHIFT,
    MIN_SEGMENT,
    Measured,
    plateau_estimates,
    transition_score,
)
from toy_models import superposition_rungs as rungs
from toy_models import superposition_visitation as visits
from toy_models.superposition_rungs import Law

# Of a critic nothing depends on the class of the policy, and the importance-weighted regret was
# refused wherever the ladder tried it.
POTENTIALS = ("squared error", "sampled regret", "KL")
EXACT = ("exact regret", "exact KL")
# What a detector is given; "both" is the rule of the main run.
SOURCES = ("both", "loss", "llc")
HIGHER = ("5+", "6")
CHUNK = 8


def measured_methods(rung: Rung) -> tuple[Method, ...]:
    """The estimators on sampled data that are tried along training."""
    return tuple(m for m in methods_of(rung) if m.potential in POTENTIALS)


def names_of(rung: Rung) -> tuple[str, ...]:
    """All potentials with their corrections, the exact ones first."""
    return (*EXACT, *(method.name for method in measured_methods(rung)))


def measure_run(
    key: jax.Array,
    rung: Rung,
    arrays: Mapping[str, np.ndarray],
    *,
    run: int,
    protocol: TrainingProtocol,
    names: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Potentials at every checkpoint of one run; `{name_quantity: [record]}`.

    All checkpoints share the keys of their data, as they would share a set of states.

    Args:
        key: Random key, consumed.
        rung: The rung.
        arrays: From `trained.train_rung`.
        run: Which run.
        protocol: Sizes.
        names: Which potentials, of `names_of(rung)`; all if None. The numbers of one do not depend
            on the others.
    """
    checkpoints = {name: jnp.asarray(arrays[name][run]) for name in ("W", "b")}
    laws, sizes = laws_of(rung.number, protocol.num_records), protocol.estimates
    exact = dict(zip(EXACT, (rung.regret_fn, _kl_of(rung)), strict=True))
    methods = {method.name: method for method in measured_methods(rung)}
    found: dict[str, np.ndarray] = {}
    for index, name in enumerate(names_of(rung)):
        part = jax.random.fold_in(key, index)
        if names is not None and name not in names:
            continue
        if name in exact:
            estimates = _exact(part, exact[name], checkpoints, laws=laws[0], sizes=sizes)
        else:
            keys = jax.random.split(part)
            estimates = [
                _sampled(keys, record, methods[name], _at(rung, checkpoints, laws, record), sizes)
                for record in range(protocol.num_records)
            ]
        found |= _quantities(name, estimates)
    return found


def visited_kl(params, center, law):
    """Divergence from the frozen policy where that policy goes."""
    met = law._replace(probabilities=visits.visitation_law(center, VISITATION))
    return rungs.law_kl(params, center, met, sigma=ACTION_SCALE)


def _kl_of(rung: Rung) -> Callable:
    return visited_kl if rung.number == 4 else kl


def _at(rung: Rung, checkpoints: Any, laws: tuple[Law, Law], record: int) -> Rung:
    """The rung at one checkpoint, under the label "now"."""
    params, law, stale = (jax.tree.map(lambda x: x[record], x) for x in (checkpoints, *laws))
    return rung._replace(points={"now": params}, laws={"now": law}, stale_law=stale)


def _sampled(keys, record: int, method: Method, rung: Rung, sizes: Protocol) -> LLCEstimate:
    target = method.build(keys[0], rung, "now", protocol=sizes)
    return estimate_target(jax.random.fold_in(keys[1], record), target, sizes)


def _exact(key, potential_fn: Callable, checkpoints: Any, *, laws: Law, sizes: Protocol) -> list:
    """An exact potential at every checkpoint; records that share a law go together."""
    found: list[LLCEstimate] = []
    size = len(laws.probabilities)
    for first in range(0, size, CHUNK):
        part = jax.tree.map(lambda x, i=first: x[i : i + CHUNK], checkpoints)
        curve = llc_curve(
            jax.random.fold_in(key, first),
            curve_target(potential_fn),
            part,
            nbeta=sizes.nbeta,
            localization=sizes.localization,
            num_chains=sizes.num_chains,
            num_draws=4 * sizes.num_draws,
            num_burnin=sizes.num_burnin,
            data=jax.tree.map(lambda x, i=first: x[i], laws),
            chunk_size=CHUNK,
            num_threads=1,
        )
        found += curve.estimates
    return found


def _quantities(name: str, estimates: Sequence[LLCEstimate]) -> dict[str, np.ndarray]:
    return {
        f"{name}_mean": np.array([e.mean for e in estimates]),
        f"{name}_sem": np.array([e.sem for e in estimates]),
        f"{name}_verdict": np.array([VERDICTS.index(e.verdict) for e in estimates]),
        f"{name}_gradients": np.array([e.num_gradient_evaluations for e in estimates]),
    }


class TrainedScore(NamedTuple):
    """What one potential shows along the measured runs of one rung.

    Attributes:
        rung: Number of the rung.
        name: Potential and correction.
        scores: Agreement with the labels of transitions found from each of `SOURCES`, lags in
            records.
        ordered: Pairs of plateaus of the rung with 5 below 5+ or 6.
        pairs: All such pairs.
        rising: Transitions within a run from 5 to 5+ or 6 at which the coefficient rises, or from
            those to 5 at which it falls.
        turns: All such transitions.
        verdicts: Estimates that were trusted, doubtful, refused.
        levels: Mean over plateaus by class, of 5, 5+, 6; NaN where there is none.
    """

    rung: int
    name: str
    scores: Mapping[str, TransitionScore]
    ordered: int
    pairs: int
    rising: int
    turns: int
    verdicts: tuple[int, int, int]
    levels: Mapping[str, float]


def score_curves(rung: Rung, measured: Measured, name: str) -> TrainedScore:
    """Scores one potential on one rung."""
    levels = plateau_estimates(measured, name)
    low = [mean for _, label, mean, _ in levels if label == "5"]
    high = [mean for _, label, mean, _ in levels if label in HIGHER]
    ordered = [b > a for a in low for b in high]
    turns = [
        (after > before) == (end in HIGHER)
        for (run, start, before, _), (other, end, after, _) in zip(levels, levels[1:], strict=False)
        if run == other and "5" in (start, end) and {start, end} & set(HIGHER)
    ]
    trusted, doubtful, refused = np.bincount(
        measured.stack(f"{name}_verdict").ravel(), minlength=3
    ).tolist()
    by_class = {c: [m for _, label, m, _ in levels if label == c] for c in ("5", *HIGHER)}
    return TrainedScore(
        rung.number,
        name,
        {s: transition_score(measured, find(measured, name, s)) for s in SOURCES},
        sum(ordered),
        len(ordered),
        sum(turns),
        len(turns),
        (trusted, doubtful, refused),
        {c: float(np.mean(v)) if v else float("nan") for c, v in by_class.items()},
    )


def find(measured: Measured, name: str, source: str) -> list[tuple[Detection, ...]]:
    """Transitions of every measured run from its curves alone, with the options of the main run."""
    steps = measured.training["steps"]
    found = []
    for index, run in enumerate(measured.runs):
        llc = measured.curves[index][f"{name}_mean"]
        # A detector needs a number at every record; one without an estimate takes the middle.
        llc = np.where(np.isfinite(llc), llc, np.nanmedian(llc))
        loss = np.log(measured.training["loss"][run])
        curves = {
            "loss": Curve("loss", loss, LOG_LOSS_SHIFT),
            "llc": Curve("llc", llc, LLC_SHIFT),
        }
        given = list(curves.values()) if source == "both" else [curves[source]]
        found.append(detect_transitions(steps, given, min_segment=MIN_SEGMENT))
    return found

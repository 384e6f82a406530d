"""From results to figures, tables and the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from slt_rl import report as rp
from slt_rl.diagnostics import Z95
from slt_rl.validation import curve_checks
from slt_rl.validation.bayesian import CONVENTION
from slt_rl.validation.curve_checks import Measured
from slt_rl.validation.curves import describe_choice
from slt_rl.validation.protocol import ACTION_SCALE, NUM_FEATURES, POTENTIALS, Protocol
from slt_rl.validation.training import count_sequences
from toy_models import superposition as tms

STEP_LABELS = {"Supervised": "SGD steps", "PPO": "PPO iterations"}


class Parts(NamedTuple):
    """What the figures need beside the checks.

    Args:
        measured: Both ways of training.
        transitions: For each, `(true, detected)` per measured run.
        comparisons: Estimates beside their targets.
        posterior: Occupancy of the polygons.
        potentials: The potential whose curve is drawn, by name of the training.
    """

    measured: Sequence[Measured]
    transitions: Sequence[tuple[Any, Any]]
    comparisons: Sequence[rp.Comparison]
    posterior: rp.Occupancy
    potentials: dict[str, str]


def write_report(
    out: Path, protocol: Protocol, stages: Any, *, checks: list[rp.Check], parts: Parts
) -> rp.Report:
    """Draws everything and writes `report.html` and `summary.json`."""
    levels = {str(c): tms.level(c, NUM_FEATURES) for c in tms.known_classes(NUM_FEATURES)}
    trainings = [
        training_curves(one, transitions, parts.potentials[one.name])
        for one, transitions in zip(parts.measured, parts.transitions, strict=True)
    ]
    sections = [
        _overview(out, trainings, levels),
        *(_runs(out, t, levels) for t in trainings),
        _estimates(out, parts, trainings, levels),
        _posterior(out, parts.posterior, levels),
        _tables(parts),
    ]
    provenance = rp.collect_provenance(
        {
            "seed": protocol.seed,
            "protocol": protocol.name,
            "key": f"jax.random.key({protocol.seed})",
        },
        stages.seconds,
        notes={m.name: describe_choice(m.training, m.runs) for m in parts.measured},
    )
    held = sum(check.held for check in checks)
    found = rp.Report(
        "The toy model of superposition, by supervision and by PPO",
        f"{len(parts.measured[0].training['loss'])} supervised and "
        f"{len(parts.measured[1].training['loss'])} PPO runs with {NUM_FEATURES} features; the "
        "local learning coefficient at every stored checkpoint of "
        f"{protocol.num_llc_runs} runs of each, under the supervised loss, the regret and the "
        f"divergence from the frozen policy. {held} of {len(checks)} checks held.",
        checks,
        sections,
        provenance,
    )
    rp.write_html(out, found)
    rp.write_summary(out, found)
    return found


def training_curves(
    measured: Measured, transitions: tuple[Any, Any], potential: str
) -> rp.TrainingCurves:
    """All runs of a training, with estimates for the measured ones."""
    arrays = measured.training
    found = {q: np.full(arrays["loss"].shape, np.nan) for q in ("mean", "lower", "upper")}
    sem = measured.stack(f"{potential}_sem")
    found["mean"][measured.runs] = measured.stack(f"{potential}_mean")
    # The bands are Monte-Carlo intervals: the other terms of the budget are in the tables.
    found["lower"][measured.runs] = found["mean"][measured.runs] - Z95 * sem
    found["upper"][measured.runs] = found["mean"][measured.runs] + Z95 * sem
    true, detected = [()] * len(arrays["loss"]), [()] * len(arrays["loss"])
    for run, known, seen in zip(measured.runs, *transitions, strict=True):
        true[run], detected[run] = known, seen
    return rp.TrainingCurves(
        measured.name,
        STEP_LABELS[measured.name],
        arrays["steps"],
        arrays["loss"],
        arrays["labels"],
        found["mean"],
        found["lower"],
        found["upper"],
        arrays["W"],
        arrays["b"],
        true,
        detected,
    )


def _overview(out: Path, trainings, levels) -> rp.Section:
    return rp.Section(
        "Both ways of training",
        (
            "Supervised runs minimize the mean squared error on 1000 fixed examples by plain SGD. "
            "PPO runs see only rewards: the network is the mean of a Gaussian policy with standard "
            f"deviation {ACTION_SCALE}, whose regret is the same loss.",
        ),
        (
            rp.save_figure(
                rp.training_figure(trainings, levels),
                out,
                "training",
                caption="Population loss and learning coefficient along training. Horizontal lines "
                "are the levels of the known classes; color is the class of a checkpoint.",
            ),
            rp.save_figure(
                rp.class_strip_figure(trainings, levels),
                out,
                "classes",
                caption="The class of every checkpoint of every run.",
            ),
        ),
    )


def _runs(out: Path, training: rp.TrainingCurves, levels) -> rp.Section:
    """The measured runs with most changes of class, one figure each."""
    order = sorted(training.measured_runs, key=lambda r: -len(training.true[r]))[:3]
    figures = tuple(
        rp.save_figure(
            rp.run_figure(training, int(run), levels),
            out,
            f"{training.name.lower()}-run-{run}",
            caption=f"{training.name} run {run}: columns of the weights at chosen checkpoints, "
            "population loss, and learning coefficient with 95 % Monte-Carlo intervals. Shaded: "
            "transitions known from classes; ticks: transitions found from the curves alone.",
        )
        for run in order
    )
    return rp.Section(f"{training.name}: runs", (), figures)


def _estimates(out: Path, parts: Parts, trainings, levels) -> rp.Section:
    figures = [
        rp.save_figure(
            rp.llc_by_class_figure(trainings, levels, {"exact learning coefficient": _exact()}),
            out,
            "llc-by-class",
            caption="Estimates by class. At n = 1000 and localization 10 they lie below the exact "
            "learning coefficients, which are their limit at low temperature.",
        )
    ]
    usable = [c for c in parts.comparisons if c.target.size]
    if usable:
        figures.append(
            rp.save_figure(
                rp.comparison_figure(usable, levels),
                out,
                "agreement",
                caption="Estimates on reinforcement-learning potentials against their targets at "
                "the same parameters.",
            )
        )
    jumps = [j for m in parts.measured for j in curve_checks.jumps(m, parts.potentials[m.name])]
    if jumps:
        figures.append(_jumps(out, jumps, levels))
    return rp.Section("The learning coefficient", (), tuple(figures))


def _exact() -> dict[str, float]:
    """Exact learning coefficients of the classes that have one."""
    known = {str(c): tms.exact_llc(c, NUM_FEATURES) for c in tms.known_classes(NUM_FEATURES)}
    return {name: value[0] for name, value in known.items() if value is not None}


def _jumps(out: Path, jumps, levels) -> rp.FigureFile:
    return rp.save_figure(
        rp.jump_figure(jumps, levels),
        out,
        "jumps",
        caption="Change of the estimate over every transition between classes. On 4-gons no sign "
        "is predicted: their loss is kinked, and the asymptotic coefficient falls from 8 to 7 "
        "where 4+ becomes 5.",
    )


def _posterior(out: Path, posterior: rp.Occupancy, levels) -> rp.Section:
    figure = rp.save_figure(
        rp.occupancy_figure(posterior, levels),
        out,
        "occupancy",
        caption="Posterior probability of polygons by their number of hull vertices.",
    )
    return rp.Section("The Bayesian posterior", (f"Convention: {CONVENTION}.",), (figure,))


def _tables(parts: Parts) -> rp.Section:
    tables = [_class_table(parts.measured), _verdict_table(parts.measured)]
    for measured in parts.measured:
        counts = count_sequences(measured.training["labels"])
        tables.append(
            rp.Table(f"{measured.name}: sequences", ("sequence", "runs"), tuple(counts.items()))
        )
    return rp.Section("Numbers", (), (), tuple(tables))


def _measured_potentials(all_measured: Sequence[Measured]) -> list[str]:
    """Names of the potentials that were measured along training, in one order always."""
    return [name for name in POTENTIALS if f"{name}_verdict" in all_measured[0].curves[0]]


def _class_table(all_measured: Sequence[Measured]) -> rp.Table:
    """Mean estimate of every class under every potential."""
    rows, potentials = [], _measured_potentials(all_measured)
    for measured in all_measured:
        for label in np.unique(measured.labels):
            inside = measured.labels == label
            means = [float(np.nanmean(measured.stack(f"{p}_mean")[inside])) for p in potentials]
            rows.append((measured.name, str(label), int(inside.sum()), *means))
    return rp.Table(
        "Mean estimate by class and potential",
        ("training", "class", "checkpoints", *potentials),
        rows,
        "On 4-gons the numbers are reported, and no order is asserted.",
    )


def _verdict_table(all_measured: Sequence[Measured]) -> rp.Table:
    """How many estimates were trusted, and what they cost."""
    rows = []
    for measured in all_measured:
        for potential in _measured_potentials(all_measured):
            verdicts = measured.stack(f"{potential}_verdict")
            counts = [int((verdicts == v).sum()) for v in ("trusted", "doubtful", "refused")]
            cost = float(np.mean(measured.stack(f"{potential}_gradients")))
            rows.append((measured.name, potential, *counts, cost))
    return rp.Table(
        "Verdicts",
        ("training", "potential", "trusted", "doubtful", "refused", "gradients per estimate"),
        rows,
    )

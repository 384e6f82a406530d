"""What the ladder must show, from its scores."""

from collections.abc import Mapping, Sequence

import numpy as np

from slt_rl.diagnostics import Z95
from slt_rl.difficulty.measure import EXACT
from slt_rl.difficulty.protocol import CLASSES
from slt_rl.difficulty.rungs import Rung, limits
from slt_rl.difficulty.score import MAX_REFUSED, Score, families, is_too_few
from slt_rl.report.checks import Check

VALUES, RECOMMENDED, DRIFT = "Values", "Recommended estimator", "Drift and visitation"
# On these rungs the learning coefficient is that of the supervised problem, at the same points.
UNCHANGED = (1, 2, 5, 6, 8)


def ladder_checks(
    rungs: Sequence[Rung], arrays: Mapping[int, Mapping[str, np.ndarray]], scores: Sequence[Score]
) -> list[Check]:
    """All checks on measured values.

    Args:
        rungs: The rungs that were climbed.
        arrays: For each number of a rung what `measure_rung` found.
        scores: Their scores.
    """
    checks = [_agreement(scores), _prediction(scores)]
    for rung in rungs:
        checks += [_limit(rung, name, arrays[rung.number]) for name in EXACT]
    checks += _recommended(rungs, scores)
    checks += _uncorrected(scores)
    return checks


def _agreement(scores: Sequence[Score]) -> Check:
    """The sampler against the reference on the same data, where no estimate was refused."""
    used = [s for s in scores if np.isfinite(s.agreement) and s.refused <= MAX_REFUSED]
    total = sum(s.total for s in used)
    agreeing = round(sum(s.agreement * s.total for s in used))
    worst = min(used, key=lambda s: s.agreement)
    return Check(
        "estimates against the same data by HMC",
        f"{total} estimates on sampled data against the value on the same data set by Hamiltonian "
        "Monte Carlo on the closed form, reweighted.",
        "within the combined 95 % Monte-Carlo intervals in 90 %, or as few as chance allows",
        agreeing / total,
        not is_too_few(agreeing, total, 0.9),
        f"{agreeing} of {total}; lowest: rung {worst.rung}, {worst.name}, {worst.agreement:.2f}",
        VALUES,
    )


def _prediction(scores: Sequence[Score]) -> Check:
    """Each estimator finds the value of the potential that it samples."""
    used = [s for s in scores if s.refused <= MAX_REFUSED]
    few = [
        f"rung {s.rung}, {s.name}: {s.covered_predicted} of {s.total}"
        for s in used
        if is_too_few(s.covered_predicted, s.total)
    ]
    covered, total = sum(s.covered_predicted for s in used), sum(s.total for s in used)
    return Check(
        "coverage of what is sampled",
        "Intervals over all classes and keys that hold the exact value at finite temperature of "
        "the potential that is sampled (which may not be the one that is asked for).",
        "95 %, or as few as chance allows",
        covered / total,
        not is_too_few(covered, total),
        f"{covered} of {total}; fewer than chance allows: {'; '.join(few) or 'none'}",
        VALUES,
    )


def _limit(rung: Rung, name: str, arrays: Mapping[str, np.ndarray]) -> Check:
    """The asymptotic coefficient on each rung."""
    exact = np.array([limits()[c] for c in CLASSES])
    mean, sem = arrays[f"{name}_limit"], arrays[f"{name}_limit_sem"]
    held = np.abs(mean - exact) <= 0.03 * exact + Z95 * sem
    return Check(
        f"rung {rung.number}, {name}: learning coefficient",
        f"Mean estimate at nbeta = 1e5 at classes {', '.join(CLASSES)} of the rung '{rung.title}'.",
        f"{', '.join(f'{x:g}' for x in exact)} within 3 % and the 95 % interval",
        dict(zip(CLASSES, mean.tolist(), strict=True)),
        bool(held.all()),
        f"standard errors {', '.join(f'{s:.2f}' for s in sem)}",
        VALUES,
    )


def _recommended(rungs: Sequence[Rung], scores: Sequence[Score]) -> list[Check]:
    """On the unchanged rungs the recommended potential keeps its value, at all classes."""
    best = next(f for f in families(scores) if f.potential not in EXACT)
    wanted = [r.number for r in rungs if r.number > 0]
    missed = sorted(set(wanted) - set(best.survived))
    checks = [
        Check(
            "an estimator survives every rung",
            "Rungs of reinforcement learning on which the recommended sampled potential survives, "
            "with a correction where the rung asks for one.",
            "all that were climbed",
            f"{best.potential}: {', '.join(map(str, best.survived))}",
            not missed,
            f"not: {missed}" if missed else "",
            RECOMMENDED,
        )
    ]
    for rung in rungs:
        mine = [s for s in scores if s.rung == rung.number and s.name.startswith(best.potential)]
        if rung.number in UNCHANGED and mine:
            score = max(mine, key=lambda s: (s.survives, s.covered))
            off = np.abs(score.error)
            checks.append(
                Check(
                    f"rung {rung.number}: {score.name} keeps the value",
                    "Mean estimate minus exact value at finite temperature, over keys, at classes "
                    f"{', '.join(CLASSES)}.",
                    "survives: coverage as 95 % intervals have, order kept, hardly ever refused",
                    dict(zip(CLASSES, score.error.round(3).tolist(), strict=True)),
                    score.survives,
                    f"{score.outcome}; {score.covered} of {score.total} covered; order "
                    f"{score.order:.2f}; largest difference {off.max():.2f}",
                    RECOMMENDED,
                )
            )
    return checks


def _uncorrected(scores: Sequence[Score]) -> list[Check]:
    """Uncorrected estimates are outside where theory says so, and corrected ones inside."""
    checks = []
    for score in scores:
        if score.row.endswith("uncorrected") and score.separated:
            checks.append(
                Check(
                    f"rung {score.rung}: {score.name} is outside",
                    "Intervals that miss the value asked for, at the classes where the exact value "
                    "of what is sampled differs from it by more than a typical half-width: "
                    f"{', '.join(score.separated)}.",
                    "at least half",
                    score.outside,
                    score.outside >= 0.5,
                    group=DRIFT,
                )
            )
        if score.row.endswith(" corrected"):
            checks.append(
                Check(
                    f"rung {score.rung}: {score.name} is inside",
                    "Corrected intervals that hold the exact value under the current law.",
                    "as many as 95 % intervals should",
                    score.covered / score.total,
                    not is_too_few(score.covered, score.total),
                    f"{score.covered} of {score.total}; refused {score.verdicts[2]}",
                    DRIFT,
                )
            )
    return checks

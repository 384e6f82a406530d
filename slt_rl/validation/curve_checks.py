"""What the learning coefficient along training shows: agreement, order, transitions."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from slt_rl.development.stages import Curve, Detection, detect_transitions
from slt_rl.development.transitions import (
    Transition,
    TransitionScore,
    label_transitions,
    labeled_range,
    plateaus,
    score_transitions,
    total_score,
)
from slt_rl.diagnostics import Z95
from slt_rl.report.checks import Check
from slt_rl.report.records import Comparison, Jump
from slt_rl.validation.curves import DEEP
from slt_rl.validation.protocol import NUM_FEATURES
from slt_rl.validation.training import PERSISTENCE
from toy_models import superposition as tms

GROUP = "Learning coefficient along training"
# Smallest changes that count as a transition: two thirds of the smallest gap between the
# logarithms of neighboring levels; and less than the steps between 5 and 5+ or 6 (1.0 at these
# settings), more than the dips of the estimate while a plateau turns into a saddle (0.5).
LOG_LOSS_SHIFT = 0.04
LLC_SHIFT = 0.6
# Shorter stages are not looked for: the estimate dips for up to three records while a plateau turns
# into a saddle, before the loss moves.
MIN_SEGMENT = 4
# A detected transition may miss the one known from labels by this many records.
LAG_RECORDS = 3


class Measured(NamedTuple):
    """One way of training with its measured runs.

    Args:
        name: Of the training.
        training: Arrays of `validation.training`.
        runs: `[measured]`, indices of the measured runs.
        curves: For each measured run the arrays of `validation.curves`.
    """

    name: str
    training: Mapping[str, np.ndarray]
    runs: np.ndarray
    curves: Sequence[Mapping[str, np.ndarray]]

    def stack(self, quantity: str) -> np.ndarray:
        """A quantity of every measured run, `[measured, record]`."""
        return np.stack([curve[quantity] for curve in self.curves])

    @property
    def labels(self) -> np.ndarray:
        """Classes of the measured runs, `[measured, record]`."""
        return self.training["labels"][self.runs]


def compare_regret(measured: Measured) -> Comparison:
    """Sampled regret against supervised at the same parameters and states."""
    target = measured.stack("supervised_mean"), measured.stack("supervised_half_width")
    names = "regret and supervised", "estimate under the supervised loss"
    return _compared(measured, *names, target, "regret", "estimate under the sampled regret")


def compare_kl(measured: Measured) -> Comparison:
    """Divergence from the frozen policy against its value by another road, on the same states."""
    target = measured.stack("kl_reference_mean"), Z95 * measured.stack("kl_reference_sem")
    names = "KL and its exact potential", "exact potential by HMC, reweighted to the sampled states"
    return _compared(measured, *names, target, "kl", "estimate under KL to the frozen policy")


def _compared(
    measured: Measured,
    title: str,
    target_name: str,
    target: tuple[np.ndarray, np.ndarray],
    potential: str,
    name: str,
) -> Comparison:
    """Estimates under a potential against targets and their half widths, on the deep classes."""
    deep = np.isin(measured.labels, DEEP)
    value, error = measured.stack(f"{potential}_mean"), measured.stack(f"{potential}_half_width")
    return Comparison(
        f"{measured.name}: {title}",
        target_name,
        name,
        target[0][deep],
        target[1][deep],
        value[deep],
        error[deep],
        measured.labels[deep],
    )


def agreement_check(comparison: Comparison) -> Check:
    """At least 90 % of the points agree within the combined 95 % intervals."""
    share = comparison.agreement
    width = np.hypot(comparison.target_error, comparison.estimate_error) / Z95
    scores = (comparison.estimate - comparison.target) / width
    detail = "no checkpoint of class 5, 5+ or 6"
    if scores.size:
        detail = (
            f"{scores.size} checkpoints; difference in standard errors: mean {scores.mean():.2f}, "
            f"spread {scores.std():.2f}"
        )
    return Check(
        comparison.name,
        f"{comparison.estimate_label} against {comparison.target_label}, at every measured "
        "checkpoint of class 5, 5+ or 6.",
        "within the combined 95 % intervals at ≥ 90 % of checkpoints",
        share,
        bool(share >= 0.9),
        detail,
        GROUP,
    )


def plateau_estimates(measured: Measured, potential: str) -> list[tuple[int, str, float, float]]:
    """`(run, class, mean, sem)` of every plateau: the estimates of its records averaged."""
    found = []
    means, sems = measured.stack(f"{potential}_mean"), measured.stack(f"{potential}_sem")
    for index, row in enumerate(measured.labels):
        for plateau in plateaus(row, persistence=PERSISTENCE):
            inside = np.arange(plateau.first, plateau.last + 1)
            inside = inside[row[inside] == plateau.label]
            inside = inside[np.isfinite(means[index, inside])]
            if inside.size:
                mean = float(means[index, inside].mean())
                sem = float(np.sqrt(np.sum(sems[index, inside] ** 2))) / inside.size
                found.append((int(measured.runs[index]), plateau.label, mean, sem))
    return found


def jumps(measured: Measured, potential: str) -> list[Jump]:
    """Change of the estimate over every transition within a run."""
    found = []
    estimates = plateau_estimates(measured, potential)
    for (run, before, low, low_sem), (other, after, high, high_sem) in zip(
        estimates, estimates[1:], strict=False
    ):
        if run == other:
            error = float(Z95 * np.hypot(low_sem, high_sem))
            expected = _expected_change(before, after)
            found.append(Jump(measured.name, before, after, high - low, error, expected))
    return found


def _expected_change(before: str, after: str) -> float | None:
    """Asymptotic change between smooth classes; on 4-gons nothing is expected."""
    low, high = (tms.exact_llc(tms.parse_class(name), NUM_FEATURES) for name in (before, after))
    if low is None or high is None or not {before, after} <= set(DEEP):
        return None
    return high[0] - low[0]


def order_check(all_measured: Sequence[Measured]) -> Check:
    """The estimate rises from 5 to 5+ and from 5 to 6."""
    within = [
        jump.change > 0
        for measured in all_measured
        for jump in jumps(measured, "regret")
        if jump.before == "5" and jump.after in ("5+", "6")
    ]
    across = []
    for measured in all_measured:
        estimates = plateau_estimates(measured, "exact_regret")
        low = [mean for _, label, mean, _ in estimates if label == "5"]
        high = [mean for _, label, mean, _ in estimates if label in ("5+", "6")]
        across += [b > a for a in low for b in high]
    cases = within + across
    share = float(np.mean(cases)) if cases else float("nan")
    return Check(
        "order of 5, 5+ and 6",
        "Share of cases in which the estimate is larger at 5+ or 6 than at 5: transitions within a "
        "run (sampled regret), and all pairs of plateaus of the same training (exact regret).",
        "at least 95 %",
        share,
        bool(share >= 0.95),
        f"{len(within)} transitions within runs, {sum(within)} of them rising; {len(across)} pairs "
        f"of plateaus, {sum(across)} of them rising",
        GROUP,
    )


def find_transitions(
    measured: Measured, potential: str
) -> tuple[list[tuple[Transition, ...]], list[tuple[Detection, ...]]]:
    """Transitions of every measured run, from its labels and from its curves alone."""
    steps = measured.training["steps"]
    true = [label_transitions(list(steps), row, persistence=PERSISTENCE) for row in measured.labels]
    detected = []
    for index, run in enumerate(measured.runs):
        loss = measured.training["loss"][run]
        llc = measured.curves[index][f"{potential}_mean"]
        # A detector needs a number at every record; one without an estimate keeps the last.
        llc = np.where(np.isfinite(llc), llc, np.nanmedian(llc))
        curves = [Curve("loss", np.log(loss), LOG_LOSS_SHIFT), Curve("llc", llc, LLC_SHIFT)]
        detected.append(detect_transitions(steps, curves, min_segment=MIN_SEGMENT))
    return true, detected


def transition_score(measured: Measured, detected) -> TransitionScore:
    """Agreement of detected transitions with those known from labels, over all runs.

    Counted in records, whose spacing grows along a logarithmic schedule, and scored where labels
    know the truth: between the first and the last plateau of a run.
    """
    scores = []
    for row, found in zip(measured.labels, detected, strict=True):
        records = range(len(row))
        known = label_transitions(records, row, persistence=PERSISTENCE)
        span = labeled_range(records, row, persistence=PERSISTENCE)
        # A detection names the first record past half way: the change lies before it.
        seen = [d.index - 0.5 for d in found]
        scores.append(score_transitions(seen, known, tolerance=LAG_RECORDS, known=span))
    return total_score(scores)


def transition_check(measured: Measured, score: TransitionScore) -> Check:
    """How often transitions are found from the curves alone; the floor is a sanity bound."""
    spacing = float(np.median(np.diff(measured.training["steps"])))
    recall, precision = score.recall_interval(), score.precision_interval()
    return Check(
        f"{measured.name}: transitions from curves",
        "Transitions found from the curves of loss and learning coefficient alone, against the "
        f"class labels, within {LAG_RECORDS} records. The numbers are the result; no value is "
        "known in advance, and the target is only that curves find more than they miss.",
        "recall ≥ 0.5 and precision ≥ 0.5",
        score.to_dict(),
        bool(score.recall >= 0.5 and score.precision >= 0.5),
        f"lags in records of {spacing:g} training steps, detected minus known; 95 % intervals: "
        f"recall {recall[0]:.2f} to {recall[1]:.2f}, precision {precision[0]:.2f} to "
        f"{precision[1]:.2f}",
        GROUP,
    )


def compilation_check(all_measured: Sequence[Measured]) -> Check:
    """One compilation of the sampling program for a whole curve."""
    curves = [curve for measured in all_measured for curve in measured.curves]
    series = sum(name.endswith("_mean") for name in curves[0])
    most = max(int(curve["programs"]) for curve in curves)
    return Check(
        "one compilation",
        "Sampling programs compiled to measure a run, pilots and all checkpoints included; largest "
        f"number over the runs. A run has {series} series: a curve for each potential, and the "
        "reference of the sampled divergence.",
        f"at most {series}, one for a series",
        most,
        most <= series,
        group=GROUP,
    )

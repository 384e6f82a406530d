"""The page of training on the rungs: checks, tables, figure."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slt_rl.development.transitions import TransitionScore, total_score, wilson_interval
from slt_rl.difficulty.rungs import Rung
from slt_rl.difficulty.trained import labels_of, laws_of, regret_and_gain
from slt_rl.difficulty.trained_curves import SOURCES, TrainedScore, find, names_of
from slt_rl.report import Check, Table
from slt_rl.report.style import INK, class_color, class_legend, new_figure, ordered_classes, styled
from slt_rl.validation.curve_checks import Measured
from slt_rl.validation.curves import DEEP
from slt_rl.validation.training import PERSISTENCE, count_sequences, sequences
from toy_models import superposition as tms

SHOWN = ("exact regret", "KL")


def checks(climbed: Sequence[tuple[Rung, Measured]], scores: Sequence[TrainedScore]) -> list[Check]:
    """What must hold: labels, the order of the classes, and more found than missed."""
    kl = [s for s in scores if s.name == "KL" or s.name == "KL, drift weights"]
    order = sum(s.ordered for s in kl), sum(s.pairs for s in kl)
    turns = sum(s.rising for s in kl), sum(s.turns for s in kl)
    both = total_score([s.scores["both"] for s in kl])
    return [
        *_labels_checks(climbed),
        Check(
            "order of 5, 5+ and 6",
            "Pairs of plateaus of a rung with the coefficient under KL at 5 below that at 5+ or 6, "
            "all rungs of reinforcement learning.",
            "at least 95 %",
            f"{order[0]} of {order[1]}",
            bool(order[1] and order[0] >= 0.95 * order[1]),
        ),
        Check(
            "sign of the jump",
            "Transitions within a run between 5 and 5+ or 6 at which the coefficient under KL "
            "moves the right way, all rungs of reinforcement learning.",
            "at least 95 %",
            f"{turns[0]} of {turns[1]}",
            bool(turns[1] and turns[0] >= 0.95 * turns[1]),
        ),
        Check(
            "transitions under KL",
            "Transitions found from regret and coefficient under KL (under drift with weights), "
            "all rungs of reinforcement learning together.",
            "recall ≥ 0.5 and precision ≥ 0.5",
            both.to_dict(),
            bool(both.recall >= 0.5 and both.precision >= 0.5),
            f"95 % intervals: recall {_share(both.num_matched, both.num_true)}, precision "
            f"{_share(both.num_matched, both.num_detected)}",
        ),
    ]


def _labels_checks(climbed: Sequence[tuple[Rung, Measured]]) -> list[Check]:
    """The two ways to classify, on the rungs whose critical points stay where they are."""
    pairs = [_both_labels(r, m.training) for r, m in climbed if r.number not in (3, 4)]
    if not pairs:
        return []
    descent, levels = (np.concatenate([p[i].ravel() for p in pairs]) for i in (0, 1))
    both = (descent != "transit") & (levels != "transit")
    share = float(np.mean(descent[both] == levels[both]))
    check = Check(
        "labels",
        "Checkpoints, of rungs whose critical points stay, with a class by the gain of a short "
        "exact descent and one by the levels of the supervised loss, that have the same.",
        "at least 99 %",
        share,
        bool(share >= 0.99),
        f"{both.sum()} of {both.size} checkpoints; {np.mean(descent == levels):.3f} agree if "
        "transit counts as a class",
    )
    return [check]


def _both_labels(rung: Rung, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Classes by descent and by levels."""
    params = {name: np.asarray(arrays[name]) for name in ("W", "b")}
    count = params["b"].shape[1]
    laws = jax.tree.map(lambda x: x[np.zeros(count, int)], laws_of(rung.number, 5)[0])
    gain = regret_and_gain(rung, params, laws)[1]
    return labels_of(params, gain, laws), tms.classify(params)


def _share(hits: int, total: int) -> str:
    """A share with its Wilson interval."""
    if not total:
        return "–"
    low, high = wilson_interval(hits, total)
    return f"{hits}/{total} = {hits / total:.2f} [{low:.2f}, {high:.2f}]"


def training_table(climbed: Sequence[tuple[Rung, Measured]]) -> Table:
    """What the runs pass through."""
    table = []
    for rung, measured in climbed:
        arrays = measured.training
        known = sum("→" in name for name in _sequences(measured))
        sequences = ", ".join(f"{k}: {v}" for k, v in count_sequences(arrays["labels"]).items())
        rest = float(np.mean(arrays["labels"] != "transit"))
        table.append(
            (
                rung.number,
                rung.title,
                round(rest, 2),
                sequences,
                "; ".join(_sequences(measured)),
                known,
            )
        )
    header = (
        "rung",
        "difficulty",
        "share with a class",
        "all runs",
        "measured runs",
        "with transitions",
    )
    note = f"A class counts when it holds for {PERSISTENCE} records in a row."
    return Table("Runs", header, table, note)


def _sequences(measured: Measured) -> list[str]:
    return sequences(measured.labels)


def _scored(score: TransitionScore) -> tuple[Any, ...]:
    lag = score.median_lag
    return (
        _share(score.num_matched, score.num_detected),
        _share(score.num_matched, score.num_true),
        None if np.isnan(lag) else lag,
    )


def score_table(scores: Sequence[TrainedScore]) -> Table:
    """Precision, recall, lag by the rule of the main run."""
    header = (
        "rung",
        "potential, correction",
        "precision",
        "recall",
        "median lag",
        "trusted",
        "doubtful",
        "refused",
    )
    table = [(s.rung, s.name, *_scored(s.scores["both"]), *s.verdicts) for s in scores]
    note = (
        "Shares with Wilson 95 % intervals; lag in records, detected minus known. The regret is "
        "that under the law of the record."
    )
    return Table("Transitions from regret and coefficient together", header, table, note)


def source_table(scores: Sequence[TrainedScore]) -> Table:
    """The same from one curve alone."""
    header = ("rung", "potential, correction", "precision", "recall", "median lag")
    table: list[tuple[Any, ...]] = []
    for number in dict.fromkeys(s.rung for s in scores):
        own = [s for s in scores if s.rung == number]
        table.append((number, "regret alone, no coefficient", *_scored(own[0].scores["loss"])))
        table += [(number, s.name, *_scored(s.scores["llc"])) for s in own]
    return Table("Transitions from one curve alone", header, table)


def order_table(scores: Sequence[TrainedScore]) -> Table:
    """Levels by class, and whether they are in order."""
    header = (
        "rung",
        "potential, correction",
        "at 5",
        "at 5+",
        "at 6",
        "pairs in order",
        "jumps of the right sign",
    )
    table = [
        (
            s.rung,
            s.name,
            *(None if np.isnan(v) else round(v, 2) for v in s.levels.values()),
            _share(s.ordered, s.pairs),
            _share(s.rising, s.turns),
        )
        for s in scores
    ]
    note = (
        "Mean estimate over the plateaus of a class; pairs of plateaus with 5 below 5+ or 6; "
        "transitions within a run between 5 and 5+ or 6."
    )
    return Table("Levels of the coefficient", header, table, note)


def as_row(score: TrainedScore) -> dict[str, Any]:
    """A score as JSON values."""
    scores = {s: score.scores[s].to_dict() | {"lags": list(score.scores[s].lags)} for s in SOURCES}
    levels = {k: None if np.isnan(v) else v for k, v in score.levels.items()}
    return score._asdict() | {"scores": scores, "levels": levels}


def draw(climbed: Sequence[tuple[Rung, Measured]]) -> Figure:
    """Regret and two coefficients along one run of each rung."""
    with styled():
        figure = new_figure((2.3 * len(climbed) + 0.6, 5.6))
        axes = figure.subplots(3, len(climbed), sharex="col", squeeze=False)
        for column, (rung, measured) in enumerate(climbed):
            seen = [set(row) for row in measured.labels]
            index = int(np.argmax([10 * len(row & set(DEEP)) + len(row) for row in seen]))
            _draw_run(axes[:, column], rung, measured, index)
        for axis, text in zip(
            axes[:, 0], ("exact regret", *(rf"$\hat\lambda$, {n}" for n in SHOWN)), strict=True
        ):
            axis.set_ylabel(text)
        visited = {c for _, m in climbed for c in np.unique(m.labels)}
        levels = {str(c): tms.level(c, 6) for c in tms.known_classes(6)}
        handles = class_legend(ordered_classes(visited, levels))
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(10, 1 + 2 * len(climbed))
        )
    return figure


def _draw_run(axes: Sequence[Axes], rung: Rung, measured: Measured, index: int) -> None:
    """One run: points colored by class, dashed lines where a transition is detected."""
    run = measured.runs[index]
    labels, records = measured.labels[index], np.arange(1, measured.labels.shape[1] + 1)
    names = [_shown_name(rung, name) for name in SHOWN]
    values = [measured.training["loss"][run]]
    values += [measured.curves[index][f"{name}_mean"] for name in names]
    title = f"{rung.number} {rung.title.removeprefix('policy-dependent ')}"
    axes[0].set_title(textwrap.fill(title, 14))
    axes[0].set_yscale("log")
    for axis, y in zip(axes, values, strict=True):
        axis.plot(records, y, color="#c8c8c8", lw=0.8, zorder=2)
        axis.scatter(records, y, c=[class_color(c) for c in labels], s=11, lw=0, zorder=3)
    for axis, name in zip(axes[1:], names, strict=True):
        axis.set_ylim(0, 10)
        for detection in find(measured, name, "both")[index]:
            axis.axvline(detection.index + 0.5, color=INK, lw=0.9, ls=(0, (4, 2)), zorder=1)
    axes[-1].set_xlabel("record")


def _shown_name(rung: Rung, name: str) -> str:
    """The name of a potential on a rung: the corrected one, or the exact one under supervision."""
    found: Mapping[str, str] = {n: n for n in names_of(rung)}
    return found.get(name) or next(
        n for n in (f"{name}, drift weights", f"exact {name}") if n in found
    )

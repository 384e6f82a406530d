"""Tables of a report on a run."""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from slt_rl.agents.curve_file import StoredCurve
from slt_rl.report import Table


def interval(row: Mapping[str, Any], *, unit: float = 1.0) -> str:
    """A mean over seeds with its interval, in words and in a unit.

    Example:
        >>> interval({"mean": 2.0, "mean_low": 1.5, "mean_high": 2.5})
        '2 [1.5, 2.5]'
        >>> interval({"mean": 2.0, "mean_low": 2.0, "mean_high": 2.0})
        '2'
    """
    if row["mean"] is None:
        number = sum(x is not None for x in row["per_seed"])
        return f"in {number} of {len(row['per_seed'])} seeds" if number else "–"
    mean, *ends = (
        _number(row[name] / unit)
        for name in ("mean", "mean_low", "mean_high")
        if row[name] is not None
    )
    # Windows are the same for all seeds: an interval without width would claim too much.
    return f"{mean} [{', '.join(ends)}]" if set(ends) - {mean} else mean


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def landmark_table(described: Mapping[str, Any]) -> Table:
    """First and peak times, half-decay, end and overshoot of each curve."""
    names = ("first", "peak", "peak_step", "half_decay_step", "end", "overshoot")
    in_steps = ("first", "peak_step", "half_decay_step")
    rows = []
    for name, one in described.items():
        p_values = [f"{p:.2g}" for p in one["overshoot_p"] if p is not None]
        cells = [interval(one["landmarks"][n], unit=1e3 if n in in_steps else 1.0) for n in names]
        rows.append([name, *cells, ", ".join(p_values) or "–"])
    return Table(
        "landmarks",
        (
            "curve",
            "first (k)",
            "peak",
            "peak at (k)",
            "half-decay at (k)",
            "end",
            "overshoot",
            "p of each seed",
        ),
        rows,
        "Mean over seeds with its 95 % interval, alone where all seeds have one; (k): in 1,000 "
        "environment steps. First: the first record above zero. Half-decay: half way down from the "
        "peak to the end, which is the mean of the last tenth. Overshoot: peak over end; p is the "
        "probability of such an overshoot in a curve that only rises.",
    )


def form_table(described: Mapping[str, Any]) -> Table:
    """The form with the smallest BIC of each curve, and its parameters."""
    rows = []
    for name, one in described.items():
        forms = one["forms"]
        best = forms["table"][0]
        numbers = [parameter(k, v, best["sem"][k]) for k, v in best["params"].items()]
        seeds = [x["winner"] or "tie" for x in one["forms_of_seeds"]]
        winner = forms["winner"] or "tie: " + ", ".join(forms["tied"])
        rows.append([name, winner, ", ".join(numbers), f"{best['rho']:.2f}",
                     told_apart(forms.get("confusion")), ", ".join(seeds)])  # fmt: skip
    return Table(
        "forms",
        (
            "curve",
            "form of the mean",
            "parameters of the best",
            "rho",
            "told apart",
            "forms of the seeds",
        ),
        rows,
        "Formulas: docs/development.md, Forms. Times in units of the whole curve, errors those of "
        "white noise: where the autocorrelation "
        "rho of the residuals is far from zero, they are too small. (?): not determined by the "
        "curve, as each of two parameters that make up for each other; read the drawn form "
        "instead. Less than 2 units of BIC apart is a tie. Told apart: of series simulated from "
        "the best form and from the next one, those that the best form wins alone; many of the "
        "first and hardly any of the second, or the choice between the two says little. Locked to "
        "an event: a bump that begins where the event rises most steeply, in the same seed; of the "
        "mean over seeds, at the mean of these steps.",
    )


def told_apart(confusion: Mapping[str, Any] | None) -> str:
    """How often the best form wins if it is true, and if the next one is.

    Example:
        >>> told_apart({"num_series": 10, "truths": ["logistic", "power"],
        ...             "forms": ["power", "logistic"], "wins": [[0, 9], [8, 1]]})
        'logistic 9, power 1 of 10'
    """
    if confusion is None:
        return "–"
    best = confusion["forms"].index(confusion["truths"][0])
    wins = [row[best] for row in confusion["wins"]]
    found = ", ".join(f"{name} {n}" for name, n in zip(confusion["truths"], wins, strict=True))
    return f"{found} of {confusion['num_series']}"


def parameter(name: str, value: float, sem: float | None) -> str:
    """A parameter with its error, or marked as not determined.

    Example:
        >>> parameter("rise", 0.041, 0.004), parameter("size", 1.74, 1300.0)
        ('rise 0.041 ± 0.004', 'size 1.74 (?)')
    """
    # None: errors could not be computed. Times are at most about one.
    if sem is None or sem > 10 * max(abs(value), 1.0):
        return f"{name} {value:.3g} (?)"
    return f"{name} {value:.3g} ± {sem:.2g}"


def stage_table(described: Mapping[str, Any]) -> Table:
    """Boundaries of the stages of the mean and of each seed."""
    rows = []
    for name, one in described.items():
        seeds = [_steps(x["boundary_steps"]) for x in one["stages_of_seeds"]]
        stages = one["stages"]
        rows.append(
            [name, _steps(stages["boundary_steps"]), f"{stages['p_value']:.2g}", "; ".join(seeds)]
        )
    return Table(
        "stages",
        ("curve", "boundaries of the mean (k)", "p", "boundaries of each seed (k)"),
        rows,
        "Steps in thousands between which the level changes; p is the probability of such a change "
        "in autocorrelated noise without any. None: p above 0.05.",
    )


def _steps(steps: Sequence[float]) -> str:
    return ", ".join(f"{step / 1e3:.3g}" for step in steps) or "none"


def verdict_table(curves: Mapping[str, StoredCurve]) -> Table:
    """Verdicts, regimes and flags of the points of each curve."""
    rows = []
    for curve in curves.values():
        for i, localization in enumerate(curve.localizations):
            verdicts, regimes = curve.verdicts[:, i], curve.regimes[:, i]
            rows.append([curve.name, localization, _shares(verdicts), _shares(regimes),
                         kinds_of_flags(curve.flags[:, i].ravel())])  # fmt: skip
    return Table(
        "verdicts of the LLC", ("curve", "localization", "verdicts", "regimes", "flags"), rows
    )


def kinds_of_flags(flags: Iterable[str]) -> str:
    """The first of each kind of flag with how many there are; numbers in it do not make a kind.

    Example:
        >>> kinds_of_flags(["R-hat 1.051; run longer", "", "R-hat 1.2; run longer"])
        '2 as "R-hat 1.051; run longer"'
    """
    kinds: dict[str, list[str]] = {}
    for flag in flags:
        if flag:
            kinds.setdefault(re.sub(r"\d[\d.e+-]*", "0", flag), []).append(str(flag))
    return (
        ", ".join(f'{len(x)} as "{textwrap.shorten(x[0], 200)}"' for x in kinds.values()) or "none"
    )


def _shares(words: np.ndarray) -> str:
    found, counts = np.unique(words, return_counts=True)
    return ", ".join(f"{count} {word}" for word, count in zip(found, counts, strict=True))


def lag_table(lags: Sequence[Mapping[str, Any]], others: Sequence[str]) -> Table:
    """Lags of the turning points of the LLC behind those of other curves, all seeds having both."""
    rows = []
    for lag in lags:
        if lag["other"] in others and lag["mean"] is not None:
            bounds = "–" if lag["low"] is None else f"[{lag['low']:.2g}, {lag['high']:.2g}]"
            rows.append(
                [lag["curve"], lag["kind"], lag["other"], lag["other_kind"],
                 round(lag["mean"], 3), bounds]
            )  # fmt: skip
    return Table(
        "lags",
        (
            "curve",
            "turning point",
            "behind that of",
            "turning point",
            "doublings of the steps",
            "95 % interval over seeds",
        ),
        rows,
        "1 is at twice as many steps, -1 at half as many. Only pairs that every seed has.",
    )


def describe_curve(curve: StoredCurve) -> str:
    """What was measured, in a sentence or two."""
    facts = curve.facts
    part = f" of the part {facts['part']}" if facts["part"] else ""
    return (
        f"{curve.name}: the LLC of {facts['potential']}{part} on {facts['num_states']} states, "
        f"{facts['states']}; {facts['num_free_parameters']} free parameters of "
        f"{facts['num_parameters']}, {facts['num_varying_inputs']} of {facts['num_inputs']} inputs "
        f"vary on the states. nβ = {curve.nbeta:.4g}, localization "
        f"{' and '.join(f'{g:g}' for g in curve.localizations)}."
    )

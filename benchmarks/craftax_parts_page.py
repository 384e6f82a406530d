"""A page of `benchmarks.craftax_parts`: parts beside the whole, their changes, their order."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchmarks.craftax_kinds import FIXED, Kind, counted, point
from benchmarks.pages import Page
from slt_rl.agents.figures import COLORS, draw_points, scale_axis, verdict_handles
from slt_rl.report import Check, Table
from slt_rl.report.style import INK, MUTED, new_figure, short_number, styled

# From the inputs on; the layers of the two agents that have one place have one color.
NAMES = {
    "": "whole", "layer_0": "first layer", "layer_1": "second layer", "layer_2": "last layer",
    "encoder": "encoder", "core": "core", "actor": "head",
}  # fmt: skip
PART_COLORS = dict(zip(list(NAMES)[1:], 2 * COLORS[:3], strict=True))
TITLES = {
    "feedforward": "feed-forward, 2 x 128 units, 1M steps",
    "gru_8": "recurrent, width 8, 0.2M steps",
}
# Between which steps changes are taken: where the LLC of another measurement of the first agent
# turned (benchmarks.craftax_kinds), and the middle of the second.
TURNS = {"feedforward": (0, 16e3, 94e3, 1e6), "gru_8": (0, 98e3, 2e5)}
AGENTS_NOTES = {
    "feedforward": "Feed-forward: actor and critic are two networks of three layers each.",
    "gru_8": "Recurrent: encoder and core are shared by the heads of actor and critic; windows of "
    "64 steps.",
}
ABSTRACT = (
    "LLC of the actor, whole and layer by layer with all other parameters frozen at the "
    "checkpoint, under the KL to the frozen policy; of the critic under half the squared "
    "difference from the frozen values. 512 states, the same for all checkpoints of an agent or "
    "each checkpoint's own; one seed. Numbers at one localization and of one potential are "
    "comparable, others are not."
)
CURVES_NOTE = (
    "Figure: bands are 95 % intervals for the loss on these very states; the axis of steps is "
    "linear in its first fiftieth and logarithmic after it."
)
PARTS_NOTE = (
    "Estimates with their Monte-Carlo standard errors, chains of their own each, hence independent "
    "errors. No mark: trusted; ?: doubtful; !: refused. For a quadratic loss no part exceeds the "
    "whole, and the parts sum to at least the whole, with equality where they do not interact: the "
    "trace of h / (h + localization) is monotone and concave. A smaller sum says that the loss is "
    "not quadratic on the scale of the tether."
)
CHANGES_NOTE = (
    "Differences between two checkpoints with their standard errors. The steps were chosen before "
    "these points were measured."
)
ORDER_NOTE = (
    "Parts by the size of their coefficient: > where neither of two neighbors was refused and they "
    "are more than two standard errors of their difference apart, ≈ elsewhere."
)
EXACT_NOTE = (
    "The values are linear in the last layer of the critic and its bias, so that the loss is "
    "quadratic in them and the coefficient is ½ Σ h / (h + localization), with h the eigenvalues "
    "of nβ times the second moments of what the layer sees. Apart: the difference in standard "
    "errors of the estimate."
)
MAX_Z = 3.0


def make_page(
    name: str,
    kinds: Sequence[Kind],
    norms: Mapping[str, np.ndarray],
    *,
    exact: Mapping[str, np.ndarray],
) -> Page:
    """Tables and a figure of an agent.

    Args:
        name: The agent.
        kinds: All its curves, one for each localization.
        norms: Norm of each of its parts, `[checkpoint]`.
        exact: Of each curve whose coefficient is known what it is, `[checkpoint]`.
    """
    groups = [group for g in localizations(kinds) if (group := actors(kinds, g))]
    tables = [
        curves_table(name, kinds),
        *(parts_table(name, group) for group in groups),
        order_table(name, groups),
        changes_table(name, groups),
        norms_table(name, kinds, norms),
        others_table(name, kinds),
        *(exact_table(name, kind, exact[kind.name]) for kind in kinds if kind.name in exact),
    ]
    checks = [exact_check(kind, exact[kind.name]) for kind in kinds if kind.name in exact]
    title = "The LLC of the parts of a Craftax-Classic agent"
    abstract = f"{ABSTRACT} {AGENTS_NOTES[name]}"
    figures = {"curves": curves_figure(name, kinds)}
    return Page(
        f"craftax_parts_{name}", title, abstract, checks, [t for t in tables if t.rows], figures
    )


def localization(kind: Kind) -> float:
    """The localization of a curve."""
    return kind.curve.localizations[kind.index]


def localizations(kinds: Sequence[Kind]) -> list[float]:
    """All localizations, the strongest first."""
    return sorted({localization(kind) for kind in kinds}, reverse=True)


def actors(kinds: Sequence[Kind], at: float) -> list[Kind]:
    """The whole actor on fixed states and its parts, from the inputs on; none without the whole."""
    found = [k for k in kinds if k.name.startswith(FIXED) and localization(k) == at]
    found.sort(key=lambda kind: list(NAMES).index(kind.curve.facts["part"]))
    return found if FIXED in {kind.name for kind in found} else []


def label(kind: Kind) -> str:
    """The part that is free, in words."""
    return NAMES[kind.curve.facts["part"]]


def shown(mean: float, sem: float) -> str:
    """A number with its standard error."""
    return f"{mean:.2f} ± {sem:.2f}"


def curves_table(name: str, kinds: Sequence[Kind]) -> Table:
    """What was measured: one row for each curve."""
    body = [
        [name, kind.name, f"{localization(kind):g}", kind.curve.facts["num_free_parameters"],
         f"{kind.curve.nbeta:.1f}", counted(kind.values("verdicts")),
         counted(kind.values("regimes"))]
        for kind in kinds
    ]  # fmt: skip
    header = ("agent", "curve", "localization", "free parameters", "nβ", "verdicts", "regimes")
    return Table("Curves", header, body, CURVES_NOTE)


def parts_table(name: str, group: Sequence[Kind]) -> Table:
    """Whole and parts of an actor at every checkpoint, and their sum over the whole."""
    whole, *parts = group
    title = f"Parts of the actor: {name}, localization {localization(whole):g}"
    if not parts:
        return Table(title, (), ())
    steps = whole.curve.steps
    total, total_sem = sum_of(parts)
    mean, sem = whole.at(steps)
    ratio = total / mean
    ratio_sem = np.hypot(total_sem, ratio * sem) / mean
    body = [
        [int(step), *(point(kind, step) for kind in group), shown(total[i], total_sem[i]),
         shown(ratio[i], ratio_sem[i])]
        for i, step in enumerate(steps)
    ]  # fmt: skip
    header = ("step", *map(label, group), "sum of parts", "sum / whole")
    return Table(title, header, body, PARTS_NOTE)


def sum_of(parts: Sequence[Kind]) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the parts at every checkpoint and its standard error."""
    mean, sem = (np.array([part.values(field) for part in parts]) for field in ("mean", "sem"))
    return mean.sum(axis=0), np.sqrt((sem**2).sum(axis=0))


def order_table(name: str, groups: Sequence[Sequence[Kind]]) -> Table:
    """The parts by size at every checkpoint, a column for each localization."""
    parts = [group[1:] for group in groups if len(group) > 2]
    if not parts:
        return Table("", (), ())
    steps = parts[0][0].curve.steps
    body = [[int(step), *(order(group, step) for group in parts)] for step in steps]
    header = ("step", *(f"localization {localization(group[0]):g}" for group in parts))
    return Table(f"Order of the parts: {name}", header, body, ORDER_NOTE)


def order(parts: Sequence[Kind], step: int) -> str:
    """The parts at one checkpoint, the largest first.

    Example of a result: `first layer > last layer ≈ second layer`.
    """
    found = sorted((estimate(part, step) for part in parts), reverse=True)
    words = found[0].name
    for above, below in itertools.pairwise(found):
        apart = above.mean - below.mean > 2 * np.hypot(above.sem, below.sem)
        is_known = apart and above.is_usable and below.is_usable
        words += f" {'>' if is_known else '≈'} {below.name}"
    return words


class Estimate(NamedTuple):
    """One point of a part."""

    mean: float
    sem: float
    is_usable: bool
    name: str


def estimate(kind: Kind, step: int) -> Estimate:
    """The point of a part at a checkpoint; not usable if it was refused."""
    place = int(np.searchsorted(kind.curve.steps, step))
    mean, sem, verdict = (kind.values(field)[place] for field in ("mean", "sem", "verdicts"))
    return Estimate(float(mean), float(sem), verdict != "refused", label(kind))


def changes_table(name: str, groups: Sequence[Sequence[Kind]]) -> Table:
    """By how much whole and parts change between chosen checkpoints."""
    body = []
    if not groups:
        return Table("", (), ())
    for group in groups:
        steps = group[0].curve.steps
        chosen = np.unique([steps[np.argmin(np.abs(steps - step))] for step in TURNS[name]])
        for first, last in itertools.pairwise(chosen):
            between = f"{short_number(first, 3)} to {short_number(last, 3)}"
            cells = [change(kind, first, last) for kind in group]
            body.append([f"{localization(group[0]):g}", between, *cells])
    header = ("localization", "steps", *map(label, groups[0]))
    return Table(f"Changes: {name}", header, body, CHANGES_NOTE)


def change(kind: Kind, first: int, last: int) -> str:
    """The difference between two checkpoints with its standard error."""
    mean, sem = kind.at(np.array([first, last]))
    return f"{mean[1] - mean[0]:+.2f} ± {np.hypot(*sem):.2f}"


def norms_table(name: str, kinds: Sequence[Kind], norms: Mapping[str, np.ndarray]) -> Table:
    """How large the parameters of each part are."""
    parts = [part for part in NAMES if part in norms]
    steps = kinds[0].curve.steps
    body = [
        [int(step), *(round(float(norms[part][i]), 3) for part in parts)]
        for i, step in enumerate(steps)
    ]
    header = ("step", *(NAMES[part] for part in parts))
    return Table(f"Norm of the parameters: {name}", header, body if parts else ())


def others_table(name: str, kinds: Sequence[Kind]) -> Table:
    """The whole actor on fixed and own states, the whole critic."""
    found = [kind for kind in wholes(kinds) if localization(kind) == localizations(kinds)[0]]
    title = f"Losses and states: {name}, localization {localizations(kinds)[0]:g}"
    if len(found) < 2:
        return Table(title, (), ())
    body = [[int(s), *(point(kind, s) for kind in found)] for s in found[0].curve.steps]
    header = ("step", *(f"{loss(kind)}, {states(kind)} states" for kind in found))
    return Table(title, header, body)


def exact_table(name: str, kind: Kind, exact: np.ndarray) -> Table:
    """The estimates of a curve beside the coefficients that they must have."""
    steps = kind.curve.steps
    body = [
        [int(step), point(kind, step), f"{exact[i]:.2f}", f"{apart(kind, exact)[i]:+.1f}"]
        for i, step in enumerate(steps)
    ]
    title = f"Known answer: {name}, {label(kind)} of the critic, {localization(kind):g}"
    return Table(title, ("step", "estimate", "exact", "apart"), body, EXACT_NOTE)


def exact_check(kind: Kind, exact: np.ndarray) -> Check:
    """Whether the estimates of a curve are the coefficients that they must be."""
    worst = float(np.max(np.abs(apart(kind, exact))))
    text = f"{label(kind)} of the critic: largest distance from its exact LLC, standard errors"
    detail = f"{len(exact)} checkpoints"
    return Check("exact", text, f"<= {MAX_Z:g}", round(worst, 2), worst <= MAX_Z, detail)


def apart(kind: Kind, exact: np.ndarray) -> np.ndarray:
    """Differences from the exact coefficients in standard errors, `[checkpoint]`."""
    mean, sem = kind.at(kind.curve.steps)
    return (mean - exact) / sem


def wholes(kinds: Sequence[Kind]) -> list[Kind]:
    """The curves with all parameters free."""
    return [kind for kind in kinds if not kind.curve.facts["part"]]


def loss(kind: Kind) -> str:
    """The loss in a word or two."""
    return "value error" if kind.name.startswith("value") else "KL"


def states(kind: Kind) -> str:
    """Whose states."""
    return "own" if kind.name.split("-")[1] == "own" else "fixed"


def curves_figure(name: str, kinds: Sequence[Kind]) -> Figure:
    """The actor at each localization, then the critic."""
    groups = panels(kinds)
    with styled():
        figure = new_figure((3.6 * len(groups), 3.9))
        (axes,) = figure.subplots(1, len(groups), squeeze=False)
        for axis, group in zip(axes, groups, strict=True):
            _panel(axis, group)
        axes[0].set_ylabel(f"{TITLES[name]}\n$\\hat\\lambda$")
        figure.legend(handles=_legend(), loc="outside lower center", ncols=4)
    return figure


def panels(kinds: Sequence[Kind]) -> list[list[Kind]]:
    """The curves of each panel."""
    found = [
        [k for k in kinds if k.name.startswith("policy") and localization(k) == at]
        for at in localizations(kinds)
    ]
    return [group for group in [*found, [k for k in kinds if loss(k) == "value error"]] if group]


def _panel(axis: Any, group: Sequence[Kind]) -> None:
    """The whole, its parts and their sum, or the critic."""
    for kind in group:
        color = PART_COLORS.get(kind.curve.facts["part"], INK)
        style = (0, (3, 2)) if states(kind) == "own" else "-"
        draw_points(axis, kind.curve, (0, kind.index), color=color, style=style)
    parts = [kind for kind in group if kind.curve.facts["part"]]
    if len(parts) > 1:
        axis.plot(parts[0].curve.steps, sum_of(parts)[0], ":", color=MUTED, lw=1.2)
    what = "actor under KL" if loss(group[0]) == "KL" else "critic under value error"
    axis.set_title(f"{what}, localization {localization(group[0]):g}", fontsize=9)
    last = float(group[0].curve.steps[-1])
    scale_axis(axis, last)
    # Room for the marks of points that are zero, or the first or the last.
    axis.set_xlim(-last / 150, 1.12 * last)
    axis.set_ylim(bottom=-0.03 * axis.get_ylim()[1])


def _legend() -> list[Any]:
    lines = [("whole, fixed states", INK, "-"), ("whole, own states", INK, (0, (3, 2)))]
    names = ("first layer, or encoder", "second layer, or core", "last layer, or head")
    lines += [(name, color, "-") for name, color in zip(names, COLORS[:3], strict=True)]
    lines += [("sum of the parts", MUTED, ":")]
    return [
        *(Line2D([], [], color=color, ls=ls, lw=1.4, label=name) for name, color, ls in lines),
        Patch(color=INK, alpha=0.22, lw=0, label="95 % interval"),
        *verdict_handles(),
    ]

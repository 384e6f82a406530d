"""`slt-rl report RUN`: one page on a run, everything on one axis of training steps."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from slt_rl.agents import tables
from slt_rl.agents.curve_file import StoredCurve, load_curves
from slt_rl.agents.develop import check_origins, load_development
from slt_rl.agents.figures import achievement_figure, overview_figure, turning_figure
from slt_rl.agents.frame_figure import frame_figure
from slt_rl.agents.frames import has_map, play_frames
from slt_rl.agents.run import Run
from slt_rl.agents.series import ACHIEVEMENT, Series, event_series
from slt_rl.report import (
    Check,
    FigureFile,
    Report,
    Section,
    collect_provenance,
    save_figure,
    write_html,
    write_summary,
)

MAX_PANELS = 3


def write_report(run: Run, *, frame_steps: Sequence[int] | None = None) -> Report:
    """Writes `RUN/report.html`, `RUN/summary.json` and the figures in `RUN/figures/`.

    Args:
        run: The run; `slt-rl develop` has described it.
        frame_steps: Environment steps of the checkpoints whose agent is shown; if None the first,
            the one at the peak of the main event, one half way to the end, and the last.

    Returns:
        The report.

    Raises:
        ValueError: If the run has not been described, has no such checkpoint, or a file is missing,
            damaged or of another run.
    """
    start, folder = time.perf_counter(), Path(run.folder)
    missing = sorted(set(frame_steps or ()) - set(run.steps.tolist()))
    if missing:
        raise ValueError(f"frames: got {missing}, expected some of {run.steps.tolist()}")
    development, curves = _loaded(run)
    described = development["series"]
    # Before anything is drawn: a missing file or library is refused at once.
    series, env = event_series(run, window=development["window"]), run.env()
    events = main_events(described)
    sections = [_overview(folder, described, events, curves)]
    sections += _achievements(series, folder)
    sections.append(_turning(folder, development, events))
    sections += _frames(run, folder, described, (env, events, frame_steps))
    seconds = {"report": time.perf_counter() - start}
    settings = {"seeds": list(run.seeds), "window": f"{development['window']} updates"}
    report = Report(
        title=f"Development of {folder.name}",
        abstract=_abstract(run, described, curves),
        checks=_checks(curves) or [_no_curve()],
        sections=sections,
        provenance=collect_provenance(settings, seconds),
    )
    write_summary(folder, report)
    write_html(folder, report)
    return report


def _loaded(run: Run) -> tuple[dict[str, Any], dict[str, StoredCurve]]:
    """What `slt-rl develop` and `slt-rl curve` have left in the folder of the run."""
    development, curves = load_development(run.folder), load_curves(run.folder)
    if development["seeds"] != list(run.seeds):
        raise ValueError(
            f"{run.folder}/development.json: of seeds {development['seeds']}, but the run has "
            f"{list(run.seeds)}; run `slt-rl develop {run.folder}` again"
        )
    check_origins(run, curves)
    return development, curves


def main_events(described: Mapping[str, Any]) -> list[str]:
    """The events worth a panel: those with an excess, in its order, then by how far they overshoot.

    Example:
        >>> main_events({"return": {}, "plant": {"landmarks": {"overshoot": {"mean": 2.0}}}})
        ['plant']
    """

    def overshoot(name: str) -> float:
        return described[name]["landmarks"]["overshoot"]["mean"] or 0.0

    words = ("return", "excess ", "LLC ")
    plain = [n for n in described if not n.startswith(words) and not n.endswith("1000 steps")]
    first = [n.removeprefix("excess ") for n in described if n.startswith("excess ")]
    first = [n for n in first if n in plain]
    others = sorted((n for n in plain if n not in first), key=overshoot, reverse=True)
    return [*first, *others][:MAX_PANELS]


def _abstract(run: Run, described: Mapping[str, Any], curves: Mapping[str, StoredCurve]) -> str:
    steps, checkpoints = f"{int(run.steps[-1]):,}", len(run.steps)
    text = f"{_seeds(run)}, {steps} environment steps each, {checkpoints} checkpoints."
    end = described.get("return", {}).get("landmarks", {}).get("end", {}).get("mean")
    if end is not None:
        text += f" Mean return of the last tenth: {end:.3g}."
    for curve in curves.values():
        text += (
            f" The LLC ({curve.facts['potential']}; below: {curve.name}) was measured at "
            f"{len(curve.steps)} checkpoints of {_seeds(curve)}, at localization "
            f"{' and '.join(f'{g:g}' for g in curve.localizations)}."
        )
    return text


def _seeds(of: Run | StoredCurve) -> str:
    return f"{len(of.seeds)} seed{'s' * (len(of.seeds) > 1)}"


def _overview(
    folder: Path,
    described: Mapping[str, Any],
    events: Sequence[str],
    curves: Mapping[str, StoredCurve],
) -> Section:
    names = [n for n in ("return",) if n in described]
    for event in events:
        names += [n for n in (event, f"excess {event}") if n in described]
    figure = save_figure(
        overview_figure(described, names, curves),
        folder,
        "overview",
        caption="Return, events per episode and LLC over training; the axis of steps is linear in "
        "its first fiftieth and logarithmic after it. Thin gray lines are seeds, the blue line "
        "their mean with its 95 % Student interval, cut off at the panel; dashed the form with the "
        "smallest BIC, fitted to the mean; dotted the boundaries of stages of the mean. In the "
        "panels of the LLC each seed has its color; bands are 95 % intervals of the estimate on "
        "these states, open points are doubtful, crosses refused.",
        alt="Curves of return, events and learning coefficient over training steps.",
    )
    paragraphs = [
        "Return and events are counted per episode; an excess is all of an event minus those that "
        "were rewarded, since an achievement pays once per episode. "
        "Each window of training is a ratio of sums over the episodes that ended in it. A panel of "
        "the LLC is at one temperature and one localization for all checkpoints: within it "
        "differences along training mean something, between panels they do not. In this many "
        "dimensions there is no plateau in the localization, so that the numbers are "
        "coefficients at the stated pair, and not limits.",
    ]
    paragraphs += [tables.describe_curve(curve) for curve in curves.values()]
    if not curves:
        paragraphs.append(f"No LLC curve was measured yet; slt-rl curve {folder} measures it.")
    rest = [n for n in described if n.startswith((ACHIEVEMENT, "LLC ")) and n not in names]
    shown = {name: described[name] for name in [*names, *rest]}
    return Section(
        "Everything on one axis", paragraphs, [figure],
        [tables.landmark_table(shown), tables.form_table(shown), tables.stage_table(shown),
         *([tables.verdict_table(curves)] if curves else [])],
    )  # fmt: skip


def _achievements(series: Mapping[str, Series], folder: Path) -> list[Section]:
    """When each achievement is learned; nothing for a run without achievements."""
    names = [name for name in series if name.startswith(ACHIEVEMENT) and series[name].is_share]
    if not names:
        return []
    rates = np.stack([series[name].values.mean(axis=0) for name in names])
    labels = [name.removeprefix(ACHIEVEMENT) for name in names]
    figure = save_figure(
        achievement_figure(labels, series[names[0]].steps, rates),
        folder,
        "achievements",
        caption="Share of the episodes that unlock each achievement, mean over seeds.",
    )
    return [Section("Achievements", [], [figure])]


def _turning(folder: Path, development: Mapping[str, Any], events: Sequence[str]) -> Section:
    described, lags = development["series"], development["lags"]
    excess = [f"excess {n}" for n in events if f"excess {n}" in described]
    llc = [n for n in described if n.startswith("LLC ")]
    names = [*(n for n in ("return",) if n in described), *events, *excess, *llc]
    figure = save_figure(
        turning_figure(described, names),
        folder,
        "turning",
        caption="Where each curve rises most steeply, peaks, falls most steeply and dips, a line "
        "for each seed, the first on top; bars are 95 % intervals over the errors of the records. "
        "No turning point is known more closely than the records around it lie, whatever its bar: "
        "windows of events, checkpoints of the LLC. A curve that does not come down by a tenth of "
        "its range has no peak, one that does not rise again by as much no dip.",
    )
    text = (
        "Curves are smoothed over a twentieth of the axis before their turning points are read. A "
        "lag is how many doublings of the training steps one turning point comes after another, in "
        "the same seed; its interval is over seeds. With several pairs compared at once, one in "
        "twenty intervals misses zero by chance."
    )
    main = [*(n for n in ("return",) if n in described), *events, *excess]
    table = [tables.lag_table(lags, main)] if lags else []
    return Section("Where the curves turn", [text], [figure], table)


def _frames(run: Run, folder: Path, described: Mapping[str, Any], what: Any) -> list[Section]:
    """The agent at chosen checkpoints; a sentence where there is no map to draw."""
    env, events, steps = what
    if not events or not has_map(env):
        return [Section("The agent", ["This environment has no map to draw the agent on."])]
    event, seed = events[0], run.seeds[0]
    steps = default_frame_steps(run, described[event]) if steps is None else steps
    strips = [
        play_frames(
            jax.random.fold_in(jax.random.key(0), i), run, seed, env=env, step=s, event=event
        )
        for i, s in enumerate(steps)
    ]
    figure: FigureFile = save_figure(
        frame_figure(strips, run.event_names.index(event), event),
        folder,
        "frames",
        caption=f"Typical episodes of seed {seed}: of sixteen at each checkpoint, the one whose "
        f"count of {event} is the median. The yellow arrow is the agent, the white box what it "
        f"sees; over each picture the steps since the start and the count of {event} so far.",
        alt="Maps around the agent at several moments of an episode, for several checkpoints.",
    )
    return [Section("The agent", [], [figure])]


def default_frame_steps(run: Run, event: Mapping[str, Any]) -> list[int]:
    """The first checkpoint, that at the peak of an event, one half way to the end, and the last."""
    peak = event["steps"][int(np.argmax(event["mean"]))]
    last = float(run.steps[-1])
    wanted = [0.0, peak, float(np.sqrt(max(peak, 1.0) * last)), last]
    nearest = [int(run.steps[np.argmin(np.abs(run.steps - w))]) for w in wanted]
    return sorted(set(nearest))


def _checks(curves: Mapping[str, StoredCurve]) -> list[Check]:
    """What must hold of a curve before it is read."""
    checks = []
    for curve in curves.values():
        refused = int((curve.verdicts == "refused").sum())
        trusted = float((curve.verdicts == "trusted").mean())
        width = np.nanmedian((curve.high - curve.low) / 2, axis=-1)
        spread = np.nanmax(curve.mean, axis=-1) - np.nanmin(curve.mean, axis=-1)
        ratio = float(np.max(width / spread)) if curve.mean.shape[-1] > 1 else float("nan")
        name, group = curve.name, f"LLC {curve.name}"
        checks += [
            Check(f"{name}: refused", "Points that may not be quoted.", "0", refused, refused == 0,
                  group=group),
            Check(f"{name}: trusted", "Share of points without any flag.", ">= 0.5", trusted,
                  trusted >= 0.5, group=group),
            Check(f"{name}: structure", "Half width of the intervals over the range of the curve, "
                  "the worst seed and localization.", "< 0.5", ratio, ratio < 0.5, group=group),
        ]  # fmt: skip
    return checks


def _no_curve() -> Check:
    return Check("LLC curve", "An LLC curve was measured.", "at least one", 0, False)

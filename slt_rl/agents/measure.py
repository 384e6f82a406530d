"""`slt-rl curve RUN`: from a run folder to a curve in it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from slt_rl._numbers import check_count
from slt_rl.agents.curve import (
    DEFAULT_SAMPLING,
    LOCALIZATIONS,
    Sampling,
    chosen_checkpoints,
    measure_points,
)
from slt_rl.agents.curve_file import StoredCurve, curve_document, load_curve, write_curve
from slt_rl.agents.points import Point
from slt_rl.agents.run import Run
from slt_rl.agents.states import (
    States,
    even_indices,
    memory_of,
    own_states,
    stored_reference_states,
)
from slt_rl.agents.subjects import Subject, check_subject, make_subject
from slt_rl.progress import open_bar
from slt_rl.report import collect_provenance


def make_subjects(
    run: Run,
    *,
    of_values: bool = False,
    own: bool = False,
    part: str = "",
    seeds: Sequence[int] | None = None,
    num_checkpoints: int | None = None,
    num_states: int | None = None,
    seed: int = 0,
) -> list[Subject]:
    """What `slt-rl curve` measures: one subject for each seed of the run.

    Args:
        run: The run. Its reference states are kept in `RUN/curves/states-N.safetensors`.
        of_values: The value function instead of the policy.
        own: On the states of each checkpoint instead of fixed reference states.
        part: What is free, see `FrozenPart`; everything if empty.
        seeds: Seeds of the run; all if None.
        num_checkpoints: So many, evenly spaced from first to last; all if None.
        num_states: States, of each checkpoint or in all; 512 if None, 1024 steps of an agent with
            memory, which are windows of 64.
        seed: Seed of the states.

    Raises:
        ValueError: If the run has no such seed, checkpoints or part, or a file that is needed is
            damaged; before anything is played.
    """
    seeds = run.seeds if seeds is None else tuple(seeds)
    if not seeds or not set(seeds) <= set(run.seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"seeds: got {seeds}, expected different ones of {run.seeds}, those of {run.folder}"
        )
    indices = chosen_checkpoints(len(run.steps), num_checkpoints)
    check_count("seed", seed, 0)
    if num_states is None:
        num_states = 512 if memory_of(run) is None else 1024
    # All of them are played for the states.
    read = np.union1d(indices, even_indices(len(run.steps), _num_sources(run)))
    for s in run.seeds:
        check_subject(run, s, indices=read, of_values=of_values, part=part)
    return [
        make_subject(
            run,
            s,
            _states(run, s, (own, num_states, seed), indices),
            indices=indices,
            of_values=of_values,
            part=part,
        )
        for s in seeds
    ]


def _states(run: Run, run_seed: int, what: tuple[bool, int, int], indices: np.ndarray) -> States:
    own, num_states, seed = what
    if own:
        key = jax.random.fold_in(jax.random.key(seed), run_seed)
        return own_states(key, run, run_seed, indices=indices, num_states=num_states)
    path = Path(run.folder) / "curves" / f"states-{num_states}.safetensors"
    return stored_reference_states(
        path, run, seed=seed, num_states=num_states, num_sources=_num_sources(run)
    )


def _num_sources(run: Run) -> int:
    """Checkpoints of each seed that the reference states come from."""
    return min(4, len(run.steps))


def curve_name(*, of_values: bool = False, own: bool = False, part: str = "") -> str:
    """Name of a curve and of its files.

    Example:
        >>> curve_name(own=True), curve_name(of_values=True, part="layer_0/kernel:3")
        ('policy-own', 'value-reference-layer_0.kernel-3')
    """
    words = ["value" if of_values else "policy", "own" if own else "reference"]
    return "-".join([*words, *([part.replace("/", ".").replace(":", "-")] if part else [])])


def measure_curve(
    folder: Path,
    name: str,
    subjects: Sequence[Subject],
    *,
    seed: int = 0,
    localizations: Sequence[float] = LOCALIZATIONS,
    sampling: Sampling = DEFAULT_SAMPLING,
    progress: bool = True,
    **options: Any,
) -> StoredCurve:
    """Measures all subjects, with a bar that shows time left, estimate and flags.

    Args:
        folder: The curve goes to `folder/NAME.json`, its points to `folder/NAME/`.
        name: Name of the curve.
        subjects: One for each seed, with the same checkpoints.
        seed: Seed of the sampling.
        localizations: In 1/parameter^2, the same for all checkpoints.
        sampling: Chains and draws, the same for all checkpoints.
        progress: Show a bar; in a log, a line every ten seconds.
        **options: `at_once` and `num_threads` of `measure_points`.

    Returns:
        The curve, read back from its file.

    Raises:
        ValueError: If an argument is out of its range, or what is stored belongs to other settings.
    """
    _check_subjects(subjects)
    start, points = time.perf_counter(), {}
    total = sum(len(s.steps) for s in subjects) * len(localizations)
    with open_bar(total, show=progress, desc=name, unit="point", postfix="compiling") as bar:
        for subject in subjects:
            bar.set_description(f"{name}, seed {subject.seed}", refresh=False)
            points[subject.seed] = measure_points(
                subject,
                Path(folder) / name / f"seed-{subject.seed}",
                seed=seed,
                localizations=localizations,
                sampling=sampling,
                report_fn=lambda point: _show(bar, point),
                **options,
            )
    seconds = {"curve": time.perf_counter() - start}
    provenance = collect_provenance({"seed": seed, **sampling._asdict()}, seconds)
    path = Path(folder) / f"{name}.json"
    write_curve(path, curve_document(name, subjects[0].facts, points, provenance=provenance))
    return load_curve(path)


def _check_subjects(subjects: Sequence[Subject]) -> None:
    """Refuses what is no curve: the steps of the first stand for all of them."""
    seeds = [subject.seed for subject in subjects]
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"subjects: got those of seeds {seeds}, expected different ones")
    if any(not np.array_equal(subject.steps, subjects[0].steps) for subject in subjects):
        raise ValueError("subjects: expected the same checkpoints of all seeds")


def _show(bar: Any, point: Point) -> None:
    """Moves the bar on by a point and says what was found."""
    mean = "lost" if point["mean"] is None else f"{point['mean']:.4g}"
    text = f"step {point['step']}, localization {point['localization']:g}: {mean}"
    text += f" ({point['verdict']})" + "".join(f"; {flag[:60]}" for flag in point["flags"][:1])
    bar.set_postfix_str(text, refresh=False)
    bar.update()

"""The LLC at every checkpoint of a run: compiled once, stored point by point, resumable."""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

import slt_rl
from slt_rl._numbers import check_count, check_optional_count, check_positive
from slt_rl.agents.points import Point, PointStore, point_of
from slt_rl.agents.states import even_indices
from slt_rl.agents.subjects import Subject
from slt_rl.kept import program_text, versions

# Both were chosen by measurement on Craftax actors; see docs/agent-curves.md.
LOCALIZATIONS = (300.0, 100.0)
NUM_CHAINS, NUM_BURNIN, NUM_DRAWS = 4, 128, 256


class Sampling(NamedTuple):
    """How every point of a curve is sampled; the step size alone is calibrated point by point.

    Attributes:
        num_chains: Chains of a checkpoint, at least four.
        num_burnin: Draws dropped, during which the step is calibrated.
        num_draws: Draws kept of each chain.
        nbeta: Inverse temperature; the library's `n / log n` if None.
    """

    num_chains: int = NUM_CHAINS
    num_burnin: int = NUM_BURNIN
    num_draws: int = NUM_DRAWS
    nbeta: float | None = None


DEFAULT_SAMPLING = Sampling()


def measure_points(
    subject: Subject,
    folder: Path,
    *,
    seed: int = 0,
    localizations: Sequence[float] = LOCALIZATIONS,
    sampling: Sampling = DEFAULT_SAMPLING,
    at_once: int = 1,
    num_threads: int | None = None,
    report_fn: Callable[[Point], None] = lambda point: None,
) -> list[list[Point]]:
    """Measures every checkpoint of a subject at every localization, or reads what is stored.

    Each point is stored when it is finished. Its randomness comes from the seeds, the step of the
    checkpoint and the localization, so that a curve that was stopped and started again, or of which
    more checkpoints are measured later, has the same numbers. With `at_once > 1` neighbors share
    one program and one calibrated length: a group is measured, stored and taken up as a whole.

    Args:
        subject: Checkpoints of one seed and the loss.
        folder: Folder of the points of this subject.
        seed: Seed of the sampling.
        localizations: Strengths of the tether in 1/parameter^2, the same for all checkpoints.
        sampling: Chains, draws and temperature, the same for all checkpoints.
        at_once: Checkpoints sampled side by side in one program; more than one pays on a GPU only.
        num_threads: Points (or groups) measured at the same time; by default one for each core, at
            most two, and one on a GPU.
        report_fn: Called with each point when it is there, measured or read.

    Returns:
        Points `[localization][checkpoint]`.

    Raises:
        ValueError: If an argument is out of its range, or a stored point belongs to other settings.
    """
    localizations = check_settings(
        localizations, sampling, at_once=at_once, num_threads=num_threads
    )
    check_count("seed", seed, 0)
    check_at_once(at_once, subject.max_at_once)
    settings = {
        "versions": versions(), "seed": seed, "run_seed": subject.seed, "at_once": at_once,
        "sampling": list(sampling), "facts": subject.facts, "loss": _program(subject),
        "backend": jax.default_backend(),
    }  # fmt: skip
    store = PointStore(Path(folder), settings)
    key = jax.random.fold_in(jax.random.key(seed), subject.seed)
    measurer = _Measurer(key, subject, store, sampling, at_once)
    starts = range(0, len(subject.steps), at_once)
    groups = [range(i, min(i + at_once, len(subject.steps))) for i in starts]
    tasks = [(group, g) for group in groups for g in localizations]
    found: dict[tuple[int, float], Point] = {}
    for (group, g), points in measurer.all(tasks, num_threads or _num_threads()):
        for index, point in zip(group, points, strict=True):
            found[index, g] = point
            report_fn(point)
    return [[found[i, g] for i in range(len(subject.steps))] for g in localizations]


def _program(subject: Subject) -> str:
    """The program of the loss, which is the same for all checkpoints."""
    first = jax.tree.map(lambda x: x[0], subject.take([0]))
    return program_text(subject.losses, first, subject.data(0))


def check_settings(
    localizations: Sequence[float],
    sampling: Sampling,
    *,
    at_once: int = 1,
    num_threads: int | None = None,
) -> list[float]:
    """The localizations, if all settings are in their range; before states are played.

    Raises:
        ValueError: Naming the setting.
    """
    for name, least in (("num_chains", 4), ("num_burnin", 0), ("num_draws", 4)):
        check_count(name, getattr(sampling, name), least)
    if sampling.nbeta is not None:
        check_positive("nbeta", sampling.nbeta)
    check_count("at_once", at_once)
    check_optional_count("num_threads", num_threads)
    found = [check_positive("localizations", g) for g in localizations]
    if not found or len(set(found)) < len(found):
        raise ValueError(f"localizations: got {found}, expected different numbers, at least one")
    return found


def check_at_once(at_once: int, largest: int) -> None:
    """Refuses more checkpoints side by side than one program may sample.

    Raises:
        ValueError: Saying why.
    """
    if at_once > largest:
        single = ": with own states, or a part of the parameters, each checkpoint has its own data"
        raise ValueError(
            f"at_once: got {at_once}, expected at most {largest}"
            f"{single if largest == 1 else ', the checkpoints'}"
        )


class _Measurer(NamedTuple):
    """Measures groups of checkpoints, or reads them."""

    key: jax.Array
    subject: Subject
    store: PointStore
    sampling: Sampling
    at_once: int

    def all(self, tasks: list, num_threads: int):
        """Yields `(task, points)` in the order in which they are there."""
        # The first alone, so that the threads find the program compiled.
        yield tasks[0], self.one(tasks[0])
        pool = ThreadPoolExecutor(num_threads)
        try:
            pending = {pool.submit(self.one, task): task for task in tasks[1:]}
            for done in as_completed(pending):
                yield pending[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def one(self, task: tuple[range, float]) -> list[Point]:
        """The points of a group at one localization."""
        group, localization = task
        steps = [int(self.subject.steps[i]) for i in group]
        # The last group is filled up with its last checkpoint: one shape, one compilation.
        filled = [*group, *[group[-1]] * (self.at_once - len(group))]
        params, data = self.subject.take(filled), self.subject.data(group[0])
        digest = self.store.digest([np.asarray(x) for x in jax.tree.leaves((params, data))])
        stored = [self.store.load(step, localization, digest) for step in steps]
        if all(point is not None for point in stored):
            return [point for point in stored if point is not None]
        with jax.default_matmul_precision("float32"):
            curve = slt_rl.llc_curve(
                self._key(steps[0], localization),
                self.subject.make_target,
                params,
                data=data,
                nbeta=self.nbeta,
                localization=localization,
                num_chains=self.sampling.num_chains,
                num_burnin=self.sampling.num_burnin,
                num_draws=self.sampling.num_draws,
                chunk_size=len(filled),
                num_threads=1,
            )
        points = [point_of(step, e) for step, e in zip(steps, curve.estimates, strict=False)]
        for step, point in zip(steps, points, strict=True):
            self.store.save(step, localization, digest=digest, point=point)
        return points

    @property
    def nbeta(self) -> float:
        """The library's `n / log n` if none is given; `n` counts steps, of windows too."""
        n = self.subject.facts["num_states"]
        return n / math.log(n) if self.sampling.nbeta is None else self.sampling.nbeta

    def _key(self, step: int, localization: float) -> jax.Array:
        bits = np.float32(localization).view(np.uint32)
        return jax.random.fold_in(jax.random.fold_in(self.key, step), int(bits))


def _num_threads() -> int:
    if jax.default_backend() != "cpu":
        return 1
    usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    return min(len(usable), 2)


def chosen_checkpoints(num_checkpoints: int, wanted: int | None) -> np.ndarray:
    """Indices of `wanted` checkpoints, evenly spaced from the first to the last; all if None.

    Raises:
        ValueError: If there are fewer.

    Example:
        >>> chosen_checkpoints(101, 5).tolist()
        [0, 25, 50, 75, 100]
    """
    if wanted is None:
        return np.arange(num_checkpoints)
    if check_count("num_checkpoints", wanted) > num_checkpoints:
        raise ValueError(
            f"num_checkpoints: got {wanted}, expected 1 ... {num_checkpoints}, those of the run"
        )
    return even_indices(num_checkpoints, wanted)

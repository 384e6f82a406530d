"""A sweep of independent jobs on a cluster, through a launcher that exists: submitit, for Slurm."""

import dataclasses
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Command", "Outcome", "run_jobs"]


@dataclasses.dataclass(frozen=True)
class Command:
    """A program with its words, as a job; one that does not exit with 0 has failed.

    Args:
        words: The program and its arguments, one string each; no shell reads them.

    Raises:
        ValueError: If `words` is empty or one string.

    Example:
        >>> Command(["slt-rl", "curve", "runs/7"]).words[1]
        'curve'
    """

    words: tuple[str, ...]

    def __post_init__(self):
        if isinstance(self.words, str) or not self.words:
            raise ValueError(
                f"words: got {self.words!r}, expected the program and its arguments, one string "
                "each, such as ['slt-rl', 'curve', 'run']"
            )
        object.__setattr__(self, "words", tuple(map(str, self.words)))

    def __call__(self) -> None:
        """Runs the program; what it prints goes to the log of the job."""
        subprocess.run(self.words, check=True)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        name: The job's name.
        error: Why it failed, as the launcher tells it; empty if it ended well.
        log: File with what the job wrote to its standard error; beside it lies the other output.
    """

    name: str
    error: str
    log: Path

    def __str__(self) -> str:
        """One line that names the log of a job that failed."""
        return f"{self.name}: failed, see {self.log}" if self.error else f"{self.name}: done"


@dataclasses.dataclass(frozen=True)
class _Resumable:
    """A job that begins again, and so goes on, where the cluster took its machine away."""

    job: Callable[[], Any]

    def __call__(self) -> None:
        """Runs the job. What it returns is dropped: results lie in its folder, as data."""
        self.job()

    def checkpoint(self) -> Any:
        """The submission to put in the queue again; submitit asks for it before the job ends."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run_jobs(executor: Any, jobs: Mapping[str, Callable[[], Any]]) -> list[Outcome]:
    """Runs independent jobs with an executor of submitit, all at once, and waits for them.

    On Slurm they are one array of jobs, of which `slurm_array_parallelism` run at a time. A job
    that is preempted or reaches its time limit is put in the queue again (as often as the
    executor's `max_num_timeout` says for time limits), so it must be one that goes on where it was:
    an `slt-rl` command with its folder, `llc_curve` with a folder. So is the whole sweep: where
    this process was stopped, cancel what still runs and call it again.

    Args:
        executor: `submitit.AutoExecutor(folder)` or another executor of submitit, with the
            resources of a job set; submitit comes with `pip install slt-rl[cluster]`. It writes
            pickles of the jobs to `folder` and reads them: the folder must be one's own.
        jobs: What to run by name, each a `Command` or a function without arguments. Jobs write
            their results to folders of their own; what they return is dropped.

    Returns:
        One outcome for each job, in their order. A job that failed stops no other.

    Raises:
        ValueError: If the executor is none, or there are no jobs, or one cannot be called.

    Example:
        >>> import submitit  # doctest: +SKIP
        >>> executor = submitit.AutoExecutor("logs")  # doctest: +SKIP
        >>> executor.update_parameters(timeout_min=240, slurm_partition="gpu")  # doctest: +SKIP
        >>> jobs = {f"run {i}": Command(["slt-rl", "curve", f"runs/{i}"]) for i in range(100)}
        >>> for outcome in run_jobs(executor, jobs):  # doctest: +SKIP
        ...     print(outcome)
    """
    if not callable(getattr(executor, "submit_array", None)):
        raise ValueError(
            f"executor: got {executor!r}, expected an executor of submitit, such as "
            "submitit.AutoExecutor('logs')"
        )
    if not jobs:
        raise ValueError(f"jobs: got {jobs!r}, expected at least one by name")
    for name, job in jobs.items():
        if not callable(job):
            raise ValueError(f"jobs[{name!r}]: got {job!r}, expected a Command or a function")
    submitted = executor.submit_array([_Resumable(job) for job in jobs.values()])
    return [_outcome(name, job) for name, job in zip(jobs, submitted, strict=True)]


def _outcome(name: str, job: Any) -> Outcome:
    """Waits for a job."""
    error = job.exception()
    return Outcome(name, "" if error is None else str(error), Path(job.paths.stderr))

"""Jobs through submitit: each ends or says why not, and one that is preempted goes on."""

import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from slt_rl.launch import Command, Outcome, run_jobs

# The first time it is told that its machine is wanted, as Slurm does with this signal.
PREEMPTED_ONCE = """
import os, pathlib, signal, sys, time
mark = pathlib.Path(sys.argv[1])
if not mark.exists():
    mark.write_text("begun")
    os.kill(os.getppid(), signal.SIGUSR2)
    time.sleep(60)
mark.write_text(mark.read_text() + ", ended")
"""


def python(code, *words):
    return Command([sys.executable, "-c", code, *words])


class Here:
    """An executor with the calls of submitit that are used; a job runs when it is submitted."""

    def submit_array(self, jobs):
        return [self.ran(job) for job in jobs]

    def ran(self, job):
        try:
            error = job()
        except Exception as raised:
            error = raised
        paths = SimpleNamespace(stderr="logs/7_0_log.err")
        return SimpleNamespace(exception=lambda: error, paths=paths)


def test_every_job_has_an_outcome_and_failures_name_their_log():
    called = []
    jobs = {"a": lambda: called.append("a"), "b": python("raise SystemExit(3)"), "c": print}
    found = run_jobs(Here(), jobs)
    assert called == ["a"]
    assert [(x.name, bool(x.error)) for x in found] == [("a", False), ("b", True), ("c", False)]
    assert "exit status 3" in found[1].error
    assert [str(x) for x in found[:2]] == ["a: done", "b: failed, see logs/7_0_log.err"]


def test_what_is_no_job_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="executor: got None, expected an executor of submitit"):
        run_jobs(None, {"a": print})
    with pytest.raises(ValueError, match="jobs: got {}, expected at least one"):
        run_jobs(Here(), {})
    with pytest.raises(ValueError, match=r"jobs\['a'\]: got 'slt-rl', expected a Command"):
        run_jobs(Here(), {"a": "slt-rl"})
    with pytest.raises(ValueError, match="words: got 'slt-rl curve', expected the program"):
        Command("slt-rl curve")
    with pytest.raises(ValueError, match=r"words: got \(\)"):
        Command(())


@pytest.mark.very_slow
def test_the_local_executor_of_submitit(tmp_path):
    submitit = pytest.importorskip("submitit")
    executor = submitit.AutoExecutor(tmp_path / "logs", cluster="local")
    mark, file = tmp_path / "mark", tmp_path / "file"
    found = run_jobs(executor, {
        "function": functools.partial(file.write_text, "written"),
        "fails": python("import sys; sys.exit('no such run')"),
        "preempted": python(PREEMPTED_ONCE, str(mark)),
    })  # fmt: skip
    assert [str(x) for x in found] == [
        "function: done", f"fails: failed, see {found[1].log}", "preempted: done",
    ]  # fmt: skip
    assert file.read_text() == "written"
    assert mark.read_text() == "begun, ended"
    assert isinstance(found[1], Outcome)
    assert "no such run" in Path(found[1].log).read_text()

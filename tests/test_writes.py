"""What cannot be written is said clearly, and what was there stays: full disks, kills, Ctrl-C."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from slt_rl.array_files import load_arrays, save_arrays
from slt_rl.checkpoints import load_series, save_checkpoint
from slt_rl.validation.store import Store
from tests.failing_writes import fail_write


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "os.open"])
def test_a_write_that_fails_names_the_file_and_changes_nothing(tmp_path, monkeypatch, call, number):
    path = tmp_path / "a.safetensors"
    save_arrays(path, {"x": np.arange(3.0)})
    with monkeypatch.context() as failing:
        fail_write(failing, 1, call=call, number=number)
        with pytest.raises(
            OSError, match=r"a\.safetensors: cannot be written \(.*is kept"
        ) as found:
            save_arrays(path, {"x": np.zeros(9)})
    assert found.value.errno == number
    assert os.listdir(tmp_path) == [path.name]
    np.testing.assert_array_equal(load_arrays(path)[0]["x"], np.arange(3.0))


def test_others_may_read_what_the_user_lets_them_read(tmp_path):
    """A folder of results is shared; the mask of the process decides, as for any other file."""
    for mask, mode in ((0o022, 0o644), (0o077, 0o600)):
        before = os.umask(mask)
        try:
            save_arrays(tmp_path / "a.safetensors", {"x": np.zeros(1)})
        finally:
            os.umask(before)
        assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == mode


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/sub/a: cannot be written \(Not a directory\)"):
        save_arrays(tmp_path / "file" / "sub" / "a", {"x": np.zeros(1)})


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_series_on_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch, number):
    save_checkpoint(tmp_path, 0, {"w": np.zeros(3)})
    with monkeypatch.context() as failing:
        fail_write(failing, number)
        with pytest.raises(OSError, match="No space left on device"):
            for step in (1, 2):
                save_checkpoint(tmp_path, step, {"w": np.full(3, float(step))})
    assert load_series(tmp_path).steps.tolist() == [0, 1][: 1 + number // 3]
    save_checkpoint(tmp_path, 1, {"w": np.ones(3)})
    assert load_series(tmp_path).steps.tolist() == [0, 1]


def test_a_stage_on_a_full_disk_leaves_the_others(tmp_path, monkeypatch):
    store = Store(tmp_path, {})
    store.stage("one", lambda: {"x": np.zeros(2)})
    with monkeypatch.context() as failing:
        fail_write(failing, 1)
        with pytest.raises(OSError, match=r"two\.safetensors: cannot be written"):
            store.stage("two", lambda: {"x": np.ones(2)})
    assert store.stage("one", lambda: {}).reused
    assert not store.stage("two", lambda: {"x": np.ones(2)}).reused


# The system itself refuses to let the file grow: a half-written file, not an imagined one.
SMALL_FILES = """
import resource, sys
import numpy as np
from slt_rl.array_files import save_arrays
save_arrays(sys.argv[1], {"x": np.arange(3.0)})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
save_arrays(sys.argv[1], {"x": np.zeros(10_000)})
"""
# Kills a writer of checkpoints at moments the clock chooses; no operation of JAX has run, so that
# a fork is harmless. What a kill left must be what was written before, and must go on.
KILLED_WRITES = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
from slt_rl.checkpoints import load_series, recorded_steps, save_checkpoint

def write(folder):
    done = set(recorded_steps(folder).tolist()) if (folder / "index.json").exists() else set()
    for step in range(6):
        if step not in done:
            save_checkpoint(folder, step, {"w": np.random.default_rng(step).normal(size=5000)})

def alive(process):
    return os.waitpid(process, os.WNOHANG)[0] == 0

root, chance, kills, runs, begun = Path(sys.argv[1]), random.Random(0), 0, 0, 0
start = time.perf_counter()
write(root / "whole")
usual, whole = time.perf_counter() - start, load_series(root / "whole")
while kills < 100:
    folder, runs, finished = root / str(runs), runs + 1, False
    while not finished:
        process = os.fork()
        if process == 0:
            write(folder)
            os._exit(0)
        time.sleep(chance.uniform(0, 1.2 * usual))
        os.kill(process, signal.SIGKILL)
        finished = os.waitpid(process, 0)[1] == 0
        kills += not finished
        if (folder / "index.json").exists():
            begun += not finished
            for step, params in load_series(folder):
                assert params["w"].tobytes() == whole.at_step(step)["w"].tobytes(), step
    assert load_series(folder).params["w"].tobytes() == whole.params["w"].tobytes()
print(kills, runs, begun)
"""


def script(text, *words):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_file_that_may_not_grow_is_named_and_the_old_one_kept(tmp_path):
    done = script(SMALL_FILES, tmp_path / "a.safetensors")
    assert done.returncode == 1
    assert "a.safetensors: cannot be written (File too large)" in done.stderr.splitlines()[-1]
    assert os.listdir(tmp_path) == ["a.safetensors"]
    np.testing.assert_array_equal(load_arrays(tmp_path / "a.safetensors")[0]["x"], np.arange(3.0))


def test_a_hundred_kills_of_a_writer_lose_nothing(tmp_path):
    done = script(KILLED_WRITES, tmp_path)
    assert done.returncode == 0, done.stderr
    kills, runs, begun = map(int, done.stdout.split())
    assert kills >= 100 and runs >= 5 and begun >= 20

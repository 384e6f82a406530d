"""Eight simulated devices, and two processes, give the draws of one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from slt_rl.sharding import over_devices

ROOT = Path(__file__).resolve().parent.parent


def start(*words, flags=""):
    """A process of `tests.sharded_programs`, with the cache of compiled programs of the tests."""
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    environment |= {
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen=false {flags}",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.sharded_programs", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
    )  # fmt: skip


def answers(*processes):
    found = [process.communicate(timeout=900) for process in processes]
    for process, (_, said) in zip(processes, found, strict=True):
        assert process.returncode == 0, said
    return [json.loads(out.splitlines()[-1]) for out, _ in found]


def test_an_axis_that_the_devices_do_not_divide_is_refused():
    two = jax.local_devices()[:1] * 2
    with pytest.raises(ValueError, match=r"tree: got an array of shape \(3, 2\), expected a lead"):
        over_devices({"w": np.zeros((3, 2))}, devices=two)
    with pytest.raises(ValueError, match=r"shape \(\)"):
        over_devices({"w": np.zeros(())}, devices=two)


def on_eight_devices(layout):
    (found,) = answers(start(layout, flags="--xla_force_host_platform_device_count=8"))
    assert found["devices"] == 8
    return found


# A device multiplies its one network where one device multiplies eight together, with sums in
# another order: equal to rounding, which 256 steps of a contracting chain do not amplify.
ROUNDING = 1e-5


@pytest.mark.very_slow
def test_checkpoints_over_devices_have_the_draws_of_one():
    found = on_eight_devices("checkpoints")
    assert found["difference"] < ROUNDING
    assert found["alone"] == 0
    assert not any(found["sent"].values()), found["sent"]


@pytest.mark.very_slow
def test_calibration_over_devices_finds_the_same():
    assert on_eight_devices("calibrated")["difference"] < 1e-3


@pytest.mark.very_slow
def test_chains_over_devices_have_the_draws_of_one():
    found = on_eight_devices("chains")
    assert found["difference"] < ROUNDING
    assert found["share"] == 1 / 8


@pytest.mark.very_slow
def test_parameters_over_devices_have_the_draws_of_one():
    found = on_eight_devices("parameters")
    assert found["difference"] < ROUNDING
    assert found["share"] == 1 / 8
    # Scalars and sums of activations are sent, never the parameters of another device ...
    assert not any(sent["all-gather"] for sent in found["sent"].values()), found["sent"]
    # ... so that a device on which the parameters alone would not fit has room for all it needs.
    assert max(found["parts"].values()) < found["parameters"] < min(found["whole"].values())


@pytest.mark.very_slow
def test_two_processes_measure_one_curve(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    (alone,) = answers(start("processes", -1, port, tmp_path))
    both = answers(*(start("processes", number, port, tmp_path) for number in (0, 1)))
    assert [x["processes"] for x in (alone, *both)] == [1, 2, 2]
    # Each measured every other chunk, and both know all of them, bit for bit.
    chunks = [f"checkpoint-{i:06d}.safetensors" for i in (0, 2, 4, 6)]
    assert alone["files"] == chunks
    assert [x["files"] for x in both] == [chunks[::2], chunks[1::2]]
    for name in ("draws", "means", "verdicts"):
        assert both[0][name] == both[1][name] == alone[name]

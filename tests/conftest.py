"""Settings of the whole test session: double precision, one compilation cache, fixed examples."""

import gc
import os
import signal
from pathlib import Path

import hypothesis
import jax
import pytest

from slt_rl.cli import set_xla_flags

# The tests are statements about the CPU, whatever else the machine has, unless the caller says so;
# in the environment for the processes that tests start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
jax.config.update("jax_platforms", os.environ["JAX_PLATFORMS"])
# As the commands do: one thread within an operation, since the thread pool of XLA can hang (see
# docs/gotchas.md) and pytest's workers use the cores; and programs that compile in half the time.
set_xla_flags()
# A figure needs no screen.
os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).resolve().parent.parent

jax.config.update("jax_enable_x64", True)
# Most of the time of a test is compilation; the second run of the suite reads it from here.
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)

# Tracing makes many objects that live; looking through them as often as Python does by default is
# a twelfth of the time of a test that compiles.
gc.set_threshold(50_000, 10, 10)

# The same examples on every machine and every run; no deadline, since the first example compiles.
hypothesis.settings.register_profile("slt_rl", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("slt_rl")


@pytest.fixture
def interruptible():
    """Ctrl-C raises, as in a terminal: a process started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Where programs compile for longer than they run, LLVM optimizes nothing."""
    is_unoptimized = item.get_closest_marker("unoptimized") is not None
    jax.config.update("jax_disable_most_optimizations", is_unoptimized)
    try:
        return (yield)
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


# Linux allows a process 65,530 memory maps by default, and a compiled program takes about ten: a
# worker that keeps all programs of the suite is aborted by XLA near its end.
MAX_MAPS = 20_000


def num_maps() -> int:
    """Memory maps of this process, 0 where the system does not tell."""
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:
        return 0


@pytest.fixture(autouse=True, scope="module")
def release_programs():
    """Forgets compiled programs between modules before they become too many."""
    yield
    if num_maps() > MAX_MAPS:
        jax.clear_caches()

"""Programs compile lightly, unless the user or the version of XLA forbids it."""

import functools
import os
import threading

import jax
import jax.numpy as jnp
import pytest

from slt_rl import cli, compilation
from slt_rl.compilation import LIGHT_COMPILATION, LightJit, compiling, light_options, shapes_only


@pytest.fixture
def no_flags(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")


def test_what_the_user_has_set_stays(monkeypatch, no_flags):
    monkeypatch.setattr(compilation, "MEASURED_JAXLIB", "")
    assert light_options() == LIGHT_COMPILATION
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")
    assert light_options() == {"xla_cpu_use_fusion_emitters": False}


def test_another_version_gets_no_flag(monkeypatch, no_flags):
    monkeypatch.setattr(compilation, "MEASURED_JAXLIB", "none")
    assert light_options() == {}


@pytest.mark.parametrize(("backend", "level"), [("cpu", 1), ("cpu", 0), ("gpu", 1)])
def test_programs_for_the_cpu_alone_have_the_options(monkeypatch, no_flags, backend, level):
    given = {}

    def jit(function, compiler_options, **options):
        given.update(compiler_options or {}, **options)
        return function

    monkeypatch.setattr(compilation, "MEASURED_JAXLIB", "")
    monkeypatch.setattr(compilation.jax, "jit", jit)
    monkeypatch.setattr(compilation.jax, "default_backend", lambda: backend)
    assert LightJit(jnp.sum, level=level, static_argnums=1)(jnp.ones(2)) == 2
    expected = LIGHT_COMPILATION | {"xla_backend_optimization_level": level}
    expected = expected if backend == "cpu" else {}
    assert given == {**expected, "static_argnums": 1}


def test_the_level_that_the_user_has_set_stays(monkeypatch):
    given = {}
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")
    monkeypatch.setattr(compilation, "MEASURED_JAXLIB", "")
    monkeypatch.setattr(
        compilation.jax, "jit", lambda function, **options: given.update(options) or function
    )
    LightJit(jnp.sum, level=0)(jnp.ones(2))
    assert given == {"compiler_options": {"xla_cpu_use_fusion_emitters": False}}


def test_shapes_alone_compile_nothing():
    program = LightJit(lambda x: (x.sum(), x + 1))
    with shapes_only():
        total, more = program(program(jnp.zeros(3))[1])
    assert (total.shape, more.shape, program._cache_size()) == ((), (3,), 0)
    assert program(jnp.zeros(3))[0] == 0


def test_what_was_compiled_ahead_is_not_compiled_again():
    traces = []

    def add(x):
        traces.append(1)
        return x + 1

    program, given = LightJit(add), jnp.zeros(3)
    call = functools.partial(program, given)
    with compiling(call, call):
        given.delete()  # As a block of chains does with its start.
    assert program._cache_size() == 0 and len(traces) == 1
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    assert program(jnp.zeros(3)).tolist() == [1, 1, 1]
    assert len(traces) == 1 and not compiled


def test_the_block_may_run_before_anything_is_compiled(monkeypatch):
    began, seen = threading.Event(), []
    monkeypatch.setattr(compilation, "_compile", lambda _: seen.append(began.wait(5)))
    with compiling(functools.partial(LightJit(jnp.sum), jnp.zeros(3)), ready=0):
        began.set()
    assert seen == [True]


@pytest.mark.parametrize(
    ("command", "light"),
    [("validate", True), ("train craftax-classic", False), ("curve RUN", False)],
)
def test_commands_for_large_models_compile_as_usual(monkeypatch, no_flags, command, light):
    monkeypatch.setattr(compilation, "MEASURED_JAXLIB", "")
    cli.set_xla_flags(light=cli._parser().parse_args(command.split()).light)
    assert ("--xla_cpu_use_fusion_emitters=false" in os.environ["XLA_FLAGS"]) == light
    assert "--xla_cpu_multi_thread_eigen=false" in os.environ["XLA_FLAGS"]

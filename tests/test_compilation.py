"""Programs compile lightly, unless the user or the version of XLA forbids it."""

import jax.numpy as jnp
import pytest

from slt_rl import compilation
from slt_rl.compilation import LIGHT_COMPILATION, SLOWS_LOOPS, LightJit, light_options


@pytest.fixture
def no_flags(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")


def test_what_the_user_has_set_stays(monkeypatch, no_flags):
    monkeypatch.setattr(compilation, "MEASURED_JAXLIB", "")
    assert light_options() == LIGHT_COMPILATION
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=3")
    assert light_options() == {SLOWS_LOOPS: False}


def test_another_version_gets_no_flag(monkeypatch, no_flags):
    monkeypatch.setattr(compilation, "MEASURED_JAXLIB", "none")
    assert light_options() == {}


@pytest.mark.parametrize("is_loop", [False, True])
def test_a_program_is_compiled_with_its_options(monkeypatch, no_flags, is_loop):
    given = {}

    def jit(function, compiler_options, **options):
        given.update(compiler_options, **options)
        return function

    monkeypatch.setattr(compilation, "MEASURED_JAXLIB", "")
    monkeypatch.setattr(compilation.jax, "jit", jit)
    assert LightJit(jnp.sum, is_loop=is_loop, static_argnums=1)(jnp.ones(2)) == 2
    assert (SLOWS_LOOPS in given) != is_loop
    assert given["xla_backend_optimization_level"] == given["static_argnums"] == 1

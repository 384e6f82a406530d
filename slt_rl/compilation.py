"""How the library's programs are compiled: lightly on a CPU, where compiling takes the longest."""

import functools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import metadata
from typing import Any

import jax

from slt_rl.convolutions import with_fast_convolutions

# With these, programs compile on a CPU in about half the time. Only for the version they were
# measured with: XLA refuses a name that it does not know.
LIGHT_COMPILATION = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}
MEASURED_JAXLIB = "0.10."
# Of two threads that miss the same program both would compile it.
_COMPILING = threading.Lock()
_SHAPES_ONLY = ContextVar("shapes only", default=False)


def light_options() -> dict[str, Any]:
    """Options of XLA for a CPU, without those that the user has set in `XLA_FLAGS`."""
    if not metadata.version("jaxlib").startswith(MEASURED_JAXLIB):
        return {}
    given = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in LIGHT_COMPILATION.items() if name not in given}


class LightJit:
    """`jax.jit` of a function, compiled with `light_options` where the default device is a CPU.

    For what runs a few times in a call. Not for the chains: those of a large model take twice as
    long with these options. Which device is the default may be asked for only when the function is
    called: until the first operation a user may still choose one. Convolutions are fast in loops
    too, see `with_fast_convolutions`.

    Args:
        function: what to compile; called by the host alone, within no other program.
        level: of XLA's optimization; 0 for what takes no time worth mentioning.
        **options: as of `jax.jit`.

    Example:
        >>> LightJit(lambda x: x + 1)(1.0).item()
        2.0
    """

    def __init__(self, function: Callable, *, level: int = 1, **options: Any):
        functools.update_wrapper(self, function)
        self._level = {"xla_backend_optimization_level": level}
        fast = with_fast_convolutions(function, options.get("static_argnums", ()))
        self._jit = functools.partial(jax.jit, fast, **options)

    @functools.cached_property
    def _compiled(self) -> Any:
        light = light_options() if jax.default_backend() == "cpu" else {}
        # What the user has set is not among the options and stays.
        light |= {name: level for name, level in self._level.items() if name in light}
        return self._jit(compiler_options=light or None)

    def __call__(self, *arguments: Any) -> Any:
        """Calls the compiled function, or in `shapes_only` returns what shapes it would give."""
        if is_only_shapes():
            return self._compiled.eval_shape(*arguments)
        return self._compiled(*arguments)

    def __getattr__(self, name: str) -> Any:
        """`lower`, `clear_cache` and the rest of a function that `jax.jit` gives."""
        return getattr(self._compiled, name)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Within it every `LightJit` computes shapes alone, without compiling: of arrays or of shapes.

    Example:
        >>> with shapes_only():
        ...     LightJit(lambda x: x + 1)(jax.numpy.zeros(3)).shape
        (3,)
    """
    token = _SHAPES_ONLY.set(True)
    try:
        yield
    finally:
        _SHAPES_ONLY.reset(token)


def is_only_shapes() -> bool:
    """Whether this is within `shapes_only`."""
    return _SHAPES_ONLY.get()


@contextmanager
def compiling(*calls: functools.partial, ready: int = 1) -> Iterator[None]:
    """Compiles calls on a thread of its own while the block of `with` runs; at its end all are.

    All are traced before it: two threads that trace hinder each other, as compilers do not. An
    error of the compiler is left to the call itself, which meets it again.

    Args:
        *calls: of compiled functions, without keywords; arguments may be shapes of arrays.
        ready: the block begins when so many of the first are compiled.

    Example:
        >>> call = functools.partial(LightJit(lambda x: x + 1), 1.0)
        >>> with compiling(call):
        ...     pass
        >>> call().item()
        2.0
    """
    with ThreadPoolExecutor(1) as pool:
        compiled = []
        for call in calls:
            program: Any = call.func
            compiled.append(pool.submit(_compile, program.lower(*call.args)))
        wait(compiled[:ready])
        yield


def _compile(lowered: Any) -> None:
    with _COMPILING:
        lowered.compile()

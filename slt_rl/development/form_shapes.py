"""The functional forms of developmental curves, each separable into coefficients and shape.

Time `t` is scaled to [0, 1] over the curve. A form is `f(t) = sum_j coefficient_j * column_j(t;
shape)`: for given shape parameters the best coefficients are a linear problem, and so only the few
shape parameters need a search.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit

from slt_rl._numbers import check_count, check_numbers


class Scale(NamedTuple):
    """How a shape parameter is searched: `to_free` and back again."""

    to_free: Callable[[np.ndarray], np.ndarray]
    from_free: Callable[[np.ndarray], np.ndarray]


LINEAR = Scale(np.asarray, np.asarray)
LOG = Scale(np.log, np.exp)
LOGIT = Scale(logit, expit)


class Shape(NamedTuple):
    """A shape parameter.

    Attributes:
        name: Its name.
        grid: Values from which the search starts.
        low: Smallest value allowed.
        high: Largest value allowed; a fit that ends at a bound says so.
        scale: How it is searched.
    """

    name: str
    grid: tuple[float, ...]
    low: float
    high: float
    scale: Scale = LOG


@dataclasses.dataclass(frozen=True)
class Form:
    """A functional form.

    Attributes:
        name: Its name, for tables.
        coefficients: Names of the linear coefficients, one for each column. Without any, the curve
            is the only column itself.
        shapes: The shape parameters.
        columns_fn: `(t [n], shape parameters [..., p]) -> [..., n, columns]`.
    """

    name: str
    coefficients: tuple[str, ...]
    shapes: tuple[Shape, ...]
    columns_fn: Callable[[np.ndarray, np.ndarray], np.ndarray]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parameters, coefficients first."""
        return self.coefficients + tuple(shape.name for shape in self.shapes)

    def __call__(self, t: np.ndarray, params: np.ndarray) -> np.ndarray:
        """The curve `[n]` at scaled times `[n]`, for the parameters in the order of `names`."""
        num_linear = len(self.coefficients)
        columns = self.columns_fn(np.asarray(t, np.float64), np.asarray(params)[num_linear:])
        return columns @ params[:num_linear] if num_linear else columns[:, 0]

    def starts(self) -> np.ndarray:
        """All combinations of the grids that are canonical, `[start, p]`."""
        points = [np.array(x) for x in itertools.product(*(shape.grid for shape in self.shapes))]
        kept = [point for point in points if np.array_equal(point, self.canonical(point))]
        return np.array(kept, np.float64).reshape(len(kept), len(self.shapes))

    def canonical(self, shape: np.ndarray) -> np.ndarray:
        """Of equivalent shape parameters `[p]` those with times in order and rise below decay.

        Exchanging rise and decay, like exchanging two times, only changes the coefficients.
        """
        shape, names = np.array(shape, np.float64), [s.name for s in self.shapes]
        times = [i for i, name in enumerate(names) if name.startswith("time_")]
        for group in (
            times,
            [names.index("rise"), names.index("decay")] if "rise" in names else [],
        ):
            shape[group] = np.sort(shape[group])
        return shape


def _space(low: float, high: float, num: int) -> tuple[float, ...]:
    return tuple(float(x) for x in np.geomspace(low, high, num))


def _even(low: float, high: float, num: int) -> tuple[float, ...]:
    return tuple(float(x) for x in np.linspace(low, high, num))


def _rise(num: int) -> Shape:
    return Shape("rise", _space(0.01, 0.2, num), 1e-3, 10.0)


def _decay(num: int) -> Shape:
    return Shape("decay", _space(0.05, 1.0, num), 1e-3, 10.0)


def constant() -> Form:
    """`c`: no development at all."""
    return Form("constant", ("c",), (), lambda t, shape: np.ones((*shape.shape[:-1], t.size, 1)))


def logistic() -> Form:
    """`c + size / (1 + exp(-rate (t - middle)))`."""
    shapes = (
        Shape("rate", _space(4.0, 80.0, 8), 0.5, 1000.0),
        Shape("middle", _even(0.02, 0.98, 15), -1.0, 2.0, LINEAR),
    )
    return Form("logistic", ("c", "size"), shapes, _logistic)


def _logistic(t, shape):
    rate, middle = _split(shape)
    return _with_one(t, expit(rate * (t - middle)))


def power() -> Form:
    """`c + size (t + 0.01)^(-exponent)`."""
    shapes = (Shape("exponent", _space(0.05, 4.0, 14), 1e-2, 15.0),)
    return Form("power", ("c", "size"), shapes, _power)


def _power(t, shape):
    (exponent,) = _split(shape)
    return _with_one(t, (t + 0.01) ** -exponent)


def stretched_exponential() -> Form:
    """`c + size (1 - exp(-(t / time)^stretch))`."""
    shapes = (
        Shape("time", _space(0.02, 1.5, 12), 1e-3, 100.0),
        Shape("stretch", _space(0.3, 4.0, 8), 0.05, 20.0),
    )
    return Form("stretched exponential", ("c", "size"), shapes, _stretched)


def _stretched(t, shape):
    time, stretch = _split(shape)
    return _with_one(t, -np.expm1(-((t / time) ** stretch)))


def rise_decay() -> Form:
    """`c` until `onset`, then with `u = t - onset` a bump and a shift to a new level.

    `c + size (exp(-u/decay) - exp(-u/rise)) + shift (1 - exp(-u/rise))`.
    """
    onset = Shape("onset", _even(0.0, 0.6, 16), -0.5, 1.0, LINEAR)
    return Form("rise and decay", ("c", "size", "shift"), (onset, _rise(5), _decay(6)), _rise_decay)


def _rise_decay(t, shape):
    onset, rise, decay = _split(shape)
    u = np.maximum(t - onset, 0.0)
    return _with_one(t, np.exp(-u / decay) - np.exp(-u / rise), -np.expm1(-u / rise))


def event_locked(steps: Sequence[float], times: Sequence[float]) -> Form:
    """A fast rise and slow decay at each of several *observed* times.

    `c + sum_i size_i (exp(-u_i/decay) - exp(-u_i/rise))` with `u_i = max(t - time_i, 0)`. Its
    competitor is `free_bumps` with as many bumps.

    Args:
        steps: The times of the curve that will be fitted; its first and last set the scale.
        times: When the events were first observed, in the unit of `steps`.

    Raises:
        ValueError: If there is no time, one is there twice, or one is not inside the curve.
    """
    axis, found = check_numbers("steps", steps), check_numbers("times", times)
    if axis.ndim != 1 or axis.size < 2 or not np.isfinite(axis).all():
        raise ValueError(f"steps: got shape {axis.shape}, expected the finite times of a curve")
    first, last = float(axis[0]), float(axis[-1])
    inside = found.ndim == 1 and found.size and np.all((first <= found) & (found < last))
    if not inside or np.unique(found).size < found.size:
        raise ValueError(
            f"times: got {found.tolist()}, expected different times in [{first}, {last})"
        )
    scaled = tuple(float(time) for time in (found - first) / (last - first))

    def columns(t, shape):
        rise, decay = _split(shape)
        return _with_one(t, *(_bump(t - time, rise, decay) for time in scaled))

    sizes = tuple(f"size_{i + 1}" for i in range(len(scaled)))
    return Form("event-locked", ("c", *sizes), (_rise(8), _decay(8)), columns)


def free_bumps(num_bumps: int) -> Form:
    """The bumps of `event_locked` at free times, of which there are `num_bumps`, at most three.

    Raises:
        ValueError: If the number is not 1, 2 or 3.
    """
    if check_count("num_bumps", num_bumps) > 3:
        raise ValueError(f"num_bumps: got {num_bumps}, expected 1, 2 or 3")
    grid = _even(0.0, 0.95, (0, 20, 14, 10)[num_bumps])
    numbers = range(1, num_bumps + 1)
    times = tuple(Shape(f"time_{i}", grid, -0.5, 1.0, LINEAR) for i in numbers)

    def columns(t, shape):
        *onsets, rise, decay = _split(shape)
        return _with_one(t, *(_bump(t - onset, rise, decay) for onset in onsets))

    sizes = tuple(f"size_{i}" for i in numbers)
    return Form("free bumps", ("c", *sizes), (*times, _rise(4), _decay(4)), columns)


def replicator() -> Form:
    """Share of a strategy in a population of two: `1 / (1 + (1/start - 1) exp(-advantage t))`.

    The solution of `x' = advantage x (1 - x)`, the natural policy gradient of a softmax over two
    actions. It has no free level or size: the curve must be a share.
    """
    shapes = (
        Shape("start", (1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99), 1e-9, 1 - 1e-9, LOGIT),
        Shape("advantage", _even(-60.0, 60.0, 41), -1000.0, 1000.0, LINEAR),
    )
    return Form("replicator", (), shapes, _replicator)


def _replicator(t, shape):
    start, advantage = _split(shape)
    return expit(logit(start) + advantage * t)[..., None]


def standard_forms() -> tuple[Form, ...]:
    """Constant, logistic, power, stretched exponential, and rise and decay."""
    return (constant(), logistic(), power(), stretched_exponential(), rise_decay())


def _bump(u: np.ndarray, rise: np.ndarray, decay: np.ndarray) -> np.ndarray:
    u = np.maximum(u, 0.0)
    return np.exp(-u / decay) - np.exp(-u / rise)


def _split(shape: np.ndarray) -> list[np.ndarray]:
    """The shape parameters apart, each `[..., 1]` to meet the times."""
    return [shape[..., i, None] for i in range(shape.shape[-1])]


def _with_one(t: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """A column of ones and the others, `[..., n, columns]`."""
    return np.stack([np.ones_like(columns[0]), *columns], axis=-1)

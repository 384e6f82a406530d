"""Fits of functional forms to curves, compared by an information criterion.

Least squares by variable projection (Golub and Pereyra, "The differentiation of pseudo-inverses and
nonlinear least squares problems whose variables separate", 1973): the coefficients are eliminated,
all starts of a grid are scored at once, and the best few are polished. A fit is deterministic.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize

from slt_rl._numbers import check_numbers
from slt_rl.development.form_shapes import Form, standard_forms

TIE = 2.0
_NUM_POLISHED = 3


@dataclasses.dataclass(frozen=True)
class FormFit:
    """A form fitted to a curve of `n` points.

    Attributes:
        form: The form.
        params: All `k` parameters, in the order of `form.names`; times in units of the whole curve.
        covariance: `[k, k]`, `sigma^2 (J^T J)^-1` of white noise; inf where the data do not
            determine the parameters.
        rss: Residual sum of squares.
        num_points: Number of points `n`.
        rho: Autocorrelation at lag one of the residuals. Far from zero, the noise is not white:
            standard errors and differences of BIC are too confident, or the form is wrong.
        at_bound: Names of shape parameters that ended at a bound of their range.
        time_range: First and last time of the curve, which the scaled times 0 and 1 stand for.
    """

    form: Form
    params: np.ndarray
    covariance: np.ndarray
    rss: float
    num_points: int
    rho: float
    at_bound: tuple[str, ...]
    time_range: tuple[float, float]

    @property
    def sem(self) -> np.ndarray:
        """Standard errors of the parameters, `[k]`."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def noise_std(self) -> float:
        """Standard deviation of the residuals, `sqrt(rss / (n - k))`."""
        return float(np.sqrt(self.rss / (self.num_points - self.params.size)))

    @property
    def bic(self) -> float:
        """`n log(rss / n) + (k + 1) log n`; the noise is a parameter too."""
        penalty = (self.params.size + 1) * np.log(self.num_points)
        return float(self.num_points * np.log(self.rss / self.num_points) + penalty)

    def predict(self, times: np.ndarray) -> np.ndarray:
        """The fitted curve at times in the unit of the data."""
        first, last = self.time_range
        return self.form((np.asarray(times, np.float64) - first) / (last - first), self.params)


@dataclasses.dataclass(frozen=True)
class FormComparison:
    """Forms fitted to one curve, the smallest BIC first.

    Attributes:
        fits: The fits, sorted by BIC.
    """

    fits: tuple[FormFit, ...]

    @property
    def tied(self) -> tuple[str, ...]:
        """Names of the forms less than 2 units of BIC above the best, the best itself included."""
        return tuple(f.form.name for f in self.fits if f.bic < self.fits[0].bic + TIE)

    @property
    def winner(self) -> str | None:
        """Name of the best form, or None if another one is tied with it."""
        return self.tied[0] if len(self.tied) == 1 else None

    def __str__(self) -> str:
        best, tied = self.fits[0].bic, self.tied
        lines = [f"{'form':24}{'k':>3}{'dBIC':>10}{'noise':>11}{'rho':>7}"]
        for fit in self.fits:
            marks = ["tied"] * (len(tied) > 1 and fit.form.name in tied)
            marks += [f"{name} at its bound" for name in fit.at_bound]
            lines.append(
                f"{fit.form.name:24}{fit.params.size:3}{fit.bic - best:10.1f}"
                f"{fit.noise_std:11.3g}{fit.rho:7.2f}  {', '.join(marks)}".rstrip()
            )
        return "\n".join(lines)


def fit_form(times: np.ndarray, values: np.ndarray, form: Form) -> FormFit:
    """Fits one form by least squares.

    Args:
        times: Increasing times, `[n]`, in any unit; scaled to [0, 1].
        values: The curve, `[n]`.
        form: The form.

    Returns:
        The fit.

    Raises:
        ValueError: If times or values have gaps (nan), times do not increase, lengths differ, or
            there are too few points for the parameters of the form and the noise.

    Example:
        >>> from slt_rl.development import power
        >>> t = np.linspace(0.0, 1.0, 50)
        >>> fit = fit_form(t, 2.0 + 0.5 * (t + 0.01) ** -0.7, power())
        >>> dict(zip(fit.form.names, fit.params.round(4).tolist()))
        {'c': 2.0, 'size': 0.5, 'exponent': 0.7}
    """
    return compare_forms(times, values, (form,)).fits[0]


def compare_forms(
    times: np.ndarray, values: np.ndarray, forms: Sequence[Form] | None = None
) -> FormComparison:
    """Fits several forms to one curve and sorts them by BIC.

    Args:
        times: Increasing times, `[n]`.
        values: The curve, `[n]`.
        forms: The forms; `standard_forms()` if None.

    Returns:
        The comparison. Never read its winner alone: `confusion_table` says how often such data let
        the forms be told apart.

    Raises:
        ValueError: As `fit_form`, or if there is no form.

    Example:
        >>> t = np.arange(100)
        >>> noise = np.random.default_rng(0).normal(size=100)
        >>> compare_forms(t, 5 / (1 + np.exp(-(t - 40) / 4)) + 0.1 * noise).winner
        'logistic'
    """
    forms = check_forms(forms)
    times, values = check_curve(times, values, forms)
    time_range = (float(times[0]), float(times[-1]))
    scaled = (times - times[0]) / (times[-1] - times[0])
    fits = [fit_prepared(prepare_form(form, scaled), values, time_range) for form in forms]
    return FormComparison(tuple(sorted(fits, key=lambda fit: fit.bic)))


class Prepared(NamedTuple):
    """What the fits of all curves at the same times share: an orthonormal basis of each start."""

    form: Form
    times: np.ndarray
    starts: np.ndarray
    bases: np.ndarray


def prepare_form(form: Form, scaled: np.ndarray) -> Prepared:
    """Columns of all starts of a form at scaled times `[n]`."""
    starts = form.starts()
    columns = form.columns_fn(scaled, starts)
    bases = np.linalg.qr(columns)[0] if form.coefficients else columns
    return Prepared(form, scaled, starts, bases)


def fit_prepared(
    prepared: Prepared, values: np.ndarray, time_range: tuple[float, float]
) -> FormFit:
    """Fits one curve; `time_range` is only recorded."""
    form, scaled = prepared.form, prepared.times
    projected = np.einsum("snc,n->sc", prepared.bases, values)
    if form.coefficients:
        scores = -np.sum(projected**2, axis=1)
    else:
        scores = np.sum(prepared.bases[:, :, 0] ** 2, axis=1) - 2 * projected[:, 0]
    best = np.argsort(scores)[: _NUM_POLISHED if form.shapes else 1]
    candidates = [_polish(form, scaled, values, prepared.starts[i]) for i in best]
    shape = min(candidates, key=lambda s: np.sum(_project(form, scaled, values, s)[1] ** 2))
    shape = form.canonical(shape)
    coefficients, residuals = _project(form, scaled, values, shape)
    params = np.concatenate([coefficients, shape])
    # Residuals below the rounding of the data are no evidence.
    # Its square must not vanish for a series of zeros.
    floor = values.size * max(1e-12 * np.max(np.abs(values)), 1e-150) ** 2
    rss = max(float(residuals @ residuals), floor)
    bounds = [
        s.name
        for s, x in zip(form.shapes, shape, strict=True)
        if np.isclose(x, s.low, rtol=1e-6) or np.isclose(x, s.high, rtol=1e-6)
    ]
    centered = residuals[1:] @ residuals[:-1]
    return FormFit(
        form=form,
        params=params,
        covariance=_covariance(form, scaled, params, rss / (values.size - params.size)),
        rss=rss,
        num_points=values.size,
        rho=float(centered / rss),
        at_bound=tuple(bounds),
        time_range=time_range,
    )


def _polish(form: Form, t: np.ndarray, values: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The shape parameters at a local minimum near a start."""
    if not form.shapes:
        return start

    def natural(free):
        moved = [float(s.scale.from_free(x)) for s, x in zip(form.shapes, free, strict=True)]
        return np.clip(moved, [s.low for s in form.shapes], [s.high for s in form.shapes])

    def residuals(free):
        return _project(form, t, values, natural(free))[1]

    free = [float(s.scale.to_free(np.asarray(x))) for s, x in zip(form.shapes, start, strict=True)]
    # Far outside of the bounds exp overflows; there the clipped curve is constant anyway.
    with np.errstate(over="ignore"):
        return natural(optimize.least_squares(residuals, free, method="lm", max_nfev=200).x)


def _project(form: Form, t: np.ndarray, values: np.ndarray, shape: np.ndarray):
    """The best coefficients for a shape, and the residuals."""
    columns = form.columns_fn(t, shape)
    if not form.coefficients:
        return np.empty(0), values - columns[:, 0]
    coefficients = np.linalg.lstsq(columns, values)[0]
    return coefficients, values - columns @ coefficients


def _covariance(form: Form, t: np.ndarray, params: np.ndarray, variance: float) -> np.ndarray:
    """`variance * (J^T J)^-1` with the Jacobian by central differences; inf if it is singular."""
    jacobian = np.empty((t.size, params.size))
    for i, value in enumerate(params):
        step = 1e-5 * max(abs(value), 1e-3)
        up, down = params.copy(), params.copy()
        up[i], down[i] = value + step, value - step
        jacobian[:, i] = (form(t, up) - form(t, down)) / (2 * step)
    length = np.linalg.norm(jacobian, axis=0)
    if not np.all(np.isfinite(length)) or np.any(length == 0):
        return np.full((params.size, params.size), np.inf)
    singular, right = np.linalg.svd(jacobian / length, full_matrices=False)[1:]
    if singular[-1] < 1e-9 * singular[0]:
        return np.full((params.size, params.size), np.inf)
    root = (right.T / singular) / length[:, None]
    return variance * root @ root.T


def check_forms(forms: Sequence[Form] | None) -> tuple[Form, ...]:
    """The forms, `standard_forms()` if None; raises if there is none, or one is no form."""
    if forms is None:
        return standard_forms()
    if isinstance(forms, Form) or not all(isinstance(form, Form) for form in forms):
        raise ValueError(f"forms: got {forms!r}, expected a list of forms, such as [power()]")
    if not len(forms):
        raise ValueError("forms: got none, expected at least one form")
    return tuple(forms)


def check_curve(
    times: np.ndarray, values: np.ndarray, forms: Sequence[Form]
) -> tuple[np.ndarray, np.ndarray]:
    """Times and values as float64, or the errors of `compare_forms`."""
    times, values = check_numbers("times", times), check_numbers("values", values)
    if times.ndim != 1 or values.shape != times.shape:
        raise ValueError(
            f"values: got shape {values.shape}, expected one for each of the times, {times.shape}"
        )
    for name, array in (("times", times), ("values", values)):
        if not np.all(np.isfinite(array)):
            bad = np.flatnonzero(~np.isfinite(array)).tolist()
            raise ValueError(
                f"{name}: got gaps (nan or infinite) at the records {bad}; leave these records "
                "out of both times and values"
            )
    if np.any(np.diff(times) <= 0):
        raise ValueError("times: expected strictly increasing times")
    for form in forms:
        if times.size < len(form.names) + 2:
            raise ValueError(
                f"values: got {times.size} points, expected at least {len(form.names) + 2} for the "
                f"form {form.name!r}, which has {len(form.names)} parameters"
            )
    return times, values

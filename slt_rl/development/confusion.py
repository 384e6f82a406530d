"""How often forms can be told apart, by simulation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from slt_rl._numbers import check_count, check_nonnegative, check_numbers
from slt_rl.development.form_shapes import Form
from slt_rl.development.forms import TIE, check_curve, check_forms, fit_prepared, prepare_form


class Confusion(NamedTuple):
    """How often each form is chosen, by the form that made the data; counts `[truth, form]`.

    Attributes:
        truths: Names of the true forms.
        forms: Names of the forms that compete.
        wins: Series in which the form was the only one within 2 units of the best BIC.
        ties: Series in which it was one of several.
    """

    truths: tuple[str, ...]
    forms: tuple[str, ...]
    wins: np.ndarray
    ties: np.ndarray

    @property
    def recovered(self) -> np.ndarray:
        """Series of each truth in which the truth won or was tied, `[truth]`."""
        columns = [self.forms.index(name) for name in self.truths]
        return (self.wins + self.ties)[np.arange(len(columns)), columns]

    def __str__(self) -> str:
        lines = ["truth".ljust(24) + "".join(f"{name[:12]:>14}" for name in self.forms)]
        for truth, wins, ties in zip(self.truths, self.wins, self.ties, strict=True):
            cells = [f"{w}" + (f" +{t} tied" if t else "") for w, t in zip(wins, ties, strict=True)]
            lines.append(truth.ljust(24) + "".join(f"{cell:>14}" for cell in cells))
        return "\n".join(lines)


def confusion_table(
    seed: int,
    times: np.ndarray,
    truths: Sequence[tuple[Form, np.ndarray, float]],
    *,
    forms: Sequence[Form] | None = None,
    num_series: int = 20,
) -> Confusion:
    """Simulates each truth with white noise, fits all forms and counts which one is chosen.

    For a comparison at hand, take `[(f.form, f.params, f.noise_std) for f in comparison.fits]`.

    Args:
        seed: Seed of the simulated noise.
        times: Increasing times, `[n]`.
        truths: Form, parameters and standard deviation of the noise of each truth.
        forms: The forms that compete, the true ones among them; `standard_forms()` if None.
        num_series: Series of each truth.

    Returns:
        The table.

    Raises:
        ValueError: If a truth does not compete, a number is out of range, or as `compare_forms`.
    """
    forms = check_forms(forms)
    names = tuple(form.name for form in forms)
    truths = [_checked_truth(truth) for truth in truths]
    missing = [form.name for form, _, _ in truths if form.name not in names]
    if missing or len(set(names)) < len(names):
        raise ValueError(f"forms: got {names}, expected distinct names, {missing} among them")
    check_count("num_series", num_series)
    check_count("seed", seed, 0)
    times, _ = check_curve(times, np.zeros(np.shape(times)), forms)
    scaled = (times - times[0]) / (times[-1] - times[0])
    prepared = [prepare_form(form, scaled) for form in forms]
    generator = np.random.default_rng(seed)
    wins, ties = np.zeros((2, len(truths), len(forms)), int)
    for row, (form, params, noise_std) in enumerate(truths):
        curve = form(scaled, params)
        for _ in range(num_series):
            values = curve + noise_std * generator.standard_normal(curve.size)
            bic = np.array([fit_prepared(p, values, (0.0, 1.0)).bic for p in prepared])
            near = bic < bic.min() + TIE
            (wins if near.sum() == 1 else ties)[row] += near
    return Confusion(tuple(form.name for form, _, _ in truths), names, wins, ties)


def _checked_truth(truth: tuple[Form, np.ndarray, float]) -> tuple[Form, np.ndarray, float]:
    """A form with numbers for all of its parameters, and its noise."""
    if not isinstance(truth, tuple) or len(truth) != 3 or not isinstance(truth[0], Form):
        raise ValueError(f"truths: got {truth!r}, expected tuples (form, parameters, noise)")
    form, params = truth[0], check_numbers("truths: parameters", truth[1])
    if params.shape != (len(form.names),) or not np.isfinite(params).all():
        raise ValueError(
            f"truths: got the parameters {params.tolist()} of {form.name!r}, expected finite "
            f"numbers for {', '.join(form.names)}"
        )
    return form, params, check_nonnegative("truths: noise", truth[2])

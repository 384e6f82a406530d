"""How often forms can be told apart, by simulation."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from slt_rl._numbers import check_count
from slt_rl.development.form_shapes import Form, standard_forms
from slt_rl.development.forms import TIE, check_curve, fit_prepared, prepare_form


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
    forms = standard_forms() if forms is None else tuple(forms)
    names = tuple(form.name for form in forms)
    missing = [form.name for form, _, _ in truths if form.name not in names]
    if missing or len(set(names)) < len(names):
        raise ValueError(f"forms: got {names}, expected distinct names, {missing} among them")
    check_count("num_series", num_series)
    times, _ = check_curve(times, np.zeros(len(times)), forms)
    scaled = (times - times[0]) / (times[-1] - times[0])
    prepared = [prepare_form(form, scaled) for form in forms]
    generator = np.random.default_rng(seed)
    wins, ties = np.zeros((2, len(truths), len(forms)), int)
    for row, (form, params, noise_std) in enumerate(truths):
        curve = form(scaled, np.asarray(params, np.float64))
        for _ in range(num_series):
            values = curve + noise_std * generator.standard_normal(curve.size)
            bic = np.array([fit_prepared(p, values, (0.0, 1.0)).bic for p in prepared])
            near = bic < bic.min() + TIE
            (wins if near.sum() == 1 else ties)[row] += near
    return Confusion(tuple(form.name for form, _, _ in truths), names, wins, ties)

"""Effects of a variable on a fitted form, on curves whose form is known."""

import numpy as np
import pytest

from benchmarks.craftax_effects import effects_table, fitted_landmarks
from slt_rl.development import rise_decay

STEPS = np.linspace(0.0, 6e5, 49)
# c, size, shift, onset, rise, decay
PARAMS = np.array([0.5, 2.0, 1.0, 0.05, 0.04, 0.2])


def curve(shift=1.0):
    return rise_decay()(STEPS / STEPS[-1], np.where(PARAMS == 1.0, shift, PARAMS))


def row(variant, shifts):
    seeds = [fitted_landmarks(STEPS, curve(shift)) for shift in shifts]
    return {"variant": variant, "fitted": seeds}


def test_landmarks_of_a_fit_are_those_of_the_curve():
    found, true = fitted_landmarks(STEPS, curve()), curve()
    assert found["peak"] == pytest.approx(true.max(), rel=1e-4)
    assert found["peak_step"] == STEPS[true.argmax()]
    assert found["end"] == pytest.approx(true[-1], rel=1e-4)


def test_an_effect_has_its_size_and_sign():
    rows = [row("default", (1.0, 1.1, 0.9)), row("unrewarded", (0.5, 0.61, 0.39))]
    (cells,) = effects_table(rows).rows
    named = dict(zip(effects_table(rows).header, cells, strict=True))
    # The shift is reached at the end of the run, but for exp(-u/rise) of it.
    assert named["end"].startswith("-0.50 [")
    assert named["end, sign"] == "− (FirstOnly −)"
    assert named["peak, sign"] == "− (FirstOnly −)"


def test_no_default_no_effects():
    assert effects_table([row("seen", (1.0, 1.1))]).rows == []

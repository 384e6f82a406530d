"""Effects of a variable on a fitted form, on curves whose form is known."""

import json

import numpy as np
import pytest

from benchmarks import craftax_plants, pages
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


def test_a_page_of_stored_rows_says_how_these_were_made_and_what_of_it_is_new(
    monkeypatch, tmp_path
):
    stored = json.loads((pages.RESULTS / "craftax_plants.json").read_text())
    # Without the default there is nothing to sample.
    stored["rows"] = [row for row in stored["rows"] if row["variant"] == "every"]
    stored |= {"command": "what measured", "commit": "0ld", "date": "2000-01-01"}
    (tmp_path / "craftax_plants.json").write_text(json.dumps(stored))
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    monkeypatch.setattr(pages, "command", lambda: "what drew")
    craftax_plants.redraw_page(tmp_path)
    found = json.loads((tmp_path / "craftax_plants.json").read_text())
    redrawn = found.pop("redrawn")
    stored.pop("redrawn", None)
    assert found == stored and redrawn["command"] == "what drew"
    page = (tmp_path / "craftax_plants.md").read_text()
    assert "Made by `what measured` on 2000-01-01 at commit 0ld" in page
    new = f"by `what drew` on {redrawn['date']} at commit {redrawn['commit']}, numpyro"
    assert f"This table alone was computed anew, of the stored rows, {new}" in page

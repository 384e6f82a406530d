"""The page of training on the rungs, from made-up curves."""

import dataclasses

import numpy as np
import pytest

from benchmarks import ladder_training, ladder_training_page, pages
from slt_rl.difficulty.rungs import ladder_rungs
from slt_rl.difficulty.trained import TRAINING
from slt_rl.difficulty.trained_curves import names_of, score_curves
from slt_rl.validation.curve_checks import Measured
from toy_models import superposition as tms

LEVELS = {"5": 7.0, "5+": 8.5, "6": 8.4}


def made_up(rung):
    """One run that passes through 5, 5+ and 6, twelve records each, and shows it."""
    classes = list(LEVELS)
    labels = np.repeat(classes, 12)[None]
    points = [tms.critical_point(tms.parse_class(c), 6) for c in classes]
    noise = np.random.default_rng(rung.number)
    loss = np.repeat([tms.level(tms.parse_class(c), 6) for c in classes], 12)
    curves = {}
    for name in names_of(rung):
        mean = np.repeat(list(LEVELS.values()), 12) + 0.1 * noise.normal(size=36)
        curves |= {f"{name}_mean": mean, f"{name}_sem": np.full(36, 0.1)}
        curves[f"{name}_verdict"] = np.zeros(36, int)
    training = {
        "steps": np.arange(1, 37),
        "loss": (loss * np.exp(0.003 * noise.normal(size=36)))[None],
        "labels": labels,
        "W": np.repeat(np.stack([p["W"] for p in points]), 12, axis=0)[None],
        "b": np.repeat(np.stack([p["b"] for p in points]), 12, axis=0)[None],
    }
    return rung, Measured(rung.title, training, np.array([0]), [curves])


@pytest.fixture(scope="module")
def climbed():
    return [made_up(rung) for rung in ladder_rungs() if rung.number in (0, 1, 3)]


def test_the_page_is_written_and_its_checks_hold(climbed, tmp_path):
    scores = [score_curves(rung, m, name) for rung, m in climbed for name in names_of(rung)]
    checks = ladder_training_page.checks(climbed, scores)
    assert [check.held for check in checks] == [True] * 4
    tables = [
        ladder_training_page.training_table(climbed),
        ladder_training_page.score_table(scores),
        ladder_training_page.source_table(scores),
        ladder_training_page.order_table(scores),
    ]
    abstract = ladder_training.abstract(TRAINING, 1, [0, 1, 3])
    figures = {"curves": ladder_training_page.draw(climbed)}
    page = pages.Page("ladder_training", "Training", abstract, checks, tables, figures)
    rows = [ladder_training_page.as_row(score) for score in scores]
    pages.write_page(page, rows, {"seed": 0}, folder=tmp_path)
    text = (tmp_path / "ladder_training.md").read_text()
    assert "|3|KL, drift weights|2/2 = 1.00" in text
    assert (tmp_path / "ladder_training_curves.svg").stat().st_size > 10_000


def test_a_wrong_order_fails_its_check(climbed):
    rung, measured = climbed[1]
    falling = [{k: -v if k.endswith("_mean") else v for k, v in measured.curves[0].items()}]
    score = score_curves(rung, measured._replace(curves=falling), "KL")
    names = {c.name: c.held for c in ladder_training_page.checks(climbed, [score])}
    assert not names["order of 5, 5+ and 6"]
    assert not names["sign of the jump"]


def test_a_rung_is_trained_with_what_it_goes_on_from(monkeypatch, tmp_path):
    trained = []

    def train_rung(key, rung, protocol, *, start):
        trained.append((rung.number, len(start)))
        return {"steps": np.arange(3), "loss": np.ones((1, 3))}

    monkeypatch.setattr(ladder_training, "train_rung", train_rung)
    for number in (3, 5):
        climbed, _ = ladder_training.climb(TRAINING, tmp_path, 0, wanted=[number])
        assert [rung.number for rung, _ in climbed] == [number]
    assert trained == [(2, 0), (3, 2), (5, 0)]


def test_the_trained_protocol_is_that_of_the_ladder_but_for_the_length_of_chains():
    sizes = dataclasses.asdict(TRAINING.estimates)
    assert (sizes["num_examples"], sizes["localization"]) == (2000, 30.0)
    assert TRAINING.num_records % 5 == 0

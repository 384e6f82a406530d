"""Benchmarks go on where they stopped, and only with rows of the same settings and source."""

import argparse
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
import toy_models
from benchmarks import accuracy, rows


@dataclasses.dataclass(frozen=True)
class Named:
    name: str


def journal(tmp_path, source="a", **settings):
    return rows.Journal(tmp_path / "rows.jsonl", settings, source)


def measure_once(calls):
    def measure(case, key):
        calls.append(case.name)
        return {"estimate": float(jax.random.uniform(key)), "nan": float("nan")}

    return measure


def test_a_second_run_measures_only_what_is_missing(tmp_path):
    calls = []
    cases = [Named("a"), Named("b")]
    first = rows.run_cases(journal(tmp_path), cases[:1], measure_once(calls), num_keys=2)
    both = rows.run_cases(journal(tmp_path), cases, measure_once(calls), num_keys=2)
    assert calls == ["a", "a", "b", "b"]
    assert both[:2] == [row | {"fingerprint": journal(tmp_path).fingerprint} for row in first]
    assert both[0]["nan"] is None
    assert len({row["estimate"] for row in both}) == 4


def test_rows_of_other_settings_or_other_source_are_not_used(tmp_path):
    calls = []
    for changed in ({}, {"nbeta": 2.0}, {"source": "b"}):
        rows.run_cases(journal(tmp_path, **changed), [Named("a")], measure_once(calls), num_keys=1)
    assert len(calls) == 3


def test_a_line_that_was_cut_off_is_measured_again_and_does_no_harm(tmp_path):
    calls = []
    rows.run_cases(journal(tmp_path), [Named("a"), Named("b")], measure_once(calls), num_keys=1)
    path = journal(tmp_path).path
    path.write_bytes(path.read_bytes()[:-20])
    for _ in range(2):
        rows.run_cases(journal(tmp_path), [Named("a"), Named("b")], measure_once(calls), num_keys=1)
    assert calls == ["a", "b", "b"]


def test_the_key_of_a_case_does_not_depend_on_the_others(tmp_path):
    alone = rows.run_cases(journal(tmp_path), [Named("b")], measure_once([]), num_keys=1)
    assert alone[0]["estimate"] == float(jax.random.uniform(rows.case_key("b", 0)))
    assert not np.array_equal(
        jax.random.key_data(rows.case_key("b", 0)), jax.random.key_data(rows.case_key("a", 0))
    )


def test_shares_divide_the_cases_and_a_whole_run_collects(tmp_path):
    cases, calls = [Named(name) for name in "abcde"], []
    for share in ("0/2", "1/2"):
        part = cases[rows.parse_share(share)]
        rows.run_cases(journal(tmp_path), part, measure_once(calls), num_keys=1)
    assert calls == ["a", "c", "e", "b", "d"]
    whole = rows.run_cases(journal(tmp_path), cases, measure_once(calls), num_keys=1)
    assert len(calls) == 5
    assert [row["case"] for row in whole] == list("abcde")


@pytest.mark.parametrize("text", ["2/2", "1", "-1/2", "a/b", "1/0", "1/2/3"])
def test_a_share_that_is_none_says_what_was_expected(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected I/N with 0 <= I < N"):
        rows.parse_share(text)


def test_a_refusal_before_the_run_is_a_row(tmp_path):
    def refuse(case, key):
        raise ValueError("loss_fn: not finite")

    found = rows.run_cases(journal(tmp_path), [Named("a")], refuse, num_keys=1)
    assert found[0]["verdict"] == "refused"
    assert found[0]["flags"] == ["loss_fn: not finite"]


def test_estimate_row_is_json_also_where_nothing_is_finite():
    estimate = slt_rl.estimate_llc(
        jax.random.key(0),
        lambda w: jnp.sum(w**4),
        jnp.ones(2),
        nbeta=1e6,
        sampler=slt_rl.SGLD(10.0),
        num_draws=20,
    )
    row = rows._finite(rows.estimate_row(estimate))
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert row["estimate"] is None and row["verdict"] == "refused"


def test_the_suite_presents_noisy_labels_in_minibatches_of_high_noise():
    cases = {case.name: case for case in accuracy.suite(toy_models.problems())}
    assert set(cases) > {problem.name for problem in toy_models.problems() if problem.potential}
    nbeta = accuracy.NUM_EXAMPLES / np.log(accuracy.NUM_EXAMPLES)
    assert nbeta / cases["noisy_regression/minibatch"].batch_size == pytest.approx(60, rel=0.1)

"""Checks: what they hold, and how values are written."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slt_rl.report import Check, all_held
from slt_rl.report.checks import format_value, plain, require_unique_names, strict


def test_values_and_verdicts_of_arrays_become_plain():
    check = Check("a", "b", "c", jnp.float32(0.5), np.bool_(True))
    assert check.value == 0.5 and type(check.value) is float
    assert check.held is True
    assert Check("a", "b", "c", np.arange(2), True).value == [0, 1]


@pytest.mark.parametrize("name", ["name", "description", "target"])
def test_texts_are_needed(name):
    with pytest.raises(ValueError, match=f"{name}: got ' ', expected some text"):
        Check(**{"name": "a", "description": "b", "target": "c", name: " "}, value=1, held=True)


@pytest.mark.parametrize("held", [None, 1, "yes", np.array([True, True])])
def test_held_is_a_boolean(held):
    with pytest.raises(ValueError, match="held: got"):
        Check("a", "b", "c", 1, held)


def test_all_held():
    good, bad = Check("a", "b", "c", 1, True), Check("d", "b", "c", 1, False)
    assert all_held([good]) and not all_held([good, bad]) and not all_held([])
    assert str(bad).startswith("FAILED d")
    with pytest.raises(ValueError, match=r"\['a'\] occur more than once"):
        require_unique_names([good, good, bad])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(json_values)
def test_strict_values_are_json_and_change_only_what_json_cannot_hold(value):
    text = json.dumps(strict(value), allow_nan=False)
    if "nan" not in text and "inf" not in text:
        assert json.loads(text) == value
    assert isinstance(format_value(value), str)


def test_strict_keeps_the_name_of_what_is_not_finite():
    assert strict({"a": [math.nan, np.float64(-np.inf)]}) == {"a": ["nan", "-inf"]}
    assert plain({1: ("x", np.int64(3), object)}) == {"1": ["x", 3, str(object)]}
    assert format_value({"recall": 0.5, "lags": [1.0, 2.0]}) == "recall: 0.5, lags: 1, 2"

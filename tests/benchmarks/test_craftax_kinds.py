"""The page of all kinds of curves, from made-up curves whose agreement and parts are known."""

import jax
import numpy as np

from benchmarks.craftax_kinds import (
    agreement_table,
    correlations,
    curves_table,
    parts_table,
    permuted,
    permuted_table,
    point,
    points_table,
    words,
)
from slt_rl.agents.networks import LayeredMLP
from slt_rl.rl import MLP
from tests.benchmarks.made_up_curves import STEPS, kind

WAVE = 5 + np.sin(np.arange(21) / 2.0)


def test_curves_that_only_rise_agree_in_their_values_and_not_in_their_steps():
    rng, beyond = np.random.default_rng(0), 0
    for _ in range(200):
        values, steps = correlations(*np.cumsum(rng.uniform(0.5, 1.5, size=(2, 21)), axis=1))
        size, bound = steps.removesuffix("]").split(" [")
        beyond += abs(float(size)) > float(bound)
        assert values == "1.00" and bound == "0.44"
    # One in twenty, with a standard error of three.
    assert abs(beyond - 10) < 10


def test_agreement_is_over_the_checkpoints_that_both_have():
    fixed = kind("policy-reference", WAVE)
    own = kind("policy-own", 3 * WAVE[::2], steps=STEPS[::2])
    few = kind("value-reference", WAVE[::4], steps=STEPS[::4])
    (row,) = agreement_table([fixed, own, few]).rows
    assert row[:4] == ["run", "policy-own", 11, "1.00"] and row[4].startswith("1.00 [0.6")


def test_parts_sum_beside_the_whole():
    fixed = kind("policy-reference", WAVE)
    parts = [
        kind(f"policy-reference-{name}", share * WAVE[::10], steps=STEPS[::10], part=name)
        for name, share in (("torso", 0.75), ("head", 0.5))
    ]
    values = kind("value-reference-torso", WAVE, part="torso")
    table = parts_table([fixed, *parts, values])
    assert table.header == ("step", "whole", "torso", "head", "sum / whole")
    assert [row[0] for row in table.rows] == [0, 10_000, 20_000]
    np.testing.assert_allclose([row[-1] for row in table.rows], 1.25)
    assert not parts_table([fixed, values]).rows


def test_permuted_units_compute_the_same():
    network = LayeredMLP(MLP(4, 3, hidden=(6, 5)))
    params = jax.vmap(network.init)(jax.random.split(jax.random.key(0), 2))
    params = jax.tree.map(lambda x: x + 0.1 * np.arange(x.shape[-1]), params)  # biases too
    moved, x = permuted(params), jax.random.normal(jax.random.key(1), (4,))
    assert not np.array_equal(moved["layer_0"]["kernel"], params["layer_0"]["kernel"])
    expected, found = (jax.vmap(network, in_axes=(0, None))(p, x) for p in (params, moved))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_a_permuted_point_stands_beside_its_own_in_units_of_both_errors():
    fixed = kind("policy-reference", WAVE)
    other = kind("policy-reference-permuted", WAVE[::10] + 0.02, steps=STEPS[::10])
    rows = permuted_table([fixed, other]).rows
    assert [row[0] for row in rows] == [0, 10_000, 20_000]
    assert [row[3] for row in rows] == ["1.4"] * 3


def test_points_carry_their_verdict_and_turning_points_need_enough_of_them():
    fixed = kind("policy-reference", WAVE, verdict="doubtful")
    own = kind("policy-own", WAVE[:2], steps=STEPS[:2])
    assert point(fixed, 0) == "5.00 ± 0.01?" and point(own, 5000) == "–"
    assert [row[0] for row in points_table([fixed, own]).rows] == [0, 1000]
    first, second = curves_table([fixed, own]).rows
    assert first[6] != "–" and first[8] == "21 doubtful"
    assert second[6:8] == ["–", "–"] and second[9] == "2 localization-dominated"
    assert words("policy-reference-core") == "LLC: policy, reference states, part core"

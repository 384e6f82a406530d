"""Sampled values: there wherever one is needed, of that very problem, and of the right size."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toy_models
from toy_models import deep_linear, references

PROBLEMS = {problem.name: problem for problem in toy_models.problems()}
NEEDED = {name: problem for name, problem in PROBLEMS.items() if problem.finite_llc is None}
NBETA, LOCALIZATION = 1e4, 10.0
every_needed = pytest.mark.parametrize("name", NEEDED)


@every_needed
def test_every_problem_without_an_exact_value_has_a_precise_reference(name):
    found = NEEDED[name].reference(NBETA, LOCALIZATION)
    assert found is not None
    assert 0 < found.sem < 0.004 * found.mean


def test_references_belong_to_problems_that_need_them():
    assert set(references.stored_references()) == set(NEEDED)


@every_needed
def test_a_changed_potential_or_center_is_stale(name):
    problem = NEEDED[name]
    potential = problem.potential
    steeper = dataclasses.replace(problem, potential=lambda w: 1.0001 * potential(w))
    shifted = jax.tree.map(lambda leaf: leaf + 0.01, problem.params)
    moved = dataclasses.replace(problem, params=shifted)
    for changed in (steeper, moved):
        with pytest.raises(ValueError, match=f"^references: got .*{re.escape(name)}"):
            changed.reference(NBETA, LOCALIZATION)


def test_single_precision_is_not_stale():
    for problem in NEEDED.values():
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), problem.params)
        single = dataclasses.replace(problem, params=params)
        assert single.reference(NBETA, LOCALIZATION) is not None


def test_there_is_none_at_another_temperature_or_localization():
    problem = NEEDED["deep_linear_c"]
    assert problem.reference(2 * NBETA, LOCALIZATION) is None
    assert problem.reference(NBETA, 2 * LOCALIZATION) is None
    assert deep_linear.benchmark_nets()[2].reference(NBETA, LOCALIZATION) is None


def test_a_missing_file_has_no_references(tmp_path):
    assert references.stored_references(tmp_path / "none.json") == {}


def test_the_file_says_how_each_value_was_made():
    for name, rows in json.loads(references.PATH.read_text(encoding="utf-8")).items():
        for row in rows:
            made = row["made"]
            assert set(made) == {"command", "date", "commit", "versions", "machine"}, name
            assert not made["commit"].endswith("+changes"), name
            assert abs(row["z"]) < 3
            assert not any(run["faults"] for run in row["runs"])


def test_the_same_loss_measured_twice_agrees():
    for label in ("5", "5+", "6"):
        pair = [
            NEEDED[f"superposition_{label}_{kind}"].reference(NBETA, LOCALIZATION)
            for kind in ("supervised", "regret")
        ]
        assert pair[0].probes == pair[1].probes
        assert abs(pair[0].mean - pair[1].mean) < 3 * np.hypot(pair[0].sem, pair[1].sem)


def tanh_value(num_units: int) -> float:
    """By quadrature over the inner weights, the outer ones integrated out.

    Given `b`, `t K = a'(t G) a / 2` with `G = E[tanh(b x) tanh(b x)']`: the outer weights are
    Gaussian of precision `t G + gamma`, their mean energy `tr(t G (t G + gamma)^-1)/2`.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    # Even in each `b`, so one orthant; in x = log b the Jacobian is b.
    x = np.linspace(-14, np.log(9 / LOCALIZATION**0.5), 281 if num_units == 2 else 71)
    grid = np.stack(np.meshgrid(*[np.exp(x)] * num_units, indexing="ij"), -1).reshape(-1, num_units)
    features = np.tanh(grid[:, :, None] * nodes)
    gram = NBETA * np.einsum("iak,ibk,k->iab", features, features, weights)
    precision = gram + LOCALIZATION * np.eye(num_units)
    energy = np.einsum("iab,iba->i", gram, np.linalg.inv(precision)) / 2
    log_weight = np.sum(np.log(grid) - LOCALIZATION * grid**2 / 2, axis=1)
    log_weight -= np.linalg.slogdet(precision)[1] / 2
    weight = np.exp(log_weight - log_weight.max())
    # Signs of the `b` matter for neither determinant nor trace: tanh is odd.
    return float(np.sum(weight * energy) / np.sum(weight))


def rank_three_value(widths: tuple[int, int, int], top: float = 60.0, num: int = 121) -> float:
    """Reduced rank regression at zero with three hidden units, by quadrature over eigenvalues.

    The outer layer integrates out and leaves the eigenvalues `s` of `A A'`, of density
    `prod s_i^((M-4)/2) e^(-gamma s_i/2) (gamma + t s_i)^(-N/2) prod_(i<j) |s_i - s_j|`.
    """
    inputs, hidden, outputs = widths
    assert hidden == 3
    x = np.linspace(-24, np.log(top / LOCALIZATION), num)
    s = np.exp(x)
    share = NBETA * s / (LOCALIZATION + NBETA * s)
    one = (inputs - hidden - 1) / 2 * x - LOCALIZATION * s / 2 + x
    one -= outputs / 2 * np.log(LOCALIZATION + NBETA * s)
    i, j, k = np.meshgrid(*[np.arange(num)] * 3, indexing="ij")
    with np.errstate(divide="ignore"):
        repelled = sum(np.log(np.abs(s[a] - s[b])) for a, b in ((i, j), (i, k), (j, k)))
    log_weight = one[i] + one[j] + one[k] + repelled
    weight = np.exp(log_weight - log_weight.max())
    energy = outputs / 2 * (share[i] + share[j] + share[k])
    return float(np.sum(weight * energy) / np.sum(weight))


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("tanh_1_2_1_zero", lambda: tanh_value(2)),
        ("tanh_1_3_1_zero", lambda: tanh_value(3)),
        ("deep_linear_4_3_8_rank_0", lambda: rank_three_value((4, 3, 8))),
    ],
)
def test_where_quadrature_is_possible_it_agrees(name, exact):
    found = NEEDED[name].reference(NBETA, LOCALIZATION)
    assert abs(found.mean - exact()) < 3 * found.sem


def test_net_c_has_its_equilibrated_value():
    # 0.948 of the learning coefficient at nbeta 8686: measured elsewhere, to 0.2 %.
    found = NEEDED["deep_linear_c"].reference(NBETA, LOCALIZATION)
    assert found.mean / NEEDED["deep_linear_c"].llc == pytest.approx(0.949, abs=0.006)

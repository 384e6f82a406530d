"""The road by which references are made leads to exact values, and its checks can fail."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toy_models
from benchmarks import accuracy, dispersed_hmc, make_references
from toy_models import deep_linear, exact, networks, policies, references
from toy_models.references import Reference

KEY = jax.random.key(5)
NBETA, LOCALIZATION = 1e4, 10.0
KNOWN = (
    deep_linear.deep_linear((2, 2, 2)),
    networks.tanh_zero(1),
    policies.parity_regret(),
)


@pytest.mark.parametrize("problem", KNOWN, ids=lambda problem: problem.name)
def test_an_exact_value_is_reproduced(problem):
    found = make_references.make_reference(
        KEY, problem, NBETA, localization=LOCALIZATION, sem=0.005
    )
    assert found.faults == ()
    assert found.sem < 0.006 * found.mean
    assert abs(found.mean - problem.finite_llc(NBETA, LOCALIZATION)) < 3 * found.sem


def two_wells(barrier):
    """A quadratic at the center, and a well of the same width that is lower by 10 in units of U."""
    distance = 2 * (2 * barrier / NBETA) ** 0.5
    return dataclasses.replace(
        exact.regular_quadratic((1.0,)),
        params=jnp.zeros(1),
        potential=lambda w: jnp.minimum(
            jnp.sum(w**2) / 2, jnp.sum((w - distance) ** 2) / 2 - 10 / NBETA
        ),
    )


def sample_wells(barrier):
    return dispersed_hmc.sample(
        KEY, two_wells(barrier), NBETA, localization=LOCALIZATION, step=1.0, sem=0.02, seconds=3.0
    )


def test_chains_that_leave_for_a_lower_minimum_are_dropped():
    few = sample_wells(15.0)
    assert 0 < few.left <= dispersed_hmc.MAX_LEFT
    assert few.faults == ()
    # One direction, given that it stays: a half.
    assert abs(few.mean - 0.5 * NBETA / (NBETA + LOCALIZATION)) < 3 * few.sem
    many = sample_wells(5.0)
    assert "more than 6 chains left for a lower minimum" in many.faults


def run(mean, sem=0.01, draws=100, faults=()):
    return dispersed_hmc.Run(mean, sem, draws, 1, 0.1, 0.9, 0, 1.0, 1.0, 1.0, faults)


def test_runs_are_pooled_by_their_draws_and_must_agree():
    pooled = make_references.pool([run(1.0, draws=300), run(1.02, draws=100)])
    assert pooled.mean == pytest.approx(1.005)
    assert pooled.sem == pytest.approx(0.01 * np.hypot(0.75, 0.25))
    assert pooled.z == pytest.approx(2**0.5)
    assert pooled.faults == ()
    assert make_references.pool([run(1.0), run(1.05)]).faults
    assert make_references.pool([run(1.0), run(1.0, faults=("f",))]).faults == ("f",)
    assert make_references.pool([run(1.0), run(float("nan"))]).faults


def stored_row(problem, mean=2.0, nbeta=NBETA):
    options = make_references.parse(["--nbeta", str(nbeta)])
    pooled = make_references.pool([run(mean), run(mean)])
    return make_references.as_row(problem, pooled, {"commit": "c"}, options=options)


def test_a_stored_value_is_found_again_and_passed_over(tmp_path):
    path = tmp_path / "references.json"
    problem = networks.tanh_zero(2)
    options = make_references.parse(["--out", str(path)])
    assert not make_references.is_done(problem, options)
    for mean in (1.0, 2.0):
        make_references.store(path, problem.name, stored_row(problem, mean))
    make_references.store(path, problem.name, stored_row(problem, 3.0, nbeta=5.0))
    make_references.store(path, "other", stored_row(problem))
    found = references.stored_references(path)
    assert {r.mean for r in found[problem.name]} == {2.0, 3.0}
    assert set(found) == {problem.name, "other"}
    assert make_references.is_done(problem, options)
    changed = dataclasses.replace(problem, potential=lambda w: 2 * problem.potential(w))
    assert not make_references.is_done(changed, options)
    again = make_references.parse(["--out", str(path), "--again"])
    assert not make_references.is_done(problem, again)
    json.loads(path.read_text())


def with_reference(problem, sem):
    assert problem.potential is not None
    probes = tuple(references.probe(problem.potential, problem.params))
    found = Reference(2.0, sem, NBETA, LOCALIZATION, probes)
    return dataclasses.replace(problem, references=(found,))


def test_the_suite_prefers_the_exact_value_and_tells_a_sampled_one():
    known = with_reference(exact.regular_quadratic(), 0.01)
    value = known.finite_llc(NBETA, LOCALIZATION)
    assert accuracy.truth_of(known, NBETA, LOCALIZATION) == (value, 0.0, "exact")
    unknown = with_reference(networks.tanh_zero(2), 0.01)
    assert accuracy.truth_of(unknown, NBETA, LOCALIZATION) == (2.0, 0.01, "sampled")
    assert accuracy.truth_of(unknown, NBETA, 1.0) == (None, 0.0, None)
    vague = with_reference(networks.tanh_zero(2), 0.021)
    assert accuracy.truth_of(vague, NBETA, LOCALIZATION) == (None, 0.0, None)


def test_the_suite_never_uses_a_stale_reference():
    problem = with_reference(networks.tanh_zero(2), 0.01)
    stale = dataclasses.replace(problem, params=jax.tree.map(lambda x: x + 0.1, problem.params))
    with pytest.raises(ValueError, match="^references: got"):
        accuracy.truth_of(stale, NBETA, LOCALIZATION)


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"localization": 0.0}, "localization"), ({"problem": None}, "problem")],
)
def test_bad_input_is_named(changes, name):
    no_potential = toy_models.ToyProblem(
        "a", "rl", {}, 1.0, loss_fn=jnp.sum, dataset=lambda key, n: None
    )
    problem = no_potential if "problem" in changes else KNOWN[0]
    with pytest.raises(ValueError, match=f"^{name}: got"):
        make_references.make_reference(
            KEY, problem, NBETA, localization=changes.get("localization", 1.0)
        )

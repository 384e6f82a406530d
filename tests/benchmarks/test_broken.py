"""The sweep of broken runs counts as caught only what names the fault."""

import jax
import jax.numpy as jnp
import pytest

import slt_rl
from benchmarks import broken, broken_cases, broken_potentials


def case(**changes):
    base = {"group": "g", "base": "b", "run": lambda key: None, "reasons": ("too large",)}
    return broken_cases.BrokenCase(**(base | changes))


def row(**changes):
    base = {"verdict": "refused", "regime": "plateau", "flags": ["Step too large"], "estimate": 2.0}
    return {"case": "g: b", "key": 0, **base, **changes}


@pytest.mark.parametrize(
    ("found", "caught"),
    [
        ({}, True),
        ({"verdict": "doubtful"}, True),
        ({"verdict": "trusted"}, False),
        ({"flags": ["chains disagree"]}, False),
        ({"flags": []}, False),
    ],
)
def test_a_run_is_caught_by_the_right_words_and_not_trusted(found, caught):
    assert broken.judged(row(**found), case())["caught"] is caught


def test_a_regime_may_say_what_is_wrong_of_a_trusted_number():
    expected = case(reasons=(), regimes=("localization-dominated",))
    trusted = row(verdict="trusted", flags=[])
    assert not broken.judged(trusted, expected)["caught"]
    caught = broken.judged(trusted | {"regime": "localization-dominated"}, expected)
    assert caught["caught"] and not broken.is_trusted(caught)


def test_a_number_that_is_right_all_the_same_is_harmless_and_counts_in_no_share():
    right = broken.judged(row(verdict="trusted", estimate=1.04), case(reference=1.0))
    wrong = broken.judged(row(), case(reference=1.0))
    assert right["harmless"] and not wrong["harmless"]
    assert all(check.held for check in broken.make_page([right, wrong]).checks)
    believed = broken.judged(row(verdict="trusted", estimate=1.06), case(reference=1.0))
    assert not any(check.held for check in broken.make_page([right, believed]).checks)


def test_no_runs_hold_no_check():
    assert not any(check.held for check in broken.make_page([]).checks)


def test_cases_have_unique_names_and_say_what_they_expect():
    cases = broken_cases.cases()
    assert len({case.name for case in cases}) == len(cases)
    assert all(bool(case.reasons) != bool(case.regimes) for case in cases)
    assert all(word == word.lower() for case in cases for word in case.reasons)
    assert len({case.group for case in cases}) == 10


def test_potentials_are_broken_in_the_way_they_say():
    assert jnp.isnan(jax.grad(broken_potentials.root_of_sum)(jnp.zeros(2))).all()
    assert not jnp.any(jax.grad(broken_potentials.smooth_root)(jnp.zeros(2)))
    well = jnp.array([0.5, 0.0])
    assert float(broken_potentials.saddle_quartic(0.25, well)) == pytest.approx(-(0.25**2) / 4)
    zero = (jnp.zeros((2, 2)), jnp.zeros((2, 2)))
    saddle = jax.grad(lambda layers: broken_potentials.saddle_of_product(1.0, layers))
    assert all(not jnp.any(leaf) for leaf in saddle(zero))


def test_parity_weights_have_the_exact_regret_as_their_mean():
    theta = 0.7
    ones = jnp.arange(5)
    binomial = jnp.array([1.0, 4.0, 6.0, 4.0, 1.0])
    law = broken_potentials.memoryless_policy(jnp.asarray(theta), None)
    reward = jnp.sum(binomial * jnp.exp(law.log_prob(ones)) * (ones % 2))
    assert float(0.5 - reward) == pytest.approx(float(jnp.tanh(theta / 2) ** 4 / 2))


def test_parity_regret_by_weights_is_refused_for_its_noise():
    estimate = broken_potentials.parity_regret_by_weights(500, 0.5, jax.random.key(0))
    assert estimate.verdict == "refused"
    assert any("too noisy for its n" in flag for flag in estimate.flags)


def test_a_center_is_moved_to_the_excess_that_is_asked_for(monkeypatch):
    problem = broken_cases.bases()[0]
    found = {}

    def record(potential, params, key):
        found["excess"] = broken_cases.NBETA * float(potential(params))

    monkeypatch.setattr(broken_cases, "estimate", record)
    broken_cases.displaced(problem, 5.0, jax.random.key(0))
    assert found["excess"] == pytest.approx(5.0, rel=1e-6)


def test_minibatch_noise_is_seen_by_the_library():
    noise = next(case for case in broken_cases.noise_cases())
    result = noise.run(jax.random.key(0))
    assert isinstance(result, slt_rl.LLCEstimate)
    assert result.mean > 1.05 * noise.reference

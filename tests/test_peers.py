"""Plain SGLD and MALA agree with what other implementations of the same steps find.

The cheap rows; `python -m benchmarks.recursion` does all of them.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
from benchmarks import recursion, recursion_cases, rows

CASES = {case.name: case for case in recursion.cases() if "on noise" not in case.name}


def reproduced(name, num_chains=100):
    case = dataclasses.replace(CASES[name], num_chains=num_chains)
    return recursion_cases.measure(case, rows.case_key(name, 0))


@pytest.mark.parametrize(
    "name",
    [
        "crossing (0, 3)",
        "monomial (4, 2), burn-in dropped",
        "regression on a teacher (5, 3, 5, 2)",
    ],
)
def test_published_value_is_reproduced(name):
    row = reproduced(name)
    assert abs(row["z"]) < 3
    assert row["diverged"] == 0
    # The comparison resolves a few percent: it can fail.
    assert row["sem"] < 0.05 * row["estimate"]


def test_linear_crossing_agrees_with_the_published_and_with_the_exact_value():
    row = reproduced("crossing (0, 1)")
    assert abs(row["z"]) < 3
    exact = recursion_cases.linear_crossing_value()
    assert exact == pytest.approx(0.5292, abs=5e-5)
    # 5000 draws from the center: what the start adds is far below the standard error.
    assert abs(row["estimate"] - exact) < 3 * row["sem"]


def test_quadratic_agrees_with_the_published_and_with_the_exact_value():
    row = reproduced("monomial (2,), burn-in dropped")
    assert abs(row["z"]) < 3
    exact = recursion_cases.quadratic_value(1.0, 1e-3)
    assert exact == pytest.approx(0.5188, abs=5e-5)
    assert abs(row["estimate"] - exact) < 3 * row["sem"]


@pytest.fixture(scope="module")
def trained_case():
    widths = (3, 8, 4)
    case = recursion_cases.noise_regression(widths, *recursion._NOISE[widths])
    return dataclasses.replace(case, num_chains=40)


def test_noise_targets_at_a_trained_minimum(trained_case):
    row = recursion_cases.measure(trained_case, rows.case_key(trained_case.name, 0))
    assert abs(row["z"]) < 3


def test_a_trained_minimum_is_one(trained_case):
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((1000, 3)), generator.standard_normal((1000, 4))
    # Enough hidden units for any linear map: the minimum is least squares.
    residual = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    lowest = np.mean(residual**2)
    assert float(trained_case.potential(trained_case.params)) == pytest.approx(lowest, rel=1e-9)


def test_the_moments_stand_for_the_data_exactly():
    x, y = recursion_cases.crossing_data()
    w = np.array([0.7, -1.3])
    on_data = np.mean((y - x * w[0] * w[1] ** 2) ** 2)
    assert float(CASES["crossing (1, 2)"].potential(jnp.asarray(w))) == pytest.approx(on_data)
    generator = np.random.default_rng(5)
    x, y = generator.standard_normal((50, 4)), generator.standard_normal((50, 3))
    params = {"A": generator.standard_normal((2, 4)), "B": generator.standard_normal((3, 2))}
    on_data = np.mean((y - x @ params["A"].T @ params["B"].T) ** 2)
    potential = recursion_cases.regression_potential(x, y)
    assert float(potential(jax.tree.map(jnp.asarray, params))) == pytest.approx(on_data)


def mala_acceptance(start, end, step_size):
    """Acceptance of the Langevin proposal from `start` to `end` for `U = |w|^2/2`."""

    def log_proposal(source, target):
        return -np.sum((target - (1 - step_size / 2) * source) ** 2) / (2 * step_size)

    log_ratio = (np.sum(start**2) - np.sum(end**2)) / 2
    log_ratio += log_proposal(end, start) - log_proposal(start, end)
    return min(1.0, float(np.exp(log_ratio)))


@pytest.mark.parametrize(
    ("start", "end", "step_size", "published"),
    [
        ((0, 0), (1.5, 5.5), 0.1, 0.6661436),
        ((1, 1), (1.5, 0.5), 0.5, 0.9692332),
        ((0, 0), (10.5, 5.5), 0.1, 0.17268492),
        ((0, 0), (10.5, 5.5), 0.5, 0.00015359),
    ],
)
def test_published_acceptance_follows_from_the_formula(start, end, step_size, published):
    found = mala_acceptance(np.array(start, float), np.array(end, float), step_size)
    assert found == pytest.approx(published, rel=1e-4)


@pytest.mark.parametrize("step_size", [0.5, 1.5])
def test_mala_accepts_as_the_formula_says(step_size):
    start = jnp.array([1.0, 1.0])

    def oracle(key, w):
        return jax.value_and_grad(lambda w: jnp.sum(w**2) / 2)(w)

    sampler = slt_rl.MALA(step_size)
    state = sampler.init(jax.random.key(0), start, oracle)
    keys = jax.random.split(jax.random.key(1), 200)
    _, info = jax.jit(jax.vmap(lambda key: sampler.step(key, state, oracle)))(keys)
    moved = np.any(np.asarray(info.position) != np.asarray(start), axis=1)
    # Of an accepted step the proposal is known, and with it the acceptance that was computed.
    assert 0.5 < moved.mean() <= 1
    expected = [mala_acceptance(np.asarray(start), np.asarray(w), step_size) for w in info.position]
    np.testing.assert_allclose(
        np.asarray(info.acceptance)[moved], np.array(expected)[moved], rtol=1e-9
    )
    assert np.min(np.array(expected)[moved]) < 1


def test_a_huge_step_is_refused():
    result = slt_rl.estimate_llc(
        jax.random.key(0),
        CASES["monomial (4,), burn-in dropped"].potential,
        jnp.zeros(1),
        nbeta=1000.0,
        localization=0.0,
        sampler=slt_rl.SGLD(1000.0),
        num_draws=100,
    )
    assert result.verdict == "refused" and np.isnan(result.mean)

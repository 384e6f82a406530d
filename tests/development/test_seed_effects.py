"""Effects of variables over a sweep, with the luck of each seed."""

import sys

import jax
import numpy as np
import pytest
from scipy import stats

from slt_rl.development import seed_effects

# The function has the name of its module.
MODULE = sys.modules[seed_effects.__module__]
NUM_SEEDS = 6


def sweep(generator, *, effects=(1.0, -2.0), luck=1.0, noise=0.3):
    """A reference and one variant for each effect, every one with the same seeds."""
    seeds = np.tile(np.arange(NUM_SEEDS), len(effects) + 1)
    variables = np.repeat(np.eye(len(effects) + 1)[:, 1:], NUM_SEEDS, axis=0)
    shared = generator.normal(0, luck, NUM_SEEDS)[seeds]
    values = 5 + variables @ effects + shared + generator.normal(0, noise, len(seeds))
    return values, variables, seeds


@pytest.fixture(scope="module")
def found():
    values, variables, seeds = sweep(np.random.default_rng(0))
    return (values, variables, seeds), seed_effects(
        jax.random.key(0), values, variables, seeds=seeds
    )


def test_of_a_balanced_sweep_it_is_the_mean_of_paired_differences(found):
    (values, _, _), effects = found
    rows = values.reshape(3, NUM_SEEDS)
    differences = rows[1:] - rows[0]
    paired = differences.mean(axis=1)
    # Exact for flat priors, whatever tau and sigma; these shrink by sem^2 / (10 sd)^2 < 1e-4.
    mc_error = effects.residual_scale * np.sqrt(2 / NUM_SEEDS) / np.sqrt(effects.ess)
    assert np.all(np.abs(effects.mean - paired) < 4 * mc_error + 1e-3)
    # The residual of all rows after row and seed, with (3 - 1)(6 - 1) degrees of freedom.
    residual = rows - rows.mean(0) - rows.mean(1, keepdims=True) + rows.mean()
    scale = np.sqrt((residual**2).sum() / 10)
    half = stats.t.ppf(0.975, 10) * scale * np.sqrt(2 / NUM_SEEDS)
    # The half-normal prior of sigma is nearly flat there; a flat one has one degree less.
    assert (effects.high - effects.low) / 2 == pytest.approx(half, rel=0.12)


def test_luck_that_runs_of_a_seed_share_is_not_residual(found):
    _, effects = found
    assert effects.residual_scale == pytest.approx(0.3, rel=0.4)
    assert effects.seed_scale == pytest.approx(1.0, rel=0.6)
    assert effects.r_hat < 1.02


def test_units_carry_through_and_a_run_without_a_value_is_left_out(found):
    (values, variables, seeds), effects = found
    # Powers of two: the standardized numbers, and with them the draws, are the same.
    longer = np.append(1024 * values, np.nan), np.vstack([variables, [1, 0]]) / 2
    scaled = seed_effects(jax.random.key(0), *longer, seeds=np.append(seeds, 9))
    np.testing.assert_allclose(scaled.mean, 2048 * effects.mean, rtol=1e-9)


def test_known_errors_widen_the_intervals(found):
    (values, variables, seeds), effects = found
    wide = seed_effects(jax.random.key(0), values, variables, seeds=seeds, sem=np.full(18, 1.0))
    assert np.all(wide.high - wide.low > 1.5 * (effects.high - effects.low))


def test_numbers_of_the_same_shape_are_one_program(found):
    (values, variables, seeds), _ = found
    before = MODULE._draws._cache_size()
    seed_effects(jax.random.key(1), values[::-1], variables, seeds=seeds[::-1] + 1)
    assert MODULE._draws._cache_size() == before


def test_chains_that_have_not_mixed_are_refused(found, monkeypatch):
    (values, variables, seeds), _ = found

    def apart(key, *_, num_draws, **__):
        return {"effects": np.arange(4)[:, None, None] + jax.random.normal(key, (4, num_draws, 2))}

    monkeypatch.setattr(MODULE, "_draws", apart)
    with pytest.raises(ValueError, match="num_draws: chains of 50 draws have split R-hat [12]"):
        seed_effects(jax.random.key(0), values, variables, seeds=seeds, num_draws=50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variables": np.ones(6)}, r"variables: got shape \(6,\), expected \(6, number"),
        ({"variables": np.ones((6, 1))}, r"variables: columns \[0\] do not vary"),
        ({"seeds": np.zeros(6, int)}, "got 6 runs of 1 seeds, expected at least 3 runs"),
        ({"seeds": np.zeros(5, int)}, "expected one number, seed and error of each run"),
        ({"sem": np.full(6, -1.0)}, "expected finite numbers, errors not negative"),
        ({"level": 1.0}, "level: expected .*, got 1.0"),
        ({"seeds": np.full(6, np.nan)}, "seeds, values: expected whole numbers"),
        ({"values": np.r_[np.inf, np.arange(5.0)]}, "seeds, values: .*without infinities"),
        ({"variables": np.ones((6, 0))}, r"variables: got shape \(6, 0\)"),
        ({"num_draws": 0}, "num_draws: expected a whole number >= 1, got 0"),
        ({"key": 0}, "key: expected one random key"),
    ],
)
def test_bad_input_says_what_was_expected(change, message):
    arguments = {
        "key": jax.random.key(0),
        "values": np.arange(6.0),
        "variables": np.array([[0.0], [0], [0], [1], [1], [1]]),
        "seeds": np.array([0, 1, 2, 0, 1, 2]),
    }
    with pytest.raises(ValueError, match=message):
        seed_effects(**(arguments | change))

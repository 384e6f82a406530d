"""Contexts read off made-up observations, and the numbers of a policy that is known."""

import jax.numpy as jnp
import numpy as np

from benchmarks.analysis import interval
from benchmarks.craftax_circuits import FIELDS, Able, contexts_of, last_units, numbers
from benchmarks.craftax_decode import LEVELS
from slt_rl.development import ensemble_diversity

NUM_INPUTS = LEVELS.stop


def observations(marks):
    """Observations with some of: saplings, daylight, a tree, water, a creature in view."""
    found = np.zeros((len(marks), NUM_INPUTS), np.float32)
    for row, (saplings, light, tree, water, creature) in zip(found, marks, strict=True):
        row[LEVELS.start + 5], row[LEVELS.start + 20] = 0.09998 * saplings, light
        tile = row[21 * 30 : 21 * 31]
        tile[5], tile[3], tile[18] = tree, water, creature
    return found


def test_each_combination_is_a_context_of_its_own():
    marks = [
        (saplings, light, tree, water, creature)
        for saplings in (1, 2) for light in (0, 1) for tree in (0, 1) for water in (0, 1)
        for creature in (0, 1)
    ]  # fmt: skip
    seen = np.repeat(observations(marks), 2, axis=0)
    found = contexts_of(Able(seen, np.arange(64) % 2 == 1))
    assert sorted(found) == list(range(64))
    # Three saplings are as good as two.
    more = observations([(2, 1, 0, 0, 0), (3, 1, 0, 0, 0)])
    assert len(set(contexts_of(Able(more, np.zeros(2, bool))))) == 1


def test_a_policy_that_looks_at_nothing_plants_everywhere_in_one_way():
    rng = np.random.default_rng(0)
    seen = observations(rng.integers(0, 2, (40, 5)) + [1, 0, 0, 0, 0])
    states = Able(seen, np.zeros(40, bool))
    params = {
        "layer_0": {"kernel": jnp.zeros((NUM_INPUTS, 4)), "bias": jnp.ones(4)},
        "layer_1": {"kernel": jnp.eye(4, 17) + jnp.eye(4, 17, 10), "bias": jnp.zeros(17)},
    }
    found = dict(zip(FIELDS, numbers(0, params, states, few=states), strict=True))
    h = np.tanh(1.0)
    # Actions 0 and 10 ... 13: the logits of 0 to 3 and of 10 to 13 are h, the others 0.
    np.testing.assert_allclose(found["probability"], np.exp(h) / (8 * np.exp(h) + 9), rtol=1e-5)
    np.testing.assert_allclose(found["contexts"], found["null_contexts"], rtol=1e-6)
    np.testing.assert_allclose([found["vendi"], found["participation"]], 1.0, rtol=1e-5)
    np.testing.assert_allclose(last_units(params, seen), h, rtol=1e-6)


def test_a_policy_that_asks_for_a_tree_plants_in_half_of_the_contexts():
    marks = [(1, light, tree, 0, 0) for light in (0, 1) for tree in (0, 1)]
    states = Able(np.repeat(observations(marks), 10, axis=0), np.zeros(40, bool))
    kernel = jnp.zeros((NUM_INPUTS, 4)).at[21 * 30 + 5].set(5.0)
    params = {
        "layer_0": {"kernel": kernel, "bias": -jnp.ones(4)},
        "layer_1": {"kernel": 18 * jnp.eye(4, 17, 10), "bias": jnp.zeros(17).at[0].set(40.0)},
    }
    found = dict(zip(FIELDS, numbers(0, params, states, few=states), strict=True))
    np.testing.assert_allclose([found["contexts"], found["null_contexts"]], [2, 4], rtol=1e-3)


def test_the_attributions_are_those_of_planting():
    rng = np.random.default_rng(1)
    states = Able(observations(rng.integers(0, 2, (40, 5)) + [1, 0, 0, 0, 0]), np.zeros(40, bool))
    params = {
        "layer_0": {"kernel": rng.normal(size=(NUM_INPUTS, 4)), "bias": rng.normal(size=4)},
        "layer_1": {"kernel": rng.normal(size=(4, 17)), "bias": rng.normal(size=17)},
    }
    units, weights = last_units(params, states.observation), params["layer_1"]["kernel"]
    share = np.exp(units @ weights + params["layer_1"]["bias"])
    share = share / share.sum(axis=1, keepdims=True)
    expected = ensemble_diversity(0, units * (weights[:, 10] - share @ weights.T), num_shuffles=5)
    found = dict(zip(FIELDS, numbers(0, params, states, few=states), strict=True))
    np.testing.assert_allclose(found["vendi"], expected.vendi, rtol=1e-5)
    np.testing.assert_allclose(found["null_vendi"], expected.null_vendi.mean(), rtol=1e-5)


def test_an_interval_over_seeds():
    assert interval(np.array([2.0])) == "2" and interval([1.0, 1.0, 1.0]) == "1 [1, 1]"
    assert interval([2.0, np.nan], ".1f") == "2.0, –"

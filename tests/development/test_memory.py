"""Memory curves where the memory is known: a delay line, a leaky sum, noise, and a network."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slt_rl.development import memory_curve
from slt_rl.rl import RecurrentActorCritic


def inputs(seed, num_steps=48, num_envs=40, share=0.04):
    """Independent normal numbers `[time, env, 1]`, and beginnings of episodes."""
    rng = np.random.default_rng(seed)
    start = rng.random((num_steps, num_envs)) < share
    start[0] = True
    return rng.normal(size=(num_steps, num_envs, 1)), start


def delay_line(seen, start, length):
    """The last `length` inputs of the episode, zeros before its beginning."""
    states = np.zeros((*start.shape, length))
    state = states[0]
    for t in range(len(seen)):
        state = np.where(start[t][:, None], 0, state)
        state = states[t] = np.concatenate([seen[t], state[:, :-1]], axis=1)
    return states


def filtered(rho, noise):
    """`y_t = rho y_{t-1} + noise_t`, from its stationary law."""
    states = noise / (1 - rho**2) ** 0.5
    for t in range(1, len(noise)):
        states[t] = rho * states[t - 1] + noise[t]
    return states


@settings(max_examples=5)
@given(st.integers(1, 12), st.integers(0, 10_000))
def test_a_delay_line_holds_exactly_its_length(length, seed):
    seen, start = inputs(seed)
    found = memory_curve(seed, delay_line(seen, start, length), seen, start=start)
    curve = found.within
    np.testing.assert_allclose(curve.r2[:length], 1, atol=1e-4)
    np.testing.assert_allclose(found.reset_gap[1:length], 1, atol=0.1)
    assert np.nanmax(np.abs(curve.excess[length:])) < 0.05
    # The spread of the sum over the lags that hold nothing.
    spread = np.nansum(curve.null_r2[:, length:], axis=1).std()
    assert abs(found.capacity[0] - length) < 4 * spread + 1e-3
    exact = memory_curve(
        seed, delay_line(seen, start, length), seen, start=start, lags=np.arange(length)
    )
    assert exact.capacity[0] == pytest.approx(length, abs=1e-3)
    assert found.capacity_p_value[0] == pytest.approx(1 / 21)


def test_a_leaky_sum_remembers_geometrically_and_one_input_in_all():
    """One unit `h_t = rho h_{t-1} + o_t`: M(k) = (1 - rho^2) rho^(2 k), in sum one."""
    rho = 0.8
    seen = np.random.default_rng(0).normal(size=(400, 100, 1))
    start = np.zeros((400, 100), bool)
    # After the first steps the beginning is forgotten.
    hidden, seen, start = filtered(rho, seen.copy())[60:], seen[60:], start[60:]
    found = memory_curve(0, hidden, seen, start=start, lags=np.arange(12), num_shuffles=5)
    exact = (1 - rho**2) * rho ** (2 * np.arange(12))
    pairs = found.within.num_pairs
    # Of a squared correlation c^2 from n independent pairs; l2 takes off less than 1e-5.
    sem = 2 * np.sqrt(exact) * (1 - exact) / np.sqrt(pairs)
    assert np.all(np.abs(found.within.r2[:, 0] - exact) < 4 * sem + 1e-4)
    assert found.capacity[0] == pytest.approx(1 - rho**24, abs=4 * np.sqrt(np.sum(sem**2)))
    assert np.all(np.isnan(found.across.r2)) and not np.any(found.across.num_pairs)


def test_memory_that_passes_a_reset_has_no_gap():
    seen, start = inputs(3)
    never = np.zeros_like(start)
    leaking = memory_curve(0, delay_line(seen, never, 4), seen, start=start, lags=np.arange(1, 4))
    np.testing.assert_allclose(leaking.reset_gap, 0, atol=1e-4)
    erased = memory_curve(0, delay_line(seen, start, 4), seen, start=start, lags=np.arange(1, 4))
    np.testing.assert_allclose(erased.within.excess, 1, atol=1e-4)
    spread = erased.across.null_r2.std(axis=0)
    assert np.all(np.abs(erased.across.excess) < 4 * spread)


def test_slow_noise_that_knows_nothing_is_called_memory_no_more_often_than_it_may():
    """Hidden state and feature are independent and slow: p <= 0.05 in 5 % of data sets."""
    rng = np.random.default_rng(5)
    start = np.zeros((24, 20), bool)
    start[0] = True
    p_values, capacities = [], []
    for seed in range(100):
        hidden, feature = (filtered(0.9, rng.normal(size=(24, 20, n))) for n in (3, 1))
        found = memory_curve(seed, hidden, feature, start=start, lags=np.arange(4))
        p_values.append(found.capacity_p_value[0])
        capacities.append(found.capacity[0])
    # P(more than 12 of 100 at 1/21) is 0.1 %.
    assert np.sum(np.array(p_values) <= 0.05) <= 12
    assert abs(np.mean(capacities)) < 4 * np.std(capacities) / 10


def test_what_is_given_is_not_memory():
    """A slow feature seen now tells of its past: rho^(2 k) without memory, nothing beyond it."""
    feature = filtered(0.9, np.random.default_rng(2).normal(size=(200, 60, 1)))
    start = np.zeros((200, 60), bool)
    alone = memory_curve(0, feature, feature, start=start, lags=np.arange(4))
    np.testing.assert_allclose(alone.within.r2[:, 0], 0.81 ** np.arange(4), atol=0.02)
    beyond = memory_curve(0, feature, feature, start=start, given=feature, lags=np.arange(4))
    np.testing.assert_allclose(beyond.within.given_r2, alone.within.r2, atol=1e-4)
    np.testing.assert_allclose(beyond.within.excess, 0, atol=1e-3)
    # The step before makes the one before it known no better; its own past it holds exactly.
    line = delay_line(feature, start, 2)
    held = memory_curve(0, line, feature, start=start, given=feature, lags=np.array([1]))
    assert held.within.excess[0, 0] == pytest.approx(1 - 0.81, abs=0.02)


def test_several_features_are_read_at_once():
    seen, start = inputs(6)
    both = np.concatenate([seen, seen[::-1]], axis=2)
    found = memory_curve(0, delay_line(seen, start, 2), both, start=start, lags=np.arange(4))
    alone = memory_curve(0, delay_line(seen, start, 2), seen, start=start, lags=np.arange(4))
    np.testing.assert_allclose(found.within.r2[:, :1], alone.within.r2, atol=1e-12)
    np.testing.assert_allclose(found.capacity, [2, 0], atol=0.1)


def test_a_feature_that_never_varies_cannot_be_remembered():
    seen, start = inputs(7)
    found = memory_curve(0, seen, np.ones_like(seen), start=start, lags=np.arange(3))
    assert np.all(np.isnan(found.within.r2)) and found.capacity[0] == 0
    assert found.capacity_p_value[0] == 1


def test_a_gated_network_remembers_within_an_episode_only():
    seen, start = inputs(8, share=0.1)
    network = RecurrentActorCritic(1, 2, width=8, encoder=8, head=2)
    params = network.init(jax.random.key(0))
    hidden = network.initial_hidden(params, 40)
    features = network.features(params, hidden, seen, reset=start)
    found = memory_curve(0, features, seen, start=start, lags=np.arange(6))
    assert found.within.excess[1, 0] > 0.3 and found.within.excess[0, 0] > 0.9
    assert 1 < found.capacity[0] <= 8
    spread = found.across.null_r2.std(axis=0)
    assert np.all(np.abs(found.across.excess[1:]) < 4 * spread[1:])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": np.zeros((9, 4), bool)}, r"start: got shape \(9, 4\), expected \[time, env\]"),
        ({"hidden": np.zeros((9, 6))}, r"hidden: got shape \(9, 6\)"),
        ({"feature": np.zeros((8, 6, 1))}, r"feature: got shape \(8, 6, 1\)"),
        ({"given": np.full((9, 6, 1), np.nan)}, "given: got numbers that are not finite"),
        ({"lags": np.array([9])}, r"lags: got \[9\], expected different whole numbers in \[0, 9\)"),
        ({"lags": np.array([0.5])}, "lags: got"),
        ({"lags": np.array([], int)}, r"lags: got \[\], expected different whole numbers"),
        ({"lags": np.array([1, 1])}, r"lags: got \[1 1\], expected different whole numbers"),
        ({"start": np.full((9, 6), np.nan)}, "start: expected True and False"),
        ({"start": np.full((9, 6), "False")}, "start: expected an array of real numbers"),
        ({"l2": 0.0}, "l2: expected a finite number > 0, got 0.0"),
        ({"l2": "a"}, "l2: expected a finite number > 0, got 'a'"),
        ({"num_shuffles": 0}, "num_shuffles: expected a whole number >= 1, got 0"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    settings = {
        "hidden": np.zeros((9, 6, 2)),
        "feature": np.zeros((9, 6, 1)),
        "start": np.zeros((9, 6), bool),
    }
    with pytest.raises(ValueError, match=message):
        memory_curve(0, **(settings | changes))

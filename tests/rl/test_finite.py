"""Enumeration of environments: layers, laws of actions, ends, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.rl.finite import MAX_STATES, enumerate_moves, regret_process
from slt_rl.rl.tabular import TabularMDP


def walk(length):
    """A walk on 0..length; action 1 goes up, 0 stays, and the end pays 1."""

    def step(state, action):
        following = state + action
        ended = following == length
        return following, ended.astype(float), ended

    return step


def moves_of(length):
    starts = jnp.arange(2)
    return enumerate_moves(walk(length), starts, num_actions=2, identify_fn=lambda s: s)


def test_every_state_is_found_once_and_the_starts_are_first():
    moves = moves_of(200)
    assert moves.states.tolist() == list(range(200))
    assert moves.successor[:, 0].tolist() == list(range(200))
    assert moves.successor[:, 1].tolist() == [*range(1, 200), -1]
    assert moves.reward.sum() == 1 and moves.reward[199, 1] == 1


def test_an_action_law_mixes_moves_and_rewards():
    law = np.array([[0.75, 0.25], [0.1, 0.9]])
    mdp = moves_of(3).mdp(np.array([0.5, 0.5]), discount=0.9, action_law=law)
    np.testing.assert_allclose(mdp.transition[0, 0, :2], [0.75, 0.25])
    np.testing.assert_allclose(mdp.transition[2].sum(axis=1), [0.75, 0.1])
    np.testing.assert_allclose(mdp.reward[2], [0.25, 0.9])
    # V = r + discount (stay V), from the last state backwards.
    values = [0.9 / (1 - 0.9 * 0.1)]
    for _ in range(2):
        values.insert(0, 0.9 * 0.9 * values[0] / (1 - 0.9 * 0.1))
    np.testing.assert_allclose(mdp.optimal_values, values)


def test_equal_starts_and_endless_environments_are_refused():
    with pytest.raises(ValueError, match="distinct"):
        enumerate_moves(walk(3), jnp.zeros(2, int), num_actions=2, identify_fn=lambda s: s)

    def doubling(state, action):
        return 2 * state + action, jnp.zeros(()), jnp.array(False)

    with pytest.raises(ValueError, match=str(MAX_STATES)):
        enumerate_moves(doubling, jnp.ones(1, int), num_actions=2, identify_fn=lambda s: s)


def test_states_without_mistakes_are_left_out():
    # From 0 one action leads to 1, where nothing is lost any more, the other ends.
    transition = np.zeros((2, 2, 2))
    transition[0, 1, 1] = 1
    mdp = TabularMDP(transition, np.array([[0.0, 0.0], [3.0, 3.0]]), np.array([1.0, 0.0]), 1.0)
    small, kept = regret_process(mdp)
    assert kept.tolist() == [0]
    np.testing.assert_allclose(small.reward, [[-3.0, 0.0]])
    assert small.optimal_return == 0


def test_what_leads_to_a_mistake_is_kept():
    """From 0 to 1 to 2 whatever is done; only in 2 does an action matter."""
    transition = np.zeros((3, 2, 3))
    transition[0, :, 1] = transition[1, :, 2] = 1
    reward = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    mdp = TabularMDP(transition, reward, np.array([1.0, 0.0, 0.0]), 0.5)
    small, kept = regret_process(mdp)
    assert kept.tolist() == [0, 1, 2]
    uniform = jnp.full((3, 2), 0.5)
    regret = mdp.optimal_return - float(mdp.start @ mdp.values(uniform))
    assert -float(small.start @ small.values(uniform)) == pytest.approx(regret) and regret == 0.25


def test_the_finite_series_equals_the_solution():
    # Depth 3 in 20 states, so that the series is used; a small loop, so that it is not.
    rng = np.random.default_rng(0)
    layer = np.sort(rng.integers(0, 4, 20))
    transition = rng.random((20, 2, 20)) * (layer[None, None] == layer[:, None, None] + 1)
    transition /= np.maximum(transition.sum(axis=2, keepdims=True), 1)
    reward, start = rng.random((20, 2)), np.full(20, 0.05)
    mdp = TabularMDP(transition, reward, start, 0.9)
    looped = TabularMDP(transition + 1e-9 * np.eye(20)[:, None] / 2, reward, start, 0.9)
    assert mdp.longest_path == 3 and looped.longest_path is None
    policy = jnp.asarray(rng.dirichlet(np.ones(2), 20))
    np.testing.assert_allclose(mdp.values(policy), looped.values(policy), rtol=1e-7)
    np.testing.assert_allclose(mdp.occupancy(policy), looped.occupancy(policy), rtol=1e-7)

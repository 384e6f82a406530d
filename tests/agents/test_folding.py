"""Constant inputs and unseen directions: the smaller network computes what the whole one does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.agents.folding import drop_unseen_directions, fold_constant_inputs
from slt_rl.observables import restrict
from slt_rl.rl import MLP, CategoricalPolicy, policy_kl
from tests.agents import small_worlds

NETWORK = small_worlds.Layered(MLP(5, 3, hidden=(4,)))
POLICY = CategoricalPolicy(NETWORK)
PARAMS = jax.vmap(NETWORK.init)(jax.random.split(jax.random.key(0), 2))
STATES = np.random.default_rng(0).normal(size=(1, 20, 5))
STATES[..., 1], STATES[..., 4] = 3.0, -0.5


def logits(params, observations):
    return jax.vmap(jax.vmap(NETWORK, (None, 0)), (0, None))(params, observations)


def test_the_folded_network_has_fewer_parameters_and_the_same_outputs():
    folded = fold_constant_inputs(PARAMS, STATES)
    assert (folded.num_inputs, folded.num_varying) == (5, 3)
    assert folded.params["layer_0"]["kernel"].shape == (2, 3, 4)
    found = logits(folded.params, folded.observations[0])
    np.testing.assert_allclose(found, logits(PARAMS, STATES[0]), rtol=1e-12)


def test_it_moves_as_the_whole_network_with_the_constant_rows_frozen():
    center = jax.tree.map(lambda x: x[1], PARAMS)
    loss_fn, data = policy_kl(POLICY, center, jnp.asarray(STATES[0]))
    mask = jax.tree.map(lambda _: True, center)
    mask["layer_0"]["kernel"] = np.broadcast_to([[True], [False], [True], [True], [False]], (5, 4))
    frozen_fn, free = restrict(loss_fn, center, mask)
    folded = fold_constant_inputs(PARAMS, STATES)
    own = jax.tree.map(lambda x: jnp.asarray(x[1]), folded.params)
    own_fn, own_data = policy_kl(POLICY, own, jnp.asarray(folded.observations[0]))
    step = jax.tree.map(lambda x: 0.3 * np.random.default_rng(1).normal(size=x.shape), own)
    moved = {f"['{a}']['{b}']": own[a][b] + step[a][b] for a in own for b in own[a]}
    moved["['layer_0']['bias']"] = free["['layer_0']['bias']"] + step["layer_0"]["bias"]
    moved["['layer_0']['kernel']"] = moved["['layer_0']['kernel']"].ravel()
    expected = frozen_fn(moved, data.examples)
    found = own_fn(jax.tree.map(jnp.add, own, step), own_data.examples)
    assert expected.max() > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_with_own_states_each_checkpoint_has_its_own_constants():
    states = np.concatenate([STATES, STATES])
    states[1, :, 4], states[1, :, 0] = 7.0, np.arange(20)
    folded = fold_constant_inputs(PARAMS, states)
    assert folded.num_varying == 3
    for i in range(2):
        own = jax.tree.map(lambda x, i=i: x[i], folded.params)
        whole = jax.tree.map(lambda x, i=i: x[i], PARAMS)
        found = jax.vmap(NETWORK, (None, 0))(own, folded.observations[i])
        np.testing.assert_allclose(
            found, jax.vmap(NETWORK, (None, 0))(whole, states[i]), rtol=1e-11
        )


@pytest.mark.parametrize("extra", [{}, {"other": {"kernel": np.ones((2, 5, 5)), "bias": 0}}])
def test_what_has_no_single_first_layer_is_left_alone(extra):
    params = {"w": np.ones((2, 3))} if not extra else {**PARAMS, **extra}
    folded = fold_constant_inputs(params, STATES)
    assert folded.params is params and folded.num_varying == 5


@pytest.mark.parametrize("fold", [fold_constant_inputs, drop_unseen_directions])
@pytest.mark.parametrize(
    ("states", "message"),
    [
        (STATES[0], r"observations: got shape \(20, 5\), expected \[set, ..., input\]"),
        (np.where(STATES == 3.0, np.nan, STATES), "observations: got nan or infinity"),
        (np.concatenate([STATES] * 3), "observations: got 3 sets for 2 checkpoints"),
    ],
)
def test_states_that_do_not_fit_are_refused(fold, states, message):
    with pytest.raises(ValueError, match=message):
        fold(PARAMS, states)


def test_if_nothing_varies_one_input_is_kept():
    folded = fold_constant_inputs(PARAMS, np.ones((1, 4, 5)))
    assert folded.num_varying == 1


def few_directions(num_sets=1):
    """States in a plane of the five inputs, another plane in each set."""
    rng = np.random.default_rng(2)
    return rng.normal(size=(num_sets, 20, 2)) @ rng.normal(size=(num_sets, 2, 5))


@pytest.mark.parametrize("num_sets", [1, 2])
def test_directions_without_states_are_dropped_and_the_outputs_kept(num_sets):
    states = few_directions(num_sets)
    found = drop_unseen_directions(PARAMS, states)
    assert (found.num_inputs, found.num_varying) == (5, 2)
    assert found.params["layer_0"]["kernel"].shape == (2, 2, 4)
    for i in range(2):
        own, whole = (jax.tree.map(lambda x, i=i: x[i], p) for p in (found.params, PARAMS))
        seen, before = (x[i % num_sets] for x in (found.observations, states))
        expected = jax.vmap(NETWORK, (None, 0))(whole, before)
        np.testing.assert_allclose(jax.vmap(NETWORK, (None, 0))(own, seen), expected, rtol=1e-11)


def test_a_step_and_its_turned_step_change_the_outputs_alike():
    states = few_directions()
    found = drop_unseen_directions(PARAMS, states)
    # The turn is the map from old observations to new ones.
    turn = np.linalg.lstsq(states[0], found.observations[0])[0]
    step = np.random.default_rng(3).normal(size=(2, 5, 4))
    moved, own = (jax.tree.map(lambda x: x, p) for p in (PARAMS, found.params))
    moved["layer_0"]["kernel"] = PARAMS["layer_0"]["kernel"] + step
    own["layer_0"]["kernel"] = found.params["layer_0"]["kernel"] + turn.T @ step
    # No longer than the step: the tether of the whole step is that of the turned and of the rest.
    np.testing.assert_allclose(turn.T @ turn, np.eye(2), atol=1e-12)
    expected = logits(moved, states[0])
    np.testing.assert_allclose(logits(own, found.observations[0]), expected, rtol=1e-10)


def test_all_directions_are_kept_where_the_states_have_all():
    states = np.random.default_rng(4).normal(size=(1, 20, 5))
    assert drop_unseen_directions(PARAMS, states).num_varying == 5
    assert drop_unseen_directions({"w": np.ones((2, 3))}, states).observations is states

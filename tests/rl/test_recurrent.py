"""An actor-critic with memory: what it computes, and where its memory begins and ends."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slt_rl.rl import (
    MLP,
    GymnaxEnv,
    RecurrentActorCritic,
    recurrent_rollout,
    reset_envs,
)
from slt_rl.rl.recurrent_play import see
from tests.rl.counting_env import CountingEnv, CountingParams

NETWORK = RecurrentActorCritic(3, 2, width=5, encoder=4, head=6)
PARAMS = jax.tree.map(
    # Every parameter matters: biases are not zero, logits are not near zero.
    lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape),
    NETWORK.init(jax.random.key(0)),
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(hidden, observation):
    """One step of one environment, from the formulas."""
    p = jax.tree.map(np.asarray, PARAMS)
    x = np.tanh(observation @ p["encoder"]["kernel"] + p["encoder"]["bias"])
    u_r, u_z, u_n = np.split(x @ p["core"]["input"]["kernel"] + p["core"]["input"]["bias"], 3)
    v_r, v_z, v_n = np.split(hidden @ p["core"]["hidden"]["kernel"], 3)
    r, z = sigmoid(u_r + v_r), sigmoid(u_z + v_z)
    n = np.tanh(u_n + r * (v_n + p["core"]["hidden"]["bias"]))
    hidden = (1 - z) * n + z * hidden
    outputs = []
    for head in (p["actor"], p["critic"]):
        y = np.tanh(hidden @ head["hidden"]["kernel"] + head["hidden"]["bias"])
        outputs.append(y @ head["output"]["kernel"] + head["output"]["bias"])
    return hidden, outputs[0], outputs[1][0]


def random_play(seed, num_steps=9, num_envs=3, share=0.3):
    rng = np.random.default_rng(seed)
    observation = rng.normal(size=(num_steps, num_envs, 3))
    return observation, rng.random((num_steps, num_envs)) < share, rng.normal(size=(num_envs, 5))


@given(st.integers(0, 10_000))
def test_agrees_with_the_formulas_on_episodes_taken_one_by_one(seed):
    """Each episode alone, from zero memory; the first of a window from the memory given."""
    observation, reset, hidden = random_play(seed)
    last, distribution, value = NETWORK.apply(
        PARAMS, jnp.asarray(hidden), jnp.asarray(observation), reset=jnp.asarray(reset)
    )
    for env in range(3):
        starts = [0, *np.flatnonzero(reset[1:, env]) + 1, 9]
        for first, end in itertools.pairwise(starts):
            state = hidden[env] if first == 0 and not reset[0, env] else np.zeros(5)
            for t in range(first, end):
                state, logits, v = by_hand(state, observation[t, env])
                np.testing.assert_allclose(distribution.logits[t, env], logits, atol=1e-12)
                np.testing.assert_allclose(value[t, env], v, atol=1e-12)
        np.testing.assert_allclose(last[env], state, atol=1e-12)


@given(st.integers(0, 10_000))
def test_nothing_passes_a_reset(seed):
    """What came before changes nothing after it, to the last bit."""
    observation, reset, hidden = random_play(seed)
    reset[4] = True
    other = np.concatenate([observation[:4] + 1, observation[4:]])
    apply = jax.jit(NETWORK.apply)
    one, two = (
        apply(PARAMS, hidden, observation, reset=reset),
        apply(PARAMS, 2 * hidden, other, reset=reset),
    )
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[2][4:], two[2][4:])
    assert not np.any(one[2][0] == two[2][0])


def test_a_stretch_may_be_cut_anywhere():
    observation, reset, hidden = random_play(1)
    whole = NETWORK.apply(PARAMS, hidden, observation, reset=reset)
    half, _, first = NETWORK.apply(PARAMS, hidden, observation[:4], reset=reset[:4])
    last, _, second = NETWORK.apply(PARAMS, half, observation[4:], reset=reset[4:])
    np.testing.assert_allclose(last, whole[0], atol=1e-14)
    np.testing.assert_allclose(np.concatenate([first, second]), whole[2], atol=1e-14)


def test_without_a_core_it_is_an_mlp_exactly():
    network = RecurrentActorCritic(3, 2, width=0, encoder=4, head=6)
    params = network.init(jax.random.key(0))
    assert set(params) == {"encoder", "actor", "critic"}
    observation, reset, _ = random_play(2)
    hidden = network.initial_hidden(params, 3)
    assert hidden.shape == (3, 0)
    last, distribution, value = network.apply(params, hidden, jnp.asarray(observation), reset=reset)
    np.testing.assert_array_equal(last, hidden)
    for head, num_outputs, found in (
        ("actor", 2, distribution.logits),
        ("critic", 1, value[..., None]),
    ):
        mlp = MLP(3, num_outputs, hidden=(4, 6))
        layers = [params["encoder"], params[head]["hidden"], params[head]["output"]]
        expected = jax.vmap(jax.vmap(lambda x, m=mlp, p=layers: m(p, x)))(jnp.asarray(observation))
        np.testing.assert_array_equal(found, expected)


def test_initial_weights_have_the_scale_of_the_library():
    params = RecurrentActorCritic(300, 7, width=200, encoder=100, head=150).init(jax.random.key(0))
    for kernel, expected in (
        (params["encoder"]["kernel"], (2 / 300) ** 0.5),
        (params["core"]["input"]["kernel"], 200**-0.5),
        (params["core"]["hidden"]["kernel"], 200**-0.5),
        (params["actor"]["hidden"]["kernel"], (2 / 200) ** 0.5),
        (params["actor"]["output"]["kernel"], 0.01 * 150**-0.5),
        (params["critic"]["output"]["kernel"], 150**-0.5),
    ):
        # The standard error of a standard deviation of n normals is 1 / sqrt(2 n).
        error = (float(jnp.std(kernel)) / expected - 1) * (2 * kernel.size) ** 0.5
        assert abs(error) < 4
    assert all(not np.any(x) for path, x in leaves(params) if path.endswith("['bias']"))


def leaves(params):
    return [(jax.tree_util.keystr(p), x) for p, x in jax.tree_util.tree_leaves_with_path(params)]


def test_observations_of_other_types_and_shapes():
    observation = jnp.ones((2, 4, 3, 1), jnp.uint8)
    hidden = NETWORK.initial_hidden(PARAMS, 4)
    reset = jnp.zeros((2, 4), bool)
    one = NETWORK.apply(PARAMS, hidden, observation, reset=reset)
    two = NETWORK.apply(PARAMS, hidden, jnp.ones((2, 4, 3)), reset=reset)
    jax.tree.map(np.testing.assert_array_equal, one, two)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": -1}, "width: expected a whole number >= 0, got -1"),
        ({"encoder": 0}, "encoder: expected a whole number >= 1, got 0"),
        ({"num_actions": 0}, "num_actions: expected a whole number >= 1, got 0"),
    ],
)
def test_bad_sizes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        RecurrentActorCritic(**({"num_inputs": 2, "num_actions": 2} | change))


COUNTER = RecurrentActorCritic(1, 2, width=3, encoder=4, head=4)
COUNTER_PARAMS = COUNTER.init(jax.random.key(3))
NO_MEMORY = COUNTER.initial_hidden(COUNTER_PARAMS, 2)


@jax.jit
def play_on(batch, hidden, params):
    """Eleven more steps in two environments."""
    return recurrent_rollout(
        jax.random.key(1),
        COUNTER,
        COUNTER_PARAMS,
        env=GymnaxEnv(CountingEnv(), params),
        batch=batch,
        hidden=hidden,
        num_steps=11,
    )


def play(*, limit=100, end=100):
    params = CountingParams(max_steps_in_episode=limit, end=end)
    batch = reset_envs(jax.random.key(0), GymnaxEnv(CountingEnv(), params), 2)
    return params, play_on(batch, NO_MEMORY, params)


def episode_values(length):
    """Values of 0, 1, 2, ..., seen one by one as one episode."""
    step = jax.jit(functools.partial(see, COUNTER, COUNTER_PARAMS))
    hidden, values = NO_MEMORY[:1], []
    for count in range(length):
        hidden, _, value = step(
            hidden, observation=jnp.full((1, 1), float(count)), reset=jnp.zeros(1, bool)
        )
        values.append(float(value[0]))
    return np.array(values)


def test_play_resets_memory_where_episodes_begin_and_values_what_was_cut():
    """A time limit of 4: each episode shows 0, 1, 2, 3 and is cut before its successor, 4."""
    _, (batch, hidden, found, sums) = play(limit=4)
    values, counts = episode_values(5), np.arange(11) % 4
    np.testing.assert_array_equal(found.observation[:, 0, 0], counts)
    np.testing.assert_array_equal(found.start[:, 0], counts == 0)
    np.testing.assert_array_equal(found.truncated[:, 0], counts == 3)
    np.testing.assert_allclose(found.value[:, 0], values[counts], atol=1e-14)
    np.testing.assert_allclose(found.next_value[:, 0], values[counts + 1], atol=1e-14)
    assert (int(sums.num_episodes), int(sums.total_length)) == (4, 16)
    assert hidden.shape == (2, 3) and np.all(batch.episode_length == 3)


def test_play_goes_on_with_its_memory_from_call_to_call():
    params, (batch, hidden, first, _) = play()
    second = play_on(batch, hidden, params)[2]
    found = np.concatenate([first.value[:, 1], second.value[:, 1]])
    np.testing.assert_allclose(found, episode_values(22), atol=1e-14)
    np.testing.assert_array_equal(first.next_value[-1], second.value[0])
    assert not np.any(second.start)


def test_log_probabilities_are_those_of_the_actions():
    _, (_, _, found, _) = play(end=5)
    apply = jax.jit(COUNTER.apply)
    _, distribution, value = apply(COUNTER_PARAMS, NO_MEMORY, found.observation, reset=found.start)
    np.testing.assert_allclose(found.log_prob, distribution.log_prob(found.action), atol=1e-14)
    np.testing.assert_allclose(found.value, value, atol=1e-14)
    following = np.where(found.terminated[:-1], 0, found.value[1:])
    np.testing.assert_array_equal(found.next_value[:-1], following)
    assert np.sum(found.terminated) == 4
    assert np.unique(found.action).size == 2


def test_runs_that_are_cut_at_different_steps_do_not_meet():
    """Mapped over runs, a cut in one run evaluates successors in all of them."""
    limits = (4, 7, 100)
    alone = [play(limit=limit)[1] for limit in limits]
    params = CountingParams(max_steps_in_episode=jnp.array(limits), end=jnp.full(3, 100))
    batch = jax.tree.map(
        lambda x: jnp.stack([x] * 3), reset_envs(jax.random.key(0), GymnaxEnv(CountingEnv()), 2)
    )
    together = jax.vmap(play_on, in_axes=(0, None, 0))(batch, NO_MEMORY, params)
    for run, expected in enumerate(alone):
        jax.tree.map(
            lambda a, b, run=run: np.testing.assert_allclose(a[run], b, atol=1e-14),
            together,
            expected,
        )

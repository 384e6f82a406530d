"""PPO of an agent with memory: its objective, what a run may depend on, and a task of memory."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slt_rl.rl import (
    PPO,
    GymnaxEnv,
    RecurrentActorCritic,
    RecurrentPPO,
    clipped_adam,
    init_runs,
    run_keys,
    train,
)
from slt_rl.rl.recurrent import recurrent_rollout
from slt_rl.rl.recurrent_ppo import pick_windows
from tests.rl.counting_env import CountingEnv, CountingParams
from tests.rl.test_advantages import by_hand

KEY = jax.random.key(7)
NETWORK = RecurrentActorCritic(1, 2, width=3, encoder=4, head=4)
ENV = GymnaxEnv(CountingEnv(), CountingParams())


def make_ppo(**changes):
    settings = {
        "network": NETWORK,
        "optimizer": clipped_adam(1e-2),
        "num_envs": 4,
        "num_steps": 5,
        "num_epochs": 2,
        "num_minibatches": 2,
    }
    return RecurrentPPO(**(settings | changes))


def run(states, checkpoints, ppo=None):
    keys = run_keys(KEY, states.iteration.shape[0])
    return list(train(keys, ppo or make_ppo(), ENV, states=states, checkpoints=checkpoints))


def start(num_runs=2, ppo=None):
    return init_runs(run_keys(KEY, num_runs), ppo or make_ppo(), ENV, init_fn=NETWORK.init)


def assert_same(one, two):
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_resumed_is_uninterrupted_to_the_last_bit():
    whole = run(start(), (2, 4, 8))
    saved = jax.tree.map(np.asarray, whole[0][0])
    assert np.any(saved.hidden)
    resumed = run(jax.tree.map(jnp.asarray, saved), (2, 4, 8))
    assert len(resumed) == 2
    assert_same(whole[-1], resumed[-1])
    forgot = run(whole[0][0]._replace(hidden=0 * whole[0][0].hidden), (2, 4, 8))
    assert not np.array_equal(forgot[-1][1].value_loss, whole[-1][1].value_loss)


def test_a_run_depends_neither_on_its_checkpoints_nor_on_the_runs_beside_it():
    once, often = run(start(), (8,))[-1][0], run(start(), (1, 2, 8))[-1][0]
    assert_same(once, often)
    alone = run(start(1), (8,))[-1][0]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[0], b[0], rtol=1e-9), alone.params, once.params
    )


def test_one_schedule_is_traced_once():
    traces = []

    def counted(x):
        traces.append(None)
        return jnp.tanh(x)

    network = dataclasses.replace(NETWORK, activation=counted)
    ppo = make_ppo(network=network)
    keys = run_keys(KEY, 2)
    states = init_runs(keys, ppo, ENV, init_fn=network.init)
    blocks = train(keys, ppo, ENV, states=states, checkpoints=(1, 2, 5, 6))
    next(blocks)
    first = len(traces)
    assert len(list(blocks)) == 3
    assert len(traces) == first > 0


@pytest.mark.parametrize("end", [4, 10**6])
def test_advantages_use_the_true_successor_where_cut_and_nothing_beyond_an_end(end):
    """By hand, from an episode seen alone: the values of 0, 1, 2, 3 and of the successor 4."""
    ppo = make_ppo(optimizer=optax.sgd(0.0), normalize_advantages=False)
    env = GymnaxEnv(CountingEnv(), CountingParams(max_steps_in_episode=4, end=end))
    state = ppo.init(jax.random.key(0), env, NETWORK.init(jax.random.key(1)))
    # The second window of 5 steps begins within an episode of 4.
    state, _ = jax.jit(ppo.step)(KEY, env, state)
    *_, play, _ = recurrent_rollout(
        KEY, NETWORK, state.params, env=env, batch=state.envs, hidden=state.hidden, num_steps=5
    )
    windows, _ = ppo.make_windows(state.hidden, play)
    starts = jnp.arange(5)[:, None] == 0
    hidden = NETWORK.initial_hidden(state.params, 1)
    counts = jnp.arange(5.0)[:, None, None]
    values = np.asarray(NETWORK.apply(state.params, hidden, counts, reset=starts)[2])[:, 0]
    seen = np.asarray(play.observation[..., 0], int)
    np.testing.assert_array_equal(seen[:, 0], [1, 2, 3, 0, 1])
    found = by_hand(
        np.asarray(play.reward),
        values[seen],
        values[seen + 1],
        np.asarray(play.terminated),
        np.asarray(play.truncated),
        discount=ppo.discount,
        gae_lambda=ppo.gae_lambda,
    )
    np.testing.assert_allclose(windows.steps.advantage, found, atol=1e-12)
    np.testing.assert_allclose(windows.steps.target, found + values[seen], atol=1e-12)
    assert np.any(play.terminated) == (end == 4)


def test_the_loss_sees_windows_as_they_were_played():
    """Before the first update every ratio is one, through resets and from a memory in use."""
    ppo = make_ppo()
    state, _ = jax.jit(ppo.step)(KEY, ENV, ppo.init(KEY, ENV, NETWORK.init(KEY)))
    *_, play, _ = recurrent_rollout(
        KEY, NETWORK, state.params, env=ENV, batch=state.envs, hidden=state.hidden, num_steps=5
    )
    windows, _ = ppo.make_windows(state.hidden, play)
    for part in (windows, pick_windows(windows, jnp.array([3, 1]))):
        _, parts = ppo.loss(state.params, part)
        assert float(parts["approx_kl"]) == pytest.approx(0, abs=1e-12)
    _, forgotten = ppo.loss(state.params, windows._replace(hidden=0 * windows.hidden))
    assert float(forgotten["approx_kl"]) > 1e-9


def test_one_step_is_one_step_of_the_optimizer():
    ppo = make_ppo(num_epochs=1, num_minibatches=1, optimizer=optax.sgd(0.1))
    state = ppo.init(jax.random.key(0), ENV, NETWORK.init(jax.random.key(1)))
    new, stats = jax.jit(ppo.step)(KEY, ENV, state)
    key_play, _ = jax.random.split(jax.random.fold_in(KEY, 0))
    envs, hidden, play, _ = recurrent_rollout(
        key_play, NETWORK, state.params, env=ENV, batch=state.envs, hidden=state.hidden, num_steps=5
    )
    windows, _ = ppo.make_windows(state.hidden, play)
    gradient = jax.grad(lambda p: ppo.loss(p, windows)[0])(state.params)
    by_gradient = jax.tree.map(lambda w, g: w - 0.1 * g, state.params, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), new.params, by_gradient)
    np.testing.assert_allclose(new.hidden, hidden, atol=1e-14)
    np.testing.assert_array_equal(new.envs.episode_length, envs.episode_length)
    assert int(stats.episodes.num_episodes) == 4
    assert min(float(jnp.max(jnp.abs(g))) for g in jax.tree.leaves(gradient)) > 0


def test_without_a_core_and_on_one_minibatch_it_is_ppo():
    """The same agent as two functions of one observation: the same play, the same update."""
    network = dataclasses.replace(NETWORK, width=0)
    settings = {"num_epochs": 1, "num_minibatches": 1, "optimizer": optax.sgd(0.1)}
    one = make_ppo(network=network, **settings)

    def seen(params, observation):
        hidden = network.initial_hidden(params, 1)
        return jax.tree.map(
            lambda x: x[0, 0],
            network.apply(params, hidden, observation[None, None], reset=jnp.zeros((1, 1), bool))[
                1:
            ],
        )

    two = PPO(
        policy=lambda params, observation: seen(params, observation)[0],
        value_fn=lambda params, observation: seen(params, observation)[1],
        num_envs=4,
        num_steps=5,
        **settings,
    )
    params = network.init(jax.random.key(1))
    first = one.init(KEY, ENV, params)
    second = two.init(KEY, ENV, {"policy": params, "value": params})
    first, stats = jax.jit(one.step)(KEY, ENV, first)
    second, others = jax.jit(two.step)(KEY, ENV, second)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), stats, others)
    moved = jax.tree.map(lambda p, a, b: p + (a - p) + (b - p), params, *second.params.values())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), first.params, moved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_minibatches": 3}, "num_minibatches: got 3, expected a divisor of num_envs = 4"),
        ({"num_steps": 0}, "num_steps: got 0, expected at least 1"),
        ({"gae_lambda": 2}, r"gae_lambda: got 2, expected a number in \[0, 1\]"),
    ],
)
def test_bad_hyper_parameters_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        make_ppo(**changes)

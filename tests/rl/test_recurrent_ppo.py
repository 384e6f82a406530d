"""PPO of an agent with memory: its objective, what a run may depend on, and a task of memory."""

import dataclasses

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slt_rl.rl import (
    PPO,
    Forgetful,
    GymnaxEnv,
    RecurrentActorCritic,
    RecurrentPPO,
    clipped_adam,
    init_runs,
    recurrent_evaluate,
    recurrent_rollout,
    run_keys,
    train,
)
from slt_rl.rl.recurrent_ppo import pick_windows
from tests.rl.counting_env import CountingEnv, CountingParams
from tests.rl.test_advantages import by_hand

pytestmark = pytest.mark.unoptimized

KEY = jax.random.key(7)
NETWORK = RecurrentActorCritic(1, 2, width=3, encoder=4, head=4)
PARAMS = NETWORK.init(jax.random.key(1))
ENV = GymnaxEnv(CountingEnv(), CountingParams())
DESCENT = optax.sgd(0.1)
MEMORY_CHAIN = GymnaxEnv(*gymnax.make("MemoryChain-bsuite"))


def make_ppo(**changes):
    settings = {
        "network": NETWORK,
        "optimizer": DESCENT,
        "num_envs": 4,
        "num_steps": 5,
        "num_epochs": 1,
        "num_minibatches": 1,
    }
    return RecurrentPPO(**(settings | changes))


@jax.jit
def play(key, env, envs, hidden):
    return recurrent_rollout(key, NETWORK, PARAMS, env=env, batch=envs, hidden=hidden, num_steps=5)


def second_window(env, spread=0.0):
    """The hidden state from which the second window of five steps began, and the window."""
    start = make_ppo().init(jax.random.key(0), env, PARAMS)
    envs, hidden, _, _ = play(jax.random.key(2), env, start.envs, start.hidden)
    # The environments have all seen the same.
    hidden = hidden + spread * jax.random.normal(jax.random.key(4), hidden.shape)
    return hidden, play(jax.random.key(3), env, envs, hidden)[2]


def assert_close(one, two, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, two)


def test_resumed_is_uninterrupted_to_the_last_bit_and_traced_once():
    traces = []

    def counted(x):
        traces.append(None)
        return jnp.tanh(x)

    network = dataclasses.replace(NETWORK, activation=counted)
    ppo = make_ppo(network=network, optimizer=clipped_adam(1e-2), num_epochs=2, num_minibatches=2)
    keys = run_keys(KEY, 2)

    def run(states):
        return list(train(keys, ppo, ENV, states=states, checkpoints=(2, 4, 8)))

    whole = run(init_runs(keys, ppo, ENV, init_fn=network.init))
    num_traces = len(traces)
    saved = jax.tree.map(np.asarray, whole[0][0])
    assert np.any(saved.hidden)
    resumed = run(jax.tree.map(jnp.asarray, saved))
    assert len(resumed) == 2
    jax.tree.map(np.testing.assert_array_equal, whole[-1], resumed[-1])
    forgot = run(whole[0][0]._replace(hidden=jnp.zeros_like(whole[0][0].hidden)))
    assert not np.array_equal(forgot[-1][1].value_loss, whole[-1][1].value_loss)
    assert len(traces) == num_traces > 0


@pytest.mark.parametrize("end", [4, 10**6])
def test_advantages_use_the_true_successor_where_cut_and_nothing_beyond_an_end(end):
    """By hand, from an episode seen alone: the values of 0, 1, 2, 3 and of the successor 4."""
    ppo = make_ppo(normalize_advantages=False)
    hidden, played = second_window(
        GymnaxEnv(CountingEnv(), CountingParams(max_steps_in_episode=4, end=end))
    )
    windows, _ = ppo.make_windows(hidden, played)
    _, _, values = NETWORK.apply(
        PARAMS,
        NETWORK.initial_hidden(PARAMS, 1),
        jnp.arange(5.0)[:, None, None],
        reset=jnp.arange(5)[:, None] == 0,
    )
    values, seen = np.asarray(values)[:, 0], np.asarray(played.observation[..., 0], int)
    np.testing.assert_array_equal(seen[:, 0], [1, 2, 3, 0, 1])
    found = by_hand(
        np.asarray(played.reward),
        values[seen],
        values[seen + 1],
        np.asarray(played.terminated),
        np.asarray(played.truncated),
        discount=ppo.discount,
        gae_lambda=ppo.gae_lambda,
    )
    np.testing.assert_allclose(windows.steps.advantage, found, atol=1e-12)
    np.testing.assert_allclose(windows.steps.target, found + values[seen], atol=1e-12)
    assert np.any(played.terminated) == (end == 4)


def test_the_loss_sees_windows_as_they_were_played():
    """Before the first update every ratio is one, through resets and from a memory in use."""
    ppo = make_ppo()
    windows, _ = ppo.make_windows(*second_window(ENV, spread=1.0))
    loss = jax.jit(ppo.loss)
    swapped = pick_windows(windows, jnp.array([3, 1, 2, 0]))
    for part in (windows, swapped):
        assert float(loss(PARAMS, part)[1]["approx_kl"]) == pytest.approx(0, abs=1e-14)
    mixed = windows._replace(steps=swapped.steps, start=swapped.start)
    forgotten = windows._replace(hidden=jnp.zeros_like(windows.hidden))
    for part in (mixed, forgotten):
        assert float(loss(PARAMS, part)[1]["approx_kl"]) > 1e-9


def test_one_step_is_one_step_of_the_optimizer():
    ppo = make_ppo()
    state = ppo.init(jax.random.key(0), ENV, PARAMS)
    new, stats = jax.jit(ppo.step)(KEY, ENV, state)
    key_play, _ = jax.random.split(jax.random.fold_in(KEY, 0))
    envs, hidden, played, _ = play(key_play, ENV, state.envs, state.hidden)
    windows, _ = ppo.make_windows(state.hidden, played)
    gradient = jax.jit(jax.grad(lambda p: ppo.loss(p, windows)[0]))(PARAMS)
    assert_close(new.params, jax.tree.map(lambda w, g: w - 0.1 * g, PARAMS, gradient), atol=1e-12)
    np.testing.assert_allclose(new.hidden, hidden, atol=1e-14)
    np.testing.assert_array_equal(new.envs.episode_length, envs.episode_length)
    assert (int(new.iteration), int(stats.episodes.num_episodes)) == (1, 4)
    assert min(float(jnp.max(jnp.abs(g))) for g in jax.tree.leaves(gradient)) > 0


def test_without_a_core_and_on_one_minibatch_it_is_ppo():
    """The same agent as two functions of one observation: the same play, the same update."""
    network = dataclasses.replace(NETWORK, width=0)
    one = make_ppo(network=network)

    def seen(params, observation):
        window, reset = observation[None, None], jnp.zeros((1, 1), bool)
        hidden = network.initial_hidden(params, 1)
        return jax.tree.map(
            lambda x: x[0, 0], network.apply(params, hidden, window, reset=reset)[1:]
        )

    two = PPO(
        policy=lambda params, observation: seen(params, observation)[0],
        value_fn=lambda params, observation: seen(params, observation)[1],
        optimizer=DESCENT,
        num_envs=4,
        num_steps=5,
        num_epochs=1,
        num_minibatches=1,
    )
    params = network.init(jax.random.key(1))
    first = one.init(KEY, ENV, params)
    second = two.init(KEY, ENV, {"policy": params, "value": params})
    first, stats = jax.jit(one.step)(KEY, ENV, first)
    second, others = jax.jit(two.step)(KEY, ENV, second)
    assert_close(stats, others, atol=1e-12)
    # Two copies of the shared encoder move by their own gradients, one by both.
    moved = jax.tree.map(lambda p, a, b: a + b - p, params, *second.params.values())
    assert_close(first.params, moved, atol=1e-12)


def trained_on_memory_chain(width):
    network = RecurrentActorCritic(3, 2, width=width, encoder=16, head=16)
    ppo = RecurrentPPO(
        network=network,
        optimizer=clipped_adam(3e-3),
        num_envs=64,
        num_steps=24,
        entropy_weight=0.01,
    )
    keys = run_keys(KEY, 2)
    start = init_runs(keys, ppo, MEMORY_CHAIN, init_fn=network.init)
    ((states, stats),) = train(keys, ppo, MEMORY_CHAIN, states=start, checkpoints=(60,))
    return network, states.params, stats.episodes


def returns(agent, params):
    found = jax.vmap(
        lambda params: recurrent_evaluate(
            KEY, agent, params, env=MEMORY_CHAIN, num_episodes=1000, max_steps=6, greedy=True
        )
    )(params)
    assert np.all(found.complete) and np.all(found.episode_length == 6)
    return np.asarray(found.episode_return)


@pytest.mark.very_slow
def test_remembers_the_cue_of_a_memory_chain_and_without_memory_guesses():
    """The cue is seen at the beginning, the answer is due four steps later and worth 1 or -1."""
    network, params, _ = trained_on_memory_chain(16)
    np.testing.assert_array_equal(returns(network, params), 1)
    # A thousand coin flips.
    assert np.max(np.abs(returns(Forgetful(network), params).sum(axis=1))) < 4 * 1000**0.5
    *_, episodes = trained_on_memory_chain(0)
    last = jax.tree.map(lambda x: x[:, 40:].sum(axis=1), episodes)
    assert np.all(last.num_episodes == 20 * 64 * 4)
    assert np.all(np.abs(last.total_return) < 4 * last.num_episodes**0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_minibatches": 3}, "num_minibatches: got 3, expected a divisor of num_envs = 4"),
        ({"num_steps": 0}, "num_steps: expected a whole number >= 1, got 0"),
        ({"gae_lambda": 2}, r"gae_lambda: got 2, expected a number in \[0, 1\]"),
    ],
)
def test_bad_hyper_parameters_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        make_ppo(**changes)

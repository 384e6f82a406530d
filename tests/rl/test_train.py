"""Many runs in one program: what a run may depend on, and what it may not."""

import dataclasses

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slt_rl.rl import (
    MLP,
    PPO,
    GaussianPolicy,
    GymnaxEnv,
    LearnedGaussianPolicy,
    ValueNetwork,
    clipped_adam,
    init_runs,
    linear_schedule,
    log_schedule,
    run_keys,
    train,
)
from tests.rl.counting_env import CountingEnv, CountingParams, learnable, linear_value

ENV = GymnaxEnv(CountingEnv(), CountingParams())
KEY = jax.random.key(7)


def init_params(key):
    policy = {"w": jax.random.normal(key, (2,)), "b": jnp.zeros(2)}
    return {"policy": policy, "value": jnp.zeros(2)}


PPO_SETTINGS = PPO(
    policy=learnable,
    value_fn=linear_value,
    optimizer=clipped_adam(optax.linear_schedule(5e-2, 1e-2, 200)),
    num_envs=4,
    num_steps=5,
    num_epochs=2,
    num_minibatches=2,
)


def start(num_runs=3):
    return init_runs(run_keys(KEY, num_runs), PPO_SETTINGS, ENV, init_fn=init_params)


def run(states, checkpoints):
    keys = run_keys(KEY, states.iteration.shape[0])
    return list(train(keys, PPO_SETTINGS, ENV, states=states, checkpoints=checkpoints))


def assert_same(one, two):
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_resumed_is_uninterrupted_to_the_last_bit():
    whole = run(start(), (2, 4, 8))
    saved = jax.tree.map(np.asarray, whole[0][0])
    resumed = run(jax.tree.map(jnp.asarray, saved), (2, 4, 8))
    assert len(resumed) == 2
    assert_same(whole[-1][0], resumed[-1][0])
    assert_same(whole[-1][1], resumed[-1][1])


def test_results_do_not_depend_on_the_checkpoints():
    once, often = run(start(), (8,)), run(start(), (1, 2, 4, 8))
    assert_same(once[-1][0], often[-1][0])
    entropy = np.concatenate([stats.entropy for _, stats in often], axis=1)
    np.testing.assert_array_equal(once[0][1].entropy, entropy)


def test_a_run_does_not_depend_on_the_runs_beside_it():
    one, three = run(start(1), (8,))[-1][0], run(start(3), (8,))[-1][0]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[0], b[0], rtol=1e-9), one.params, three.params
    )
    assert np.unique(np.asarray(three.params["policy"]["w"])[:, 0]).size == 3


def test_learns_to_be_paid_and_reports_it():
    blocks = run(start(), range(8, 65, 8))
    states, last = blocks[-1]
    assert np.all(last.mean_return.mean(1) > blocks[0][1].mean_return.mean(1) + 0.3)
    assert last.policy_loss.shape == (3, 8)
    np.testing.assert_array_equal(states.iteration, [64, 64, 64])


def test_one_schedule_is_traced_once():
    traces = []

    def counted(params, observation):
        traces.append(None)
        return learnable(params, observation)

    ppo = PPO(
        policy=counted,
        value_fn=linear_value,
        optimizer=optax.sgd(0.1),
        num_envs=2,
        num_steps=2,
        num_minibatches=2,
    )
    keys = run_keys(KEY, 2)
    states = init_runs(keys, ppo, ENV, init_fn=init_params)
    blocks = train(keys, ppo, ENV, states=states, checkpoints=(1, 2, 5, 6))
    next(blocks)
    first = len(traces)
    assert len(list(blocks)) == 3
    assert len(traces) == first


def test_iterations_play_different_games():
    """A policy that does not move plays on with new randomness."""
    frozen = dataclasses.replace(PPO_SETTINGS, optimizer=optax.sgd(0.0))
    keys = run_keys(KEY, 1)
    states = init_runs(keys, frozen, ENV, init_fn=init_params)
    _, stats = next(train(keys, frozen, ENV, states=states, checkpoints=(8,)))
    assert np.unique(stats.policy_loss).size == 8


def test_zero_yields_the_start_itself():
    states = start()
    blocks = run(states, (0, 2))
    assert_same(blocks[0][0].params, states.params)
    assert blocks[0][1].entropy.shape == (3, 0)


@pytest.mark.parametrize("checkpoints", [(), (3, 2), (2, 2), (-1, 2)])
def test_bad_checkpoints_are_named(checkpoints):
    with pytest.raises(ValueError, match="checkpoints: got"):
        run(start(), checkpoints)


def test_states_and_keys_must_match():
    with pytest.raises(ValueError, match="states: got leading shape"):
        train(run_keys(KEY, 2), PPO_SETTINGS, ENV, states=start(3), checkpoints=(1,))


@pytest.mark.parametrize("learned", [False, True])
def test_continuous_actions(learned):
    """Pendulum, a continuous control problem with a time limit and no termination."""
    env = GymnaxEnv(*gymnax.make("Pendulum-v1"))
    actor, critic = MLP(3, 1, hidden=(8,)), MLP(3, 1, hidden=(8,))
    policy = LearnedGaussianPolicy(actor) if learned else GaussianPolicy(actor, 0.5)

    def init_fn(key):
        mean = actor.init(key)
        weights = {"mean": mean, "log_scale": jnp.zeros(1)} if learned else mean
        return {"policy": weights, "value": critic.init(key)}

    ppo = PPO(
        policy=policy,
        value_fn=ValueNetwork(critic),
        optimizer=optax.adam(1e-3),
        num_envs=4,
        num_steps=8,
    )
    keys = run_keys(KEY, 2)
    states = init_runs(keys, ppo, env, init_fn=init_fn)
    (_, stats) = next(train(keys, ppo, env, states=states, checkpoints=(3,)))
    assert np.all(np.isfinite(stats.policy_loss))
    entropy = 0.5 * np.log(2 * np.pi * np.e) + np.log(1.0 if learned else 0.5)
    np.testing.assert_allclose(stats.entropy, entropy, atol=0.06)


def test_schedules_end_at_the_end():
    assert linear_schedule(10, 5) == (2, 4, 6, 8, 10)
    assert linear_schedule(3, 10) == (1, 2, 3)
    assert log_schedule(4000, 75)[-1] == 4000
    assert log_schedule(4000, 75, first=20)[0] == 20
    assert log_schedule(100, 1) == (100,)
    for bad in (lambda: linear_schedule(0, 1), lambda: log_schedule(5, 0)):
        with pytest.raises(ValueError, match="expected a whole number >= 1"):
            bad()
    with pytest.raises(ValueError, match="first: got 6"):
        log_schedule(5, 3, first=6)


def test_keys_of_runs_need_runs():
    with pytest.raises(ValueError, match="num_runs: expected a whole number >= 1, got 0"):
        run_keys(KEY, 0)

"""The objective of PPO, by its derivatives and by single updates."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slt_rl.rl import PPO, Batch, GymnaxEnv, reset_envs, rollout
from tests.rl.counting_env import (
    CountingEnv,
    CountingParams,
    always_one,
    learnable,
    linear_value,
)

PARAMS = {
    "policy": {"w": jnp.array([0.3, -0.2]), "b": jnp.array([0.1, 0.4])},
    "value": jnp.array([0.5, 0.1]),
}


def make_ppo(**changes):
    settings = {
        "policy": learnable,
        "value_fn": linear_value,
        "optimizer": optax.sgd(0.1),
        "num_envs": 4,
        "num_steps": 6,
        "num_epochs": 1,
        "num_minibatches": 1,
        "normalize_advantages": False,
    }
    return PPO(**(settings | changes))


def make_batch(ppo, params=PARAMS, env_params=None):
    env = GymnaxEnv(CountingEnv(), CountingParams() if env_params is None else env_params)
    envs = reset_envs(jax.random.key(0), env, ppo.num_envs)
    return play_batch(jax.random.key(1), ppo, params, env=env, envs=envs)


def play_batch(key, ppo, params, *, env, envs):
    envs, play, _ = rollout(
        key,
        ppo.policy,
        params["policy"],
        env=env,
        batch=envs,
        num_steps=ppo.num_steps,
        value_fn=functools.partial(ppo.value_fn, params["value"]),
    )
    return ppo.make_batch(params["value"], play, envs.observation)[0]


def assert_trees_close(one, two, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, two)


def test_first_gradient_is_the_policy_gradient():
    ppo = make_ppo(value_weight=0.0)
    batch = make_batch(ppo)

    def score_loss(policy_params):
        distribution = jax.vmap(lambda x: learnable(policy_params, x))(batch.observation)
        log_prob = jax.vmap(lambda d, a: d.log_prob(a))(distribution, batch.action)
        return -jnp.mean(log_prob * batch.advantage)

    gradient = jax.grad(lambda p: ppo.loss(p, batch)[0])(PARAMS)
    assert_trees_close(gradient["policy"], jax.grad(score_loss)(PARAMS["policy"]), rtol=1e-12)
    assert float(jnp.max(jnp.abs(gradient["policy"]["w"]))) > 1e-3


def test_loss_without_clipping_is_the_importance_weighted_advantage():
    ppo = make_ppo(clip=1e9, value_weight=0.0)
    batch = make_batch(ppo)
    moved = PARAMS | {"policy": jax.tree.map(lambda x: x + 0.5, PARAMS["policy"])}
    moved["policy"]["w"] = jnp.array([1.0, -1.0])
    loss, parts = ppo.loss(moved, batch)
    log_prob = jax.vmap(lambda x, a: learnable(moved["policy"], x).log_prob(a))(
        batch.observation, batch.action
    )
    ratio = jnp.exp(log_prob - batch.log_prob)
    assert float(loss) == pytest.approx(float(-jnp.mean(ratio * batch.advantage)), rel=1e-12)
    assert float(parts["clip_fraction"]) == 0
    assert float(parts["approx_kl"]) > 0


@pytest.mark.parametrize(
    ("old_log_prob", "advantage", "is_flat"),
    [(-2.0, 1.0, True), (-2.0, -1.0, False), (0.0, -1.0, True), (0.0, 1.0, False)],
)
def test_clipping_stops_gain_and_never_loss(old_log_prob, advantage, is_flat):
    """Now log prob = log 1/2: ratio 3.7 or 0.5, both beyond the range."""
    ppo = make_ppo(value_weight=0.0, clip=0.2)
    params = jax.tree.map(jnp.zeros_like, PARAMS)
    batch = Batch(
        jnp.ones((1, 1)),
        jnp.zeros(1, int),
        jnp.array([old_log_prob]),
        jnp.array([advantage]),
        jnp.zeros(1),
    )
    (_, parts), gradient = jax.value_and_grad(ppo.loss, has_aux=True)(params, batch)
    assert bool(jnp.all(gradient["policy"]["b"] == 0)) is is_flat
    assert float(parts["clip_fraction"]) == 1


def test_entropy_and_value_terms_have_their_weights():
    batch = make_batch(make_ppo())
    plain, parts = make_ppo(value_weight=0.0).loss(PARAMS, batch)
    full, _ = make_ppo(value_weight=0.7, entropy_weight=0.3).loss(PARAMS, batch)
    values = jax.vmap(lambda x: linear_value(PARAMS["value"], x))(batch.observation)
    error = 0.5 * jnp.mean((values - batch.target) ** 2)
    assert float(full - plain) == pytest.approx(float(0.7 * error - 0.3 * parts["entropy"]))


def test_one_step_is_one_step_of_the_optimizer():
    ppo = make_ppo()
    env = GymnaxEnv(CountingEnv(), CountingParams())
    state = ppo.init(jax.random.key(0), env, PARAMS)
    key = jax.random.key(5)
    new, stats = jax.jit(ppo.step)(key, env, state)
    key_play, _ = jax.random.split(jax.random.fold_in(key, 0))
    batch = play_batch(key_play, ppo, PARAMS, env=env, envs=state.envs)
    gradient = jax.grad(lambda p: ppo.loss(p, batch)[0])(PARAMS)
    by_hand = jax.tree.map(lambda w, g: w - 0.1 * g, PARAMS, gradient)
    assert_trees_close(new.params, by_hand, rtol=1e-12)
    assert int(new.iteration) == 1
    assert float(stats.clip_fraction) == 0
    assert int(stats.episodes.num_episodes) == 8


def test_minibatches_share_out_every_example_once():
    ppo = make_ppo(num_minibatches=3)
    batch = make_batch(ppo)._replace(advantage=jnp.arange(24.0))
    parts = jax.vmap(lambda chosen: ppo._pick(batch, chosen))(ppo._minibatches(jax.random.key(0)))
    assert parts.advantage.shape == (3, 8)
    assert parts.observation.shape == (3, 8, 1)
    assert sorted(np.ravel(parts.advantage)) == list(range(24))
    assert list(np.ravel(parts.advantage)) != list(range(24))


def test_values_that_are_right_under_a_time_limit_leave_no_advantage():
    """One per step for ever is worth 1/(1 - discount), whatever the time limit cuts."""
    ppo = make_ppo(policy=always_one, discount=0.9)
    value = jnp.array([10.0, 0.0])
    cut = make_batch(ppo, {"policy": None, "value": value}, CountingParams())
    np.testing.assert_allclose(cut.advantage, 0, atol=1e-12)
    np.testing.assert_allclose(cut.target, 10)
    end = make_batch(ppo, {"policy": None, "value": value}, CountingParams(end=3))
    assert float(jnp.min(end.advantage)) < -5


@pytest.mark.parametrize("end", [3, 10**6])
def test_advantages_are_those_of_the_values_of_all_true_successors(end):
    """Across the end of the play as well, which is within an episode."""
    ppo = make_ppo(num_steps=5)
    env = GymnaxEnv(CountingEnv(), CountingParams(end=end))
    envs = reset_envs(jax.random.key(0), env, ppo.num_envs)
    batch = play_batch(jax.random.key(1), ppo, PARAMS, env=env, envs=envs)
    _, play, _ = rollout(
        jax.random.key(1), learnable, PARAMS["policy"], env=env, batch=envs, num_steps=5
    )
    values_of = jax.vmap(jax.vmap(lambda x: linear_value(PARAMS["value"], x)))
    values = values_of(play.observation)
    advantages, targets, _ = ppo.estimate_advantages(
        play, values=values, next_values=values_of(play.final_observation)
    )
    np.testing.assert_allclose(batch.advantage, np.ravel(advantages), rtol=1e-12)
    np.testing.assert_allclose(batch.target, np.ravel(targets), rtol=1e-12)


def test_advantages_are_normalized_over_the_whole_iteration():
    batch = make_batch(make_ppo(normalize_advantages=True))
    assert float(jnp.mean(batch.advantage)) == pytest.approx(0, abs=1e-12)
    assert float(jnp.std(batch.advantage)) == pytest.approx(1, rel=1e-6)
    raw = make_batch(make_ppo())
    np.testing.assert_array_equal(batch.target, raw.target)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_envs": 0}, "num_envs: expected a whole number >= 1, got 0"),
        ({"num_minibatches": 5}, "num_minibatches: got 5, expected a divisor of"),
        ({"discount": 1.1}, r"discount: got 1.1, expected a number in \[0, 1\]"),
        ({"clip": -0.1}, "clip: got -0.1"),
    ],
)
def test_bad_hyper_parameters_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        make_ppo(**changes)


def test_numbers_are_leaves_and_the_rest_is_static():
    ppo = make_ppo()
    assert len(jax.tree.leaves(ppo)) == 5
    changed = dataclasses.replace(ppo, clip=0.3)
    assert jax.tree.structure(ppo) == jax.tree.structure(changed)

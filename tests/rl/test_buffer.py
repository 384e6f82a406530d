"""Buffers and data sets made of them: labels, capacity, trajectories, state sets, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slt_rl.rl import (
    GymnaxEnv,
    append,
    bellman_error,
    by_step,
    by_trajectory,
    by_transition,
    designed_states,
    keep_latest,
    mixture_states,
    policy_kl,
    policy_states,
    record,
    reservoir,
    reset_envs,
    rollout,
    trajectory_kl,
)
from tests.rl.chain_mdp import ending_env, logits, random_mdp, softmax_policy
from tests.rl.counting_env import CountingEnv, CountingParams, always_one, learnable

LINEAR = {"w": jnp.array([0.3, -0.5]), "b": jnp.array([-0.1, 0.0])}


def play(num_steps, *, batch=None, version=0, step=0, limit=3):
    """Two environments that count to the limit; starts at zero unless play goes on."""
    env = GymnaxEnv(CountingEnv(), CountingParams(max_steps_in_episode=limit))
    batch = reset_envs(jax.random.key(0), env, 2) if batch is None else batch
    start = np.asarray(batch.episode_length) == 0
    batch, played, _ = rollout(
        jax.random.key(1), always_one, None, env=env, batch=batch, num_steps=num_steps
    )
    return batch, record(played, version=version, step=step, start=start)


@functools.cache
def two_stretches():
    batch, first = play(4, version=1)
    return append(first, play(4, batch=batch, version=2, step=4)[1])


def test_every_transition_is_labeled():
    buffer = two_stretches()
    np.testing.assert_array_equal(buffer.step[:, 0], np.arange(8))
    np.testing.assert_array_equal(buffer.version[:, 1], [1] * 4 + [2] * 4)
    np.testing.assert_array_equal(buffer.start[:, 0], [1, 0, 0, 1, 0, 0, 1, 0])
    assert isinstance(buffer.observation, np.ndarray)
    assert buffer.log_prob.shape == (8, 2)


def test_transitions_count_steps():
    synthesis = by_transition(two_stretches())
    assert (synthesis.unit, synthesis.num_units, synthesis.num_steps) == ("transition", 16, 16)
    assert len(synthesis.data) == 16
    assert "n counts 16 transitions (played by 2 versions" in str(synthesis)


def test_trajectories_are_whole_and_go_on_over_stretches():
    synthesis = by_trajectory(two_stretches())
    examples = synthesis.data.examples
    # Two whole episodes of three steps per environment; the two steps after them are unfinished.
    assert (synthesis.unit, synthesis.num_units) == ("trajectory", 4)
    assert (synthesis.num_steps, synthesis.num_dropped) == (12, 4)
    np.testing.assert_array_equal(examples.steps.observation[..., 0], [[0, 1, 2]] * 4)
    np.testing.assert_array_equal(examples.steps.version[1], [1, 2, 2])
    assert np.all(np.asarray(examples.mask))


def test_an_episode_whose_beginning_was_lost_is_not_whole():
    synthesis = by_trajectory(keep_latest(two_stretches(), 7))
    assert (synthesis.num_units, synthesis.num_dropped) == (2, 8)


def test_a_missing_row_breaks_the_episode_it_belongs_to():
    buffer = jax.tree.map(lambda x: np.delete(x, 1, axis=0), two_stretches())
    assert by_trajectory(buffer).num_units == 2


def test_padding_repeats_the_last_step_and_is_masked():
    env = ending_env(random_mdp(0))
    batch = reset_envs(jax.random.key(0), env, 8)
    _, played, _ = rollout(
        jax.random.key(1), softmax_policy, logits(0), env=env, batch=batch, num_steps=60
    )
    buffer = record(played, version=0, step=0, start=np.ones(8, bool))
    synthesis = by_trajectory(buffer)
    steps, mask = synthesis.data.examples
    lengths = np.asarray(mask).sum(axis=1)
    assert lengths.min() < lengths.max() == mask.shape[1]
    assert np.all(np.asarray(steps.terminated)[np.arange(len(lengths)), lengths - 1])
    assert np.all(np.asarray(steps.start)[:, 0])
    assert np.asarray(steps.terminated)[np.asarray(mask)].sum() == len(lengths)
    short = int(lengths.argmin())
    tail = np.asarray(steps.step)[short, lengths[short] - 1 :]
    np.testing.assert_array_equal(tail, tail[0])
    flat = by_step(synthesis, np.ones(mask.shape))
    assert flat.num_units == synthesis.num_steps == lengths.sum()
    assert flat.effective_num_units == pytest.approx(lengths.sum())


def test_divergence_of_trajectories_is_the_sum_over_their_steps():
    synthesis = by_trajectory(two_stretches())
    other = {"w": jnp.array([-0.2, 0.1]), "b": jnp.array([0.4, 0.0])}
    loss_fn, data = trajectory_kl(learnable, LINEAR, synthesis.data)
    step_fn, states = policy_kl(learnable, LINEAR, jnp.arange(3.0)[:, None])
    expected = jnp.sum(step_fn(other, states.examples))
    np.testing.assert_allclose(loss_fn(other, data.examples), [expected] * 4, atol=1e-14)
    np.testing.assert_allclose(loss_fn(LINEAR, data.examples), 0, atol=1e-14)
    shorter = data.examples | {"mask": data.examples["mask"].at[:, -1].set(False)}
    expected = jnp.sum(step_fn(other, states.examples)[:2])
    np.testing.assert_allclose(loss_fn(other, shorter), [expected] * 4, atol=1e-14)


def test_bellman_error_bootstraps_at_a_time_limit_and_not_at_an_end():
    """With V = w (4 - x) and reward one the residual is 1 - w, but 1 - 2 w before an end at 3."""

    def value_fn(params, observation):
        return params * (4 - observation[0])

    data = by_transition(two_stretches()).data
    loss_fn, data = bellman_error(value_fn, data, discount=1.0)
    assert np.any(np.asarray(data.examples.truncated))
    np.testing.assert_allclose(loss_fn(1.0, data.examples), 0, atol=1e-14)
    np.testing.assert_allclose(loss_fn(3.0, data.examples), 2, atol=1e-14)
    ended = data.examples._replace(terminated=data.examples.truncated)
    expected = np.where(ended.terminated, (1 - 2 * 3) ** 2 / 2, 2)
    np.testing.assert_allclose(loss_fn(3.0, ended), expected, atol=1e-14)
    with pytest.raises(ValueError, match="transitions: expected the data of by_transition"):
        bellman_error(value_fn, designed_states(jnp.eye(2)).data, discount=1.0)


@given(capacity=st.integers(1, 9), num_rows=st.integers(1, 9))
def test_a_ring_keeps_the_latest(capacity, num_rows):
    rows = jax.tree.map(lambda x: x[:num_rows], two_stretches())
    kept = keep_latest(rows, capacity)
    expected = np.arange(min(num_rows, 8))[-capacity:]
    np.testing.assert_array_equal(kept.step[:, 0], expected)


def test_every_row_has_the_same_chance_to_stay_in_a_reservoir():
    """Eight rows in stretches of 3, 3 and 2; each stays with probability 3/8."""
    buffer = two_stretches()
    parts = [
        jax.tree.map(lambda x, s=s: x[s], buffer) for s in (slice(3), slice(3, 6), slice(6, 8))
    ]
    num_trials = 2000
    counts = np.zeros(8)
    for trial in range(num_trials):
        kept, seen = None, 0
        for number, part in enumerate(parts):
            key = np.array([trial, number], np.uint32)
            kept = reservoir(jax.random.wrap_key_data(key), kept, part, capacity=3, num_seen=seen)
            seen += len(part.reward)
        assert np.all(np.diff(kept.step[:, 0]) > 0) and len(kept.reward) == 3
        counts[kept.step[:, 0]] += 1
    sem = np.sqrt(3 / 8 * 5 / 8 / num_trials)
    np.testing.assert_allclose(counts / num_trials, 3 / 8, atol=4 * sem)


def test_fixed_reference_states_are_the_same_for_every_checkpoint_and_on_policy_ones_are_not():
    env = ending_env(random_mdp(0))
    play = {"env": env, "num_envs": 16, "num_steps": 8}
    reference = policy_states(jax.random.key(0), softmax_policy, logits(0), **play)
    checkpoints = jnp.stack([logits(seed, 3.0)["logits"] for seed in (0, 1, 2)])

    @jax.vmap
    def target(checkpoint):  # As `llc_curve` calls it, with the checkpoint traced.
        return policy_kl(softmax_policy, {"logits": checkpoint}, reference.data)[1].examples

    examples = target(checkpoints)
    for states in np.asarray(examples["observation"]):
        np.testing.assert_array_equal(states, reference.data.examples)
    assert not np.allclose(examples["reference"].logits[0], examples["reference"].logits[1])
    again = policy_states(jax.random.key(0), softmax_policy, logits(0), **play)
    np.testing.assert_array_equal(again.data.examples, reference.data.examples)
    other = policy_states(jax.random.key(0), softmax_policy, {"logits": checkpoints[1]}, **play)
    assert not np.array_equal(other.data.examples, reference.data.examples)


def test_a_mixture_keeps_its_shares_exactly():
    parts = [designed_states(jnp.zeros(4)), designed_states(jnp.ones(12))]
    mixture = mixture_states(parts, [0.7, 0.3])
    assert float(mixture.data.mean(mixture.data.examples)) == pytest.approx(0.3, abs=1e-15)
    # Kish: 1 / (0.49/4 + 0.09/12).
    assert mixture.effective_num_units == pytest.approx(1 / (0.49 / 4 + 0.09 / 12))
    assert float(mixture_states(parts).data.mean(mixture.data.examples)) == pytest.approx(0.5)


def test_weights_multiply_and_parts_keep_theirs():
    weighted = designed_states(jnp.array([0.0, 1.0]), [1.0, 3.0]).weighted([2.0, 1.0], min_ess=1)
    np.testing.assert_allclose(weighted.data.weights, [0.8, 1.2])
    mixture = mixture_states([weighted, designed_states(jnp.array([2.0, 3.0]))])
    np.testing.assert_allclose(mixture.data.weights, [0.8, 1.2, 1.0, 1.0])


def test_weights_are_kept_by_the_potentials():
    states = designed_states(jnp.array([[0.0], [1.0]]), [1.0, 3.0])
    _, data = policy_kl(learnable, LINEAR, states.data)
    np.testing.assert_allclose(data.weights, [0.5, 1.5])


def test_bad_buffers_are_refused():
    env = GymnaxEnv(CountingEnv(), CountingParams())
    batch = reset_envs(jax.random.key(0), env, 2)
    _, played, _ = rollout(jax.random.key(1), always_one, None, env=env, batch=batch, num_steps=2)
    start = np.ones(2, bool)
    broken = played._replace(reward=played.reward.at[1, 0].set(jnp.nan))
    with pytest.raises(ValueError, match=r"got reward nan at \[time, env\] = \(1, 0\)"):
        record(broken, version=0, step=0, start=start)
    with pytest.raises(ValueError, match=r"\.action has shape \(1, 2\)"):
        record(played._replace(action=played.action[:1]), version=0, step=0, start=start)
    with pytest.raises(ValueError, match="start: got shape"):
        record(played, version=0, step=0, start=True)
    good = record(played, version=0, step=0, start=start)
    moved = good._replace(action=good.action.astype(float))
    with pytest.raises(ValueError, match=r"new: \.action is float64"):
        append(good, moved)
    with pytest.raises(ValueError, match="new: other contents"):
        append(good, good._replace(log_prob=None))
    with pytest.raises(ValueError, match="no whole episode"):
        by_trajectory(good)
    with pytest.raises(ValueError, match="capacity: expected a whole number >= 1, got 0"):
        keep_latest(good, 0)
    with pytest.raises(ValueError, match="buffer: holds 2 rows, expected"):
        reservoir(jax.random.key(0), good, good, capacity=3, num_seen=5)


def test_bad_state_sets_are_refused():
    with pytest.raises(ValueError, match="observations: nothing in it"):
        designed_states(jnp.zeros((0, 3)))
    with pytest.raises(ValueError, match="parts: nothing in it"):
        mixture_states([])
    with pytest.raises(ValueError, match="shares: got"):
        mixture_states([designed_states(jnp.eye(2))] * 2, [0.5, 0.6])
    with pytest.raises(ValueError, match="num_steps: expected a whole number >= 1, got 0"):
        policy_states(
            jax.random.key(0),
            softmax_policy,
            logits(0),
            env=ending_env(random_mdp(0)),
            num_envs=1,
            num_steps=0,
        )
    with pytest.raises(ValueError, match="expected trajectories"):
        by_step(designed_states(jnp.eye(2)), np.ones((2, 2)))


class FiveValues:
    """An environment of an older interface."""

    default_params = None

    def step(self, key, state, action, params):
        return (jnp.zeros(1), state, 0.0, False, {})


class Broken:
    """Six values without the last observation, and three at a reset."""

    default_params = None

    def reset(self, key, params):
        return (jnp.zeros(1), jnp.zeros(1), {})

    def step(self, key, state, action, params):
        return (jnp.zeros(1), state, 0.0, False, False, {"discount": 1.0})


class Bare:
    """What gymnax returns, not wrapped."""

    def reset(self, key):
        return jnp.zeros(1), jnp.zeros(1)

    def step(self, key, state, action):
        return (jnp.zeros(1), state, 0.0, False, False, {})


def test_what_breaks_the_contract_of_an_environment_is_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="reset returned 3 values, expected observation and state"):
        GymnaxEnv(Broken()).reset(key)
    with pytest.raises(ValueError, match=r"info of \['discount'\], expected a final_observation"):
        GymnaxEnv(Broken()).step(key, jnp.zeros(1), 0)
    env = Bare()
    batch = reset_envs(key, env, 2)
    with pytest.raises(ValueError, match="env: step returned 6 values, expected a Transition"):
        rollout(key, always_one, None, env=env, batch=batch, num_steps=1)


def test_a_step_with_the_wrong_number_of_values_is_refused():
    with pytest.raises(ValueError, match="step returned 5 values, expected the six of gymnax"):
        GymnaxEnv(FiveValues()).step(jax.random.key(0), jnp.zeros(1), 0)

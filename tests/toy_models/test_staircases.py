"""The staircase bandit: exact phases, an unbiased REINFORCE, runs through all phases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.development import Curve, detect_transitions, label_transitions, score_transitions
from slt_rl.rl import GaussianPolicy, policy_kl
from toy_models import deep_linear, staircases

LAYERS = tuple(
    0.5 * jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(3, 4), (4, 3)])
)


@pytest.fixture(scope="module")
def records():
    return staircases.train(jax.random.key(1), 8)


def test_phases_are_the_published_ones():
    found = staircases.phases()
    assert [p.regret for p in found] == [11.8125, 2.8125, 0.5625, 0.0]
    assert [(p.llc, p.multiplicity) for p in found] == [(5.0, 2), (6.0, 1), (7.0, 2), (7.5, 1)]


@pytest.mark.parametrize("phase", staircases.phases(), ids=str)
def test_a_phase_is_a_critical_point_of_the_regret_at_its_level(phase):
    params = staircases.phase_problem(phase.rank).params
    assert float(staircases.regret(params)) == pytest.approx(phase.regret, abs=1e-12)
    assert all(
        jnp.allclose(leaf, 0, atol=1e-12) for leaf in staircases.exact_gradient(None, params)
    )
    assert staircases.classify(params) == str(phase.rank)


def test_regret_is_what_rewards_lose_on_average():
    keys = jax.random.split(jax.random.key(2), 2)
    states, noise = (jax.random.normal(key, (200_000, 4)) for key in keys)

    def reward(matrix):
        return -jnp.sum((states @ matrix.T + noise - states @ staircases.target().T) ** 2, axis=1)

    lost = reward(jnp.asarray(staircases.target())) - reward(deep_linear.product(LAYERS))
    sem = float(jnp.std(lost)) / np.sqrt(lost.size)
    assert abs(float(jnp.mean(lost)) - float(staircases.regret(LAYERS))) < 4 * sem


def test_kl_is_the_library_s_on_states_of_unit_second_moment():
    policy = GaussianPolicy(lambda w, s: deep_linear.product(w) @ s, 1.0)
    center = staircases.phase_problem(2).params
    loss_fn, data = policy_kl(policy, center, 2 * jnp.eye(4))
    found = float(jnp.mean(loss_fn(LAYERS, data.examples)))
    assert found == pytest.approx(float(staircases.policy_kl(LAYERS, center)), rel=1e-12)


def test_reinforce_is_unbiased():
    keys = jax.random.split(jax.random.key(3), 4000)
    draws = jax.vmap(lambda key: staircases.reinforce_gradient(key, LAYERS, batch_size=16))(keys)
    exact = staircases.exact_gradient(None, LAYERS)
    for drawn, truth in zip(draws, exact, strict=True):
        sem = jnp.std(drawn, axis=0) / np.sqrt(keys.size)
        assert float(jnp.max(jnp.abs(jnp.mean(drawn, axis=0) - truth) / sem)) < 4.5


def test_every_run_passes_through_every_phase_in_order(records):
    for labels in staircases.classify(records.params):
        transitions = label_transitions(records.steps, labels)
        assert [(t.before, t.after) for t in transitions] == [("0", "1"), ("1", "2"), ("2", "3")]


def test_a_run_does_not_depend_on_the_others(records):
    alone = staircases.train(jax.random.key(1), 1)
    for few, many in zip(alone.params, records.params, strict=True):
        np.testing.assert_allclose(few[0], many[0], rtol=1e-6, atol=1e-9)


def test_transitions_are_found_from_regret_alone(records):
    regrets = np.asarray(jax.vmap(jax.vmap(staircases.regret))(records.params))
    for values, labels in zip(regrets, staircases.classify(records.params), strict=True):
        found = detect_transitions(records.steps, [Curve("regret", values, 0.28)])
        true = label_transitions(records.steps, labels)
        score = score_transitions([d.step for d in found], true, tolerance=40)
        # A short plateau may be taken for part of a descent; nothing is found where nothing is.
        assert score.num_matched >= 2 and score.precision == 1.0


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="rank: got 4"):
        staircases.phase_problem(4)
    with pytest.raises(ValueError, match="num_records: expected a whole number >= 1, got 0"):
        staircases.train(jax.random.key(0), 1, num_records=0)
    with pytest.raises(ValueError, match="learning_rate: got -1"):
        staircases.train(jax.random.key(0), 1, learning_rate=-1)

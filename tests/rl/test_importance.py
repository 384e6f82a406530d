"""Importance-weighted regret: unbiasedness, and the diagnostics that say when not to use it."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
from slt_rl import Dataset
from slt_rl.rl import (
    Batch,
    Categorical,
    GaussianPolicy,
    Trajectories,
    Transitions,
    behavior_cloning,
    clipped_surrogate,
    importance_diagnostics,
    importance_regret,
    per_decision_regret,
    policy_kl,
    score_surrogate,
    self_normalized_regret,
    soft_regret,
    trajectory_regret,
)
from tests.rl.chain_mdp import (
    BEHAVIOR,
    MDP,
    TARGET,
    behavior_trajectories,
    mean_and_sem,
    softmax_policy,
    table,
)


def trajectories():
    return behavior_trajectories().data


def exact_return(params):
    return float(MDP.start @ MDP.values(table(params)))


@pytest.mark.parametrize("build", [trajectory_regret, per_decision_regret])
@pytest.mark.parametrize("params", [BEHAVIOR, TARGET], ids=["behavior", "target"])
def test_weighted_returns_are_unbiased(build, params):
    loss_fn, data = build(softmax_policy, trajectories())
    found, sem = mean_and_sem(loss_fn(params, data.examples))
    assert abs(found + exact_return(params)) < 4 * sem


def test_a_baseline_shifts_the_mean_by_a_constant_and_spares_variance():
    losses = [
        trajectory_regret(softmax_policy, trajectories(), baseline=b)[0](
            TARGET, trajectories().examples
        )
        for b in (0.0, exact_return(BEHAVIOR))
    ]
    found, sem = mean_and_sem(losses[1])
    assert abs(found - exact_return(BEHAVIOR) + exact_return(TARGET)) < 4 * sem
    assert np.std(losses[1]) < np.std(losses[0])


def test_per_decision_weights_have_less_variance():
    losses = [
        build(softmax_policy, trajectories())[0](TARGET, trajectories().examples)
        for build in (trajectory_regret, per_decision_regret)
    ]
    assert np.std(losses[1]) < np.std(losses[0])


def test_self_normalized_regret_is_consistent_bounded_and_the_plain_mean_at_the_behavior_policy():
    regret = self_normalized_regret(softmax_policy, trajectories())
    plain, data = per_decision_regret(softmax_policy, trajectories())
    at_behavior = jnp.mean(plain(BEHAVIOR, data.examples))
    np.testing.assert_allclose(regret(BEHAVIOR), at_behavior, atol=1e-12)
    _, sem = mean_and_sem(plain(TARGET, data.examples))
    # The ratio estimator has its own error; plain and normalized differ by less than the noise.
    assert abs(float(regret(TARGET)) + exact_return(TARGET)) < 4 * sem
    longest = float(jnp.max(jnp.sum(data.examples.mask, axis=1)))
    far = {"logits": 30 * TARGET["logits"]}
    assert -longest <= float(regret(far)) <= 0
    assert regret.per_example(far).shape == (20_000,)


# The bandit of failure D9: a ~ N(w, s^2), r = -a^2 + noise z; H = 2 and
# J = (15 s^6 + s^2 noise^2) / s^4.


def bandit(spread, noise, num_examples, seed=0):
    keys = jax.random.split(jax.random.key(seed))
    policy = GaussianPolicy(lambda w, x: w["mean"], spread)
    action = spread * jax.random.normal(keys[0], (num_examples, 1))
    reward = -(action[:, 0] ** 2) + noise * jax.random.normal(keys[1], (num_examples,))
    observation = jnp.zeros((num_examples, 1))
    log_prob = jax.vmap(lambda a: policy({"mean": jnp.zeros(1)}, None).log_prob(a))(action)
    return importance_regret(policy, Batch(observation, action, log_prob, reward))


@pytest.mark.parametrize(
    ("spread", "noise", "llc"), [(0.5, 0.5, 0.361), (0.3, 1.0, 0.134), (0.2, 1.0, -0.25)]
)
def test_noise_ratio_predicts_the_bias_of_the_bandit(spread, noise, llc):
    size = 40_000
    loss_fn, data = bandit(spread, noise, size)
    report = importance_diagnostics(
        jax.random.key(1),
        loss_fn,
        data,
        params={"mean": jnp.zeros(1)},
        nbeta=5000 / np.log(5000) * size / 5000,  # The temperature of 5000 examples.
        potential_fn=lambda w: jnp.sum(w["mean"] ** 2),
    )
    exact = (15 * spread**6 + spread**2 * noise**2) / spread**4 / 2
    gradients = jax.jacfwd(lambda w: loss_fn({"mean": w}, data.examples))(jnp.zeros(1))
    squares = np.asarray(gradients[:, 0]) ** 2 / 2
    assert abs(report.noise_ratio - exact) < 4 * np.std(squares) / np.sqrt(size)
    assert report.rank == 1
    assert 0.5 - report.expected_bias == pytest.approx(llc, abs=0.02)
    assert not report.usable and "beta nu" in report.reasons[0]


def test_little_noise_at_a_high_temperature_is_usable():
    loss_fn, data = bandit(0.5, 0.1, 20_000)
    arguments = {
        "params": {"mean": jnp.zeros(1)},
        "potential_fn": lambda w: jnp.sum(w["mean"] ** 2),
    }
    report = importance_diagnostics(jax.random.key(1), loss_fn, data, nbeta=500.0, **arguments)
    assert report.usable and report.reasons == ()
    assert report.center_ess == pytest.approx(20_000)
    assert 10 < report.chain_ess < 20_000
    hot = importance_diagnostics(jax.random.key(1), loss_fn, data, nbeta=0.01, **arguments)
    assert not hot.usable and "on a draw of the chain" in hot.reasons[-1]


@functools.cache
def parity_data(num_steps=4):
    """Every sequence of actions once: the exact law of the uniform policy (problem GT-9)."""
    actions = np.array(list(itertools.product([0, 1], repeat=num_steps)))
    shape = actions.shape
    last = np.arange(num_steps) == num_steps - 1
    reward = np.where(last, (actions.sum(axis=1) % 2)[:, None], 0.0)
    steps = Transitions(
        observation=np.zeros((*shape, 1)),
        action=actions,
        reward=reward,
        terminated=np.broadcast_to(last, shape),
        truncated=np.zeros(shape, bool),
        log_prob=np.full(shape, np.log(0.5)),
        final_observation=np.zeros((*shape, 1)),
        start=np.broadcast_to(np.arange(num_steps) == 0, shape),
        version=np.zeros(shape, int),
        step=np.broadcast_to(np.arange(num_steps), shape),
    )
    return Dataset(Trajectories(jax.tree.map(jnp.asarray, steps), jnp.ones(shape, bool)))


def coin(params, observation):
    return Categorical(jnp.stack([0 * params["theta"], params["theta"]]))


def test_terminal_reward_makes_all_forms_equal_and_exact():
    params = {"theta": jnp.array(0.8)}
    exact = 0.5 * np.tanh(0.4) ** 4 - 0.5
    data = parity_data()
    for build in (trajectory_regret, per_decision_regret):
        loss_fn, _ = build(coin, data)
        np.testing.assert_allclose(jnp.mean(loss_fn(params, data.examples)), exact, atol=1e-14)
    np.testing.assert_allclose(self_normalized_regret(coin, data)(params), exact, atol=1e-14)


def test_a_reward_of_the_fourth_step_is_discounted_three_times():
    params, data = {"theta": jnp.array(0.8)}, parity_data()
    exact = (0.5 * np.tanh(0.4) ** 4 - 0.5) * 0.9**3
    for build in (trajectory_regret, per_decision_regret):
        loss_fn, _ = build(coin, data, discount=0.9)
        np.testing.assert_allclose(jnp.mean(loss_fn(params, data.examples)), exact, atol=1e-14)
    found = self_normalized_regret(coin, data, discount=0.9)(params)
    np.testing.assert_allclose(found, exact, atol=1e-14)


def test_self_normalized_weights_have_mean_one_on_any_sample():
    """A reward of one at each of four steps is worth four, whatever the weights."""
    some = jax.tree.map(lambda x: x[:5], parity_data().examples)
    paid = some._replace(steps=some.steps._replace(reward=jnp.ones((5, 4))))
    regret = self_normalized_regret(coin, Dataset(paid))
    np.testing.assert_allclose(regret({"theta": jnp.array(1.7)}), -4, atol=1e-13)


def test_weights_of_the_data_count_as_copies():
    """Twice the weight of the first trajectory is that trajectory twice."""
    examples = parity_data().examples
    rows = np.array([1, 3, 7]), np.array([1, 1, 3, 7])
    some, copied = (jax.tree.map(lambda x, i=i: x[i], examples) for i in rows)
    params = {"theta": jnp.array(0.9)}
    weighted = self_normalized_regret(coin, Dataset(some, np.array([1.5, 0.75, 0.75])))(params)
    plain = self_normalized_regret(coin, Dataset(copied))(params)
    assert float(weighted) == pytest.approx(float(plain), rel=1e-12)
    unweighted = self_normalized_regret(coin, Dataset(some))(params)
    assert abs(float(weighted) - float(unweighted)) > 1e-3


@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_regret_flatter_than_the_policy_is_refused_at_every_sample_size(baseline):
    """Failure D10: no curvature where there is noise."""
    loss_fn, data = trajectory_regret(coin, parity_data(), baseline=baseline)
    report = importance_diagnostics(
        jax.random.key(0),
        loss_fn,
        data,
        params={"theta": jnp.array(0.0)},
        nbeta=1.0,
        potential_fn=lambda w: 0.5 * jnp.tanh(w["theta"] / 2) ** 4,
    )
    assert report.noise_ratio == np.inf and not report.usable
    assert "flatter than the policy" in report.reasons[0]


def test_a_log_likelihood_has_the_noise_of_its_curvature():
    """Behavior cloning: J = H, so nu is the number of parameters held fixed, six of nine."""
    states = jnp.tile(jnp.arange(3), 20_000)
    actions = jax.vmap(lambda k, s: softmax_policy(TARGET, s).sample(k))(
        jax.random.split(jax.random.key(2), len(states)), states
    )
    loss_fn, data = behavior_cloning(softmax_policy, states, actions)

    def losses(w):
        return loss_fn({"logits": w.reshape(3, 3)}, data.examples)

    center = TARGET["logits"].ravel()
    hessian = jax.hessian(lambda w: jnp.mean(losses(w)))(center)
    gradients = np.asarray(jax.jacfwd(losses)(center))
    inverse = np.linalg.pinv(hessian, rcond=1e-10, hermitian=True)
    found, sem = mean_and_sem(np.einsum("ni,ij,nj->n", gradients, inverse, gradients))
    assert abs(found - 6) < 4 * sem and sem < 0.02


def test_behavior_cloning_is_the_divergence_up_to_a_constant():
    """With every action weighted by the frozen policy's probability, exactly."""
    probabilities = table(BEHAVIOR)
    states, actions = (x.ravel() for x in jnp.meshgrid(jnp.arange(3), jnp.arange(3), indexing="ij"))
    weighted = Dataset(states, 3 * probabilities.ravel())
    cloning, data = behavior_cloning(softmax_policy, weighted, actions)
    kl_fn, frozen = policy_kl(softmax_policy, BEHAVIOR, jnp.arange(3))
    differences = [
        float(data.mean(cloning(w, data.examples)) - jnp.mean(kl_fn(w, frozen.examples)))
        for w in (BEHAVIOR, TARGET)
    ]
    assert differences[0] == pytest.approx(differences[1], abs=1e-12)


# Losses that train a policy and are no potential (failure F9).


def test_the_clipped_surrogate_has_a_slope_at_the_behavior_policy_and_is_flat_beyond_the_clip():
    observation = jnp.zeros((2, 1))
    action, advantage = jnp.array([0, 1]), jnp.array([1.0, -1.0])
    batch = Batch(observation, action, jnp.full(2, np.log(0.5)), advantage)
    loss_fn, data = clipped_surrogate(coin, batch)
    slope = jax.grad(lambda t: jnp.mean(loss_fn({"theta": t}, data.examples)))
    assert float(slope(0.0)) == pytest.approx(0.5)
    assert float(slope(-2.0)) == 0


SOFT_CENTER = {"logits": jnp.asarray(MDP.soft_optimum(0.5))}
SOFT_VISITS = MDP.occupancy(table(SOFT_CENTER))
SOFT_VALUES = MDP.action_values(MDP.values(table(SOFT_CENTER)))


def entropy_surrogate(params):
    """Policy objective of an actor-critic with a bonus of 1/2 nat, at the soft optimum."""
    policy = table(params)
    bonus = -0.5 * jnp.sum(policy * jnp.log(policy), axis=1)
    return -jnp.sum(SOFT_VISITS * (jnp.sum(policy * SOFT_VALUES, axis=1) + bonus))


def test_an_entropy_bonus_on_frozen_states_has_a_slope_where_the_soft_regret_has_none():
    """The bonus of PPO lacks the entropy of what follows; the regularized return has it."""
    regret = soft_regret(MDP, softmax_policy, jnp.arange(3), temperature=0.5)
    assert np.max(np.abs(jax.grad(regret)(SOFT_CENTER)["logits"])) < 1e-12
    assert np.max(np.abs(jax.grad(entropy_surrogate)(SOFT_CENTER)["logits"])) > 1e-3


def test_an_entropy_bonus_is_refused_even_at_the_soft_optimum():
    result = slt_rl.estimate_llc(
        jax.random.key(3), entropy_surrogate, SOFT_CENTER, nbeta=1e4, num_draws=1000
    )
    assert result.verdict == "refused"
    assert "the center is not a minimum: its gradient" in " ".join(result.flags)


def test_bad_arguments_are_named():
    data = parity_data()
    bare = data.examples._replace(steps=data.examples.steps._replace(log_prob=None))
    with pytest.raises(ValueError, match="trajectories: no behavior log probabilities"):
        trajectory_regret(coin, Dataset(bare))
    steps = data.examples.steps
    for change, message in (
        ({"log_prob": steps.log_prob.at[3, 1].set(jnp.nan)}, "trajectories.log_prob: got 1 values"),
        ({"reward": steps.reward.at[0, 0].set(jnp.nan)}, "trajectories.reward: got 1 values"),
        ({"action": steps.action.at[0, 0].set(-1)}, "trajectories.action: got index -1"),
    ):
        broken = data.examples._replace(steps=steps._replace(**change))
        with pytest.raises(ValueError, match=message):
            per_decision_regret(coin, Dataset(broken))
    with pytest.raises(ValueError, match="trajectories: got Transitions"):
        per_decision_regret(coin, Dataset(jax.tree.map(lambda x: x[:, 0], data.examples.steps)))
    with pytest.raises(ValueError, match="discount: got 2"):
        self_normalized_regret(coin, data, discount=2)
    with pytest.raises(ValueError, match="expected one with importance weights"):
        loss_fn, states = policy_kl(coin, {"theta": jnp.array(0.0)}, jnp.zeros((2, 1)))
        importance_diagnostics(
            jax.random.key(0), loss_fn, states, params={"theta": jnp.array(0.0)}, nbeta=1.0
        )
    loss_fn, cloned = behavior_cloning(coin, jnp.zeros((2, 1)), jnp.zeros((2, 1)))
    with pytest.raises(ValueError, match="action: got float64 of shape"):
        loss_fn({"theta": jnp.array(0.0)}, cloned.examples)
    with pytest.raises(ValueError, match="actions: got shape"):
        behavior_cloning(coin, jnp.zeros((2, 1)), jnp.zeros(3))
    with pytest.raises(ValueError, match="actions: got index -1"):
        behavior_cloning(coin, jnp.zeros((2, 1)), jnp.array([0, -1]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"log_prob": None}, "batch: no behavior log probabilities"),
        ({"log_prob": jnp.array([0.0, jnp.nan])}, "batch.log_prob: got 1 values"),
        ({"advantage": jnp.array([jnp.nan, 1.0])}, "batch.advantage: got 1 values"),
        ({"action": jnp.array([0, -1])}, "batch.action: got index -1"),
    ],
    ids=range(4),
)
def test_bad_batches_are_refused_before_anything_runs(change, message):
    batch = Batch(jnp.zeros((2, 1)), jnp.array([0, 1]), jnp.full(2, -0.7), jnp.ones(2))
    for build in (importance_regret, clipped_surrogate):
        with pytest.raises(ValueError, match=message):
            build(coin, batch._replace(**change))
    if "log_prob" in change:  # Which these do not need.
        assert score_surrogate(coin, batch._replace(**change))


def test_an_action_that_the_policy_does_not_have_is_no_silent_estimate():
    batch = Batch(jnp.zeros((3, 1)), jnp.array([0, 1, 2]), jnp.full(3, -0.7), jnp.ones(3))
    loss_fn, data = importance_regret(coin, batch)
    with pytest.raises(ValueError, match="action that the policy does not have"):
        slt_rl.estimate_llc(jax.random.key(0), loss_fn, {"theta": jnp.zeros(())}, data)

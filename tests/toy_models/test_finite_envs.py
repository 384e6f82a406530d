"""The finite environments of gymnax: the processes against what the environments themselves do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.rl.finite import regret_process
from slt_rl.rl.networks import MLP, CategoricalPolicy
from slt_rl.rl.potentials import tabular_regret
from slt_rl.rl.rollout import reset_envs, rollout
from toy_models import finite_envs

# Optimal returns: by reading the rules; FrozenLake's is in many textbooks.
OPTIMA = {
    "catch": 1.0,
    "deep_sea": 0.99,
    "frozen_lake": 0.5420259320,
    "umbrella_chain": 1.0,
    "memory_chain": 1.0,
    "discounting_chain": 1.1,
    "four_rooms": None,
}
# FrozenLake makes integers of 64 bits when it is imported in double precision.
pytestmark = pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64:UserWarning")
NUM_ENVS = 256
every = pytest.mark.parametrize("name", OPTIMA)


@pytest.fixture(autouse=True)
def single_precision():
    """Some of the environments cannot be played in double precision."""
    with jax.enable_x64(False):
        yield


@functools.cache
def built(name):
    return getattr(finite_envs, name)()


def policy_of(finite):
    return CategoricalPolicy(
        MLP(finite.observations.shape[1], finite.mdp.num_actions, (8,), output_scale=3.0)
    )


@functools.cache
def random_play(name):
    """Rows of play by a random network, and the numbers of the states that were acted on."""
    finite = built(name)
    policy = policy_of(finite)
    key_params, key_reset, key_play = jax.random.split(jax.random.key(7), 3)
    batch = reset_envs(key_reset, finite.env, NUM_ENVS)
    params = policy.network.init(key_params)

    @jax.jit
    def play(batch):
        return rollout(key_play, policy, params, env=finite.env, batch=batch, num_steps=300)[1]

    return jax.tree.map(np.asarray, play(batch))


def state_numbers(finite, observations):
    """Numbers of states by what is seen; every state looks different."""
    table = {row.tobytes(): number for number, row in enumerate(np.asarray(finite.observations))}
    assert len(table) == finite.mdp.num_states
    flat = np.reshape(observations, (-1, finite.observations.shape[1]))
    return np.array([table[row.tobytes()] for row in flat])


def chi_square_deviation(observed, expected):
    """Deviation of Pearson's statistic from its mean, in its standard deviations.

    `E (O - E)^2 / E = 1 - p` for a cell of a multinomial, so that the mean needs no count of
    degrees of freedom; cells with less than five expected are left out.
    """
    counts = expected.sum(axis=-1, keepdims=True)
    cells = expected >= 5
    p = expected / np.maximum(counts, 1)
    random = cells & (p < 1 - 1e-9)
    if not random.any():
        return 0.0
    terms = (observed - expected) ** 2 / np.maximum(expected, 1)
    return (terms - (1 - p))[random].sum() / np.sqrt(2 * (1 - p)[random].sum())


@every
def test_observed_transitions_follow_the_process(name):
    finite, play = built(name), random_play(name)
    mdp = finite.mdp
    before = state_numbers(finite, play.observation[:-1])
    after = state_numbers(finite, play.observation[1:])
    done = (play.terminated | play.truncated)[:-1].ravel()
    action = play.action[:-1].ravel()
    # The last column is the end of an episode.
    counts = np.zeros((mdp.num_states, mdp.num_actions, mdp.num_states + 1))
    np.add.at(counts, (before, action, np.where(done, mdp.num_states, after)), 1)
    ending = 1 - mdp.transition.sum(axis=2, keepdims=True)
    law = np.concatenate([mdp.transition, ending], axis=2)
    assert np.all(law[counts > 0] > 1e-9)
    expected = counts.sum(axis=2, keepdims=True) * law
    assert abs(chi_square_deviation(counts, expected)) < 4
    assert np.count_nonzero(counts.sum(axis=2)) > 0.3 * mdp.reward.size


@every
def test_observed_rewards_have_the_means_of_the_process(name):
    finite, play = built(name), random_play(name)
    reward = play.reward.ravel().astype(np.float64)
    mean = finite.mdp.reward[state_numbers(finite, play.observation), play.action.ravel()]
    error = reward - mean
    # Steps of one episode add up with martingale differences: the variances add.
    assert abs(error.sum()) <= 4 * np.sqrt(np.sum(error**2)) + 1e-4 * np.abs(reward).sum()
    if name not in ("umbrella_chain", "frozen_lake", "four_rooms"):
        np.testing.assert_allclose(reward, mean, atol=1e-6)


@every
def test_first_states_have_the_stated_law(name):
    finite = built(name)
    batch = reset_envs(jax.random.key(11), finite.env, 2_000)
    found = np.bincount(
        state_numbers(finite, np.asarray(batch.observation)), minlength=finite.mdp.num_states
    )
    assert not np.any(found[finite.mdp.start == 0])
    assert abs(chi_square_deviation(found[None], 2_000 * finite.mdp.start[None])) < 4


@every
def test_exact_returns_are_the_means_of_played_episodes(name):
    finite = built(name)
    policy = policy_of(finite)
    params = policy.network.init(jax.random.key(7))
    exact = float(finite.exact_return(policy, params))
    returns = np.asarray(
        finite.sample_returns(jax.random.key(2), policy, params, num_episodes=1_000), np.float64
    )
    sem = returns.std(ddof=1) / np.sqrt(len(returns))
    assert abs(returns.mean() - exact) <= 4 * sem + 1e-5


@every
def test_optimal_returns_are_known(name):
    mdp = built(name).mdp
    if OPTIMA[name] is not None:
        assert mdp.optimal_return == pytest.approx(OPTIMA[name], abs=1e-7)
    assert 0 < built(name).uniform_regret < 2 * mdp.optimal_return


@every
def test_the_small_process_has_the_same_regret(name):
    finite = built(name)
    small, kept = regret_process(finite.mdp)
    policy = policy_of(finite)
    regret = tabular_regret(small, policy, jnp.asarray(finite.observations)[kept])
    for seed in range(3):
        params = policy.network.init(jax.random.key(seed))
        value = finite.mdp.optimal_return - float(finite.exact_return(policy, params))
        assert float(regret(params)) == pytest.approx(value, rel=1e-3, abs=1e-5)


def test_only_the_first_action_of_the_discounting_chain_matters():
    small, kept = regret_process(built("discounting_chain").mdp)
    assert kept.tolist() == [0]
    np.testing.assert_allclose(-small.reward[0], [0, 0.1, 0.1, 0.1, 0.1], atol=1e-6)


def test_the_time_limit_of_the_discounting_chain_is_an_end():
    play = random_play("discounting_chain")
    assert not play.truncated.any()
    assert np.array_equal(np.flatnonzero(play.terminated[:, 0]), [99, 199, 299])


def test_a_policy_without_memory_cannot_solve_the_memory_chain():
    finite = built("memory_chain")
    policy = CategoricalPolicy(LastOnly(MLP(3, 2, (8,), output_scale=3.0)))
    params = policy.network.network.init(jax.random.key(0))
    assert float(finite.exact_return(policy, params)) == pytest.approx(0.0, abs=1e-6)


class LastOnly:
    """A network that sees the latest observation of a history alone."""

    def __init__(self, network):
        self.network = network

    def __call__(self, params, observation):
        return self.network(params, observation[:3])


def test_a_late_reward_moves_the_optimum_and_not_the_regret():
    early, late = built("discounting_chain"), finite_envs.discounting_chain(4)
    assert late.mdp.optimal_return == pytest.approx(early.mdp.optimal_return)
    assert np.argmax(late.mdp.action_values(late.mdp.optimal_values)[0]) == 4

"""Events in play: counted before any reset, on the terminal step too, complete episodes only."""

import dataclasses

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.classic_control.cartpole import EnvParams

from slt_rl.development import EventEnv, event_curves, play_events, recurrent_play_events
from slt_rl.rl import Categorical, GymnaxEnv, reset_envs, rollout
from toy_models.first_only import FirstOnlyEnv, plant_events

T = 20
NAMES = ("plants", "rewarded")
WORLD = EventEnv(GymnaxEnv(FirstOnlyEnv(), FirstOnlyEnv().default_params), plant_events, NAMES)


def scripted(plan, observation):
    """Plants (0) at the times of the plan, works (1) otherwise."""
    plant = plan[jnp.rint(observation[1] * T).astype(int)]
    return Categorical(jnp.where(plant, jnp.array([0.0, -1e9, -1e9]), jnp.array([-1e9, 0.0, -1e9])))


def coin(params, observation):
    del observation
    return Categorical(params)


PLANS = {0: [], 1: [T - 1], 2: [0, T - 1], 3: [4, 5, 6], 19: range(1, T), 20: range(T)}


@pytest.mark.parametrize("k", PLANS)
def test_a_policy_that_plants_k_times_gives_k(k):
    plan = jnp.zeros(T, bool).at[jnp.array(list(PLANS[k]), int)].set(True)
    found = play_events(jax.random.key(k), scripted, plan, env=WORLD, num_episodes=3, max_steps=T)
    assert found.complete.all()
    np.testing.assert_array_equal(found.counts, [[k, min(k, 1)]] * 3)
    np.testing.assert_array_equal(found.length, T)


@jax.jit
def play_on(batch, plan):
    return rollout(jax.random.key(1), scripted, plan, env=WORLD, batch=batch, num_steps=7)[0]


def test_counts_go_on_across_resets_and_windows():
    # Three plants an episode, one of them on the terminal step; seven steps at a time.
    plan = jnp.zeros(T, bool).at[jnp.array([0, 6, T - 1])].set(True)
    batch = reset_envs(jax.random.key(0), WORLD, 5)
    records = [batch.state.totals]
    for _ in range(20):
        batch = play_on(batch, plan)
        records.append(batch.state.totals)
    totals = jax.tree.map(lambda *x: np.stack(x)[:, None], *records)
    curves = event_curves(totals)
    ended = curves.num_episodes[0] > 0
    assert curves.num_episodes.sum() == 5 * (140 // T)
    np.testing.assert_array_equal(curves.per_episode[0, ended], [[3, 1]] * 7)
    np.testing.assert_array_equal(curves.sem[0, ended], 0)
    assert np.isnan(curves.per_episode[0, ~ended]).all()
    np.testing.assert_array_equal(curves.mean_length[0, ended], T)
    # Nothing is lost between windows: the events of all steps are 3 and 1 per 20 steps.
    np.testing.assert_allclose(curves.per_step.mean(axis=1), [[3 / T, 1 / T]])
    whole = event_curves(totals, window=20)
    np.testing.assert_array_equal(whole.per_episode, [[[3, 1]]])


def pushes(state, action, next_state):
    """Pushes to the right, and pushes that move the cart to the right."""
    return jnp.stack([action == 1, next_state.x > state.x])


CARTPOLE, _ = gymnax.make("CartPole-v1")
# Some episodes end by the limit and others by a fall.
LIMITED = GymnaxEnv(CARTPOLE, EnvParams(max_steps_in_episode=20))


@jax.jit
def play_cartpole(env):
    batch = reset_envs(jax.random.key(2), env, 16)
    return rollout(jax.random.key(3), coin, jnp.zeros(2), env=env, batch=batch, num_steps=100)


def test_counting_changes_nothing_and_agrees_with_the_trajectory():
    bare_end, bare, _ = play_cartpole(LIMITED)
    end, play, _ = play_cartpole(EventEnv(LIMITED, pushes, ("right", "moved")))
    jax.tree.map(np.testing.assert_array_equal, bare, play)
    jax.tree.map(np.testing.assert_array_equal, bare_end.state, end.state.state)
    assert play.terminated.any() and play.truncated.any()
    done = np.asarray(play.terminated | play.truncated)
    x = np.asarray(play.observation)[:, :, 0]
    moved = np.asarray(play.final_observation)[:, :, 0] > x
    totals = jax.tree.map(np.asarray, end.state.totals)
    for env in range(16):
        edges = [0, *(np.flatnonzero(done[:, env]) + 1)]
        for column, events in enumerate((play.action[:, env] == 1, moved[:, env])):
            counts = [np.sum(events[a:b]) for a, b in zip(edges, edges[1:], strict=False)]
            assert totals.episode_counts[env, column] == sum(counts)
            assert totals.episode_squares[env, column] == sum(c**2 for c in counts)
            assert totals.counts[env, column] == np.sum(events)
        assert totals.num_episodes[env] == len(edges) - 1
        assert totals.episode_steps[env] == edges[-1]
        assert totals.steps[env] == 100


def test_unfinished_episodes_are_told_apart():
    found = play_events(
        jax.random.key(4), scripted, jnp.ones(T, bool), env=WORLD, num_episodes=2, max_steps=T - 1
    )
    assert not found.complete.any()
    np.testing.assert_array_equal(found.counts, [[T - 1, 1]] * 2)


@dataclasses.dataclass(frozen=True)
class PlantsEvery:
    """An agent that plants at every k-th step of its episode, which it counts itself."""

    def initial_hidden(self, params, num_envs):
        del params
        return jnp.zeros(num_envs, jnp.int32)

    def apply(self, params, hidden, observation, *, reset):
        del observation

        def step(hidden, reset):
            hidden = jnp.where(reset, 0, hidden) + 1
            return hidden, hidden

        hidden, count = jax.lax.scan(step, hidden, reset)
        plant = (count % params == 0)[..., None]
        logits = jnp.where(plant, jnp.array([0.0, -1e9, -1e9]), jnp.array([-1e9, 0.0, -1e9]))
        return hidden, Categorical(logits), jnp.zeros(count.shape)


@pytest.mark.parametrize(("every", "max_steps"), [(3, T), (T, T), (7, 2 * T), (7, T - 1)])
def test_an_agent_with_memory_is_counted_by_what_it_remembers(every, max_steps):
    found = recurrent_play_events(
        jax.random.key(0), PlantsEvery(), every, env=WORLD, num_episodes=3, max_steps=max_steps
    )
    assert (found.complete == (max_steps >= T)).all()
    np.testing.assert_array_equal(found.counts, [[T // every, 1]] * 3)
    np.testing.assert_array_equal(found.length, min(T, max_steps))


def test_mean_plants_of_a_random_policy():
    # Binomial: 20 steps with probability 1/4; the first pays with probability 1 - (3/4)^20.
    logits = jnp.log(jnp.array([0.25, 0.5, 0.25]))
    found = play_events(jax.random.key(5), coin, logits, env=WORLD, num_episodes=4000, max_steps=T)
    mean, sem = found.counts.mean(axis=0), found.counts.std(axis=0) / np.sqrt(4000)
    paid = 1 - 0.75**T
    exact = np.array([T / 4, paid])
    spread = np.sqrt([T * 3 / 16, paid * (1 - paid)])
    assert np.all(np.abs(mean - exact) < 4 * spread / np.sqrt(4000))
    np.testing.assert_allclose(sem, spread / np.sqrt(4000), rtol=0.2)


@pytest.mark.parametrize(
    ("event_fn", "message"),
    [
        (lambda s, a, n: a == 0, r"returned shape \(\) of type bool, expected \(2,\)"),
        (lambda s, a, n: jnp.ones(2), r"returned shape \(2,\) of type float64"),
        (lambda s, a, n: jnp.ones(3, int), r"returned shape \(3,\)"),
        (lambda s, a, n: 1, "returned shape None"),
    ],
)
def test_wrong_event_functions_are_named(event_fn, message):
    env = EventEnv(WORLD.env, event_fn, NAMES)
    with pytest.raises(ValueError, match="event_fn: " + message):
        jax.eval_shape(
            lambda key: env.step(key, env.reset(key)[0], jnp.int32(0)), jax.random.key(0)
        )


def test_bad_arguments():
    for names in ("plants", ("plants", "plants"), (), ("plants", 1), ["plants"]):
        with pytest.raises(ValueError, match="names: got .*, expected a tuple of different names"):
            EventEnv(WORLD.env, plant_events, names)
    with pytest.raises(ValueError, match="event_fn: expected a function, got 3"):
        EventEnv(WORLD.env, 3, NAMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_steps": 0}, "max_steps: expected a whole number >= 1, got 0"),
        ({"key": 0}, "key: expected one random key"),
        ({"env": LIMITED}, "env: expected an EventEnv, which counts, got GymnaxEnv"),
        ({"policy": "coin"}, "policy: expected a function"),
        ({"policy": lambda params, _: params}, "policy: returned a .*, expected a distribution"),
        ({"params": "a"}, "params: expected a pytree of arrays"),
        ({"params": jnp.full(3, jnp.nan)}, "params: got nan, expected numbers; .* diverged"),
        ({"params": jnp.zeros(4)}, "policy: acts in 4 discrete actions, but the environment has 3"),
    ],
)
def test_what_cannot_be_played_is_refused(change, message):
    settings = {
        "key": jax.random.key(0), "policy": coin, "params": jnp.zeros(3), "env": WORLD,
        "num_episodes": 1, "max_steps": 2,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        play_events(**(settings | change))


def test_an_agent_without_memory_is_not_taken_for_one_with_it():
    sizes = {"num_episodes": 1, "max_steps": 2}
    with pytest.raises(ValueError, match="network: got .*, expected one with memory"):
        recurrent_play_events(jax.random.key(0), coin, jnp.zeros(3), env=WORLD, **sizes)

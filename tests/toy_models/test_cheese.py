"""The cheese maze: distances, exact values and regrets against other ways to compute them."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import shortest_path

from slt_rl.rl import CategoricalPolicy, FiniteEnv, GymnaxEnv, TabularMDP, tabular_regret
from toy_models import cheese
from toy_models.cheese_exact import (
    CheeseRegret,
    ConvNet,
    cheese_process,
    distances,
    patches,
)

DISCOUNT = 0.9
NUM_LAYOUTS = 4
seeds = st.integers(0, 2**16)
sizes = st.sampled_from([5, 7, 10])


def levels_of(seed, size=6, *, alpha=0.3, probability=0.3):
    key = jax.random.key(seed)
    return cheese.block_levels(
        key, size, alpha, num_layouts=NUM_LAYOUTS, wall_probability=probability
    )


@functools.cache
def process_of(seed):
    return cheese_process(levels_of(seed), DISCOUNT)


def random_table(process, seed):
    shape = process.reward.shape
    return np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1])


def graph_distances(walls, target):
    """By scipy on the graph of free neighbors, built here from the picture of the walls."""
    size = len(walls)
    number = np.arange(size**2).reshape(size, size)
    edges = []
    for row in range(size):
        for column in range(size):
            for near in ((row + 1, column), (row, column + 1)):
                inside = max(near) < size
                if inside and not walls[row, column] and not walls[near]:
                    edges.append((number[row, column], number[near]))
    first, second = np.array(edges).T if edges else np.zeros((2, 0), int)
    graph = csr_matrix((np.ones(len(edges)), (first, second)), shape=(size**2, size**2))
    row, column = divmod(target, size - 2)
    from_target = shortest_path(
        graph, directed=False, unweighted=True, indices=number[row + 1, column + 1]
    )
    return from_target.reshape(size, size)[1:-1, 1:-1].ravel()


compiled_distances = jax.jit(distances)


@given(seed=seeds, size=sizes, probability=st.sampled_from([0.0, 0.25, 0.5]))
def test_distances_are_those_of_the_graph(seed, size, probability):
    levels = levels_of(seed, size, probability=probability)
    found = np.asarray(compiled_distances(levels))
    for walls, target, one in zip(np.asarray(levels.walls), levels.cheese, found, strict=True):
        np.testing.assert_array_equal(one, graph_distances(walls, int(target)))


@given(seed=seeds, size=sizes)
def test_levels_have_the_stated_form(seed, size):
    levels = levels_of(seed, size, probability=0.5)
    walls = np.asarray(levels.walls)
    assert walls[:, [0, -1]].all() and walls[:, :, [0, -1]].all() and not walls[:, 1, 1].any()
    assert levels.in_corner.tolist() == [True] * NUM_LAYOUTS + [False] * NUM_LAYOUTS
    inner = walls[:, 1:-1, 1:-1].reshape(len(walls), -1)
    assert not inner[np.arange(len(walls)), np.asarray(levels.cheese)].any()
    assert float(levels.law[~levels.in_corner].sum()) == pytest.approx(0.3)
    np.testing.assert_array_equal(walls[:NUM_LAYOUTS], walls[NUM_LAYOUTS:])


def test_a_layout_without_a_free_cell_gets_one_beside_the_corner():
    levels = levels_of(0, 5, probability=0.9999)
    assert levels.cheese[NUM_LAYOUTS:].tolist() == [1] * NUM_LAYOUTS
    assert not np.asarray(levels.walls)[:, 1, 2].any()


def test_share_of_walls_and_places_of_the_cheese():
    levels = cheese.block_levels(jax.random.key(1), 15, 0.1, num_layouts=200)
    inner = np.asarray(levels.walls)[:200, 1:-1, 1:-1].reshape(-1)
    assert abs(inner.mean() - 0.25 * 168 / 169) < 4 * np.sqrt(0.25 * 0.75 / inner.size)
    # Uniform over the free cells: the mean place is the middle, within its standard error.
    places = np.asarray(levels.cheese[200:])
    assert abs(places.mean() - 84.5) < 4 * 169 / np.sqrt(12 * 200)


def test_open_levels_enumerate_every_place():
    levels = cheese.open_levels(5, 0.2)
    assert sorted(levels.cheese.tolist()) == list(range(9))
    np.testing.assert_allclose(levels.law, [0.8] + [0.025] * 8)
    np.testing.assert_allclose(cheese.open_levels(5, 0.0).law, [1.0] + [0.0] * 8)


@functools.cache
def env_of():
    return cheese.CheeseEnv(process_of(0).levels)


@functools.partial(jax.jit, static_argnums=0)
def all_moves(env, params):
    """What is seen in each state and where each action leads, by the environment's own step."""

    def step(level, mouse, action):
        state = cheese.CheeseState(time=0, level=level, mouse=mouse)
        seen = env.get_obs(state, params)
        return seen, *env.step_env(jax.random.key(0), state, action, params)[1:4]

    for axis in range(3):
        step = jax.vmap(step, [0 if i == 2 - axis else None for i in range(3)])
    levels = params.levels
    return step(*(jnp.arange(n) for n in (levels.num_levels, levels.num_cells, 4)))


@given(seed=st.integers(0, 7))
def test_the_environment_moves_as_the_process_says(seed):
    process = process_of(seed)
    params = cheese.CheeseParams(levels=process.levels)
    seen, state, reward, end = all_moves(env_of(), params)
    np.testing.assert_array_equal(seen[:, :, 0], process.observations)
    walkable = process.starts > 0
    np.testing.assert_array_equal(reward[walkable], process.reward[walkable])
    np.testing.assert_array_equal(end, reward == 1)
    reached = np.eye(process.levels.num_cells)[np.asarray(state.mouse)]
    reached *= ~np.asarray(end)[..., None]
    np.testing.assert_array_equal(reached[walkable], process.transition[walkable])


def joint_process(process):
    """All levels as one process whose states are pairs of level and cell."""
    levels, cells, actions = process.reward.shape
    number = levels * cells
    transition = np.zeros((levels, cells, actions, levels, cells))
    for level in range(levels):
        transition[level, :, :, level] = process.transition[level]
    return TabularMDP(
        transition.reshape(number, actions, number),
        process.reward.reshape(number, actions),
        process.state_law.ravel(),
        process.discount,
    )


@given(seed=seeds)
def test_values_are_those_of_a_general_solver(seed):
    process = process_of(seed % 4)
    joint, table = joint_process(process), random_table(process, seed)
    flat = table.reshape(-1, table.shape[-1])
    law = np.asarray(process.levels.law)
    values = joint.accumulated_on_host(flat, np.sum(flat * joint.reward, axis=1))
    returns, regrets = map(np.asarray, (process.returns(table), process.regrets(table)))
    assert law @ returns == pytest.approx(joint.start @ values, abs=1e-10)
    assert law @ regrets == pytest.approx(joint.optimal_return - law @ returns, abs=1e-10)
    assert regrets.min() >= 0
    best = np.sum(process.starts * process.optimal_values, axis=1)
    np.testing.assert_allclose(regrets, best - returns, atol=1e-10)


@given(seed=seeds)
def test_optimal_policies_have_no_regret(seed):
    process = process_of(seed % 4)
    table = random_table(process, seed) * (process.gaps == 0)
    table /= table.sum(axis=-1, keepdims=True)
    assert np.abs(process.regrets(table)).max() == 0
    # One mistake with a positive chance costs something.
    table = 0.999 * table + 0.001 / 4
    assert np.max(process.regrets(table)) > 0


@given(seed=seeds)
def test_the_order_of_levels_does_not_matter(seed):
    process = process_of(seed % 4)
    order = np.random.default_rng(seed).permutation(process.levels.num_levels)
    other = cheese_process(
        cheese.Levels(*(jnp.asarray(x)[order] for x in process.levels)), DISCOUNT
    )
    table = random_table(process, seed)
    regrets = np.asarray(process.regrets(table))
    np.testing.assert_allclose(other.regrets(table[order]), regrets[order], rtol=1e-12)
    assert other.uniform_regret == pytest.approx(process.uniform_regret, rel=1e-12)


NET = ConvNet(4, (4, 4), output_scale=3.0)
POLICY = CategoricalPolicy(NET.apply)


def params_of(process, seed=0):
    return NET.init(jax.random.key(seed), process.observations[0, 0])


def test_play_in_the_environment_has_the_exact_return():
    process = process_of(0)
    env = GymnaxEnv(
        cheese.CheeseEnv(process.levels),
        cheese.CheeseParams(max_steps_in_episode=10_000, levels=process.levels),
    )
    params, joint = params_of(process), joint_process(process)
    seen = process.observations.reshape(-1, *process.observations.shape[2:])
    # A discount of 0.9 leaves 3e-5 after 100 steps, a thousandth of the error below.
    finite = FiniteEnv("cheese", env, joint, states=None, observations=seen, horizon=100)
    table = jnp.exp(process.log_policy(POLICY, params))
    exact = float(jnp.dot(process.levels.law, process.returns(table)))
    assert exact == pytest.approx(float(finite.exact_return(POLICY, params)), abs=1e-10)
    played = np.asarray(
        finite.sample_returns(jax.random.key(3), POLICY, params, num_episodes=1_000)
    )
    assert abs(played.mean() - exact) < 4 * played.std(ddof=1) / np.sqrt(len(played))


def test_regret_and_gradient_are_those_of_a_general_solver():
    process = process_of(1)
    params, joint = params_of(process), joint_process(process)
    seen = process.observations.reshape(-1, *process.observations.shape[2:])
    regret = CheeseRegret(process, POLICY, unit=2.0)
    other = tabular_regret(joint, POLICY, jnp.asarray(seen), unit=2.0)
    value, gradient = jax.value_and_grad(regret)(params)
    expected, expected_gradient = jax.value_and_grad(other)(params)
    assert float(value) == pytest.approx(float(expected), rel=1e-10)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-12),
        gradient,
        expected_gradient,
    )
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(gradient)) > 1e-4


def test_a_dense_layer_on_patches_is_a_convolution():
    image = np.random.default_rng(0).normal(size=(7, 7, 3))
    conv = nn.Conv(5, (3, 3), padding="VALID", param_dtype=float)
    params = conv.init(jax.random.key(0), image)
    kernel, bias = params["params"]["kernel"], params["params"]["bias"]
    found = patches(jnp.asarray(image)) @ kernel.reshape(-1, 5) + bias
    np.testing.assert_allclose(found, conv.apply(params, image), atol=1e-12)


def test_levels_and_first_cells_have_the_stated_law():
    levels = cheese.open_levels(5, 0.4)
    env, params = cheese.CheeseEnv(levels), cheese.CheeseParams(levels=levels)
    number = 4_000
    _, state = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(5), number), params)
    counts = np.zeros((9, 9))
    np.add.at(counts, (np.asarray(state.level), np.asarray(state.mouse)), 1)
    law = np.asarray(levels.law)[:, None] * (1 - np.eye(9)) / 8
    assert not counts[law == 0].any()
    assert np.all(np.abs(counts - number * law) <= 5 * np.sqrt(number * law))


def test_the_time_limit_cuts_and_the_cheese_ends():
    levels = cheese.open_levels(5, 0.0)
    env = cheese.CheeseEnv(levels)
    params = dataclasses.replace(env.default_params, max_steps_in_episode=2)
    state = cheese.CheeseState(time=0, level=jnp.int32(0), mouse=jnp.int32(2))
    key = jax.random.key(0)
    _, state, reward, terminated, truncated, _ = env.step(key, state, 3, params)
    assert (float(reward), bool(terminated), bool(truncated)) == (0.0, False, False)
    assert int(state.mouse) == 2
    _, _, reward, terminated, truncated, info = env.step(key, state, 1, params)
    assert (float(reward), bool(terminated), bool(truncated)) == (0.0, False, True)
    assert info["final_observation"][1, 2, 1]
    state = cheese.CheeseState(time=0, level=jnp.int32(0), mouse=jnp.int32(1))
    _, _, reward, terminated, truncated, _ = env.step(key, state, 1, params)
    assert (float(reward), bool(terminated), bool(truncated)) == (1.0, True, False)


def test_spaces_hold_what_the_environment_returns():
    env = cheese.CheeseEnv(cheese.open_levels(6, 0.1))
    observation, _ = env.reset(jax.random.key(0), env.default_params)
    space = env.observation_space(env.default_params)
    assert observation.shape == space.shape and observation.dtype == space.dtype
    assert env.action_space().n == env.num_actions == 4
    assert env.state_space(env.default_params).spaces["mouse"].n == 16


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("size", lambda: cheese.open_levels(4, 0.1)),
        ("size", lambda: cheese.open_levels(16, 0.1)),
        ("alpha", lambda: cheese.open_levels(5, 1.1)),
        ("num_layouts", lambda: cheese.block_levels(jax.random.key(0), 5, 0.1, num_layouts=0)),
        (
            "wall_probability",
            lambda: cheese.block_levels(
                jax.random.key(0), 5, 0.1, num_layouts=1, wall_probability=1.0
            ),
        ),
        (
            "levels",
            lambda: cheese.CheeseEnv(cheese.open_levels(5, 0.1)._replace(law=np.ones(9))),
        ),
        ("levels", lambda: cheese.CheeseEnv(cheese.open_levels(5, 0.1)._replace(law=np.ones(3)))),
        ("discount", lambda: cheese_process(cheese.open_levels(5, 0.1), 1.0)),
    ],
)
def test_bad_arguments_are_named(message, call):
    with pytest.raises(ValueError, match=message):
        call()

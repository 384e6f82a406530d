"""Checkpoints in chunks: about equal ones, within a stated memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
from benchmarks import plans
from slt_rl import chains, probes
from slt_rl.chunks import checkpoint_bytes, most_together, size_of_chunks
from slt_rl.data import as_dataset
from slt_rl.groups import Sizes, group_size
from slt_rl.settings import Settings

RNG = np.random.default_rng(0)
NUM_CENTERS, NUM_CHAINS, NUM_EXAMPLES = 2, 4, 96


@pytest.mark.parametrize(
    ("num", "most", "size"), [(100, 16, 13), (16, 16, 16), (17, 16, 9), (5, 2, 2), (9, 1, 1)]
)
def test_few_places_of_the_last_chunk_are_empty(num, most, size):
    assert size_of_chunks({"w": jnp.zeros((num, 2))}, most) == size


def squared_errors(params, examples):
    hidden = jnp.tanh(examples["x"] @ params["first"])
    return jnp.sum((hidden @ params["second"] - examples["y"]) ** 2, axis=1)


def network_problem():
    """Two networks of 16,000 parameters on data that they share."""
    shapes = {"first": (64, 200), "second": (200, 16)}
    centers = {
        name: jnp.asarray(RNG.normal(size=(NUM_CENTERS, *shape)) / 10, jnp.float32)
        for name, shape in shapes.items()
    }
    x, y = (RNG.normal(size=(NUM_EXAMPLES, n)).astype(np.float32) for n in (64, 16))
    scales = jnp.float32(100), jnp.float32(10)
    data = as_dataset({"x": x, "y": y})
    return chains.Problem(chains.constant_target(squared_errors), centers, data, *scales)


def positions_of(problem):
    return jax.tree.map(lambda x: jnp.repeat(x[:, None], NUM_CHAINS, 1), problem.centers)


def plan_of_ends(problem, sampler, batch_size):
    arguments = problem.make_target, problem.centers, problem.shared, positions_of(problem)
    return probes._curvatures.lower(*arguments, jax.random.key(1), 20).compile()


def plan_of_block(problem, sampler, batch_size):
    anchors = jax.eval_shape(lambda: chains.find_anchors(jax.random.key(0), problem))
    anchors = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), anchors)
    sizes = Sizes(chains.BLOCK_LENGTH, batch_size, group_size(positions_of(problem)))
    return plans.block_plan(problem, anchors, sampler, num_chains=NUM_CHAINS, sizes=sizes)


def plan_of_anchors(problem, sampler, batch_size):
    return plans.anchor_plan(problem)


SLOW = pytest.mark.very_slow
PLANS = [plan_of_ends, *(pytest.param(p, marks=SLOW) for p in (plan_of_block, plan_of_anchors))]


@pytest.mark.parametrize("batch_size", [None, pytest.param(16, marks=SLOW)])
@pytest.mark.parametrize("plan_fn", PLANS)
def test_no_program_is_planned_to_need_more_than_is_counted(plan_fn, batch_size):
    problem = network_problem()
    settings = Settings(None, NUM_CHAINS, None, None, batch_size, 0.05)
    kinetic = batch_size is None
    sampler = slt_rl.KineticLangevin(1e-3, 1.0, 0.0) if kinetic else slt_rl.SGLD(1e-6, True)
    found = plans.planned_bytes(plan_fn(problem, sampler, batch_size))
    fixed = sum(x.nbytes for x in jax.tree.leaves((problem.centers, problem.shared)))
    counted = fixed + NUM_CENTERS * checkpoint_bytes(problem, settings)
    assert found <= counted
    if plan_fn is plan_of_ends:  # The largest; no memory would lie idle.
        assert found > counted / 3, found / counted


def test_what_fits_is_as_many_as_the_bytes_allow():
    problem = network_problem()
    settings = Settings(slt_rl.SGLD(1e-6), NUM_CHAINS, 8, 0, 16, 0.05)
    fixed = sum(x.nbytes for x in jax.tree.leaves((problem.centers, problem.shared)))
    each = checkpoint_bytes(problem, settings)
    for threads, number in ((1, 3), (2, 1), (2, 5)):
        memory = fixed + threads * number * each
        assert most_together(memory, problem, settings, num_threads=threads) == number
        fewer = most_together(memory + each * threads - 1, problem, settings, num_threads=threads)
        assert fewer == number
    with pytest.raises(ValueError, match=f"memory_bytes: expected at least {fixed + each} .*1000"):
        most_together(1000, problem, settings, num_threads=1)
    # The states of kinetic Langevin hold three copies, those of SGLD one.
    size = sum(x[0].nbytes for x in jax.tree.leaves(problem.centers))
    kinetic = checkpoint_bytes(problem, settings._replace(sampler=slt_rl.KineticLangevin(1e-3, 1)))
    assert 2 * NUM_CHAINS * size <= kinetic - each < 2.1 * NUM_CHAINS * size


def paraboloid(params):
    return lambda w: jnp.sum((w - params) ** 2)


def test_a_curve_within_a_memory_has_the_draws_of_any_other_chunks(tmp_path):
    checkpoints = jnp.arange(12.0).reshape(4, 3)
    options = {"nbeta": 100.0, "sampler": slt_rl.SGLD(1e-3), "num_draws": 64, "num_chains": 2}
    key = jax.random.key(0)
    together = slt_rl.llc_curve(key, paraboloid, checkpoints, **options)
    limit = {"memory_bytes": 2100, "folder": tmp_path}
    one_by_one = slt_rl.llc_curve(key, paraboloid, checkpoints, **limit, **options)
    assert len(list(tmp_path.iterdir())) == len(checkpoints)
    for a, b in zip(together.estimates, one_by_one.estimates, strict=True):
        np.testing.assert_allclose(a.draws.excess_loss, b.draws.excess_loss, rtol=1e-5, atol=1e-9)
    with pytest.raises(ValueError, match="memory_bytes: expected at least"):
        slt_rl.llc_curve(key, paraboloid, checkpoints, memory_bytes=100, **options)
    with pytest.raises(ValueError, match="memory_bytes"):
        slt_rl.llc_curve(key, paraboloid, checkpoints, memory_bytes=0, **options)

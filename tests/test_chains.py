"""The loop: reproducible draws whatever the layout, frozen chains, one compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
from benchmarks import plans
from slt_rl import chains, groups
from slt_rl.samplers import HMC, MALA, SGLD, KineticLangevin

KEY = jax.random.key(3)


def bowl(params):
    return jnp.sum(params**2) / 2


def setup(loss_fn=bowl, num_centers=2, sampler=None, nbeta=50.0):
    centers = jnp.arange(3.0 * num_centers).reshape(num_centers, 3) * 0
    problem = chains.Problem(
        chains.constant_target(loss_fn), centers, None, jnp.float64(nbeta), jnp.float64(1.0)
    )
    anchors = chains.find_anchors(KEY, problem)
    sampler = SGLD(1e-2) if sampler is None else sampler
    sampler = jax.tree.map(lambda x: jnp.full(num_centers, x, jnp.float64), sampler)
    return chains.center_keys(KEY, num_centers), problem, anchors, sampler


def collect(block_length, num_blocks, num_chains=3, **options):
    keys, problem, anchors, sampler = setup(**options)
    state = chains.start_chains(keys, problem, anchors, sampler=sampler, num_chains=num_chains)
    blocks = chains.run_chains(
        keys, problem, anchors, sampler=sampler, state=state, block_length=block_length
    )
    found = [next(blocks) for _ in range(num_blocks)]
    return found[-1][0], chains.Draws(
        *(np.concatenate(x, 2) for x in zip(*(d for _, d in found), strict=True))
    )


@pytest.mark.parametrize("sampler", [SGLD(1e-2), KineticLangevin(0.05, 1.0)])
def test_draws_do_not_depend_on_block_length(sampler):
    _, long = collect(24, 1, sampler=sampler)
    _, short = collect(6, 4, sampler=sampler)
    for a, b in zip(long, short, strict=True):
        np.testing.assert_array_equal(a, b)


def test_draws_do_not_depend_on_chains_or_centers_beside_them():
    _, many = collect(10, 1, num_chains=5, num_centers=3)
    _, few = collect(10, 1, num_chains=2, num_centers=1)
    np.testing.assert_allclose(many.excess_loss[:1, :2], few.excess_loss, rtol=1e-12)


def test_draws_are_those_of_the_default_generator(monkeypatch):
    _, fast = collect(12, 1)
    monkeypatch.setattr(chains, "unrolled", lambda keys: keys)
    chains._advance.clear_cache()
    _, slow = collect(12, 1)
    chains._advance.clear_cache()
    np.testing.assert_allclose(fast.excess_loss, slow.excess_loss, rtol=1e-12)


def quartic(params):
    return jnp.sum((params - 1.0) ** 4)


def test_one_program_starts_the_chains_of_all_targets():
    chains._init.clear_cache()
    for loss_fn in (bowl, quartic):
        keys, problem, anchors, sampler = setup(loss_fn, sampler=KineticLangevin(0.05, 1.0))
        state = chains.start_chains(keys, problem, anchors, sampler=sampler, num_chains=2)
        gradient = jnp.broadcast_to(50 * anchors.gradient[:, None], (2, 2, 3))
        np.testing.assert_allclose(state.sampler_state.gradient, gradient)
        np.testing.assert_array_equal(state.sampler_state.potential, 0)
    assert chains._init._cache_size() == 1


@pytest.mark.parametrize("sampler", [MALA(1e-3), HMC(1e-2)])
def test_samplers_that_differentiate_the_oracle_start_with_the_gradient(sampler):
    keys, problem, anchors, sampler = setup(quartic, sampler=sampler)
    state = chains.start_chains(keys, problem, anchors, sampler=sampler, num_chains=1)
    # The derivative of 50 (w - 1)^4 at zero is -200.
    np.testing.assert_allclose(state.sampler_state.logdensity_grad, np.full((2, 1, 3), 200.0))


def test_restart_from_a_state_continues_the_same_chain():
    keys, problem, anchors, sampler = setup()
    state = chains.start_chains(keys, problem, anchors, sampler=sampler, num_chains=2)
    blocks = chains.run_chains(keys, problem, anchors, sampler=sampler, state=state, block_length=8)
    saved, _ = next(blocks)
    # A copy, for the next block consumes it.
    saved = jax.tree.map(jnp.copy, saved)
    _, expected = next(blocks)
    again = chains.run_chains(keys, problem, anchors, sampler=sampler, state=saved, block_length=8)
    np.testing.assert_array_equal(next(again)[1].excess_loss, expected.excess_loss)


@pytest.mark.parametrize("sampler", [SGLD(np.linspace(1e-3, 1e-2, 6)[None]), SGLD(1e-2)])
def test_groups_of_chains_have_the_draws_of_all_at_once(sampler, monkeypatch):
    def run():
        keys, problem, anchors, _ = setup(num_centers=1)
        state = chains.start_chains(keys, problem, anchors, sampler=sampler, num_chains=6)
        blocks = chains.run_chains(
            keys, problem, anchors, sampler=sampler, state=state, block_length=8
        )
        return [next(blocks)[1] for _ in range(2)]

    together = run()
    # Three parameters a chain: two chains at a time.
    monkeypatch.setattr(groups, "ON_A_CPU", 8)
    for found, expected in zip(run(), together, strict=True):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


def test_large_chains_hold_their_state_once(monkeypatch):
    monkeypatch.setattr(groups, "ON_A_CPU", 2**19)

    def loss_fn(params):
        return jnp.sum((params - 1.0) ** 4)

    centers, number = jnp.zeros((1, 2**17), jnp.float32), jnp.float32(1)
    problem = chains.Problem(chains.constant_target(loss_fn), centers, None, number, number)
    anchors, sizes = chains.find_anchors(KEY, problem), groups.Sizes(4, None, 4)
    assert groups.group_size(np.broadcast_to(centers, (1, 64, 2**17))) == sizes.together
    block = plans.block_plan(problem, anchors, SGLD(1e-6), num_chains=64, sizes=sizes)
    plan, states = block.memory_analysis(), 64 * centers.nbytes
    assert plan.alias_size_in_bytes >= states
    new = plan.output_size_in_bytes - plan.alias_size_in_bytes + plan.temp_size_in_bytes
    # Of four chains, a sixteenth, the state and three steps on the way to the gradient.
    assert new < 0.27 * states


def test_chains_and_centers_are_independent_of_each_other():
    _, draws = collect(200, 1, num_chains=4, num_centers=2)
    flat = draws.excess_loss.reshape(8, -1)[:, 50:]
    correlations = np.corrcoef(flat) - np.eye(8)
    assert np.abs(correlations).max() < 0.5
    assert len(np.unique(flat[:, -1])) == 8


def test_a_diverging_chain_is_frozen_and_the_others_go_on():
    def cliff(params):
        # Beyond |w| = 0.6 the loss is not a number.
        return jnp.where(jnp.sum(params**2) > 0.36, jnp.nan, jnp.sum(params**2) / 2)

    _, draws = collect(400, 1, num_chains=8, loss_fn=cliff, sampler=SGLD(1e-2))
    dead = ~draws.alive[..., -1]
    assert dead.any()
    assert not dead.all()
    first_dead = np.argmin(draws.alive, axis=2)[dead]
    assert np.all(np.diff(draws.alive.astype(int), axis=2) <= 0)
    for chain, start in zip(draws.squared_distance[dead], first_dead, strict=True):
        assert np.all(np.isfinite(chain[:start]))
        assert np.ptp(chain[start:]) == 0 or np.all(np.isnan(chain[start:]))


def test_number_of_traces_does_not_grow_with_checkpoints_draws_or_numbers():
    traces = []

    def loss_fn(params):
        traces.append(1)
        return jnp.sum((params - 1.0) ** 2)

    def run(num_checkpoints, nbeta, localization):
        slt_rl.llc_curve(
            KEY,
            make_target,
            jnp.ones((num_checkpoints, 2)),
            nbeta=nbeta,
            localization=localization,
            chunk_size=4,
            num_draws=300,
            num_burnin=100,
        )
        return len(traces)

    def make_target(params):
        return loss_fn

    seen = [run(4, 100.0, 1.0), run(4, 200.0, 2.0), run(20, 300.0, 3.0), run(40, 400.0, 4.0)]
    # A further call never traces a program: it looks at the loss, for its precision, and where
    # there are several chunks, whether they may run side by side.
    assert np.all(np.diff(seen) <= [1, 2, 2])


def test_repeated_estimates_do_not_recompile():
    traces = []

    def loss_fn(params):
        traces.append(1)
        return jnp.sum(params**2)

    for nbeta in (10.0, 20.0, 30.0):
        slt_rl.estimate_llc(KEY, loss_fn, jnp.zeros(2), nbeta=nbeta, num_draws=200, num_burnin=50)
        if nbeta == 10.0:
            first = len(traces)
    assert len(traces) - first <= 2

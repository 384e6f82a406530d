"""A loss in less than single precision is never trusted; none is made so by the library."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
from slt_rl import chains
from slt_rl.groups import Sizes
from slt_rl.precision import low_precision

NBETA, LOCALIZATION = 1e5, 10.0


def quadratic(params, dtype=jnp.float32):
    """Around a center of ones, where numbers of bfloat16 are 0.004 and 0.008 apart."""
    return 0.5 * jnp.sum((params.astype(dtype) - 1) ** 2).astype(jnp.float32)


half = functools.partial(quadratic, dtype=jnp.bfloat16)


def test_a_rounded_loss_moves_the_estimate_and_is_flagged():
    """The exact value is that of a quadratic at this step; rounding adds a spread of its own."""
    step = 1e-6
    options = {"sampler": slt_rl.SGLD(step), "num_draws": 2000, "num_chains": 8}
    given = {"nbeta": NBETA, "localization": LOCALIZATION, **options}
    stiffness = NBETA + LOCALIZATION
    exact = 3 * NBETA / stiffness / (1 - step * stiffness / 4)
    key, ones = jax.random.key(0), jnp.ones(6, jnp.float32)
    single, rounded = (slt_rl.estimate_llc(key, f, ones, **given) for f in (quadratic, half))
    assert abs(single.mean - exact) < 4 * single.sem
    assert rounded.mean - exact > 4 * rounded.sem
    assert not any("bfloat16" in flag for flag in single.flags)
    assert rounded.verdict != "trusted"
    assert any("bfloat16" in flag for flag in rounded.flags)


def make_target(params):
    return lambda w: jnp.sum((w - params).astype(jnp.float16) ** 2).astype(jnp.float32)


def test_a_curve_is_flagged_too():
    curve = slt_rl.llc_curve(
        jax.random.key(0), make_target, jnp.zeros((2, 3)), nbeta=100.0,
        sampler=slt_rl.SGLD(1e-3), num_draws=16,
    )  # fmt: skip
    for estimate in curve.estimates:
        assert estimate.verdict != "trusted"
        assert "float16" in estimate.flags[-1]


def test_data_that_are_only_stored_so_do_not_count():
    stored = jnp.ones((4, 2), jnp.bfloat16)
    assert low_precision(lambda w, x: x.astype(jnp.float32) @ w, jnp.ones(2), stored) is None
    assert low_precision(lambda w, x: x @ w.astype(x.dtype), jnp.ones(2), stored) == "bfloat16"


@pytest.mark.parametrize("sampler", [slt_rl.SGLD(1e-7), slt_rl.KineticLangevin(1e-3, 1.0, 0.0)])
def test_chains_of_a_single_precision_loss_compute_in_nothing_lower(sampler):
    target = chains.constant_target(quadratic)
    centers, key = jnp.ones((1, 6), jnp.float32), jax.random.key(0)
    problem = chains.Problem(target, centers, None, jnp.float32(NBETA), jnp.float32(LOCALIZATION))

    def block(centers, keys):
        anchors = chains.find_anchors(key, problem)
        state = chains.start_chains(keys, problem, anchors, sampler=sampler, num_chains=2)
        numbers = chains.numbers_of(problem._replace(centers=centers), anchors)
        steps = chains.per_chain(sampler, problem, 2)
        return chains._advance(target, numbers, steps, keys, Sizes(4, None, 2), None, state)

    assert low_precision(block, centers, chains.center_keys(key, 1)) is None
    draws = jax.tree.leaves(jax.eval_shape(block, centers, chains.center_keys(key, 1)))
    assert {x.dtype for x in draws if np.issubdtype(x.dtype, np.floating)} == {np.dtype("float32")}

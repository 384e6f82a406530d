"""One suite for every sampler: a new sampler is a new entry in SAMPLERS."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import slt_rl
from slt_rl import chains, estimators

KEY = jax.random.key(7)
CURVATURES = jnp.array([1.0, 0.5, 0.1, 0.02])
NBETA, LOCALIZATION = 1000.0, 5.0
STIFFEST = NBETA * 1.0 + LOCALIZATION


def quadratic(params):
    return 0.5 * jnp.sum(CURVATURES * jnp.concatenate([params["a"], params["b"]]) ** 2)


CENTER = {"a": jnp.zeros(3), "b": jnp.zeros(1)}
# (sampler, draws): each with its own exact stationary value, see `exact`.
SAMPLERS = {
    "sgld": (slt_rl.SGLD(0.4 / STIFFEST), 20_000),
    "sgld_large_step": (slt_rl.SGLD(1.5 / STIFFEST), 20_000),
    "sgld_binomial": (slt_rl.SGLD(1.5 / STIFFEST, binomial_increments=True), 20_000),
    "kinetic": (slt_rl.KineticLangevin(0.5 / STIFFEST**0.5, 0.2 * STIFFEST**0.5), 20_000),
    "kinetic_large_step": (
        slt_rl.KineticLangevin(1.5 / STIFFEST**0.5, 0.2 * STIFFEST**0.5),
        20_000,
    ),
    "mala": (slt_rl.MALA(0.7 / STIFFEST), 20_000),
    "hmc": (slt_rl.HMC(0.5 / STIFFEST**0.5, 12), 2_000),
    "nuts": (slt_rl.NUTS(0.5 / STIFFEST**0.5, 6), 1_000),
}


def exact(sampler):
    """The stationary value on a quadratic, step-size bias of SGLD included."""
    stiffness = NBETA * CURVATURES + LOCALIZATION
    per_direction = 0.5 * NBETA * CURVATURES / stiffness
    if isinstance(sampler, slt_rl.SGLD):
        per_direction = per_direction / (1 - sampler.step_size * stiffness / 4)
    return float(per_direction.sum())


@functools.cache
def sample(name):
    """The run that several tests look at, made once."""
    sampler, num_draws = SAMPLERS[name]
    return slt_rl.estimate_llc(
        KEY,
        quadratic,
        CENTER,
        nbeta=NBETA,
        localization=LOCALIZATION,
        sampler=sampler,
        num_chains=8,
        num_draws=num_draws,
        num_burnin=1000,
    )


@pytest.mark.parametrize("name", SAMPLERS)
def test_stationary_value_on_a_quadratic(name):
    sampler, _ = SAMPLERS[name]
    result = sample(name)
    assert result.sem < 0.03 * result.mean
    assert abs(result.mean - exact(sampler)) < 4 * result.sem


@pytest.mark.parametrize("name", SAMPLERS)
def test_linear_response_slopes_match_the_exact_derivatives(name):
    sampler, _ = SAMPLERS[name]
    if isinstance(sampler, slt_rl.SGLD):
        pytest.skip("the step-size bias of SGLD enters the slopes")
    result = sample(name)
    x, g = NBETA * np.asarray(CURVATURES), LOCALIZATION
    value = np.sum(0.5 * x / (x + g))
    in_temperature = np.sum(0.5 * x * g / (x + g) ** 2) / value
    assert result.diagnostics["localization_slope"] == pytest.approx(-in_temperature, abs=0.03)
    assert result.diagnostics["temperature_slope"] == pytest.approx(in_temperature, abs=0.12)


def run_block(sampler, loss_fn, center, nbeta=100.0, localization=1.0, num_steps=5):
    centers = jax.tree.map(lambda x: x[None], center)
    problem = chains.Problem(
        chains.constant_target(loss_fn),
        centers,
        None,
        jnp.asarray(nbeta, jnp.float64),
        jnp.asarray(localization, jnp.float64),
    )
    anchors = chains.find_anchors(KEY, problem)
    sampler = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64)[None], sampler)
    keys = chains.center_keys(KEY, 1)
    state = chains.start_chains(keys, problem, anchors, sampler=sampler, num_chains=2)
    return next(
        chains.run_chains(
            keys, problem, anchors, sampler=sampler, state=state, block_length=num_steps
        )
    )


def test_sgld_first_draw_is_the_center():
    _, draws = run_block(slt_rl.SGLD(1e-3), quadratic, CENTER)
    np.testing.assert_array_equal(draws.excess_loss[..., 0], 0.0)


@pytest.mark.parametrize(("scale", "freeze_after"), [(1.0, None), (4.0, None), (4.0, 200)])
def test_a_constant_preconditioner_only_rescales_the_step(scale, freeze_after):
    """G = c I is plain SGLD with step c * step: the same draws."""
    preconditioner = optax.scale(scale)
    plain = slt_rl.SGLD(scale * 1e-3)
    scaled = slt_rl.SGLD(1e-3, preconditioner=preconditioner, freeze_after=freeze_after)
    _, expected = run_block(plain, quadratic, CENTER, num_steps=50)
    _, found = run_block(scaled, quadratic, CENTER, num_steps=50)
    np.testing.assert_allclose(found.excess_loss, expected.excess_loss, rtol=1e-6, atol=1e-12)


def test_frozen_rms_preconditioner_keeps_the_stationary_value():
    """Frozen scales are a linear change of coordinates, with the step-size bias of SGLD in them."""
    step = 0.02
    rms = optax.scale_by_rms(0.99, 1e-8, initial_scale=1e3)
    result = slt_rl.estimate_llc(
        KEY,
        quadratic,
        CENTER,
        nbeta=NBETA,
        localization=LOCALIZATION,
        sampler=slt_rl.SGLD(step, preconditioner=rms, freeze_after=3000),
        num_draws=30_000,
        num_burnin=6_000,
    )
    stiffness = NBETA * CURVATURES + LOCALIZATION
    # At equilibrium E[g^2] = kappa, so G = kappa^(-1/2) and c = step * kappa^(1/2).
    bias = 1 / (1 - step * stiffness**0.5 / 4)
    expected = float(jnp.sum(0.5 * NBETA * CURVATURES / stiffness * bias))
    # The window's own noise in G is not in the formula: 3 % for it.
    assert abs(result.mean - expected) < 4 * result.sem + 0.03 * expected


def test_freezing_stops_the_scales():
    # The gradient oracle is replaced by one whose size jumps: frozen scales must not follow.
    sampler = slt_rl.SGLD(jnp.asarray(1e-6), preconditioner=optax.scale_by_rms(0.5), freeze_after=3)
    state = sampler.init(KEY, {"w": jnp.ones(2)}, None)

    def oracle(size):
        return lambda key, w: (jnp.float64(0), jax.tree.map(lambda x: size * jnp.ones_like(x), w))

    for _ in range(3):
        state, _ = sampler.step(KEY, state, oracle(1.0))
    frozen = state.mean_precision
    for _ in range(3):
        state, _ = sampler.step(KEY, state, oracle(100.0))
    np.testing.assert_array_equal(state.mean_precision["w"], frozen["w"])


def test_mala_uses_this_librarys_step_convention():
    """Acceptance at 0 -> w' on U = |w|^2/2 is exp(-step |w'|^2 / 8): the step of SGLD."""
    step = 0.5

    def unit(params):
        return 0.5 * jnp.sum(params**2) / 100.0

    _, draws = run_block(
        slt_rl.MALA(step), unit, jnp.zeros(2), localization=0.0, nbeta=100.0, num_steps=1
    )
    accepted = draws.squared_distance[..., 0] > 0
    expected = np.exp(-step * draws.squared_distance[..., 0] / 8)
    np.testing.assert_allclose(draws.acceptance[..., 0][accepted], expected[accepted], rtol=1e-6)
    assert accepted.any()


def test_kinetic_temperature_is_one():
    sampler = SAMPLERS["kinetic"][0]
    _, draws = run_block(sampler, quadratic, CENTER, NBETA, LOCALIZATION, num_steps=20_000)
    temperature = estimators.mean_estimate(draws.kinetic_temperature[0])
    # A quarter of (h omega)^2 is the splitting's error in the stiffest of the four momenta.
    assert abs(temperature.mean - 1) < 0.25 * 0.25 + 4 * temperature.sem

"""The terms of the error budget against exact values, and the interval made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
from slt_rl import estimation
from slt_rl.budget import RAY_FRACTIONS, Context, explained_on_rays, growth_on_rays, make_budget
from slt_rl.chains import Draws
from slt_rl.estimators import mean_estimate
from slt_rl.step_error import balance_of, extrapolate_step
from toy_models import quadrature

KEY = jax.random.key(3)


def test_two_steps_are_carried_to_step_zero():
    """Independent draws with a planted error of first and of second order."""
    rng = np.random.default_rng(0)
    steps = np.resize([0.4, 1.6], 8)
    for order in (1, 2):
        planted = 3.0 + 0.5 * steps**order
        values = planted[:, None] + rng.standard_normal((8, 4000))
        found = extrapolate_step(values, steps, order=order)
        assert abs(found.estimate.mean - 3.0) < 4 * found.estimate.sem
        assert abs(found.bias - 0.5 * np.mean(steps**order)) < 4 * found.bias_sem
        assert found.bias > 10 * found.bias_sem
        assert found.estimate.mean == pytest.approx(found.estimate.per_chain.mean())
    assert extrapolate_step(values, np.ones(8), order=1) is None


def test_extrapolated_error_is_as_large_as_stated():
    rng = np.random.default_rng(1)
    steps = np.resize([0.4, 1.6], 8)
    scores = []
    for _ in range(200):
        found = extrapolate_step(rng.standard_normal((8, 100)), steps, order=1).estimate
        scores.append(found.mean / found.sem)
    # ESS takes the smaller of two estimates, so errors are overstated, by less than a quarter.
    assert 0.7 < np.std(scores) < 1.15


def test_equipartition_is_carried_to_step_zero():
    """SGLD inflates stiff directions by `1/(1 - c/4)`: a step, and no lack of equilibrium."""
    sizes, c = np.array([10, 40]), np.resize([0.04, 0.16], 4)
    squares = np.random.default_rng(2).standard_normal((4, 4000, 50)) ** 2
    squares /= (1 - c / 4)[:, None, None]
    virial = np.stack([x.mean(axis=2) for x in np.split(squares, [10], axis=2)], axis=2)
    carried = balance_of(virial, sizes, c)
    coarse = balance_of(virial[c == c.max()], sizes, None)
    assert abs(coarse.ratio - 1 / (1 - c.max() / 4)) < 4 * coarse.sem
    assert coarse.ratio - 1 > 5 * coarse.sem
    assert abs(carried.ratio - 1) < 4 * carried.sem
    assert carried.sem < 0.005
    assert np.all(coarse.leaf_excess > 0)
    assert np.all(carried.leaf_excess == 0)
    np.testing.assert_allclose(carried.per_leaf, 1, atol=0.02)


def quartic(w):
    return jnp.sum(w**2 / 2 + 300 * w**4)


def test_adjusted_steps_are_exact_where_unadjusted_ones_diverge():
    """A step so large that BAOAB leaves the finite numbers on an anharmonic potential."""
    grid = np.linspace(-2, 2, 20_001)
    energy = 30.0 * (grid**2 / 2 + 300 * grid**4)
    weight = np.exp(-energy - grid**2)
    exact = 4 * np.sum(weight * energy) / np.sum(weight)
    results = {
        adjusted: slt_rl.estimate_llc(
            KEY,
            quartic,
            jnp.zeros(4),
            nbeta=30.0,
            localization=2.0,
            sampler=slt_rl.KineticLangevin(0.045, 5.0, adjusted),
            num_draws=40_000,
            num_burnin=1000,
        )
        for adjusted in (False, True)
    }
    assert abs(results[True].mean - exact) < 4 * results[True].sem
    assert results[True].sem < 0.02 * exact
    assert np.isnan(results[False].mean)
    assert 0.5 < results[True].diagnostics["acceptance"] < 0.98


def test_an_adjusted_chain_is_the_same_program():
    from slt_rl import chains

    options = {"nbeta": 1e3, "num_draws": 256, "num_burnin": 0}
    slt_rl.estimate_llc(KEY, quartic, jnp.zeros(2), **options)
    before = chains.num_programs()
    result = slt_rl.estimate_llc(KEY, quartic, jnp.zeros(2), **options)
    assert chains.num_programs() == before
    assert 0.5 < result.diagnostics["audit_acceptance"] <= 1.0


def test_the_audit_finds_no_shift_in_a_sound_run():
    result = slt_rl.estimate_llc(
        KEY, lambda w: jnp.sum(w**4), jnp.zeros(4), nbeta=1e3, num_draws=20_000
    )
    shift, sem = (result.diagnostics[k] for k in ("audit_shift", "audit_shift_sem"))
    assert abs(shift) < 4 * sem
    exact = quadrature.radial(1, 4, 1.0, nbeta=1e3, localization=result.localization).llc
    assert abs(result.mean - 4 * exact) < 4 * result.sem


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 0.1), ({"sampler": slt_rl.SGLD(2e-6), "nbeta": 1e4, "localization": 1.0}, 0.5)],
    ids=["control variate", "no control variate"],
)
def test_many_examples_do_not_make_the_error_over_data_sets_larger(options, most):
    """At the data's own minimum of a linear model all data give `d/2`, however many they are."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((200_000, 4)).astype(np.float32)
    y = x @ np.ones(4, np.float32) + rng.standard_normal(len(x)).astype(np.float32)
    center = np.linalg.lstsq(x.astype(float), y.astype(float), rcond=None)[0]
    result = slt_rl.estimate_llc(
        jax.random.key(2),
        lambda w, e: (e[0] @ w - e[1]) ** 2 / 2,
        jnp.asarray(center, jnp.float32),
        (x, y),
        batch_size=512,
        num_draws=4000,
        **options,
    )
    assert abs(result.mean - 2) < 4 * result.sem + result.error_budget["minibatch"]
    assert result.error_budget["data_set"] < most


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 32},
        {"sampler": slt_rl.SGLD(1e-4)},
        {"sampler": slt_rl.SGLD(1e-4, control_variate=True), "batch_size": 32},
        {"sampler": slt_rl.SGLD(1e-4), "batch_size": 512},
        {"sampler": slt_rl.MALA(1e-4)},
    ],
    ids=["kinetic", "minibatch", "SGLD", "control variate", "no control variate", "MALA"],
)
def test_mean_loss_beside_those_of_single_examples_is_of_the_same_positions(options, monkeypatch):
    """Of a data set of one example many times over the chosen are all."""
    losses, mean_loss = _kept_losses(monkeypatch, jnp.ones((3000, 2)), **options)
    assert losses.shape[2] == 2048 and losses.std() > 0
    np.testing.assert_allclose(mean_loss, losses.mean(axis=2), rtol=1e-3, atol=1e-7)


def test_the_noise_of_few_and_small_minibatches_is_not_taken_for_the_mean_loss(monkeypatch):
    """Where it misses by more than the mean of the sample does, that is taken."""
    data = jax.random.normal(KEY, (3000, 2))
    for batch_size, is_of_sample in ((4, True), (2000, False)):
        losses, mean_loss = _kept_losses(
            monkeypatch, data, sampler=slt_rl.SGLD(1e-4), batch_size=batch_size
        )
        assert np.allclose(mean_loss, losses.mean(axis=2), rtol=1e-5) == is_of_sample


def test_every_block_of_a_short_chain_has_its_mean_loss(monkeypatch):
    """SGLD records it with the next draw, which the last block does not have."""
    data = jax.random.normal(KEY, (3000, 2))
    for sampler in (slt_rl.SGLD(1e-4), slt_rl.MALA(1e-4)):
        losses, mean_loss = _kept_losses(monkeypatch, data, sampler=sampler, num_draws=512)
        assert losses.shape[:2] == mean_loss.shape == (8, 4)


def _kept_losses(monkeypatch, data, **options):
    """What the error over data sets is made of: losses of single examples, and mean losses."""
    seen = []
    known = estimation.data_set_error

    def spy(losses, nbeta, *, mean_loss):
        seen.append((losses, mean_loss))
        return known(losses, nbeta, mean_loss=mean_loss)

    monkeypatch.setattr(estimation, "data_set_error", spy)
    slt_rl.estimate_llc(
        KEY, lambda w, x: (x @ w) ** 4, jnp.zeros(2), data, **{"num_draws": 1024} | options
    )
    monkeypatch.undo()
    return tuple(np.asarray(x) for x in seen[0])


def test_interval_adds_systematic_terms_and_squares_of_random_ones():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((500, 3))
    data = {"x": x, "y": x @ np.ones(3) + rng.standard_normal(500)}
    result = slt_rl.estimate_llc(
        KEY, lambda w, e: (e["x"] @ w - e["y"]) ** 2 / 2, jnp.ones(3), data, num_draws=2000
    )
    budget = result.error_budget
    # Twice the square root of the drop to the data's own minimum, times beta: all else cancels.
    assert 0.05 < budget["data_set"] < 0.6
    systematic = sum(budget[k] for k in ("discretization", "minibatch", "relaxation", "anchor"))
    given = np.diff(result.interval(given_data=True))[0] / 2
    whole = np.diff(result.interval())[0] / 2
    random = np.hypot(result.sem, budget["data_set"])
    assert (whole - systematic) / (given - systematic) == pytest.approx(random / result.sem)
    exact_potential = slt_rl.estimate_llc(KEY, quartic, jnp.zeros(2), nbeta=1e3, num_draws=256)
    assert np.isnan(exact_potential.error_budget["data_set"])
    assert np.all(np.isfinite(exact_potential.interval()))


NBETA, LOCALIZATION = 1e3, 10.0


def exact_draws(curvatures, *, num_free):
    """Independent draws of a quadratic with free directions, and the context of an exact run."""
    curvatures = np.concatenate([curvatures, np.zeros(num_free)])
    stiffness = NBETA * curvatures + LOCALIZATION
    w = np.random.default_rng(0).standard_normal((4, 1000, stiffness.size)) / stiffness**0.5
    ones = np.ones(w.shape[:2])
    virial = (w**2 @ stiffness)[..., None] / stiffness.size
    draws = Draws(w**2 @ curvatures / 2, virial, np.sum(w**2, axis=2), ones, ones, ones, ones > 0)
    context = Context(
        nbeta=NBETA,
        localization=LOCALIZATION,
        center_loss=0.0,
        step_sizes=np.ones(4),
        step_order=0,
        extrapolate=False,
        step_bias=0.0,
        heating=0.0,
        tolerance=0.05,
        leaf_sizes=np.array([stiffness.size]),
        anchor_drop=0.0,
        data_set=np.nan,
        beta=0.0,
        growth_at_center=np.nan,
        explained_by_slope=np.nan,
        audit=None,
        stable=True,
        notes=(),
        num_gradients=0,
        calibration_gradients=0,
    )
    return draws, context


@pytest.mark.parametrize("num_free", [0, 3000])
def test_free_directions_do_not_drown_the_slope_in_localization(num_free):
    """One thousand draws a chain: 3000 free directions would give the direct form an error of 1."""
    curvatures = np.array([1.0, 0.1, 0.02])
    numbers = make_budget(*exact_draws(curvatures, num_free=num_free)).numbers
    share = NBETA * curvatures / (NBETA * curvatures + LOCALIZATION)
    exact = -np.sum(share * (1 - share)) / np.sum(share)
    slope, sem = numbers["localization_slope"], numbers["localization_slope_sem"]
    assert sem < 0.05
    assert abs(slope - exact) < 4 * sem


def test_both_forms_of_the_slope_in_localization_together_are_sharper_than_each():
    """Forty stiff and sixty free directions, where either form alone is about as noisy."""
    draws, context = exact_draws(np.ones(40), num_free=60)
    numbers = make_budget(draws, context).numbers
    slope, sem = numbers["localization_slope"], numbers["localization_slope_sem"]
    scaled, pull = NBETA * draws.excess_loss, LOCALIZATION * draws.squared_distance
    inner = draws.virial @ context.leaf_sizes - pull
    centered = scaled - scaled.mean()
    forms = (-centered * (pull - pull.mean()), centered * (inner - inner.mean()) - inner)
    alone = min(mean_estimate(x / 2).sem for x in forms) / scaled.mean()
    assert sem < 0.85 * alone
    assert abs(slope + LOCALIZATION / (NBETA + LOCALIZATION)) < 4 * sem


@pytest.mark.parametrize("degree", [1.0, 2.0, 3.0, 6.0])
@pytest.mark.parametrize("gradient", [0.0, -0.3])
def test_growth_on_rays_is_the_degree(degree, gradient):
    """Whatever the lengths of the rays, and whatever is left of the gradient at the center."""
    lengths = np.random.default_rng(1).uniform(0.1, 3.0, (8, 1))
    t = np.asarray(RAY_FRACTIONS)
    losses = (lengths * t) ** degree + gradient * lengths * t
    slopes = degree * lengths**degree * t ** (degree - 1) * (t > 0) + gradient * lengths
    for size in (0.01, 1.0, 100.0):
        assert growth_on_rays(losses, slopes, size) == pytest.approx(degree)
    if gradient == 0:
        trapezoid = degree * (0.5 ** (degree - 1) + 1) / 4 / (1 - 0.5**degree)
        assert explained_on_rays(losses, slopes) == pytest.approx(trapezoid, rel=1e-3)
    assert explained_on_rays(losses, 0 * slopes) == 0


def test_growth_on_rays_is_that_at_thermal_distances():
    """A norm rounded off far below them is a norm; a ridge between center and chain is no kink."""
    points = 4.0 * np.asarray(RAY_FRACTIONS)[None]
    rounded = np.hypot(points, 1e-2)
    assert growth_on_rays(rounded, points * 4 / rounded, 2.0) < 1.1
    # Up to a height of 0.37 at distance 1, of which chains see a tenth, and down again to nothing.
    losses = points**2 * np.exp(-(points**2))
    slopes = 4 * 2 * points * (1 - points**2) * np.exp(-(points**2))
    assert growth_on_rays(losses, slopes, 0.04) > 1.9
    assert np.isnan(growth_on_rays(-points, -np.ones_like(points), 1.0))

"""Estimators on traces with known laws, in units of their own standard error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slt_rl import diagnostics, estimators
from toy_models import quadrature


def gamma_losses(rng, llc, nbeta, shape=(8, 4000)):
    """`nbeta (L - L*) ~ Gamma(llc)`: the law of a loss with a pure power-law volume."""
    return rng.gamma(llc, size=shape) / nbeta


def autoregressive(rng, rho, shape):
    noise = rng.standard_normal(shape)
    trace = np.empty(shape)
    trace[:, 0] = noise[:, 0]
    for t in range(1, shape[1]):
        trace[:, t] = rho * trace[:, t - 1] + np.sqrt(1 - rho**2) * noise[:, t]
    return trace


@pytest.mark.parametrize("llc", [0.5, 2.0, 8.5])
def test_mean_and_variance_estimators_recover_the_llc(llc):
    losses = gamma_losses(np.random.default_rng(0), llc, nbeta=300.0)
    for estimate in (
        estimators.mean_llc(losses, 300.0),
        estimators.variance_llc(losses, 300.0),
    ):
        assert abs(estimate.mean - llc) < 4 * estimate.sem
        assert estimate.sem < 0.1 * llc


def test_two_temperatures_need_no_center_loss():
    rng = np.random.default_rng(1)
    first = 7.0 + gamma_losses(rng, 3.0, 100.0)
    second = 7.0 + gamma_losses(rng, 3.0, 200.0)
    estimate = estimators.two_temperature_llc(first, second, nbeta_1=100.0, nbeta_2=200.0)
    assert abs(estimate.mean - 3.0) < 4 * estimate.sem


def test_two_equal_temperatures_are_refused():
    with pytest.raises(ValueError, match="nbeta_2: expected a value different"):
        estimators.two_temperature_llc(np.ones((2, 8)), np.ones((2, 8)), nbeta_1=5.0, nbeta_2=5.0)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, 0.98])
def test_standard_error_has_the_right_size_under_autocorrelation(rho):
    """The z-scores of 200 estimates of a known mean have unit spread."""
    rng = np.random.default_rng(2)
    z = []
    for _ in range(200):
        estimate = estimators.mean_estimate(autoregressive(rng, rho, (4, 1500)))
        z.append(estimate.mean / estimate.sem)
    # The spread of 200 unit normals is within 0.15 of 1 at three sigma.
    assert 0.8 < np.std(z) < 1.2


def test_standard_error_widens_when_chains_disagree():
    rng = np.random.default_rng(3)
    trace = rng.standard_normal((4, 1000))
    apart = trace + np.array([[0.0], [1.0], [2.0], [3.0]])
    assert estimators.mean_estimate(apart).sem > 10 * estimators.mean_estimate(trace).sem
    assert diagnostics.split_r_hat(apart) > 1.3
    assert diagnostics.split_r_hat(trace) < 1.01


@given(st.floats(0.1, 10), st.integers(0, 1000))
def test_rescaling_loss_and_temperature_changes_nothing(scale, seed):
    losses = gamma_losses(np.random.default_rng(seed), 2.0, 50.0, (4, 64))
    a = estimators.mean_llc(losses, 50.0)
    b = estimators.mean_llc(losses * scale, 50.0 / scale)
    assert a.mean == pytest.approx(b.mean, rel=1e-12)
    assert a.sem == pytest.approx(b.sem, rel=1e-6)


def test_drift_sees_a_trend_and_not_noise():
    rng = np.random.default_rng(4)
    noise = rng.standard_normal((8, 2000))
    assert abs(diagnostics.drift(noise)) < 4
    assert diagnostics.drift(noise + np.linspace(0, 1, 2000)) > 10


def test_drift_between_halves_that_stand_still_is_infinite():
    stands = np.repeat([[0.0, 1.0]], 4, axis=1).repeat(2, axis=0)
    assert diagnostics.drift(stands) == np.inf and diagnostics.drift(-stands) == -np.inf
    assert diagnostics.drift(0 * stands + 0.1) == 0


def test_equipartition_weights_leaves_by_size():
    virial = np.tile(np.array([1.0, 3.0]), (2, 50, 1))
    ratio, _, per_leaf = diagnostics.equipartition(virial, np.array([3, 1]))
    assert ratio == pytest.approx(1.5)
    np.testing.assert_allclose(per_leaf, [1.0, 3.0])


@pytest.mark.parametrize("shape", [(8,), (2, 3), (2, 3, 4)])
def test_traces_of_the_wrong_shape_are_refused(shape):
    with pytest.raises(ValueError, match="trace: expected a \\[chain, draw\\] array"):
        estimators.mean_estimate(np.zeros(shape))


def test_non_finite_draws_are_never_averaged_away():
    trace = np.ones((2, 10))
    trace[1, 3] = np.nan
    assert np.isnan(estimators.mean_estimate(trace).mean)


def reduced_rank_draws(rng, num_draws):
    """Independent draws of `t K` for `K = |B A|^2/2`, widths (3, 1, 3), t = 1e4, localization 1.

    `s = |A|^2` from its quadrature density; given it `t K ~ Gamma(3/2) * t s/(t s + 1)`.
    """
    x = np.linspace(-60, np.log(120), 4001)
    log_weight = 1.5 * x - np.exp(x) / 2 - 1.5 * np.log(1 + 1e4 * np.exp(x))
    weight = np.exp(log_weight - log_weight.max())
    s = np.exp(np.interp(rng.random((8, num_draws)), np.cumsum(weight) / weight.sum(), x))
    return rng.gamma(1.5, size=s.shape) * 1e4 * s / (1e4 * s + 1)


def crossing_draws(rng, num_draws):
    """The same for `K = w_1^2 w_2^2 / 2`: given `w_1`, `w_2` is Gaussian."""
    x = np.linspace(-90, 4, 20_001)
    square = np.exp(2 * x)
    log_weight = x - square / 2 - 0.5 * np.log(1 + 1e4 * square)
    weight = np.exp(log_weight - log_weight.max())
    s = np.exp(2 * np.interp(rng.random((8, num_draws)), np.cumsum(weight) / weight.sum(), x))
    return rng.chisquare(1, size=s.shape) / 2 * 1e4 * s / (1e4 * s + 1)


@pytest.mark.parametrize(
    ("draws_fn", "exact_fn", "table"),
    [
        (crossing_draws, lambda t: quadrature.crossing((1, 1), t, 1.0), (0.4067, 0.3980, 0.3938)),
        (
            reduced_rank_draws,
            lambda t: quadrature.reduced_rank((3, 1, 3), t, 1.0),
            (1.3853, 1.3722, 1.3657),
        ),
    ],
)
def test_estimators_on_singular_models_at_finite_temperature(draws_fn, exact_fn, table):
    """Mean, variance and two-temperature values differ, each is exact; the table is published."""
    half, whole = exact_fn(5e3), exact_fn(1e4)
    two = (half.llc / 5e3 - whole.llc / 1e4) / (1 / 5e3 - 1 / 1e4)
    np.testing.assert_allclose((whole.llc, whole.heat_capacity, two), table, atol=6e-5)
    losses = draws_fn(np.random.default_rng(6), 40_000) / 1e4
    for estimate, exact in (
        (estimators.mean_llc(losses, 1e4), whole.llc),
        (estimators.variance_llc(losses, 1e4), whole.heat_capacity),
    ):
        assert abs(estimate.mean - exact) < 4 * estimate.sem
    # Fine enough to tell the mean's value from the variance's.
    assert estimators.mean_llc(losses, 1e4).sem < (whole.llc - whole.heat_capacity) / 4


@pytest.mark.parametrize("degree", [2, 4])
def test_virial_is_half_the_degree_times_the_mean_draw_by_draw(degree):
    rng = np.random.default_rng(7)
    displacement = rng.standard_normal((4, 50, 5))
    nbeta, localization = 20.0, 3.0
    excess = np.sum(np.abs(displacement) ** degree, axis=2)
    gradient = degree * displacement * np.abs(displacement) ** (degree - 2)
    product = displacement * (nbeta * gradient + localization * displacement)
    virial = np.stack([product[..., :2].mean(axis=2), product[..., 2:].mean(axis=2)], axis=2)
    squared_distance = np.sum(displacement**2, axis=2)
    found = estimators.virial_llc(
        virial, squared_distance, sizes=np.array([2, 3]), localization=localization
    )
    mean = estimators.mean_llc(excess, nbeta)
    assert found.mean == pytest.approx(degree / 2 * mean.mean)
    assert found.sem == pytest.approx(degree / 2 * mean.sem)
    with pytest.raises(ValueError, match="sizes: expected one for each leaf"):
        estimators.virial_llc(virial, squared_distance, sizes=np.array([5]), localization=1.0)


def test_minibatch_noise_is_taken_off_the_variance():
    rng = np.random.default_rng(8)
    nbeta, llc = 100.0, 2.0
    exact_losses = gamma_losses(rng, llc, nbeta, (8, 20_000))
    noisy = exact_losses[..., None] + 0.05 * rng.standard_normal((*exact_losses.shape, 4))
    estimate = estimators.minibatch_variance_llc(noisy, nbeta)
    assert abs(estimate.mean - llc) < 4 * estimate.sem
    biased = estimators.variance_llc(noisy.mean(axis=2), nbeta)
    # The noise adds (nbeta 0.05)^2 / 4 = 6.25.
    assert abs(biased.mean - llc - 6.25) < 4 * biased.sem
    # Noise alone: zero on average, and negative in about half of all runs.
    runs = [
        estimators.minibatch_variance_llc(rng.standard_normal((4, 50, 4)), 1.0).mean
        for _ in range(40)
    ]
    assert 5 < np.sum(np.array(runs) < 0) < 35
    with pytest.raises(ValueError, match="minibatch_losses: expected .* N >= 2"):
        estimators.minibatch_variance_llc(noisy[..., :1], nbeta)


def test_wbic_is_the_mean_estimator_in_other_units():
    losses = 0.7 + gamma_losses(np.random.default_rng(9), 2.0, 400 / np.log(400))
    found = estimators.wbic(losses, 400)
    llc = estimators.mean_llc(losses - 0.7, 400 / np.log(400))
    assert (found.mean - 400 * 0.7) / np.log(400) == pytest.approx(llc.mean)
    assert found.sem / np.log(400) == pytest.approx(llc.sem)


LADDER = np.array([1e4, 1e5, 1e6, 1e7, 1e8])


@pytest.mark.parametrize(
    ("widths", "multiplicity", "error", "free_error"),
    [((3, 1, 3), 2, 0.0035, 0.0035), ((2, 2, 2), 1, 0.008, 0.026)],
)
def test_fit_of_exact_ladder_values_recovers_the_limit(widths, multiplicity, error, free_error):
    """Both have lambda 3/2. What the law leaves out shows, and goes away with temperature."""

    def fits(nbetas):
        llcs = np.array([quadrature.reduced_rank(widths, t, 1.0).llc for t in nbetas])
        sems = np.full(len(nbetas), 1e-3)
        given = estimators.fit_log_law(llcs, sems, nbetas, multiplicity=multiplicity)
        return given, estimators.fit_log_law(llcs, sems, nbetas)

    warm, cold = fits(LADDER), fits(100 * LADDER)
    assert abs(warm[0].llc - 1.5) < error
    assert (warm[0].multiplicity, warm[0].multiplicity_sem) == (multiplicity, 0.0)
    assert abs(warm[1].llc - 1.5) < free_error
    # The corrections of m = 1 fall as a power of nbeta, not of its logarithm: the fit takes them
    # for a multiplicity of 1.42, and its residuals object.
    assert abs(warm[1].multiplicity - multiplicity) < (0.1 if multiplicity == 2 else 0.43)
    assert (warm[1].chi_square > 4 * warm[1].num_free) == (multiplicity == 1)
    for before, after in zip(warm, cold, strict=True):
        assert abs(after.llc - 1.5) < 0.6 * abs(before.llc - 1.5)
        assert abs(after.multiplicity - multiplicity) <= abs(before.multiplicity - multiplicity)


def test_standard_errors_of_the_ladder_fit_have_the_right_size():
    rng = np.random.default_rng(10)
    sems = np.array([0.01, 0.02, 0.01, 0.03, 0.02])
    truth = 1.5 - 1 / np.log(LADDER)
    z, chi = [], []
    for _ in range(400):
        fit = estimators.fit_log_law(truth + sems * rng.standard_normal(5), sems, LADDER)
        z.append(((fit.llc - 1.5) / fit.sem, (fit.multiplicity - 2) / fit.multiplicity_sem))
        chi.append(fit.chi_square)
    assert np.all(np.abs(np.std(z, axis=0) - 1) < 4 / np.sqrt(800))
    assert np.all(np.abs(np.mean(z, axis=0)) < 4 / np.sqrt(400))
    assert abs(np.mean(chi) - 3) < 4 * np.sqrt(6 / 400)


@pytest.mark.parametrize(
    ("nbetas", "message"),
    [
        ([1e3, 1e3], "nbetas: expected increasing"),
        ([1e4, 1e3], "nbetas: expected increasing"),
        ([1.0, 2.0], "nbetas: expected increasing"),
        ([], "nbetas: expected increasing"),
        (["a"], "nbetas: expected increasing"),
        ([1e3], "nbetas: expected at least two"),
    ],
)
def test_ladders_that_do_not_increase_are_refused(nbetas, message):
    with pytest.raises(ValueError, match=message):
        estimators.fit_log_law(np.ones(len(nbetas)), np.ones(len(nbetas)), nbetas)

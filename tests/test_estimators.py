"""Estimators on traces with known laws, in units of their own standard error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slt_rl import diagnostics, estimators


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

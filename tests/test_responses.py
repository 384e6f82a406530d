"""Covariances of posteriors that are Gaussian or can be integrated, against their exact values.

Draws are independent and exact, so every difference is Monte-Carlo error of known size.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slt_rl import responses

RNG = np.random.default_rng(0)
NUM_EXAMPLES, NBETA, LOCALIZATION = 12, 30.0, 4.0
X = RNG.standard_normal((NUM_EXAMPLES, 3))
Y = X @ np.array([1.0, -0.5, 0.2]) + 0.7 * RNG.standard_normal(NUM_EXAMPLES)
CENTER = np.linalg.lstsq(X, Y, rcond=None)[0]
RESIDUALS = Y - X @ CENTER
# exp(-nbeta L - localization/2 |w - w*|^2) with L quadratic around its minimum w*.
HESSIAN = X.T @ X / NUM_EXAMPLES
PRECISION = NBETA * HESSIAN + LOCALIZATION * np.eye(3)


def gaussian_draws(seed=1, shape=(8, 16_000), precision=PRECISION):
    factor = np.linalg.cholesky(np.linalg.inv(precision))
    noise = np.random.default_rng(seed).standard_normal((*shape, len(precision)))
    return CENTER + noise @ factor.T


def losses_of(draws):
    return 0.5 * (Y - draws @ X.T) ** 2


def exact_kernel():
    """Cov(l_i, l_j) for l = (r - x.v)^2 / 2, v Gaussian: r_i r_j s_ij + s_ij^2 / 2."""
    s = X @ np.linalg.solve(PRECISION, X.T)
    return np.outer(RESIDUALS, RESIDUALS) * s + s**2 / 2


DRAWS = gaussian_draws()
LOSSES = losses_of(DRAWS)


def z_scores(statistic, exact):
    assert np.all(statistic.sem > 0)
    return (statistic.value - exact) / statistic.sem


def assert_agrees(statistic, exact, precision):
    """Within 4.5 standard errors everywhere, with errors small enough to mean something."""
    z = z_scores(statistic, exact)
    assert np.abs(z).max() < 4.5
    assert np.max(statistic.sem) < precision * np.max(np.abs(exact))


def test_loss_kernel_of_a_linear_model():
    kernel = exact_kernel()
    assert_agrees(responses.loss_kernel(LOSSES), kernel, 0.05)
    scale = np.sqrt(np.diag(kernel))
    found = responses.correlation(LOSSES, LOSSES)
    off = ~np.eye(NUM_EXAMPLES, dtype=bool)
    exact = kernel / np.outer(scale, scale)
    assert np.abs((found.value - exact)[off] / found.sem[off]).max() < 4.5
    np.testing.assert_allclose(np.diag(found.value), 1, atol=1e-10)


def test_bayesian_influence_is_the_damped_influence_function():
    """For linear phi the value is r_i x_i (nbeta H + gamma)^-1: what retraining damped does."""
    exact = RESIDUALS[:, None] * np.linalg.solve(PRECISION, X.T).T
    assert_agrees(responses.bayesian_influence(LOSSES, DRAWS), exact, 0.02)
    # nbeta/n times it is the derivative of the posterior mean by the weight of the example.
    step = 1e-5

    def posterior_mean(weights):
        precision = NBETA / NUM_EXAMPLES * (X.T * weights) @ X + LOCALIZATION * np.eye(3)
        pull = NBETA / NUM_EXAMPLES * X.T @ (weights * Y) + LOCALIZATION * CENTER
        return np.linalg.solve(precision, pull)

    for i in range(NUM_EXAMPLES):
        shift = step * np.eye(NUM_EXAMPLES)[i]
        slope = (posterior_mean(1 + shift) - posterior_mean(1 - shift)) / (2 * step)
        np.testing.assert_allclose(NBETA / NUM_EXAMPLES * exact[i], slope, atol=1e-8)


def test_sample_susceptibilities_of_a_linear_model():
    kernel = exact_kernel()
    phi = LOSSES.mean(axis=2)
    exact = -(kernel.mean(axis=0) - kernel.mean())
    found = responses.sample_susceptibility(phi, LOSSES)
    assert_agrees(found, exact, 0.05)
    assert abs(found.value.sum()) < 1e-9
    groups = np.stack([LOSSES[..., :4].mean(axis=2), LOSSES[..., 4:].mean(axis=2)], axis=2)
    found = responses.group_susceptibility(phi, groups, before=[1 / 3, 2 / 3], after=[1.0, 0.0])
    assert_agrees(found, -(kernel[:, :4].mean() - kernel.mean()), 0.1)


def test_two_chain_susceptibility_of_a_linear_model():
    """`r` moves the first weight only, the others are at `w*`; both posteriors are Gaussian."""
    free = np.array([True, False, False])
    variance = 1 / (NBETA * HESSIAN[0, 0] + LOCALIZATION)
    restricted = np.broadcast_to(CENTER, (*DRAWS.shape[:2], 3)).copy()
    noise = np.random.default_rng(2).standard_normal(DRAWS.shape[:2])
    restricted[..., free] += np.sqrt(variance) * noise[..., None]
    own = losses_of(restricted)
    phi = own.mean(axis=2) - 0.5 * np.mean(RESIDUALS**2)
    found = responses.two_chain_susceptibility(phi, own, LOSSES)
    # phi = h v^2 / 2 and l_x = (r - x v)^2 / 2 with E v^2 = s, E v^4 = 3 s^2.
    h, x, s = HESSIAN[0, 0], X[:, 0], variance
    joint = h / 2 * (RESIDUALS**2 / 2 * s + x**2 / 2 * 3 * s**2)
    full = (RESIDUALS**2 + np.diag(X @ np.linalg.solve(PRECISION, X.T))) / 2
    exact = (joint.mean() - joint) - h * s / 2 * (full.mean() - full)
    assert_agrees(found, exact, 0.05)


def quadrature_draws(a, nbeta, seed, curvature=2.0, quartic=6.0):
    """Independent draws of exp(-t (l/2 x^2 + a/6 x^3 + g/24 x^4)) and a grid with its weights."""
    width = 12 / np.sqrt(nbeta * curvature)
    x = np.linspace(-width, width, 20_001)
    log_weight = -nbeta * (curvature / 2 * x**2 + a / 6 * x**3 + quartic / 24 * x**4)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    uniform = np.random.default_rng(seed).random((8, 20_000))
    return np.interp(uniform, np.cumsum(weight), x), x, weight


@pytest.mark.parametrize("nbeta", [20.0, 400.0])
def test_anharmonic_response_of_a_cubic(nbeta):
    curvature, a = 2.0, 3.0
    draws, x, weight = quadrature_draws(a, nbeta, seed=3)
    mean = weight @ x
    exact = weight @ ((x - mean) * x**2)
    found = responses.covariance(draws**2, draws)
    assert abs(z_scores(found, exact)) < 4
    assert found.sem < 0.3 * abs(exact)
    # The limits themselves, by quadrature: t^2 Cov[x^2, x] -> -2a/l^3, t^2 kappa_3 -> -a/l^3.
    _, x, weight = quadrature_draws(a, 1e6, seed=3)
    x = x - weight @ x
    third = weight @ x**3
    assert 1e12 * third == pytest.approx(-a / curvature**3, rel=1e-3)
    _, x, weight = quadrature_draws(a, 1e6, seed=3)
    limit = weight @ ((x - weight @ x) * x**2)
    assert 1e12 * limit == pytest.approx(-2 * a / curvature**3, rel=1e-3)


def autoregressive(rng, rho, shape):
    """A stationary Gaussian trace of variance one."""
    trace = rng.standard_normal(shape)
    for t in range(1, shape[1]):
        trace[:, t] = rho * trace[:, t - 1] + np.sqrt(1 - rho**2) * trace[:, t]
    return trace


@pytest.mark.parametrize("rho", [0.0, 0.8, 0.93])
def test_standard_errors_have_the_right_size_under_autocorrelation(rho):
    """z-scores of 300 covariances of known value have mean 0 and unit spread.

    At 0.93 a product has the correlation 0.93^2 and 43 effective draws a chain: fifty batches would
    be too short, with a spread of 1.41.
    """
    x = autoregressive(np.random.default_rng(4), rho, (4, 600, 600))
    first, second = x[..., :300], 0.5 * x[..., :300] + x[..., 300:]
    z = []
    for i in range(300):
        covariance = responses.covariance(first[..., i], second[..., i])
        z.append((covariance.value - 0.5) / covariance.sem)
    assert 0.85 < np.std(z) < 1.2
    assert abs(np.mean(z)) < 4 / np.sqrt(300)


def test_covariances_of_few_draws_are_right_on_average():
    """The plain covariance of 20 draws is too small by a twentieth."""
    rng = np.random.default_rng(6)
    first = rng.standard_normal((3000, 1, 20))
    second = first + 0.5 * rng.standard_normal(first.shape)
    found = [responses.covariance(x, y).value for x, y in zip(first, second, strict=True)]
    sem = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - 1) < 4 * sem
    assert sem < 0.05 / 6


@given(st.floats(-5, 5), st.floats(0.1, 10))
def test_covariances_ignore_shifts_and_follow_scales(shift, scale):
    small = LOSSES[:, :200, :3]
    base = responses.covariance(small, DRAWS[:, :200])
    moved = responses.covariance(scale * small + 1e6 * shift, DRAWS[:, :200])
    np.testing.assert_allclose(moved.value, scale * base.value, rtol=1e-4, atol=1e-8 * scale)
    np.testing.assert_allclose(moved.sem, scale * base.sem, rtol=1e-4)


def test_jackknife_of_a_mean_and_of_a_square():
    """Textbook values: the mean keeps its standard error; the bias of a square goes away."""
    trace = np.random.default_rng(5).standard_normal((4, 100))
    means = responses.batch_means(trace)
    value, sem = responses.jackknife(lambda m: m, means)
    assert value == pytest.approx(trace.mean())
    assert sem == pytest.approx(means.std(ddof=1) / np.sqrt(len(means)))
    square = responses.jackknife(lambda m: m**2, means)
    assert square.value == pytest.approx(trace.mean() ** 2 - means.var(ddof=1) / len(means))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: responses.covariance(np.zeros(5), np.zeros(5)), "first: expected"),
        (lambda: responses.covariance(np.zeros((2, 8)), np.zeros((2, 9))), "second: expected"),
        (lambda: responses.batch_means(np.zeros((2, 3))), "trace: expected .* at least 4 draws"),
        (
            lambda: responses.group_susceptibility(
                np.zeros((2, 8)), np.zeros((2, 8, 2)), before=[0.5, 0.5], after=[0.5, 0.6]
            ),
            "after: expected .* sum to 1",
        ),
        (
            lambda: responses.group_susceptibility(
                np.zeros((2, 8)), np.zeros((2, 8, 2)), before=[1.0], after=[0.5, 0.5]
            ),
            "before: expected",
        ),
    ],
)
def test_bad_traces_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

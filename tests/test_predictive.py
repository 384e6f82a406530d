"""WAIC, singular fluctuation and data-set error of linear regression, all in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl import predictive

RNG = np.random.default_rng(0)
NUM_EXAMPLES, DIMENSION, NBETA, LOCALIZATION = 40, 3, 15.0, 15.0
# Unequal examples, and a localization as stiff as the loss, so that the data matter.
X = RNG.standard_normal((NUM_EXAMPLES, DIMENSION)) * RNG.gamma(4.0, size=(NUM_EXAMPLES, 1)) / 5
Y = X @ np.array([1.0, -0.5, 0.2]) + 0.5 * RNG.standard_normal(NUM_EXAMPLES)
CENTER = np.linalg.lstsq(X, Y, rcond=None)[0]
RESIDUALS = Y - X @ CENTER
PRECISION = NBETA * X.T @ X / NUM_EXAMPLES + LOCALIZATION * np.eye(DIMENSION)
# Variance of x_i . w under the posterior.
SPREAD = np.diag(X @ np.linalg.solve(PRECISION, X.T))
FACTOR = np.linalg.cholesky(np.linalg.inv(PRECISION))
DRAWS = CENTER + np.random.default_rng(1).standard_normal((8, 16_000, DIMENSION)) @ FACTOR.T
LOSSES = 0.5 * (Y - DRAWS @ X.T) ** 2 + 0.5 * np.log(2 * np.pi)
VARIANCES = RESIDUALS**2 * SPREAD + SPREAD**2 / 2


def assert_agrees(statistic, exact, relative):
    assert abs(statistic.value - exact) < 4 * statistic.sem
    assert statistic.sem < relative * abs(exact)


def test_singular_fluctuation_and_waic_of_a_linear_model():
    exact = NBETA / NUM_EXAMPLES / 2 * VARIANCES.sum()
    assert_agrees(predictive.singular_fluctuation(LOSSES, NBETA), exact, 0.02)
    # E exp(-(r - u)^2/2), u ~ N(0, s): a Gaussian integral.
    predicted = 0.5 * (np.log(2 * np.pi * (1 + SPREAD)) + RESIDUALS**2 / (1 + SPREAD))
    found = predictive.waic(LOSSES, NBETA)
    assert_agrees(found.training_loss, predicted.mean(), 0.001)
    assert_agrees(found.functional_variance, VARIANCES.sum(), 0.02)
    total = predicted.mean() + NBETA / NUM_EXAMPLES**2 * VARIANCES.sum()
    assert_agrees(found.waic, total, 0.002)


def closed_form_llc(weights, xp=np):
    """`1/2 tr[t H (t H + gamma)^-1]` with the Hessian of the weighted loss."""
    stiff = NBETA * (X.T * weights) @ X / NUM_EXAMPLES
    return 0.5 * xp.trace(xp.linalg.solve(stiff + LOCALIZATION * xp.eye(DIMENSION), stiff))


EXCESS = LOSSES - 0.5 * RESIDUALS**2 - 0.5 * np.log(2 * np.pi)
SLOPES = np.asarray(jax.grad(lambda w: closed_form_llc(w, jnp))(jnp.ones(NUM_EXAMPLES)))


def test_weight_response_is_the_derivative_of_the_closed_form():
    found = predictive.weight_response(EXCESS, NBETA)
    assert np.abs((found.value - SLOPES) / found.sem).max() < 4.5
    assert found.sem.max() < 0.1 * np.abs(SLOPES).max()


def test_data_set_error_of_a_linear_model():
    exact = np.sum((SLOPES - SLOPES.mean()) ** 2)
    found = predictive.data_set_error(EXCESS, NBETA)
    assert abs(found.variance - exact) < 4 * found.variance_sem
    assert found.variance_sem < 0.2 * exact
    assert found.sd == pytest.approx(np.sqrt(found.variance))


def test_data_set_error_predicts_what_leaving_an_example_out_does():
    """Brute force: each example left out in turn; then the delete-one jackknife over the data."""
    left_out = np.array(
        [closed_form_llc(1.0 - np.eye(NUM_EXAMPLES)[i]) for i in range(NUM_EXAMPLES)]
    )
    changes = closed_form_llc(np.ones(NUM_EXAMPLES)) - left_out
    # First order in 1/n: the step to weight zero is a whole unit.
    assert np.corrcoef(changes, SLOPES)[0, 1] > 0.98
    found = predictive.data_set_error(EXCESS, NBETA)
    centered = changes - changes.mean()
    assert found.sd == pytest.approx(np.sqrt(np.sum(centered**2)), rel=0.35)


def test_noise_of_short_chains_is_taken_off_the_data_set_error():
    """Over 400 short runs the variance is right on average; the plain sum of squares is not."""
    exact = np.sum((SLOPES - SLOPES.mean()) ** 2)
    pieces = EXCESS.reshape(8, 400, 40, NUM_EXAMPLES).transpose(1, 0, 2, 3)
    found = np.array([predictive.data_set_error(piece, NBETA).variance for piece in pieces])
    sem = found.std() / np.sqrt(len(found))
    assert abs(found.mean() - exact) < 4 * sem
    responses = np.stack([predictive.weight_response(piece, NBETA).value for piece in pieces])
    plain = np.sum((responses - responses.mean(axis=1, keepdims=True)) ** 2, axis=1)
    assert plain.mean() - exact > 4 * sem


def test_data_set_error_from_a_sample_of_the_examples():
    """Of 200 of 4000 examples, with Student-t noise; their own mean loss would triple it."""
    rng = np.random.default_rng(2)
    x, noise = rng.standard_normal((4000, DIMENSION)), rng.standard_t(3, 4000)
    y = x @ np.ones(DIMENSION) + noise
    center = np.linalg.lstsq(x, y, rcond=None)[0]
    hessian = x.T @ x / len(x)
    covariance = np.linalg.inv(NBETA * hessian + LOCALIZATION * np.eye(DIMENSION))
    shape = (8, 4000, DIMENSION)
    moves = rng.standard_normal(shape) @ np.linalg.cholesky(covariance).T
    x, residuals = x[:200], (y - x @ center)[:200]
    predicted = moves @ x.T
    losses = predicted**2 / 2 - residuals * predicted
    # E[l_i] and Cov[L, l_i], whose part of first order in the move is odd.
    response = NBETA * covariance - NBETA**2 * covariance @ hessian @ covariance
    slopes = np.einsum("ij,jk,ik->i", x, response, x) / 2 / len(x)
    exact = np.sum((slopes - slopes.mean()) ** 2)
    mean_loss = np.einsum("cdi,ij,cdj->cd", moves, hessian, moves) / 2
    found = predictive.data_set_error(losses, NBETA, mean_loss=mean_loss)
    assert abs(found.variance - exact) < 4 * found.variance_sem
    assert found.variance_sem < 0.1 * exact
    assert predictive.data_set_error(losses, NBETA).variance > 3 * exact
    with pytest.raises(ValueError, match=r"mean_loss: expected the \[chain, draw\]"):
        predictive.data_set_error(losses, NBETA, mean_loss=mean_loss[0])


def test_losses_without_an_example_axis_are_refused():
    for call in (predictive.waic, predictive.singular_fluctuation, predictive.data_set_error):
        with pytest.raises(ValueError, match=r"losses: expected \[chain, draw, n\]"):
            call(np.zeros((4, 10)), 1.0)

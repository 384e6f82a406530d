"""Automatic calibration: right answers, honest intervals, steps that follow the curvature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
import toy_models

CURVATURES = jnp.logspace(-1, 0, 6)


def quadratic(params):
    return 0.5 * jnp.sum(CURVATURES * params**2)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """60 keys: the errors have unit spread in their own standard errors."""
    nbeta, localization = 1e4, 10.0
    exact = 0.5 * float(np.sum(nbeta * CURVATURES / (nbeta * CURVATURES + localization)))
    scores, inside = [], []
    for seed in range(60):
        result = slt_rl.estimate_llc(
            jax.random.key(seed), quadratic, jnp.zeros(6), nbeta=nbeta, num_draws=4000
        )
        low, high = result.interval()
        scores.append((result.mean - exact) / result.sem)
        inside.append(low <= exact <= high)
    # The rms of 60 unit normals is within 0.27 of 1 at three sigma, the mean within 0.39 of 0.
    assert 0.7 < np.sqrt(np.mean(np.square(scores))) < 1.27
    assert abs(np.mean(scores)) < 0.39
    # 95 % of 60 is 57; fewer than 52 has probability 0.003.
    assert sum(inside) >= 52


PROBLEMS = {p.name: p for p in toy_models.problems()}
# One of each kind; every problem is measured by `make bench-accuracy`.
EXACT = (
    "minimally_singular_4_of_6",
    "homogeneous_4_degree_4",
    "separable_2_4_6",
    "normal_crossing_1_1",
    "deep_linear_3_1_3_rank_0",
    "deep_linear_2_2_2_rank_0",
    "gaussian_policy_kl",
    "quadratic_bandit_regret",
    "parity_regret_4",
    "soft_mdp_regret_2_2",
    "tabular_kl",
)


@pytest.mark.parametrize("name", EXACT)
def test_problems_of_known_value_within_their_error(name):
    """Everything automatic, against the exact value at the same temperature."""
    problem = PROBLEMS[name]
    result = slt_rl.estimate_llc(
        jax.random.key(5), problem.potential, problem.params, nbeta=8686.0, localization=10.0
    )
    exact = problem.finite_llc(8686.0, 10.0)
    assert abs(result.mean - exact) < 4 * result.sem + 0.02 * exact
    if result.verdict == "trusted":
        assert abs(result.mean / exact - 1) < 0.15


def test_steps_shrink_to_the_curvature_that_chains_meet():
    """The curvature of `w^2 + 300 w^4` where chains go is many times that at the center."""

    def potential(params):
        return jnp.sum(params**2 / 2 + 300 * params**4)

    result = slt_rl.estimate_llc(
        jax.random.key(0), potential, jnp.zeros(8), nbeta=30.0, localization=0.1
    )
    at_center = 0.5 * (1.2 * (30.0 + 0.1)) ** -0.5
    assert result.step_size < at_center / 2
    grid = np.linspace(-2, 2, 20_001)
    energy = 30.0 * (grid**2 / 2 + 300 * grid**4)
    weight = np.exp(-energy - 0.05 * grid**2)
    exact = 8 * np.sum(weight * energy) / np.sum(weight)
    assert abs(result.mean - exact) < 4 * result.sem + 0.01 * exact
    assert abs(result.diagnostics["kinetic_temperature"] - 1) < 0.05


def test_a_cut_step_is_given_back_as_far_as_the_curvature_explains_it():
    """`|w|^4` has no curvature at the center: the first steps are unstable, then it is measured.

    Were every cut kept beside the curvature, the step would be nine times too small. One reduction,
    to a third, stays.
    """
    problem = PROBLEMS["homogeneous_4_degree_4"]
    result = slt_rl.estimate_llc(
        jax.random.key(0), problem.potential, problem.params, nbeta=8686.0, num_draws=512
    )
    # nbeta |w|^4 is a Gamma(1) variable: above 23 once in 1e10. There is the curvature 12 |w|^2.
    largest = 8686.0 * 12 * (23 / 8686.0) ** 0.5 + result.localization
    assert result.step_size > 0.5 * (1.2 * largest) ** -0.5 / 3
    assert result.notes == ("remedy for instability: a step 3 times smaller",)


def test_a_flat_potential_gets_a_step_and_no_coefficient():
    result = slt_rl.estimate_llc(
        jax.random.key(0), lambda w: 0.0 * jnp.sum(w), jnp.zeros(3), nbeta=100.0, num_draws=400
    )
    assert np.isfinite(result.step_size)
    assert abs(result.mean) < 1e-12


def test_minibatch_noise_shrinks_the_step():
    """Noisy labels at a high temperature ratio: the anchored gradient stays within tolerance."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 4))
    data = {"x": x, "y": x @ np.ones(4) + rng.standard_normal(2000)}
    center = {"w": jnp.asarray(np.linalg.lstsq(x, data["y"], rcond=None)[0])}

    def loss_fn(params, examples):
        return 0.5 * (examples["x"] @ params["w"] - examples["y"]) ** 2

    result = slt_rl.estimate_llc(
        jax.random.key(1), loss_fn, center, data, batch_size=16, localization=1.0, num_draws=8000
    )
    eigenvalues = np.linalg.eigvalsh(x.T @ x / 2000)
    scaled = result.nbeta * eigenvalues
    exact = 0.5 * np.sum(scaled / (scaled + 1.0))
    assert abs(result.mean - exact) < 4 * result.sem + 0.1 * exact


def test_a_small_tolerance_is_reached():
    """Four stiff directions: of a chi-square with as many degrees 20000 draws are needed."""
    result = slt_rl.estimate_llc(
        jax.random.key(2), lambda w: jnp.sum(w**2), jnp.zeros(4), nbeta=1e4, tolerance=0.01
    )
    assert 1.96 * result.sem < 0.0105 * result.mean
    exact = 2 * 2e4 / (2e4 + result.localization)
    assert abs(result.mean - exact) < 4 * result.sem
    assert result.verdict == "trusted", result.flags


def test_chains_that_diverge_overflow_nowhere():
    """Flat at the center, steep beyond: every step tried is far too large. Warnings are errors."""
    data = {"x": np.ones((400, 1))}
    result = slt_rl.estimate_llc(
        jax.random.key(0),
        lambda w, e: (e["x"][:, 0] * w[0]) ** 8,
        jnp.zeros(1),
        data,
        nbeta=1e4,
        batch_size=8,
        localization=1.0,
        num_draws=1000,
    )
    assert result.verdict == "refused"
    assert "left the finite numbers" in result.flags[0]

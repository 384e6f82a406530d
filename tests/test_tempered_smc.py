"""The reference samplers against posteriors with known evidence, moments and phases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl.numpyro_nuts import nuts_posterior
from slt_rl.tempered_smc import normal_prior, tempered_smc
from toy_models import superposition as tms

CURVATURES = jnp.array([4.0, 1.0, 0.25])
ZERO = {"a": jnp.zeros(2), "b": jnp.zeros(1)}


def quadratic(params):
    return jnp.sum(CURVATURES * jnp.concatenate([params["a"], params["b"]]) ** 2) / 2


def double_well(params):
    """Two wells at -2 and 2, of curvatures 1 and 16."""
    x = params["a"][0]
    near = jnp.logaddexp(-((x + 2) ** 2) / 2, -16 * (x - 2) ** 2 / 2)
    return -near + params["a"][1] ** 2 / 2 + params["b"][0] ** 2 / 2


@pytest.mark.parametrize("num_leapfrog", [1, 4])
def test_gaussian_evidence_and_moments(num_leapfrog):
    nbetas = np.array([3.0, 300.0])
    samples = tempered_smc(
        jax.random.key(0),
        quadratic,
        normal_prior(ZERO),
        nbetas=nbetas,
        num_particles=5000,
        num_moves=20,
        num_leapfrog=num_leapfrog,
    )
    h = nbetas[:, None] * np.asarray(CURVATURES)
    assert samples.particles["a"].shape == (2, 5000, 2)
    # Each temperature adds about (1/0.6 - 1)/P to the variance of the log evidence.
    sem = np.sqrt(0.67 / 5000 * samples.num_temperatures)
    error = samples.log_evidence + np.sum(np.log1p(h), axis=1) / 2
    assert np.all(np.abs(error) < 3 * sem)
    energy = nbetas * samples.losses.mean(axis=1)
    share = h / (1 + h)
    sem = np.sqrt(np.sum(share**2, axis=1) / 2 / 5000)
    assert np.all(np.abs(energy - share.sum(axis=1) / 2) < 4 * sem)


def test_separated_wells_get_their_share():
    samples = tempered_smc(
        jax.random.key(1),
        double_well,
        normal_prior(ZERO, 3.0),
        nbetas=[1.0],
        num_particles=2000,
        num_moves=10,
    )
    # A well of curvature h at distance 2 under a prior of precision g = 1/9 holds
    # exp(-2 h g/(h + g)) / sqrt(h + g) of the mass.
    g = 1 / 9
    weights = np.array([np.exp(-2 * h * g / (h + g)) / np.sqrt(h + g) for h in (1.0, 16.0)])
    expected = weights[1] / weights.sum()
    found = np.mean(samples.particles["a"][0, :, 0] > 0)
    assert found == pytest.approx(expected, abs=4 * np.sqrt(2 * expected * (1 - expected) / 2000))


def test_normal_prior_is_normal():
    prior = normal_prior(ZERO, 2.0)
    draws = jax.jit(jax.vmap(prior.sample_fn))(jax.random.split(jax.random.key(0), 20_000))
    flat = np.concatenate([draws["a"], draws["b"]], axis=1)
    expected = jax.scipy.stats.norm.logpdf(flat, scale=2.0).sum(axis=1)
    np.testing.assert_allclose(jax.vmap(prior.logdensity_fn)(draws), expected, rtol=1e-12)
    assert np.mean(flat**2) == pytest.approx(4.0, abs=4 * 4 * np.sqrt(2 / flat.size))


def test_nuts_has_the_moments_of_a_gaussian():
    draws, losses = nuts_posterior(
        jax.random.key(4),
        quadratic,
        normal_prior(ZERO),
        nbeta=20.0,
        num_chains=16,
        num_warmup=200,
        num_samples=200,
    )
    assert draws["a"].shape == (16, 200, 2)
    h = 20 * np.asarray(CURVATURES)
    energy = 20 * losses.mean(axis=1)
    assert abs(energy.mean() - np.sum(h / (1 + h)) / 2) < 4 * energy.std() / np.sqrt(16)


@pytest.mark.parametrize(
    ("sampler", "sizes"),
    [
        (tempered_smc, {"num_particles": 50, "num_moves": 3}),
        (nuts_posterior, {"num_chains": 2, "num_warmup": 20, "num_samples": 10}),
    ],
)
def test_a_second_call_compiles_nothing(sampler, sizes):
    traces, compiled = [], []

    def potential(params):
        traces.append(1)
        return quadratic(params)

    def draw(number):
        nbeta = {"nbetas": [number]} if sampler is tempered_smc else {"nbeta": number}
        return sampler(jax.random.key(int(number)), potential, normal_prior(ZERO), **nbeta, **sizes)

    draw(5.0)
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    first = len(traces)
    draw(7.0)
    assert first > 0 and len(traces) == first and not compiled


def test_same_key_same_particles():
    def draw():
        return tempered_smc(
            jax.random.key(2),
            quadratic,
            normal_prior(ZERO),
            nbetas=[5.0],
            num_particles=50,
            num_moves=3,
        )

    jax.tree.map(np.testing.assert_array_equal, draw(), draw())


def test_progress_reports_every_temperature():
    seen = []
    samples = tempered_smc(
        jax.random.key(3),
        quadratic,
        normal_prior(ZERO),
        nbetas=[1.0, 50.0],
        num_particles=50,
        progress=seen.append,
    )
    assert seen == sorted(seen)
    assert seen[-1] == 50.0
    assert samples.num_temperatures[-1] == len(seen)


@pytest.fixture(scope="module")
def phases():
    """Hull sizes of the toy model's posterior at three n, by tempered SMC."""
    prior = normal_prior(tms.critical_point(tms.PhaseClass(6), 6))
    samples = tempered_smc(
        jax.random.key(0),
        tms.population_loss,
        prior,
        nbetas=[100, 200, 300],
        num_particles=600,
        num_moves=20,
    )
    return tms.hull_sizes(samples.particles)


@pytest.mark.slow
@pytest.mark.parametrize(("row", "expected"), [(0, (0.32, 0.58)), (1, (0.03, 0.70))])
def test_occupancy_of_the_toy_model(phases, row, expected):
    """Superposition reference, section 5, where two seeds of 3000 particles agree to 0.02."""
    found = [np.mean(phases[row] == size) for size in (4, 5)]
    assert found == pytest.approx(expected, abs=0.06)


@pytest.mark.slow
def test_hull_six_overtakes_hull_five_near_280(phases):
    assert tms.equal_occupancy([100, 200, 300], phases) == pytest.approx(280, abs=25)


@pytest.mark.slow
def test_nuts_agrees_with_tempered_smc(phases):
    prior = normal_prior(tms.critical_point(tms.PhaseClass(6), 6))
    draws, _ = nuts_posterior(
        jax.random.key(0),
        tms.population_loss,
        prior,
        nbeta=100,
        num_chains=32,
        num_warmup=80,
        num_samples=80,
        max_tree_depth=5,
    )
    sizes = tms.hull_sizes(draws)
    for size in (4, 5, 6):
        share, reference = np.mean(sizes == size), np.mean(phases[0] == size)
        per_chain = np.std(np.mean(sizes == size, axis=1)) / np.sqrt(32)
        sem = np.hypot(per_chain, np.sqrt(2 * share * (1 - share) / 600))
        assert abs(share - reference) < 4 * sem


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"nbetas": []}, "nbetas"),
        ({"nbetas": [2.0, 1.0]}, "nbetas"),
        ({"nbetas": [0.0, 1.0]}, "nbetas"),
        ({"num_particles": 0}, "num_particles"),
        ({"num_moves": 0}, "num_moves"),
        ({"num_leapfrog": 0}, "num_leapfrog"),
    ],
)
def test_bad_input_is_named(changes, name):
    arguments = {"nbetas": [1.0], "num_particles": 10} | changes
    with pytest.raises(ValueError, match=f"^{name}: (expected .*, )?got"):
        tempered_smc(jax.random.key(0), quadratic, normal_prior(ZERO), **arguments)


def test_potential_without_finite_values_is_refused():
    with pytest.raises(ValueError, match="^potential: "):
        tempered_smc(
            jax.random.key(0),
            lambda params: params["a"][0] + jnp.inf,
            normal_prior(ZERO),
            nbetas=[1.0],
            num_particles=10,
        )

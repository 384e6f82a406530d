"""Friction of kinetic Langevin: least cost, and the law of an ill-conditioned posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
from slt_rl import friction

CHAINS = {"num_chains": 8, "tolerance": 0.05}


@pytest.mark.parametrize("size", [0.5, 3.0])
def test_gliding_friction_costs_least(size):
    """Relaxation times of the weak direction and independent energies, over a grid of frictions."""
    omega = 1e-3
    grid = omega * np.geomspace(0.5, 50, 400)
    independent = (1.96 / 0.05) ** 2 / (size * 8)
    cost = friction.RELAXATIONS * grid / omega**2 + independent / grid
    found = friction.gliding_friction(np.array([omega]), np.array([size]), **CHAINS)
    assert found[0] == pytest.approx(grid[cost.argmin()], rel=0.02)


def test_large_coefficients_are_nearly_critically_damped():
    omega = np.array([1e-4, 1e-3])
    found = friction.gliding_friction(omega, np.array([100.0, 1e6]), **CHAINS)
    np.testing.assert_allclose(found, 3 * omega)


def test_friction_is_left_alone_where_less_is_of_little_use():
    """Well-conditioned, of small coefficient, without localization, or nothing known yet."""
    omega, size = np.array([0.1, 2e-3, 0.0]), np.array([1e3, 0.25, 1e3])
    for known in (size, None):
        found, glides = friction.choose_friction(omega, known, **CHAINS)
        assert not glides.any()
        assert np.array_equal(found, friction.mixing_friction(omega))


def test_a_chain_of_given_length_glides_only_if_it_ends_relaxed():
    """Four relaxation times and as much again for the energies: 8 f/omega^2 with f = 3 omega."""
    omega, size = np.full(3, 1e-3), np.full(3, 50.0)
    asked = 2 * friction.RELAXATIONS * 3 / 1e-3
    length = np.array([0.99, 1.01, 10.0]) * asked
    found, glides = friction.choose_friction(omega, size, **CHAINS, length=length)
    assert glides.tolist() == [False, True, True]
    assert found[0] == friction.mixing_friction(omega)[0]


def test_short_chains_of_given_length_mix():
    """Stiffness up to 1e5 times the localization, where chains of free length glide."""
    curvatures = jnp.geomspace(1.0, 1e-2, 12)
    given = slt_rl.estimate_llc(
        jax.random.key(0),
        lambda w: jnp.sum(curvatures * w**2) / 2,
        jnp.zeros(12),
        nbeta=1e6,
        localization=10.0,
        num_burnin=128,
        num_draws=512,
    )
    assert not any("glide" in note for note in given.notes)
    assert abs(given.mean - 6) < 4 * given.sem


@pytest.mark.very_slow
def test_gliding_chains_have_the_law_of_an_ill_conditioned_quadratic():
    """Stiffness from 2 to 20,000 times the localization: exact value, all directions in balance."""
    curvatures = jnp.geomspace(1.0, 1e-4, 60)
    nbeta, localization = 2e4, 1.0
    result = slt_rl.estimate_llc(
        jax.random.key(0),
        lambda w: jnp.sum(curvatures * w["stiff"] ** 2) / 2 + 0 * jnp.sum(w["free"]),
        {"stiff": jnp.zeros(60), "free": jnp.zeros(40)},
        nbeta=nbeta,
        localization=localization,
    )
    scaled = nbeta * np.asarray(curvatures)
    exact = np.sum(scaled / (scaled + localization)) / 2
    assert abs(result.mean - exact) < 4 * result.sem
    assert result.sem < 0.04 * exact
    numbers = result.diagnostics
    assert abs(numbers["equipartition"] - 1) < 4 * numbers["equipartition_sem"]
    free = np.asarray(result.draws.virial, np.float64)[..., 0].mean()
    assert abs(free - 1) < 0.15
    assert result.verdict == "trusted"


def test_a_gliding_chain_says_so_with_its_friction():
    omega = np.array([1e-3, 0.1, 2e-3])
    friction_, glides = friction.choose_friction(omega, np.full(3, 50.0), **CHAINS)
    (note,) = friction.gliding_note(friction_, omega, glides)
    assert "glide at 2 of 3 centers: friction 0.003 of the stiffest frequency" in note
    assert "1e+03 times slower" in note

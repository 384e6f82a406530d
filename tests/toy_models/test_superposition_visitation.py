"""Visitation that depends on the policy: closed forms against play, points against known values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from toy_models import superposition as tms
from toy_models import superposition_visitation as visits

VISITATION = visits.Visitation(0.3)
PENTAGON, PENTAGON_PLUS, HEXAGON = (tms.parse_class(name) for name in ("5", "5+", "6"))


def test_leaving_probabilities_against_sampled_actions():
    params = tms.critical_point(PENTAGON_PLUS, 6)
    key_input, key_noise = jax.random.split(jax.random.key(0))
    amplitude = jax.random.uniform(key_input, (6, 20_000))
    feature = jnp.broadcast_to(jnp.arange(6)[:, None], amplitude.shape)
    examples = {"feature": feature.ravel(), "amplitude": amplitude.ravel()}
    error = tms.outputs(params, examples) - tms.dense_inputs(examples, 6)
    error = error + VISITATION.sigma * jax.random.normal(key_noise, error.shape)
    leave = jnp.exp(-jnp.sum(error**2, axis=1) / (2 * VISITATION.tau**2)).reshape(6, -1)
    sem = leave.std(axis=1) / np.sqrt(leave.shape[1])
    scores = (leave.mean(axis=1) - visits.leaving_probabilities(params, VISITATION)) / sem
    assert float(jnp.abs(scores).max()) < 4


def test_play_visits_features_by_the_stationary_law():
    """Agents are independent: the spread over agents gives the error of a share."""
    params = visits.visited_point(PENTAGON, VISITATION)
    met = visits.play_visitation(jax.random.key(1), params, VISITATION, num_envs=4000, num_steps=10)
    shares = np.asarray(met["feature"]).reshape(4000, 10)[:, :, None] == np.arange(6)
    shares = shares.mean(axis=1)
    sem = shares.std(axis=0) / np.sqrt(len(shares))
    scores = (shares.mean(axis=0) - np.asarray(visits.visitation_law(params, VISITATION))) / sem
    assert np.abs(scores).max() < 4


def test_hexagon_stays_and_pentagon_shifts():
    known = {
        0.5: (1.17022, -0.28207, 0.092725),
        0.3: (1.16692, -0.27894, 0.117035),
        0.25: (1.15663, -0.26947, 0.126278),
    }
    for tau, expected in known.items():
        visitation = visits.Visitation(tau)
        point = visits.visited_point(PENTAGON, visitation)
        found = (
            float(jnp.linalg.norm(point["W"][:, 0])),
            float(point["b"][0]),
            float(visits.visitation_regret(point, visitation)),
        )
        assert found == pytest.approx(expected, abs=6e-6)
    plain = tms.critical_point(HEXAGON, 6)
    gradient = jax.grad(visits.visitation_regret)(plain, VISITATION)
    assert float(jnp.abs(ravel_pytree(gradient)[0]).max()) < 1e-13


def test_the_frozen_law_has_another_gradient_at_the_pentagon():
    point = visits.visited_point(PENTAGON, VISITATION)
    frozen = jax.grad(tms.population_loss)(point, visits.visitation_law(point, VISITATION))
    own = jax.grad(visits.visitation_regret)(point, VISITATION)
    assert float(jnp.linalg.norm(ravel_pytree(frozen)[0])) == pytest.approx(1.4e-3, abs=5e-5)
    assert float(jnp.linalg.norm(ravel_pytree(own)[0])) < 1e-12


def test_bad_class():
    with pytest.raises(ValueError, match="label"):
        visits.visited_point(tms.parse_class("4"), VISITATION)

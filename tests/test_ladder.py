"""The temperature ladder, end to end, on a singular model whose values are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
from slt_rl import estimators
from slt_rl.ladder import temperature_ladder
from toy_models import quadrature

KEY = jax.random.key(9)
NBETAS = [1e3, 1e4, 1e5]


def test_ladder_of_reduced_rank_regression_is_right_at_each_temperature_and_compiles_once():
    """(3, 1, 3) around zero: lambda 3/2, m = 2."""
    traces = []

    def potential(params):
        traces.append(1)
        return 0.5 * jnp.sum((params["b"] @ params["a"]) ** 2)

    params = {"a": jnp.zeros((1, 3)), "b": jnp.zeros((3, 1))}
    counts = []

    def run(nbetas):
        before = len(traces)
        found = temperature_ladder(
            KEY,
            potential,
            params,
            nbetas=nbetas,
            localization=1.0,
            num_draws=40_000,
            sampler=slt_rl.MALA(3e-4),
            num_chains=16,
        )
        counts.append(len(traces) - before)
        return found

    ladder = run(NBETAS)
    run(NBETAS[:1])
    assert counts[1] <= 1
    exact = [quadrature.reduced_rank((3, 1, 3), t, 1.0).llc for t in NBETAS]
    for estimate, value in zip(ladder.estimates, exact, strict=True):
        assert abs(estimate.mean - value) < 4 * estimate.sem
    fit = ladder.fit(multiplicity=2)
    sems = np.array([estimate.sem for estimate in ladder.estimates])
    target = estimators.fit_log_law(np.array(exact), sems, NBETAS, multiplicity=2)
    assert abs(fit.llc - target.llc) < 4 * fit.sem
    assert abs(fit.llc - 1.5) < 4 * fit.sem + abs(target.llc - 1.5)
    free = ladder.fit()
    assert abs(free.llc - 1.5) < 4 * free.sem


def test_ladders_that_do_not_increase_are_refused():
    with pytest.raises(ValueError, match="nbetas: expected increasing finite numbers > 1"):
        temperature_ladder(KEY, jnp.sum, jnp.zeros(2), nbetas=[1e4, 1e3])

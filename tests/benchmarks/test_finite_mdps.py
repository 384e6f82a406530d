"""The benchmark of finite environments: standard errors of rare events, and the page."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import finite_mdps, finite_mdps_page, pages
from benchmarks.finite_mdps_agents import MemoryPolicy, MemoryValue
from slt_rl.rl import RecurrentActorCritic


def test_the_standard_error_knows_of_failures_that_were_not_seen():
    # Ten of 1000 expected to fail, none did: three standard errors off, and not infinitely many.
    error = finite_mdps.standard_error(np.ones(1000), 0.98, -1.0, best=1.0)
    assert error == pytest.approx(np.sqrt(4 * 0.01 * 0.99 / 1000))
    spread = np.random.default_rng(0).normal(0.98, 0.3, 1000)
    error = finite_mdps.standard_error(spread, 0.98, -1.0, best=1.0)
    assert error == pytest.approx(spread.std(ddof=1) / np.sqrt(1000))


def test_a_recurrent_agent_on_histories_is_the_one_that_plays():
    network = RecurrentActorCritic(3, 2, 4, encoder=5, head=5)
    params = network.init(jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.3, params)
    seen = jax.random.uniform(jax.random.key(1), (4, 1, 3), minval=0.1)
    start = (jnp.arange(4) == 0)[:, None]
    hidden = network.initial_hidden(params, 1)
    _, distribution, values = network.apply(params, hidden, seen, reset=start)
    shared = {name: params[name] for name in ("encoder", "core")}
    for shown in range(1, 5):
        # Latest first, and zero where nothing has been shown yet.
        history = jnp.zeros((6, 3)).at[:shown].set(seen[:shown, 0][::-1]).ravel()
        policy = MemoryPolicy(network)(shared | {"actor": params["actor"]}, history)
        value = MemoryValue(network)(shared | {"critic": params["critic"]}, history)
        np.testing.assert_allclose(policy.logits, distribution.logits[shown - 1, 0], rtol=1e-6)
        np.testing.assert_allclose(value, values[shown - 1, 0], rtol=1e-6)


def test_every_case_has_a_name_of_its_own_and_ten_environments_differ():
    cases = finite_mdps.cases()
    assert len({case.name for case in cases}) == len(cases)
    assert len([case for case in cases if case.single is None]) == 10


def estimate(mean, verdict):
    interval = {"0.95": [None, None] if mean is None else [mean - 0.5, mean + 0.5]}
    return {
        "estimate": mean,
        "verdict": verdict,
        "regime": "plateau",
        "intervals": interval,
        "gradients": 4000,
    }


def row(*, z=1.0):
    estimates = [estimate(1.0, "trusted"), estimate(3.0, "doubtful"), estimate(None, "refused")]
    curve = {"seconds": 6.0, "estimates": estimates}
    return {
        "case": "Catch",
        "steps": [0, 2048, 4096],
        "target": 0.9,
        "optimal": 1.0,
        "uniform_regret": 2.0,
        "num_states": 195,
        "num_parameters": 100,
        "exact": [-1.0, 0.5, 0.95],
        "played": [{"mean": 0.0, "sem": 0.1, "z": z}] * 3,
        "seconds_train": 1.0,
        "curves": {name: curve for name in finite_mdps_page.POTENTIALS},
    }


def test_the_table_counts_verdicts_and_keeps_what_is_missing(tmp_path):
    found = [row(), row()]
    page = finite_mdps_page.make_page(found, finite_mdps.settings())
    everything, single = page.tables[0].rows[0], page.tables[0].rows[3]
    assert everything[:7] == ["all", "KL", 6, *[pytest.approx(1 / 3)] * 3, 1.0]
    assert everything[7:10] == [0.5, 4.0, 2.0]
    assert single[:3] == ["Catch", "KL", 3] and single[-3:] == [1.0, None, None]
    np.testing.assert_allclose(finite_mdps_page.regret_curve(found[0]), [1.0, 0.25, 0.025])
    pages.write_page(page, found, {}, folder=tmp_path)
    assert "Potentials" in (tmp_path / "finite_mdps.md").read_text()
    assert (tmp_path / "finite_mdps_curves.png").stat().st_size > 1000


def test_checks_can_fail():
    held = finite_mdps_page.checks([row()])
    assert [check.held for check in held] == [True, True]
    assert not finite_mdps_page.checks([row(z=4.1)])[-1].held
    assert not finite_mdps_page.checks([row() | {"target": 0.96}])[0].held

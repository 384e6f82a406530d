"""The benchmark of the cheese maze: what is made of rows, and what rows are made of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import analysis, cheese, cheese_agents, cheese_figure, cheese_page, pages
from slt_rl.rl import CategoricalPolicy
from toy_models.cheese import open_levels
from toy_models.cheese_exact import CheeseRegret, ConvNet, cheese_process

RECORDS = list(range(0, 404, 4))
CHECKPOINTS = [0, 4, 16, *range(20, 404, 20)]


def row(*, alpha=0.02, rises=True, refused=(), seed=0):
    """An agent that learns the corner at 100 and the cheese at 240."""
    generator = np.random.default_rng(seed)
    steps, at = np.array(RECORDS), np.array(CHECKPOINTS)
    noise = 0.002 * generator.normal(size=(2, len(steps)))
    corner = np.where(steps < 100, 0.5, 0.01) + noise[0]
    off = np.where(steps < 240, 1.3, 0.1) + noise[1]
    level = np.where(at < 100, 3.0, np.where(at < 240, 8.0, 20.0 if rises else 5.0))
    llc = level + 0.05 * generator.normal(size=len(at))
    verdicts = ["refused" if i in refused else "trusted" for i in range(len(at))]
    curve = {
        "llc": llc.tolist(),
        "sem": [0.1] * len(at),
        "low": (llc - 0.2).tolist(),
        "high": (llc + 0.2).tolist(),
        "verdict": verdicts,
        "regime": ["plateau"] * len(at),
        "flags": [["negative estimate"] if v == "refused" else [] for v in verdicts],
    }
    return {
        "alpha": alpha,
        "seconds": 10.0,
        "records": RECORDS,
        "checkpoints": CHECKPOINTS,
        "regret": {
            "law": ((1 - alpha) * corner + alpha * off).tolist(),
            "corner": corner.tolist(),
            "off corner": off.tolist(),
        },
        "curves": dict.fromkeys(cheese_page.POTENTIALS, curve),
        "susceptibility": dict.fromkeys(("corner", "off corner"), [[-0.1, 0.01]] * len(at)),
        "corner_divergence": np.where((at[:, None] < 100) == (at < 100), 0.001, 2.0).tolist(),
        "num_parameters": 644,
        "num_states": 72,
        "seconds_train": 5.0,
        "processor_seconds": 10.0,
        "seconds_curve": dict.fromkeys(cheese_page.POTENTIALS, 2.0),
    }


def test_transitions_and_their_changes_are_found():
    found = cheese_page.jumps(row())
    assert [jump.step for jump in found] == [98.0, 238.0]
    assert [jump.llcs["KL"] for jump in found] == [
        pytest.approx(5.0, abs=0.1),
        pytest.approx(12.0, abs=0.1),
    ]
    assert [jump.regret < 0 for jump in found] == [True, True]
    assert [jump.is_opposing for jump in found] == [True, True]
    assert [jump.is_opposing for jump in cheese_page.jumps(row(rises=False))] == [True, False]


def test_refused_estimates_decide_nothing():
    late = [i for i, step in enumerate(CHECKPOINTS) if step > 238]
    found = cheese_page.jumps(row(refused=late))
    assert found[1].llcs["KL"] is None and not found[1].is_opposing
    steps, values = cheese_page.standing(row(refused=late), "KL")
    assert steps.max() < 238 and len(values) == len(CHECKPOINTS) - len(late)


def test_correlations_have_the_sign_of_the_stairs():
    assert cheese_page.correlation(row(), "KL", "off corner") < -0.6
    text = analysis.mean_interval([-0.5, -0.7, float("nan")])
    assert text.startswith("-0.600 [-0.700, -0.500]") and text.endswith("2 of 3 seeds")
    assert analysis.mean_interval([float("nan")]) == "none"


def test_pairs_that_act_alike_are_counted():
    before, after = sum(s < 100 for s in CHECKPOINTS), sum(s >= 100 for s in CHECKPOINTS)
    total, apart, later = cheese_page.subset_pairs(row())
    assert total <= before * (before - 1) / 2 + after * (after - 1) / 2
    middle, last = sum(100 <= s < 240 for s in CHECKPOINTS), sum(s >= 240 for s in CHECKPOINTS)
    assert later == apart == middle * last


def test_the_page_counts_seeds_and_the_figure_is_drawn(tmp_path):
    found = [row(seed=i, alpha=alpha) for alpha in (0.01, 0.02) for i in range(2)]
    settings = cheese.settings(cheese_agents.cases(quick=True, gpu=False)[0])
    curves = cheese_figure.curves(found)
    page = cheese_page.make_page(found, settings, name="cheese", curves=curves)
    line = page.tables[0].rows[1]
    assert line[:4] == [0.02, 2, "2 of 2 [0.34, 1.00]", 4]
    assert [check.held for check in page.checks] == [True, True, False, True]
    pages.write_page(page, found, settings, folder=tmp_path)
    assert "Opposing staircases" in (tmp_path / "cheese.md").read_text()
    assert "![curves.png](cheese_curves.png)" in (tmp_path / "cheese.md").read_text()
    assert (tmp_path / "cheese_curves.png").stat().st_size > 10_000
    failed = cheese_page.make_page([row(rises=False)], settings, name="cheese", curves=curves)
    assert not failed.checks[0].held


@pytest.mark.parametrize("options", [(False, False), (True, False), (False, True)])
def test_checkpoints_are_records_of_the_schedule(options):
    for case in cheese_agents.cases(quick=options[0], gpu=options[1]):
        chosen = case.checkpoints
        assert chosen[0] == 0 and chosen[-1] == len(case.records) - 1
        assert case.records[-1] == case.num_iterations
        assert len(chosen) >= (10 if options[0] else 20)


@functools.cache
def small():
    process = cheese_process(open_levels(5, 0.3), 0.9)
    network = ConvNet(4, (3, 3), output_scale=3.0)
    params = [network.init(jax.random.key(i), process.observations[0, 0]) for i in range(2)]
    return process, CategoricalPolicy(network.apply), params


def test_the_observed_behavior_has_the_regrets_of_the_classes():
    process, policy, params = small()
    regret = CheeseRegret(process, policy, process.uniform_regret)
    seen = cheese.Behavior(regret)(params[0])
    per_level = np.asarray(regret.per_level(params[0]))
    np.testing.assert_allclose(seen["regret"], [per_level[0], per_level[1:].mean()], rtol=1e-6)
    mixed = np.array([0.7, 0.3]) @ np.asarray(seen["regret"])
    assert float(regret(params[0])) == pytest.approx(mixed, rel=1e-6)


def test_divergences_on_corner_levels_are_those_of_the_potential():
    process, policy, params = small()
    tables = jnp.stack([process.log_policy(policy, p) for p in params])
    found = cheese.corner_divergences(process, np.asarray(tables))
    potentials = cheese.potentials(CheeseRegret(process, policy))
    there, back = (potentials["KL corner"](params[i])(params[1 - i]) for i in range(2))
    np.testing.assert_allclose(found, [[0, (there + back) / 2], [(there + back) / 2, 0]], atol=1e-5)
    assert float(there) > 0.05

"""Parts beside the whole: made-up curves of known sums and orders, and an agent of toy size."""

import types

import numpy as np
import pytest

from benchmarks import craftax_parts
from benchmarks.craftax_parts import (
    AGENTS,
    Agent,
    Asked,
    exact_coefficients,
    kinds_of,
    leading_norm,
    measure_run,
    trained_run,
)
from benchmarks.craftax_parts_page import (
    NAMES,
    changes_table,
    make_page,
    order,
    order_table,
    others_table,
    parts_table,
)
from slt_rl.agents.states import stored_reference_states
from tests.agents import small_worlds
from tests.benchmarks.made_up_curves import kind

STEPS = np.array([0, 16_000, 94_000, 1_000_000])
WHOLE = np.array([4.0, 5.0, 3.5, 12.0])
SHARES = {"layer_0": 0.5, "layer_1": 0.25, "layer_2": 0.5}


def actor(*, shares=SHARES, localization=300.0, **changes):
    """A whole actor and parts that are shares of it."""
    options = {"steps": STEPS, "localization": localization, **changes}
    parts = [
        kind(f"policy-reference-{part}", share * WHOLE, part=part, **options)
        for part, share in shares.items()
    ]
    return [kind("policy-reference", WHOLE, **options), *parts]


def test_the_sum_of_the_parts_stands_beside_the_whole_with_the_errors_of_both():
    table = parts_table("feedforward", actor(sem=0.1))
    assert table.header[:5] == ("step", "whole", "first layer", "second layer", "last layer")
    assert [row[0] for row in table.rows] == STEPS.tolist()
    # Errors sqrt(3) 0.1 of the sum; of the ratio sqrt(3 + 1.25^2) 0.1 over the whole.
    assert table.rows[0][5:] == ["5.00 ± 0.17", "1.25 ± 0.05"]
    assert table.rows[3][1:3] == ["12.00 ± 0.10", "6.00 ± 0.10"]
    assert not parts_table("feedforward", actor(shares={})).rows


def test_the_mark_of_a_verdict_stays_at_its_point():
    (row, *_) = parts_table("feedforward", actor(verdict="refused")).rows
    assert row[1] == "4.00 ± 0.01!"


@pytest.mark.parametrize(
    ("sem", "expected"),
    [
        (0.01, "last layer > first layer > second layer"),
        # Apart by 0.24, 1.7 errors of the difference; by 0.8, 5.7 of them.
        (0.1, "last layer ≈ first layer > second layer"),
    ],
)
def test_neighbors_in_the_order_are_apart_by_two_errors_of_their_difference(sem, expected):
    _, *parts = actor(shares=SHARES | {"layer_2": 0.56, "layer_1": 0.3}, sem=sem)
    assert order(parts, 0) == expected


def test_a_refused_part_has_no_place_in_the_order():
    first, second = actor(shares={"layer_0": 0.5, "layer_2": 0.25})[1:]
    assert order([first, second], 0) == "first layer > last layer"
    refused = actor(shares={"layer_2": 0.25}, verdict="refused")[1]
    assert order([first, refused], 0) == "first layer ≈ last layer"


def test_the_order_of_each_localization_has_a_column():
    other = actor(shares={"layer_0": 0.1, "layer_1": 0.2, "layer_2": 0.3}, localization=100.0)
    table = order_table("feedforward", [actor(), other])
    assert table.header == ("step", "localization 300", "localization 100")
    assert table.rows[3][2] == "last layer > second layer > first layer"
    assert not order_table("feedforward", [actor(shares={"layer_0": 0.5})]).rows


def test_changes_are_between_the_chosen_steps():
    table = changes_table("feedforward", [actor(sem=0.1)])
    assert [row[1] for row in table.rows] == ["0 to 16k", "16k to 94k", "94k to 1M"]
    assert [row[2] for row in table.rows] == ["+1.00 ± 0.14", "-1.50 ± 0.14", "+8.50 ± 0.14"]
    assert [row[4] for row in table.rows] == ["+0.25 ± 0.14", "-0.38 ± 0.14", "+2.12 ± 0.14"]


def test_a_page_shows_every_localization_loss_and_kind_of_states():
    feedforward = [
        *actor(),
        *actor(localization=100.0),
        kind("value-reference", WHOLE, steps=STEPS),
        kind("policy-own", WHOLE + 1, steps=STEPS, verdict="doubtful"),
    ]
    norms = {"layer_2": np.array([0.04, 0.3, 0.6, 2.1]), "layer_0": np.array([1.0, 2, 3, 4])}
    page = make_page("feedforward", feedforward, norms, exact={})
    titles = [table.title for table in page.tables]
    assert [t for t in titles if t.startswith("Parts")] == [
        "Parts of the actor: feedforward, localization 300",
        "Parts of the actor: feedforward, localization 100",
    ]
    others = others_table("feedforward", feedforward)
    assert others.header[1:] == ("KL, fixed states", "value error, fixed states", "KL, own states")
    assert others.rows[0] == [0, "4.00 ± 0.01", "4.00 ± 0.01", "5.00 ± 0.01?"]
    (sizes,) = [table for table in page.tables if table.title.startswith("Norm")]
    assert sizes.header == ("step", "first layer", "last layer")
    assert sizes.rows[1] == [16_000, 2.0, 0.3]
    assert len(page.figures["curves"].axes) == 3


@pytest.mark.parametrize(("mean", "held"), [(3.0, True), (3.2, False)])
def test_an_estimate_that_is_known_is_held_against_its_exact_value(mean, held):
    # At the last step 2.5 and 4.5 errors from what it is.
    critic = kind("value-reference-layer_2", [1, 2, 3, mean], steps=STEPS, part="layer_2", sem=0.1)
    exact = {critic.name: np.array([1.0, 2.1, 3, 2.75])}
    page = make_page("feedforward", [*actor(), critic], {}, exact=exact)
    (table,) = [table for table in page.tables if table.title.startswith("Known answer")]
    assert table.rows[1] == [16_000, "2.00 ± 0.10", "2.10", "-1.0"]
    (check,) = page.checks
    assert check.held is held
    assert check.value == pytest.approx(10 * (mean - 2.75))


def test_each_agent_has_a_page_of_its_own():
    recurrent = actor(shares={"encoder": 0.5, "core": 0.1, "actor": 0.5})
    pages = [
        make_page("feedforward", actor(), {}, exact={}),
        make_page("gru_8", recurrent, {}, exact={}),
    ]
    assert [page.name for page in pages] == ["craftax_parts_feedforward", "craftax_parts_gru_8"]
    (parts,) = [table for table in pages[1].tables if table.title.startswith("Parts")]
    assert parts.header[:5] == ("step", "whole", "encoder", "core", "head")
    assert len(pages[1].figures["curves"].axes) == 1


def test_what_is_not_measured_yet_is_left_out():
    whole, *parts = actor()
    for kinds in (parts, [whole], [kind("value-own", WHOLE, steps=STEPS)]):
        titles = " ".join(table.title for table in make_page("gru_8", kinds, {}, exact={}).tables)
        assert "Parts" not in titles and "Losses" not in titles and "Curves" in titles


def test_parts_are_names_that_the_page_knows():
    asked = [asked for agent in AGENTS.values() for asked in agent.asked]
    assert {one.part for one in asked} <= set(NAMES)
    assert all(len({a.name for a in agent.asked}) == len(agent.asked) for agent in AGENTS.values())


@pytest.mark.parametrize(("last", "commands"), [(40, 0), (30, 1), (None, 1)])
def test_a_run_is_trained_if_it_lacks_its_last_checkpoint(tmp_path, monkeypatch, last, commands):
    spec = types.SimpleNamespace(num_updates=4, steps_per_update=10)
    run = types.SimpleNamespace(steps=np.array([0, last]), spec=spec)
    monkeypatch.setattr(craftax_parts, "load_run", lambda folder: run)
    called = []
    monkeypatch.setattr(craftax_parts.cli, "main", lambda words: called.append(words) or 0)
    if last is not None:
        (tmp_path / "run.json").touch()
    assert trained_run(tmp_path, ("--width", "8")) is run
    assert len(called) == commands
    assert all(words[2:] == ["--out", str(tmp_path), "--width", "8"] for words in called)


@pytest.fixture
def toy(tmp_path):
    """An agent of toy size, its whole actor and one layer at two of its three checkpoints."""
    run = small_worlds.untrained_run(tmp_path / "feedforward")
    agent = Agent((), (1, 18), (Asked((100.0,)), Asked((100.0,), part="layer_1")))
    options = {"num_states": 64, "sampling": small_worlds.QUICK, "progress": False}
    return run, agent, options


@pytest.mark.unoptimized
def test_a_toy_agent_is_measured_once_at_the_nearest_checkpoints(toy, tmp_path, monkeypatch):
    run, agent, options = toy
    measure_run(run, agent, only=["policy-reference-layer_1"], **options)
    assert [kind.name for kind in kinds_of(run.folder)] == ["policy-reference-layer_1"]
    measure_run(run, agent, **options)
    files = {path: path.read_bytes() for path in run.folder.rglob("step-*")}
    assert len(files) == 4
    measure_run(run, agent, **options)
    assert all(path.read_bytes() == data for path, data in files.items())
    part, whole = (kind.curve for kind in kinds_of(run.folder))
    assert whole.steps.tolist() == part.steps.tolist() == [0, 20]
    # Of 4 hidden units and 3 actions 15 parameters are in the last layer.
    assert part.facts["num_free_parameters"] == 15 < whole.facts["num_free_parameters"]
    assert (part.mean > 3 * part.sem).all()
    assert (whole.mean - part.mean > 3 * np.hypot(whole.sem, part.sem)).all()
    monkeypatch.setattr(craftax_parts, "load_run", lambda folder: run)
    craftax_parts.write_results(tmp_path, [run.folder.name], folder=tmp_path)
    text = (tmp_path / "craftax_parts_feedforward.md").read_text()
    assert "|step|whole|second layer|sum of parts|sum / whole|" in text
    assert (tmp_path / "craftax_parts_feedforward_curves.svg").exists()


def test_the_norm_of_a_part_is_over_all_its_parameters():
    params = {"kernel": np.array([[[3.0, 0]], [[0, 6.0]]]), "bias": np.array([[4.0], [8.0]])}
    np.testing.assert_allclose(leading_norm(params), [5, 10])


def test_the_exact_coefficient_is_that_of_the_features_of_the_last_layer(tmp_path, monkeypatch):
    run = small_worlds.untrained_run(tmp_path / "feedforward")
    monkeypatch.setattr(craftax_parts, "LINEAR", "layer_1")
    critic = kind("value-reference-layer_1", [1.0, 1.0], steps=np.array([0, 20]), part="layer_1")
    critic.curve.facts["num_states"] = 64
    found = exact_coefficients(run, [critic, *actor(shares={"layer_1": 0.5})])[critic.name]
    path = run.folder / "curves" / "states-64.safetensors"
    states = stored_reference_states(path, run, seed=0, num_states=64, num_sources=2)
    for step, value in zip((0, 20), found, strict=True):
        params = run.checkpoints(0).params["value"]["layer_0"]
        layer = {name: leaf[run.steps == step][0] for name, leaf in params.items()}
        features = np.tanh(states.observations[0] @ layer["kernel"] + layer["bias"])
        features = np.concatenate([features, np.ones((64, 1))], axis=1)
        h = critic.curve.nbeta * np.linalg.eigvalsh(features.T @ features / 64)
        assert value == pytest.approx(0.5 * np.sum(h / (h + 300.0)), rel=1e-5)


def test_every_curve_has_draws_of_its_own(toy, monkeypatch):
    run, agent, options = toy
    seeds = []
    monkeypatch.setattr(craftax_parts, "make_subjects", lambda *_, **__: [])
    monkeypatch.setattr(craftax_parts, "measure_curve", lambda *_, seed, **__: seeds.append(seed))
    measure_run(run, agent, **options)
    measure_run(run, agent, only=[agent.asked[1].name], **options)
    assert seeds[0] != seeds[1] == seeds[2]

"""The LLC along a run: one compilation, resumable, and right where the answer is known."""

import dataclasses
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl import chains
from slt_rl.agents import measure
from slt_rl.agents.curve import Sampling, chosen_checkpoints, measure_points
from slt_rl.agents.curve_file import load_curve, load_curves
from slt_rl.agents.states import States, own_states
from slt_rl.agents.subjects import Subject, make_subject
from slt_rl.agents.targets import FrozenPart, FrozenPolicy, FrozenValues
from slt_rl.rl import MLP, CategoricalPolicy, ValueNetwork
from tests.agents import small_worlds
from tests.agents.small_worlds import QUICK
from tests.failing_writes import fail_write

NETWORK = small_worlds.Layered(MLP(4, 3, hidden=(6,)))
STATES = {"observation": np.random.default_rng(0).normal(size=(1, 50, 4))}
LOCALIZATIONS = (100.0, 10.0)


def subject_of(params, target=None, **changes):
    """A subject of some networks `[checkpoint, ...]` on 50 states."""
    num = len(jax.tree.leaves(params)[0])
    target = target or FrozenPolicy(CategoricalPolicy(NETWORK))
    made = Subject(
        seed=0, steps=10 * np.arange(num), params=params, make_target=target, states=STATES,
        centers=None, facts={"num_states": 50},
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def double_target(params, data):
    loss_fn, data = FrozenPolicy(CategoricalPolicy(NETWORK))(params, data)
    return lambda w, examples: 2 * loss_fn(w, examples), data


def networks(num=3, scale=3.0):
    keys = jax.random.split(jax.random.key(1), num)
    return jax.tree.map(lambda x: scale * np.asarray(x), jax.vmap(NETWORK.init)(keys))


def values_of(points):
    return [[point["mean"] for point in row] for row in points]


@pytest.mark.unoptimized
def test_one_compilation_for_all_checkpoints_and_localizations(tmp_path):
    before = chains.num_programs()
    measure_points(
        subject_of(networks()), tmp_path, localizations=LOCALIZATIONS, sampling=QUICK, num_threads=2
    )
    assert chains.num_programs() - before <= 1


class Stopped(Exception):
    pass


def test_a_stopped_curve_goes_on_with_the_same_numbers(tmp_path):
    subject, seen = subject_of(networks()), []

    def stop(point):
        seen.append(point)
        if len(seen) == 3:
            raise Stopped

    options = {"localizations": LOCALIZATIONS, "sampling": QUICK, "num_threads": 1}
    whole = measure_points(subject, tmp_path / "whole", **options)
    with pytest.raises(Stopped):
        measure_points(subject, tmp_path / "stopped", report_fn=stop, **options)
    files = {path: path.read_bytes() for path in (tmp_path / "stopped").iterdir()}
    assert 3 <= len(files) < 6
    again = measure_points(subject, tmp_path / "stopped", **options)
    assert again == whole
    assert all(path.read_bytes() == data for path, data in files.items())


def test_points_do_not_depend_on_which_other_checkpoints_are_measured(tmp_path):
    params = networks()
    few = subject_of(jax.tree.map(lambda x: x[[0, 2]], params), steps=np.array([0, 20]))
    options = {"localizations": (10.0,), "sampling": QUICK, "num_threads": 1}
    all_points = measure_points(subject_of(params), tmp_path / "all", **options)[0]
    some = measure_points(few, tmp_path / "few", **options)[0]
    assert [p["mean"] for p in some] == [all_points[0]["mean"], all_points[2]["mean"]]


def test_a_permuted_hidden_layer_has_the_same_coefficient(tmp_path):
    params = networks(1)
    order = np.array([3, 0, 5, 1, 4, 2])
    swapped = {
        "layer_0": {
            "kernel": params["layer_0"]["kernel"][..., order],
            "bias": params["layer_0"]["bias"][:, order],
        },
        "layer_1": {
            "kernel": params["layer_1"]["kernel"][:, order],
            "bias": params["layer_1"]["bias"],
        },
    }
    both = jax.tree.map(lambda a, b: np.concatenate([a, b]), params, swapped)
    sampling = Sampling(num_draws=1024)
    for row in measure_points(
        subject_of(both), tmp_path, localizations=LOCALIZATIONS, sampling=sampling, num_threads=1
    ):
        first, second = row
        error = np.hypot(first["sem"], second["sem"])
        assert first["mean"] != second["mean"]
        assert abs(first["mean"] - second["mean"]) < 3.5 * error < 0.2 * first["mean"]
        low, high = second["interval_given_data"]
        assert max(low, first["interval_given_data"][0]) < min(
            high, first["interval_given_data"][1]
        )


def test_a_dead_unit_adds_nothing(tmp_path):
    params = networks(2)
    params["layer_1"]["kernel"] = params["layer_1"]["kernel"].copy()
    params["layer_1"]["kernel"][0, 2] = 0.0
    target = FrozenPart(FrozenPolicy(CategoricalPolicy(NETWORK)), "layer_0:2")
    centers = jax.tree.map(jnp.asarray, params)
    free = jax.vmap(target.free)(centers)
    assert {k: v.shape for k, v in free.items()} == {
        "['layer_0']['bias']": (2, 1),
        "['layer_0']['kernel']": (2, 4),
    }
    subject = subject_of(free, target, centers=centers)
    ((dead, alive),) = measure_points(
        subject, tmp_path, localizations=(10.0,), sampling=QUICK, num_threads=1
    )
    assert abs(dead["mean"]) < 1e-9
    assert alive["mean"] - 10 * alive["sem"] > 0


@pytest.mark.unoptimized
def test_the_value_of_a_linear_critic_is_exact(tmp_path):
    critic = small_worlds.Layered(MLP(4, 1, hidden=()))
    params = jax.tree.map(lambda x: np.asarray(x)[None], critic.init(jax.random.key(0)))
    target = FrozenValues(ValueNetwork(critic))
    ((point,),) = measure_points(
        subject_of(params, target), tmp_path, localizations=(10.0,),
        sampling=Sampling(num_draws=2048), num_threads=1,
    )  # fmt: skip
    features = np.concatenate([STATES["observation"][0], np.ones((50, 1))], axis=1)
    h = point["nbeta"] * np.linalg.eigvalsh(features.T @ features / 50)
    exact = 0.5 * np.sum(h / (h + 10.0))
    assert point["nbeta"] == pytest.approx(50 / np.log(50))
    assert abs(point["mean"] - exact) < 4 * point["sem"] < 0.3


@pytest.mark.unoptimized
def test_the_last_layer_of_a_trained_critic_is_exact(toy_run, tmp_path):
    # With the layers before it frozen the values are linear in the last layer and its bias.
    (subject,) = measure.make_subjects(
        toy_run, of_values=True, part="layer_2", seeds=(1,), num_states=64, num_checkpoints=2
    )
    assert subject.facts["num_free_parameters"] == 17
    last = dataclasses.replace(
        subject, steps=subject.steps[1:],
        **{name: jax.tree.map(lambda x: x[1:], getattr(subject, name))
           for name in ("params", "centers")},
    )  # fmt: skip
    ((point,),) = measure_points(
        last, tmp_path, localizations=(10.0,), sampling=Sampling(num_draws=2048), num_threads=1
    )
    layers = [jax.tree.map(lambda x: np.asarray(x[0]), last.centers[f"layer_{i}"]) for i in (0, 1)]
    features = last.states["observation"][0]
    for layer in layers:
        features = np.tanh(features @ layer["kernel"] + layer["bias"])
    features = np.concatenate([features, np.ones((64, 1))], axis=1)
    h = point["nbeta"] * np.linalg.eigvalsh(features.T @ features / 64)
    exact = 0.5 * np.sum(h / (h + 10.0))
    assert abs(point["mean"] - exact) < 4 * point["sem"] < 0.1 * exact


@pytest.mark.unoptimized
def test_groups_and_single_checkpoints_agree(tmp_path):
    subject = subject_of(networks())
    options = {"localizations": (10.0,), "sampling": Sampling(num_draws=512), "num_threads": 1}
    (single,) = measure_points(subject, tmp_path / "1", **options)
    (groups,) = measure_points(subject, tmp_path / "2", at_once=2, **options)
    for a, b in zip(single, groups, strict=True):
        assert abs(a["mean"] - b["mean"]) < 4 * np.hypot(a["sem"], b["sem"])


def test_a_run_gives_a_curve_with_everything_it_must_state(toy_run, toy_curve):
    assert toy_curve.mean.shape == (3, 2, 11)
    assert np.isfinite(toy_curve.mean).all() and (toy_curve.mean[:, 1] > toy_curve.mean[:, 0]).all()
    assert ((toy_curve.low < toy_curve.mean) & (toy_curve.mean < toy_curve.high)).all()
    assert set(toy_curve.verdicts.ravel()) <= {"trusted", "doubtful", "refused"}
    assert set(toy_curve.regimes.ravel()) <= {
        "plateau", "localization-dominated", "temperature-dependent"
    }  # fmt: skip
    assert toy_curve.facts["num_parameters"] == 6 * 16 + 16 + 16 * 16 + 16 + 16 * 3 + 3
    assert "steps 0," in toy_curve.facts["states"]
    document = json.loads((toy_run.folder / "curves" / "policy-reference.json").read_text())
    assert {"commit", "versions", "machine"} <= document["provenance"].keys()
    assert load_curves(toy_run.folder)["policy-reference"].nbeta == toy_curve.nbeta


def test_own_states_are_of_each_checkpoint(toy_run):
    indices = chosen_checkpoints(len(toy_run.steps), 2)
    states = own_states(jax.random.key(0), toy_run, 0, indices=indices, num_states=32)
    assert states.observations.shape == (2, 32, 6)
    subject = make_subject(toy_run, 0, states, indices=indices, of_values=True)
    assert not subject.is_shared and subject.max_at_once == 1
    np.testing.assert_array_equal(subject.data(1)["observation"], subject.states["observation"][1])


def test_states_that_do_not_fit_the_agent_are_refused(toy_run):
    indices = np.array([0, 1])
    for shape, message in (((1, 9, 4), "states: observations of 4 inputs"), ((3, 9, 6), "3 sets")):
        states = States(np.random.default_rng(0).normal(size=shape), None, "nowhere")
        with pytest.raises(ValueError, match=message):
            make_subject(toy_run, 0, states, indices=indices)


@pytest.mark.very_slow
def test_an_agent_with_memory_is_measured_on_windows_of_play(tmp_path):
    run = small_worlds.MemoryRun(tmp_path, (4,), np.array([0, 10, 20]))
    (subject,) = measure.make_subjects(run, num_states=192, num_checkpoints=2, part="core")
    assert subject.states["observation"].shape == (1, 3, 64, 6)
    # Episodes of FirstOnly last twenty steps: there is at least one start in every window.
    assert subject.states["start"].any(axis=-1).all()
    assert subject.facts["num_states"] == 192 and "windows of 64 steps" in subject.facts["states"]
    assert subject.facts["num_free_parameters"] == 4 * 9 + 9 + 3 * 9 + 3
    subject = dataclasses.replace(subject, steps=subject.steps[:1])
    ((point,),) = measure_points(
        subject, tmp_path / "points", localizations=(10.0,), sampling=QUICK, num_threads=1
    )
    assert point["nbeta"] == pytest.approx(192 / np.log(192))
    assert point["mean"] > 10 * point["sem"] > 0
    with pytest.raises(ValueError, match="num_states: got 100, expected a multiple of 64"):
        measure.make_subjects(run, num_states=100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": (7,)}, r"seeds: got \(7,\), expected different ones of \(0, 1, 2\)"),
        ({"seeds": (1, 1)}, r"seeds: got \(1, 1\), expected different ones of \(0, 1, 2\)"),
        ({"num_checkpoints": 2.5}, "num_checkpoints: expected a whole number >= 1, got 2.5"),
        ({"num_checkpoints": 99}, r"num_checkpoints: got 99, expected 1 \.\.\. 31"),
        ({"part": "layer_9"}, r"part: got 'layer_9', expected the beginning of one of the paths"),
        ({"num_states": 5}, r"num_states: got 5, expected at least 12"),
        ({"num_states": 0}, r"num_states: expected a whole number >= 1"),
    ],
)
def test_subjects_that_cannot_be_are_refused(toy_run, change, message):
    with pytest.raises(ValueError, match=message):
        measure.make_subjects(toy_run, **change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling": Sampling(num_chains=2)}, "num_chains: expected a whole number >= 4, got 2"),
        ({"at_once": 9}, "at_once: got 9, expected at most 3, the checkpoints"),
        ({"num_threads": 0}, "num_threads: expected a whole number >= 1, got 0"),
        ({"localizations": (0.0,)}, "localizations: expected a finite number > 0"),
        ({"sampling": Sampling(nbeta=-1.0)}, "nbeta: expected a finite number > 0"),
        ({"seed": "a"}, "seed: expected a whole number >= 0, got 'a'"),
        ({"localizations": (9.0, 9)}, r"localizations: got \[9.0, 9.0\], expected different"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        measure_points(subject_of(networks()), tmp_path, **options)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((), r"subjects: got those of seeds \[\], expected different ones"),
        (((0, 3), (0, 3)), r"subjects: got those of seeds \[0, 0\], expected different ones"),
        (((0, 3), (1, 2)), "subjects: expected the same checkpoints of all seeds"),
    ],
)
def test_subjects_that_make_no_curve_are_refused(tmp_path, sizes, message):
    subjects = [subject_of(networks(num), seed=seed) for seed, num in sizes]
    with pytest.raises(ValueError, match=message):
        measure.measure_curve(tmp_path, "x", subjects, progress=False)


def test_points_of_other_parameters_or_settings_are_refused(tmp_path):
    options = {"localizations": (10.0,), "sampling": QUICK, "num_threads": 1}
    measure_points(subject_of(networks(1)), tmp_path, **options)
    with pytest.raises(ValueError, match="step-000000000000-localization-10.json: measured with"):
        measure_points(subject_of(networks(1, scale=2.0)), tmp_path, **options)
    other = subject_of(networks(1), double_target)
    with pytest.raises(ValueError, match="step-000000000000-localization-10.json: measured with"):
        measure_points(other, tmp_path, **options)
    path = next(tmp_path.iterdir())
    path.write_text(path.read_text()[:50])
    with pytest.raises(ValueError, match=f"{path.name}: truncated.*remove it to measure it again"):
        measure_points(subject_of(networks(1)), tmp_path, **options)


def test_files_that_are_no_curves_are_named(tmp_path):
    path = tmp_path / "x.json"
    for text in ("{}", "[]", "{", '{"format": "slt_rl.agents.curve/2"}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"x\.json: .*; remove it and repeat `slt-rl curve`"):
            load_curve(path)


def test_a_full_disk_keeps_the_points_before(tmp_path, monkeypatch):
    options = {"localizations": (10.0,), "sampling": QUICK, "num_threads": 1}
    whole = measure_points(subject_of(networks()), tmp_path / "whole", **options)
    with monkeypatch.context() as failing:
        fail_write(failing, 2)
        with pytest.raises(OSError, match=r"localization-10\.json: cannot be written \(No space"):
            measure_points(subject_of(networks()), tmp_path / "full", **options)
    assert len(list((tmp_path / "full").iterdir())) == 1
    assert measure_points(subject_of(networks()), tmp_path / "full", **options) == whole


@pytest.mark.usefixtures("interruptible")
def test_control_c_keeps_the_points_before(tmp_path):
    options = {"localizations": (10.0,), "sampling": QUICK, "num_threads": 1}
    whole = measure_points(subject_of(networks()), tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        measure_points(
            subject_of(networks()), tmp_path / "stopped", **options,
            report_fn=lambda point: signal.raise_signal(signal.SIGINT),
        )  # fmt: skip
    assert list((tmp_path / "stopped").iterdir())
    assert measure_points(subject_of(networks()), tmp_path / "stopped", **options) == whole

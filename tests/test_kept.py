"""A curve on disk: stopped and repeated it is the same, and no other model's is ever returned."""

import functools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
from slt_rl import kept, llc
from tests.failing_writes import fail_write

CENTERS = {"w": jnp.zeros((5, 3))}


def make_target(params, scale=1.0):
    return lambda w: scale * jnp.sum((w["w"] - params["w"]) ** 2)


def curve(folder, *, seed=0, target=make_target, centers=CENTERS, **changes):
    options = {
        "nbeta": 100.0, "sampler": slt_rl.SGLD(1e-3), "num_chains": 2, "num_draws": 128,
        "num_burnin": 128, "chunk_size": 2, "num_threads": 1, "folder": folder,
    }  # fmt: skip
    return slt_rl.llc_curve(jax.random.key(seed), target, centers, **(options | changes))


def assert_same(one, two):
    for a, b in zip(one.estimates, two.estimates, strict=True):
        assert str(a) == str(b)
        a, b = vars(a), vars(b)
        assert a.keys() == b.keys()
        for name in a:
            jax.tree.map(np.testing.assert_array_equal, a[name], b[name])


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def whole():
    return curve(None)


def test_a_stopped_curve_goes_on_with_the_same_numbers(whole, tmp_path, monkeypatch):
    calls, measure = [], llc.estimate_centers

    def counted(*args, first):
        calls.append(first)
        if len(calls) == 3:
            raise Stopped
        return measure(*args, first=first)

    monkeypatch.setattr(llc, "estimate_centers", counted)
    with pytest.raises(Stopped):
        curve(tmp_path)
    found = curve(tmp_path)
    assert calls == [0, 2, 4, 4]
    assert_same(found, whole)
    assert_same(curve(tmp_path), whole)
    assert calls == [0, 2, 4, 4]


def losses(scale):
    return functools.partial(make_target, scale=scale)


OTHERS = {
    "key": {"seed": 1},
    "temperature": {"nbeta": 50.0},
    "localization": {"localization": 5.0},
    "step size": {"sampler": slt_rl.SGLD(2e-3)},
    "sampler": {"sampler": slt_rl.MALA(1e-3)},
    "increments": {"sampler": slt_rl.SGLD(1e-3, binomial_increments=True)},
    "length": {"num_draws": 256},
    "loss": {"target": losses(1.0000001)},
    "parameters": {"centers": {"w": jnp.zeros((5, 3)).at[0, 0].set(1e-7)}},
    "chunks": {"chunk_size": 5},
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    curve(folder)
    return folder


@pytest.mark.parametrize("name", OTHERS)
def test_the_curve_of_another_model_is_never_returned(name, stored):
    with pytest.raises(ValueError, match=r"checkpoint-000000\.safetensors: fingerprint is"):
        curve(stored, **OTHERS[name])


def test_data_are_told_apart(tmp_path):
    def target(params, data):
        return lambda w, x: (x @ (w["w"] - params["w"])) ** 2, data

    data = np.random.default_rng(0).normal(size=(20, 3))
    options = {"target": target, "nbeta": None}
    curve(tmp_path, data=data, **options)
    curve(tmp_path, data=data.copy(), **options)
    data[3, 1] += 1e-6
    with pytest.raises(ValueError, match="fingerprint is"):
        curve(tmp_path, data=data, **options)


def test_constants_of_a_loss_are_told_apart():
    """What a loss has closed over is part of its program, however large."""

    def text(array):
        loss = jax.jit(lambda w: jnp.sum(jnp.asarray(array) * w))
        return loss.lower(jnp.zeros(array.shape)).as_text()

    array = np.random.default_rng(0).normal(size=(300, 300))
    changed = array.copy()
    changed[150, 150] += 1e-9
    assert text(array) == text(array.copy()) != text(changed)


def test_kinds_of_keys_are_told_apart(tmp_path):
    """Equal numbers, other draws."""

    def measured(kind):
        return slt_rl.llc_curve(
            jax.random.key(0, impl=kind), make_target, CENTERS, nbeta=100.0,
            sampler=slt_rl.SGLD(1e-3), num_chains=2, num_draws=128, num_burnin=0, folder=tmp_path,
        )  # fmt: skip

    measured("rbg")
    with pytest.raises(ValueError, match="fingerprint is"):
        measured("unsafe_rbg")


def test_a_loss_that_calls_back_is_refused(tmp_path):
    """Its program is the same whatever function it calls."""

    def calling(params):
        def loss(w):
            scalar = jax.ShapeDtypeStruct((), jnp.float32)
            found = jax.pure_callback(lambda x: np.sum(x), scalar, w["w"])
            return jnp.sum(w["w"] ** 2) + jax.lax.stop_gradient(found)

        return loss

    with pytest.raises(ValueError, match="folder: expected None, since a loss that calls back"):
        curve(tmp_path, target=calling)
    assert not list(tmp_path.iterdir())


def test_what_has_no_fingerprint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="folder: expected None"):
        curve(tmp_path, observe_fn=lambda w: w["w"])
    assert not list(tmp_path.iterdir())


def test_a_damaged_chunk_is_named(stored, tmp_path):
    path = stored / "checkpoint-000002.safetensors"
    store = kept.KeptEstimates(tmp_path, {})
    store.path(2).write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"checkpoint-000002\.safetensors: truncated"):
        curve(tmp_path)


def test_a_full_disk_keeps_the_chunks_before(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as failing:
        fail_write(failing, 2)
        with pytest.raises(OSError, match=r"checkpoint-000002\.safetensors: cannot be written"):
            curve(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000.safetensors"]
    assert_same(curve(tmp_path), whole)


@pytest.mark.usefixtures("interruptible")
def test_control_c_keeps_the_chunks_before(whole, tmp_path, monkeypatch):
    measure = llc.estimate_centers

    def interrupted(*args, first):
        if first == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return measure(*args, first=first)

    with monkeypatch.context() as patched:
        patched.setattr(llc, "estimate_centers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            curve(tmp_path)
    assert (tmp_path / "checkpoint-000000.safetensors").exists()
    assert_same(curve(tmp_path), whole)

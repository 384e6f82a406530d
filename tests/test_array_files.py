"""Files of named arrays: every dtype returns as it was, and every damage is noticed."""

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slt_rl.array_files import fingerprint, load_arrays, save_arrays

dtypes = st.one_of(
    hnp.floating_dtypes(sizes=(16, 32, 64), endianness="<"),
    hnp.integer_dtypes(endianness="<"),
    hnp.boolean_dtypes(),
    hnp.unicode_string_dtypes(endianness="<", min_len=1, max_len=5),
)
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))


@settings(max_examples=60)
@given(value=arrays)
def test_round_trip_is_bitwise(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("arrays") / "a.safetensors"
    save_arrays(path, {"a": value}, {"n": 1})
    loaded, metadata = load_arrays(path)
    assert metadata == {"n": 1}
    assert loaded["a"].dtype == value.dtype and loaded["a"].shape == value.shape
    assert loaded["a"].tobytes() == value.tobytes()
    assert loaded["a"].flags.writeable


def test_views_and_other_dtypes(tmp_path):
    path = tmp_path / "a.safetensors"
    original = {
        "transposed": np.arange(6).reshape(2, 3).T,
        "big_endian": np.arange(3, dtype=">f8"),
        "strided_text": np.array(["4++-", "5", "transit", "6"])[::2],
        "bfloat16": np.array([1.5, 2.5], ml_dtypes.bfloat16),
        "jax": jax.numpy.ones(3),
    }
    save_arrays(path, original)
    loaded, metadata = load_arrays(path)
    assert metadata == {}
    for name, value in original.items():
        np.testing.assert_array_equal(loaded[name], np.asarray(value))
    assert loaded["bfloat16"].dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize("value", [np.array([None]), np.array([1j]), jax.random.key(0)])
def test_other_dtypes_are_refused(tmp_path, value):
    with pytest.raises(ValueError, match=r"arrays\['a'\]: got dtype"):
        save_arrays(tmp_path / "a", {"a": value})


def test_metadata_must_be_json(tmp_path):
    with pytest.raises(ValueError, match="metadata: got"):
        save_arrays(tmp_path / "a", {}, {"x": object()})


def test_every_truncation_is_noticed(tmp_path):
    path = tmp_path / "a.safetensors"
    save_arrays(path, {"a": np.arange(4.0), "label": np.array(["5+"])}, {"n": 1})
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"a\.safetensors: "):
            load_arrays(path)


def test_every_changed_byte_is_noticed(tmp_path):
    path = tmp_path / "a.safetensors"
    save_arrays(path, {"a": np.arange(4.0)}, {"n": 1})
    data = path.read_bytes()
    header = int.from_bytes(data[:8], "little") + 8
    # In the header a changed byte may be white space without meaning: check the numbers.
    for position in range(header, len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        path.write_bytes(bytes(changed))
        with pytest.raises(ValueError, match="does not match its digest"):
            load_arrays(path)


def test_foreign_and_missing_files_are_named(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match=r"a\.safetensors: cannot be read"):
        load_arrays(path)
    with pytest.raises(ValueError, match="cannot be read"):
        load_arrays(tmp_path)
    path.write_bytes(safetensors.numpy.save({"a": np.zeros(2)}))
    with pytest.raises(ValueError, match="format is None"):
        load_arrays(path)


def test_results_of_other_settings_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_arrays(path, {"a": np.zeros(2)}, {"settings": fingerprint({"n": 1}), "shape": (1, 2)})
    load_arrays(path, expected={"settings": fingerprint({"n": 1}), "shape": (1, 2)})
    with pytest.raises(ValueError, match=r"a\.safetensors: settings is"):
        load_arrays(path, expected={"settings": fingerprint({"n": 2})})


@given(st.dictionaries(st.text(max_size=3), st.integers() | st.floats() | st.text(max_size=3)))
def test_fingerprint_ignores_the_order_of_keys(value):
    assert fingerprint(value) == fingerprint(dict(reversed(list(value.items()))))


def test_fingerprint_sees_content():
    base = fingerprint({"a": np.zeros(3)})
    assert base == fingerprint({"a": np.zeros(3)})
    others = [np.zeros(4), np.zeros(3, np.float32), np.ones(3), [0.0, 0.0, 0.0]]
    assert base not in {fingerprint({"a": other}) for other in others}
    with pytest.raises(ValueError, match="value: got"):
        fingerprint({"a": object()})

"""Damaged, foreign and hostile files: a clear error, never a crash, a silent use, or their code."""

import json
import os
import pickle
import shutil
import zlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from slt_rl.agents import bundle, folder, load_curve, load_run
from slt_rl.agents.points import PointStore
from slt_rl.agents.spec import RunSpec, spec_from_json
from slt_rl.array_files import _digest, load_arrays, save_arrays
from slt_rl.checkpoints import load_series
from slt_rl.documents import read_document, write_document
from slt_rl.validation.store import Store
from tests import hostile_files as good
from tests.hostile_files import KINDS, TOY, damages

NUM_DAMAGES = 60


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    good.write_all(root)
    return root


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    root = tmp_path_factory.mktemp("foreign")
    good.write_all(root, scale=2.0)
    return root


def same(a, b):
    """Whether two loaded things hold the same values."""
    a, b = jax.tree.leaves(a), jax.tree.leaves(b)
    return len(a) == len(b) and all(
        np.array_equal(x, y) and np.asarray(x).dtype == np.asarray(y).dtype
        for x, y in zip(a, b, strict=True)
    )


def verdict(kind, root, whole, trace):
    """What loading a damaged file comes to, "refused" or "harmless" if all is well."""
    try:
        found = kind.load(root)
    except ValueError as error:
        file = os.path.basename(kind.file)
        named = file in str(error) or (file != "index.json" and "index.json" in str(error))
        return "refused" if named else f"does not name the file: {error}"
    except Exception as error:
        return f"crashed: {error!r}"
    finally:
        assert not trace.exists(), "code of the file was executed"
    return "harmless" if same(found, whole) else f"used silently: {found}"


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_are_refused(name, files, tmp_path):
    kind, trace = KINDS[name], tmp_path / "trace"
    root = tmp_path / "copy"
    shutil.copytree(files, root)
    whole, path = kind.load(root), root / kind.file
    made = damages(path.read_bytes(), trace, zlib.crc32(name.encode()))
    found = {}
    for what, data in made.items():
        path.write_bytes(data)
        found[what] = verdict(kind, root, whole, trace)
    wrong = {w: v for w, v in found.items() if v not in ("refused", "harmless")}
    assert not wrong
    assert len(found) >= NUM_DAMAGES
    # Only white space of a JSON text may change without harm.
    harmless = {w for w, v in found.items() if v == "harmless"}
    assert all(w.startswith(("flipped", "truncated", "zeroed")) for w in harmless), harmless
    assert len(harmless) < len(found) / 10


def test_so_many_files_were_tried():
    assert len(KINDS) * NUM_DAMAGES >= 700


@pytest.mark.parametrize("name", KINDS)
def test_files_of_another_kind_are_refused(name, files, tmp_path):
    kind, root = KINDS[name], tmp_path / "copy"
    shutil.copytree(files, root)
    whole = kind.load(root)
    for other in KINDS.values():
        data = (files / other.file).read_bytes()
        if data != (files / kind.file).read_bytes():
            (root / kind.file).write_bytes(data)
            assert verdict(kind, root, whole, tmp_path / "trace") == "refused", other.file


# A curve, a bundle, an index or statistics alone cannot know which of two they should be; where a
# fingerprint says what is expected, the same kind of file of another model is refused.
@pytest.mark.parametrize("name", ["checkpoint", "run checkpoint", "point", "stage", "estimates"])
def test_files_of_another_model_are_refused(name, files, foreign, tmp_path):
    kind, root = KINDS[name], tmp_path / "copy"
    shutil.copytree(files, root)
    whole = kind.load(root)
    shutil.copy(foreign / kind.file, root / kind.file)
    assert verdict(kind, root, whole, tmp_path / "trace") == "refused"


@pytest.mark.parametrize("name", KINDS)
def test_links_to_what_never_ends_are_refused(name, files, tmp_path):
    kind, root = KINDS[name], tmp_path / "copy"
    shutil.copytree(files, root)
    whole, path = kind.load(root), root / kind.file
    os.mkfifo(tmp_path / "pipe")
    for target in ("/dev/zero", tmp_path / "pipe", "/etc/passwd", path.name, tmp_path / "nothing"):
        path.unlink()
        path.symlink_to(target)
        if name in ("point", "stage", "estimates") and not path.exists():
            continue  # a link to nothing: not measured yet
        assert verdict(kind, root, whole, tmp_path / "trace") == "refused", target


# --- forged files: whole, with a right digest, made by someone who knows the format


def forge(path, arrays, *, metadata="{}", views="{}"):
    header = {"format": "slt_rl.arrays/1", "metadata": metadata, "views": views}
    try:
        header["sha256"] = _digest(arrays, metadata, json.loads(views))
    except (ValueError, TypeError, RecursionError):
        header["sha256"] = ""
    path.write_bytes(safetensors.numpy.save(arrays, header))


@pytest.mark.parametrize(
    ("array", "view"),
    [
        (np.arange(2), "O"),
        (np.arange(2, dtype=np.uint64), "object"),
        (np.arange(4, dtype=np.uint32), "<U999999999"),
        (np.arange(4, dtype=np.uint32), "<U2"),
        (np.full(2, 0x110000, np.uint32), "<U2"),
        (np.arange(4.0), "bfloat16"),
        (np.arange(4.0), "V8"),
        (np.arange(4.0), ["x"]),
        (np.arange(4.0), 7),
        (np.zeros((), np.uint32), "<U1"),
    ],
)
def test_forged_views_are_refused(tmp_path, array, view):
    path = tmp_path / "a.safetensors"
    forge(path, {"a": array}, views=json.dumps({"a": view}))
    with pytest.raises(ValueError, match=r"a\.safetensors: cannot view"):
        load_arrays(path)


@pytest.mark.parametrize("text", ["", "[]", "7", "null", "{", '{"a":' * 10_000, "9" * 5000])
def test_forged_metadata_is_refused(tmp_path, text):
    path = tmp_path / "a.safetensors"
    forge(path, {"a": np.zeros(2)}, metadata=text)
    with pytest.raises(ValueError, match=r"a\.safetensors: "):
        load_arrays(path)
    forge(path, {"a": np.zeros(2)}, views=text)
    with pytest.raises(ValueError, match=r"a\.safetensors: "):
        load_arrays(path)


@pytest.mark.parametrize(
    "record",
    [
        {"file": "../secret.safetensors"},
        {"file": "/etc/passwd"},
        {"file": ".."},
        {"file": ""},
        {"file": "a\0b"},
        {"file": "x" * 300},
        {"step": True},
        {"step": -1},
        {"step": 2**70},
        {"step": "7"},
        {"sha256": None},
        {"sha256": "0" * 64},
    ],
)
def test_forged_indices_are_refused(files, tmp_path, record):
    shutil.copytree(files / "series", tmp_path / "series")
    shutil.copy(files / "series/step-000000000007.safetensors", tmp_path / "secret.safetensors")
    path = tmp_path / "series/index.json"
    index = read_document(path, "slt_rl.checkpoints/2")
    index["checkpoints"][1] |= record
    write_document(path, index)
    with pytest.raises(ValueError, match=str(tmp_path / "series")):
        load_series(tmp_path / "series")


@pytest.mark.parametrize("names", [("a", "a/b"), ("/".join("a" * 100_000),), ("a/b", "a")])
def test_forged_names_of_parameters_are_refused(files, tmp_path, names):
    shutil.copytree(files / "series", tmp_path / "series")
    path = tmp_path / "series/step-000000000007.safetensors"
    digest = save_arrays(path, {name: np.zeros(2) for name in names}, {"step": 7})
    index = read_document(tmp_path / "series/index.json", "slt_rl.checkpoints/2")
    index["checkpoints"][1]["sha256"] = digest
    write_document(tmp_path / "series/index.json", index)
    with pytest.raises(ValueError, match=r"step-000000000007\.safetensors: "):
        load_series(tmp_path / "series", steps=[7])


RUN_FORGERIES = {
    "seeds that are paths": {"seeds": ["../../escaped"]},
    "fractional seeds": {"seeds": [0.5]},
    "seeds of truth": {"seeds": [True]},
    "seeds that are no list": {"seeds": 7},
    "checkpoints without end": {"num_updates": 10**12, "num_checkpoints": 10**12},
    "length in words": {"num_updates": "many"},
    "unknown schedule": {"schedule": "__import__('os')"},
    "unknown entry": {"world": {"world": "craftax-classic", "code": "1"}},
    "network of nothing": {"network": None},
}


@pytest.mark.parametrize("name", RUN_FORGERIES)
def test_forged_descriptions_of_runs_are_refused(name, files, tmp_path):
    record = folder.record_to_json(good.run_record())
    record["spec"] |= RUN_FORGERIES[name]
    try:
        identity = spec_from_json(record["spec"])
        record["fingerprint"] = good.run_record(identity).fingerprint
    except (TypeError, ValueError, KeyError):
        pass
    (tmp_path / "run").mkdir()
    write_document(tmp_path / "run/run.json", record)
    with pytest.raises(ValueError, match=r"run\.json: not a description"):
        load_run(tmp_path / "run")
    text = {"record": json.dumps(record), "steps": [0]}
    save_arrays(tmp_path / "bundle.safetensors", {"checkpoints/3/a": np.zeros((1, 2))}, text)
    with pytest.raises(ValueError, match=r"bundle\.safetensors: not a description"):
        bundle.unpack_run(tmp_path / "bundle.safetensors", tmp_path / "made" / "inside")
    assert not (tmp_path / "made").exists() and not (tmp_path / "escaped").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"steps": [0]},
        {"steps": [[0, 1]]},
        {"steps": [0, 2**80]},
        {"seeds": [3, 4]},
        {"points": []},
        {"points": [[[{}]]]},
        {"points": {"a": 1}},
        {"nbeta": "five"},
        {"nbeta": None},
        {"localizations": []},
        {"format": "slt_rl.agents.curve/9"},
    ],
)
def test_forged_curves_are_refused(tmp_path, change):
    write_document(tmp_path / "curve.json", good.curve_values() | change)
    with pytest.raises(ValueError, match=r"curve\.json: "):
        load_curve(tmp_path / "curve.json")


def _without(row, name):
    return {k: v for k, v in row.items() if k != name}


FORGED_ROWS = {
    "one less": lambda rows: rows[:1],
    "one more": lambda rows: [*rows, rows[0]],
    "none": lambda rows: [],
    "a number": lambda rows: 7,
    "an object": lambda rows: {"0": rows[0], "1": rows[1]},
    "numbers": lambda rows: [1, 2],
    "no mean": lambda rows: [_without(rows[0], "mean"), rows[1]],
    "no flags": lambda rows: [_without(rows[0], "flags"), rows[1]],
    "more entries": lambda rows: [rows[0] | {"code": "1"}, rows[1]],
    "the mean in words": lambda rows: [rows[0] | {"mean": "one"}, rows[1]],
    "flags that are no list": lambda rows: [rows[0] | {"flags": 3}, rows[1]],
    "a budget in words": lambda rows: [rows[0] | {"error_budget": {"x": "y"}}, rows[1]],
}
FORGED_DRAWS = {
    "none": {"draws/excess_loss": np.zeros(())},
    "of one checkpoint": {"draws/excess_loss": np.zeros((1, 2, 3))},
    "of other chains": {"draws/alive": np.zeros((2, 4, 3))},
    "of one checkpoint's chains": {"per_chain": np.zeros((1, 2))},
}


@pytest.mark.parametrize("name", [*FORGED_ROWS, *FORGED_DRAWS])
def test_forged_estimates_are_refused(files, tmp_path, name):
    shutil.copytree(files / "kept", tmp_path / "kept")
    path = tmp_path / "kept/checkpoint-000003.safetensors"
    arrays, found = load_arrays(path)
    rows = FORGED_ROWS.get(name, lambda rows: rows)(found["estimates"])
    save_arrays(path, arrays | FORGED_DRAWS.get(name, {}), found | {"estimates": rows})
    with pytest.raises(ValueError, match=r"checkpoint-000003\.safetensors: "):
        KINDS["estimates"].load(tmp_path)


def test_the_right_file_under_another_name_is_refused(files, tmp_path):
    """A stage, a point or a chunk for another one of the same run."""
    shutil.copytree(files, tmp_path / "copy")
    root = tmp_path / "copy"
    shutil.copy(root / "stages/one.safetensors", root / "stages/two.safetensors")
    with pytest.raises(ValueError, match=r"two\.safetensors: fingerprint is"):
        Store(root / "stages", {"seed": 1.0}).stage("two", good.compute_again)
    points = PointStore(root / "points", {"model": 1.0})
    digest = points.digest([])
    shutil.copy(points.path(3, 10.0), points.path(3, 100.0))
    shutil.copy(points.path(3, 10.0), points.path(4, 10.0))
    # Names are rounded to six digits.
    assert points.path(3, 10.0) == points.path(3, 10.0 + 1e-9)
    for step, localization in ((3, 100.0), (4, 10.0), (3, 10.0 + 1e-9)):
        with pytest.raises(ValueError, match=r"localization-100?\.json: measured with other"):
            points.load(step, localization, digest)


def test_a_document_without_its_digest_is_refused(tmp_path):
    path = tmp_path / "a.json"
    for text in ('{"format": "new/2", "x": 1}', '{"format": "new/2", "x": 1, "sha256": "0"}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="does not match its digest"):
            read_document(path, "new/2")


def test_the_trap_springs(tmp_path):
    """What stands for foreign code would be noticed if a loader unpickled it."""
    pickle.loads(good.pickled(tmp_path / "trace"))  # noqa: S301
    assert (tmp_path / "trace").exists()
    assert isinstance(TOY, RunSpec)

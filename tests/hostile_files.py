"""One good file of each kind that is loaded, how it is loaded, and ways to damage it."""

import functools
import gzip
import io
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors.numpy

from slt_rl.agents import bundle, folder, load_curve, load_run
from slt_rl.agents.agent import make_init
from slt_rl.agents.curve_file import FORMAT as CURVE
from slt_rl.agents.curve_file import write_curve
from slt_rl.agents.develop import FORMAT as DEVELOPMENT
from slt_rl.agents.develop import load_development
from slt_rl.agents.points import PointStore
from slt_rl.agents.state_files import load_state, save_state
from slt_rl.array_files import load_arrays, save_arrays
from slt_rl.checkpoints import load_series, save_checkpoint
from slt_rl.documents import write_document
from slt_rl.draws import Draws
from slt_rl.kept import KeptEstimates, encode_estimates
from slt_rl.result import LLCEstimate
from slt_rl.validation.store import Store
from tests.agents.toy_runs import TOY

STATE = {"w": np.arange(3.0), "key": np.arange(2, dtype=np.uint32)}
STAGE = Store(Path("stages"), {"seed": 0})
POINT = {"step": 3, "mean": 1.25, "flags": ["short"]}


class Kind(NamedTuple):
    """A file inside a folder of good files, and what reads it."""

    file: str
    load: Callable[[Path], Any]


def run_record(spec=TOY, **changes):
    segments = ({"from_update": 0, "num_updates": spec.num_updates},)
    values = {
        "spec": spec, "checkpoints": (0, 2), "segments": segments, "event_names": ("left",),
        "num_inputs": 4, "num_actions": 2, "versions": {"jax": "0"},
    }  # fmt: skip
    return folder.RunRecord(**(values | changes))


def write_run(root: Path, record=None, scale: float = 1.0) -> None:
    """A run folder as `slt-rl train` leaves it, without training."""
    record = run_record() if record is None else record
    shapes = jax.eval_shape(make_init(record.spec, 4, 2), jax.random.key(0))
    names = ("num_episodes", "total_return", "total_length", "counts")
    folder.write_record(root, record)
    for seed in record.spec.seeds:
        for step in (0, 64):
            params = jax.tree.map(lambda x, s=step: np.full(x.shape, scale + s, x.dtype), shapes)
            mark = record.mark(seed, step)
            save_checkpoint(folder.series_path(root, seed), step, params, metadata=mark)
        statistics = {name: scale * np.arange(6.0) for name in names}
        folder.write_statistics(root, record, seed, statistics=statistics)


def curve_values(mean: float = 1.0) -> dict[str, Any]:
    point = {
        "step": 0, "mean": mean, "sem": 0.1, "interval_given_data": [0.5, 1.5],
        "verdict": "trusted", "regime": "plateau", "flags": ["a"], "localization": 10.0,
    }  # fmt: skip
    return {
        "format": CURVE, "name": "policy-reference", "facts": {"n": 3}, "nbeta": 5.0, "seeds": [3],
        "localizations": [10.0], "steps": [0, 1], "points": [[[point, point]]],
    }  # fmt: skip


def estimate(mean: float) -> LLCEstimate:
    """Of two chains of three draws."""
    losses = mean * np.arange(6.0).reshape(2, 3)
    draws = Draws(**dict.fromkeys(Draws._fields, losses) | {"virial": losses[..., None]})
    return LLCEstimate(
        mean, 0.1, losses[:, 0], 5.0, 10.0, 0.5, "trusted", "plateau", ("a",), (),
        {"monte_carlo": 0.1}, 8, {"ess": 9.0}, draws,
    )  # fmt: skip


def kept_estimates(root: Path, compute: Callable, *, scale: float) -> list[LLCEstimate]:
    """A chunk of two checkpoints, the fourth and the fifth of a curve."""
    chunk: Any = SimpleNamespace(centers={"w": np.zeros((2, 3))}, num_centers=2)
    return KeptEstimates(root / "kept", {"model": scale}).get(3, chunk, compute)


def write_all(root: Path, scale: float = 1.0) -> None:
    """One good file of each kind; with another `scale`, files of another model."""
    save_arrays(root / "arrays.safetensors", _arrays(scale), {"model": "ours", "n": [1]})
    save_state(root / "state.safetensors", jax.tree.map(np.asarray, STATE), {"update": scale})
    for step in (0, 7):
        save_checkpoint(
            root / "series", step, {"torso": {"w": scale * np.arange(step, step + 3.0)}}
        )
    write_run(root / "run", scale=scale)
    bundle.pack_run(root / "run", root / "bundle.safetensors", max_bytes=100_000)
    write_curve(root / "curve.json", curve_values(scale))
    description = {"format": DEVELOPMENT, "window": 1, "seeds": [], "series": {}, "lags": [scale]}
    write_document(root / "development.json", description)
    store = PointStore(root / "points", {"model": scale})
    store.save(3, 10.0, digest=store.digest([]), point=POINT | {"mean": scale})
    kept_estimates(root, lambda: [estimate(scale), estimate(2 * scale)], scale=scale)
    Store(root / "stages", {"seed": scale}).stage("one", lambda: {"x": scale * np.arange(4.0)})


def _arrays(scale: float) -> dict[str, np.ndarray]:
    return {"a": scale * np.arange(4.0), "text": np.array(["one", "x"]), "b": np.arange(2) > 0}


def _run(root: Path, read: Callable) -> Any:
    run = load_run(root / "run")
    return read(run)


def _unpacked(root: Path) -> Any:
    made = root / f"unpacked-{random.getrandbits(64)}"
    run = bundle.unpack_run(root / "bundle.safetensors", made)
    return (
        run.steps,
        run.checkpoints(3).params,
        run.statistics(3),
        folder.record_to_json(run.record),
    )


def _description(run: Any) -> dict[str, Any]:
    return folder.record_to_json(run.record)


def _params(run: Any) -> Any:
    return run.checkpoints(3).params


def _point(root: Path) -> Any:
    store = PointStore(root / "points", {"model": 1.0})
    return store.load(3, 10.0, store.digest([]))


def compute_again() -> Any:
    raise AssertionError("something was computed although its file is there")


def _stage(root: Path) -> Any:
    return dict(Store(root / "stages", {"seed": 1.0}).stage("one", compute_again).arrays)


def _estimates(root: Path) -> Any:
    return encode_estimates(kept_estimates(root, compute_again, scale=1.0), {})


KINDS = {
    "arrays": Kind(
        "arrays.safetensors",
        lambda root: load_arrays(root / "arrays.safetensors", expected={"model": "ours"}),
    ),
    "state": Kind("state.safetensors", lambda r: load_state(r / "state.safetensors", STATE)),
    "index": Kind("series/index.json", lambda root: _series(root)),
    "checkpoint": Kind("series/step-000000000007.safetensors", lambda root: _series(root)),
    "run": Kind("run/run.json", lambda r: _run(r, _description)),
    "run index": Kind(
        "run/seed-3/checkpoints/index.json",
        lambda r: _run(r, _params),
    ),
    "run checkpoint": Kind(
        "run/seed-3/checkpoints/step-000000000064.safetensors",
        lambda r: _run(r, _params),
    ),
    "statistics": Kind(
        "run/seed-3/statistics.safetensors", lambda r: _run(r, lambda run: run.statistics(3))
    ),
    "bundle": Kind("bundle.safetensors", _unpacked),
    "curve": Kind("curve.json", lambda root: vars(load_curve(root / "curve.json"))),
    "development": Kind("development.json", load_development),
    "point": Kind("points/step-000000000003-localization-10.json", _point),
    "stage": Kind("stages/one.safetensors", _stage),
    "estimates": Kind("kept/checkpoint-000003.safetensors", _estimates),
}


def _series(root: Path) -> Any:
    series = load_series(root / "series")
    return series.steps, series.params, dict(series.metadata)


class Payload:
    """Leaves a file behind if anything unpickles it."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def pickled(trace: Path) -> bytes:
    return pickle.dumps(Payload(trace))


def damages(data: bytes, trace: Path, seed: int) -> dict[str, bytes]:
    """Damaged versions of the bytes of a file, by what was done."""
    chance = random.Random(seed)
    found: dict[str, bytes] = {}
    for i in range(10):
        found[f"truncated {i}"] = data[: chance.randrange(len(data))]
    for i in range(24):
        found[f"flipped {i}"] = _flip(data, chance.randrange(8 * len(data)))
    # The very bits that carry numbers.
    for i, position in enumerate(_digits(data, chance)):
        found[f"digit {i}"] = _flip(data, 8 * position)
    for i in range(3):
        start = chance.randrange(len(data))
        found[f"zeroed {i}"] = data[:start] + bytes(16) + data[start + 16 :]
    return found | {
        "longer": data + b"\0" * 64,
        "twice": data + data,
        "random": chance.randbytes(len(data)),
        "empty": b"",
        "pickle": pickled(trace),
        "pickle behind": data + pickled(trace),
        "npz of pickles": _npz(trace),
        "gzip bomb": gzip.compress(bytes(10**6)),
        "zip bomb": _zip(),
        "deep JSON": b'{"a":' * 200_000,
        "deep list": b"[" * 200_000,
        "long number": b'{"format": ' + b"9" * 10_000 + b"}",
        "not UTF-8": b"\xff\xfe\x00",
        "list": b"[]",
        "NaN": b"NaN",
        "huge header": (2**63).to_bytes(8, "little") + b"{}",
        "plain safetensors": safetensors.numpy.save({"a": np.zeros(2)}),
        "huge shape": _absurd([2**40, 2**20]),
        "overflowing shape": _absurd([2**33, 2**33]),
        "negative shape": _absurd([-1, 8]),
    }


def _flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def _digits(data: bytes, chance: random.Random) -> list[int]:
    """Positions of digits of JSON numbers, or of the numbers behind a header."""
    if data[:1] == b"{":
        digits = [i for i, c in enumerate(data) if chr(c).isdigit()]
    else:
        digits = list(range(8 + int.from_bytes(data[:8], "little"), len(data)))
    return chance.sample(digits, min(8, len(digits)))


def _npz(trace: Path) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([Payload(trace)], dtype=object))
    return buffer.getvalue()


@functools.cache
def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", bytes(10**7))
    return buffer.getvalue()


def _absurd(shape: list[int]) -> bytes:
    text = f'{{"a":{{"dtype":"F64","shape":{shape},"data_offsets":[0,8]}}}}'.encode()
    return len(text).to_bytes(8, "little") + text + bytes(8)

"""Training into a folder: what is there is never lost, and what is missing is made."""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from slt_rl.agents import folder as files
from slt_rl.agents.agent import Agent, make_agent
from slt_rl.agents.folder import RunRecord
from slt_rl.agents.recording import Recorder, to_host
from slt_rl.agents.spec import RunSpec
from slt_rl.agents.state_files import load_state, save_state
from slt_rl.array_files import load_arrays
from slt_rl.checkpoints import save_checkpoint
from slt_rl.compilation import compiling
from slt_rl.development import EventEnv
from slt_rl.documents import advising
from slt_rl.rl import init_runs, train
from slt_rl.rl.train import advance_call

PyTree = Any
# `(update, num_updates, statistics of all seeds since the last call)`.
Progress = Callable[[int, int, Mapping[str, np.ndarray]], None]


def train_run(
    spec: RunSpec,
    folder: str | os.PathLike,
    *,
    progress: Progress | None = None,
    save_every: float = 15.0,
    seconds: float = float("inf"),
) -> bool:
    """Trains all seeds of a run into a folder, or goes on with what is there.

    A run that was killed ends with the numbers it would have had. A finished run goes on if `spec`
    asks for more updates; from there on the learning rate is that of a run of the new length, as
    the segments in `run.json` say.

    Args:
        spec: Description of the run.
        folder: The run folder; created if absent.
        progress: Called at the start and after each checkpoint.
        save_every: Seconds between savings of the full state; a killed run repeats at most that
            much and the way to the next checkpoint.
        seconds: Stop at the first checkpoint after so much wall time, ready to go on.

    Returns:
        Whether the run is finished.

    Raises:
        ValueError: If the folder holds a run of another description, a longer one, or one with
            another schedule; or if a file in it is damaged.
        ImportError: If Craftax is not installed.
    """
    if files.record_path(Path(folder)).exists():
        _check_same(Path(folder), files.read_record(Path(folder)).spec, spec)
    # Shapes are enough to compile the training with, while the worlds are made.
    agent = make_agent(spec, spec.world.env_shapes)
    stops = _Stops(save_every, time.monotonic() + seconds)
    return _train(agent, spec.world.env, Path(folder), progress=progress, stops=stops)


def train_agent(
    agent: Agent,
    folder: str | os.PathLike,
    *,
    progress: Progress | None = None,
    save_every: float = 15.0,
    seconds: float = float("inf"),
) -> bool:
    """`train_run` of an agent that is built already."""
    stops = _Stops(save_every, time.monotonic() + seconds)
    return _train(agent, lambda: agent.env, Path(folder), progress=progress, stops=stops)


class _Stops(NamedTuple):
    """Seconds between savings, and the time at which to stop."""

    save_every: float
    until: float


def _train(
    agent: Agent,
    make_env: Callable[[], EventEnv],
    folder: Path,
    *,
    progress: Progress | None,
    stops: _Stops,
) -> bool:
    """Trains an agent of which the shapes are known, in the worlds that `make_env` makes."""
    record = _open(folder, agent)
    unfinished = _saved_update(folder, record) < record.spec.num_updates
    with compiling(*([_advance_call(agent, record)] if unfinished else []), ready=0):
        agent = dataclasses.replace(agent, env=make_env())
        work = _resume(folder, record, agent)
    first, saved = work.update, time.monotonic()
    if progress is not None:
        progress(work.update, record.spec.num_updates, _all_seeds(work.statistics))
    for update, states, new in _updates(agent, record, work):
        work = work.append(update, states, new)
        _save_checkpoints(folder, record, work)
        if progress is not None:
            progress(update, record.spec.num_updates, new)
        now = time.monotonic()
        finished = update >= record.spec.num_updates
        # At least one stretch, or a command repeated for ever would never end.
        ends = finished or (now > stops.until and update > first)
        if ends or now - saved > stops.save_every:
            _save_all(folder, record, work)
            saved = time.monotonic()
        if ends:
            return finished
    return True


def compile_agent(agent: Agent) -> None:
    """Compiles all that training needs, so that `train_agent` begins at once.

    The program takes the number of updates as an argument: it is called once with none. The
    schedule must be that of the run, whose longest gap is a size in the program.
    """
    first = _Work(0, _start(agent), ())
    for _ in _updates(agent, agent.record(()), first):
        return


class _Work(NamedTuple):
    """How far a run is: states `[seed, ...]`, statistics by seed."""

    update: int
    states: PyTree
    statistics: tuple[dict[str, np.ndarray], ...]

    def append(self, update: int, states: PyTree, new: Mapping[str, np.ndarray]) -> "_Work":
        rows = tuple(
            {k: np.concatenate([old[k], new[k][i]]) for k in new} if old else _row(new, i)
            for i, old in enumerate(self.statistics)
        )
        return _Work(update, states, rows)


def _row(statistics: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    return {name: leaf[seed] for name, leaf in statistics.items()}


def _all_seeds(statistics: tuple[dict[str, np.ndarray], ...]) -> dict[str, np.ndarray]:
    return {name: np.stack([s[name] for s in statistics]) for name in statistics[0]}


def _open(folder: Path, agent: Agent) -> RunRecord:
    """Reads the description, or writes it; notes where a longer run or other versions begin."""
    spec = agent.spec
    if not files.record_path(folder).exists():
        segments = ({"from_update": 0, "num_updates": spec.num_updates},)
        record = agent.record(segments)
        files.write_record(folder, record)
        return record
    record, versions = files.read_record(folder), agent.record(()).versions
    done = _saved_update(folder, record)
    if done:
        _read_rows(folder, record, done)  # Refuses what is damaged before anything is written.
    others = {"versions": versions} if versions != record.latest_versions else {}
    # Not so where the state of a run that had gone on was removed: it begins anew.
    goes_on = not others and done >= record.segments[-1]["from_update"]
    if spec.num_updates == record.spec.num_updates and (goes_on or done == spec.num_updates):
        return record
    kept = [update for update in record.checkpoints if update <= done]
    later = [update for update in spec.checkpoints if update > done]
    segment = {"from_update": done, "num_updates": spec.num_updates, **others}
    # First: what was recorded later is not of the history that is described from here on.
    files.forget_later(folder, record, done)
    record = dataclasses.replace(
        record,
        spec=spec,
        checkpoints=(*kept, *later),
        segments=(*(s for s in record.segments if s["from_update"] <= done), segment),
    )
    files.write_record(folder, record)
    return record


def _check_same(folder: Path, old: RunSpec, new: RunSpec) -> None:
    path = files.record_path(folder)
    for name, value in new.identity().items():
        if old.identity()[name] != value:
            raise ValueError(
                f"{path}: {name} is {old.identity()[name]}, but {value} was asked for; choose "
                "another folder, or the settings of the run in this one"
            )
    if new.num_updates < old.num_updates:
        raise ValueError(
            f"num_updates: got {new.num_updates}, but {path} is of a run of {old.num_updates}"
        )
    if new.num_updates == old.num_updates and new.checkpoints != old.checkpoints:
        raise ValueError(
            f"num_checkpoints, schedule: got {new.num_checkpoints}, {new.schedule!r}, but {path} "
            f"has {old.num_checkpoints}, {old.schedule!r}"
        )


def _saved_update(folder: Path, record: RunRecord) -> int:
    """The update of the saved state, 0 if there is none."""
    path = files.state_path(folder)
    if not path.exists():
        return 0
    with advising("remove it, and the same command trains from the start"):
        return _update_of(path, load_arrays(path, expected=_mark(record))[1])


def _update_of(path: Path, metadata: Mapping[str, Any]) -> int:
    update = metadata.get("update")
    if type(update) is not int or update < 0:
        raise ValueError(f"{path}: update is {update!r}, expected an integer >= 0")
    return update


def _resume(folder: Path, record: RunRecord, agent: Agent) -> _Work:
    """The latest full state with the statistics up to it, or the start; forgets what came after."""
    path = files.state_path(folder)
    if path.exists():
        states, found = load_state(path, _start_shapes(agent), expected=_mark(record))
        update = _update_of(path, found)
        work = _Work(update, states, _read_rows(folder, record, update))
    else:
        work = _Work(0, _start(agent), ({},) * len(record.spec.seeds))
    files.forget_later(folder, record, work.update)
    return work


def _read_rows(folder: Path, record: RunRecord, update: int) -> tuple[dict[str, np.ndarray], ...]:
    """The statistics of each seed up to an update."""
    rows = [files.read_statistics(folder, record, seed) for seed in record.spec.seeds]
    shortest = min(len(leaf) for row in rows for leaf in row.values())
    if shortest < update:
        raise ValueError(
            f"{files.state_path(folder)}: is of update {update}, but the statistics of {folder} "
            f"end at {shortest}: not all files are of one run; {files.COPY_AGAIN}"
        )
    return tuple({name: leaf[:update] for name, leaf in row.items()} for row in rows)


def _mark(record: RunRecord) -> dict[str, Any]:
    """What a state must say of its run."""
    return {"fingerprint": record.fingerprint}


def _start(agent: Agent) -> PyTree:
    return init_runs(agent.keys, agent.ppo, agent.env, init_fn=agent.init_fn)


def _start_shapes(agent: Agent) -> PyTree:
    """Those of `_start`, of which no worlds are needed."""
    start = functools.partial(init_runs, init_fn=agent.init_fn)
    return jax.eval_shape(start, agent.keys, agent.ppo, agent.env)


def _advance_call(agent: Agent, record: RunRecord) -> functools.partial:
    """What `_updates` calls, from shapes."""
    states = _start_shapes(agent)
    return advance_call(*_trainee(agent), states=states, checkpoints=record.checkpoints)


def _trainee(agent: Agent) -> Any:
    """Keys, trainer and environment, as `train` takes them."""
    # A trainer to `train`, which asks for no more than a step; its statistics are a dict.
    return agent.keys, Recorder(agent.ppo), agent.env


def _updates(agent: Agent, record: RunRecord, work: _Work):
    """Yields `(update, states, statistics [seed, update, ...])` at each checkpoint to come."""
    runs: Any = train(*_trainee(agent), states=work.states, checkpoints=record.checkpoints)
    for states, stats in runs:
        yield int(np.max(states.iteration)), states, to_host(stats)


def _save_checkpoints(folder: Path, record: RunRecord, work: _Work) -> None:
    params = jax.device_get(work.states.params)
    steps = work.update * record.spec.steps_per_update
    for i, seed in enumerate(record.spec.seeds):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], params)
        mark = record.mark(seed, steps)
        save_checkpoint(files.series_path(folder, seed), steps, one, metadata=mark)


def _save_all(folder: Path, record: RunRecord, work: _Work) -> None:
    """Statistics first: a state is only there with all statistics up to it."""
    for seed, statistics in zip(record.spec.seeds, work.statistics, strict=True):
        files.write_statistics(folder, record, seed, statistics=statistics)
    save_state(files.state_path(folder), work.states, _mark(record) | {"update": work.update})

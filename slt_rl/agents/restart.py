"""Training on from parameters alone, where the full state of a run has been left behind."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from slt_rl.agents import folder as files
from slt_rl.agents.agent import Agent, make_agent
from slt_rl.agents.run import Run, load_run
from slt_rl.agents.spec import RunSpec
from slt_rl.agents.state_files import save_state
from slt_rl.checkpoints import save_checkpoint
from slt_rl.rl import init_runs

PyTree = Any


def restart_run(folder: str | os.PathLike, *, agent: Agent | None = None) -> int:
    """Makes a full training state of the last checkpoint, so that `train_run` goes on from it.

    For what `unpack_run` made of a bundle with whole parameters. The parameters, the count of
    updates and with it the learning rate are those of the checkpoint. What is lost begins anew:
    episodes in play (in worlds drawn as at the start of the run), the memory of a recurrent agent
    and the moments of Adam, whose first steps are then of full size, as at the start of a run. The
    run is another than it would have been; `segments` in `run.json` says where.

    Args:
        folder: A run folder without `state.safetensors`.
        agent: The agent of the run, if it has been built already.

    Returns:
        The update from which training goes on.

    Raises:
        ValueError: If the folder has a full state, its last checkpoint lacks the critic, or its
            statistics end before that.
        ImportError: If Craftax is not installed.
    """
    run = load_run(folder)
    path = files.state_path(run.folder)
    if path.exists():
        raise ValueError(f"{path}: exists; `train_run` goes on from it as it is")
    update = int(run.steps[-1]) // run.spec.steps_per_update
    recorded = min(run.statistics(seed)["steps"].size for seed in run.seeds)
    if recorded < update:
        raise ValueError(
            f"{run.folder}: its statistics end at update {recorded}, before its last checkpoint, "
            f"{update}: the run was killed; pack it where its full state is, after going on"
        )
    agent = make_agent(run.spec) if agent is None else agent
    fresh = init_runs(agent.keys, agent.ppo, agent.env, init_fn=agent.init_fn)
    states = fresh._replace(
        params=_last_params(run, fresh.params),
        iteration=jnp.full_like(fresh.iteration, update),
        optimizer_state=_counted(fresh.optimizer_state, run.spec, update),
    )
    segment = {"from_update": update, "num_updates": run.spec.num_updates, "restarted": True}
    segments = (*run.record.segments, segment)
    files.write_record(run.folder, dataclasses.replace(run.record, segments=segments))
    save_state(path, states, {"fingerprint": run.record.fingerprint, "update": update})
    return update


def branch_run(
    source: str | os.PathLike, folder: str | os.PathLike, *, step: int, agent: Agent | None = None
) -> int:
    """Makes another run folder, in which training goes on from any one checkpoint of a run.

    The checkpoints and statistics up to it are copied; what is new from there on is said at
    `restart_run`. `train_run` with the description of the run then makes the rest anew.

    Args:
        source: The run; it is left as it is.
        folder: The new folder.
        step: Environment steps of the checkpoint, one of `Run.steps`.
        agent: The agent of the run, if it has been built already.

    Returns:
        The update from which training goes on.

    Raises:
        ValueError: If the folder exists, or there is no such checkpoint; and as `restart_run`.
        ImportError: If Craftax is not installed.
    """
    run, folder = load_run(source), Path(folder)
    if folder.exists():
        raise ValueError(f"folder: {folder} exists, choose another")
    if step not in run.steps:
        raise ValueError(
            f"step: got {step}, expected one of {run.steps.tolist()}, those of {source}"
        )
    update = step // run.spec.steps_per_update
    for seed in run.seeds:
        series = run.checkpoints(seed)
        for at in run.steps[run.steps <= step].tolist():
            params, mark = series.at_step(at), run.record.mark(seed, at)
            save_checkpoint(files.series_path(folder, seed), at, params, metadata=mark)
        kept = files.read_statistics(run.folder, run.record, seed)
        kept = {name: leaf[:update] for name, leaf in kept.items()}
        files.write_statistics(folder, run.record, seed, statistics=kept)
    files.write_record(folder, run.record)
    return restart_run(folder, agent=agent)


def _last_params(run: Run, like: PyTree) -> PyTree:
    """Parameters of the last checkpoint, `[seed, ...]`."""
    last = [run.checkpoints(seed)[-1] for seed in run.seeds]
    if set(last[0]) != set(like):
        raise ValueError(
            f"{run.folder}: its last checkpoint has {sorted(last[0])} of {sorted(like)}; training "
            "needs all: pack the run with whole=True"
        )
    return jax.tree.map(lambda x, *leaves: jnp.stack(leaves).astype(x.dtype), like, *last)


def _counted(state: PyTree, spec: RunSpec, update: int) -> PyTree:
    """The state of an optimizer whose schedule is where it would be after so many updates."""
    steps = update * spec.learning.num_epochs * spec.learning.num_minibatches

    def is_schedule(node):
        return isinstance(node, optax.ScaleByScheduleState)

    def advance(node):
        return node._replace(count=jnp.full_like(node.count, steps)) if is_schedule(node) else node

    return jax.tree.map(advance, state, is_leaf=is_schedule)

"""Which part of a Craftax-Classic agent carries the change of its LLC, at two localizations.

    python -m benchmarks.craftax_parts                  # trains, measures, and writes the pages
    python -m benchmarks.craftax_parts --agents feedforward --curves policy-reference-layer_0
    python -m benchmarks.craftax_parts --page           # of what has been measured

Two agents of one seed, a page for each: the default one of `slt-rl train craftax-classic`, and one
with a recurrent core of 8 units and a fifth of the steps. At a few checkpoints of each: the
coefficient of the whole actor and of each of its layers with the others frozen, under the KL to the
frozen policy; of the whole critic under its value error; on fixed states and on the checkpoint's
own. The values of the feed-forward critic are linear in its last layer, whose coefficient is known
for that reason and stands beside its estimate. What is finished is kept: a command that was stopped
goes on. A run folder that lies at `--runs` under the name of an agent is measured as it is.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from benchmarks import pages
from benchmarks.craftax_kinds import Kind, row_of
from benchmarks.craftax_parts_page import localization, loss, make_page
from benchmarks.pages import write_page
from slt_rl import cli
from slt_rl.agents import Run, Subject, load_curves, load_run, make_subjects, measure_curve
from slt_rl.agents.measure import curve_name
from slt_rl.agents.states import with_checkpoints

NUM_STATES = 512
BOTH, STRONGER = (300.0, 100.0), (300.0,)
# The last layer of the feed-forward critic, in which its values are linear.
LINEAR = "layer_2"


class Asked(NamedTuple):
    """One curve of an agent."""

    localizations: tuple[float, ...]
    of_values: bool = False
    own: bool = False
    part: str = ""

    @property
    def what(self) -> dict[str, Any]:
        """Loss, states and part."""
        return {"of_values": self.of_values, "own": self.own, "part": self.part}

    @property
    def name(self) -> str:
        """Name of the curve and of its files."""
        return curve_name(**self.what)


class Agent(NamedTuple):
    """How an agent is trained, at which steps it is measured, and what of it."""

    arguments: tuple[str, ...]
    steps: tuple[float, ...]
    asked: tuple[Asked, ...]


AGENTS = {
    "feedforward": Agent(
        ("--steps", "1e6"),
        (0, 16e3, 94e3, 352e3, 1e6),
        (
            Asked(BOTH),
            *(Asked(BOTH, part=f"layer_{i}") for i in range(3)),
            Asked(STRONGER, of_values=True),
            Asked(STRONGER, own=True),
            Asked(STRONGER, of_values=True, own=True),
            Asked(STRONGER, of_values=True, part=LINEAR),
        ),
    ),
    "gru_8": Agent(
        ("--steps", "2e5", "--width", "8"),
        (0, 25e3, 49e3, 98e3, 2e5),
        (
            Asked(STRONGER),
            *(Asked(STRONGER, part=part) for part in ("encoder", "core", "actor")),
            Asked(STRONGER, of_values=True, own=True),
            Asked(STRONGER, own=True),
        ),
    ),
}


def main() -> int:
    """Trains and measures what is missing, and writes the pages."""
    parser = pages.parser(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("results/craftax_parts"))
    parser.add_argument("--agents", nargs="+", choices=AGENTS, default=list(AGENTS))
    parser.add_argument("--curves", nargs="+", help="measure no others, and write no page")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    options = parser.parse_args()
    cli.set_xla_flags(light=False)
    for name in [] if options.page else options.agents:
        run = trained_run(options.runs / name, AGENTS[name].arguments)
        measure_run(run, AGENTS[name], only=options.curves)
    if not options.curves:
        write_results(options.runs, options.agents, folder=options.out)
    return 0


def trained_run(folder: Path, arguments: Sequence[str]) -> Run:
    """The run of a folder, trained or trained on if it is not finished."""
    if not is_finished(folder):
        command = ["train", "craftax-classic", "--out", str(folder), *arguments]
        if status := cli.main(command):
            raise SystemExit(status)
    return load_run(folder)


def is_finished(folder: Path) -> bool:
    """Whether the run of a folder has its last checkpoint."""
    if not (folder / "run.json").exists():
        return False
    run = load_run(folder)
    return bool(run.steps[-1] == run.spec.num_updates * run.spec.steps_per_update)


def measure_run(
    run: Run,
    agent: Agent,
    *,
    only: Sequence[str] | None = None,
    num_states: int = NUM_STATES,
    **options: Any,
) -> None:
    """Measures the curves of the first seed at the checkpoints nearest to the agent's steps.

    Each curve has draws of its own: the errors of whole and parts are independent.

    Args:
        run: The run; its folder keeps the curves.
        agent: Steps and curves.
        only: Names of curves, if not all are asked for.
        num_states: States of each checkpoint, or of all.
        **options: Those of `measure_curve`.
    """
    nearest = [int(np.argmin(np.abs(run.steps - step))) for step in agent.steps]
    run = with_checkpoints(run, np.unique(nearest))
    for number, asked in enumerate(agent.asked):
        if only and asked.name not in only:
            continue
        subjects = make_subjects(run, seeds=run.seeds[:1], num_states=num_states, **asked.what)
        measure_curve(
            run.folder / "curves", asked.name, subjects,
            seed=number, localizations=asked.localizations, num_threads=1, **options,
        )  # fmt: skip


def write_results(runs: Path, names: Sequence[str], *, folder: Path) -> None:
    """A page for each of the agents that have been measured."""
    agents = {name: found for name in names if (found := kinds_of(runs / name))}
    if not agents:
        raise SystemExit(f"{runs}: no curves; the same command without --page measures them")
    settings = {"runs": str(runs), "num_states": NUM_STATES}
    for name, kinds in agents.items():
        run = load_run(runs / name)
        norms, exact = part_norms(run, kinds), exact_coefficients(run, kinds)
        rows = [row_of(kind) | {"localization": localization(kind)} for kind in kinds]
        rows += [{"norms": {part: x.round(5).tolist() for part, x in norms.items()}}]
        rows += [{"exact": {curve: x.round(5).tolist() for curve, x in exact.items()}}]
        write_page(make_page(name, kinds, norms, exact=exact), rows, settings, folder=folder)


def kinds_of(folder: Path) -> list[Kind]:
    """All curves of a run, one for each localization."""
    return [
        Kind(folder.name, name, curve, index)
        for name, curve in load_curves(folder).items()
        for index in range(len(curve.localizations))
    ]


def part_norms(run: Run, kinds: Sequence[Kind]) -> dict[str, np.ndarray]:
    """Euclidean norm of the parameters of each part of the actor, `[checkpoint]` of the curves."""
    params = measured(run, kinds[0]).checkpoints(run.seeds[0]).params
    params = params.get("policy", params)
    parts = dict.fromkeys(kind.curve.facts["part"] for kind in kinds if loss(kind) == "KL")
    return {part: leading_norm(params[part]) for part in parts if part}


def leading_norm(params: Any) -> np.ndarray:
    """Euclidean norm over all leaves `[checkpoint, ...]` of each checkpoint."""
    leaves = [np.asarray(x).reshape(len(x), -1) for x in jax.tree.leaves(params)]
    return np.linalg.norm(np.concatenate(leaves, axis=1), axis=1)


def measured(run: Run, kind: Kind) -> Run:
    """The run as if it had the checkpoints of a curve alone."""
    return with_checkpoints(run, np.searchsorted(run.steps, kind.curve.steps))


def exact_coefficients(run: Run, kinds: Sequence[Kind]) -> dict[str, np.ndarray]:
    """Of each curve of a linear part of the critic what it must be, `[checkpoint]`."""
    found = {}
    for kind in kinds:
        facts = kind.curve.facts
        if loss(kind) == "value error" and facts["part"] == LINEAR:
            (subject,) = make_subjects(
                measured(run, kind), seeds=run.seeds[:1], num_states=facts["num_states"],
                of_values=True, part=LINEAR,
            )  # fmt: skip
            found[kind.name] = quadratic_coefficients(
                subject, nbeta=kind.curve.nbeta, localization=localization(kind)
            )
    return found


def quadratic_coefficients(subject: Subject, *, nbeta: float, localization: float) -> np.ndarray:
    r"""Coefficients `[checkpoint]` of losses that are quadratic in the free parameters.

        1/2 sum_i h_i / (h_i + localization)

    with `h_i` the eigenvalues of `nbeta` times the Hessian of the mean loss: the expectation of
    `nbeta (L - L*)` under the Gaussian `exp(-nbeta L - localization/2 |w - w*|^2)`.
    """
    found = []
    for index in range(len(subject.steps)):
        free = jax.tree.map(lambda x: x[0], subject.take([index]))
        h = np.maximum(nbeta * np.linalg.eigvalsh(mean_hessian(subject, free, index)), 0.0)
        found.append(np.sum(h / (h + localization)) / 2)
    return np.array(found)


def mean_hessian(subject: Subject, free: Any, index: int) -> np.ndarray:
    """Hessian of the mean loss of a checkpoint over its free parameters, `[d, d]`."""
    loss_fn, data = subject.make_target(free, subject.data(index))
    flat, unravel = ravel_pytree(free)
    hessian = jax.hessian(lambda w: jnp.mean(loss_fn(unravel(w), data.examples)))
    return np.asarray(jax.jit(hessian)(flat), np.float64)


if __name__ == "__main__":
    sys.exit(main())

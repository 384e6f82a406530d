"""The words of `slt-rl curve`, `slt-rl develop` and `slt-rl report`.

What they need is imported when they run, after the flags of XLA have been set.
"""

import argparse
import sys
from pathlib import Path
from typing import Any


def add_curve(commands: Any) -> None:
    """Adds `slt-rl curve RUN`."""
    command = commands.add_parser("curve", help="the LLC along a run, point by point, resumable")
    _add_run(command)
    command.add_argument("--of-values", action="store_true", help="of the value function")
    command.add_argument("--own", action="store_true", help="on each checkpoint's own states")
    command.add_argument(
        "--part", default="", metavar="PREFIX[:UNIT]",
        help="free parameters: those whose path begins so, such as layer_0, core or layer_0:3",
    )  # fmt: skip
    command.add_argument("--seeds", type=int, nargs="+", default=None, help="default all")
    command.add_argument(
        "--checkpoints", type=int, default=None, metavar="N", help="so many, evenly; default all"
    )
    command.add_argument(
        "--states", type=int, default=None, metavar="N", help="default 512, with memory 1024"
    )
    command.add_argument(
        "--localizations", type=float, nargs="+", default=None, metavar="G",
        help="strengths of the tether; the same for all checkpoints",
    )  # fmt: skip
    command.add_argument("--chains", type=int, default=None, help="at least 4, the default")
    command.add_argument("--burnin", type=int, default=None, help="draws dropped, of each chain")
    command.add_argument("--draws", type=int, default=None, help="draws kept, of each chain")
    command.add_argument(
        "--at-once", type=int, default=1, metavar="N", help="checkpoints side by side, on a GPU"
    )
    command.add_argument("--threads", type=int, default=None, help="points at the same time")
    command.set_defaults(run=run_curve, light=False)


def add_develop(commands: Any) -> None:
    """Adds `slt-rl develop RUN`."""
    command = commands.add_parser("develop", help="event curves, stages, forms; beside the LLC")
    _add_run(command)
    command.add_argument("--window", type=int, default=None, metavar="UPDATES")
    command.add_argument(
        "--events", nargs="+", default=None, metavar="EVENT", help="default: all that are not rare"
    )
    command.add_argument(
        "--rewarded", nargs="+", default=None, metavar="EVENT=PAID",
        help="the event that counts those that were rewarded, for excess counts",
    )  # fmt: skip
    command.add_argument(
        "--simulated", type=int, default=None, metavar="N",
        help="series simulated from each of the two best forms, to tell them apart (10); 0: none",
    )  # fmt: skip
    command.set_defaults(run=run_develop)


def add_report(commands: Any) -> None:
    """Adds `slt-rl report RUN`."""
    command = commands.add_parser("report", help="one page on a run: RUN/report.html")
    _add_run(command)
    command.add_argument(
        "--frames", type=int, nargs="+", default=None, metavar="STEP",
        help="checkpoints whose agent is shown, by environment steps; default four",
    )  # fmt: skip
    command.set_defaults(run=run_report)


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, metavar="RUN", help="folder of slt-rl train")


def run_curve(options: argparse.Namespace) -> int:
    """Measures and prints where the curve is."""
    from slt_rl.agents.curve import LOCALIZATIONS, Sampling, check_at_once, check_settings
    from slt_rl.agents.measure import curve_name, make_subjects, measure_curve
    from slt_rl.agents.run import load_run

    what = {"of_values": options.of_values, "own": options.own, "part": options.part}
    given = {
        "num_chains": options.chains, "num_burnin": options.burnin, "num_draws": options.draws,
    }  # fmt: skip
    sampling = Sampling(**{name: x for name, x in given.items() if x is not None})
    side_by_side = {"at_once": options.at_once, "num_threads": options.threads}
    localizations = check_settings(options.localizations or LOCALIZATIONS, sampling, **side_by_side)
    if options.own or options.part:
        check_at_once(options.at_once, 1)
    run = load_run(options.folder)
    _tell("the first time worlds are made and played for the states of the loss", options)
    subjects = make_subjects(
        run,
        seeds=options.seeds,
        num_checkpoints=options.checkpoints,
        num_states=options.states,
        **what,
    )
    folder, name = options.folder / "curves", curve_name(**what)
    curve = measure_curve(
        folder,
        name,
        subjects,
        localizations=localizations,
        sampling=sampling,
        **side_by_side,
        progress=not options.quiet,
    )
    for verdict in ("trusted", "doubtful", "refused"):
        print(f"{int((curve.verdicts == verdict).sum())} of {curve.verdicts.size} points {verdict}")
    print(f"curve: {folder / name}.json")
    return 0


def run_develop(options: argparse.Namespace) -> int:
    """Describes all curves of a run and prints where the description is."""
    from slt_rl.agents.command import unique_pairs
    from slt_rl.agents.develop import develop_run
    from slt_rl.agents.run import load_run

    pairs = None
    if options.rewarded is not None:
        if not all("=" in pair for pair in options.rewarded):
            raise ValueError(f"--rewarded: got {options.rewarded}, expected EVENT=PAID")
        pairs = unique_pairs("rewarded", (pair.split("=", 1) for pair in options.rewarded))
    given = {} if options.simulated is None else {"num_simulated": options.simulated}
    path = develop_run(
        load_run(options.folder),
        window=options.window,
        events=options.events,
        rewarded=pairs,
        progress=not options.quiet,
        **given,
    )
    print(f"development: {path}")
    return 0


def run_report(options: argparse.Namespace) -> int:
    """Writes the page and prints where it is; 0 if every check held."""
    from slt_rl.agents.page import write_report
    from slt_rl.agents.run import load_run

    run = load_run(options.folder)
    _tell("drawing; making worlds, playing the episodes that are shown", options)
    report = write_report(run, frame_steps=options.frames)
    for check in report.checks:
        print(check)
    print(f"report: {options.folder / 'report.html'}")
    return 0 if report.all_held else 1


def _tell(text: str, options: argparse.Namespace) -> None:
    """Says what takes a while before there is a bar."""
    if not options.quiet:
        print(text, file=sys.stderr)

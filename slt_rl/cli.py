"""The command `slt-rl`."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slt_rl.compilation import light_options

# No threads within one operation: a program was seen to hang for ever in the pool
# (docs/gotchas.md). Chunks of a curve still run side by side, each on one thread.
SINGLE_THREAD = ("--xla_cpu_multi_thread_eigen=false",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit status.

    `slt-rl validate [--quick] [--out DIR]` trains the toy model of superposition on labels and by
    PPO, measures its learning coefficient, checks everything that is known of it and writes
    `DIR/report.html` and `DIR/summary.json`. Exit status 0: every check held; 1: some did not;
    2: bad arguments or unusable files; 130: interrupted.

    `slt-rl ladder [--quick] [--out DIR]` adds the difficulties of reinforcement learning to the
    same model one at a time and says which estimator survives which.

    `slt-rl train craftax-classic|craftax [--out RUN] …` trains agents into a folder that keeps
    their whole history; see `slt-rl train --help`.

    `slt-rl curve RUN`, `slt-rl develop RUN` and `slt-rl report RUN` measure the LLC along such a
    run, describe its curves, and write `RUN/report.html`.

    Args:
        arguments: Words after the program's name; `sys.argv` if None.
    """
    options = _parser().parse_args(arguments)
    set_xla_flags(light=options.light)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print(
            "\nstopped; what was finished is kept: run the same command to go on", file=sys.stderr
        )
        return 130
    except (ValueError, OSError, ImportError) as error:
        print(f"slt-rl: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    from slt_rl.agents.command import add_train
    from slt_rl.agents.curve_commands import add_curve, add_develop, add_report

    parser = argparse.ArgumentParser(
        prog="slt-rl", description="The LLC in reinforcement learning."
    )
    parser.set_defaults(light=True)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_report(
        commands,
        "validate",
        _validate,
        about="the main job: train, measure, check, report",
        quick="a short form, about two minutes",
        stages="stages",
    )
    _add_report(
        commands,
        "ladder",
        _ladder,
        about="which estimator survives which difficulty of reinforcement learning",
        quick="three rungs, two data sets each",
        stages="rungs",
    )
    for add in (add_train, add_curve, add_develop, add_report):
        add(commands)
    for command in commands.choices.values():
        command.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _add_report(
    commands: Any, name: str, run: Callable, *, about: str, quick: str, stages: str
) -> None:
    """A command that measures in stages and writes a report to a folder."""
    command = commands.add_parser(name, help=about)
    command.add_argument("--quick", action="store_true", help=quick)
    command.add_argument(
        "--out",
        type=Path,
        default=None,
        metavar="DIR",
        help=f"folder of the report (default results/{name}); finished {stages} in it are reused",
    )
    command.set_defaults(run=run)


def set_xla_flags(*, light: bool = True) -> None:
    """Adds to `XLA_FLAGS`, before the first operation, what the user has not set.

    Args:
        light: Compile every program lightly; not where those of large models run for minutes.
    """
    given = os.environ.get("XLA_FLAGS", "")
    options = light_options() if light else {}
    flags = (*SINGLE_THREAD, *(f"--{k}={str(v).lower()}" for k, v in options.items()))
    added = [flag for flag in flags if flag.split("=")[0] not in given]
    os.environ["XLA_FLAGS"] = " ".join([given, *added]).strip()


def _use_double_precision() -> None:
    """Levels are told apart at 1e-9 and critical points solved to 1e-12: for the whole process."""
    import jax

    jax.config.update("jax_enable_x64", True)


def _validate(options: argparse.Namespace) -> int:
    _use_double_precision()
    from slt_rl.validation import FULL, QUICK, validate

    return _report(options, "validate", validate, QUICK if options.quick else FULL)


def _ladder(options: argparse.Namespace) -> int:
    _use_double_precision()
    from slt_rl.difficulty import FULL, QUICK, climb

    return _report(options, "ladder", climb, QUICK if options.quick else FULL)


def _report(options: argparse.Namespace, name: str, run: Callable, protocol: Any) -> int:
    """Runs to the report, prints its checks; 0 if all held."""
    out = options.out or Path(f"results/{name}-quick" if options.quick else f"results/{name}")
    start = time.perf_counter()
    report = run(protocol, out, progress=not options.quiet)
    for check in report.checks:
        print(check)
    held = sum(check.held for check in report.checks)
    print(f"{held} of {len(report.checks)} checks held in {time.perf_counter() - start:.0f} s")
    print(f"report: {out / 'report.html'}")
    return 0 if report.all_held else 1


if __name__ == "__main__":
    sys.exit(main())

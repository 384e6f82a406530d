"""A Craftax-Classic agent: from an empty folder to the report of its development.

Install the library with Craftax, from a checkout of it:

    pip install '.[craftax]'

then, in any empty folder, four commands:

    slt-rl train craftax-classic --out plants --steps 6e5 --seeds 3  # three seeds in one program
    slt-rl curve plants --checkpoints 25                             # the LLC of each, two tethers
    slt-rl develop plants                                            # events, stages, forms, lags
    slt-rl report plants                                             # plants/report.html

Each may be stopped and run again: it goes on where it was. Together they took 22 minutes and a half
on two cores otherwise idle (AMD EPYC; 39 CPU minutes): `train` 5 minutes, `curve` 15 for 150
points, `develop` a minute and a half, `report` half a minute. `--checkpoints 13` nearly halves the
longest; the same command with 25 measures the other twelve later (`develop` needs eleven at least).
Before there is a point of the LLC some 20 seconds go by, a minute or two on a busy core: worlds are
made, the states of the loss played, one program compiled. The folder has 460 MB. This script runs
the four one after the other:

    python docs/tutorials/craftax_agent.py [--quick] [--out results/tutorial]

What to look for in the report. Planting is rewarded once an episode. The agents first plant
everywhere, two or more times an episode, and then less: "excess plant" rises and decays. Its panel
names the form that fits best, or a tie; its dotted lines are the boundaries of stages. Below it is
the LLC of the policy, at two localizations. Each is a coefficient at its own pair of temperature
and localization, not a limit: read differences along a panel, never between panels, and only those
larger than the bands. In this run plants per episode peaked at 2.2 near 76k steps and ended at 1.6;
the LLC at localization 100 fell from 15 to 10 to 11, lowest at 49k to 74k steps, and rose to 22. Of
the 150 points at both localizations 121 were trusted, none refused. Where the curves turn relative
to each other stands in the second figure and in the table of lags, with intervals over the seeds.
"""

import argparse
import sys
from pathlib import Path

from slt_rl.cli import main as slt_rl

FULL = (
    ("train", "craftax-classic", "--steps", "6e5", "--seeds", "3"),
    ("curve", "--checkpoints", "25"),
    ("develop",),
    ("report",),
)
# Every command at the smallest size: the numbers mean nothing.
QUICK = (
    ("train", "craftax-classic", "--steps", "6000", "--seeds", "2", "--map", "16", "--pool", "4",
     "--time-limit", "20", "--hidden", "8", "--envs", "8", "--unroll", "8", "--checkpoints", "12"),
    ("curve", "--checkpoints", "11", "--states", "32", "--draws", "128", "--threads", "1"),
    ("develop", "--simulated", "1"),
    ("report",),
)  # fmt: skip


def run(out: Path, commands: tuple[tuple[str, ...], ...]) -> int:
    """Runs the commands on one folder; the status of the last, or of the first that failed."""
    status = 0
    for name, *words in commands:
        folder = [*words, "--out", str(out)] if name == "train" else [str(out), *words]
        print(f"slt-rl {name} {' '.join(folder)}")
        status = slt_rl([name, *folder])
        # The report says 1 where a check did not hold; it is written all the same.
        if status > 1:
            return status
    return status


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="every command at toy size")
    parser.add_argument("--out", type=Path, default=Path("results/tutorial"))
    options = parser.parse_args()
    sys.exit(run(options.out, QUICK if options.quick else FULL))

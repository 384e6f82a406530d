"""Net C of the reference experiment: 1550 parameters, ill-conditioned, of known equilibrium value.

    python -m benchmarks.net_c [--keys 3]

A deep linear network of widths (20, 15, 25, 15, 20, 10) and rank 5 at its block teacher, whose
singular values go from 1 to 0.1, at `nbeta = 1e5/ln 1e5` and localization 10, in float32. Adjusted
chains in equilibrium find 0.948 of the learning coefficient there. SGLD of too small a step finds
0.74 of it, half the rank of the Hessian, without any drift: that must not be trusted. Writes
`net_c.md` and `.json`; a run that was killed goes on where it stopped.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import slt_rl
from benchmarks import pages, rows, runs
from slt_rl.report import Check, Table
from toy_models.deep_linear import benchmark_nets

NBETA, LOCALIZATION = 1e5 / np.log(1e5), 10.0
# The equilibrium value over the learning coefficient, measured with adjusted chains.
EQUILIBRIUM = 0.948
# SGLD whose singular directions do not move: its step, in units of the inverse of the largest
# curvature of `U`; the largest curvature of the loss; its length.
SMALL_STEP, LARGEST_CURVATURE, NUM_STEPS = 0.03, 5.0, 20_000


@dataclasses.dataclass(frozen=True)
class NetCase:
    """How the chain is chosen: "automatic" or "SGLD, small step"."""

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of `estimate_llc` beside the problem."""
        if self.name == "automatic":
            return {}
        step = SMALL_STEP / (NBETA * LARGEST_CURVATURE)
        half = NUM_STEPS // 2
        return {"sampler": slt_rl.SGLD(step), "num_draws": half, "num_burnin": half}


CASES = (NetCase("automatic"), NetCase("SGLD, small step"))


def measure(case: NetCase, key: jax.Array) -> dict[str, Any]:
    """One estimate, its share of the learning coefficient and the balance of every layer."""
    net = benchmark_nets()[2]
    assert net.potential is not None
    estimate = slt_rl.estimate_llc(
        key,
        net.potential,
        net.params,
        nbeta=NBETA,
        localization=LOCALIZATION,
        **case.options,
    )
    layers = np.asarray(estimate.draws.virial, np.float64).mean(axis=(0, 1))
    return rows.estimate_row(estimate) | {
        "share": float(estimate.mean) / net.llc,
        "layers": layers.tolist(),
        "least layer": float(layers.min()),
    }


def make_checks(found: Sequence[dict[str, Any]]) -> list[Check]:
    """Accuracy, balance and trust of the automatic runs; distrust of the others."""
    own = [row for row in found if row["case"] == "automatic"]
    others = [row for row in found if row["case"] != "automatic"]
    error = max(abs(row["share"] / EQUILIBRIUM - 1) for row in own)
    balance = min(row["least layer"] for row in own)
    trusted = sum(row["verdict"] == "trusted" for row in own)
    believed = sum(row["verdict"] == "trusted" for row in others)
    runs = f"{len(own)} runs"
    return [
        _check("automatic: largest error to 0.948 of the coefficient", "<= 0.03", error, runs),
        _check("automatic: trusted", f"{len(own)}", trusted, runs, held=trusted == len(own)),
        _check("automatic: least equipartition of a layer", ">= 0.97", balance, runs),
        _check("SGLD of small step: trusted", "<= 0", believed, f"{len(others)} runs"),
    ]


def _check(name: str, target: str, value: float, detail: str, held: bool | None = None) -> Check:
    if held is None:
        sign, limit = target.split()
        held = value <= float(limit) if sign == "<=" else value >= float(limit)
    return Check(name, name, target, value, held, detail)


def make_page(found: Sequence[dict[str, Any]]) -> pages.Page:
    """Checks and one line for each run."""
    shown = "case key estimate sem share verdict regime gradients seconds".split()
    columns = (*shown, "least layer")
    cells = [(*(row[name] for name in columns), "; ".join(row["flags"])) for row in found]
    note = "`share` is of the learning coefficient 84.5; `least layer` is an equipartition ratio."
    table = Table("Runs", (*columns, "flags"), cells, note)
    abstract = (
        "A network whose weak directions relax slowly, at its equilibrium value and short of it."
    )
    return pages.Page("net_c", "Net C", abstract, make_checks(found), [table])


def main() -> int:
    """Runs what is missing, then writes the results."""
    parser = runs.parser(__doc__)
    parser.add_argument("--keys", type=int, default=3, help="runs of each case")
    options = parser.parse_args()
    journal = rows.open_journal("net_c", {}, "benchmarks/net_c.py")
    return runs.run(
        journal, CASES, measure, make_page=make_page, options=options, num_keys=options.keys
    )


if __name__ == "__main__":
    sys.exit(main())

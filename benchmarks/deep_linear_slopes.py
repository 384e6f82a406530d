"""How the values of random deep linear networks follow localization, by exact conditional draws.

    python -m benchmarks.deep_linear_slopes --class 1K [--nets 20 | --only 3 7]

The slope `d log lambda_hat / d log localization` at the localization of `estimate_llc`, from the
draws of `benchmarks.deep_linear_gibbs` at two localizations with common random numbers, beside what
the automatic runs of `deep_linear_<class>.json` said of it. Writes `deep_linear_slopes_<class>.md`
and `.json`; a run that was killed goes on where it stopped.
"""

import functools
import json
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import pages, rows, runs
from benchmarks.deep_linear import (
    Net,
    automatic_localization,
    classes,
    inverse_temperature,
    random_net,
    second_moments,
)
from benchmarks.deep_linear_gibbs import BURNIN, Posterior, sample
from slt_rl.budget import PLATEAU_SLOPE
from slt_rl.estimators import Estimate, mean_estimate
from slt_rl.report import Check, Table

# The higher localization over the lower one; the slope is that at their geometric mean.
RATIO = 1.5
NUM_CHAINS = 4


def measure(net: Net, key: jax.Array, *, num_sweeps: int) -> dict[str, Any]:
    """The exact slope of a net; the draws have seeds of their own."""
    del key
    localization = automatic_localization(net)
    slope = exact_slope(net, localization, num_sweeps=num_sweeps)
    found = {"parameters": net.num_parameters, "localization": localization}
    return found | {"exact slope": slope.mean, "sem": slope.sem, "effective draws": slope.ess}


def exact_slope(net: Net, localization: float, *, num_sweeps: int) -> Estimate:
    """`log(E[l+] / E[l-]) / log(RATIO)` for the scaled losses `l+-` at two localizations.

    Chains of the same seed take the same normal numbers at both: what is common to them drops out
    of the error, which is that of `l+/E[l+] - l-/E[l-]`.
    """
    centers = [np.asarray(layer, np.float64) for layer in net.layers()]
    factor = np.linalg.cholesky(second_moments(net))
    strength = 2 * inverse_temperature(net) / net.widths[-1]
    traces = []
    for share in (RATIO**-0.5, RATIO**0.5):
        posterior = Posterior(centers, factor, strength, share * localization)
        chains = [sample(posterior, num_sweeps, seed) for seed in range(NUM_CHAINS)]
        traces.append(np.array(chains)[:, round(BURNIN * num_sweeps) :])
    low, high = (trace.mean() for trace in traces)
    spread = mean_estimate((traces[1] / high - traces[0] / low) / np.log(RATIO))
    return spread._replace(mean=float(np.log(high / low) / np.log(RATIO)))


def published(label: str) -> dict[str, dict[str, Any]]:
    """What the automatic runs said, by net: the size of the slope and the regime."""
    path = pages.RESULTS / f"deep_linear_{label}.json"
    found = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return {
        row["case"]: {
            "slope of draws": abs(row["diagnostics"]["localization_slope"]),
            "regime of draws": row["regime"],
        }
        for row in found
    }


def make_page(label: str, found: Sequence[dict[str, Any]]) -> pages.Page:
    """How many are at a plateau, and one line for each net."""
    said = published(label)
    columns = ("case", "parameters", "localization", "exact slope", "sem", "effective draws")
    theirs = ("slope of draws", "regime of draws")
    cells = [
        (*(row[name] for name in columns), *(said[row["case"]][name] for name in theirs))
        for row in found
    ]
    note = "`slope of draws` is the size of the slope that the automatic run found by covariance."
    reaching = sum(abs(row["exact slope"]) + 2 * row["sem"] > PLATEAU_SLOPE for row in found)
    unknown = sum(said[row["case"]]["regime of draws"] == "unknown" for row in found)
    known = max(row["sem"] for row in found)
    name, number = "largest standard error of an exact slope", f"{len(found)} nets"
    detail = f"{number}; {reaching} reach {PLATEAU_SLOPE}, the draws left {unknown} unknown"
    check = Check(name, name, "<= 0.03", known, known <= 0.03, detail)
    title = f"Slopes in localization of deep linear networks of class {label}"
    abstract = "How the value follows localization, by exact conditional draws of whole layers."
    table = Table("Nets", (*columns, *theirs), cells, note)
    return pages.Page(f"deep_linear_slopes_{label}", title, abstract, [check], [table])


def main() -> int:
    """Runs what is missing, then writes the results."""
    parser = runs.parser(__doc__)
    parser.add_argument("--class", dest="label", choices=list(classes()), required=True)
    parser.add_argument("--nets", type=int, default=20)
    parser.add_argument("--only", type=int, nargs="+", metavar="NET", help="only these numbers")
    parser.add_argument("--sweeps", type=int, default=250)
    options = parser.parse_args()
    numbers = options.only or range(options.nets)
    nets = [random_net(options.label, number) for number in numbers]
    settings = {"num_sweeps": options.sweeps}
    name = f"deep_linear_slopes_{options.label}"
    return runs.run(
        rows.open_journal(name, settings, "benchmarks/deep_linear*.py"),
        nets,
        functools.partial(measure, **settings),
        make_page=functools.partial(make_page, options.label),
        options=options,
    )


if __name__ == "__main__":
    sys.exit(main())

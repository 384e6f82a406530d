"""The page of a class of deep linear networks: errors to what is known, checks, tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import analysis, pages
from benchmarks.deep_linear_truth import Bounds
from slt_rl.report import Check, Table


def error_to_reference(row: dict[str, Any]) -> float:
    """Relative error to the value at the same temperature and localization, NaN if not known."""
    return float("nan") if row["reference"] is None else analysis.relative_error(row)


def error_to_local(row: dict[str, Any]) -> float:
    """Relative distance from the bounds on the local value: the error where they meet."""
    if row["estimate"] is None:
        return float("inf")
    known = Bounds(row["bound_lowest"], row["bound_half_rank"], row["bound_half_codimension"])
    nearest = min(max(row["estimate"], known.lower), known.half_codimension)
    return abs(row["estimate"] / nearest - 1)


def error_to_lowest(row: dict[str, Any]) -> float:
    """Relative error to Aoyagi's value."""
    return analysis.relative_error(row | {"reference": row["bound_lowest"]})


def error_to_best_known(row: dict[str, Any]) -> float:
    """Relative error to the value at the same temperature and localization, or the local one."""
    return error_to_local(row) if row["reference"] is None else error_to_reference(row)


def order_preservation(estimates: Sequence[float | None], truths: Sequence[float]) -> float | None:
    """Share of pairs of different truth that the estimates order in the same way.

    A pair with an estimate that is not finite is not in order. None where all truths are equal.
    """
    values = np.array([np.nan if x is None else x for x in estimates], float)
    first, second = np.triu_indices(len(values), 1)
    true = np.sign(np.subtract(np.asarray(truths)[first], np.asarray(truths)[second]))
    found = np.sign(values[first] - values[second])
    kept = true != 0
    return float(np.mean(found[kept] == true[kept])) if kept.any() else None


def make_page(
    label: str, localization: float | None, found: Sequence[dict[str, Any]]
) -> pages.Page:
    """Checks and tables of one class, at the automatic localization (None) or a given one."""
    name, title = f"deep_linear_{label}", f"Deep linear networks of class {label}"
    abstract = "Deep linear networks by the published protocol's data; calibration is automatic."
    if localization is not None:
        name, title = f"{name}_localization_{localization:g}", f"{title} at one localization"
        abstract = f"{abstract[:-1]}, but the localization is {localization:g} for all nets."
    return pages.Page(
        name, title, abstract, make_checks(found), [error_table(found), net_table(found)]
    )


def make_references_page(
    found: Sequence[dict[str, Any]],
    *,
    label: str,
    localization: float | None,
    known: Mapping[str, Any],
) -> pages.Page:
    """What localization and temperature alone take off Aoyagi's value: no sampler in it.

    Args:
        found: Rows of references.
        label: The class.
        localization: Of all values; None: that of `estimate_llc`.
        known: `parameters` and `bound_lowest` of the nets, by name.
    """
    whole = [{**known[row["case"]], **row, "estimate": row["reference"]} for row in found]
    errors = [error_to_lowest(row) for row in whole]
    columns = ("case", "parameters", "bound_lowest", "reference", "reference_sem", "reference_ess")
    cells = [
        (*(row.get(name) for name in columns), row["reference"] / row["bound_lowest"] - 1)
        for row in whole
    ]
    note = "`bound_lowest` is Aoyagi's value. Four chains, a quarter of the sweeps dropped."
    table = Table("Nets", (*columns, "difference"), cells, note)
    shown = (analysis.quantile(errors, level) for level in (0.5, 0.95, 1.0))
    quantiles = Table("Errors", ("median", "95th percentile", "largest"), [tuple(shown)])
    where = "automatic" if localization is None else f"{localization:g}"
    return pages.Page(
        f"deep_linear_{label}_references_{where}",
        f"Values of deep linear networks of class {label}, localization {where}",
        "Exact conditional draws of whole layers at the published temperature, beside Aoyagi's "
        "value: how far localization and temperature alone lead from it.",
        [],
        [quantiles, table],
    )


def make_checks(found: Sequence[dict[str, Any]]) -> list[Check]:
    """The figures that a class has to show, to Aoyagi's value as it is published."""
    errors = [error_to_lowest(row) for row in found]
    median = analysis.quantile(errors, 0.5)
    share = analysis.Share(sum(error <= 0.15 for error in errors), len(errors))
    order = order_preservation([r["estimate"] for r in found], [r["bound_lowest"] for r in found])
    ordered = order is not None and order >= 0.98
    failed = sum(row["estimate"] is None for row in found)
    trusted = [row for row in found if row["verdict"] == "trusted"]
    wrong = sum(error_to_best_known(row) > 0.1 for row in trusted)
    number = f"{len(found)} nets"
    unknown = sum(row["reference"] is None for row in trusted)
    finite = "to the value at the same temperature and localization" + (
        f"; of {unknown}, where that is not known, to the local one" if unknown else ""
    )
    return [
        _check("median error to Aoyagi's value", "<= 0.05", median, median <= 0.05, detail=number),
        _check("runs within 15 %", ">= 0.95", share.value, share.value >= 0.95, detail=str(share)),
        _check("estimates that are not finite", "0", failed, failed == 0, detail=number),
        _check("order preserved", ">= 0.98", order, ordered, detail=number),
        _check("trusted with error > 10 %", "0", wrong, wrong == 0, detail=finite),
    ]


def error_table(found: Sequence[dict[str, Any]]) -> Table:
    """Errors to the finite value, to Aoyagi's and to the bounds on the local value."""
    kinds = (
        ("the value at the same temperature and localization", error_to_reference),
        ("Aoyagi's least value", error_to_lowest),
        ("the local value", error_to_local),
    )
    cells = []
    for name, error in kinds:
        errors = [error(row) for row in found]
        shown = (analysis.quantile(errors, level) for level in (0.5, 0.95, 1.0))
        cells.append((name, *shown))
    note = (
        "The first is sampled by exact conditional draws of whole layers. Aoyagi's value is the "
        "least over all parameters of the same product, the local one that of the parameter "
        "itself, which may be larger: a chain whose localization is weak reaches the least."
    )
    return Table("Errors", ("relative to", "median", "95th percentile", "largest"), cells, note)


def net_table(found: Sequence[dict[str, Any]]) -> Table:
    """One line for each network."""
    bound_names = ("bound_lowest", "bound_half_rank", "bound_half_codimension")
    columns = (
        "case",
        "parameters",
        *bound_names,
        "reference",
        "reference_sem",
        "estimate",
        "sem",
        "verdict",
        "regime",
        "gradients",
        "seconds",
    )
    cells = [
        (*(row.get(name) for name in columns), error_to_reference(row), error_to_lowest(row))
        for row in found
    ]
    return Table("Nets", (*columns, "error to reference", "error to least"), cells)


def _check(name: str, target: str, value: Any, held: bool, *, detail: str) -> Check:
    return Check(name, name, target, value, bool(held), detail)

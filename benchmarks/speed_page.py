"""The page of the speed benchmark: targets and tables."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import pages
from benchmarks.speed_figures import figures
from slt_rl.report import Check, Table

Row = dict[str, Any]
# (start of the name of a case, most that its ratio may be)
FLOOR_TARGETS = (
    ("loop: MLP 784-128-10, batch 512, 4 chains", 1.15),
    ("loop: DLN 10-10-10-10, batch 512, 4 chains", 1.3),
)
PEER_TARGETS = (("DLN 10-10-10-10", 20.0), ("MLP 784-128-10", 2.5))
LEADING_PEER = "devinterp==2.0.1"


def make_page(found: Sequence[Row]) -> pages.Page:
    """Checks, tables and figures of the rows."""
    makers = {
        "loop": _loop_table,
        "call": _call_table,
        "calibration": _calibration_table,
        "curve": _curve_table,
        "ppo": ppo_table,
        "rollout": _rollout_table,
    }
    parts = {part: [row for row in found if row.get("part") == part] for part in makers}
    checks = [*_floor_checks(parts["loop"]), *_peer_checks(parts["call"])]
    checks += [*_calibration_checks(), *_curve_checks(parts["curve"]), *ppo_checks(parts["ppo"])]
    tables = [maker(parts[part]) for part, maker in makers.items() if parts[part]]
    abstract = (
        "Runs of a case take turns; times are medians over the rounds, in microseconds of wall "
        "time for each step of each chain unless said otherwise, and ratios are medians of the "
        "ratios of neighbors. The floor is the bare value and gradient on fixed batches, the "
        "faster of one program and of single calls: no data are gathered, nothing moves, nothing "
        "is recorded."
    )
    return pages.Page(_name(parts), "Speed", abstract, checks, tables, figures(parts))


def _name(parts: Mapping[str, Sequence[Row]]) -> str:
    """The stem of the files: a part measured alone must not replace the page of all."""
    measured = [part for part, rows in parts.items() if rows]
    if len(measured) != 1:
        return "speed"
    return "speed_peers" if measured == ["call"] else f"speed_{measured[0]}"


def _floor_checks(found: Sequence[Row]) -> list[Check]:
    """One for each kind of increments: neither shifts the coefficient (`increments.md`)."""
    rows = {row["case"]: row for row in found}
    return [
        Check(
            f"floor {name}, {kind}",
            f"slt_rl / floor, {name.removeprefix('loop: ')}, {kind} increments",
            f"<= {target:g}",
            rows[name][key],
            rows[name][key] <= target,
        )
        for name, target in FLOOR_TARGETS
        if name in rows
        for kind, key in (("normal", "ratio"), ("binomial", "ratio_binomial"))
    ]


def _peer_checks(found: Sequence[Row]) -> list[Check]:
    checks = []
    for name, target in PEER_TARGETS:
        for row in found:
            ratio = row["ratios"].get(LEADING_PEER)
            if row["model"] != name or ratio is None:
                continue
            checks.append(
                Check(
                    f"peer {name}",
                    f"{LEADING_PEER} llc() / estimate_llc, {name}, compiled",
                    f">= {target:g}",
                    ratio,
                    ratio >= target,
                )
            )
            if name.startswith("MLP"):
                checks.append(_cold_check(row))
    return checks


def _cold_check(row: Row) -> Check:
    ours, theirs = row["first_seconds"]["slt_rl"], row["first_seconds"][LEADING_PEER]
    return Check(
        "cold",
        f"seconds of the first call, compilation included, {row['model']}",
        f"< {theirs:.3g} s of {LEADING_PEER}",
        ours,
        ours < theirs,
    )


def _calibration_checks() -> list[Check]:
    path = pages.RESULTS / "accuracy.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    ratios = sorted(
        row["gradients"] / (row["gradients"] - row["calibration_gradients"])
        for row in rows
        if row.get("calibration_gradients") and row["gradients"] > row["calibration_gradients"]
    )
    if not ratios:
        return []
    median = ratios[len(ratios) // 2]
    return [
        Check(
            "calibration",
            "gradients of an automatic estimate / of its kept draws, median",
            "<= 1.7",
            median,
            median <= 1.7,
            f"the {len(ratios)} runs of accuracy.json",
        )
    ]


def _curve_checks(found: Sequence[Row]) -> list[Check]:
    return [
        Check(
            f"curve {row['model']}",
            f"curve of {row['checkpoints']} checkpoints / {row['checkpoints']} x one, "
            f"{row['model']}",
            "<= 0.6",
            row["ratio"],
            row["ratio"] <= 0.6,
            "both compiled",
        )
        for row in found
    ]


def ppo_checks(found: Sequence[Row]) -> list[Check]:
    """Steps per second of each training over those of the reference."""
    return [
        Check(
            f"ppo {row['name']}",
            f"PPO steps per second / reference in one file, {row['name']}",
            ">= 0.95",
            row["ratio"],
            row["ratio"] >= 0.95,
            f"{row['runs']} runs side by side" if row["runs"] > 1 else "one run",
        )
        for row in found
    ]


def _loop_table(found: Sequence[Row]) -> Table:
    header = ("model", "parameters", "batch", "chains", "floor", "slt_rl", "ratio")
    header += ("binomial", "ratio", "floor, gathering", "normal / it", "rounds")
    cells = [
        (
            row["model"],
            row["parameters"],
            row["batch_size"],
            row["num_chains"],
            _wall(row, row["floor"]),
            _wall(row, "normal"),
            f"{row['ratio']:.2f}",
            _wall(row, "binomial"),
            f"{row['ratio_binomial']:.2f}",
            _wall(row, "floor, gathering"),
            f"{row['ratio_gathering']:.2f}",
            row["rounds"],
        )
        for row in found
    ]
    note = "SGLD with normal and with binomial increments (`slt_rl.increments.binomial_like`). The "
    note += "gathering floor draws a new minibatch in every step, as a sampler does."
    return Table("The loop", header, cells, note)


def _wall(row: Row, name: str) -> str:
    return f"{row['microseconds'][name]['wall']:.3g}"


def _call_table(found: Sequence[Row]) -> Table:
    cells = [
        (
            row["model"],
            name,
            f"{times['wall']:.4g}",
            f"{times['cpu']:.4g}",
            "1" if name == "slt_rl" else f"{row['ratios'][name]:.3g}",
            f"{row['first_seconds'][name]:.3g}",
            f"{row['estimates'][name]:.4g}",
        )
        for row in found
        for name, times in row["microseconds"].items()
    ]
    skipped = sorted({f"{peer} ({why})" for row in found for peer, why in row["skipped"].items()})
    header = ("model", "library", "wall", "CPU", "ratio", "first call, s", "estimate")
    note = (
        f"{found[0]['num_chains']} chains of {found[0]['num_steps']} draws, batch "
        f"{found[0]['batch_size']}, all cores. The first call of slt_rl is that of a new process "
        "and compiles. Their estimates count all draws from the center on, as ours do here."
    )
    note += f" Could not be installed: {'; '.join(skipped)}." if skipped else ""
    return Table("Whole estimates", header, cells, note)


def _calibration_table(found: Sequence[Row]) -> Table:
    header = ("model", "sampler", "gradients", "ratio", "wall", "CPU", "ratio", "effective draws")
    cells = [
        (
            row["model"],
            name,
            f"{row['gradients_per_draw'][name]:.3g}",
            "1" if name == "given" else f"{row['ratio_gradients']:.2f}",
            f"{times['wall']:.4g}",
            f"{times['cpu']:.4g}",
            "1" if name == "given" else f"{row['ratio_wall']:.2f}",
            f"{row['effective_draws'][name]:.0f}",
        )
        for row in found
        for name, times in row["microseconds"].items()
    ]
    note = (
        f"{found[0]['num_chains']} chains of {found[0]['num_steps']} kept draws, batch "
        f"{found[0]['batch_size']}; gradients and microseconds for each kept draw, all that is "
        "spent in the call counted. The given sampler starts at the center and drops nothing; "
        "calibration drops its burn-in, and its control variate takes two gradients a step."
    )
    return Table("Automatic calibration", header, cells, note)


def _curve_table(found: Sequence[Row]) -> Table:
    cells = [
        (row["model"], row["checkpoints"], *row["seconds_of"].values(), f"{row['ratio']:.2f}")
        for row in found
    ]
    return Table("Curves", ("model", "checkpoints", "curve, s", "one, s", "ratio"), cells)


def ppo_table(found: Sequence[Row]) -> Table:
    """Steps per second of each training and of the reference."""
    return _steps_table(found, "Training by PPO", "")


def _rollout_table(found: Sequence[Row]) -> Table:
    return _steps_table(found, "Play alone", "The first policy of the same trainings, no values.")


def _steps_table(found: Sequence[Row], title: str, note: str) -> Table:
    cells = [(r["name"], *r["steps_per_second"].values(), f"{r['ratio']:.2f}") for r in found]
    header = ("training", "slt_rl, steps/s", "reference, steps/s", "ratio")
    return Table(title, header, cells, note)

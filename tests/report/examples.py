"""Small training curves and a report made of them."""

import numpy as np

from slt_rl.development import Detection, label_transitions
from slt_rl.report import Check, Provenance, Report, Section, Table, TrainingCurves

LEVELS = {"4+": 0.104167, "5": 0.068743, "5+": 0.061798, "6": 0.048192}


def polygon(k):
    angles = 2 * np.pi * np.arange(k) / k
    columns = np.zeros((2, 6))
    columns[:, :k] = 1.1 * np.stack([np.cos(angles), np.sin(angles)])
    return columns


def make_curves(name="Supervised", *, num_runs=4, num_records=30, measured=3):
    generator = np.random.default_rng(0)
    labels = np.full((num_runs, num_records), "4+", dtype="<U8")
    labels[1:, 12:] = "5"
    labels[1:, 11] = "transit"
    labels[2:3, 20:] = "5+"
    loss = np.vectorize({**LEVELS, "transit": 0.085}.get)(labels)
    loss[:, 0] = 2.0
    llc = 5 + (labels != "4+") + 0.2 * generator.normal(size=labels.shape)
    llc[measured:] = np.nan
    corners = {"4+": 4, "transit": 5, "5": 5, "5+": 5}
    columns = np.array([[polygon(corners[c]) for c in run] for run in labels])
    steps = 100 * np.arange(num_records)
    return TrainingCurves(
        name=name,
        step_label="steps",
        steps=steps,
        loss=loss,
        labels=labels,
        llc=llc,
        lower=llc - 0.4,
        upper=llc + 0.4,
        columns=columns,
        biases=np.full((num_runs, num_records, 6), -0.3),
        true=[label_transitions(steps, run) for run in labels],
        detected=[(), *[(Detection(11, 1050.0, ("loss",), -0.4, 90.0),)] * (num_runs - 1)],
    )


CHECKS = (
    Check("closed form", "Against quadrature.", "< 1e-9", 8e-11, True, group="Toy model"),
    Check("five & <six>", "A & B.", "≥ 95 %", 0.5, False, "why: <b>", group="Training"),
)


def make_report(**changes):
    provenance = Provenance(
        versions={"python": "3"},
        commit="abc",
        keys={"seed": 1},
        machine={"cores": 2},
        stage_seconds={"train": 61.0, "llc": 2.5},
        peak_memory_bytes=2**30,
    )
    table = Table("sequences", ("sequence", "runs"), [("4+ → 5", 3), ("<4>", None)], note="n & m")
    report = {
        "title": "A report",
        "abstract": "What was done.",
        "checks": CHECKS,
        "sections": (Section("Part", ("Text.",), (), (table,)),),
        "provenance": provenance,
    }
    return Report(**{**report, **changes})

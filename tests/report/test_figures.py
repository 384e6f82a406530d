"""Figures: everything asked for is drawn, nothing overlaps, nothing global is touched."""

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slt_rl.report import (
    Comparison,
    Jump,
    Occupancy,
    TrainingCurves,
    class_strip_figure,
    comparison_figure,
    jump_figure,
    llc_by_class_figure,
    occupancy_figure,
    run_figure,
    training_figure,
)
from slt_rl.report.overview_figures import run_order
from slt_rl.report.run_figure import snapshot_records
from slt_rl.report.style import class_color, ordered_classes, spread

from .examples import LEVELS, make_curves

LONG = "the estimate of one potential by another road, on the very same states"


def comparison(num_points, label="x"):
    generator = np.random.default_rng(1)
    target = 7 + generator.normal(size=num_points)
    half = np.full(num_points, 0.5)
    labels = np.array(["5", "6"])[np.arange(num_points) % 2]
    return Comparison("A", label, label, target, 0 * half, target + 0.1, half, labels)


OCCUPANCY = Occupancy(
    title="exp(-nL)",
    num_examples=np.array([100, 200, 300]),
    probability={"5": np.array([0.9, 0.6, 0.2]), "6": np.array([0.1, 0.4, 0.8])},
    error={"5": np.full(3, 0.05)},
    audit={"6": (200.0, 0.41, 0.05)},
    audit_label="NUTS",
    crossing=220.0,
    expected_crossing=230.0,
)
JUMPS = (
    Jump("SGD", "5", "5+", 1.4, 0.3, 1.5),
    Jump("PPO", "5", "5+", 1.1, 0.3, 1.5),
    Jump("PPO", "4+", "5", -0.5, 0.3),
)


def texts(figure):
    """Every text of a figure, legends included."""
    found = figure.findobj(matplotlib.text.Text)
    return {text.get_text() for text in found if text.get_text()}


def drawn_texts(figure):
    """The texts on the page: not the labels of ticks outside of an axis."""
    outside = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            outside |= {t.label1 for t in ticks if not low <= t.get_loc() <= high}
            outside |= {t.label2 for t in ticks}
            outside |= {t.label1 for t in ticks if not axes.axison}
    found = figure.findobj(matplotlib.text.Text)
    return [t for t in found if t.get_text() and t.get_visible() and t not in outside]


def figures(curves, levels=LEVELS):
    return {
        "run": run_figure(curves, 2, levels),
        "unmeasured": run_figure(curves, 3, levels),
        "training": training_figure((curves, curves), levels),
        "single": training_figure((curves,), levels),
        "strips": class_strip_figure((curves, curves), levels),
        "by_class": llc_by_class_figure((curves,), levels, {"exact": {"5": 7.0}}),
        "sparse": comparison_figure([comparison(6)], levels),
        "dense": comparison_figure([comparison(300, LONG)] * 4, levels),
        "jumps": jump_figure(JUMPS, levels),
        "occupancy": occupancy_figure(OCCUPANCY, levels),
    }


def test_every_figure_draws_and_leaves_no_global_state(curves):
    before = dict(matplotlib.rcParams)
    for figure in figures(curves).values():
        figure.canvas.draw()
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in {m for m in dir(matplotlib) if m == "pyplot"}


def test_figures_name_what_they_show(curves):
    drawn = figures(curves)
    assert {"steps", "a  4+", "population loss $L$", "5+"} <= texts(drawn["run"])
    assert "not measured for this run" in texts(drawn["unmeasured"])
    assert {"Supervised: 4 runs", "3 runs measured"} <= texts(drawn["training"])
    assert "100 % of 6 agree" in texts(drawn["sparse"])
    assert "typical interval" in texts(drawn["dense"])
    assert "5 \u2192 5+\n2 of 2 rise" in texts(drawn["jumps"])
    assert {"50/50 at n = 220", "reference: n = 230", "NUTS"} <= texts(drawn["occupancy"])


@pytest.mark.parametrize("name", ["run", "training", "by_class", "dense", "jumps", "occupancy"])
def test_labels_do_not_overlap(curves, name):
    # Levels as near to one another as those of four-gons, and one nearer.
    levels = {**LEVELS, "4": 0.11111, "4++": 0.09722, "x": 0.0985}
    figure = figures(curves, levels)[name]
    figure.canvas.draw()
    boxes = [(t.get_text(), t.get_window_extent().padded(-1.0)) for t in drawn_texts(figure)]
    width, height = figure.canvas.get_width_height()
    for i, (text, box) in enumerate(boxes):
        assert -1 <= box.x0 and box.x1 <= width + 1 and box.y1 <= height + 1, text
        for other, second in boxes[i + 1 :]:
            assert not box.overlaps(second) or box.bounds == second.bounds, (text, other)


def test_snapshots_show_each_plateau_and_transition(curves):
    records = snapshot_records(curves.labels[2], 8)
    shown = [str(curves.labels[2, record]) for record in records]
    assert {"4+", "transit", "5", "5+"} == set(shown) and len(records) == 8
    assert records[0] == 0 and records[-1] == 29


@given(st.lists(st.sampled_from(["4", "5", "transit"]), min_size=2, max_size=60), st.integers(2, 9))
def test_snapshots_are_few_and_apart(labels, num_snapshots):
    records = snapshot_records(np.array(labels), num_snapshots)
    assert 1 <= len(records) <= num_snapshots
    assert np.all(np.diff(records) >= 1) and 0 <= records[0] and records[-1] < len(labels)


@given(st.lists(st.floats(0, 1), max_size=15), st.floats(0.001, 0.2))
def test_spread_labels_keep_their_order_and_distance(positions, gap):
    placed = spread(positions, gap, low=0.0, high=1.0)
    assert placed.shape == (len(positions),)
    if len(positions) > 1:
        room = min(gap, 1 / (len(positions) - 1))
        assert np.all(np.diff(np.sort(placed)) >= room - 1e-9)
        assert placed.min() >= -1e-9 and placed.max() <= 1 + 1e-9
        order = np.argsort(positions, kind="stable")
        assert np.all(np.diff(placed[order]) > 0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5, unique=True))
def test_labels_with_room_stay_where_they_are(positions):
    apart = np.diff(np.sort(positions))
    gap = float(apart.min()) if apart.size else 1.0
    np.testing.assert_allclose(spread(positions, gap, low=0.0, high=1.0), positions, atol=1e-9)


def test_colors_are_fixed_and_distinct():
    classes = ["4", "4+", "4++", "4-", "4+-", "4++-", "5", "5+", "6", "transit"]
    assert len({class_color(c) for c in classes}) == len(classes)
    assert class_color("seven") == class_color("seven") != class_color("eight")


def test_classes_are_ordered_by_level():
    assert ordered_classes(["transit", "6", "x", "4+", "5", "6"], LEVELS) == [
        *["4+", "5", "6", "x", "transit"]
    ]


def test_runs_are_sorted_by_where_they_end(curves):
    order = run_order(curves.labels, ["4+", "5", "5+", "6", "transit"])
    assert order[0] == 2 and order[-1] == 0


def test_agreement_counts_combined_intervals():
    labels = np.array(["5"] * 3)
    zero, half = np.zeros(3), np.full(3, 0.3)
    shifts = np.array([0.0, 0.42, 0.43])  # sqrt(0.3^2 + 0.3^2) = 0.424
    assert Comparison("a", "x", "y", zero, half, shifts, half, labels).agreement == pytest.approx(
        2 / 3
    )
    empty = np.zeros(0)
    nothing = Comparison("a", "x", "y", empty, empty, empty, empty, empty)
    assert np.isnan(nothing.agreement)


def test_bad_records(curves):
    values = {name: getattr(curves, name) for name in TrainingCurves.__dataclass_fields__}
    with pytest.raises(ValueError, match=r"llc: got \(4, 29\), expected \(4, 30\)"):
        TrainingCurves(**{**values, "llc": curves.llc[:, 1:]})
    with pytest.raises(ValueError, match="loss: got shape"):
        TrainingCurves(**{**values, "steps": curves.steps[1:]})
    with pytest.raises(ValueError, match=r"columns: got \(4, 30, 1, 6\)"):
        TrainingCurves(**{**values, "columns": curves.columns[:, :, :1]})
    with pytest.raises(ValueError, match="true: got 1 runs, expected 4"):
        TrainingCurves(**{**values, "true": [()]})
    with pytest.raises(ValueError, match="estimate: got shape"):
        Comparison("a", "x", "y", np.zeros(2), np.zeros(2), np.zeros(3), np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match=r"probability\['5'\]: got shape \(2,\)"):
        Occupancy("t", np.arange(3), {"5": np.zeros(2)}, {})
    with pytest.raises(ValueError, match="error: got"):
        Occupancy("t", np.arange(3), {}, {"5": np.zeros(3)})
    with pytest.raises(ValueError, match="run: got 4"):
        run_figure(curves, 4, LEVELS)
    for empty in (training_figure, class_strip_figure, comparison_figure, jump_figure):
        with pytest.raises(ValueError, match="got none"):
            empty((), LEVELS)


def test_logarithmic_steps(curves):
    values = {name: getattr(curves, name) for name in TrainingCurves.__dataclass_fields__}
    logarithmic = TrainingCurves(**{**values, "log_steps": True})
    for figure in (
        run_figure(logarithmic, 2, LEVELS),
        training_figure((logarithmic, curves), LEVELS),
        class_strip_figure((logarithmic,), LEVELS),
    ):
        figure.canvas.draw()
        assert any(axes.get_xscale() == "symlog" for axes in figure.axes)


def test_nothing_measured_and_no_plateau():
    curves = make_curves(measured=0, num_runs=2)
    training_figure((curves,), LEVELS).canvas.draw()
    llc_by_class_figure((curves,), LEVELS, {}).canvas.draw()
    labels = np.full(curves.labels.shape, "transit")
    values = {name: getattr(curves, name) for name in TrainingCurves.__dataclass_fields__}
    lost = TrainingCurves(**{**values, "labels": labels, "columns": 0 * curves.columns})
    run_figure(lost, 0, LEVELS).canvas.draw()
    class_strip_figure((lost,), LEVELS).canvas.draw()

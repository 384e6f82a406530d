"""Critical points, levels, learning coefficients and the classifier."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from toy_models import superposition as tms

POLYGONS = {  # length, bias, h_k: superposition reference, 3.3
    4: (1.0, 0.0, 0.0),
    5: (1.1704596391, -0.2822972831, 0.2373844),
    6: (1.3205263308, -0.6181351319, 0.8674628),
}
LEVELS = {  # reference 3.4
    "4+---": 0.27083, "4++---": 0.26389, "4+--": 0.21528, "4++--": 0.20833, "4+-": 0.15972,
    "4++-": 0.15278, "4": 0.11111, "4+": 0.10417, "4++": 0.09722, "5": 0.06874, "5+": 0.06180,
    "6": 0.04819, "4-": 0.16667, "4--": 0.22222, "4---": 0.27778, "4----": 0.33333,
}  # fmt: skip
classes_of_six = st.sampled_from(tms.known_classes(6))


@functools.cache
def derivatives(num_features):
    """Jitted loss, gradient and Hessian in flat coordinates for a number of features."""
    shape = {"W": jnp.zeros((2, num_features)), "b": jnp.zeros(num_features)}
    unravel = ravel_pytree(shape)[1]

    def loss(vector):
        return tms.population_loss(unravel(vector))

    return jax.jit(loss), jax.jit(jax.grad(loss)), jax.jit(jax.hessian(loss))


def signature(params):
    """Numbers of negative, zero and positive eigenvalues of the Hessian."""
    flat = ravel_pytree(params)[0]
    eigenvalues = np.linalg.eigvalsh(derivatives(params["b"].size)[2](flat))
    negative, positive = np.sum(eigenvalues < -1e-8), np.sum(eigenvalues > 1e-8)
    return int(negative), int(flat.size - negative - positive), int(positive)


@pytest.mark.parametrize("k", POLYGONS)
def test_polygons_of_the_reference(k):
    length, bias, cost = POLYGONS[k]
    assert tms.solve_polygon(k) == pytest.approx((length, bias), abs=1e-10)
    assert tms.level(tms.PhaseClass(k), k) == pytest.approx(cost / (3 * k), abs=1e-8)


@pytest.mark.parametrize("k", [3, 4, 5, 6, 7, 9])
def test_polygons_are_critical_to_machine_precision(k):
    length, bias = tms.solve_polygon(k)
    angles = 2 * np.pi * np.arange(k) / k
    weights = length * np.stack([np.cos(angles), np.sin(angles)])
    gradient = jax.jit(jax.grad(tms.population_loss))({"W": weights, "b": np.full(k, bias)})
    assert max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(gradient)) < 1e-15


@pytest.mark.parametrize("label", LEVELS)
def test_levels_of_six_features(label):
    assert tms.level(tms.parse_class(label), 6) == pytest.approx(LEVELS[label], abs=6e-6)


@pytest.mark.parametrize(
    ("label", "value"),
    [("4", 0.0666667), ("4+", 0.0566667), ("5", 0.0158256), ("4-", 0.0666667 + 1 / 15)],
)
def test_levels_of_five_features(label, value):
    assert tms.level(tms.parse_class(label), 5) == pytest.approx(value, abs=1e-7)


@pytest.mark.parametrize("num_features", [4, 5, 6, 7])
def test_every_class_is_critical_at_its_level_and_classified(num_features):
    loss, gradient, _ = derivatives(num_features)
    for label in tms.known_classes(num_features):
        params = tms.critical_point(label, num_features)
        flat = ravel_pytree(params)[0]
        assert float(loss(flat)) == pytest.approx(tms.level(label, num_features), abs=1e-15)
        assert float(jnp.max(jnp.abs(gradient(flat)))) < 1e-8
        assert tms.classify(params) == str(label)
        assert tms.parse_class(str(label)) == label


@pytest.mark.parametrize(
    ("num_features", "label", "expected"),
    [(5, "5", (0, 1, 14)), (6, "5", (0, 4, 14)), (6, "5+", (0, 1, 17)), (6, "6", (0, 1, 17))],
)
def test_signatures(num_features, label, expected):
    params = tms.critical_point(tms.parse_class(label), num_features)
    assert signature(params) == expected


@pytest.mark.parametrize("num_features", [5, 6, 7])
def test_learning_coefficient_is_half_the_rank_at_regular_minima(num_features):
    for label in tms.known_classes(num_features):
        if label.hull < 5:
            continue
        negative, _, positive = signature(tms.critical_point(label, num_features))
        known = tms.exact_llc(label, num_features)
        assert known == (None if negative else (positive / 2, 1)), str(label)


@pytest.mark.parametrize(
    ("label", "llc"), [("4", 7.5), ("4+", 8.0), ("4++", 8.5), ("5", 7.0), ("5+", 8.5), ("6", 8.5)]
)
def test_learning_coefficients_of_six_features(label, llc):
    assert tms.exact_llc(tms.parse_class(label), 6) == (llc, 1)


@pytest.mark.parametrize("label", ["4++-", "4-", "4----"])
def test_silent_columns_have_no_learning_coefficient(label):
    assert tms.exact_llc(tms.parse_class(label), 6) is None


@pytest.mark.parametrize("num_features", [4, 5, 6])
def test_squares_are_homogeneous_minima(num_features):
    """Along every direction the loss rises as the square of the distance, so the count holds."""
    rng = np.random.default_rng(0)
    for positive in range(num_features - 3):
        label = tms.PhaseClass(4, positive)
        center = jax.tree.map(np.asarray, tms.critical_point(label, num_features))
        noise = {k: rng.normal(size=(4000, *v.shape)) for k, v in center.items()}

        def rise(size, center=center, noise=noise, label=label):
            moved = {k: v + size * noise[k] for k, v in center.items()}
            losses = tms.population_loss_host(moved["W"], moved["b"])
            return losses - tms.level(label, num_features)

        assert np.all(rise(1e-4) > 0)
        assert np.median(rise(1e-4) / rise(1e-5)) == pytest.approx(100, rel=1e-2)


def transformed(params, angle, mirrored, order):
    """The same network with another basis of the hidden plane and another order of features."""
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if mirrored:
        rotation = rotation @ np.diag([1.0, -1.0])
    return {
        "W": (rotation @ np.asarray(params["W"]))[:, order],
        "b": np.asarray(params["b"])[list(order)],
    }


symmetries = {
    "angle": st.floats(0, 2 * np.pi),
    "mirrored": st.booleans(),
    "order": st.permutations(range(6)),
}


@given(seed=st.integers(0, 1000), **symmetries)
def test_loss_is_invariant(seed, angle, mirrored, order):
    rng = np.random.default_rng(seed)
    params = {"W": rng.normal(size=(2, 6)), "b": rng.normal(size=6)}
    moved = transformed(params, angle, mirrored, order)
    vectors = (ravel_pytree(point)[0] for point in (params, moved))
    before, after = (float(derivatives(6)[0](vector)) for vector in vectors)
    assert after == pytest.approx(before, rel=1e-12)


@given(label=classes_of_six, noise=st.sampled_from([0.0, 0.005]), **symmetries)
def test_class_is_invariant_and_survives_noise(label, noise, angle, mirrored, order):
    moved = transformed(tms.critical_point(label, 6), angle, mirrored, order)
    rng = np.random.default_rng(0)
    noisy = {k: v + noise * rng.normal(size=v.shape) for k, v in moved.items()}
    assert tms.classify(noisy) == str(label)


def test_transit_and_stacking():
    points = [tms.critical_point(tms.parse_class(label), 6) for label in ("4", "5", "6")]
    points.append(jax.tree.map(lambda leaf: 1.1 * leaf, points[-1]))
    stacked = jax.tree.map(
        lambda *leaves: jnp.stack(leaves).reshape(2, 2, *leaves[0].shape), *points
    )
    assert tms.classify(stacked).tolist() == [["4", "5"], ["6", "transit"]]
    assert tms.classify(stacked, tolerance=1.0)[1, 1] == "6"
    assert tms.count_classes(stacked) == {"4": 1, "5": 1, "6": 1, "transit": 1}
    assert tms.hull_sizes(stacked).tolist() == [[4, 5], [6, 6]]


def test_a_shrunken_silent_column_keeps_its_class():
    params = jax.tree.map(np.array, tms.critical_point(tms.parse_class("4+-"), 6))
    params["W"][:, 3] *= 0.1
    assert tms.classify(params) == "4+-"


def test_equal_occupancy_interpolates_log_odds():
    sizes = np.full((3, 1000), 4)
    for row, (fives, sixes) in enumerate([(600, 200), (300, 400), (10, 900)]):
        sizes[row, :fives], sizes[row, fives : fives + sixes] = 5, 6
    expected = 200 + 100 * np.log(3) / (np.log(3) + np.log(4 / 3))
    assert tms.equal_occupancy((200, 300, 400), sizes) == pytest.approx(expected, abs=0.1)
    assert np.isnan(tms.equal_occupancy((200, 300, 400), np.full((3, 10), 5)))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: tms.solve_polygon(2), "k"),
        (lambda: tms.critical_point(tms.PhaseClass(7), 6), "label"),
        (lambda: tms.level(tms.PhaseClass(5, 0, 1), 6), "label"),
        (lambda: tms.exact_llc(tms.PhaseClass(5, 2), 6), "label"),
        (lambda: tms.parse_class("5-+"), "text"),
        (lambda: tms.known_classes(3), "num_features"),
        (lambda: tms.classify({"W": np.zeros((2, 6)), "b": np.zeros(5)}), "params"),
        (lambda: tms.classify(tms.critical_point(tms.PhaseClass(6), 6), tolerance=0), "tolerance"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: (expected .*, )?got"):
        call()

"""Finite-temperature values against the published table and against brute force."""

import numpy as np
import pytest

from toy_models import quadrature

# Estimation reference, section 4; localization one. Columns: t = 1e2, 1e4, 1e6, 1e10.
TABLE = {
    "crossing": (quadrature.crossing, (1, 1), (0.3388, 0.4067, 0.4347, 0.4592)),
    "rrr_3_1_3": (quadrature.reduced_rank, (3, 1, 3), (1.2670, 1.3853, 1.4249, 1.4556)),
    "rrr_2_2_2": (quadrature.reduced_rank, (2, 2, 2), (1.3563, 1.4769, 1.4966, 1.4999)),
}
# Localization 100, t^2 Var, and two temperatures (t/2, t); all at t = 1e4.
MORE = {
    "crossing": (0.1423, 0.3980, 0.3938),
    "rrr_3_1_3": (0.7433, 1.3722, 1.3657),
    "rrr_2_2_2": (0.7467, 1.4675, 1.4619),
}


@pytest.mark.parametrize("name", TABLE)
def test_reference_table(name):
    function, shape, expected = TABLE[name]
    found = [function(shape, t, 1.0).llc for t in (1e2, 1e4, 1e6, 1e10)]
    assert found == pytest.approx(expected, abs=6e-5)
    at = function(shape, 1e4, 1.0)
    two_temperatures = 2 * function(shape, 5e3, 1.0).llc - at.llc
    found = function(shape, 1e4, 100.0).llc, at.heat_capacity, two_temperatures
    assert found == pytest.approx(MORE[name], abs=6e-5)


@pytest.mark.parametrize("name", TABLE)
def test_scaling_law_of_homogeneous_potentials(name):
    """Degree four: the value depends on `t / localization^2` only."""
    function, shape, _ = TABLE[name]
    first, second = function(shape, 1e3, 2.0), function(shape, 4e3, 4.0)
    assert first == pytest.approx(second, rel=1e-6)


def test_reduced_rank_does_not_know_input_from_output():
    assert quadrature.reduced_rank((1, 2, 3), 1e3, 1.0) == pytest.approx(
        quadrature.reduced_rank((3, 2, 1), 1e3, 1.0)
    )


def test_quadratic_is_a_special_case():
    expected = quadrature.quadratic(np.ones(3), 50.0, 7.0)
    radial = quadrature.radial(3, 2, 0.5, nbeta=50.0, localization=7.0)
    line = quadrature.even_line(lambda w: w**2 / 2, 50.0, 7.0)
    assert radial == pytest.approx(expected, rel=1e-9)
    assert 3 * line.llc == pytest.approx(expected.llc, rel=1e-9)


@pytest.mark.parametrize("nbeta", [1e-2, 1.0, 1e6, 1e12])
def test_homogeneous_without_localization(nbeta):
    found = quadrature.radial(5, 6, 2.0, nbeta=nbeta, localization=0.0)
    assert found == pytest.approx((5 / 6, 5 / 6), rel=1e-9)


def brute_force(nbeta, localization):
    """The Gaussian policy with one mean parameter, on a plain two-dimensional grid."""
    shift = np.linspace(-6, 6, 1201)[:, None]
    scale = np.linspace(-2, 6, 1601)
    energy = nbeta * (shift**2 * np.exp(-2 * scale) / 2 + scale + np.exp(-2 * scale) / 2 - 0.5)
    weight = -energy - localization * (shift**2 + scale**2) / 2
    return quadrature.average(weight, energy)


@pytest.mark.parametrize(("nbeta", "localization"), [(5.0, 1.0), (0.5, 3.0), (40.0, 0.5)])
def test_gaussian_policy_equals_brute_force(nbeta, localization):
    found = quadrature.gaussian_policy(1, nbeta, localization)
    assert found == pytest.approx(brute_force(nbeta, localization), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: quadrature.quadratic(np.ones(2), 0.0, 1.0), "nbeta"),
        (lambda: quadrature.quadratic(np.ones(2), 1.0, -1.0), "localization"),
        (lambda: quadrature.crossing((1, 1), 1.0, 0.0), "localization"),
        (lambda: quadrature.reduced_rank((5, 3, 5), 1.0, 1.0), "widths"),
        (lambda: quadrature.gaussian_policy(2, 1.0, 0.0), "nbeta"),
        (lambda: quadrature.even_line(np.square, 1.0, 0.0), "localization"),
    ],
)
def test_bad_input_is_named(call, name):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        call()

"""Aoyagi's learning coefficients: published vectors, closed cases, brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from toy_models import deep_linear

VECTORS = [  # estimation reference, 3.1: widths, rank, llc, multiplicity
    ((5, 3, 5), 0, 6.5, 2),
    ((5, 4, 5), 0, 8.0, 1),
    ((4, 3, 8), 0, 6.0, 1),
    ((8, 3, 4), 0, 6.0, 1),
    ((3, 8, 4), 0, 6.0, 1),
    ((10, 6, 10), 3, 35.0, 2),
    ((8, 10, 12, 8), 4, 31.5, 1),
    ((20, 15, 25, 15, 20, 10), 5, 84.5, 2),
]


@pytest.mark.parametrize(("widths", "rank", "llc", "multiplicity"), VECTORS)
def test_published_vectors(widths, rank, llc, multiplicity):
    assert deep_linear.deep_linear_llc(widths, rank) == (llc, multiplicity)


def reduced_rank_llc(inputs, hidden, out, rank):
    """Aoyagi and Watanabe 2005, by cases."""
    m, h, n, r = inputs, hidden, out, rank
    if m + h < n + r:
        return (h * m - h * r + n * r) / 2, 1
    if n + h < m + r:
        return (h * n - h * r + m * r) / 2, 1
    if m + n < h + r:
        return m * n / 2, 1
    value = -((h + r) ** 2) - m**2 - n**2 + 2 * (h + r) * (m + n) + 2 * m * n
    odd = (m + h + n + r) % 2
    return (value + odd) / 8, 1 + odd


def test_two_layers_are_reduced_rank_regression():
    for widths in itertools.product(range(1, 9), repeat=3):
        for rank in range(min(widths) + 1):
            found = deep_linear.deep_linear_llc(widths, rank)
            assert found == reduced_rank_llc(*widths, rank), (widths, rank)


def chosen_by_definition(excess):
    """Every subset that satisfies the published conditions, as sorted lists."""
    found = []
    for size in range(2, len(excess) + 1):
        for subset in itertools.combinations(range(len(excess)), size):
            inner = [excess[i] for i in subset]
            outer = [excess[i] for i in range(len(excess)) if i not in subset]
            most, least = max(inner), min(outer, default=np.inf)
            conditions = (
                most < least,
                sum(inner) >= (size - 1) * most,
                sum(inner) < (size - 1) * least if outer else True,
            )
            if all(conditions):
                found.append(sorted(inner))
    return found


@given(st.lists(st.integers(0, 9), min_size=2, max_size=7))
def test_prefix_rule_finds_the_unique_subset(excess):
    by_definition = chosen_by_definition(excess)
    assert len(by_definition) == 1
    assert deep_linear._smallest(sorted(excess)) == by_definition[0]


@given(st.permutations((4, 5, 7, 9, 6)))
def test_zero_map_does_not_know_the_order_of_layers(widths):
    assert deep_linear.deep_linear_llc(widths, 0) == deep_linear.deep_linear_llc((4, 5, 6, 7, 9), 0)


@pytest.mark.parametrize(("index", "curvature"), [(0, 2.0), (1, 3.0)])
def test_block_teacher_has_the_stated_curvature_and_rank(index, curvature):
    problem = deep_linear.benchmark_nets()[index]
    flat, unravel = ravel_pytree(problem.params)
    gradient = jax.jit(jax.grad(problem.potential))(problem.params)
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient)) < 1e-15
    hessian = jax.jit(jax.hessian(lambda vector: problem.potential(unravel(vector))))(flat)
    eigenvalues = np.linalg.eigvalsh(hessian)
    assert eigenvalues[-1] == pytest.approx(curvature, rel=1e-9)
    widths, rank = [((10, 6, 10), 3), ((8, 10, 12, 8), 4)][index]
    expected = rank * (widths[0] + widths[-1] - rank)
    assert np.sum(eigenvalues > 1e-9) == expected
    # rank/2 <= llc <= rank/2 + (parameters - rank)/4 holds at every point.
    assert expected / 2 <= problem.llc <= expected / 2 + (flat.size - expected) / 4


def test_parameters_are_counted_as_published():
    sizes = [ravel_pytree(problem.params)[0].size for problem in deep_linear.benchmark_nets()]
    assert sizes == [120, 296, 1550]


@pytest.mark.parametrize(
    ("widths", "rank", "name"), [((3,), 0, "widths"), ((3, 0), 0, "widths"), ((3, 2), 3, "rank")]
)
def test_bad_input_is_named(widths, rank, name):
    with pytest.raises(ValueError, match=f"^{name}: got"):
        deep_linear.deep_linear_llc(widths, rank)

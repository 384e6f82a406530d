"""The benchmark of deep linear networks: its data, what is known of its truth, its scores."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import deep_linear, deep_linear_page
from benchmarks.deep_linear_truth import bounds, hessian_rank, intervals, partial_ranks
from toy_models.deep_linear import deep_linear_llc, product


def small_net(number=0):
    """A network of the smallest class with few examples."""
    net = deep_linear.random_net("1K", number)
    return dataclasses.replace(net, num_examples=30_000)


def test_moments_stand_for_the_loss_on_all_data():
    net = small_net()
    layers = [layer.astype(np.float64) for layer in net.layers()]
    moved = [layer + 0.1 for layer in layers]
    potential = deep_linear.potential_of(layers, deep_linear.second_moments(net))
    difference = np.asarray(product(moved)) - np.asarray(product(layers))
    x = np.concatenate(list(net.inputs()))
    assert x.shape == (30_000, net.widths[0]) and np.abs(x).max() <= 10
    on_data = np.mean((x @ difference.T) ** 2)
    assert float(potential(tuple(map(jnp.asarray, moved)))) == pytest.approx(on_data, rel=1e-9)
    assert float(potential(tuple(map(jnp.asarray, layers)))) == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("number", range(6))
def test_layers_have_the_ranks_they_say_and_products_the_generic_ones(number):
    net = small_net(number)
    layers = [layer.astype(np.float64) for layer in net.layers()]
    found = tuple(int(np.linalg.matrix_rank(layer, tol=1e-5)) for layer in layers)
    assert found == net.layer_ranks
    ranks = partial_ranks(net.widths, net.layer_ranks)
    whole = np.linalg.svd(np.asarray(product(layers)), compute_uv=False)
    assert int(np.sum(whole > 1e-6 * whole[0])) == ranks[0, -1]
    assert intervals(ranks).min() >= 0


def test_classes_stay_in_their_ranges_and_reduce_half_of_the_ranks():
    nets = [deep_linear.random_net("10K", number) for number in range(60)]
    widths = [w for net in nets for w in net.widths]
    assert min(widths) >= 5 and max(widths) <= 100
    assert all(2 <= len(net.layer_ranks) <= 10 for net in nets)
    reduced = [
        rank < min(pair)
        for net in nets
        for rank, *pair in zip(net.layer_ranks, net.widths, net.widths[1:], strict=False)
    ]
    assert abs(np.mean(reduced) - 0.5) < 3 * 0.5 / np.sqrt(len(reduced))


def local_value(widths, first, second):
    """Local value of two layers of ranks `first` and `second` in general position."""
    fan_in, hidden, fan_out = widths
    rank = min(first, second)
    rest = (fan_in - first, hidden - first - second + rank, fan_out - second)
    regular = fan_out * first + rank * (fan_in - first) + (fan_in - first) * (second - rank)
    return regular / 2 + (deep_linear_llc(rest, 0)[0] if min(rest) > 0 else 0.0)


SMALL = st.integers(1, 12)


@given(SMALL, SMALL, SMALL, st.data())
def test_two_layers_have_the_published_local_value(fan_in, hidden, fan_out, data):
    first = data.draw(st.integers(0, min(fan_in, hidden)))
    second = data.draw(st.integers(0, min(hidden, fan_out)))
    found = bounds((fan_in, hidden, fan_out), (first, second))
    assert found.half_codimension == local_value((fan_in, hidden, fan_out), first, second)
    assert found.lower <= found.half_codimension


@given(st.lists(st.integers(1, 6), min_size=3, max_size=5), st.data())
def test_bounds_are_in_order(widths, data):
    ranks = [data.draw(st.integers(0, min(pair))) for pair in zip(widths, widths[1:], strict=False)]
    found = bounds(widths, ranks)
    assert found.lower <= found.half_codimension
    assert (
        found.half_codimension <= sum(a * b for a, b in zip(widths, widths[1:], strict=False)) / 2
    )


@pytest.mark.parametrize("number", range(3))
def test_rank_of_the_hessian_is_that_of_the_derivative_of_the_product(number):
    generator = np.random.default_rng(number)
    widths, ranks = (4, 5, 3, 4), [(2, 3, 1), (4, 1, 3), (3, 2, 3)][number]
    layers = [
        generator.standard_normal((b, r)) @ generator.standard_normal((r, a))
        for a, b, r in zip(widths, widths[1:], ranks, strict=False)
    ]
    columns = []
    for place in range(3):
        left = np.asarray(product([*layers[place + 1 :], np.eye(4)]))
        right = np.asarray(product([np.eye(4), *layers[:place]]))
        columns.append(np.kron(left, right.T))
    derivative = np.concatenate(columns, axis=1)
    assert hessian_rank(partial_ranks(widths, ranks)) == np.linalg.matrix_rank(derivative)


def test_order_preservation_of_planted_faults():
    truths = [1.0, 2.0, 3.0, 3.0]
    assert deep_linear_page.order_preservation([1.1, 1.9, 3.2, 2.8], truths) == 1.0
    # Of five pairs of different truth one is in the wrong order, then three cannot be compared.
    assert deep_linear_page.order_preservation([2.1, 1.9, 3.2, 2.8], truths) == pytest.approx(0.8)
    assert deep_linear_page.order_preservation([None, 1.9, 3.2, 2.8], truths) == pytest.approx(0.4)
    assert deep_linear_page.order_preservation([1.0, 2.0], [1.0, 1.0]) is None


def row(estimate, lowest=10.0, half_rank=9.0, half_codimension=10.0):
    return {
        "case": "1K/0",
        "estimate": estimate,
        "reference": lowest,
        "reference_sem": 0.1,
        "sem": 0.1,
        "parameters": 5,
        "bound_lowest": lowest,
        "bound_half_rank": half_rank,
        "bound_half_codimension": half_codimension,
        "verdict": "trusted",
        "regime": "plateau",
        "gradients": 1,
        "seconds": 1.0,
    }


def test_errors_are_told_from_the_bounds_on_the_local_value():
    assert deep_linear_page.error_to_local(row(11.0)) == pytest.approx(0.1)
    assert deep_linear_page.error_to_local(row(11.0, half_codimension=12.0)) == 0
    assert deep_linear_page.error_to_local(row(15.0, half_codimension=12.0)) == pytest.approx(0.25)
    assert deep_linear_page.error_to_local(row(None)) == np.inf
    assert deep_linear_page.error_to_lowest(row(11.0, half_codimension=12.0)) == pytest.approx(0.1)


def test_checks_see_planted_faults():
    sound = [row(x, x, x, x) for x in (10.0, 20.0, 30.0)]
    assert all(check.held for check in deep_linear_page.make_page("1K", None, sound).checks)
    for fault in (row(None, 40.0), row(25.0, 40.0, 40.0, 40.0)):
        held = [
            check.held for check in deep_linear_page.make_page("1K", None, [*sound, fault]).checks
        ]
        assert not held[1] and not all(held)
    wrong = [row(1.2 * x, x, x, x) for x in (10.0, 20.0, 30.0)]
    checks = deep_linear_page.make_page("1K", None, wrong).checks
    assert not checks[0].held and not checks[4].held
    assert np.isnan(deep_linear_page.error_to_reference(row(11.0) | {"reference": None}))
    unknown = [x | {"reference": None} for x in wrong]
    assert not deep_linear_page.make_page("1K", None, unknown).checks[4].held


def test_references_are_joined_by_net_and_missing_ones_are_none():
    found = [row(11.0) | {"case": f"1K/{number}", "key": 0} for number in range(2)]
    known = {("1K/1", 0): {"reference": 11.5, "reference_sem": 0.2, "reference_ess": 90.0}}
    without, joined = deep_linear.with_references(found, known)
    assert without["reference"] is None and without["estimate"] == 11.0
    assert (joined["reference"], joined["reference_sem"]) == (11.5, 0.2)
    assert np.isnan(deep_linear_page.error_to_reference(without))
    assert deep_linear_page.error_to_reference(joined) == pytest.approx(0.5 / 11.5)


def test_a_given_localization_has_a_page_of_its_own():
    automatic = deep_linear_page.make_page("1K", None, [row(10.0)])
    given_one = deep_linear_page.make_page("1K", 10.0, [row(10.0)])
    assert automatic.name == "deep_linear_1K"
    assert given_one.name == "deep_linear_1K_localization_10"
    assert "localization is 10" in given_one.abstract and "is 10" not in automatic.abstract


def test_references_stand_at_the_localization_of_the_estimate():
    net = small_net(1)
    known = deep_linear.measure_reference(net, None, localization=None, num_sweeps=8)
    same = deep_linear.measure_reference(net, None, localization=10.0, num_sweeps=8)
    weaker = deep_linear.measure_reference(net, None, localization=1e4, num_sweeps=8)
    assert deep_linear.automatic_localization(net) == 10.0 and known == same
    assert weaker["reference"] < 0.9 * known["reference"]


def test_references_have_a_page_that_says_how_far_they_are_from_the_published_value():
    known = {"1K/0": {"parameters": 5, "bound_lowest": 12.5}}
    found = [{"case": "1K/0", "reference": 10.0, "reference_sem": 0.1, "reference_ess": 50.0}]
    page = deep_linear_page.make_references_page(found, label="1K", localization=10.0, known=known)
    assert page.name == "deep_linear_1K_references_10"
    assert page.tables[0].rows[0] == pytest.approx((0.2, 0.2, 0.2))
    assert page.tables[1].rows[0][-1] == pytest.approx(-0.2)
    automatic = deep_linear_page.make_references_page(
        found, label="1K", localization=None, known=known
    )
    assert automatic.name == "deep_linear_1K_references_automatic"

"""What is observed on real chains, and the learning coefficient of a component."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
from slt_rl import observables, responses

KEY = jax.random.key(8)
RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 3))
Y = X @ np.array([1.0, -2.0, 0.5]) + 0.5 * RNG.standard_normal(20)
DATA = {"x": X, "y": Y}
CENTER = np.linalg.lstsq(X, Y, rcond=None)[0]
NBETA, LOCALIZATION = 40.0, 5.0


def squared_error(params, examples):
    return 0.5 * (examples["x"] @ params - examples["y"]) ** 2


def test_bayesian_influence_on_sampled_chains():
    """The whole path: sample, observe two things at once, take covariances."""
    losses_fn = observables.per_example_losses(squared_error)

    def observe_fn(params, data):
        return losses_fn(params, data), params

    result = slt_rl.estimate_llc(
        KEY,
        squared_error,
        CENTER,
        DATA,
        nbeta=NBETA,
        localization=LOCALIZATION,
        sampler=slt_rl.KineticLangevin(0.15, 2.0),
        num_draws=8000,
        num_burnin=256,
        observe_fn=observe_fn,
        observe_every=4,
    )
    losses, params = result.observations
    assert losses.shape == (8, 2000, 20)
    np.testing.assert_allclose(losses, 0.5 * (params @ X.T - Y) ** 2, rtol=1e-9)
    found = responses.bayesian_influence(losses, params)
    precision = NBETA * X.T @ X / 20 + LOCALIZATION * np.eye(3)
    exact = (Y - X @ CENTER)[:, None] * np.linalg.solve(precision, X.T).T
    assert np.abs((found.value - exact) / found.sem).max() < 4.5
    assert found.sem.max() < 0.1 * np.abs(exact).max()


def test_losses_of_examples_and_groups():
    weights = np.linspace(0.5, 1.5, 20)
    data = slt_rl.Dataset(jax.tree.map(jnp.asarray, DATA), weights)
    params = jnp.array([0.3, 0.1, -0.2])
    losses = np.asarray(squared_error(params, data.examples))
    np.testing.assert_allclose(observables.per_example_losses(squared_error)(params, data), losses)
    few = observables.per_example_losses(squared_error, np.array([4, 1]))
    np.testing.assert_allclose(few(params, data), losses[[4, 1]])
    groups = {"early": np.arange(5), "late": np.arange(5, 20)}
    found = observables.group_losses(squared_error, groups)(params, data)
    np.testing.assert_allclose(found["early"], np.mean((weights * losses)[:5]))
    np.testing.assert_allclose(5 * found["early"] + 15 * found["late"], 20 * data.mean(losses))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: observables.per_example_losses(squared_error, [3, 20]),
            "indices: expected indices of the 20 examples, got 20",
        ),
        (
            lambda: observables.group_losses(squared_error, {"a": [1], "b": [25, 2]}),
            r"groups\['b'\]: expected indices of the 20 examples, got 25",
        ),
    ],
)
def test_examples_that_the_data_do_not_have_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        slt_rl.estimate_llc(KEY, squared_error, CENTER, DATA, observe_fn=make())


def test_functions_made_twice_are_equal_so_that_nothing_compiles_twice():
    for make in (
        lambda: observables.per_example_losses(squared_error, [1, 2]),
        lambda: observables.group_losses(squared_error, {"a": [1, 2], "b": np.array([3])}),
    ):
        assert make() == make()
        assert hash(make()) == hash(make())


PARAMS = {"first": {"w": jnp.ones((2, 2)), "b": jnp.zeros(2)}, "second": jnp.array([1.0, -1.0])}


def network_loss(params, examples):
    hidden = jnp.tanh(examples @ params["first"]["w"] + params["first"]["b"])
    target = jnp.tanh(examples @ jnp.ones((2, 2))) @ jnp.array([1.0, -1.0])
    return 0.5 * (hidden @ params["second"] - target) ** 2


INPUTS = RNG.standard_normal((50, 2))


def only_second(params, examples):
    """The model without the frozen weights: a linear one, written by hand."""
    hidden = jnp.tanh(examples @ jnp.ones((2, 2)))
    return 0.5 * (hidden @ (params - jnp.array([1.0, -1.0]))) ** 2


def test_weight_refined_llc_is_that_of_the_model_without_the_frozen_weights():
    loss_fn, free = observables.restrict(network_loss, PARAMS, lambda path: "second" in path)
    assert list(free) == ["['second']"]
    options = {"nbeta": 50.0, "localization": 3.0, "num_draws": 400, "num_burnin": 128}
    options["sampler"] = slt_rl.KineticLangevin(0.1, 1.0)
    refined = slt_rl.estimate_llc(KEY, loss_fn, free, INPUTS, **options)
    alone = slt_rl.estimate_llc(KEY, only_second, PARAMS["second"], INPUTS, **options)
    assert refined.mean == pytest.approx(alone.mean, rel=1e-9)
    hidden = np.tanh(INPUTS @ np.ones((2, 2)))
    stiff = 50.0 * np.linalg.eigvalsh(hidden.T @ hidden / 50)
    exact = 0.5 * np.sum(stiff / (stiff + 3.0))
    assert abs(refined.mean - exact) < 4 * refined.sem


@pytest.mark.parametrize("num_examples", [20, 10])
def test_data_refined_llc_is_exact_and_says_that_the_center_is_no_minimum(num_examples):
    """Fewer examples in the posterior and in the loss have their minimum `v` beside the center.

    U is quadratic with its minimum at `v + u`, between the two:
    llc = nbeta/2 (tr H Sigma + u'Hu - d'Hd), d = w* - v.
    """
    subset = jax.tree.map(lambda leaf: leaf[:num_examples], DATA)
    result = slt_rl.estimate_llc(
        KEY, squared_error, CENTER, subset, nbeta=NBETA, localization=LOCALIZATION
    )
    hessian = subset["x"].T @ subset["x"] / num_examples
    away = CENTER - np.linalg.lstsq(subset["x"], subset["y"], rcond=None)[0]
    covariance = np.linalg.inv(NBETA * hessian + LOCALIZATION * np.eye(3))
    pulled = LOCALIZATION * covariance @ away
    shift = pulled @ hessian @ pulled - away @ hessian @ away
    exact = NBETA / 2 * (np.trace(hessian @ covariance) + shift)
    assert abs(result.mean - exact) < 4 * result.sem
    assert result.sem < 0.03 * NBETA * np.trace(hessian @ covariance)
    named = any("the center is not a minimum" in flag for flag in result.flags)
    assert named == (num_examples < 20), (result.mean, result.flags)


@pytest.mark.parametrize("as_function", [False, True])
def test_masks_select_leaves_and_parts_of_leaves(as_function):
    row = np.array([[True, True], [False, False]])
    mask = {"first": {"w": row, "b": False}, "second": np.array([False, True])}
    by_path = {"['first']['w']": row, "['first']['b']": False, "['second']": mask["second"]}
    chosen = by_path.__getitem__ if as_function else mask
    loss_fn, free = observables.restrict(network_loss, PARAMS, chosen)
    assert {path: leaf.shape for path, leaf in free.items()} == {
        "['first']['w']": (2,),
        "['second']": (1,),
    }
    moved = {"['first']['w']": jnp.array([3.0, 4.0]), "['second']": jnp.array([5.0])}
    full = {
        "first": {"w": jnp.array([[3.0, 4.0], [1.0, 1.0]]), "b": jnp.zeros(2)},
        "second": jnp.array([1.0, 5.0]),
    }
    np.testing.assert_array_equal(loss_fn(moved, INPUTS), network_loss(full, INPUTS))


def test_restriction_of_traced_centers_gives_a_refined_curve():
    def make_target(params):
        # The component is one weight; the other scales its curvature.
        loss_fn, _ = observables.restrict(
            lambda w: 0.5 * (w["scale"] * w["u"]) ** 2, params, {"scale": False, "u": True}
        )
        return lambda w: loss_fn({"['u']": w["u"]})

    checkpoints = {"scale": jnp.array([1.0, 3.0]), "u": jnp.zeros(2)}
    curve = slt_rl.llc_curve(
        KEY,
        make_target,
        checkpoints,
        nbeta=10.0,
        localization=10.0,
        sampler=slt_rl.KineticLangevin(0.1, 2.0),
        num_draws=4000,
        num_burnin=128,
    )
    for estimate, exact in zip(curve.estimates, (0.25, 0.45), strict=True):
        assert abs(estimate.mean - exact) < 4 * estimate.sem
        assert estimate.sem < 0.05


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"first": {"w": False, "b": False}, "second": False}, "mask: selects none of the param"),
        (lambda path: False, "mask: selects none of the parameters"),
        ({"first": False, "second": True}, "mask: expected the tree of params"),
        (
            {"first": {"w": np.ones(2, bool), "b": True}, "second": True},
            r"mask\['first'\]\['w'\]: expected a bool or a boolean array of shape \(2, 2\)",
        ),
        (
            {"first": {"w": 1, "b": True}, "second": True},
            r"mask\['first'\]\['w'\]: expected a bool",
        ),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        observables.restrict(network_loss, PARAMS, mask)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({}, "groups: expected at least one group"),
        ({"a": []}, r"groups\['a'\]: expected a non-empty list"),
        ({"a": [0.5]}, r"groups\['a'\]: expected a non-empty list"),
        ({"a": [-1]}, r"groups\['a'\]: expected a non-empty list"),
    ],
)
def test_groups_without_members_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        observables.group_losses(squared_error, groups)

"""The exact losses of the toy model against independent forms, data, and derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from toy_models import superposition as tms

from . import form_a

seeds = st.integers(0, 2**31 - 1)
features = st.sampled_from([1, 4, 6])  # few shapes: each is compiled once
population_loss = jax.jit(tms.population_loss)
population_kl = jax.jit(tms.population_kl)


def random_params(seed, count, scale=1.0):
    rng = np.random.default_rng(seed)
    return {"W": scale * rng.normal(size=(2, count)), "b": rng.normal(size=count)}


@given(seed=seeds, count=features)
def test_closed_form_equals_lemma(seed, count):
    params = random_params(seed, count)
    expected = form_a.lemma_loss(params["W"], params["b"])
    assert float(population_loss(params)) == pytest.approx(expected, rel=1e-12)
    host = tms.population_loss_host(params["W"], params["b"])
    assert host == pytest.approx(expected, rel=1e-12)


@given(seed=seeds, count=features)
def test_closed_form_equals_quadrature(seed, count):
    params = random_params(seed, count)
    rng = np.random.default_rng(seed + 1)
    probabilities = rng.dirichlet(np.ones(count))
    amplitudes, output_weights = rng.uniform(0.2, 3, (2, count))
    found = population_loss(
        params, probabilities, amplitudes, output_weights=jnp.asarray(output_weights)
    )
    expected = form_a.quadrature_loss(
        params["W"], params["b"], probabilities, amplitudes, output_weights
    )
    assert abs(float(found) - expected) < 1e-9 * max(1, expected)


def loss_along(t, params, direction):
    return tms.population_loss(jax.tree.map(lambda p, d: p + t * d, params, direction))


slope_along = jax.jit(jax.grad(loss_along))


@given(seed=seeds)
def test_gradient_equals_central_difference(seed):
    lines = random_params(seed, 6), random_params(seed + 7, 6)
    points = (jax.tree.map(lambda p, d, t=t: p + t * d, *lines) for t in (1e-5, -1e-5))
    above, below = (float(population_loss(point)) for point in points)
    found = float(slope_along(0.0, *lines))
    assert found == pytest.approx((above - below) / 2e-5, rel=1e-5, abs=1e-7)


def test_zero_weights_have_finite_derivatives():
    params = {"W": jnp.zeros((2, 3)), "b": jnp.array([-0.5, 0.0, 0.5])}
    derivatives = (
        jax.jit(jax.grad(population_loss))(params),
        jax.jit(jax.hessian(population_loss))(params),
    )
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(derivatives))


@pytest.mark.parametrize("label", ["5", "5+", "6"])
def test_loss_and_gradient_hold_in_single_precision(label):
    exact = tms.critical_point(tms.parse_class(label), 6)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), exact)
    value, gradient = jax.jit(jax.value_and_grad(tms.population_loss))(params)
    assert value.dtype == jnp.float32
    # A sum of terms that cancel: rounding is that of the loss without any reconstruction.
    terms = float(tms.population_loss(jax.tree.map(jnp.zeros_like, exact)))
    rounding = float(np.finfo(np.float32).eps) * terms
    assert float(value) == pytest.approx(tms.level(tms.parse_class(label), 6), abs=rounding)
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient)) < 2e-7


def test_loss_is_the_mean_over_data():
    key_params, key_data = jax.random.split(jax.random.key(3))
    params = {
        "W": jax.random.normal(key_params, (2, 6)),
        "b": jnp.array([-0.5, 0.3, -0.1, 0.2, -1.0, 0.0]),
    }
    probabilities = jnp.array([0.3, 0.1, 0.1, 0.1, 0.2, 0.2])
    amplitudes = jnp.array([1.0, 2.0, 0.5, 1.0, 1.5, 1.0])
    examples = tms.sample_examples(
        key_data, 200_000, 6, probabilities=probabilities, amplitudes=amplitudes
    )
    losses = tms.example_loss(params, examples)
    error = jnp.mean(losses) - tms.population_loss(params, probabilities, amplitudes)
    assert abs(float(error)) < 4 * float(jnp.std(losses)) / 200_000**0.5


def test_sparse_and_dense_outputs_agree():
    params = jax.tree.map(jnp.asarray, random_params(0, 6))
    examples = tms.sample_examples(jax.random.key(0), 100, 6)
    dense = tms.dense_inputs(examples, 6)
    np.testing.assert_allclose(
        tms.outputs(params, examples), tms.forward(params, dense), atol=1e-14
    )
    expected = np.sum((np.asarray(dense) - tms.forward(params, dense)) ** 2, axis=1)
    np.testing.assert_allclose(tms.example_loss(params, examples), expected, atol=1e-13)


@given(seed=seeds, count=features)
def test_kl_equals_quadrature(seed, count):
    params, reference = random_params(seed, count), random_params(seed + 1, count)
    if seed % 2:  # near the reference the break points nearly coincide
        reference = {k: v + 0.01 * reference[k] for k, v in params.items()}
    found = float(population_kl(params, reference, 0.3))
    assert found == pytest.approx(form_a.quadrature_kl(params, reference, 0.3), rel=1e-10)


@pytest.mark.parametrize("label", ["4", "5", "5+", "6"])
def test_kl_vanishes_at_its_reference(label):
    reference = tms.critical_point(tms.parse_class(label), 6)
    value, gradient = jax.jit(jax.value_and_grad(tms.population_kl))(reference, reference, 0.1)
    assert float(value) == 0.0
    assert all(bool(jnp.all(leaf == 0)) for leaf in jax.tree.leaves(gradient))


@pytest.fixture(scope="module")
def curvature():
    """Flat coordinates, the Hessian of the KL at its reference, and the Jacobian of the outputs."""
    _, unravel = ravel_pytree(tms.critical_point(tms.PhaseClass(6), 6))

    def kl(vector, reference):
        return tms.population_kl(unravel(vector), unravel(reference), 1.0)

    jacobian = jax.jacobian(lambda vector, x: tms.forward(unravel(vector), x))
    return jax.jit(jax.hessian(kl)), jax.jit(jax.vmap(jacobian, (None, 0)))


@pytest.mark.parametrize("label", ["5", "5+", "6"])
def test_hessian_of_the_kl_is_the_mean_squared_jacobian(label, curvature):
    """`sigma^2 Hess K = E[J^T J]`, by Gauss-Legendre between all break points of one feature."""
    hessian_fn, jacobian_fn = curvature
    reference = tms.critical_point(tms.parse_class(label), 6)
    flat = ravel_pytree(reference)[0]
    gram = np.asarray(reference["W"].T @ reference["W"])
    nodes, rule = np.polynomial.legendre.leggauss(4)
    inputs, weights = [], []
    for i in range(6):
        with np.errstate(divide="ignore"):
            breaks = -np.asarray(reference["b"]) / gram[i]
        # Padded to one number of pieces, of width zero, so that one compilation serves all.
        edges = np.sort([0.0, *np.clip(breaks, 0, 1), 1.0])
        widths = np.diff(edges)[:, None]
        points = edges[:-1, None] + widths * (nodes + 1) / 2
        inputs.append(points.ravel()[:, None] * np.eye(6)[i])
        weights.append((widths / 2 * rule).ravel() / 6)
    jacobian = jacobian_fn(flat, np.concatenate(inputs))
    expected = np.einsum("n,nij,nik->jk", np.concatenate(weights), jacobian, jacobian)
    np.testing.assert_allclose(hessian_fn(flat, flat), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda p: tms.population_loss({"W": p["W"], "b": p["b"][1:]}), "params"),
        (lambda p: tms.population_loss(p, jnp.ones(5)), "probabilities"),
        (lambda p: tms.population_loss(p, None, jnp.ones((6, 1))), "amplitudes"),
        (lambda p: tms.population_loss(p, output_weights=jnp.ones(7)), "output_weights"),
        (lambda p: tms.population_kl(p, p, 0.0), "sigma"),
        (lambda p: tms.sample_examples(jax.random.key(0), 0, 6), "num_examples"),
    ],
)
def test_bad_input_is_named(call, name):
    params = tms.critical_point(tms.PhaseClass(6), 6)
    with pytest.raises(ValueError, match=f"^{name}: (expected .*, )?got"):
        call(params)

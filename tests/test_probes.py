"""Curvatures where chains are, on all examples or on some that stand for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
from slt_rl import chains, probes
from slt_rl.data import as_dataset
from slt_rl.jaxprs import equations_of

NUM = 4000
INPUTS = np.random.default_rng(0).normal(size=(NUM, 3)) * [3.0, 1.0, 0.5]


def squared_error(params, inputs):
    return 0.5 * (inputs @ params) ** 2


@pytest.mark.parametrize("num_examples", [NUM, 500])
def test_some_examples_stand_for_all(num_examples):
    number = jnp.asarray(1.0)
    target = chains.constant_target(squared_error)
    problem = chains.Problem(target, jnp.zeros((1, 3)), as_dataset(INPUTS), number, number)
    anchors = chains.find_anchors(jax.random.key(0), problem, num_iterations=0)
    sizes = {"num_iterations": 20, "num_examples": num_examples}
    ends = jnp.zeros((1, 1, 3))
    found = probes.judged_curvatures(jax.random.key(1), problem, anchors, ends=ends, **sizes)()[0]
    exact = np.linalg.eigvalsh(INPUTS.T @ INPUTS / NUM)[-1]
    # The variance of a squared normal number is twice its squared mean; 500 of NUM, none twice.
    error = 4 * (2 / 500 * (1 - 500 / NUM)) ** 0.5 if num_examples == 500 else 1e-6
    np.testing.assert_allclose(found, np.full((1, 2), exact), rtol=error)
    assert (num_examples == 500) == (abs(float(found[0, 0]) / exact - 1) > 1e-4)


def test_center_and_ends_are_judged_by_their_hessians():
    def quartic(params):
        return params[0] ** 2 + jnp.sum(params**4)

    number, center = jnp.asarray(1.0), jnp.array([[0.5, 0.0, 1.0]])
    problem = chains.Problem(chains.constant_target(quartic), center, None, number, number)
    anchors = chains.find_anchors(jax.random.key(1), problem, num_iterations=0)
    assert np.isnan(anchors.curvature).all() and np.isnan(anchors.gradient_curvature).all()
    ends = jnp.array([[[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    sizes = {"num_iterations": 60, "num_examples": 10}
    call = probes.judged_curvatures(jax.random.key(2), problem, anchors, ends=ends, **sizes)
    largest, along = call()
    np.testing.assert_allclose(largest, [[12.0, 50.0, 12.0]], rtol=1e-6)
    gradient, diagonal = np.array([1.5, 0.0, 4.0]), np.array([5.0, 0.0, 12.0])
    exact = gradient**2 @ diagonal / (gradient @ gradient)
    np.testing.assert_allclose(along, [exact], rtol=1e-6)
    # The product along the gradient is not in the loop, where all the ends would take it too.
    loops = [
        e for e in equations_of(call.func.trace(*call.args).jaxpr) if e.primitive.name == "scan"
    ]
    products = {e.params["length"]: e.outvars[-1].aval.shape for e in loops}
    assert products == {60: (60, 1, 3)}


@pytest.mark.parametrize("control_variate", [False, True])
def test_noise_is_that_of_the_gradient_the_sampler_takes(control_variate):
    number, centers = jnp.asarray(1.0), jnp.ones((1, 3))
    data, target = as_dataset(INPUTS), chains.constant_target(squared_error)
    problem = chains.Problem(target, centers, data, number, number)
    noise = probes.gradient_noise(
        jax.random.key(1),
        problem,
        chains.find_anchors(jax.random.key(0), problem, num_iterations=0),
        sampler=slt_rl.SGLD(1e-3, control_variate),
        positions=centers[:, None],
        batch_size=16,
    )()
    # At the center a control variate leaves none.
    assert (float(noise[0]) < 1e-20) == control_variate

"""Minibatch values are paired with losses at the center that were computed once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_rl import chains
from slt_rl.data import Dataset
from slt_rl.posterior import batch_dependence, minibatch_oracle

KEY = jax.random.key(2)


def squared_error(params, examples):
    return (examples["x"] @ params - examples["y"]) ** 2


def make_posterior(weights, loss_fn=squared_error):
    generator = np.random.default_rng(0)
    examples = {"x": generator.standard_normal((50, 3)), "y": generator.standard_normal(50)}
    data = Dataset(jax.tree.map(jnp.asarray, examples), weights)
    centers = jnp.asarray(generator.standard_normal((1, 3)))
    problem = chains.Problem(
        chains.constant_target(loss_fn), centers, data, jnp.float64(7.0), jnp.float64(2.0)
    )
    anchors = jax.tree.map(lambda x: x[0], chains.find_anchors(KEY, problem))
    numbers = chains.numbers_of(problem, anchors)._replace(centers=centers[0])
    return chains.posterior_of(problem.make_target, numbers)


@pytest.mark.parametrize("weighted", [False, True])
def test_value_is_the_paired_difference_on_the_same_examples(weighted):
    weights = jnp.linspace(0.0, 2.0, 50) if weighted else None
    posterior = make_posterior(weights)
    params = posterior.center + 0.3
    value, _ = minibatch_oracle(posterior, 8)(KEY, params)
    batch = posterior.data.take(jax.random.randint(KEY, (8,), 0, 50))
    excess = squared_error(params, batch.examples) - squared_error(posterior.center, batch.examples)
    expected = 7.0 * batch.mean(excess) + 0.5 * 2.0 * 3 * 0.3**2
    assert float(value) == pytest.approx(float(expected), rel=1e-12)


def test_the_center_is_not_evaluated_again():
    evaluations = []

    def counted(params, examples):
        evaluations.append(examples["y"].shape)
        return squared_error(params, examples)

    posterior = make_posterior(None, counted)
    evaluations.clear()
    jax.make_jaxpr(minibatch_oracle(posterior, 8))(KEY, posterior.center)
    assert evaluations == [(8,)]


def test_dependence_on_the_batch_is_the_relative_change_in_halves():
    """Known for a loss divided by its batch: twice as large in each half. Rounding is far below."""
    data = Dataset(jnp.linspace(-1.0, 2.0, 101, dtype=jnp.float32))
    params = jnp.zeros(1, jnp.float32)

    def loss_fn(w, x):
        return (x * w[0] - x) ** 2

    def found(loss_fn, data=data):
        return float(jax.jit(batch_dependence, static_argnums=0)(loss_fn, data, params))

    assert found(loss_fn) < 1e-6
    assert found(lambda w, x: loss_fn(w, x) / len(x)) == pytest.approx(1.0, rel=1e-5)
    # The smallest example is in one of the halves only.
    assert found(lambda w, x: loss_fn(w, x) - jnp.min(x)) > 0.1
    # At the center all of these losses are zero.
    assert found(lambda w, x: (x * w[0]) ** 2 * jnp.mean(x)) > 0.1
    assert found(lambda w, x: jnp.mean(x) + 0 * x, Dataset(jnp.ones(1))) == 0.0

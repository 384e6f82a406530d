"""What estimators sample: weights of drifting amplitudes, of episodes, and what noise does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from slt_rl.difficulty import targets
from slt_rl.difficulty.acting import act
from slt_rl.difficulty.protocol import ACTION_SCALE, EPISODE, FULL
from slt_rl.difficulty.rungs import ladder_rungs
from slt_rl.rl import per_decision_regret
from toy_models import superposition as tms
from toy_models import superposition_rungs as rungs

RUNGS = {rung.number: rung for rung in ladder_rungs()}
POINT = tms.critical_point(tms.PhaseClass(6), 6)


def test_weights_carry_a_buffer_to_smaller_amplitudes():
    """Means over the weighted buffer are those of the current law."""
    found = targets.reweighted_inputs(jax.random.key(0), RUNGS[7], "6", protocol=FULL)
    law = RUNGS[7].laws["6"]
    last, amplitude = found.examples["feature"] == 5, found.examples["amplitude"]
    weights = np.asarray(found.weights)
    assert float(jnp.max(jnp.where(last & (found.weights > 0), amplitude, 0))) <= law.amplitudes[5]
    for values, exact in ((last, 1 / 6), (last * amplitude, law.amplitudes[5] / 12)):
        parts = weights * (np.asarray(values) - exact)
        assert abs(parts.mean()) < 4 * parts.std() / np.sqrt(parts.size)


@pytest.fixture(scope="module")
def batch():
    key_inputs, key_act = jax.random.split(jax.random.key(0))
    met = rungs.sample_law(key_inputs, 40_000, rungs.uniform_law(6))
    return act(key_act, POINT, met, baseline_fn=jnp.mean)


def moved(size):
    direction = np.random.default_rng(1).normal(size=(2, 6))
    return POINT | {"W": POINT["W"] + size * direction / np.linalg.norm(direction)}


def test_where_the_sum_comes_last_a_weight_for_each_reward_is_that_of_the_episode(batch):
    loss_fn, data = targets.trajectory_data(jax.tree.map(lambda x: x[:400], batch))
    per_decision, _ = per_decision_regret(loss_fn.policy, data)
    w = moved(0.05)
    np.testing.assert_allclose(loss_fn(w, data.examples), per_decision(w, data.examples), rtol=1e-9)


def test_episodes_pay_the_regret_of_a_step_and_lose_weights_with_their_length(batch):
    """The mean is unbiased; of independent steps the second moment of weights is a power."""
    loss_fn, data = targets.trajectory_data(batch)
    w = moved(0.02)
    losses = np.asarray(loss_fn(w, data.examples))
    exact = float(tms.population_loss(w) - tms.population_loss(POINT))
    # The baseline is the mean reward; the loss at the center is measured with the same actions.
    losses = losses - np.asarray(loss_fn(POINT, data.examples))
    assert abs(losses.mean() - exact) < 4 * losses.std() / np.sqrt(losses.size)
    squares = np.asarray(loss_fn.importance_weights(w, data.examples)) ** 2
    distance = tms.outputs(w, batch.observation) - tms.outputs(POINT, batch.observation)
    step = np.exp(np.sum(np.asarray(distance) ** 2, axis=1) / ACTION_SCALE**2)
    sem = np.hypot(
        squares.std() / np.sqrt(squares.size),
        EPISODE * step.mean() ** (EPISODE - 1) * step.std() / np.sqrt(step.size),
    )
    assert abs(squares.mean() - step.mean() ** EPISODE) < 4 * sem


def test_a_late_sum_multiplies_the_noise_by_a_known_amount(batch):
    """Of the gradient at the center, in the direction of the parameters of the policy.

    With `T` steps to an episode, `g = -(1/T) (sum s_t) (sum A_t)`, where scores `s` and advantages
    `A` of different steps are independent with mean zero:

        T E|g|^2 = E|s|^2 A^2 + (T - 1) E|s|^2 Var A

    with `E|s|^2` the trace of the Hessian of the divergence. The first term is that of steps
    paid at once.
    """
    loss_fn, data = targets.trajectory_data(batch)
    examples = data.examples

    def squared_gradient(example):
        one = jax.tree.map(lambda x: x[None], example)
        gradient = jax.grad(lambda w: loss_fn(w, one)[0])(POINT)
        return jnp.sum(ravel_pytree(gradient)[0] ** 2)

    late = EPISODE * np.asarray(jax.jit(jax.vmap(squared_gradient))(examples))
    flat, unravel = ravel_pytree(POINT)
    hessian = jax.jit(jax.hessian(lambda w: tms.population_kl(unravel(w), POINT, ACTION_SCALE)))
    scores = float(jnp.trace(hessian(flat)))
    advantage = np.asarray(batch.advantage)

    def squared_score(example, action):
        def log_prob(w):
            mean = tms.outputs(w, example)
            return -jnp.sum((action - mean) ** 2) / (2 * ACTION_SCALE**2)

        return jnp.sum(ravel_pytree(jax.grad(log_prob)(POINT))[0] ** 2)

    squares = np.asarray(jax.jit(jax.vmap(squared_score))(batch.observation, batch.action))
    at_once = squares * advantage**2
    exact = at_once.mean() + (EPISODE - 1) * scores * advantage.var()
    sem = np.hypot(late.std() / np.sqrt(late.size), at_once.std() / np.sqrt(at_once.size))
    assert abs(late.mean() - exact) < 4 * sem
    assert exact > 1.5 * at_once.mean()
    assert abs(squares.mean() - scores) < 4 * squares.std() / np.sqrt(squares.size)

"""Convolutions have the order of axes that a CPU computes fast, in loops and gradients too."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import slt_rl
from slt_rl import chains
from slt_rl.compilation import LightJit
from slt_rl.convolutions import with_fast_convolutions
from slt_rl.rl import PPO, Categorical, GymnaxEnv, init_runs, run_keys
from slt_rl.rl.train import _advance, advance_call
from tests.rl.counting_env import CountingEnv, CountingParams

KEY = jax.random.key(0)
FAST = {1: "b0f_0io->b0f", 2: "b01f_01io->b01f"}
# Name: layouts of image, kernel and result; shapes of image and kernel; other options.
CASES = {
    "channels last": (("NHWC", "HWIO", "NHWC"), (4, 6, 5, 2), (3, 3, 2, 7), {}),
    "channels first": (("NCHW", "OIHW", "NCHW"), (4, 2, 6, 5), (7, 2, 3, 3), {}),
    "mixed": (("HWNC", "IHOW", "CWNH"), (6, 5, 4, 2), (2, 3, 7, 2), {"padding": "SAME"}),
    "strided": (("NHWC", "HWIO", "NHWC"), (4, 7, 9, 2), (3, 2, 2, 7), {"window_strides": (2, 3)}),
    "dilated": (("NCHW", "OIHW", "NHWC"), (4, 2, 7, 6), (3, 2, 2, 3), {"rhs_dilation": (2, 1)}),
    "groups": (("NHWC", "HWIO", "NHWC"), (4, 6, 5, 6), (3, 3, 2, 9), {"feature_group_count": 3}),
    "one axis": (("NCH", "OIH", "NCH"), (4, 2, 9), (5, 2, 3), {"window_strides": (1,)}),
}


def scanned_gradient(case):
    """Loss and gradients of two convolutions' worth of steps, in a loop; and its arguments."""
    layouts, image, kernel, options = CASES[case]
    options = {"window_strides": (1, 1), "padding": "VALID", "dimension_numbers": layouts} | options

    def loss_fn(x, k):
        return jnp.sum(jnp.sin(jax.lax.conv_general_dilated(x, k, **options)))

    def run(x, k):
        def step(carry, _):
            loss, (dx, dk) = jax.value_and_grad(loss_fn, (0, 1))(*carry)
            return (carry[0] - 0.1 * dx, carry[1] - 0.1 * dk), loss

        return jax.lax.scan(step, (x, k), length=3)

    first, second = jax.random.split(KEY)
    return run, (jax.random.normal(first, image), jax.random.normal(second, kernel))


def layouts_in(program, *arguments):
    """The orders of axes of all convolutions in what XLA has made of a jitted function."""
    text = program.lower(*arguments).compile().as_text()
    lines = (line for line in text.splitlines() if " convolution(" in line)
    return [line.split("dim_labels=")[1].split(",")[0].split()[0] for line in lines]


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_are_the_same_and_the_axes_in_the_fast_order(case):
    run, arguments = scanned_gradient(case)
    fast = jax.jit(with_fast_convolutions(run))
    for one, two in zip(*map(jax.tree.leaves, (fast(*arguments), run(*arguments))), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)
    found = layouts_in(fast, *arguments)
    assert len(found) >= 3
    # XLA makes of groups an axis of their own.
    assert case == "groups" or set(found) == {FAST[arguments[0].ndim - 2]}


def test_without_it_the_gradient_by_a_kernel_is_in_another_order():
    # Were it not so any more, this module could go.
    run, arguments = scanned_gradient("channels last")
    assert set(layouts_in(jax.jit(run), *arguments)) > {FAST[2]}


def test_chains_and_what_compiles_lightly_have_fast_convolutions():
    params = {"k": 0.1 * jax.random.normal(KEY, (3, 3, 2, 4)), "w": jnp.ones(4)}
    data = slt_rl.Dataset(jax.random.normal(KEY, (32, 6, 6, 2)))
    centers = jax.tree.map(lambda x: x[None], params)
    target = chains.constant_target(convolutional_losses)
    problem = chains.Problem(target, centers, data, jnp.float32(10), jnp.float32(10))
    keys, options = chains.center_keys(KEY, 1), {"sampler": slt_rl.SGLD(1e-5), "batch_size": 8}
    anchors = chains.find_anchors(KEY, problem, num_iterations=2)
    state = chains.start_chains(keys, problem, anchors, num_chains=1, **options)
    call = chains.block_call(keys, problem, anchors, state=state, block_length=4, **options)
    assert set(layouts_in(call.func, *call.args, state)) == {FAST[2]}
    looped = LightJit(functools.partial(jax.lax.map, jax.grad(lambda k: jnp.sum(losses_of(k)))))
    assert set(layouts_in(looped, params["k"][None] * jnp.ones((3, 1, 1, 1, 1)))) == {FAST[2]}


def test_training_by_ppo_has_fast_convolutions_and_the_same_numbers():
    sizes = {"num_envs": 4, "num_steps": 8}
    ppo = PPO(policy=seeing_policy, value_fn=seen, optimizer=optax.sgd(0.1), **sizes)
    env, keys = GymnaxEnv(CountingEnv(), CountingParams()), run_keys(KEY, 1)
    states = init_runs(keys, ppo, env, init_fn=seeing_params)
    call = advance_call(keys, ppo, env, states=states, checkpoints=(1,))
    assert set(layouts_in(call.func, *call.args)) == {FAST[2]}
    arguments = keys, ppo, env, states, 1, 1
    plain = jax.jit(inspect.unwrap(_advance), static_argnums=5)
    assert set(layouts_in(plain, *arguments)) > {FAST[2]}
    one, two = (run(*arguments)[0].params for run in (_advance, plain))
    assert float(optax.tree.norm(optax.tree.sub(one, states.params))) > 1e-2
    for a, b in zip(*map(jax.tree.leaves, (one, two)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def seeing_params(key):
    kernel = 0.1 * jax.random.normal(key, (3, 3, 2, 4))
    return {"policy": kernel, "value": kernel}


def seen(kernel, count):
    """The convolution of an image of the count, summed."""
    image = jnp.cos(count * jnp.arange(72.0)).reshape(1, 6, 6, 2)
    numbers = ("NHWC", "HWIO", "NHWC")
    out = jax.lax.conv_general_dilated(image, kernel, (1, 1), "VALID", dimension_numbers=numbers)
    return jnp.mean(jnp.tanh(out))


def seeing_policy(kernel, count):
    return Categorical(jnp.stack([seen(kernel, count), 0.0]))


def losses_of(kernel):
    return convolutional_losses({"k": kernel, "w": jnp.ones(4)}, jnp.ones((8, 6, 6, 2)))


def convolutional_losses(params, images):
    def loss(image):
        numbers = ("NHWC", "HWIO", "NHWC")
        out = jax.lax.conv_general_dilated(
            image[None], params["k"], (1, 1), "VALID", dimension_numbers=numbers
        )
        return jnp.mean(jnp.tanh(out) @ params["w"]) ** 2

    return jax.vmap(loss)(images)


def test_a_function_is_traced_once_with_arguments_that_are_no_arrays():
    traces = []

    def scaled(power, tree, scale, offset):
        traces.append(1)
        return {"x": scale * tree["x"] ** power + offset, "nothing": None}

    run = jax.jit(with_fast_convolutions(scaled, static_argnums=(0,)), static_argnums=0)
    for _ in range(2):
        assert run(2, {"x": jnp.arange(3.0)}, 2.0, 1)["x"].tolist() == [1, 3, 9]
    assert len(traces) == 1

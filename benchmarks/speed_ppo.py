"""Training by PPO, and play alone, beside the reference in one file.

On CartPole and on the toy model of superposition as a bandit.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import single_file_ppo, speed_runs
from slt_rl.agents.agent import PPO_NUMBERS
from slt_rl.rl import PPO, GymnaxEnv, init_runs, reset_envs, rollout, run_keys, train
from slt_rl.rl.cartpole import cartpole_setup
from toy_models.superposition_rl import PPORecipe, superposition_env, superposition_ppo

PyTree = Any
NUM_RUNS = 4
# Numbers that the library's trainer and the reference have by the same name.
SHARED = (*PPO_NUMBERS, "optimizer")


class Training(NamedTuple):
    """A training and the iterations of one measurement.

    Attributes:
        name: Its name in tables.
        ppo: The library's trainer.
        env: The environment.
        init_fn: `key -> params` of one run.
        num_iterations: Iterations of one measurement.
    """

    name: str
    ppo: PPO
    env: GymnaxEnv
    init_fn: Callable[[jax.Array], PyTree]
    num_iterations: int

    @property
    def num_steps(self) -> int:
        """Environment steps of one measurement."""
        return NUM_RUNS * self.num_iterations * self.ppo.batch_size


def trainings(quick: bool) -> tuple[Training, ...]:
    """CartPole, and the toy model of superposition as a contextual bandit."""
    setup, recipe = cartpole_setup(), PPORecipe()
    lengths = (1, 1) if quick else (8, 200)
    return (
        Training("CartPole", setup.ppo, setup.env, setup.init_params, lengths[0]),
        Training(
            "superposition",
            superposition_ppo(recipe),
            superposition_env(),
            recipe.init_params,
            lengths[1],
        ),
    )


def library(training: Training) -> Callable:
    """Returns what trains with the library, its statistics on the host."""
    keys = run_keys(jax.random.key(0), NUM_RUNS)
    ppo, env = training.ppo, training.env
    states = init_runs(keys, ppo, env, init_fn=training.init_fn)

    def run():
        found = train(keys, ppo, env, states=states, checkpoints=(training.num_iterations,))
        return jax.block_until_ready(next(found))

    return run


def reference(training: Training) -> Callable:
    """Returns what trains with the reference."""
    config = _config(training)
    keys = run_keys(jax.random.key(0), NUM_RUNS)

    @jax.jit
    @jax.vmap
    def start(key):
        return single_file_ppo.init(config, key, training.init_fn(key))

    @jax.jit
    @jax.vmap
    def advance(key, carry):
        keys = jax.random.split(key, training.num_iterations)
        step = functools.partial(single_file_ppo.iteration, config)
        return jax.lax.scan(lambda c, k: (step(k, c), None), carry, keys)[0]

    carry = start(keys)
    return lambda: jax.block_until_ready(advance(keys, carry))


def _config(training: Training) -> single_file_ppo.Config:
    """The hyper-parameters of the library's trainer, and its networks as plain functions."""
    ppo, env = training.ppo, training.env
    discrete = training.name == "CartPole"
    outputs = ppo.policy.network if discrete else ppo.policy.mean_fn
    scale = 1.0 if discrete else ppo.policy.scale

    def log_prob(outputs, action):
        if discrete:
            return jax.nn.log_softmax(outputs)[action]
        return -jnp.sum(((action - outputs) / scale) ** 2) / 2

    def sample(key, outputs):
        if discrete:
            return jax.random.categorical(key, outputs)
        return outputs + scale * jax.random.normal(key, outputs.shape)

    return single_file_ppo.Config(
        env=env.environment,
        env_params=env._params(),
        policy=outputs,
        sample=sample,
        log_prob=log_prob,
        entropy=lambda outputs: 0.0,
        value=ppo.value_fn,
        **{name: getattr(ppo, name) for name in SHARED},
    )


def library_play(training: Training) -> Callable:
    """Returns what plays the first policy with the library."""
    ppo, env = training.ppo, training.env
    keys = run_keys(jax.random.key(0), NUM_RUNS)
    params = jax.vmap(training.init_fn)(keys)["policy"]

    @jax.jit
    @jax.vmap
    def play(key, params, batch):
        return rollout(key, ppo.policy, params, env=env, batch=batch, num_steps=ppo.num_steps)

    batch = jax.vmap(lambda key: reset_envs(key, env, ppo.num_envs))(keys)
    return _repeated(training, lambda: play(keys, params, batch))


def reference_play(training: Training) -> Callable:
    """Returns what plays the same policy with the reference, without its values."""
    config = _config(training)._replace(value=lambda params, observation: 0.0)
    keys = run_keys(jax.random.key(0), NUM_RUNS)
    params = jax.vmap(training.init_fn)(keys)
    start = jax.vmap(functools.partial(single_file_ppo.init, config))(keys, params)
    state, observation = start[2:]

    @jax.jit
    @jax.vmap
    def play(key, params, state, observation):
        return single_file_ppo.play(config, key, params, state=state, observation=observation)

    return _repeated(training, lambda: play(keys, params, state, observation))


def _repeated(training: Training, play: Callable) -> Callable:
    """As many rollouts as a measurement of training has."""

    def run():
        for _ in range(training.num_iterations):
            result = play()
        return jax.block_until_ready(result)

    return run


def measure(training: Training, seconds: float) -> dict[str, Any]:
    """Times both trainers; the ratio is of steps per second, the library's over the reference's."""
    runs = {"slt_rl": library(training), "reference": reference(training)}
    sizes = {"num_runs": NUM_RUNS, "num_steps": training.num_steps}
    return {"part": "ppo", **timed_row(training.name, runs, seconds, **sizes)}


def measure_play(training: Training, seconds: float) -> dict[str, Any]:
    """Times play alone, in the same way."""
    runs = {"slt_rl": library_play(training), "reference": reference_play(training)}
    sizes = {"num_runs": NUM_RUNS, "num_steps": training.num_steps}
    return {"part": "rollout", **timed_row(training.name, runs, seconds, **sizes)}


def timed_row(
    name: str, runs: dict[str, Callable], seconds: float, *, num_runs: int, num_steps: int
) -> dict[str, Any]:
    """The library (`slt_rl`) and the reference in turns.

    Args:
        name: Of the training.
        runs: What each runs.
        seconds: For both together.
        num_runs: Runs side by side in each.
        num_steps: Environment steps of one measurement, of all runs together.
    """
    found = speed_runs.take_turns(runs, seconds=seconds)
    times = {run: value.per(num_steps) for run, value in found.items()}
    return {
        "name": name,
        "runs": num_runs,
        "rounds": len(found["slt_rl"].wall),
        "microseconds": times,
        "steps_per_second": {run: 1e6 / value["wall"] for run, value in times.items()},
        "ratio": speed_runs.ratio(found, "reference", "slt_rl"),
    }

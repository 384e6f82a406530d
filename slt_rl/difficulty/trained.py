"""Training on the rungs: many runs of each in one program, and the class of every checkpoint."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.difficulty.protocol import (
    ACTION_SCALE,
    DELAY,
    DISCOUNT,
    EPISODE,
    FULL,
    HIDDEN,
    NUM_FEATURES,
    TAU,
    Protocol,
)
from slt_rl.difficulty.rungs import Rung
from slt_rl.rl import PPO, PPOState, init_runs, linear_schedule, run_keys, train
from slt_rl.validation.training import LEVEL_TOLERANCE
from toy_models import superposition as tms
from toy_models import superposition_rl as bandit
from toy_models import superposition_training as supervised
from toy_models.superposition_difficulty_env import DifficultyEnv
from toy_models.superposition_rungs import Law, drifted_law, uniform_law

# Drift: probability of the last feature in five equal parts of the training. Beyond 0.2926 the dead
# feature of 5+ wakes, below 0.0593 the hexagon ends, and on the way back each stays what it is.
DRIFT = (1 / NUM_FEATURES, 0.4, 1 / NUM_FEATURES, 0.045, 1 / NUM_FEATURES)
# A record is of the class of its shape if so many exact steps of so much descent gain less than the
# tolerance of a level: noise across the valley is gone after them, a slow escape has not begun. On
# the runs of the main run 14 steps find as many transitions as levels do; 30 lose slow escapes
# from 5 to 5+, 8 take for a class what is still under way.
DESCENT_STEPS, DESCENT_RATE = 14, 0.5
# Supervised runs learn from a fixed set of so many examples each, as in the main run.
SUPERVISED_EXAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class TrainingProtocol:
    """Sizes of the training on the rungs.

    Attributes:
        name: Names the protocol.
        estimates: Rungs, seed, and sizes of the estimates along training.
        num_runs: Runs of a rung.
        num_records: Checkpoints of a run, evenly spaced; a multiple of five.
        num_iterations: Iterations of a run by PPO with a critic; `Trainer.slowness` times as many
            on rungs whose rewards say less.
        num_epochs: Epochs of a supervised run.
    """

    name: str
    estimates: Protocol
    num_runs: int = 12
    num_records: int = 40
    num_iterations: int = 1500
    num_epochs: int = 1500


TRAINING = TrainingProtocol(
    "training",
    dataclasses.replace(FULL, num_chains=4, num_draws=300, num_burnin=100, rungs=tuple(range(7))),
)


class Trainer(NamedTuple):
    """How a rung is learned.

    Attributes:
        ppo: The trainer; without a critic, clipping and repeated passes it is REINFORCE.
        env: The environment of the rung.
        slowness: Factor on the number of iterations.
    """

    ppo: PPO
    env: DifficultyEnv
    slowness: float = 1.0


def no_critic(params: Any, observation: Any) -> jax.Array:
    """Zero: the baseline is then the mean over the batch, which normalization subtracts."""
    del params, observation
    return jnp.zeros(())


def trainer_of(number: int) -> Trainer:
    """The trainer of a rung of reinforcement learning, 1 to 6."""
    recipe = bandit.PPORecipe(num_features=NUM_FEATURES, sigma=ACTION_SCALE)
    ppo = bandit.superposition_ppo(recipe)
    plain = bandit.superposition_ppo(dataclasses.replace(recipe, learning_rate=16e-3))
    uniform = uniform_law(NUM_FEATURES)
    return {
        1: Trainer(
            dataclasses.replace(
                plain, value_fn=no_critic, num_epochs=1, num_minibatches=1, clip=jnp.inf
            ),
            DifficultyEnv(uniform),
        ),
        2: Trainer(ppo, DifficultyEnv(uniform)),
        # Longer: in each part of the drift a feature must have time to wake, or to fall silent.
        3: Trainer(ppo, DifficultyEnv(uniform), slowness=2.0),
        4: Trainer(
            dataclasses.replace(ppo, num_envs=256, num_steps=8, discount=0.9),
            DifficultyEnv(uniform, tau=TAU, num_inputs=None),
            slowness=4.0,
        ),
        5: Trainer(
            dataclasses.replace(
                ppo, num_envs=512, num_steps=EPISODE + DELAY, discount=DISCOUNT, gae_lambda=1.0
            ),
            DifficultyEnv(uniform, num_inputs=EPISODE, delay=DELAY),
            slowness=6.0,
        ),
        6: Trainer(ppo, DifficultyEnv(uniform._replace(hidden=jnp.asarray(HIDDEN)))),
    }[number]


def laws_of(number: int, num_records: int) -> tuple[Law, Law]:
    """The law of interactions up to each record, `[record, ...]`, and that of the buffer.

    The buffer lags: it was filled under the law of the part before, and at first under the first.
    """
    hidden = HIDDEN if number == 6 else 0.0
    parts = DRIFT if number == 3 else (1 / NUM_FEATURES,) * len(DRIFT)
    now = np.repeat(parts, num_records // len(DRIFT))
    before = np.repeat((parts[0], *parts[:-1]), num_records // len(DRIFT))
    stack = functools.partial(jax.tree.map, lambda *leaves: jnp.stack(leaves))
    found = [
        [drifted_law(float(p))._replace(hidden=jnp.asarray(hidden)) for p in law]
        for law in (now, before)
    ]
    return stack(*found[0]), stack(*found[1])


def train_rung(
    key: jax.Array, rung: Rung, protocol: TrainingProtocol, *, start: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Trains all runs of a rung.

    Args:
        key: Random key, consumed.
        rung: The rung.
        protocol: Sizes.
        start: Arrays of rung 2, where the runs of rung 3 go on; unused on others.

    Returns:
        `steps` `[record]`; `W`, `b`, `loss` (the exact regret under the law of the record) and
        `labels`, `[run, record, ...]`.
    """
    if rung.number == 0:
        steps, found = _train_supervised(key, protocol)
    else:
        trainer = trainer_of(rung.number)
        keys = run_keys(key, protocol.num_runs)
        states = _start(keys, rung.number, trainer, start)
        steps, found = _train(keys, rung.number, trainer, states, protocol)
    params = {name: np.stack([p[name] for p in found], axis=1) for name in ("W", "b")}
    laws = laws_of(rung.number, protocol.num_records)[0]
    loss, gain = regret_and_gain(rung, params, laws)
    return {
        "steps": np.array(steps),
        **params,
        "loss": loss,
        "gain": gain,
        "labels": labels_of(params, gain, laws),
    }


def _train_supervised(key, protocol: TrainingProtocol):
    recipe = bandit.PPORecipe(num_features=NUM_FEATURES)
    runs = supervised.start_runs(
        key,
        protocol.num_runs,
        NUM_FEATURES,
        num_examples=SUPERVISED_EXAMPLES,
        start_fn=lambda key, _: recipe.init_params(key)["policy"],
    )
    steps, found = [], []
    epochs = linear_schedule(protocol.num_epochs, protocol.num_records)
    for step, state in supervised.train(runs, epochs):
        steps.append(step)
        found.append(jax.tree.map(np.asarray, state.params))
    return steps, found


def _start(keys, number: int, trainer: Trainer, start: Mapping[str, Any]) -> PPOState:
    recipe = bandit.PPORecipe(num_features=NUM_FEATURES)
    if number != 3:
        return init_runs(keys, trainer.ppo, trainer.env, init_fn=recipe.init_params)
    policy = weakest_last({name: start[name][:, -1] for name in ("W", "b")})
    value = jnp.zeros((len(keys), 2 * NUM_FEATURES + 1))
    init = jax.vmap(lambda key, params: trainer.ppo.init(key, trainer.env, params))
    return init(keys, {"policy": policy, "value": value})


def weakest_last(params: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Renumbers the features of each run so that the one with the shortest column comes last.

    As long as features are alike this is a symmetry of everything. It says which one drifts.
    """
    weights, biases = np.asarray(params["W"]), np.asarray(params["b"])
    order = np.argsort(-np.sum(weights**2, axis=-2), axis=-1, kind="stable")
    return {
        "W": jnp.asarray(np.take_along_axis(weights, order[..., None, :], axis=-1)),
        "b": jnp.asarray(np.take_along_axis(biases, order, axis=-1)),
    }


def _train(keys, number: int, trainer: Trainer, states: PPOState, protocol: TrainingProtocol):
    schedule = linear_schedule(
        round(trainer.slowness * protocol.num_iterations), protocol.num_records
    )
    laws = laws_of(number, protocol.num_records)[0]
    found = []
    for record in range(len(schedule)):
        law = jax.tree.map(lambda x, r=record: x[r], laws)
        env = dataclasses.replace(trainer.env, law=law)
        states = _next(train(keys, trainer.ppo, env, states=states, checkpoints=schedule))
        found.append(jax.tree.map(np.asarray, states.params["policy"]))
    return list(schedule), found


def _next(stops: Iterator[tuple[PPOState, Any]]) -> PPOState:
    """The states at the first checkpoint that is not passed yet."""
    return next(stops)[0]


def regret_and_gain(
    rung: Rung, params: Mapping[str, np.ndarray], laws: Law
) -> tuple[np.ndarray, np.ndarray]:
    """Exact regret, and what a short exact descent gains, at `[run, record]`.

    Args:
        rung: The rung, whose exact regret it is.
        params: `{"W": [run, record, 2, c], "b": [run, record, c]}`.
        laws: The law of each record, `[record, ...]`.
    """
    found = _regret_and_gain(rung.regret_fn, jax.tree.map(jnp.asarray, dict(params)), laws)
    return np.asarray(found[0]), np.asarray(found[1])


@functools.partial(jax.jit, static_argnums=0)
def _regret_and_gain(regret_fn, params, laws):
    def one(w, law):
        def step(_, v):
            gradient = jax.grad(regret_fn)(v, w, law)
            return jax.tree.map(lambda p, g: p - DESCENT_RATE * g, v, gradient)

        loss = regret_fn(w, w, law)
        lower = jax.lax.fori_loop(0, DESCENT_STEPS, step, w)
        return loss, loss - regret_fn(lower, w, law)

    return jax.vmap(jax.vmap(one), in_axes=(0, None))(params, laws)


def labels_of(params: Mapping[str, np.ndarray], gain: np.ndarray, laws: Law) -> np.ndarray:
    """The class of every record: that of its shape where a short descent gains little.

    The levels of the main run belong to equal features. Under other laws critical points move, and
    so do their levels; where they stay the two ways to classify agree.
    """
    found = tms.shapes(params, probabilities=np.asarray(laws.probabilities))
    return np.where(np.abs(gain) <= LEVEL_TOLERANCE, found, "transit")

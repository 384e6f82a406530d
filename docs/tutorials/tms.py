"""The toy model of superposition, by supervision and by PPO: the main run in small.

    python docs/tutorials/tms.py [--quick]

Six features are squeezed through two hidden dimensions and rebuilt by a ReLU. Training passes from
one arrangement of the features to another: 5 is a pentagon whose sixth feature is lost, 5+ the same
with a better bias for the lost one, 6 the hexagon. Each is a set of critical points whose loss and
local learning coefficient (LLC) are known, so every number printed can be compared with the truth.

The same model is a contextual bandit: state x, action a ~ N(f(x), sigma^2), reward -|a - x|^2. Its
regret is the supervised loss, so PPO meets the same landscape along another path.

What to look for. At a class the loss is at its level. Under the regret the LLC of a checkpoint that
is not a minimum is refused, with the reason; where it is one, as at 5+, labels and rewards lead to
about the same number. The KL to the checkpoint's own policy has a minimum everywhere, so its LLC is
a curve along the whole training.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import slt_rl
from toy_models.superposition import (
    classify,
    critical_point,
    exact_llc,
    level,
    parse_class,
    population_kl,
    population_loss,
)
from toy_models.superposition_rl import PPORecipe, start_ppo, train_ppo
from toy_models.superposition_training import start_runs, train

NUM_FEATURES = 6
NUM_RUNS = 8
SIGMA = 0.1
NBETA = 1000.0


def ruler(key: jax.Array, names: tuple[str, ...]) -> dict[str, slt_rl.LLCEstimate]:
    """First trust the ruler: the LLC at points where it is known.

    `estimate_llc` is given the loss, the point and the inverse temperature, and nothing else. It
    finds the step size and the length of the chains, and says what it thinks of the result.
    """
    print("class, exact loss, exact LLC; estimate")
    estimates = {}
    for index, name in enumerate(names):
        label = parse_class(name)
        point = critical_point(label, NUM_FEATURES)
        subkey = jax.random.fold_in(key, index)
        estimates[name] = slt_rl.estimate_llc(subkey, population_loss, point, nbeta=1e5)
        exact = exact_llc(label, NUM_FEATURES)[0]
        print(f"\n{name}: {level(label, NUM_FEATURES):.5f}, {exact}\n{estimates[name]}")
    return estimates


def small_start(key: jax.Array, num_features: int) -> dict[str, jax.Array]:
    """Small random columns and no bias: nothing is decided yet."""
    return {"W": 0.3 * jax.random.normal(key, (2, num_features)), "b": jnp.zeros(num_features)}


def by_supervision(key: jax.Array):
    """Plain stochastic gradient descent on labels, all runs in one program.

    Returns:
        Steps `[checkpoint]`, and parameters with leading axes `[checkpoint, run]`.
    """
    runs = start_runs(key, NUM_RUNS, NUM_FEATURES, start_fn=small_start)
    epochs = (8, 16, 32, 48, 64, 96, 128, 256)
    records = list(train(runs, epochs, learning_rate=0.02))
    return np.array([step for step, _ in records]), stack([runs.params for _, runs in records])


def by_ppo(key: jax.Array):
    """PPO on rewards alone: it is shown neither the target nor the loss.

    The policy's mean is the network itself, its spread is fixed, and the critic is learned.

    Returns:
        Iterations `[checkpoint]`, and parameters with leading axes `[checkpoint, run]`.
    """
    recipe = PPORecipe(num_features=NUM_FEATURES, sigma=SIGMA)
    schedule = (50, 100, 200, 300, 400, 600, 800, 1200)
    states = start_ppo(key, recipe, NUM_RUNS)
    records = train_ppo(key, recipe, states, checkpoints=schedule)
    return np.array(schedule), stack([states.params["policy"] for states, _ in records])


def stack(records):
    """Stacks parameters along a new leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *records)


def regret_target(params):
    """The regret of the policy, which for this bandit is the supervised population loss."""
    del params
    return population_loss


def kl_target(params):
    """The divergence from the policy of the checkpoint itself: a minimum wherever training is."""
    return lambda w: population_kl(w, params, SIGMA)


def measure(key: jax.Array, steps, params) -> tuple[slt_rl.LLCCurve, slt_rl.LLCCurve]:
    """The LLC of every checkpoint of a run under the regret and under the KL.

    The KL is a squared distance over `2 sigma^2`; with the inverse factor in `nbeta` both are at
    the same temperature. A curve is compiled once, however many checkpoints it has.
    """
    key_regret, key_kl = jax.random.split(key)
    regret = slt_rl.llc_curve(key_regret, regret_target, params, nbeta=NBETA, steps=steps)
    nbeta = NBETA * 2 * SIGMA**2
    return regret, slt_rl.llc_curve(key_kl, kl_target, params, nbeta=nbeta, steps=steps)


def report(title: str, key: jax.Array, trained, *, every: int) -> np.ndarray:
    """Follows the run that meets most classes; returns the classes `[checkpoint, run]` of all."""
    steps, params = jax.tree.map(lambda leaf: leaf[every - 1 :: every], trained)
    labels = classify(params)
    run = int(np.argmax([len(set(labels[:, i])) for i in range(NUM_RUNS)]))
    followed = jax.tree.map(lambda leaf: leaf[:, run], params)
    losses = jax.vmap(population_loss)(followed)
    regret, kl = measure(key, steps, followed)
    print(f"\n{title}; all runs end at {', '.join(labels[-1])}; run {run}:")
    print(f"{'step':>7} {'class':>8} {'loss':>8}   {'LLC, regret':<26} LLC, KL")
    for i, step in enumerate(steps):
        cells = [f"{c[i].mean:7.2f} +- {c[i].sem:.2f} {c[i].verdict:<9}" for c in (regret, kl)]
        print(f"{step:7d} {labels[i, run]:>8} {losses[i]:8.5f}   {cells[0]:<26} {cells[1]}")
    return labels


def main(*, quick: bool = False) -> dict[str, np.ndarray]:
    """Runs everything, or measures at fewer points; returns the classes met along each training."""
    keys = jax.random.split(jax.random.key(0), 5)
    ruler(keys[0], ("5",) if quick else ("5", "5+", "6"))
    every = 4 if quick else 1
    return {
        "labels": report("trained on labels", keys[1], by_supervision(keys[2]), every=every),
        "rewards": report("trained by PPO", keys[3], by_ppo(keys[4]), every=every),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The toy model of superposition in small.")
    parser.add_argument("--quick", action="store_true", help="measure at fewer points")
    main(quick=parser.parse_args().quick)

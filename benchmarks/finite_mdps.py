"""LLC curves of PPO agents on finite environments under three potentials, with exact regret.

    python -m benchmarks.finite_mdps [--envs SUBSTRING] [--out benchmarks/results]

Writes `finite_mdps.md`, `.json` and `.png`; a run that was killed goes on where it stopped. One
environment takes one to four minutes on a core.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import slt_rl
from benchmarks import finite_mdps_page, pages, rows
from slt_rl.rl import (
    MLP,
    PPO,
    CategoricalPolicy,
    ValueNetwork,
    clipped_adam,
    init_runs,
    log_schedule,
    policy_kl,
    run_keys,
    tabular_regret,
    train,
    value_error,
)
from slt_rl.rl.finite import FiniteEnv, regret_process
from toy_models import finite_envs

PyTree = Any
NBETA, LOCALIZATION = 1_000.0, 10.0
NUM_ENVS, NUM_STEPS, WIDTH, NUM_CHECKPOINTS = 16, 128, 32, 8
NUM_CHAINS, NUM_DRAWS, TOLERANCE = 4, 1_000, 0.1
NUM_EPISODES = 1_000
# Below so many episodes that differ from the commonest, their spread says nothing.
MIN_RARE = 10


@dataclasses.dataclass(frozen=True)
class EnvCase:
    """An environment and what a training on it should reach.

    Attributes:
        name: A unique name.
        build: Makes the environment.
        target: Return to reach.
        num_env_steps: Environment steps of the training.
        discount: Discount of the trainer.
    """

    name: str
    build: Callable[[], FiniteEnv]
    target: float
    num_env_steps: int = 300_000
    discount: float = 0.99

    @property
    def schedule(self) -> tuple[int, ...]:
        """Iterations at which the policy is looked at: the start and a geometric series."""
        num_iterations = self.num_env_steps // (NUM_ENVS * NUM_STEPS)
        return (0, *log_schedule(num_iterations, NUM_CHECKPOINTS - 1))


def cases() -> list[EnvCase]:
    """All environments.

    Targets: the returns that other agents reached in as many steps, to the digits given; where none
    are known, 90 % of the optimal return.
    """
    return [
        EnvCase("Catch", finite_envs.catch, 0.995),
        EnvCase("DeepSea 8", finite_envs.deep_sea, 0.985),
        EnvCase("FrozenLake 4x4", finite_envs.frozen_lake, 0.488),
        EnvCase("UmbrellaChain", finite_envs.umbrella_chain, 0.86),
        EnvCase("MemoryChain", finite_envs.memory_chain, 0.995),
        EnvCase("DiscountingChain 0", finite_envs.discounting_chain, 1.095, 1_000_000, 0.999),
        EnvCase("FourRooms", finite_envs.four_rooms, 0.697),
    ]


def measure(case: EnvCase, key: jax.Array) -> dict[str, Any]:
    """Trains one agent, checks its exact returns by play, and takes three curves."""
    key_train, key_play, key_llc = jax.random.split(key, 3)
    start = time.perf_counter()
    finite = case.build()
    ppo, checkpoints = trained(key_train, finite, case)
    seconds_train = time.perf_counter() - start
    policy_params = checkpoints["policy"]
    exact = jax.jit(jax.vmap(lambda p: finite.exact_return(ppo.policy, p)))(policy_params)
    targets = potentials(finite, ppo)
    return {
        "steps": [NUM_ENVS * NUM_STEPS * n for n in case.schedule],
        "target": case.target,
        "optimal": finite.mdp.optimal_return,
        "uniform_regret": finite.uniform_regret,
        "num_states": finite.mdp.num_states,
        "num_parameters": sum(x.size for x in jax.tree.leaves(policy_params)) // len(exact),
        "exact": np.asarray(exact, np.float64).tolist(),
        "played": played(key_play, finite, ppo.policy, checkpoints=policy_params, exact=exact),
        "seconds_train": seconds_train,
        "curves": {
            name: curve(jax.random.fold_in(key_llc, i), make, checkpoints[part])
            for i, (name, (part, make)) in enumerate(targets.items())
        },
    }


def trained(key: jax.Array, finite: FiniteEnv, case: EnvCase) -> tuple[PPO, PyTree]:
    """The trainer, and parameters with a leading axis `[checkpoint]`."""
    num_inputs, hidden = finite.observations.shape[1], (WIDTH, WIDTH)
    actor = MLP(num_inputs, finite.mdp.num_actions, hidden, output_scale=0.01)
    critic = MLP(num_inputs, 1, hidden)
    ppo = PPO(
        policy=CategoricalPolicy(actor),
        value_fn=ValueNetwork(critic),
        optimizer=clipped_adam(1e-3),
        num_envs=NUM_ENVS,
        num_steps=NUM_STEPS,
        discount=case.discount,
        entropy_weight=0.01,
    )

    def init_fn(key):
        key_actor, key_critic = jax.random.split(key)
        return {"policy": actor.init(key_actor), "value": critic.init(key_critic)}

    keys = run_keys(key, 1)
    states = init_runs(keys, ppo, finite.env, init_fn=init_fn)
    run = train(keys, ppo, finite.env, states=states, checkpoints=case.schedule)
    found = [jax.tree.map(lambda x: x[0], now.params) for now, _ in run]
    return ppo, jax.tree.map(lambda *x: jnp.stack(x), *found)


def potentials(finite: FiniteEnv, ppo: PPO) -> dict[str, tuple[str, Callable]]:
    """Potentials by name: which network they are of, and `params -> exact potential`.

    All states count alike in the divergence and in the value error: they are enumerated, and no
    sample. Regret is in units of the uniform policy's, values in units of the same.
    """
    observations, unit = jnp.asarray(finite.observations), finite.uniform_regret
    small, kept = regret_process(finite.mdp)
    regret = tabular_regret(small, ppo.policy, observations[kept], unit=unit)

    def kl(params):
        loss_fn, data = policy_kl(ppo.policy, params, observations)
        return lambda w: jnp.mean(loss_fn(w, data.examples))

    def value(params):
        targets = jax.vmap(lambda x: ppo.value_fn(params, x))(observations)
        loss_fn, data = value_error(ppo.value_fn, observations, targets)
        return lambda w: jnp.mean(loss_fn(w, data.examples)) / unit**2

    return {
        "KL": ("policy", kl),
        "regret": ("policy", lambda params: regret),
        "value": ("value", value),
    }


def curve(key: jax.Array, make_target: Callable, checkpoints: PyTree) -> dict[str, Any]:
    """One LLC curve as JSON values."""
    start = time.perf_counter()
    found = slt_rl.llc_curve(
        key,
        make_target,
        checkpoints,
        nbeta=NBETA,
        localization=LOCALIZATION,
        num_chains=NUM_CHAINS,
        num_draws=NUM_DRAWS,
        tolerance=TOLERANCE,
        num_threads=1,
    )
    seconds = time.perf_counter() - start
    kept = [rows.estimate_row(estimate) for estimate in found.estimates]
    return {"seconds": seconds, "estimates": kept}


def played(
    key: jax.Array, finite: FiniteEnv, policy: Any, *, checkpoints: PyTree, exact: jax.Array
) -> list[dict[str, float]]:
    """Mean returns of play at every checkpoint, and their deviation from the exact ones."""
    worst, best = return_range(finite)
    found = []
    for number, value in enumerate(np.asarray(exact, np.float64)):
        params = jax.tree.map(lambda x, n=number: x[n], checkpoints)
        key_episodes = jax.random.fold_in(key, number)
        returns = finite.sample_returns(key_episodes, policy, params, num_episodes=NUM_EPISODES)
        returns = np.asarray(returns, np.float64)
        sem = standard_error(returns, float(value), worst, best=best)
        mean = float(returns.mean())
        # Rounding of a reward in single precision.
        difference = max(abs(mean - value) - 1e-6, 0.0)
        found.append({"mean": mean, "sem": sem, "z": difference / sem if sem else 0.0})
    return found


def return_range(finite: FiniteEnv) -> tuple[float, float]:
    """Mean returns of the worst and of the best policy."""
    mdp = finite.mdp
    return -dataclasses.replace(mdp, reward=-mdp.reward).optimal_return, mdp.optimal_return


def standard_error(returns: np.ndarray, exact: float, worst: float, *, best: float) -> float:
    """Standard error of a mean return, also where nearly all episodes are alike.

    Where fewer than ten episodes differ from the commonest, a spread says nothing: instead the
    variance is taken to be `(best - m)(m - worst)`, the largest of any law with mean `m` on that
    range. It is exact where an episode has two outcomes.
    """
    common = np.unique(returns.round(5), return_counts=True)[1].max()
    variance = np.var(returns, ddof=1)
    if len(returns) - common < MIN_RARE:
        variance = max(variance, (best - exact) * (exact - worst), 0.0)
    return float(np.sqrt(variance / len(returns)))


def settings() -> dict[str, Any]:
    """What the rows depend on besides the source."""
    return {
        "nbeta": NBETA,
        "localization": LOCALIZATION,
        "num_chains": NUM_CHAINS,
        "num_draws": NUM_DRAWS,
        "tolerance": TOLERANCE,
        "width": WIDTH,
        "num_episodes": NUM_EPISODES,
    }


def main() -> int:
    """Runs what is missing, then writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envs", default="", help="only names that contain this")
    parser.add_argument("--out", type=Path, default=pages.RESULTS)
    options = parser.parse_args()
    source = rows.source_digest("benchmarks/finite_mdps.py", "slt_rl/rl/potentials/*.py")
    journal = rows.Journal(rows.WORK / "finite_mdps.jsonl", settings(), source)
    chosen = [case for case in cases() if options.envs in case.name]
    found = rows.run_cases(journal, chosen, measure, num_keys=1)
    page = finite_mdps_page.make_page(found, settings())
    # The figure last: the page tells whether the checkout has changes.
    pages.write_page(page, found, {"envs": options.envs} | settings(), folder=options.out)
    finite_mdps_page.save_curves(found, options.out / "finite_mdps.png")
    print("\n".join(str(check) for check in page.checks))
    return 0


if __name__ == "__main__":
    sys.exit(main())

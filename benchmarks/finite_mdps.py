"""LLC curves of PPO agents on finite environments under three potentials, with exact regret.

    python -m benchmarks.finite_mdps [--envs SUBSTRING] [--out benchmarks/results]

Writes `finite_mdps.md`, `.json` and `.png`; a run that was killed goes on where it stopped. One
environment takes one to four minutes on a core.
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable
from typing import Any

import gymnax
import jax
import jax.numpy as jnp
import numpy as np

import slt_rl
from benchmarks import finite_mdps_page, rows, runs
from benchmarks.finite_mdps_agents import NUM_ENVS, NUM_STEPS, WIDTH, Agent, train_gru, train_mlp
from slt_rl.posterior import mean_loss
from slt_rl.rl import GymnaxEnv, log_schedule, policy_kl, tabular_regret, value_error
from slt_rl.rl.finite import FiniteEnv, regret_process
from toy_models import finite_envs

PyTree = Any
NBETA, LOCALIZATION = 1_000.0, 10.0
NUM_CHECKPOINTS = 8
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
        single: Name in gymnax of the environment that shows one observation at a time, if the agent
            has a recurrent core and learns there.
    """

    name: str
    build: Callable[[], FiniteEnv]
    target: float
    num_env_steps: int = 300_000
    discount: float = 0.99
    single: str | None = None

    @property
    def schedule(self) -> tuple[int, ...]:
        """Iterations at which the policy is looked at: the start and a geometric series."""
        num_iterations = self.num_env_steps // (NUM_ENVS * NUM_STEPS)
        return (0, *log_schedule(num_iterations, NUM_CHECKPOINTS - 1))

    def train(self, key: jax.Array, finite: FiniteEnv) -> Agent:
        """One agent; consumes the key."""
        sizes = {"discount": self.discount, "schedule": self.schedule}
        if self.single is None:
            return train_mlp(key, finite, **sizes)
        env = GymnaxEnv(*gymnax.make(self.single))
        _, shown = env.reset(key)
        sizes |= {"num_inputs": shown.size, "num_actions": finite.mdp.num_actions}
        return train_gru(key, env, **sizes)


def cases() -> list[EnvCase]:
    """All environments.

    Targets: the returns that other agents reached in as many steps, to the digits given; where none
    are known, 90 % of the optimal return.
    """
    return [
        EnvCase("Catch", finite_envs.catch, 0.995),
        EnvCase("DeepSea 8", finite_envs.deep_sea, 0.985),
        EnvCase("DeepSea 6", functools.partial(finite_envs.deep_sea, 6), 0.985),
        EnvCase("FrozenLake 4x4", finite_envs.frozen_lake, 0.488),
        EnvCase(
            "FrozenLake 8x8", functools.partial(finite_envs.frozen_lake, "8x8"), 0.373, 1_000_000
        ),
        EnvCase("UmbrellaChain", finite_envs.umbrella_chain, 0.86),
        EnvCase("MemoryChain", finite_envs.memory_chain, 0.995),
        EnvCase("MemoryChain, GRU", finite_envs.memory_chain, 0.995, single="MemoryChain-bsuite"),
        EnvCase("DiscountingChain 0", finite_envs.discounting_chain, 1.095, 1_000_000, 0.999),
        EnvCase(
            "DiscountingChain 2",
            functools.partial(finite_envs.discounting_chain, 2),
            1.095,
            1_000_000,
            0.999,
        ),
        EnvCase("FourRooms", finite_envs.four_rooms, 0.697),
    ]


def measure(case: EnvCase, key: jax.Array) -> dict[str, Any]:
    """Trains one agent, checks its exact returns by play, and takes three curves."""
    key_train, key_play, key_llc = jax.random.split(key, 3)
    start = time.perf_counter()
    finite = case.build()
    agent = case.train(key_train, finite)
    seconds_train = time.perf_counter() - start
    policy_params = agent.checkpoints["policy"]
    exact = jax.jit(jax.vmap(lambda p: finite.exact_return(agent.policy, p)))(policy_params)
    targets = potentials(finite, agent)
    return {
        "steps": [NUM_ENVS * NUM_STEPS * n for n in case.schedule],
        "target": case.target,
        "optimal": finite.mdp.optimal_return,
        "uniform_regret": finite.uniform_regret,
        "num_states": finite.mdp.num_states,
        "num_parameters": sum(x.size for x in jax.tree.leaves(policy_params)) // len(exact),
        "exact": np.asarray(exact, np.float64).tolist(),
        "played": played(key_play, finite, agent.policy, checkpoints=policy_params, exact=exact),
        "seconds_train": seconds_train,
        "curves": {
            name: curve(jax.random.fold_in(key_llc, i), make, agent.checkpoints[part])
            for i, (name, (part, make)) in enumerate(targets.items())
        },
    }


def potentials(finite: FiniteEnv, agent: Agent) -> dict[str, tuple[str, Callable]]:
    """Potentials by name: which network they are of, and `params -> exact potential`.

    All states count alike in the divergence and in the value error: they are enumerated, and no
    sample. Regret is in units of the uniform policy's, values in units of the same.
    """
    observations, unit = jnp.asarray(finite.observations), finite.uniform_regret
    small, kept = regret_process(finite.mdp)
    regret = tabular_regret(small, agent.policy, observations[kept], unit=unit)

    def kl(params):
        return functools.partial(mean_loss, *policy_kl(agent.policy, params, observations))

    def value(params):
        targets = jax.vmap(lambda x: agent.value_fn(params, x))(observations)
        loss_fn, data = value_error(agent.value_fn, observations, targets)
        return lambda w: mean_loss(loss_fn, data, w) / unit**2

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
    parser = runs.parser(__doc__)
    parser.add_argument("--envs", default="", help="only names that contain this")
    options = parser.parse_args()
    sources = "benchmarks/finite_mdps*.py", "slt_rl/rl/potentials/*.py"
    return runs.run(
        rows.open_journal("finite_mdps", settings(), *sources),
        [case for case in cases() if options.envs in case.name],
        measure,
        make_page=lambda found: finite_mdps_page.make_page(found, settings()),
        options=options,
    )


if __name__ == "__main__":
    sys.exit(main())

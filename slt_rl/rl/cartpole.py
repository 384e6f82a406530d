"""The check of the trainer on a problem everybody knows: CartPole-v1 as gymnax ships it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from slt_rl.rl.env import GymnaxEnv
from slt_rl.rl.episodes import Evaluation, evaluate
from slt_rl.rl.networks import MLP, CategoricalPolicy, ValueNetwork
from slt_rl.rl.ppo import PPO, PPOState, PPOStats, clipped_adam
from slt_rl.rl.train import init_runs, linear_schedule, run_keys, train

TIME_LIMIT = 500


class CartPoleSetup(NamedTuple):
    """What a training on CartPole is made of.

    Attributes:
        ppo: Hyper-parameters.
        env: The environment.
        actor: Network of the policy.
        critic: Network of the value function.
        num_iterations: Iterations over which the learning rate is annealed to zero.
    """

    ppo: PPO
    env: GymnaxEnv
    actor: MLP
    critic: MLP
    num_iterations: int

    def init_params(self, key: jax.Array) -> dict[str, Any]:
        """Initial parameters of one run."""
        key_actor, key_critic = jax.random.split(key)
        return {"policy": self.actor.init(key_actor), "value": self.critic.init(key_critic)}

    @property
    def num_env_steps(self) -> int:
        """Environment steps of a whole run."""
        return self.num_iterations * self.ppo.batch_size


def cartpole_setup(*, num_env_steps: int = 250_000) -> CartPoleSetup:
    """Separate actor and critic, 64 x 64 tanh, 32 environments of 64 steps, annealed Adam.

    Each network has its own optimizer: values are near 100, and under a common bound on the norm
    the critic's gradient would drown the actor's.

    Args:
        num_env_steps: Environment steps per run, rounded down to whole iterations.

    Returns:
        The setup.

    Raises:
        ValueError: If there is not a single iteration.
    """
    num_envs, num_steps, num_epochs, num_minibatches = 32, 64, 4, 4
    num_iterations = num_env_steps // (num_envs * num_steps)
    if num_iterations < 1:
        raise ValueError(
            f"num_env_steps: got {num_env_steps}, expected at least {num_envs * num_steps}"
        )
    num_updates = num_iterations * num_epochs * num_minibatches
    optimizers = {
        "policy": clipped_adam(optax.linear_schedule(2e-3, 0, num_updates)),
        "value": clipped_adam(optax.linear_schedule(5e-3, 0, num_updates), max_norm=10.0),
    }
    actor, critic = MLP(4, 2, output_scale=0.01), MLP(4, 1)
    ppo = PPO(
        policy=CategoricalPolicy(actor),
        value_fn=ValueNetwork(critic),
        optimizer=optax.partition(optimizers, {"policy": "policy", "value": "value"}),
        num_envs=num_envs,
        num_steps=num_steps,
        num_epochs=num_epochs,
        num_minibatches=num_minibatches,
    )
    env = GymnaxEnv(*gymnax.make("CartPole-v1"))
    return CartPoleSetup(ppo, env, actor, critic, num_iterations)


def train_cartpole(
    key: jax.Array, setup: CartPoleSetup, *, num_runs: int = 5, num_checkpoints: int = 10
) -> Iterator[tuple[PPOState, PPOStats]]:
    """Trains several runs in one program, yielding at evenly spaced checkpoints."""
    keys = run_keys(key, num_runs)
    states = init_runs(keys, setup.ppo, setup.env, init_fn=setup.init_params)
    checkpoints = linear_schedule(setup.num_iterations, num_checkpoints)
    return train(keys, setup.ppo, setup.env, states=states, checkpoints=checkpoints)


def evaluate_cartpole(
    key: jax.Array,
    setup: CartPoleSetup,
    params: Any,
    *,
    num_episodes: int = 100,
    greedy: bool = False,
) -> np.ndarray:
    """Mean return of fresh, complete episodes of each run, the policy sampled unless greedy.

    Args:
        key: Random key, consumed.
        setup: The setup.
        params: `states.params` of the runs, leading axis `[run]`.
        num_episodes: Episodes per run.
        greedy: Play the most probable action instead of sampling.

    Returns:
        Mean return of each run, `[run]`; at most 500.
    """

    def one(key, policy_params) -> Evaluation:
        return evaluate(
            key,
            setup.ppo.policy,
            policy_params,
            env=setup.env,
            num_episodes=num_episodes,
            max_steps=TIME_LIMIT,
            greedy=greedy,
        )

    num_runs = jax.tree.leaves(params)[0].shape[0]
    episodes = jax.vmap(one)(run_keys(key, num_runs), params["policy"])
    if not bool(jnp.all(episodes.complete)):
        raise ArithmeticError("an episode of CartPole did not end within its time limit")
    return np.asarray(episodes.episode_return, np.float64).mean(axis=1)

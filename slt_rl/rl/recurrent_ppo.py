"""Proximal policy optimization of an agent with memory."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from slt_rl.rl.clipped import ClippedObjective, optimize
from slt_rl.rl.env import Env
from slt_rl.rl.ppo import Batch, PPOState, PPOStats
from slt_rl.rl.recurrent import RecurrentActorCritic
from slt_rl.rl.recurrent_play import RecurrentRollout, recurrent_rollout
from slt_rl.rl.rollout import reset_envs

PyTree = Any


class Windows(NamedTuple):
    """Stretches of play to learn from, each of one environment and of all steps of an iteration.

    Attributes:
        steps: A `Batch` with axes `[time, env]`.
        start: `[time, env]` bool, the observation is the first of its episode.
        hidden: `[env, ...]`, the hidden state before the first step.
    """

    steps: Batch
    start: jax.Array
    hidden: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentPPO(ClippedObjective):
    """`PPO` for an agent with memory; used as `PPO` is by `init_runs` and `train`.

    The objective is that of `PPO`. An example is the window of one environment over the steps of an
    iteration: the network sees it again from the hidden state with which the window began, as it
    was then, and gradients go back through time to the beginning of the window. Values are those of
    play, under the parameters that played.

    Args:
        network: Actor and critic; hashable. The parameters of a run are those of the network.
        optimizer: Any optax transformation of the gradient of the parameters; see `clipped_adam`.
        num_envs: Environments played side by side.
        num_steps: Steps per environment and iteration: the length of a window.
        num_epochs: Passes over the windows of an iteration.
        num_minibatches: Parts into which each pass divides the environments.
        discount: Discount per step.
        gae_lambda: Decay of generalized advantage estimation.
        clip: Half width of the range of ratios.
        entropy_weight: Weight of the entropy bonus, reward per nat.
        value_weight: Weight of the critic's half squared error.
        normalize_advantages: Scale the advantages of an iteration to mean 0 and variance 1.

    Raises:
        ValueError: If a count or a number is out of its range, or minibatches do not divide the
            environments.

    References:
        Schulman et al., "Proximal policy optimization algorithms", arXiv:1707.06347. The stored
        hidden state: Kapturowski et al., "Recurrent experience replay in distributed reinforcement
        learning", ICLR 2019.
    """

    network: RecurrentActorCritic = dataclasses.field(metadata={"static": True})

    def __post_init__(self):
        self.check(self.num_envs, "num_envs")

    def init(self, key: jax.Array, env: Env, params: PyTree) -> PPOState:
        """Starts a run from parameters of the network; consumes the key."""
        envs = reset_envs(key, env, self.num_envs)
        hidden = self.network.initial_hidden(params, self.num_envs)
        return PPOState(params, self.optimizer.init(params), envs, jnp.int32(0), hidden)

    def step(self, key: jax.Array, env: Env, state: PPOState) -> tuple[PPOState, PPOStats]:
        """One iteration: play, then update. Arguments and results are those of `PPO.step`."""
        key_play, key_update = jax.random.split(jax.random.fold_in(key, state.iteration))
        envs, hidden, play, episodes = recurrent_rollout(
            key_play,
            self.network,
            state.params,
            env=env,
            batch=state.envs,
            hidden=state.hidden,
            num_steps=self.num_steps,
        )
        windows, explained = self.make_windows(state.hidden, play)
        params, optimizer_state, losses = self._update(key_update, state, windows)
        state = PPOState(params, optimizer_state, envs, state.iteration + 1, hidden)
        return state, PPOStats(episodes, **losses, explained_variance=explained)

    def make_windows(self, hidden: PyTree, play: RecurrentRollout) -> tuple[Windows, jax.Array]:
        """Adds advantages and value targets to what was played from a hidden state `[env, ...]`.

        Returns:
            The windows, and the share of the targets' variance that the values explain.
        """
        advantages, targets, explained = self.estimate_advantages(
            play, values=play.value, next_values=play.next_value
        )
        steps = Batch(play.observation, play.action, play.log_prob, advantages, targets)
        return Windows(steps, play.start, hidden), explained

    def loss(self, params: PyTree, windows: Windows) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The training loss on some windows, and its parts by the names of `PPOStats`."""
        observation = windows.steps.observation
        seen = self.network.apply(params, windows.hidden, observation, reset=windows.start)
        flat = jax.tree.map(
            lambda x: x.reshape(windows.start.size, *x.shape[2:]), (windows.steps, *seen[1:])
        )
        return self.clipped_loss(flat[0], distribution=flat[1], values=flat[2])

    def _update(self, key: jax.Array, state: PPOState, windows: Windows):
        def minibatches(key):
            order = jax.random.permutation(key, self.num_envs)
            return order.reshape(self.num_minibatches, -1)

        # Windows are picked one minibatch at a time, so that there is never a second copy of all.
        return optimize(
            jax.random.split(key, self.num_epochs),
            (state.params, state.optimizer_state),
            optimizer=self.optimizer,
            loss_fn=lambda params, envs: self.loss(params, pick_windows(windows, envs)),
            minibatches_fn=minibatches,
        )


def pick_windows(windows: Windows, envs: jax.Array) -> Windows:
    """The windows of some environments, given by their numbers."""
    steps, start = jax.tree.map(lambda x: x[:, envs], (windows.steps, windows.start))
    return Windows(steps, start, jax.tree.map(lambda x: x[envs], windows.hidden))

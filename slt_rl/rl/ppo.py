"""Proximal policy optimization: hyper-parameters with pure `init` and `step`; state is separate."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from slt_rl.rl.clipped import ClippedObjective, optimize
from slt_rl.rl.env import Env
from slt_rl.rl.networks import Policy, ValueFn
from slt_rl.rl.rollout import (
    EnvBatch,
    EpisodeSums,
    Rollout,
    reset_envs,
    rollout,
    successor_values,
)

PyTree = Any


class PPOState(NamedTuple):
    """Everything a run needs to go on; a pytree of arrays that can be saved.

    Attributes:
        params: Parameters, for `PPO` `{"policy": ..., "value": ...}`.
        optimizer_state: State of the optax transformation.
        envs: Environments in play, axis `[env]`.
        iteration: `[]` int32, iterations done.
        hidden: Hidden state `[env, ...]` of an agent with memory; None for one without.
    """

    params: PyTree
    optimizer_state: PyTree
    envs: EnvBatch
    iteration: jax.Array
    hidden: PyTree = None


class PPOStats(NamedTuple):
    """What happened in one iteration; scalars, means over all minibatch updates of the iteration.

    Attributes:
        episodes: Number, total return and total length of the episodes that ended.
        policy_loss: Clipped surrogate, in units of (normalized) advantage.
        value_loss: Half the mean squared error of the value function.
        entropy: Mean entropy of the policy, in nats.
        approx_kl: Mean of `(ratio - 1) - log ratio`, estimates KL(old || new) in nats.
        clip_fraction: Share of examples whose ratio is outside the clip range.
        explained_variance: Of the value targets, by the values before the update.
    """

    episodes: EpisodeSums
    policy_loss: jax.Array
    value_loss: jax.Array
    entropy: jax.Array
    approx_kl: jax.Array
    clip_fraction: jax.Array
    explained_variance: jax.Array

    @property
    def mean_return(self) -> jax.Array:
        """Mean return of the episodes that ended in the iteration; NaN where none did."""
        return self.episodes.total_return / self.episodes.num_episodes


class Batch(NamedTuple):
    """Examples of one iteration; every leaf has the leading axis `[n]`, `n = time * env`.

    Attributes:
        observation: What was acted on.
        action: What was done.
        log_prob: Log probability of the action under the policy that acted, in nats.
        advantage: Advantage estimate, normalized if asked for.
        target: Target of the value function; None where only the policy matters.
    """

    observation: PyTree
    action: jax.Array
    log_prob: jax.Array
    advantage: jax.Array
    target: Any = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PPO(ClippedObjective):
    r"""Proximal policy optimization with a clipped objective and a learned critic.

    Each iteration plays `num_steps` steps in `num_envs` environments, estimates advantages `A`, and
    takes `num_epochs * num_minibatches` optimizer steps on

        -E min(r A, clip(r, 1 - clip, 1 + clip) A) + value_weight * E (V - target)^2 / 2
            - entropy_weight * E H,        r = pi(a|s) / pi_old(a|s).

    The loss is a device of training, not a potential: its learning coefficient means nothing.

    Args:
        policy: `(params["policy"], observation) -> distribution` of one observation; hashable.
        value_fn: `(params["value"], observation) -> []` of one observation; hashable.
        optimizer: Any optax transformation of the gradient of `{"policy": ..., "value": ...}`.
            Gradient clipping and annealing belong here: see `clipped_adam`.
        num_envs: Environments played side by side.
        num_steps: Steps per environment and iteration.
        num_epochs: Passes over the examples of an iteration.
        num_minibatches: Parts into which each pass is divided.
        discount: Discount per step.
        gae_lambda: Decay of generalized advantage estimation.
        clip: Half width of the range of ratios.
        entropy_weight: Weight of the entropy bonus, reward per nat.
        value_weight: Weight of the critic's half squared error.
        normalize_advantages: Scale the advantages of an iteration to mean 0 and variance 1.

    Raises:
        ValueError: If a count or a number is out of its range, or minibatches do not divide.

    References:
        Schulman et al., "Proximal policy optimization algorithms", arXiv:1707.06347.
    """

    policy: Policy = dataclasses.field(metadata={"static": True})
    value_fn: ValueFn = dataclasses.field(metadata={"static": True})

    def __post_init__(self):
        self.check(self.batch_size, "num_envs * num_steps")

    def init(self, key: jax.Array, env: Env, params: PyTree) -> PPOState:
        """Starts a run from parameters `{"policy": ..., "value": ...}`; consumes the key."""
        envs = reset_envs(key, env, self.num_envs)
        return PPOState(params, self.optimizer.init(params), envs, jnp.int32(0))

    def step(self, key: jax.Array, env: Env, state: PPOState) -> tuple[PPOState, PPOStats]:
        """One iteration: play, then update.

        Args:
            key: The key of the *run*, the same at every iteration: randomness comes from
                `fold_in(key, state.iteration)`, so that a resumed run repeats itself.
            env: The environment.
            state: From `init` or an earlier step.

        Returns:
            The next state, and what happened.
        """
        key_play, key_update = jax.random.split(jax.random.fold_in(key, state.iteration))
        envs, play, episodes = rollout(
            key_play,
            self.policy,
            state.params["policy"],
            env=env,
            batch=state.envs,
            num_steps=self.num_steps,
            value_fn=functools.partial(self.value_fn, state.params["value"]),
        )
        batch, explained = self.make_batch(state.params["value"], play, envs.observation)
        params, optimizer_state, losses = optimize(
            jax.random.split(key_update, self.num_epochs),
            (state.params, state.optimizer_state),
            optimizer=self.optimizer,
            loss_fn=lambda params, chosen: self.loss(params, self._pick(batch, chosen)),
            minibatches_fn=self._minibatches,
        )
        state = PPOState(params, optimizer_state, envs, state.iteration + 1)
        return state, PPOStats(episodes, **losses, explained_variance=explained)

    def make_batch(
        self, value_params: PyTree, play: Rollout, following: PyTree
    ) -> tuple[Batch, jax.Array]:
        """Adds advantages and value targets to trajectories `[time, env]`, and flattens them.

        Args:
            value_params: Parameters of the value function.
            play: From `rollout` with `value_fn`.
            following: Observations `[env, ...]` to act on after the last step.

        Returns:
            The examples `[n]`, and the share of the targets' variance that the values explain.
        """
        values_of = jax.vmap(functools.partial(self.value_fn, value_params))
        values, last = jax.vmap(values_of)(play.observation), values_of(following)
        done = play.terminated | play.truncated
        advantages, targets, explained = self.estimate_advantages(
            play,
            values=values,
            next_values=successor_values(values, last, cut=play.cut_value, done=done),
        )
        batch = Batch(play.observation, play.action, play.log_prob, advantages, targets)
        flat = jax.tree.map(lambda x: x.reshape(self.batch_size, *x.shape[2:]), batch)
        return flat, explained

    def loss(self, params: PyTree, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The training loss on some examples, and its parts by the names of `PPOStats`."""
        distribution = jax.vmap(lambda x: self.policy(params["policy"], x))(batch.observation)
        values = jax.vmap(lambda x: self.value_fn(params["value"], x))(batch.observation)
        return self.clipped_loss(batch, distribution=distribution, values=values)

    def _minibatches(self, key: jax.Array) -> jax.Array:
        """Numbers of the examples of each minibatch, `[minibatch, n / minibatches]`, at random."""
        return jax.random.permutation(key, self.batch_size).reshape(self.num_minibatches, -1)

    def _pick(self, batch: Batch, chosen: jax.Array) -> Batch:
        """The examples of some numbers: one minibatch at a time, never a second copy of all."""
        if self.num_minibatches == 1:  # A sum does not depend on the order.
            return batch
        return jax.tree.map(lambda x: x[chosen], batch)


def clipped_adam(
    learning_rate: optax.ScalarOrSchedule, *, max_norm: float = 0.5, eps: float = 1e-5
) -> optax.GradientTransformation:
    """Adam on gradients clipped to a global norm, the usual optimizer of PPO.

    Args:
        learning_rate: A number, or an optax schedule over *optimizer* steps, of which an iteration
            takes `num_epochs * num_minibatches`.
        max_norm: Largest norm of the gradient over all parameters.
        eps: Adam's epsilon.
    """
    return optax.chain(optax.clip_by_global_norm(max_norm), optax.adam(learning_rate, eps=eps))

"""Reinforcement learning on the toy model of superposition: policy, potentials, and a PPO recipe.

The mean of the policy is the network itself. The exact return is `-(L(w) + c sigma^2)`, so that the
regret is the supervised loss `L`; the sampled regret on common random numbers is regression with
label noise `sigma`; the divergence from a frozen policy is `E|f - f*|^2 / (2 sigma^2)`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from slt_rl.data import Dataset
from slt_rl.rl import (
    PPO,
    GaussianPolicy,
    GymnaxEnv,
    PPOState,
    PPOStats,
    exact_regret,
    init_runs,
    policy_kl,
    run_keys,
    sampled_regret,
    train,
)
from toy_models.superposition import (
    Examples,
    Params,
    dense_inputs,
    forward,
    outputs,
    population_kl,
    population_loss,
    sample_examples,
)
from toy_models.superposition_env import SuperpositionEnv, reconstruction_reward
from toy_models.superposition_training import wide_bias_start


@dataclasses.dataclass(frozen=True)
class SuperpositionReturn:
    """Exact expected return of the Gaussian policy, `J(w) = -(L(w) + c sigma^2)`.

    Args:
        sigma: Standard deviation of each action coordinate.
    """

    sigma: float

    def __call__(self, params: Params) -> jax.Array:
        """The return `[]`."""
        return -(population_loss(params) + params["b"].shape[-1] * self.sigma**2)


def superposition_regret(sigma: float, num_features: int = 6) -> Callable[[Params], jax.Array]:
    """Exact regret `J* - J(w)` against the best policy of the same noise; equals `L(w)`.

    Args:
        sigma: Standard deviation of each action coordinate.
        num_features: Number of features `c`.

    Returns:
        An exact potential, equal for equal arguments.
    """
    return exact_regret(SuperpositionReturn(sigma), -num_features * sigma**2)


def sparse_policy(sigma: float) -> GaussianPolicy:
    """The policy on sparse inputs `{"feature", "amplitude"}`, cheaper than on dense ones."""
    return GaussianPolicy(outputs, sigma)


def sparse_reward(example: Examples, action: jax.Array) -> jax.Array:
    """`-|a - x|^2` for one sparse input."""
    return reconstruction_reward(dense_inputs(example, action.shape[-1]), action)


def superposition_sampled_regret(
    key: jax.Array, params: Params, sigma: float, *, num_examples: int
) -> tuple[Callable, Dataset]:
    """Regret on sampled inputs and noise, `|f - x|^2 + 2 sigma <z, f - x>` per example.

    Args:
        key: Random key, consumed.
        params: Any parameters with the right number of features; may be traced.
        sigma: Standard deviation of each action coordinate.
        num_examples: Number of examples `n`.

    Returns:
        `(loss_fn, data)`; the mean loss is unbiased for `L`.
    """
    key_inputs, key_noise = jax.random.split(key)
    num_features = params["b"].shape[-1]
    return sampled_regret(
        key_noise,
        sparse_policy(sigma),
        sparse_reward,
        params=params,
        observations=sample_examples(key_inputs, num_examples, num_features),
        best_action_fn=lambda example: dense_inputs(example, num_features),
    )


def superposition_kl(
    reference: Params, examples: Examples, sigma: float
) -> tuple[Callable, Dataset]:
    """Divergence of the policy from its frozen self on given sparse inputs, in nats.

    Args:
        reference: Parameters of the frozen policy; may be traced.
        examples: `{"feature": int [n], "amplitude": [n]}`.
        sigma: Standard deviation of each action coordinate.

    Returns:
        `(loss_fn, data)`; `population_kl` is its exact mean.
    """
    return policy_kl(sparse_policy(sigma), reference, examples)


@dataclasses.dataclass(frozen=True, eq=False)
class ExactScoreSurrogate:
    """Exact mean of the score-function surrogate up to a constant: a *negative control*.

        -E_{pi_ref}[A log pi_w] = -2 E<x - f_ref, f_w> + const = L(w) - E|f_w - f_ref|^2 + const

    It has the gradient of `L` at the reference, and a Hessian from which `2 E[J'J]` is missing.

    Args:
        reference: Parameters of the policy that acted.
    """

    reference: Params

    negative_control = (
        "the score-function surrogate has the right gradient at the behavior policy and the wrong "
        "curvature: its Hessian is indefinite at the minima of the regret"
    )

    def __call__(self, params: Params) -> jax.Array:
        """The surrogate `[]`."""
        return population_loss(params) - population_kl(params, self.reference, np.sqrt(0.5))


@dataclasses.dataclass(frozen=True)
class QuadraticCritic:
    """Critic linear in the fixed features `(1, x, x^2)`: `V(x) = v . (1, x, x^2)`.

    The exact value `-(|x - f(x)|^2 + c sigma^2)` is piecewise quadratic in the amplitude.
    """

    def init(self, num_features: int) -> jax.Array:
        """Zero parameters, `[2 c + 1]`."""
        return jnp.zeros(2 * num_features + 1)

    def __call__(self, params: jax.Array, observation: jax.Array) -> jax.Array:
        """The value `[]` of one dense input."""
        features = jnp.concatenate([jnp.ones(1, observation.dtype), observation, observation**2])
        return features @ params


@dataclasses.dataclass(frozen=True)
class PPORecipe:
    """How the network is trained by PPO; by the defaults all runs settle in 1500 iterations.

    A run starts in one of two ways. Gaussian weights whose scale is itself drawn: small ones grow
    through the 4-gons, large ones fall into pentagons and, seldom, hexagons. Or a 4-gon with biases
    from N(0, 1), some of whose columns are silent; a dead feature of positive bias takes the place
    of a silent column, late and one by one: stages that dwell.

    Attributes:
        num_features: Number of features `c`.
        sigma: Standard deviation of each action coordinate.
        weight_scales: Range of the standard deviation of Gaussian weights, log-uniform.
        bias_scale: Standard deviation of the biases that go with them.
        square_share: Probability of starting from the 4-gon.
        optimizer_fn: `learning_rate -> optax transformation`, for the policy.
        learning_rate: Step of the policy, on normalized advantages.
        critic_learning_rate: Step of the critic's Adam.
        num_envs: Examples per iteration.
        num_epochs: Passes over the examples of an iteration.
        num_minibatches: Parts into which each pass is divided.
        clip: Half width of the range of ratios.
    """

    num_features: int = 6
    sigma: float = 0.1
    weight_scales: tuple[float, float] = (0.5, 1.2)
    bias_scale: float = 0.03
    square_share: float = 0.5
    optimizer_fn: Callable[[float], optax.GradientTransformation] = optax.sgd
    learning_rate: float = 4e-3
    critic_learning_rate: float = 1e-2
    num_envs: int = 512
    num_epochs: int = 2
    num_minibatches: int = 2
    clip: float = 0.2

    def init_params(self, key: jax.Array) -> dict[str, Any]:
        """Initial parameters `{"policy": {"W", "b"}, "value": ...}` of one run."""
        key_square, key_random, key_choice = jax.random.split(key, 3)
        is_square = jax.random.uniform(key_choice) < self.square_share
        policy = jax.tree.map(
            lambda one, other: jnp.where(is_square, one, other),
            self._square_start(key_square),
            self._random_start(key_random),
        )
        return {"policy": policy, "value": QuadraticCritic().init(self.num_features)}

    def _square_start(self, key: jax.Array) -> Params:
        start = wide_bias_start(key, self.num_features)
        # Only dead features of positive bias take the place of silent columns.
        return {"W": start["W"], "b": start["b"].at[4:].set(jnp.abs(start["b"][4:]))}

    def _random_start(self, key: jax.Array) -> Params:
        key_weights, key_biases, key_scale = jax.random.split(key, 3)
        low, high = np.log(self.weight_scales)
        scale = jnp.exp(jax.random.uniform(key_scale, minval=low, maxval=high))
        weights = scale * jax.random.normal(key_weights, (2, self.num_features))
        biases = self.bias_scale * jax.random.normal(key_biases, (self.num_features,))
        return {"W": weights, "b": biases}


@functools.lru_cache(maxsize=16)
def superposition_ppo(recipe: PPORecipe) -> PPO:
    """The trainer of a recipe; the same object for the same recipe, so nothing compiles twice."""
    optimizers = {
        "policy": recipe.optimizer_fn(recipe.learning_rate),
        "value": optax.adam(recipe.critic_learning_rate),
    }
    return PPO(
        policy=GaussianPolicy(forward, recipe.sigma),
        value_fn=QuadraticCritic(),
        optimizer=optax.partition(optimizers, {"policy": "policy", "value": "value"}),
        num_envs=recipe.num_envs,
        num_steps=1,
        num_epochs=recipe.num_epochs,
        num_minibatches=recipe.num_minibatches,
        clip=recipe.clip,
    )


def superposition_env(num_features: int = 6) -> GymnaxEnv:
    """The environment with uniform features, ready for the trainer."""
    environment = SuperpositionEnv(num_features)
    return GymnaxEnv(environment, environment.default_params)


def start_ppo(key: jax.Array, recipe: PPORecipe, num_runs: int) -> PPOState:
    """Starts many runs; run `r` depends on `fold_in(key, r)` only.

    Args:
        key: Random key, the same as given to `train_ppo`.
        recipe: How to train.
        num_runs: Number of runs.

    Returns:
        States with leading axis `[run]`; the network is `states.params["policy"]`.
    """
    return init_runs(
        run_keys(key, num_runs),
        superposition_ppo(recipe),
        superposition_env(recipe.num_features),
        init_fn=recipe.init_params,
    )


def train_ppo(
    key: jax.Array, recipe: PPORecipe, states: PPOState, *, checkpoints: Sequence[int]
) -> Iterator[tuple[PPOState, PPOStats]]:
    """Trains all runs in one program and yields at each checkpoint; see `slt_rl.rl.train`.

    Args:
        key: Random key, the same as at the start.
        recipe: How to train.
        states: From `start_ppo`, or yielded earlier and saved.
        checkpoints: Increasing iteration numbers; those already passed are skipped.

    Yields:
        The states at the checkpoint, and statistics `[run, iteration]` since the one before.

    Example:
        >>> import jax
        >>> recipe, key = PPORecipe(num_envs=8), jax.random.key(0)
        >>> states = start_ppo(key, recipe, 2)
        >>> [int(s.iteration[0]) for s, _ in train_ppo(key, recipe, states, checkpoints=(1, 4))]
        [1, 4]
    """
    return train(
        run_keys(key, states.iteration.shape[0]),
        superposition_ppo(recipe),
        superposition_env(recipe.num_features),
        states=states,
        checkpoints=checkpoints,
    )

"""Small policies whose divergence or regret has an exact learning coefficient."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.data import Dataset
from toy_models import mdps, quadrature
from toy_models.exact import orthonormal_columns
from toy_models.problem import ToyProblem


def gaussian_policy_kl(mean_weights: Sequence[float] = (0.7, -0.2)) -> ToyProblem:
    """KL to the frozen policy ``N(theta* . s, 1)`` of ``N(theta . s, e^(2 l))``, scale learned.

    In each state ``s``, with ``E s s^T = I``,

        loss = 1/2 ((theta - theta*) . s)^2 e^(-2 l) + l + e^(-2 l)/2 - 1/2

    a regular minimum: ``(len(theta) + 1)/2``. The states of a data set are adjusted so that
    ``E_n s s^T = I`` holds exactly; the exact value then holds for every data set.

    Args:
        mean_weights: The frozen ``theta*``.

    Returns:
        The problem.
    """
    truth = np.asarray(mean_weights, float)
    size = truth.size

    def state_kl(params, states):
        shift = (params["theta"] - truth.astype(params["theta"].dtype)) @ states.T
        return shift**2 * jnp.exp(-2 * params["log_scale"]) / 2 + _scale_kl(params["log_scale"])

    def potential(params):
        shift = params["theta"] - truth.astype(params["theta"].dtype)
        scale = jnp.exp(-2 * params["log_scale"])
        return jnp.sum(shift**2) * scale / 2 + _scale_kl(params["log_scale"])

    return ToyProblem(
        name="gaussian_policy_kl",
        kind="rl",
        params={"theta": jnp.asarray(truth), "log_scale": jnp.zeros(())},
        llc=(size + 1) / 2,
        potential=potential,
        loss_fn=state_kl,
        dataset=lambda key, n: Dataset(jnp.asarray(orthonormal_columns(key, n, size))),
        finite_llc=lambda nbeta, localization: (
            quadrature.gaussian_policy(size, nbeta, localization).llc
        ),
    )


def _scale_kl(log_scale: jax.Array) -> jax.Array:
    # expm1 keeps the value exact near zero, where the terms cancel.
    return log_scale + jnp.expm1(-2 * log_scale) / 2


def quadratic_bandit_regret(num_actions: int = 3, target: float = 0.5) -> ToyProblem:
    """Regret of a Gaussian mean ``mu`` when the reward is ``-(a_1 - target)^2``.

    Only the first coordinate matters: the learning coefficient is 1/2 in any dimension.

    Args:
        num_actions: Dimension of the action.
        target: Best first coordinate.

    Returns:
        The problem.
    """
    curvatures = np.array([2.0] + [0.0] * (num_actions - 1))
    return ToyProblem(
        name="quadratic_bandit_regret",
        kind="rl",
        params={"mean": jnp.zeros(num_actions).at[0].set(target)},
        llc=0.5,
        potential=lambda params: (params["mean"][0] - target) ** 2,
        finite_llc=lambda nbeta, localization: (
            quadrature.quadratic(curvatures, nbeta, localization).llc
        ),
    )


def quadratic_bandit_kl(num_actions: int = 3, sigma: float = 0.5) -> ToyProblem:
    """KL to the frozen policy in the bandit of `quadratic_bandit_regret`: all coordinates matter.

    Args:
        num_actions: Dimension of the action.
        sigma: Standard deviation of the policy.

    Returns:
        The problem, of learning coefficient ``num_actions/2``.
    """
    center = np.zeros(num_actions)
    center[0] = 0.5
    curvatures = np.full(num_actions, 1 / sigma**2)
    return ToyProblem(
        name="quadratic_bandit_kl",
        kind="rl",
        params={"mean": jnp.asarray(center)},
        llc=num_actions / 2,
        potential=lambda params: (
            jnp.sum((params["mean"] - center.astype(params["mean"].dtype)) ** 2) / (2 * sigma**2)
        ),
        finite_llc=lambda nbeta, localization: (
            quadrature.quadratic(curvatures, nbeta, localization).llc
        ),
    )


def softmax_bandit_kl(
    probabilities: Sequence[float] = (0.4, 0.3, 0.2, 0.1), name: str = "softmax_bandit_kl"
) -> ToyProblem:
    """KL from a frozen policy over arms to the softmax of logits: ``(arms - 1)/2``.

    A shift common to all logits is a flat direction.

    Args:
        probabilities: The frozen policy.
        name: Name of the problem.

    Returns:
        The problem.

    Raises:
        ValueError: If the probabilities are not positive or do not sum to one.
    """
    frozen = np.asarray(probabilities, float)
    if np.any(frozen <= 0) or abs(frozen.sum() - 1) > 1e-6:
        raise ValueError(f"probabilities: got {probabilities}, expected positive, of sum one")

    def potential(params):
        log_policy = jax.nn.log_softmax(params["logits"])
        weights = frozen.astype(params["logits"].dtype)
        return jnp.sum(weights * (jnp.log(weights) - log_policy))

    return ToyProblem(
        name=name,
        kind="rl",
        params={"logits": jnp.asarray(np.log(frozen))},
        llc=(frozen.size - 1) / 2,
        potential=potential,
        finite_llc=mdps.peaked_value(potential, {"logits": np.log(frozen)}),
    )


def parity_regret(num_steps: int = 4) -> ToyProblem:
    """Regret of a memoryless policy rewarded for an odd number of ones in an even number of steps.

    With ``pi(1) = sigmoid(theta)`` the regret is ``tanh(theta/2)^T / 2``: degenerate of order ``T``
    at the optimum ``theta = 0``, so the learning coefficient is ``1/T``.

    Args:
        num_steps: The even ``T``.

    Returns:
        The problem. Its ``finite_llc`` needs a positive localization.

    Raises:
        ValueError: If the number of steps is not even and positive.
    """
    if num_steps < 2 or num_steps % 2:
        raise ValueError(f"num_steps: got {num_steps}, expected an even number >= 2")

    def regret(theta):
        return np.tanh(theta / 2) ** num_steps / 2

    return ToyProblem(
        name=f"parity_regret_{num_steps}",
        kind="rl",
        params={"theta": jnp.zeros(())},
        llc=1 / num_steps,
        potential=lambda params: jnp.tanh(params["theta"] / 2) ** num_steps / 2,
        finite_llc=lambda nbeta, localization: (
            quadrature.even_line(regret, nbeta, localization).llc
        ),
    )

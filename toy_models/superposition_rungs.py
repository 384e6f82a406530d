"""The toy model of superposition under the difficulties of reinforcement learning, one at a time.

A rung is a law of interactions: features with unequal probabilities or amplitudes (drift),
observations that are sometimes hidden, rewards that are paid late. What the network computes stays
the same, and so the exact regret and the exact divergence of the policy stay in closed form. Two
difficulties are no laws of this kind: visitation that depends on the policy, in
`superposition_visitation`, and memory, in `superposition_memory`.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.optimize import brentq

from toy_models.superposition_critical import PhaseClass, critical_point
from toy_models.superposition_loss import population_kl, population_loss
from toy_models.superposition_model import Examples, Params, outputs, sample_examples

# One step of the continuation along a branch; the steepest part of a branch needs less than 0.01.
BRANCH_STEP = 0.004


class Law(NamedTuple):
    """The law of interactions of a rung.

    Attributes:
        probabilities: Feature probabilities `[c]`.
        hidden: Probability `[]` that the policy sees zero in place of the input.
        scale: Factor `[]` on rewards: `discount^delay` for a reward that is paid late.
        amplitudes: Amplitude ranges `[c]` of the features, `mu ~ U[0, A_i]`.
    """

    probabilities: Any
    hidden: Any
    scale: Any
    amplitudes: Any


def uniform_law(num_features: int = 6, *, hidden: float = 0.0, scale: float = 1.0) -> Law:
    """Equal features.

    Args:
        num_features: Number of features `c`.
        hidden: Probability that the input is hidden from the policy.
        scale: Factor on rewards.
    """
    return drifted_law(1 / num_features, num_features)._replace(
        hidden=jnp.asarray(hidden), scale=jnp.asarray(scale)
    )


def drifted_law(last: float, num_features: int = 6, *, amplitude: float = 1.0) -> Law:
    """The last feature has the probability `last`, the others share the rest equally.

    Args:
        last: Probability of the last feature, in [0, 1].
        num_features: Number of features `c`.
        amplitude: Amplitude range of the last feature; that of the others is one.

    Raises:
        ValueError: If `last` is no probability, or `amplitude` is not positive.
    """
    if not 0 <= last <= 1:
        raise ValueError(f"last: got {last}, expected a probability")
    if not 0 < amplitude < np.inf:
        raise ValueError(f"amplitude: got {amplitude}, expected a positive number")
    others = jnp.full(num_features - 1, (1 - last) / (num_features - 1))
    ranges = jnp.append(jnp.ones(num_features - 1), amplitude)
    return Law(jnp.append(others, last), jnp.asarray(0.0), jnp.asarray(1.0), ranges)


def law_regret(params: Params, law: Law) -> jax.Array:
    """Exact regret of the Gaussian policy under a law, against the best one of the same noise.

        scale [(1 - hidden) sum_i p_i l_i
               + hidden sum_j (p_j A_j^2 / 3 + relu(b_j)^2 - p_j A_j relu(b_j))]

    with `l_i` the squared error on feature `i`: a hidden input makes the policy play `relu(b)`, and
    `E x_j^2 = p_j A_j^2/3`, `E x_j = p_j A_j/2`. The regret is against the policy that knows the
    input.

    Args:
        params: `{"W": [2, c], "b": [c]}`.
        law: The law.

    Returns:
        The regret `[]`, in units of reward.
    """
    seen = population_loss(params, law.probabilities, law.amplitudes)
    played, ranges = jax.nn.relu(params["b"]), law.amplitudes
    blind = jnp.sum(played**2 + law.probabilities * ranges * (ranges / 3 - played))
    return law.scale * ((1 - law.hidden) * seen + law.hidden * blind)


def law_kl(params: Params, reference: Params, law: Law, *, sigma: float) -> jax.Array:
    """Exact divergence of the policy from its frozen self under a law; rewards do not enter.

        (1 - hidden) K(w) + hidden sum_j (relu(b_j) - relu(b*_j))^2 / (2 sigma^2)

    Args:
        params: `{"W": [2, c], "b": [c]}`.
        reference: Parameters of the frozen policy.
        law: The law.
        sigma: Standard deviation of each action coordinate.

    Returns:
        The divergence `[]`, in nats.
    """
    seen = population_kl(
        params, reference, sigma, probabilities=law.probabilities, amplitudes=law.amplitudes
    )
    moved = jax.nn.relu(params["b"]) - jax.nn.relu(reference["b"])
    return (1 - law.hidden) * seen + law.hidden * jnp.sum(moved**2) / (2 * sigma**2)


def sample_law(key: jax.Array, num_examples: int, law: Law) -> Examples:
    """Independent inputs of a law, with what the policy sees of them.

    Args:
        key: Random key, consumed.
        num_examples: Number of inputs `n`.
        law: The law.

    Returns:
        `{"feature": int32 [n], "amplitude": [n], "seen": [n]}`, `seen` zero where the input is
        hidden and one elsewhere.
    """
    key_input, key_seen = jax.random.split(key)
    probabilities = jnp.asarray(law.probabilities)
    size = probabilities.shape[0]
    examples = sample_examples(
        key_input, num_examples, size, probabilities=probabilities, amplitudes=law.amplitudes
    )
    seen = jax.random.uniform(key_seen, (num_examples,)) >= law.hidden
    return {**examples, "seen": seen.astype(examples["amplitude"].dtype)}


def seen_outputs(params: Params, examples: Examples) -> jax.Array:
    """Outputs `[..., c]` of the network at what the policy sees: the input, or zero."""
    observed = examples["amplitude"] * examples["seen"]
    return outputs(params, {"feature": examples["feature"], "amplitude": observed})


def critic_llc(law: Law, nbeta: float, localization: float) -> float:
    """Exact finite-temperature coefficient of the critic that is linear in `(1, x, x^2)`.

    Half the squared value error against the critic's own values is the quadratic
    `v' S v / 2` with `S = E phi phi'`, so that the coefficient is
    `(1/2) sum_k nbeta s_k / (nbeta s_k + localization)`, which tends to half of `2c + 1`.

    Args:
        law: The law of inputs; of it only probabilities and amplitudes enter.
        nbeta: Inverse temperature.
        localization: In 1/parameter^2.
    """
    p, ranges = (np.asarray(x, np.float64) for x in (law.probabilities, law.amplitudes))
    size = p.size
    second = np.zeros((2 * size + 1, 2 * size + 1))
    second[0, 0] = 1.0
    second[0, 1 : size + 1], second[0, size + 1 :] = p * ranges / 2, p * ranges**2 / 3
    second[1 : size + 1, 1 : size + 1] = np.diag(p * ranges**2 / 3)
    second[1 : size + 1, size + 1 :] = np.diag(p * ranges**3 / 4)
    second[size + 1 :, size + 1 :] = np.diag(p * ranges**4 / 5)
    second = np.triu(second) + np.triu(second, 1).T
    stiffness = nbeta * np.linalg.eigvalsh(second)
    return float(0.5 * np.sum(stiffness / (stiffness + localization)))


def sparse_value(params: jax.Array, example: Examples) -> jax.Array:
    """Value `[]` of one sparse input by the critic linear in `(1, x, x^2)`.

    Equal to `superposition_rl.QuadraticCritic` on the dense input, at a sixth of the work.

    Args:
        params: `[2 c + 1]`.
        example: `{"feature": [], "amplitude": []}` and possibly more.
    """
    size = (params.shape[0] - 1) // 2
    amplitude, feature = example["amplitude"], example["feature"]
    line = params[1 + feature] * amplitude
    return params[0] + line + params[1 + size + feature] * amplitude**2


@functools.lru_cache(maxsize=64)
def drifted_point(
    label: PhaseClass, last: float, num_features: int = 6, *, amplitude: float = 1.0
) -> Params:
    """The critical point of a class under `drifted_law(last, amplitude=amplitude)`.

    * The 5-gon is exact for every law.
    * "5+" keeps its live columns; the bias of the dead feature is `last * amplitude / 2`.
    * The hexagon is followed from equal features in small steps by Newton's method.

    Args:
        label: "5", "5+" or "6" for six features: the last is dead, or all are live.
        last: Probability of the last feature.
        num_features: Number of features `c`.
        amplitude: Amplitude range of the last feature.

    Returns:
        `{"W": [2, c], "b": [c]}`.

    Raises:
        ValueError: If the class is another one.
        ArithmeticError: If the hexagon does not exist under this law.
    """
    if label == PhaseClass(num_features):
        return _follow_hexagon(last, num_features, amplitude)
    if label.hull != num_features - 1 or label.negative:
        raise ValueError(f"label: got {label}, expected {num_features - 1}, its + or the full hull")
    point = critical_point(label, num_features)
    if label.positive:
        return {"W": point["W"], "b": point["b"].at[-1].set(last * amplitude / 2)}
    return point


def _follow_hexagon(last: float, num_features: int, amplitude: float) -> Params:
    flat, unravel = ravel_pytree(critical_point(PhaseClass(num_features), num_features))
    start = 1 / num_features
    far = max(abs(last - start), abs(amplitude - 1))
    # Not `arange`: the last stop must be the law that was asked for, to the last digit.
    shares = np.linspace(0, 1, max(1, int(np.ceil(far / BRANCH_STEP))) + 1)[1:]
    derivatives = _derivatives(num_features)
    for share in shares:
        here = start + share * (last - start)
        law = drifted_law(here, num_features, amplitude=1 + share * (amplitude - 1))
        flat = _newton(derivatives, flat, law)
    return unravel(flat)


def _newton(derivatives, flat: jax.Array, law: Law) -> jax.Array:
    for _ in range(30):
        gradient, hessian = (np.asarray(x) for x in derivatives(flat, law))
        if np.abs(gradient).max() < 1e-12:
            values = np.linalg.eigvalsh(hessian)
            if values[0] > -1e-7 * values[-1] and values[1] > 0:
                return flat
            break
        # The rotation of the plane is flat: the pseudo-inverse leaves it alone.
        move = np.linalg.lstsq(hessian, gradient, rcond=1e-7)[0]
        flat = flat - move * min(1.0, 0.3 / np.abs(move).max())
    raise ArithmeticError(
        f"no hexagon that is a minimum at probabilities {law.probabilities} and amplitudes "
        f"{law.amplitudes}"
    )


@functools.lru_cache(maxsize=4)
def _derivatives(num_features: int):
    """Jitted `(flat, law) -> (gradient, Hessian)` of the exact regret."""
    _, unravel = ravel_pytree(critical_point(PhaseClass(num_features), num_features))

    def loss(flat, law):
        return law_regret(unravel(flat), law)

    return jax.jit(lambda flat, law: (jax.grad(loss)(flat, law), jax.hessian(loss)(flat, law)))


def dead_feature_threshold(num_features: int = 6) -> float:
    """Probability of the last feature from which on "5+" is no minimum: the dead feature wakes.

    Where two eigenvalues of the Hessian cross zero: the dead feature's column couples to the live
    ones, so the whole matrix is needed. The rotation of the plane has eigenvalue zero throughout,
    and the sum of the two smallest changes its sign with the others.
    """
    return float(brentq(lambda last: _softest(last, 1.0, num_features), 0.2, 0.4, xtol=1e-10))


def dead_feature_amplitude(last: float = 1 / 6, num_features: int = 6) -> float:
    """Amplitude range of the last feature from which on "5+" is no minimum, as above.

    Args:
        last: Probability of the last feature.
        num_features: Number of features `c`.
    """
    return float(brentq(lambda a: _softest(last, a, num_features), 0.5, 3.0, xtol=1e-10))


def _softest(last: float, amplitude: float, num_features: int) -> float:
    """Sum of the two smallest eigenvalues of the Hessian at "5+"."""
    label, law = (
        PhaseClass(num_features - 1, 1),
        drifted_law(last, num_features, amplitude=amplitude),
    )
    flat, _ = ravel_pytree(drifted_point(label, last, num_features, amplitude=amplitude))
    return float(np.linalg.eigvalsh(_derivatives(num_features)(flat, law)[1])[:2].sum())


def equal_regret(num_features: int = 6) -> float:
    """Probability of the last feature at which "5+" and the hexagon have the same regret."""
    ends = 0.09, 1 / num_features
    return float(brentq(lambda last: _regret_gap(last, 1.0, num_features), *ends, xtol=1e-7))


def equal_regret_amplitude(num_features: int = 6) -> float:
    """Amplitude range of the last of equally frequent features at which these two are level."""
    return float(
        brentq(lambda a: _regret_gap(1 / num_features, a, num_features), 0.7, 1.0, xtol=1e-7)
    )


def _regret_gap(last: float, amplitude: float, num_features: int) -> float:
    """Regret of the hexagon minus that of "5+"."""
    law = drifted_law(last, num_features, amplitude=amplitude)
    labels = PhaseClass(num_features - 1, 1), PhaseClass(num_features)
    points = [drifted_point(c, last, num_features, amplitude=amplitude) for c in labels]
    low, high = (float(law_regret(point, law)) for point in points)
    return high - low


@functools.partial(jax.jit, static_argnames=("num_steps",))
def descend(
    params: Params, law: Law, *, num_steps: int, learning_rate: float = 0.5
) -> tuple[Params, jax.Array]:
    """Gradient descent on the exact regret under a law.

    Args:
        params: Where to start.
        law: The law, held fixed.
        num_steps: Steps.
        learning_rate: Step length.

    Returns:
        The parameters reached and their regret.
    """

    def step(_, w):
        gradient = jax.grad(law_regret)(w, law)
        return jax.tree.map(lambda p, g: p - learning_rate * g, w, gradient)

    found = jax.lax.fori_loop(0, num_steps, step, params)
    return found, law_regret(found, law)

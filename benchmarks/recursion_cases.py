"""Cases of plain SGLD whose values another implementation of the same recursion has published.

Every case fixes the data, the start, the step, the length, and what is averaged. Losses are those
before each step, so the first is the loss at the center; `nbeta = 1000/ln 1000`, full batch of 1000
examples, `LLC = nbeta (mean L - L(w0))`. Losses depend on the data only through second moments, and
so the moments stand for the data exactly.

References:
    Normal crossing and reduced rank regression: test suite of devinterp 1.3.2. Monomials: an
    example of devinterp 2. Values: an independent float64 recursion with 200 chains.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import slt_rl

NUM_EXAMPLES = 1000
NBETA = NUM_EXAMPLES / np.log(NUM_EXAMPLES)


@dataclasses.dataclass(frozen=True)
class RecursionCase:
    """A recursion and its published value.

    Attributes:
        name: A unique name.
        potential: The full-data loss, a function of the second moments of the data.
        params: Where chains start and what the loss is compared with.
        step_size: In the convention of `slt_rl.SGLD`.
        num_draws: Length of the chains, burn-in included.
        num_burnin: Draws that are left out.
        reference: Published mean and its standard error.
        localization: In 1/parameter^2.
        nbeta: Inverse temperature.
        num_chains: Independent chains.
    """

    name: str
    potential: Callable
    params: Any
    step_size: float
    num_draws: int
    num_burnin: int
    reference: tuple[float, float]
    localization: float = 0.0
    nbeta: float = NBETA
    num_chains: int = 200


def measure(case: RecursionCase, key: jax.Array) -> dict[str, Any]:
    """Runs the recursion with the library's SGLD and compares, in combined standard errors.

    Chains that left the finite numbers are counted and left out, as in the published value.
    """
    estimate = slt_rl.estimate_llc(
        key,
        case.potential,
        case.params,
        nbeta=case.nbeta,
        localization=case.localization,
        sampler=slt_rl.SGLD(case.step_size),
        num_chains=case.num_chains,
        num_draws=case.num_draws,
        num_burnin=case.num_burnin,
    )
    chains = estimate.per_chain[np.isfinite(estimate.per_chain)]
    mean, sem = float(chains.mean()), float(chains.std(ddof=1) / np.sqrt(len(chains)))
    reference, reference_sem = case.reference
    return {
        "estimate": mean,
        "sem": sem,
        "chain_sd": sem * np.sqrt(len(chains)),
        "diverged": case.num_chains - len(chains),
        "reference": reference,
        "reference_sem": reference_sem,
        "z": (mean - reference) / float(np.hypot(sem, reference_sem)),
    }


def crossing_data() -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of the normal crossings, `[n]` each."""
    generator = np.random.default_rng(0)
    x = 2 * generator.standard_normal(NUM_EXAMPLES)
    return x, 0.25 * generator.standard_normal(NUM_EXAMPLES)


def crossing(powers: Sequence[int], reference: float, sem: float) -> RecursionCase:
    """Squared error of `x prod w_i^(p_i)` on targets of pure noise, at the origin, no tether."""
    x, y = crossing_data()
    xx, xy, yy = (float(np.mean(product)) for product in (x * x, x * y, y * y))

    def potential(w):
        value = w[0] ** powers[0] * w[1] ** powers[1]
        return yy - 2 * xy * value + xx * value**2

    name = f"crossing {tuple(powers)}"
    return RecursionCase(name, potential, jnp.zeros(2), 4e-4, 5_000, 0, (reference, sem))


def linear_crossing_value(step_size: float = 4e-4) -> float:
    """Exact value of the crossing (0, 1), long chains: `.5/(1 - h/2) - nbeta T^2/S`.

    `S = mean x^2`, `T = mean x y`, `h = step nbeta S`: the minimum of the quadratic is at `T/S`,
    below the loss at the center.
    """
    x, y = crossing_data()
    xx, xy = float(np.mean(x * x)), float(np.mean(x * y))
    return 0.5 / (1 - step_size * NBETA * xx / 2) - NBETA * xy**2 / xx


def quadratic_value(curvature: float, step_size: float) -> float:
    """Exact stationary value of SGLD on `k w^2/2` without tether: `.5/(1 - step nbeta k/4)`."""
    return 0.5 / (1 - step_size * NBETA * curvature / 4)


def monomial(powers: Sequence[int], reference: tuple[float, float], num_burnin: int):
    """`K = 1/2 sum w_i^(p_i)` at its minimum, no tether."""

    def potential(w):
        return sum(w[i] ** power for i, power in enumerate(powers)) / 2

    name = f"monomial {tuple(powers)}, burn-in {'dropped' if num_burnin else 'included'}"
    start = jnp.zeros(len(powers))
    return RecursionCase(name, potential, start, 1e-3, 2_000, num_burnin, reference)


def regression_potential(x: np.ndarray, y: np.ndarray) -> Callable:
    """Squared error of `B A x`, mean over examples and outputs, from second moments."""
    number, outputs = y.shape
    xx, xy, yy = x.T @ x / number, x.T @ y / number, float(np.sum(y * y) / number)

    def potential(params):
        product = params["B"] @ params["A"]
        quadratic = jnp.sum((product @ xx.astype(product.dtype)) * product)
        return (quadratic - 2 * jnp.sum(product * xy.T) + yy) / outputs

    return potential


def trained(potential: Callable, widths: tuple[int, int, int]) -> Any:
    """Layers after 5000 full-batch Adam steps from a uniform start."""
    fan_in, hidden, fan_out = widths
    generator = np.random.default_rng(1)
    params = {
        "A": jnp.asarray(generator.uniform(-1, 1, (hidden, fan_in)) / np.sqrt(fan_in)),
        "B": jnp.asarray(generator.uniform(-1, 1, (fan_out, hidden)) / np.sqrt(hidden)),
    }
    optimizer = optax.adam(0.01)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(potential)(params), state)
        return (optax.apply_updates(params, updates), state), None

    start = (params, optimizer.init(params))
    return jax.jit(lambda start: jax.lax.scan(step, start, None, 5_000)[0][0])(start)


def noise_regression(widths: tuple[int, int, int], reference: float, sem: float) -> RecursionCase:
    """Reduced rank regression on targets of pure noise, at a trained minimum."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((NUM_EXAMPLES, widths[0]))
    potential = regression_potential(x, generator.standard_normal((NUM_EXAMPLES, widths[2])))
    name, params = f"regression on noise {widths}", trained(potential, widths)
    return RecursionCase(name, potential, params, 6e-4, 2_000, 0, (reference, sem), 1.0)


def teacher_regression(
    widths: tuple[int, int, int], rank: int, reference: tuple[float, float], *, cold: bool = False
) -> RecursionCase:
    """Reduced rank regression on the labels of a teacher with orthonormal factors, at the teacher.

    Args:
        widths: Inputs, hidden units, outputs.
        rank: Rank of the teacher.
        reference: Published mean and standard error.
        cold: At `nbeta = 5000` with 64 longer chains and a smaller step.
    """
    fan_in, hidden, fan_out = widths
    generator = np.random.default_rng(0)
    a, b = np.zeros((hidden, fan_in)), np.zeros((fan_out, hidden))
    if rank:
        a[:rank] = np.linalg.qr(generator.standard_normal((fan_in, rank)))[0].T
        b[:, :rank] = np.linalg.qr(generator.standard_normal((fan_out, rank)))[0]
    x = generator.standard_normal((NUM_EXAMPLES, fan_in))
    case = RecursionCase(
        f"regression on a teacher {(*widths, rank)}" + (", nbeta 5000" if cold else ""),
        regression_potential(x, x @ (b @ a).T),
        {"A": jnp.asarray(a), "B": jnp.asarray(b)},
        step_size=6e-4,
        num_draws=3_000,
        num_burnin=1_000,
        reference=reference,
        localization=1.0,
    )
    if not cold:
        return case
    colder = {"nbeta": 5000.0, "step_size": 2e-5, "num_chains": 64}
    return dataclasses.replace(case, **colder, num_draws=12_000, num_burnin=4_000)

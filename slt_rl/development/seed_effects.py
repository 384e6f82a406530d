"""What variables of environment and reward do to a number of each run, the seed at random."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl._checks import check_key
from slt_rl._numbers import check_count, check_fraction, check_numbers
from slt_rl.diagnostics import effective_sample_size, split_r_hat
from slt_rl.numpyro_nuts import nuts_draws

# Half-widths of the priors, in standard deviations of the values (and of each variable).
_WIDE, _SCALE = 10.0, 2.0
_MAX_R_HAT = 1.02


class SeedEffects(NamedTuple):
    """Posterior of the effects of variables over a sweep of runs.

    Attributes:
        mean: Change of the value for a change of each variable by one, `[variable]`.
        low: Lower end of the central interval of each effect.
        high: Its upper end.
        seed_scale: Standard deviation between seeds, posterior mean, in the unit of the values.
        residual_scale: The same of what neither variables nor seed explain.
        r_hat: Largest split R-hat of the sampled quantities.
        ess: Smallest effective number of draws of an effect.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seed_scale: float
    residual_scale: float
    r_hat: float
    ess: float


def seed_effects(
    key: jax.Array,
    values: np.ndarray,
    variables: np.ndarray,
    *,
    seeds: np.ndarray,
    sem: np.ndarray | None = None,
    level: float = 0.95,
    num_draws: int = 1000,
) -> SeedEffects:
    """Linear effects of variables on a value of each run, with the seed as a random effect.

    The model is ``y_i = a + x_i . b + u[seed_i] + e_i`` with ``u_s ~ N(0, tau^2)`` and
    ``e_i ~ N(0, sigma^2 + sem_i^2)``: runs of one seed share its luck, and the residual is
    estimated from all runs together. In units of the standard deviations of the values and of each
    variable, ``a`` and ``b`` have priors N(0, 10^2), and ``tau`` and ``sigma`` half-normal ones of
    scale 2. Sampled by NumPyro's NUTS, four chains.

    Args:
        key: Random key, consumed.
        values: `[run]`, one number of each run, such as the peak of a fitted form; a run without
            one (nan) is left out.
        variables: `[run, variable]`; for a variant against a reference, 0 and 1.
        seeds: `[run]`, whole numbers.
        sem: `[run]`, known standard errors of the values; none by default.
        level: Probability of the intervals.
        num_draws: Kept draws of each chain, after as many of adaptation.

    Returns:
        The effects.

    Raises:
        ValueError: If shapes do not agree, seeds are not whole numbers, a value is infinite, a
            variable does not vary, runs are fewer than unknowns, there is one seed only, or the
            chains have not mixed (split R-hat above 1.02).

    References:
        Gelman et al., Bayesian Data Analysis, 3rd ed., chapters 5 and 15.
    """
    values, variables, seeds, sem = _checked(values, variables, seeds=seeds, sem=sem, level=level)
    center, unit = values.mean(), values.std() or 1.0
    middle, spread = variables.mean(axis=0), variables.std(axis=0)
    draws = _draws(
        check_key(key),
        (values - center) / unit,
        (variables - middle) / spread,
        belongs=(seeds[:, None] == np.unique(seeds)).astype(float),
        sem=sem / unit,
        num_draws=check_count("num_draws", num_draws),
    )
    draws = jax.tree.map(np.asarray, draws)
    r_hat = max(float(split_r_hat(x)) for name in draws for x in _traces(draws[name]))
    if not r_hat <= _MAX_R_HAT:
        raise ValueError(
            f"num_draws: chains of {num_draws} draws have split R-hat {r_hat:.3f}, expected at "
            f"most {_MAX_R_HAT}: take more"
        )
    effects = draws["effects"] * unit / spread
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(effects.reshape(-1, effects.shape[-1]), tails, axis=0)
    return SeedEffects(
        mean=effects.mean(axis=(0, 1)),
        low=low,
        high=high,
        seed_scale=float(draws["tau"].mean() * unit),
        residual_scale=float(draws["sigma"].mean() * unit),
        r_hat=r_hat,
        ess=min(effective_sample_size(x) for x in _traces(draws["effects"])),
    )


def _checked(values, variables, *, seeds, sem, level):
    """The arguments of the runs that have a value, as arrays of agreeing shapes."""
    values, seeds = check_numbers("values", values), np.asarray(seeds)
    variables = check_numbers("variables", variables)
    sem = np.zeros_like(values) if sem is None else check_numbers("sem", sem)
    if values.ndim != 1 or seeds.shape != values.shape or sem.shape != values.shape:
        shapes = f"values {values.shape}, seeds {seeds.shape}, sem {sem.shape}"
        raise ValueError(f"values: expected one number, seed and error of each run, got {shapes}")
    if seeds.dtype.kind not in "iu" or np.isinf(values).any():
        raise ValueError("seeds, values: expected whole numbers, and values without infinities")
    if variables.ndim != 2 or len(variables) != len(values) or not variables.size:
        expected = f"({len(values)}, number of variables)"
        raise ValueError(f"variables: got shape {variables.shape}, expected {expected}")
    check_fraction("level", level)
    kept = np.isfinite(values)
    values, variables, seeds, sem = values[kept], variables[kept], seeds[kept], sem[kept]
    if not (np.isfinite(variables).all() and np.isfinite(sem).all() and (sem >= 0).all()):
        raise ValueError("variables, sem: expected finite numbers, errors not negative")
    if len(values) < variables.shape[1] + 2 or len(np.unique(seeds)) < 2:
        raise ValueError(
            f"values: got {len(values)} runs of {len(np.unique(seeds))} seeds, expected at least "
            f"{variables.shape[1] + 2} runs of at least 2 seeds"
        )
    if not variables.std(axis=0).all():
        fixed = np.flatnonzero(variables.std(axis=0) == 0)
        raise ValueError(f"variables: columns {fixed} do not vary over the runs with a value")
    return values, variables, seeds, sem


@functools.partial(jax.jit, static_argnames="num_draws")
def _draws(key, values, variables, *, belongs, sem, num_draws: int) -> dict[str, jax.Array]:
    """Draws of the standardized model, axes `[chain, draw, ...]`, compiled once for a shape."""
    kernel = {"model": _model, "target_accept_prob": 0.95}
    lengths = {"num_chains": 4, "num_warmup": num_draws, "num_samples": num_draws}
    return nuts_draws(key, kernel, values, variables, belongs, sem, **lengths)


def _model(values, variables, belongs, sem):
    """The standardized model; `belongs` is `[run, seed]`, one where the run is of the seed."""
    import numpyro
    from numpyro import distributions as dist

    base = numpyro.sample("base", dist.Normal(0.0, _WIDE))
    wide = dist.Normal(0.0, _WIDE).expand([variables.shape[1]]).to_event(1)
    effects = numpyro.sample("effects", wide)
    tau = numpyro.sample("tau", dist.HalfNormal(_SCALE))
    sigma = numpyro.sample("sigma", dist.HalfNormal(_SCALE))
    # Of unit variance and scaled afterwards: where tau is small the posterior has no funnel.
    luck = numpyro.sample("luck", dist.Normal(0.0, 1.0).expand([belongs.shape[1]]).to_event(1))
    mean = base + variables @ effects + tau * (belongs @ luck)
    numpyro.sample("values", dist.Normal(mean, jnp.sqrt(sigma**2 + sem**2)), obs=values)


def _traces(draws: np.ndarray) -> list[np.ndarray]:
    """`[chain, draw]` of each component."""
    flat = draws.reshape(*draws.shape[:2], -1)
    return [flat[..., i] for i in range(flat.shape[-1])]

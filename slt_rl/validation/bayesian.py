"""The Bayesian side: which polygon the posterior prefers at each number of examples."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from slt_rl.diagnostics import Z95
from slt_rl.numpyro_nuts import nuts_posterior
from slt_rl.report.checks import Check
from slt_rl.report.records import Occupancy
from slt_rl.tempered_smc import normal_prior, tempered_smc
from slt_rl.validation.protocol import NUM_FEATURES, Protocol
from toy_models import superposition as tms

GROUP = "Bayesian posterior"
HULLS = (4, 5, 6)
NUTS_EXAMPLES = 100
# Reference runs of tempered SMC with 3000 particles and four times the moves, two seeds.
EXPECTED_CROSSING = 280.0
CONVENTION = (
    "posterior exp(-n L(w)) N(w; 0, 1) with the population loss L, not halved: a Gaussian "
    "likelihood of variance 1/2; with variance 1, exp(-n L / 2), every n doubles"
)


def _prior():
    zeros = {"W": jnp.zeros((2, NUM_FEATURES)), "b": jnp.zeros(NUM_FEATURES)}
    return normal_prior(zeros)


def measure_occupancy(
    key: jax.Array, protocol: Protocol, progress: Callable[[float], None] | None = None
) -> dict[str, np.ndarray]:
    """Hull sizes of posterior samples at each number of examples."""
    sizes = tuple(float(n) for n in protocol.occupancy_sizes)
    samples = tempered_smc(
        key,
        tms.population_loss,
        _prior(),
        nbetas=sizes,
        num_particles=protocol.num_particles,
        progress=progress,
    )
    return {
        "sizes": np.array(sizes),
        "hulls": tms.hull_sizes(samples.particles),
        "acceptance": samples.acceptance,
    }


def measure_nuts(key: jax.Array, protocol: Protocol) -> dict[str, np.ndarray]:
    """Hull sizes `[chain, draw]` by NUTS at one small number of examples."""
    draws, _ = nuts_posterior(
        key,
        tms.population_loss,
        _prior(),
        nbeta=float(NUTS_EXAMPLES),
        num_chains=protocol.num_nuts_chains,
    )
    return {"hulls": tms.hull_sizes(draws)}


def occupancy(arrays: Mapping[str, np.ndarray], nuts: Mapping[str, np.ndarray] | None) -> Occupancy:
    """The probabilities of the polygons against the number of examples."""
    hulls = arrays["hulls"]
    probability = {str(k): (hulls == k).mean(axis=1) for k in HULLS}
    # Particles share ancestors: their effective number is smaller than their number by about
    # the share that one resampling keeps.
    effective = 0.5 * hulls.shape[1]
    error = {k: Z95 * np.sqrt(p * (1 - p) / effective) for k, p in probability.items()}
    audit = {}
    if nuts is not None:
        for k in HULLS:
            chains = (nuts["hulls"] == k).mean(axis=1)
            half = Z95 * chains.std(ddof=1) / np.sqrt(len(chains))
            audit[str(k)] = (float(NUTS_EXAMPLES), float(chains.mean()), float(half))
    return Occupancy(
        title="Posterior exp(-nL) N(0, 1)",
        num_examples=arrays["sizes"],
        probability=probability,
        error=error,
        audit=audit,
        audit_label=f"NUTS, n = {NUTS_EXAMPLES}",
        crossing=tms.equal_occupancy(list(map(float, arrays["sizes"])), hulls),
        expected_crossing=EXPECTED_CROSSING,
    )


def occupancy_checks(found: Occupancy) -> list[Check]:
    """The crossing of pentagons and hexagons, and the cross-check by another sampler."""
    crossing = float("nan") if found.crossing is None else found.crossing
    checks = [
        Check(
            "occupancy of 5 and 6",
            "Number of examples at which the posterior holds pentagons and hexagons equally often, "
            "by tempered sequential Monte Carlo.",
            f"{EXPECTED_CROSSING:g} within 10 %",
            crossing,
            bool(abs(crossing / EXPECTED_CROSSING - 1) < 0.1),
            CONVENTION,
            GROUP,
        )
    ]
    if found.audit:
        at = int(np.flatnonzero(found.num_examples == NUTS_EXAMPLES)[0])
        scores = {
            k: abs(found.probability[k][at] - mean) / np.hypot(found.error[k][at], half) * Z95
            for k, (_, mean, half) in found.audit.items()
        }
        values = {
            k: f"SMC {found.probability[k][at]:.3f}, NUTS {mean:.3f} ± {half / Z95:.3f}"
            for k, (_, mean, half) in found.audit.items()
        }
        checks.append(
            Check(
                "occupancy by NUTS",
                f"Probabilities of the polygons at n = {NUTS_EXAMPLES}, tempered SMC against "
                "NumPyro's NUTS from prior draws.",
                "every difference within 3 combined standard errors",
                values,
                max(scores.values()) < 3,
                f"largest difference {max(scores.values()):.2f} standard errors",
                GROUP,
            )
        )
    return checks

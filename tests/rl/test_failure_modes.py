"""Ways in which an estimate fails: each with its derived number, and what the verdict says of it.

The modes that other files reproduce are listed in docs/failure-modes.md.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, lambertw

import slt_rl
from toy_models import staircases

KEY = jax.random.key(3)


def gap_regret(logits):
    """Two-armed softmax bandit of gap one."""
    return jax.nn.sigmoid(logits[1] - logits[0])


def gap_value(nbeta, localization, center, *, relative_to):
    """`nbeta (E sigma(-x) - relative_to)`; two logits localized are their difference at half."""
    x = np.linspace(center - 60, center + 60, 1_200_001)
    energy = nbeta * expit(-x) + localization / 4 * (x - center) ** 2
    weights = np.exp(energy.min() - energy)
    return nbeta * (np.sum(expit(-x) * weights) / weights.sum() - relative_to)


@pytest.mark.parametrize(
    ("nbeta", "expected"), [(10, -0.12), (100, -6.80), (1e3, -107), (1e4, -1171)]
)
def test_softmax_regret_at_a_finite_gap_is_negative(nbeta, expected):
    found = gap_value(nbeta, 10.0, 2.0, relative_to=expit(-2.0))
    assert found == pytest.approx(expected, rel=0.01, abs=0.005)


@pytest.mark.parametrize(("nbeta", "expected"), [(1e2, 2.09), (1e4, 3.97), (1e6, 6.05)])
def test_softmax_regret_under_a_prior_grows_with_log_nbeta(nbeta, expected):
    found = gap_value(nbeta, 1.0, 0.0, relative_to=0.0)
    assert found == pytest.approx(expected, abs=0.006)
    assert found == pytest.approx(lambertw(2 * nbeta).real / 2, rel=0.07)


def test_softmax_regret_is_refused_with_its_negative_value():
    result = slt_rl.estimate_llc(KEY, gap_regret, jnp.array([2.0, 0.0]), nbeta=100.0)
    exact = gap_value(100.0, 10.0, 2.0, relative_to=expit(-2.0))
    assert result.verdict == "refused"
    assert "not a minimum" in " ".join(result.flags)
    assert abs(result.mean - exact) < 4 * result.sem


def leaky(w):
    """`(w_1 - 1)^2 |w|^8 / 2`: 1/2 at (1, 0), 1/4 at the origin."""
    return (w[0] - 1) ** 2 * jnp.sum(w**2) ** 4 / 2


def leaky_value(nbeta, localization):
    """By a grid over `|w| <= 3`, in polar coordinates so that the origin is resolved."""
    radius = np.concatenate([np.geomspace(1e-4, 0.5, 1500), np.linspace(0.5, 3, 8001)[1:]])
    angle = np.linspace(0, np.pi, 6001)[:, None]
    first = radius * np.cos(angle)
    loss = (first - 1) ** 2 * radius**8 / 2
    square = (first - 1) ** 2 + (radius * np.sin(angle)) ** 2
    weights = np.exp(-nbeta * loss - localization / 2 * square) * radius * np.gradient(radius)
    return nbeta * np.sum(loss * weights) / np.sum(weights)


@pytest.mark.parametrize(
    ("localization", "nbeta", "expected"),
    [
        (1, 1e2, 0.28),
        (1, 1e3, 0.35),
        (1, 1e4, 0.30),
        (10, 1e3, 0.64),
        (10, 1e4, 0.51),
        (300, 1e4, 0.49),
    ],
)
def test_a_weak_localization_leaks_to_a_more_singular_minimum(localization, nbeta, expected):
    assert leaky_value(nbeta, localization) == pytest.approx(expected, abs=0.006)


SADDLE_STRENGTH, SADDLE_NBETA, SADDLE_LOCALIZATION = 0.5, 10.0, 30.0


def test_a_missing_mode_is_negative_and_refused():
    """Quadratic part of `|W_2 W_1 - s|^2` at zero layers with two hidden units."""
    x = 2 * SADDLE_NBETA * SADDLE_STRENGTH
    expected = -2 * x**2 / (SADDLE_LOCALIZATION**2 - x**2)
    result = slt_rl.estimate_llc(
        KEY,
        lambda w: -2 * SADDLE_STRENGTH * jnp.dot(w[0], w[1]),
        jnp.zeros((2, 2)),
        nbeta=SADDLE_NBETA,
        localization=SADDLE_LOCALIZATION,
    )
    assert abs(result.mean - expected) < 4 * result.sem
    assert result.verdict == "refused"
    assert "negative estimate" in " ".join(result.flags)


def test_at_a_plateau_regret_is_refused_and_the_kl_is_not():
    plateau = staircases.phase_problem(1)
    arguments = {"nbeta": 1e3, "localization": 1.0}
    regret = slt_rl.estimate_llc(KEY, staircases.regret, plateau.params, **arguments)
    # Refused for chains that do not relax; no flag names the saddle itself.
    assert regret.verdict == "refused"
    kl = slt_rl.estimate_llc(KEY, plateau.potential, plateau.params, **arguments)
    assert kl.verdict == "trusted"
    low, high = kl.interval()
    # Tempered SMC finds 5.91 here: the limit is 6.
    assert low < 5.91 < high


def squared_distance(w, examples):
    return (w[0] - examples) ** 2 / 2


@pytest.mark.parametrize(("heat", "expected"), [(0.0, 0.5709), (0.5, 0.8563)])
def test_step_and_noise_of_sgld_inflate_by_their_law(heat, expected):
    """`nbeta h / (2 h~) (1 + eps s^2/4) / (1 - eps h~/4)`, `h = localization = 1`."""
    nbeta, num_examples = 1000.0, 1000
    step = 0.5 / (nbeta + 1)
    # Two-valued examples of mean zero whose minibatches of one have the variance that is asked for.
    size = np.sqrt(4 * heat / (step * nbeta**2))
    data = size * np.tile([-1.0, 1.0], num_examples // 2)
    result = slt_rl.estimate_llc(
        KEY,
        squared_distance,
        jnp.zeros(1),
        jnp.asarray(data),
        nbeta=nbeta,
        localization=1.0,
        batch_size=1 if heat else None,
        sampler=slt_rl.SGLD(step),
        num_draws=20_000,
    )
    assert abs(result.mean - expected) < 4 * result.sem
    assert result.sem < 0.02 * expected
    assert result.verdict != "trusted"
    assert ("gradient noise" if heat else "step size") in " ".join(result.flags)
    if heat:
        assert result.diagnostics["heating"] == pytest.approx(heat * expected, rel=1.0)


def test_a_scaled_reward_is_another_temperature_and_no_verdict_can_know():
    """Finite value of `c L` at `nbeta` is that of `L` at `c nbeta`: only the regime shows it."""

    def run(scale):
        return slt_rl.estimate_llc(
            KEY, lambda w: scale * jnp.sum(w**2) / 2, jnp.zeros(4), nbeta=1e3, localization=10.0
        )

    large, small = run(1.0), run(0.01)
    assert large.verdict == small.verdict == "trusted"
    assert abs(large.mean - 2 * 1000 / 1010) < 4 * large.sem
    assert abs(small.mean - 2 * 10 / 20) < 4 * small.sem
    assert small.regime != "plateau"

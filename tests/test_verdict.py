"""Deliberately broken runs: each is refused or doubted for the right reason, sound ones are not."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
import toy_models
from slt_rl import budget, verdict
from slt_rl.budget import Budget
from slt_rl.estimators import Estimate
from slt_rl.posterior import LocalPosterior, find_anchor, minibatch_oracle
from toy_models import exact

KEY = jax.random.key(1)
CURVATURES = jnp.array([4.0, 2.0, 1.0, 0.5, 0.25])
ZERO = jnp.zeros(5)
STIFFEST = 1e4 * 4.0


def quadratic(w):
    return jnp.sum(CURVATURES * w**2) / 2


def at_quadratic(params=ZERO, **changes):
    return slt_rl.estimate_llc(KEY, quadratic, params, **({"nbeta": 1e4} | changes))


def objections(result):
    assert result.verdict in ("doubtful", "refused")
    return " | ".join(result.flags)


def test_a_sound_run_is_trusted():
    result = at_quadratic()
    assert result.verdict == "trusted", result.flags
    assert result.notes == ()


@pytest.mark.parametrize(
    ("sampler", "reason"),
    [
        (slt_rl.KineticLangevin(5.0 / STIFFEST**0.5, 20.0), "step size too large"),
        (slt_rl.SGLD(1.0 / STIFFEST), "step size too large: it inflates the stiffest direction"),
        (slt_rl.KineticLangevin(0.5 / 30 / STIFFEST**0.5, 20.0), "run longer"),
        (slt_rl.SGLD(0.1 / 30 / STIFFEST), "run longer"),
    ],
    ids=["kinetic_10", "sgld_10", "kinetic_1/30", "sgld_1/30"],
)
def test_a_step_that_is_not_recalibrated(sampler, reason):
    assert reason in objections(at_quadratic(sampler=sampler, num_draws=2000))


def test_a_run_that_is_too_short():
    assert "run more draws" in objections(at_quadratic(num_draws=40, num_burnin=0))


def test_a_center_off_the_minimum():
    result = at_quadratic(ZERO + 0.05)
    assert result.verdict == "refused"
    assert "the center is not a minimum: its gradient is large" in objections(result)


def test_a_minimum_whose_loss_falls_again_far_away_is_doubted_and_not_denied():
    """`w^2 exp(-w^2)` is never below its center, and a chain at 1/8 of the top gets over it."""
    result = slt_rl.estimate_llc(
        KEY, lambda w: jnp.sum(w**2 * jnp.exp(-(w**2))), jnp.zeros(1), nbeta=8.0, localization=0.3
    )
    assert result.diagnostics["fraction_below_center"] == 0
    assert "levels off or falls again" in objections(result)
    assert not any("no minimum here" in flag for flag in result.flags)


def test_a_norm_instead_of_its_square():
    def norm(w):
        return jnp.sqrt(jnp.sum(w**2))

    with pytest.raises(ValueError, match="finite gradient at the center.*square root"):
        slt_rl.estimate_llc(KEY, norm, ZERO, nbeta=1e3)
    result = slt_rl.estimate_llc(
        KEY, lambda w: jnp.sqrt(jnp.sum(w**2) + 1e-8), ZERO, nbeta=1e3, num_draws=4000
    )
    assert "grows like distance to the power 1.0" in objections(result)
    # It really is twice the coefficient of the square.
    assert abs(result.mean - 5.0) < 4 * result.sem + 0.1


def test_a_gradient_whose_square_overflows_is_told_from_one_that_is_not_finite():
    center = jnp.zeros(2, jnp.float32)
    with pytest.raises(ValueError, match=r"derivatives up to 1e\+20, too large for float32"):
        slt_rl.estimate_llc(KEY, lambda w: 1e20 * jnp.sum(w), center, nbeta=1e3)


@pytest.mark.parametrize(("explained", "count"), [(0.0, 1), (1.04, 0), (np.nan, 0)])
def test_a_loss_that_is_flat_in_pieces_is_named(explained, count):
    """Its chains are those of no loss at all, and count errors that no gradient saw."""
    numbers = {"drop_seen": 0.0, "growth_at_center": np.nan, "explained_by_slope": explained}
    numbers |= {"localization_slope": 0.0, "localization_slope_sem": 0.01, "rounding": 0.0}
    estimate = Estimate(26.3, 0.05, np.full(8, 26.3), 1125.0)
    context = types.SimpleNamespace(anchor_drop=0.0, tolerance=0.05, heating=0.0)
    flags = verdict.Flags([], [])
    verdict._anchor_flags(Budget(estimate, {}, numbers), context, flags)
    assert len(flags.refused) == count
    assert all("its gradient does not say so: it is flat in pieces" in x for x in flags.refused)


def test_a_smooth_loss_whose_chains_roam_is_not_called_a_norm():
    """Chains that reach singular first layers see a loss that falls outwards, and a sound value."""
    (problem,) = (p for p in toy_models.problems() if p.name == "linear_policy_kl_at_identity")
    result = slt_rl.estimate_llc(
        KEY, problem.potential, problem.params, nbeta=1e4, localization=10.0
    )
    assert result.diagnostics["growth"] < 1.5
    assert result.diagnostics["growth_at_center"] > 1.9
    assert result.diagnostics["explained_by_slope"] > 0.9
    assert result.verdict != "refused", result.flags
    assert abs(result.mean - problem.finite_llc(1e4, 10.0)) < 4 * result.sem


def test_a_strong_localization_is_a_regime():
    result = at_quadratic(localization=1000.0)
    assert result.regime == "localization-dominated"
    stiff = 1e4 * np.asarray(CURVATURES)
    slope = -np.sum(stiff * 1e3 / (stiff + 1e3) ** 2) / 2
    assert result.error_budget["localization"] == pytest.approx(-slope, rel=0.2)
    assert ", localization " in str(result)


@pytest.mark.parametrize(
    ("slope", "sem", "known"), [(-0.2, 0.15, np.nan), (-0.2, 0.09, 0.2), (-0.6, 0.15, 0.6)]
)
def test_a_slope_below_its_noise_is_no_number(slope, sem, known):
    """Unless the noise itself is below what a plateau allows."""
    numbers = {"localization_slope": slope, "localization_slope_sem": sem}
    np.testing.assert_equal(budget._known_slope(numbers), known)


@pytest.mark.parametrize(("dtype", "rounding"), [(jnp.float64, 1e-12), (jnp.float32, 1e-6)])
def test_a_flat_loss_is_zero_at_every_temperature_and_localization(dtype, rounding):
    params = jnp.zeros(2, dtype)
    result = slt_rl.estimate_llc(KEY, lambda w: 0 * jnp.sum(w), params, nbeta=1e3)
    assert result.mean == pytest.approx(0, abs=rounding)
    assert (result.verdict, result.regime) == ("trusted", "plateau"), result.flags
    assert result.error_budget["localization"] == 0


def test_a_high_temperature_is_not_taken_for_a_flat_loss():
    """All of `nbeta L` is below one thousandth; localization alone decides, with a slope of -1."""
    result = slt_rl.estimate_llc(KEY, quadratic, ZERO, nbeta=1e-4, localization=10.0)
    assert 1e-4 * np.max(result.draws.excess_loss) < 1e-3
    exact = np.sum(1e-4 * np.asarray(CURVATURES) / (1e-4 * np.asarray(CURVATURES) + 10)) / 2
    assert abs(result.mean - exact) < 4 * result.sem
    assert result.regime == "localization-dominated"


@pytest.mark.parametrize("gap", [0.0, 2.0, 6.0])
def test_a_softmax_policy_near_its_deterministic_optimum(gap):
    result = slt_rl.estimate_llc(
        KEY, lambda w: jax.nn.sigmoid(w[1] - w[0]), jnp.array([gap, 0.0]), nbeta=1e3
    )
    assert result.verdict == "refused"
    assert "not a minimum" in objections(result)


def test_a_nearly_greedy_policy_in_many_states_shows_its_drop_in_the_draws():
    """Eight states, gap 9: the gradient promises a hundredth of the estimate, draws show half."""
    result = slt_rl.estimate_llc(
        KEY, lambda w: jnp.mean(jax.nn.sigmoid(-(9 + 4 * w))), jnp.zeros(8), nbeta=1e3
    )
    assert result.diagnostics["drop_seen"] > 0.2 * result.mean
    assert "one draw in a hundred" in objections(result)
    assert result.error_budget["anchor"] == result.diagnostics["drop_seen"]


NOISY = exact.noisy_regression()
NBETA = 8000 / np.log(8000)


@pytest.fixture(scope="module")
def noisy_data():
    return NOISY.dataset(jax.random.key(0), 8000)


def test_minibatch_noise_of_a_given_sampler(noisy_data):
    """`nbeta/b` is 56: without the control variate the noise heats the chain by its known law."""
    step = 0.05 / (2 * NBETA)
    result = slt_rl.estimate_llc(
        KEY,
        NOISY.loss_fn,
        NOISY.params,
        noisy_data,
        batch_size=16,
        sampler=slt_rl.SGLD(step),
        num_draws=8000,
    )
    assert "gradient noise too large" in objections(result)
    # Variance of the gradient of U is nbeta^2 h/b per direction: epsilon sum_i s_i^2 / 8.
    heating = step * NBETA**2 * (2 + 1 + 0.5 + 0.25) / 16 / 8
    assert result.diagnostics["heating"] == pytest.approx(heating, rel=0.5)


def test_minibatch_noise_is_mended(noisy_data):
    result = slt_rl.estimate_llc(
        KEY, NOISY.loss_fn, NOISY.params, noisy_data, batch_size=16, num_draws=16_000
    )
    truth = NOISY.finite_llc(result.nbeta, result.localization)
    assert abs(result.mean / truth - 1) < 0.05 + 2 * result.sem / truth
    low, high = result.interval()
    assert low < truth < high
    # What plain minibatches add is known: see the test above.
    plain = result.step_size * NBETA**2 * (2 + 1 + 0.5 + 0.25) / 16 / 8
    assert plain > 0.05 * truth
    (named,) = [note for note in result.notes if "the anchored control variate" in note]
    stated = float(named.split("would add ")[1].split()[0])
    assert stated == pytest.approx(plain, rel=0.5)


def test_the_anchored_value_is_unbiased_and_sharp(noisy_data):
    """On batches of 16 it varies by the square of the distance, not by the labels' noise."""
    center = NOISY.params
    moved = {"w": center["w"] + 0.03}
    anchor = find_anchor(KEY, NOISY.loss_fn, noisy_data, params=center)
    posterior = LocalPosterior(
        NOISY.loss_fn, noisy_data, center, anchor.loss, anchor.gradient, NBETA, 1.0
    )
    keys = jax.random.split(KEY, 2000)
    plain, anchored = (
        jax.vmap(minibatch_oracle(posterior, 16, control), in_axes=(0, None))(keys, moved)[0]
        for control in (False, True)
    )
    exact = posterior.potential(moved)
    for values in (plain, anchored):
        assert abs(values.mean() - exact) < 4 * values.std() / len(keys) ** 0.5
    assert anchored.std() < plain.std() / 10


def test_a_heavy_tailed_gradient_asks_for_a_larger_batch():
    """A few examples of a hundredfold weight: noise that the control variate does not cancel."""
    x = np.ones((512, 1))
    x[:4] = 40.0
    data = {"x": x, "y": np.zeros(512)}
    result = slt_rl.estimate_llc(
        KEY,
        lambda w, e: (e["x"][:, 0] * w[0] - e["y"]) ** 2 / 2,
        jnp.zeros(1),
        data,
        batch_size=2,
        num_draws=2000,
    )
    assert any("remedy for gradient noise" in note for note in result.notes)
    curvature = result.nbeta * np.mean(x**2)
    truth = 0.5 * curvature / (curvature + result.localization)
    assert abs(result.mean - truth) < 4 * result.sem + 0.05 * truth


def parity_by_importance(params, examples):
    """Regret of the parity task, each trajectory of the uniform policy weighted by its ratio."""
    ones, theta = examples["ones"], params["theta"]
    log_ratio = ones * jax.nn.log_sigmoid(theta) + (4 - ones) * jax.nn.log_sigmoid(-theta)
    return 0.5 - jnp.exp(log_ratio + 4 * jnp.log(2.0)) * examples["reward"]


def test_importance_sampled_parity_regret():
    """Flatter than the policy's divergence: sampled, it fails at every n, whatever its sign.

    The error over data sets is of first order: where the noise of both signs cancels by chance, in
    one of these data sets, it may come out as zero.
    """
    refused, noisy = [], []
    for seed in range(8):
        ones = np.random.default_rng(seed).integers(0, 2, (3000, 4)).sum(axis=1)
        data = {"ones": ones.astype(float), "reward": (ones % 2).astype(float)}
        result = slt_rl.estimate_llc(
            jax.random.key(seed),
            parity_by_importance,
            {"theta": jnp.zeros(())},
            data,
            localization=1.0,
            num_draws=1000,
        )
        refused.append(result.verdict == "refused")
        noisy.append("the sampled loss is too noisy for its n" in objections(result))
    assert all(refused) and sum(noisy) >= 7


def test_a_singular_center_does_not_hide_a_step_that_is_too_large():
    """`|w|^4` has no curvature at its center; where the chains are, `c` is about one half."""
    step = 0.5 / 1e3
    result = slt_rl.estimate_llc(
        KEY, lambda w: jnp.sum(w**4), jnp.zeros(4), nbeta=1e4, sampler=slt_rl.SGLD(step)
    )
    assert "step size too large: it inflates the stiffest direction" in objections(result)
    sound = slt_rl.estimate_llc(
        KEY, lambda w: jnp.sum(w**4), jnp.zeros(4), nbeta=1e4, sampler=slt_rl.SGLD(step / 10)
    )
    assert not any("step size" in flag for flag in sound.flags)


@pytest.mark.parametrize(("sem", "reasons"), [(0.081, 1), (0.030, 1), (0.005, 1), (None, 0)])
def test_equipartition_that_is_hardly_known_is_no_evidence(sem, reasons):
    """The numbers of SGLD on a singular product, 6 % low, which was trusted; a sound run is."""
    ratio, sem = (0.872, sem) if sem else (0.96, 0.04)
    numbers = {"equipartition": ratio, "equipartition_sem": sem, "split_r_hat": 1.03}
    numbers |= {"equipartition_worst_leaf": 0.82, "equipartition_worst_leaf_excess": 0.0}
    estimate = Estimate(1.276, 0.053, np.full(8, 1.276), 435.0)
    flags = verdict.Flags([], [])
    verdict._relaxation_flags(Budget(estimate, {"relaxation": 0.0}, numbers), None, flags)
    assert flags.refused == []
    assert len(flags.doubtful) == reasons
    assert all("relaxed" in flag for flag in flags.doubtful)


def test_a_chain_that_ran_away_is_refused_however_little_is_known_of_it():
    """Its own error hides what it is from all flags that ask whether a difference is sure."""
    flags = verdict.Flags([], [])
    verdict._runaway_flag(np.array([1.2, 2.9, 3e25]), 5, flags)
    assert len(flags.refused) == 1 and "run away" in flags.refused[0]
    verdict._runaway_flag(np.array([1.2, 2.9, 4.8]), 5, flags)
    assert len(flags.refused) == 1


@pytest.mark.parametrize(
    ("localization", "temperature", "regime"),
    [
        ((-0.0999, 0.0056), (0.0, 0.02), "localization-dominated"),
        ((-0.0800, 0.0056), (0.0, 0.02), "plateau"),
        ((-0.0800, 0.0400), (0.0, 0.02), "plateau"),
        ((-0.2000, 0.0400), (0.3, 0.02), "localization-dominated"),
        ((0.0, 0.01), (0.095, 0.01), "temperature-dependent"),
        ((0.0, 0.01), (-20.0, 20.0), "unknown"),
        ((0.0, np.nan), (0.0, 0.01), "unknown"),
    ],
)
def test_a_regime_does_not_hang_on_the_luck_of_a_slope(localization, temperature, regime):
    """It is decided by the interval of the slope, and not claimed where the slope is not known."""
    names = ("localization_slope", "localization_slope_sem")
    names += ("temperature_slope", "temperature_slope_sem")
    numbers = dict(zip(names, (*localization, *temperature), strict=True))
    assert verdict._regime(numbers) == regime

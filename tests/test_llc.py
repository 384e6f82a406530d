"""The public calls: what they promise, what they refuse, what their verdict sees."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
from slt_rl._checks import check_key

KEY = jax.random.key(11)
RNG = np.random.default_rng(0)
INPUTS = RNG.standard_normal((400, 3))
LINEAR = {"x": INPUTS, "y": INPUTS @ np.array([1.0, -2.0, 0.5])}
TRUTH = {"w": jnp.array([1.0, -2.0, 0.5])}


def squared_error(params, examples):
    return 0.5 * (examples["x"] @ params["w"] - examples["y"]) ** 2


def bowl(params):
    return jnp.sum(params**2) / 2


def linear_llc(nbeta, localization):
    eigenvalues = np.linalg.eigvalsh(INPUTS.T @ INPUTS / len(INPUTS))
    return 0.5 * np.sum(nbeta * eigenvalues / (nbeta * eigenvalues + localization))


def test_full_data_estimate_of_a_linear_model():
    result = slt_rl.estimate_llc(KEY, squared_error, TRUTH, LINEAR, localization=1.0)
    nbeta = 400 / np.log(400)
    assert result.nbeta == pytest.approx(nbeta)
    assert abs(result.mean - linear_llc(nbeta, 1.0)) < 4 * result.sem
    assert 1.96 * result.sem < 0.06 * result.mean
    assert result.verdict == "trusted"
    assert result.regime == "plateau"


def test_minibatch_estimate_agrees_with_the_full_data_value():
    result = slt_rl.estimate_llc(
        KEY, squared_error, TRUTH, LINEAR, localization=1.0, batch_size=32, num_draws=8000
    )
    exact = linear_llc(400 / np.log(400), 1.0)
    # The step-size bias allowed by the calibration is half the tolerance of 5 %.
    assert abs(result.mean - exact) < 4 * result.sem + 0.025 * exact


def test_weights_change_the_loss_as_repeated_examples_do():
    doubled = jax.tree.map(lambda x: np.concatenate([x, x[:200]]), LINEAR)
    weights = np.concatenate([2 * np.ones(200), np.ones(200)])
    weighted = slt_rl.Dataset(LINEAR, weights / weights.mean())
    options = {"nbeta": 60.0, "num_draws": 500, "num_burnin": 100}
    a = slt_rl.estimate_llc(KEY, squared_error, TRUTH, doubled, **options)
    b = slt_rl.estimate_llc(KEY, squared_error, TRUTH, weighted, **options)
    assert a.mean == pytest.approx(b.mean, rel=1e-6)


def test_an_exact_potential_and_its_data_agree():
    def mean_loss(params):
        return jnp.mean(squared_error(params, LINEAR))

    options = {"nbeta": 60.0, "num_draws": 500, "num_burnin": 100}
    a = slt_rl.estimate_llc(KEY, mean_loss, TRUTH, **options)
    b = slt_rl.estimate_llc(KEY, squared_error, TRUTH, LINEAR, **options)
    assert a.mean == pytest.approx(b.mean, rel=1e-6)


@pytest.mark.parametrize("scale", [0.25, 8.0])
def test_scaling_the_loss_and_the_temperature_is_exact(scale):
    options = {"num_draws": 300, "num_burnin": 100, "localization": 2.0}
    a = slt_rl.estimate_llc(KEY, bowl, jnp.zeros(3), nbeta=64.0, **options)
    b = slt_rl.estimate_llc(
        KEY, lambda w: scale * bowl(w), jnp.zeros(3), nbeta=64.0 / scale, **options
    )
    assert a.mean == pytest.approx(b.mean, rel=1e-9)


def test_curve_equals_single_estimates_in_law_and_ignores_chunks():
    checkpoints = jnp.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])

    def make_target(params):
        return lambda w: jnp.sum((params * (w - params)) ** 2)

    options = {"nbeta": 1e4, "localization": 1.0, "num_draws": 2000, "num_chains": 8}
    curve = slt_rl.llc_curve(KEY, make_target, checkpoints, **options)
    again = slt_rl.llc_curve(KEY, make_target, checkpoints, chunk_size=1, **options)
    assert len(curve) == len(again) == 3
    # The pilot of a chunk is shared, so chunks agree in law, not bit for bit.
    for a, b in zip(curve.estimates, again.estimates, strict=True):
        assert abs(a.mean - b.mean) < 4 * np.hypot(a.sem, b.sem)


def test_curve_recovers_half_the_rank_at_every_checkpoint():
    # The mask is a parameter that no potential uses: it only tells checkpoints apart.
    masks = jnp.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    checkpoints = {"mask": masks, "w": jnp.ones((3, 3))}

    def make_target(params):
        return lambda w: jnp.sum((params["mask"] * (w["w"] - params["w"])) ** 2)

    curve = slt_rl.llc_curve(KEY, make_target, checkpoints, nbeta=1e4, steps=np.array([5, 10, 20]))
    np.testing.assert_array_equal(curve.steps, [5, 10, 20])
    for estimate, rank in zip(curve.estimates, (3, 1, 2), strict=True):
        assert abs(estimate.mean - rank / 2) < 4 * estimate.sem + 0.01


def test_curve_accepts_per_checkpoint_data():
    def make_target(params):
        examples = {"x": jnp.asarray(INPUTS), "y": jnp.asarray(INPUTS) @ params["w"]}
        return squared_error, slt_rl.Dataset(examples)

    checkpoints = {"w": jnp.asarray(RNG.standard_normal((2, 3)))}
    curve = slt_rl.llc_curve(KEY, make_target, checkpoints, localization=1.0, num_chains=8)
    for estimate in curve.estimates:
        exact = linear_llc(400 / np.log(400), 1.0)
        assert abs(estimate.mean - exact) < 4 * estimate.sem


def test_result_reads_as_text_and_json():
    result = slt_rl.estimate_llc(KEY, bowl, jnp.zeros(2), nbeta=1e3, num_draws=600)
    text = str(result)
    assert "local learning coefficient" in text
    assert result.verdict in text
    assert f"{result.diagnostics['temperature_slope']:.2g} +-" in text and "in log nbeta)" in text
    loaded = json.loads(json.dumps(result.to_dict()))
    assert loaded["mean"] == result.mean
    low, high = result.interval()
    assert low < result.mean < high
    wide = result.interval(0.99)
    assert wide[0] < low < high < wide[1]
    with pytest.raises(ValueError, match="level: expected a number in \\(0, 1\\), got 1.5"):
        result.interval(1.5)


def test_result_converts_to_arviz():
    pytest.importorskip("arviz")
    result = slt_rl.estimate_llc(KEY, bowl, jnp.zeros(2), nbeta=1e3, num_draws=600)
    posterior = result.to_arviz().posterior
    assert float(posterior["llc"].mean()) == pytest.approx(result.mean)


def estimate(**changes):
    arguments = {
        "loss_fn": squared_error,
        "params": TRUTH,
        "data": LINEAR,
        "num_draws": 50,
        "num_burnin": 10,
    } | changes
    return slt_rl.estimate_llc(
        KEY, arguments.pop("loss_fn"), arguments.pop("params"), arguments.pop("data"), **arguments
    )


NAN_PARAMS = {"w": jnp.array([1.0, jnp.nan, 0.0])}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_fn": lambda w, e: jnp.mean(squared_error(w, e))}, r"per-example losses.*\[400\]"),
        ({"data": None, "nbeta": 1.0, "loss_fn": lambda w: w["w"]}, "scalar; it returned shape"),
        ({"data": None, "loss_fn": lambda w: w["w"].sum()}, "nbeta: an exact potential has no n"),
        ({"data": {"x": np.zeros((0, 3)), "y": np.zeros(0)}}, "at least one example"),
        ({"data": {"x": np.zeros((5, 3)), "y": np.zeros(4)}}, r"leading axes differ.*\[4, 5\]"),
        ({"params": NAN_PARAMS}, r"params\['w'\]: expected finite numbers"),
        ({"params": {"w": np.array([1, 2, 3])}}, r"params\['w'\]: expected floating-point"),
        ({"data": {"x": INPUTS, "y": np.array(["a"] * 400)}}, "data: expected arrays of numbers"),
        ({"loss_fn": None}, "loss_fn: expected a function, got None"),
        (
            {"loss_fn": lambda w, e: (e["x"] @ w["w"] > e["y"]).astype(int)},
            "loss_fn: expected floating-point losses, got int",
        ),
        ({"nbeta": "auto"}, "nbeta: expected a finite number > 0, got 'auto'"),
        ({"localization": np.ones(2)}, "localization: expected a finite number >= 0, got array"),
        ({"tolerance": None}, r"tolerance: expected a number in \(0, 1\), got None"),
        ({"params": {}}, "params: expected a pytree with at least one array"),
        ({"params": "abc"}, "params: expected floating-point numbers, got object"),
        ({"params": {"w": [jnp.tanh]}}, r"params\['w'\]\[0\]: expected floating-point numbers"),
        ({"params": {"w": np.ones(0)}}, r"params\['w'\]: expected at least one number"),
        ({"loss_fn": lambda w: 0.0}, r"loss_fn: with data loss_fn\(params, examples\) is called"),
        ({"data": None, "nbeta": 1.0}, r"loss_fn: without data loss_fn\(params\) is called"),
        (
            {"observe_fn": lambda w: w},
            r"observe_fn: with data observe_fn\(params, dataset\) is called",
        ),
        ({"nbeta": 0.0}, "nbeta: expected a finite number > 0, got 0.0"),
        ({"nbeta": -2.0}, "nbeta: expected a finite number > 0, got -2.0"),
        ({"nbeta": float("inf")}, "nbeta: expected a finite number > 0, got inf"),
        ({"localization": -1.0}, "localization: expected a finite number >= 0, got -1.0"),
        ({"batch_size": 401}, "batch_size: expected at most the number of examples 400, got 401"),
        ({"batch_size": 0}, "batch_size: expected a whole number >= 1, got 0"),
        ({"num_chains": 0}, "num_chains: expected a whole number >= 1, got 0"),
        ({"num_draws": 0}, "num_draws: expected a whole number >= 4, got 0"),
        ({"num_burnin": -1}, "num_burnin: expected a whole number >= 0, got -1"),
        ({"tolerance": 1.5}, r"tolerance: expected a number in \(0, 1\), got 1.5"),
        ({"sampler": "sgld"}, "sampler: expected an object with init and step"),
        (
            {"sampler": slt_rl.HMC(0.1), "batch_size": 10},
            "batch_size: HMC needs full-data gradients",
        ),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(changes, message):
    with pytest.raises(ValueError, match=message):
        estimate(**changes)


@pytest.mark.parametrize("key", [0, None, jax.random.split(KEY, 2), np.zeros(2)])
def test_what_is_no_random_key_is_named(key):
    with pytest.raises(ValueError, match="key: expected one random key"):
        slt_rl.estimate_llc(key, bowl, jnp.zeros(2), nbeta=10.0)
    with pytest.raises(ValueError, match="key: expected one random key"):
        slt_rl.llc_curve(key, lambda params: bowl, jnp.zeros((1, 2)), nbeta=10.0)


def test_a_key_without_a_type_is_the_same_key():
    assert check_key(jax.random.PRNGKey(3)) == jax.random.key(3) == check_key(jax.random.key(3))


def test_losses_that_depend_on_the_batch_are_refused():
    def normalized(w, e):
        return squared_error(w, e | {"x": e["x"] / jnp.std(e["x"], axis=0)})

    with pytest.raises(ValueError, match="loss_fn: expected losses of single examples"):
        estimate(loss_fn=normalized)


def test_a_loss_that_closes_over_the_data_is_refused():
    with pytest.raises(ValueError, match=r"batch of 32 of the 400 examples.*no others; it failed"):
        estimate(loss_fn=lambda w, e: squared_error(w, e | {"x": INPUTS}))


def test_a_non_finite_loss_at_the_center_is_refused():
    with pytest.raises(ValueError, match="loss_fn: expected a finite loss at the center"):
        estimate(data=None, nbeta=1.0, loss_fn=lambda w: jnp.log(0 * w["w"].sum() - 1.0))


def test_negative_controls_need_an_explicit_flag():
    class Surrogate:
        negative_control = "its curvature is not that of the regret"

        def __call__(self, params):
            return bowl(params)

    with pytest.raises(ValueError, match="its curvature is not that of the regret"):
        slt_rl.estimate_llc(KEY, Surrogate(), jnp.zeros(2), nbeta=10.0)
    allowed = slt_rl.estimate_llc(
        KEY, Surrogate(), jnp.zeros(2), nbeta=10.0, num_draws=200, allow_negative_control=True
    )
    assert np.isfinite(allowed.mean)


def test_a_chain_that_leaves_the_finite_numbers_is_named_and_not_averaged():
    result = slt_rl.estimate_llc(
        KEY, lambda w: jnp.sum(w**4), jnp.zeros(2), nbeta=1e3, sampler=slt_rl.SGLD(1e3)
    )
    assert np.isnan(result.mean)
    assert result.verdict == "refused"
    assert "left the finite numbers" in result.flags[0]
    assert np.isnan(result.per_chain).all()
    sound = slt_rl.estimate_llc(KEY, bowl, jnp.zeros(2), nbeta=1e3, num_draws=64)
    assert result.error_budget.keys() == sound.error_budget.keys()
    assert {k for k, v in result.error_budget.items() if np.isfinite(v)} == {"anchor"}


def test_verdict_refuses_a_center_with_a_large_gradient():
    result = slt_rl.estimate_llc(KEY, bowl, jnp.full(3, 0.5), nbeta=1e4)
    assert result.verdict == "refused"
    assert any("gradient" in flag or "negative" in flag for flag in result.flags)


def test_verdict_refuses_a_saddle():
    result = slt_rl.estimate_llc(
        KEY, lambda w: w[0] ** 2 - w[1] ** 2 + w[1] ** 4, jnp.zeros(2), nbeta=1e3
    )
    assert result.verdict == "refused"
    assert any("negative estimate" in flag for flag in result.flags)


def test_verdict_sees_a_step_that_is_too_large():
    stiff = slt_rl.SGLD(2.5 / 1e3)
    result = slt_rl.estimate_llc(KEY, bowl, jnp.zeros(4), nbeta=1e3, sampler=stiff, num_draws=4000)
    assert result.verdict != "trusted"
    assert any("step size or gradient noise too large" in flag for flag in result.flags)


def test_verdict_sees_a_chain_that_is_too_short_to_relax():
    tiny = slt_rl.SGLD(1e-3 / 1e3)
    result = slt_rl.estimate_llc(KEY, bowl, jnp.zeros(4), nbeta=1e3, sampler=tiny, num_draws=500)
    assert result.verdict != "trusted"
    assert any("have not relaxed" in flag for flag in result.flags)


def test_regime_is_told_apart_from_the_verdict():
    tethered = slt_rl.estimate_llc(KEY, bowl, jnp.zeros(4), nbeta=10.0, localization=30.0)
    assert tethered.verdict == "trusted"
    assert tethered.regime == "localization-dominated"


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_chains_keep_the_dtype_of_the_parameters(dtype):
    result = slt_rl.estimate_llc(KEY, bowl, jnp.zeros(4, dtype), nbeta=1e4)
    assert abs(result.mean - 2.0) < 4 * result.sem + 0.01


def test_leaves_of_several_types_are_sampled_in_the_widest():
    params = {"a": jnp.zeros(2, jnp.float32), "b": jnp.zeros(2, jnp.float64), "c": 0.0}
    result = slt_rl.estimate_llc(
        KEY, lambda w: bowl(w["a"]) + bowl(w["b"]) + w["c"] ** 2, params, nbeta=1e4
    )
    assert result.draws.excess_loss.dtype == np.float64
    assert abs(result.mean - 2.5) < 4 * result.sem + 0.01

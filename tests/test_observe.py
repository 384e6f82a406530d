"""Recording at draws: what is observed, where, and that looking changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
from slt_rl import chains

KEY = jax.random.key(5)
RNG = np.random.default_rng(0)
INPUTS = RNG.standard_normal((64, 3))
DATA = {"x": INPUTS, "y": INPUTS @ np.array([1.0, -2.0, 0.5]) + RNG.standard_normal(64)}
CENTER = np.linalg.lstsq(INPUTS, DATA["y"], rcond=None)[0]
OPTIONS = {"num_draws": 300, "num_burnin": 37, "num_chains": 2, "localization": 1.0}


def squared_error(params, examples):
    return 0.5 * (examples["x"] @ params - examples["y"]) ** 2


def distance_and_loss(params, data):
    return {
        "distance": jnp.sum((params - CENTER) ** 2),
        "loss": data.mean(squared_error(params, data.examples)),
    }


def positions(params, *data):
    return params


SAMPLERS = [slt_rl.SGLD(1e-2), slt_rl.KineticLangevin(0.1, 1.0), slt_rl.MALA(1e-2)]


def estimate(**options):
    return slt_rl.estimate_llc(KEY, squared_error, CENTER, DATA, **OPTIONS | options)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("every", [1, 8])
def test_observations_are_those_of_the_kept_draws_and_change_no_draw(sampler, every):
    seen = estimate(sampler=sampler, observe_fn=distance_and_loss, observe_every=every)
    blind = estimate(sampler=sampler)
    # Two programs, whose sums XLA may round differently: the noise is the same.
    for a, b in zip(seen.draws, blind.draws, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert blind.observations is None
    observed = seen.observations
    assert observed["distance"].shape == (2, -(-300 // every))
    expected = seen.draws.squared_distance[:, ::every]
    np.testing.assert_allclose(observed["distance"], expected, rtol=1e-12)
    excess = observed["loss"] - np.mean(squared_error(CENTER, DATA))
    np.testing.assert_allclose(excess, seen.draws.excess_loss[:, ::every], atol=1e-12)


def test_positions_and_exact_potentials_are_observed_too():
    result = slt_rl.estimate_llc(
        KEY, lambda w: jnp.sum(w**4), jnp.zeros(2), nbeta=1e3, observe_fn=positions, **OPTIONS
    )
    assert result.observations.shape == (2, 300, 2)
    losses = np.sum(result.observations**4, axis=-1)
    np.testing.assert_allclose(losses, result.draws.excess_loss, rtol=1e-9)
    assert "observations" not in result.to_dict()


def test_a_calibrated_minibatch_curve_is_observed_with_one_compilation_for_all():
    traces = []

    def observe_fn(params, data):
        traces.append(1)
        return jnp.sum((params - CENTER) ** 2), len(data)

    def make_target(params, data):
        return squared_error, slt_rl.Dataset(data)

    def curve(num_checkpoints, **options):
        return slt_rl.llc_curve(
            KEY,
            make_target,
            np.tile(CENTER, (num_checkpoints, 1)),
            data=DATA,
            batch_size=8,
            chunk_size=2,
            **OPTIONS | options,
        )

    seen = curve(2, observe_fn=observe_fn, observe_every=4)
    before = len(traces)
    longer = curve(5, observe_fn=observe_fn, observe_every=4, nbeta=11.0)
    # Only the check of the arguments looks at the function again.
    assert len(traces) - before <= 1
    assert len(longer) == 5
    blind = curve(2)
    for a, b in zip(seen.estimates, blind.estimates, strict=True):
        np.testing.assert_array_equal(a.draws.excess_loss, b.draws.excess_loss)
        distance, count = a.observations
        assert distance.shape == count.shape == (2, 75)
        np.testing.assert_allclose(distance, a.draws.squared_distance[:, ::4], rtol=1e-9)
        assert np.all(count == 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observe_every": 0}, "observe_every: expected a whole number >= 1, got 0"),
        ({"observe_every": 3}, f"observe_every: expected a divisor of {chains.BLOCK_LENGTH}"),
        ({"observe_fn": 3.0}, "observe_fn: expected a function, got 3.0"),
        ({"observe_fn": lambda w, data: ()}, "observe_fn: expected a pytree with at least one"),
    ],
)
def test_bad_observers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        estimate(**options)

"""Effective draws of traces whose variance of the mean is known exactly."""

import numpy as np
import pytest

from slt_rl.diagnostics import effective_sample_size
from slt_rl.estimators import mean_estimate

NUM_RUNS, NUM_CHAINS = 60, 8


def oscillating_energy(rng, *, omega, friction, length):
    """`q^2/2` of the damped oscillator `q'' = -omega^2 q - friction q' + noise`, steps of 1/2.

    Returns `[run, chain, draw]` and the autocorrelation of the energy, `[lag]`, which is the square
    of that of `q`: exact, by the roots of the oscillator.
    """
    times = 0.5 * np.arange(length)
    ringing = np.sqrt(omega**2 - friction**2 / 4)

    def moved(time):
        """The mean of `(q, p)` after a time, as a matrix."""
        cosine, sine = np.cos(ringing * time), np.sin(ringing * time) / ringing
        rotation = cosine * np.eye(2) + sine * np.array(
            [[friction / 2, 1], [-(omega**2), -friction / 2]]
        )
        return np.exp(-friction * time / 2) * rotation

    law, step = np.diag([omega**-2, 1.0]), moved(0.5)
    kick = np.linalg.cholesky(law - step @ law @ step.T)
    state = np.sqrt(np.diag(law))[:, None] * rng.standard_normal((2, NUM_RUNS * NUM_CHAINS))
    positions = np.empty((length, NUM_RUNS * NUM_CHAINS))
    for i in range(length):
        positions[i] = state[0]
        state = step @ state + kick @ rng.standard_normal(state.shape)
    energy = (omega * positions.T.reshape(NUM_RUNS, NUM_CHAINS, length)) ** 2 / 2
    return energy, np.array([moved(t)[0, 0] for t in times]) ** 2


def error_ratio(traces, autocorrelation, variance):
    """The stated standard error, rms over runs, over the exact one."""
    length = traces.shape[2]
    taper = 2 * (1 - np.arange(1, length) / length)
    exact = variance * (1 + np.sum(taper * autocorrelation[1:])) / (NUM_CHAINS * length)
    stated = [mean_estimate(trace).sem for trace in traces]
    return float(np.sqrt(np.mean(np.square(stated)) / exact))


@pytest.mark.parametrize("friction", [0.02, 0.05])
def test_the_error_of_an_oscillating_trace_is_not_understated(friction):
    """A gliding chain's energy: a sum that ends at the first dip gives 0.4 to 0.8 of the error."""
    traces, autocorrelation = oscillating_energy(
        np.random.default_rng(0), omega=0.3, friction=friction, length=2000
    )
    assert 0.93 < error_ratio(traces, autocorrelation, 0.5) < 1.25


def test_a_slow_part_behind_a_fast_one_is_seen():
    """White noise, and a twenty-fifth of its variance that is remembered for 150 draws."""
    rng, length, memory = np.random.default_rng(1), 4000, np.exp(-1 / 150)
    traces = rng.standard_normal((NUM_RUNS, NUM_CHAINS, length))
    slow = rng.standard_normal((NUM_RUNS, NUM_CHAINS))
    for i in range(length):
        traces[..., i] += 0.2 * slow
        slow = memory * slow + np.sqrt(1 - memory**2) * rng.standard_normal(slow.shape)
    autocorrelation = 0.04 * memory ** np.arange(length) / 1.04
    assert 0.9 < error_ratio(traces, autocorrelation, 1.04) < 1.25


@pytest.mark.parametrize("length", [4, 5, 99, 1000])
def test_independent_draws_count_each(length):
    traces = np.random.default_rng(2).standard_normal((40, NUM_CHAINS, length))
    ratio = np.mean([effective_sample_size(trace) / trace.size for trace in traces])
    assert 0.6 < ratio <= 1.0

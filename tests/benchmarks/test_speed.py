"""The speed benchmark runs at toy size, and its models are what they say."""

import jax
import numpy as np
import pytest

from benchmarks import speed, speed_cases, speed_runs

SIZES = {"DLN": 300, "MLP": 101_770}


@pytest.mark.parametrize("model", speed_cases.models(), ids=lambda model: model.name)
def test_the_center_of_every_model_is_an_exact_minimum(model):
    work = speed_runs.workload(model, 8)
    losses, gradient = jax.value_and_grad(lambda w: model(w, work.data.examples).mean())(
        work.params
    )
    assert np.isfinite(losses)
    assert max(float(np.abs(x).max()) for x in jax.tree.leaves(gradient)) < 1e-6
    size = sum(x.size for x in jax.tree.leaves(work.params))
    assert size == SIZES.get(model.name.split()[0], size)


def test_the_rows_of_a_gpu_are_written_as_they_come(tmp_path):
    arguments = ["--device", "gpu", "--quick", "--models", "DLN", "--out", str(tmp_path)]
    assert speed.main(arguments) == 0
    text = (tmp_path / "speed_gpu.json").read_text()
    assert '"ratio"' in text and '"failed"' not in text


def test_a_ratio_is_the_median_over_neighbors_in_time():
    found = {
        "a": speed_runs.Times([2.0, 30.0, 4.0], [1.0] * 3),
        "b": speed_runs.Times([1.0, 10.0, 2.0], [1.0] * 3),
    }
    assert speed_runs.ratio(found, "a", "b") == 2.0

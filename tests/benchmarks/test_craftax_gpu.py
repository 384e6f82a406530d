"""The program for an accelerator, at toy size: it trains, goes on, and packs what can be read."""

import json

import jax
import numpy as np
import pytest

pytest.importorskip("craftax")

from benchmarks import craftax_gpu
from slt_rl.agents import load_run, pack_run, unpack_run

pytestmark = pytest.mark.very_slow


@pytest.fixture(autouse=True, scope="module")
def single_precision():
    # Not `with jax.enable_x64(False)`: that holds for one thread, and the program uses several.
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.fixture(scope="module")
def packed(tmp_path_factory, single_precision):
    folder = tmp_path_factory.mktemp("gpu")
    words = f"--toy --agents classic-feedforward --steps 512 --checkpoints 4 --out {folder}/out"
    command = [*words.split(), "--runs", f"{folder}/runs", "--total"]
    # The first call stops at its first checkpoint, the second goes on to the end.
    craftax_gpu.main([*command, "0"])
    stopped = json.loads((folder / "out" / "result.json").read_text())
    craftax_gpu.main([*command, "60"])
    return folder, stopped["agents"]["classic-feedforward"]


def test_it_goes_on_and_says_how_it_went(packed):
    folder, stopped = packed
    result = json.loads((folder / "out" / "result.json").read_text())
    row = result["agents"]["classic-feedforward"]
    assert not stopped["finished"] and stopped["steps"] < 512
    assert row["finished"] and row["steps"] == 512 and row["updates"][0] == stopped["updates"][-1]
    assert row["median_steps_per_second"] > 0
    assert row["return_percent"][-1] == pytest.approx(100 * row["mean_return"][-1] / 22, abs=1e-4)
    assert len(row["last_per_episode"]) == len(row["event_names"]) == len(row["last_sem"])
    assert result["published_percent_at_1e9_full"]["PPO"] == 11.9
    assert {path.name for path in (folder / "out").iterdir()} == {
        "classic-feedforward.safetensors",
        "result.json",
    }


def test_a_bundle_is_a_run_again(packed, tmp_path):
    folder, _ = packed
    source = load_run(folder / "runs" / "classic-feedforward")
    found = unpack_run(folder / "out" / "classic-feedforward.safetensors", tmp_path / "run")
    assert found.record == source.record
    np.testing.assert_array_equal(found.steps, source.steps)
    for name, leaf in source.statistics(0).items():
        np.testing.assert_array_equal(found.statistics(0)[name], leaf)
    params, exact = found.checkpoints(0)[-1], source.checkpoints(0)[-1]
    assert set(params) == {"policy"} and set(exact) == {"policy", "value"}
    kernel = params["policy"]["layer_0"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_allclose(kernel, exact["policy"]["layer_0"]["kernel"], rtol=1e-3, atol=1e-6)
    with pytest.raises(ValueError, match="exists, choose another"):
        unpack_run(folder / "out" / "classic-feedforward.safetensors", tmp_path / "run")


def test_a_bundle_is_as_small_as_asked_for(packed, tmp_path):
    folder, _ = packed
    run = folder / "runs" / "classic-feedforward"
    # A checkpoint of the actor takes 22 kB in float16, the statistics and the header about 15.
    for limit, number in ((60_000, 1), (90_000, 2)):
        kept = pack_run(run, tmp_path / "small", max_bytes=limit, dtype=np.float16)
        assert (tmp_path / "small").stat().st_size <= limit
        assert kept == (0, 512)[-number:]
    with pytest.raises(ValueError, match="max_bytes: got 1000"):
        pack_run(run, tmp_path / "none", max_bytes=1000)


def test_the_agents_are_those_of_the_baselines(tmp_path):
    options = craftax_gpu.parse(["--out", str(tmp_path)])
    classic, recurrent, full = (craftax_gpu.agent_spec(n, options) for n in craftax_gpu.AGENTS)
    for spec in (classic, recurrent, full):
        assert spec.steps_per_update == 65_536 and spec.num_updates == 1526
        assert len(spec.checkpoints) > 100 and spec.network.hidden == 512
    assert (classic.network.width, recurrent.network.width, full.network.width) == (0, 512, 0)
    assert full.world.world == "craftax" and full.world.pool_size == 1024

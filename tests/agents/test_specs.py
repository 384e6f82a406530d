"""Descriptions of runs, schedules, and what the command line asks for."""

import pytest

from slt_rl import cli
from slt_rl.agents.command import run_spec
from slt_rl.agents.networks import NetworkSpec
from slt_rl.agents.spec import RunSpec, WorldSpec, checkpoint_schedule, spec_from_json
from slt_rl.agents.state_files import load_state, save_state


def asked(*words):
    return run_spec(cli._parser().parse_args(["train", *words]))


@pytest.mark.parametrize("kind", ["log", "linear", "both"])
@pytest.mark.parametrize(("num_updates", "num_checkpoints"), [(245, 100), (7, 100), (1525, 120)])
def test_a_schedule_has_enough_points(kind, num_updates, num_checkpoints):
    points = checkpoint_schedule(num_updates, num_checkpoints, kind=kind)
    assert points[0] == 0 and points[-1] == num_updates and sorted(set(points)) == list(points)
    wanted = min(num_updates, num_checkpoints)
    assert wanted <= len(points) - 1 <= 1.1 * wanted + 2
    if kind != "linear":
        assert points[1] == 1


def test_the_command_says_all():
    spec = asked(
        *("craftax-classic --steps 1e5 --envs 32 --unroll 16 --seeds 2 --first-seed 4").split(),
        *("--reward place_plant=0 eat_plant=2 --pay plant=1 --step-cost 0.01").split(),
        *("--see-achievements --learning-rate 1e-3 --no-anneal --map 16 --pool 8").split(),
    )
    assert spec.num_updates == 196 and spec.seeds == (4, 5) and spec.steps_per_update == 512
    assert spec.world.achievements == {"place_plant": 0.0, "eat_plant": 2.0}
    assert spec.world.events == {"plant": 1.0} and spec.world.step == 0.01
    assert spec.world.see_achievements and spec.world.map_size == 16 and spec.world.pool_size == 8
    assert spec.learning.learning_rate == 1e-3 and not spec.learning.anneal
    assert spec_from_json(spec.to_json()) == spec


def test_defaults_are_those_of_the_games():
    assert asked("craftax-classic").world.map_size == 32
    assert asked("craftax").world.map_size == 48
    assert asked("craftax-classic").num_updates == 245
    assert len(asked("craftax-classic").checkpoints) >= 101


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("craftax-classic --steps 0", "steps: expected a finite number > 0, got 0.0"),
        ("craftax-classic --seeds 0", "seeds: expected a whole number >= 1, got 0"),
        ("craftax-classic --width -1", "width: expected a whole number >= 0, got -1"),
        ("craftax-classic --checkpoints 0", "num_checkpoints: expected a whole number >= 1, got 0"),
        ("craftax-classic --steps nan", "steps: expected a finite number > 0, got nan"),
        ("craftax-classic --envs 0", "num_envs: expected a whole number >= 1, got 0"),
        ("craftax-classic --unroll 0", "num_steps: expected a whole number >= 1, got 0"),
        ("craftax-classic --learning-rate nan", "learning_rate: expected a finite number >= 0"),
        ("craftax-classic --pool 0", "pool_size: expected a whole number >= 1, got 0"),
        ("craftax-classic --time-limit 0", "max_timesteps: expected a whole number >= 1, got 0"),
        ("craftax-classic --reward eat_plant=nan", "achievements: eat_plant: expected .*, got nan"),
        ("craftax-classic --health inf", "health: expected a finite number, got inf"),
        ("craftax-classic --first-seed 2147483648", "seeds: got .*integers from 0 to 2147483647"),
        ("craftax-classic --pay plant=1 plant=2", "--pay: plant is given twice"),
        ("craftax-classic --steps 1e30", "num_updates: got .*, expected <= 2147483647"),
    ],
)
def test_bad_numbers_are_refused(words, text):
    with pytest.raises(ValueError, match=text):
        asked(*words.split())


def test_a_reward_in_words_is_refused():
    with pytest.raises(ValueError, match="events: plant: expected a finite number, got 'much'"):
        WorldSpec(events={"plant": "much"})


def test_a_name_is_refused_before_anything_runs(capsys, tmp_path):
    pytest.importorskip("craftax")
    words = ["train", "craftax-classic", "--reward", "plant=0", "--out", str(tmp_path / "run")]
    assert cli.main(words) == 2
    assert "achievements: there is no 'plant', expected one of" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("width", ["0", "4"])
def test_numbers_of_the_trainer_are_refused_before_a_world_is_made(width, capsys, monkeypatch):
    def make_worlds(_):
        raise AssertionError("worlds were made")

    monkeypatch.setattr(WorldSpec, "env", make_worlds)
    words = ["train", "craftax-classic", "--minibatches", "3", "--width", width]
    assert cli.main(words) == 2
    assert "num_minibatches: got 3, expected a divisor of" in capsys.readouterr().err


@pytest.mark.parametrize("what", [["--own"], ["--part", "layer_0"]])
def test_checkpoints_with_data_of_their_own_are_not_measured_side_by_side(what, capsys, tmp_path):
    assert cli.main(["curve", str(tmp_path / "run"), "--at-once", "2", *what]) == 2
    assert "at_once: got 2, expected at most 1: with own states" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--at-once", "--threads", "--chains"])
def test_a_curve_of_nothing_is_refused_before_the_run_is_read(option, capsys, tmp_path):
    assert cli.main(["curve", str(tmp_path / "run"), option, "0"]) == 2
    assert "expected a whole number >= " in capsys.readouterr().err


def test_a_map_of_size_zero_is_not_the_default():
    assert asked("craftax-classic", "--map", "0").world.map_size == 0  # `env` refuses it.


def test_a_malformed_pair_is_refused(capsys):
    with pytest.raises(SystemExit):
        asked("craftax-classic", "--reward", "place_plant")
    assert "expected NAME=NUMBER" in capsys.readouterr().err


def test_an_unknown_game_is_refused():
    with pytest.raises(ValueError, match="world: got 'crafter', expected one of"):
        _ = WorldSpec(world="crafter").rules


def test_seeds_are_different():
    with pytest.raises(ValueError, match="seeds: got"):
        RunSpec(
            world=WorldSpec(),
            network=NetworkSpec(),
            learning=asked("craftax").learning,
            seeds=(1, 1),
            num_updates=1,
        )


def test_a_state_of_another_structure_is_refused(tmp_path):
    import jax.numpy as jnp

    path = tmp_path / "state.safetensors"
    save_state(path, {"a": jnp.ones(2), "b": (jnp.int32(3), jnp.bool_(True))}, {"update": 1})
    example = {"a": jnp.zeros(2), "b": (jnp.int32(0), jnp.bool_(False))}
    found, metadata = load_state(path, example)
    assert found["a"].tolist() == [1, 1] and found["b"][0] == 3 and metadata == {"update": 1}
    with pytest.raises(ValueError, match=r"state.safetensors: a is .*\[2\], expected .*\[3\]"):
        load_state(path, example | {"a": jnp.zeros(3)})
    with pytest.raises(ValueError, match="c is missing, expected"):
        load_state(path, example | {"c": jnp.zeros(3)})

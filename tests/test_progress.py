"""Bars say what was found so far, a log gets lines, and neither changes a number."""

import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_rl
from slt_rl import cli, progress
from slt_rl.agents.command import Bar
from slt_rl.draws import Draws


def quadratic(w):
    return 0.5 * jnp.sum(w**2)


def told(verdict, number):
    flags = () if verdict == "trusted" else (f"flag {number}",)
    return SimpleNamespace(mean=number + 0.5, verdict=verdict, flags=flags)


def test_a_curve_tells_the_last_estimate_and_how_many_are_not_trusted(capsys):
    chunks = {0: [told("trusted", 0), told("doubtful", 1)], 2: [told("refused", 2)]}
    for show in (False, True):
        with progress.CurveBar(3, show=show) as bar:
            for start, chunk in chunks.items():
                bar.finish(start, chunk)
        said = capsys.readouterr().err
        assert bool(said) == show
    last = said.splitlines()[-1]
    assert "3/3" in last
    assert "llc 2.5 refused: flag 2; 2 of 3 not trusted" in last


def test_training_says_what_it_waits_for_and_then_its_return(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    played = {"num_episodes": np.array([1, 3]), "total_return": np.array([2.0, 8.0])}
    with Bar(SimpleNamespace(steps_per_update=100, seeds=(0, 1), num_updates=3)) as bar:
        bar(0, 3, {})
        bar(1, 3, {name: 0 * values for name, values in played.items()})
        bar(3, 3, played)
    waiting, _, first, last = capsys.readouterr().err.splitlines()[:4]
    assert "making worlds" in waiting
    assert "making worlds" not in first
    assert "600/600" in last
    assert "return=2.50" in last


def make_quadratic(params):
    return lambda w: quadratic(w - params)


def test_a_curve_of_one_chunk_tells_how_far_its_chains_are(monkeypatch, capsys):
    def curve(**options):
        sizes = {"num_chains": 2, "num_draws": 256, "num_burnin": 128}
        return slt_rl.llc_curve(
            jax.random.key(0), make_quadratic, jnp.zeros((4, 3)), nbeta=100.0, **sizes, **options
        )

    silent = curve(sampler=slt_rl.SGLD(1e-3))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    loud = curve(sampler=slt_rl.SGLD(1e-3), progress=True)
    lines = capsys.readouterr().err.splitlines()
    for a, b in zip(loud.estimates, silent.estimates, strict=True):
        np.testing.assert_array_equal(a.draws.excess_loss, b.draws.excess_loss)
    # Of 384 draws a third is burn-in; in eighths of a checkpoint.
    done = [line.split("[")[0].split()[-1] for line in lines]
    assert done == ["0/4", "1.25/4", "2.625/4", "4/4", "4/4", "4/4"]
    texts = "burn-in 128/384", "draw 256/384", "draw 384/384"
    assert all(text in line for line, text in zip(lines[1:4], texts, strict=True))
    assert progress.described(loud.estimates[-1]) in lines[-1]
    curve(progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert "0/4" in lines[1] and "calibrating 128/128" in lines[1]


def block(values, alive=True):
    """Draws of a block, excess losses `[chain, draw]`."""
    values = np.asarray(values, np.float32)[None]
    fields = dict.fromkeys(Draws._fields, np.zeros_like(values))
    return Draws(**fields | {"excess_loss": values, "alive": np.full(values.shape, alive)})


def test_draws_before_the_start_are_not_in_what_is_said(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    with progress.DrawsBar(2) as bar:
        bar.burn_in(128, 256)
        for level in (100.0, 1.0, 2.0, 3.0, 4.0):
            bar.sample(block([[level] * 4, [level + 1] * 4]), 4, 20, nbeta=2.0)
        bar.sample(block([[1.0] * 4, [np.nan] * 4], alive=False), 4, 24, nbeta=2.0)
    lines = capsys.readouterr().err.splitlines()
    assert "128/256" in lines[1] and "calibrating" in lines[1]
    assert "4/20" in lines[2] and "burn-in" in lines[2]
    # Twice the mean of 1, 2, 3, 4 and of one more each.
    assert "20/20" in lines[6] and "llc 6 +- " in lines[6]
    assert "24/24" in lines[7] and "2 chains not finite" in lines[7]


def test_a_bar_changes_no_draw_and_ends_with_the_result(capsys):
    def estimate(**options):
        sizes = {"num_chains": 2, "num_draws": 256, "num_burnin": 128}
        sampler = slt_rl.SGLD(1e-3)
        zero = jnp.zeros(3)
        return slt_rl.estimate_llc(
            jax.random.key(0), quadratic, zero, nbeta=100.0, sampler=sampler, **sizes, **options
        )

    silent = estimate()
    assert capsys.readouterr().err == ""
    loud = estimate(progress=True)
    lines = capsys.readouterr().err.splitlines()
    np.testing.assert_array_equal(loud.draws.excess_loss, silent.draws.excess_loss)
    assert len(lines) == 2  # Its start and its end: it took less than ten seconds.
    assert "2 chains" in lines[-1] and "384/384" in lines[-1]
    assert progress.described(silent) in lines[-1]


def test_a_log_gets_a_line_when_one_is_due_and_none_is_drawn_over(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "time", lambda: now[0])
    with progress.open_bar(40, show=True, unit="stage") as bar:
        bar._time = lambda: now[0]
        bar.last_print_t = bar.start_t = 0.0
        for _ in range(40):
            now[0] += 1.0
            progress.tell(bar, "inner")
            bar.update()
    said = capsys.readouterr().err
    assert "\r" not in said and "\x1b" not in said
    lines = said.splitlines()
    assert [line.split("/")[0].split()[-1] for line in lines] == ["0", "9", "19", "29", "39", "40"]


@pytest.mark.parametrize("read", [0, 5])
def test_the_time_left_is_not_told_by_compilation_or_by_what_was_finished_before(
    monkeypatch, capsys, read
):
    now = [0.0]
    total = read + 6
    with progress.open_bar(total, show=True, unit="point") as bar:
        bar._time = lambda: now[0]
        bar.last_print_t = bar.start_t = 0.0
        for _ in range(read):
            bar.update()
        # One minute of compilation before the first, then twelve seconds each.
        for seconds in (72.0, 12.0, 12.0, 12.0, 12.0):
            now[0] += seconds
            bar.update()
        bar.update(-5)  # It begins again, and is slower.
        for seconds in (20.0, 20.0, 20.0):
            now[0] += seconds
            bar.update()
        bar.update(total - bar.n)
    lines = capsys.readouterr().err.splitlines()
    left = [line.split("<")[1].split(",")[0] for line in lines]
    assert left[:6] == ["?", "?", "00:48", "00:36", "00:24", "00:12"]
    assert left[6:9] == ["?", "01:20", "01:00"]
    # The mean of all of it is what the last line says.
    assert left[9] == "00:00" and f"{180 / total:.2f}s/point" in lines[9]


def test_a_terminal_gets_a_bar_that_is_drawn_over(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress.open_bar(2, show=True, unit="stage") as bar:
        bar.update(2)
    said = capsys.readouterr().err
    assert "\r" in said and "2/2" in said
    with progress.open_bar(2, show=False, unit="stage") as bar:
        bar.update(2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_every_long_command_can_be_told_to_show_nothing(monkeypatch, tmp_path, capsys, quiet):
    shown = {}

    def says(name, result):
        def run(*args, progress, **options):
            del args, options
            shown[name] = progress
            return result

        return run

    def train_run(spec, folder, *, progress):
        del folder
        progress(spec.num_updates, spec.num_updates, {})

    report = SimpleNamespace(checks=[], all_held=True)
    curve = SimpleNamespace(verdicts=np.array(["trusted"]))
    monkeypatch.setattr("slt_rl.validation.validate", says("validate", report))
    monkeypatch.setattr("slt_rl.difficulty.climb", says("ladder", report))
    monkeypatch.setattr("slt_rl.agents.measure.measure_curve", says("curve", curve))
    monkeypatch.setattr("slt_rl.agents.measure.make_subjects", lambda *args, **options: [])
    monkeypatch.setattr("slt_rl.agents.run.load_run", lambda folder: None)
    monkeypatch.setattr("slt_rl.agents.develop.develop_run", says("develop", tmp_path))
    monkeypatch.setattr("slt_rl.agents.page.write_report", lambda run, frame_steps: report)
    monkeypatch.setattr("slt_rl.agents.training.train_run", train_run)
    monkeypatch.setattr(cli, "_use_double_precision", lambda: None)
    monkeypatch.setattr(cli, "set_xla_flags", lambda *, light: None)
    last = ["--quiet"] * quiet
    for words in (["validate"], ["ladder"], ["develop", str(tmp_path)]):
        assert cli.main([*words, *last]) == 0
    assert capsys.readouterr().err == ""
    # What these wait for before or without a bar is said in a line.
    for name, line in (("curve", "played for the states"), ("report", "playing the episodes")):
        assert cli.main([name, str(tmp_path), *last]) == 0
        said = capsys.readouterr().err
        assert line in said if not quiet else said == ""
    assert shown == dict.fromkeys(("validate", "ladder", "develop", "curve"), not quiet)
    assert cli.main(["train", "craftax-classic", "--out", str(tmp_path), *last]) == 0
    assert (capsys.readouterr().err == "") == quiet


def test_the_picture_of_a_notebook_grows_with_what_is_planned():
    # As `tqdm.notebook` builds it: a text, a picture with a scale, a text.
    picture = SimpleNamespace(max=1, bar_style="info", layout=SimpleNamespace(width="20px"))
    notebook = SimpleNamespace(
        total=None, container=SimpleNamespace(children=(None, picture, None))
    )
    for total in (256, 1024):
        progress._set_total(notebook, total)
        assert notebook.total == picture.max == total and picture.layout.width is None
    terminal = SimpleNamespace(total=None)
    progress._set_total(terminal, 64)
    assert terminal.total == 64

"""The page of agents on an accelerator: what is added stays, what is newer takes its place."""

import json

import pytest

from benchmarks import craftax_gpu_page, pages
from slt_rl.agents.points import FORMAT
from slt_rl.documents import write_document


def result(steps=512, plants=(1.0, 2.0, 1.25)):
    count = len(plants)
    agent = {
        "seconds": [1.0, 2.0],
        "steps": steps,
        "window_steps": 128,
        "median_steps_per_second": 1e5,
        "mean_return": [1.0] * count,
        "return_percent": [5.0] * count,
        "mean_length": [30.0] * count,
        "plants_per_episode": list(plants),
        "plants_sem": [0.1] * count,
        "event_names": ["achievement/place_plant"],
        "last_per_episode": [0.9],
        "spec": {"num_updates": 4, "learning": {"num_envs": 16, "num_steps": 8}},
    }
    made = {"command": "c", "commit": "0123456789", "machine": {}, "device": "some GPU"}
    versions = {"python": "3.12", "jax": "0.11"}
    return {"agents": {"classic-recurrent": agent}, "versions": versions, **made}


def run(monkeypatch, folder, *arguments):
    monkeypatch.setattr(pages, "RESULTS", folder)
    words = ["craftax_gpu_page", "--out", str(folder), *map(str, arguments)]
    monkeypatch.setattr("sys.argv", words)
    craftax_gpu_page.main()
    return json.loads((folder / "craftax_gpu.json").read_text())["rows"]


def test_rows_stay_and_the_same_run_is_replaced(monkeypatch, tmp_path):
    file = tmp_path / "result.json"
    for number, (steps, plants) in enumerate([(512, (1, 2, 1.25)), (256, (1, 3)), (512, (1, 4))]):
        file.write_text(json.dumps(result(steps, plants)))
        rows = run(monkeypatch, tmp_path, "--add", file, "--note", f"note {number}")
    assert [(row["steps"], row["note"]) for row in rows] == [(256, "note 1"), (512, "note 2")]
    text = (tmp_path / "craftax_gpu.md").read_text()
    assert "4.000 ± 0.100 (0.0 to 0.0M)" in text and str(tmp_path) not in text
    assert (tmp_path / "craftax_gpu_curves.svg").exists()


def test_the_table_of_plants_has_peak_and_what_follows():
    rows = craftax_gpu_page.result_rows(result(plants=(0.5, 2.0, 1.25, 1.5)), "")
    cells = craftax_gpu_page.plants_table(rows).rows[0]
    assert [cell.split()[0] for cell in cells[2:6]] == ["0.500", "2.000", "1.250", "1.500"]


def test_points_of_a_curve_are_added_by_step(monkeypatch, tmp_path):
    file = tmp_path / "result.json"
    file.write_text(json.dumps(result()))
    folder = tmp_path / "points"
    for step in (900, 100):
        point = {"step": step, "mean": 3.0, "sem": 0.5, "localization": 300.0, "regime": "unknown",
                 "verdict": "trusted", "num_gradient_evaluations": 10}  # fmt: skip
        path = folder / f"step-{step:012d}-localization-300.json"
        write_document(path, {"format": FORMAT, "point": point})
    run(monkeypatch, tmp_path, "--add", file)
    rows = run(monkeypatch, tmp_path, "--add-curve", folder)
    assert [point["step"] for point in rows[-1]["points"]] == [100, 900]
    assert "|900|3.00|0.50|trusted|unknown|10|" in (tmp_path / "craftax_gpu.md").read_text()
    with pytest.raises(ValueError, match="holds no points"):
        run(monkeypatch, tmp_path, "--add-curve", tmp_path / "nothing")

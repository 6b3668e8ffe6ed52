"""The table of a sweep's scores, from run directories written here."""

import json
import statistics
from pathlib import Path

import pytest
import yaml

from attendgen.runs.layout import CONFIG, ENVIRONMENT, OVERRIDES


@pytest.fixture
def script(load_script):
    return load_script("tabulate_results")


def write_run(folder: Path, gate: str, seed: int, cider: float | None, minute: int = 0) -> None:
    overrides = [
        "experiment=flickr8k_soft",
        "data.root=/somewhere",
        f"seed={seed}",
        f"model.context_gate={gate}",
        "+trainer.limit_val_batches=9",
        "paths.outputs=/somewhere",
        "hydra/launcher=joblib",
    ]
    (folder / OVERRIDES).parent.mkdir(parents=True)
    (folder / OVERRIDES).write_text(yaml.safe_dump(overrides))
    (folder / ".hydra" / "config.yaml").write_text("{}")
    monitor = {"metric": "val/cider", "mode": "max"}
    (folder / CONFIG).write_text(yaml.safe_dump({"name": "flickr8k_soft", "seed": seed, "monitor": monitor}))
    (folder / ENVIRONMENT).write_text(json.dumps({"started": f"2026-01-01T00:{minute:02d}:00"}))
    if cider is not None:
        (folder / "metrics_dev.json").write_text(json.dumps({"cider": cider, "bleu4": cider / 2}))


def test_a_row_is_a_setting_with_mean_and_std_over_seeds(script, tmp_path, capsys):
    scores = {("none", 1): 0.4, ("none", 2): 0.44, ("scalar", 1): 0.5, ("scalar", 2): 0.53, ("scalar", 3): None}
    for number, ((gate, seed), cider) in enumerate(scores.items(), 1):
        write_run(tmp_path / "sweep" / str(number), gate, seed, cider, minute=number)
    write_run(tmp_path / "sweep" / "9", "none", 1, 0.1)  # older, of the same setting and seed
    out = tmp_path / "results.md"
    script.main([str(tmp_path / "sweep"), "--metrics", "cider", "bleu4", "meteor", "--out", str(out)])
    text = out.read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == ["experiment", "settings", "seeds", "cider", "bleu4", "meteor"]
    for row, (gate, values) in zip(rows[1:], {"scalar": [0.5, 0.53], "none": [0.4, 0.44]}.items(), strict=True):
        mean, std = statistics.mean(values), statistics.stdev(values)
        assert row[1:4] == [f"`model.context_gate={gate}`", "2", f"{mean:.3f} ± {std:.3f}"]
        assert row[4:] == [f"{50 * mean:.1f} ± {50 * std:.1f}", ""]
    command = (
        "attendgen train -m experiment=flickr8k_soft data.root=DIR seed=1,2 model.context_gate=none,scalar "
        "+trainer.limit_val_batches=9\n"
    )
    assert text.count(command) == 1
    assert "/somewhere" not in text
    assert "metrics_dev.json; left out" in capsys.readouterr().err


def test_trials_that_are_not_a_grid_are_quoted_one_by_one(script, tmp_path, capsys):
    for gate, seed in (("none", 1), ("scalar", 1), ("scalar", 2)):
        write_run(tmp_path / f"{gate}{seed}", gate, seed, 0.4)
    script.main([str(tmp_path)])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for gate, seed in (("none", 1), ("scalar", 1), ("scalar", 2)):
        assert (
            f"attendgen train experiment=flickr8k_soft data.root=DIR seed={seed} model.context_gate={gate} "
            "+trainer.limit_val_batches=9"
        ) in lines


def test_nothing_to_tabulate_is_a_mistake(script, tmp_path, capsys):
    write_run(tmp_path / "run", "none", 1, None)
    with pytest.raises(SystemExit) as stop:
        script.main([str(tmp_path)])
    assert stop.value.code == 2
    assert "no run with metrics_dev.json" in capsys.readouterr().err

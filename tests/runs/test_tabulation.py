"""The table of a sweep's scores, from run folders written here."""

import importlib.util
import json
import statistics
from pathlib import Path
from types import ModuleType

import pytest
import yaml


@pytest.fixture
def script() -> ModuleType:
    path = Path(__file__).parents[1] / "scripts" / "tabulate_results.py"
    spec = importlib.util.spec_from_file_location("tabulate_results", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(folder: Path, gate: str, seed: int, cider: float | None) -> None:
    overrides = [
        "experiment=flickr8k_soft",
        "data.root=/somewhere",
        f"seed={seed}",
        f"model.context_gate={gate}",
        "steps=9",
    ]
    overrides += ["paths.outputs=/somewhere", "hydra/launcher=joblib"]
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    (folder / ".hydra" / "config.yaml").write_text("{}")
    (folder / "config.yaml").write_text(yaml.safe_dump({"name": "flickr8k_soft", "seed": seed}))
    if cider is not None:
        (folder / "metrics_dev.json").write_text(json.dumps({"cider": cider, "bleu4": cider / 2}))


def test_a_row_is_a_setting_with_mean_and_deviation_over_seeds(script, tmp_path, capsys):
    scores = {("none", 1): 0.4, ("none", 2): 0.44, ("scalar", 1): 0.5, ("scalar", 2): 0.53, ("scalar", 3): None}
    for number, ((gate, seed), cider) in enumerate(scores.items()):
        run(tmp_path / "sweep" / str(number + 1), gate, seed, cider)
    run(tmp_path / "sweep" / "0", "none", 1, 0.1)  # an older run of the same setting and seed
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
        "attendgen train -m experiment=flickr8k_soft data.root=DIR seed=1,2 model.context_gate=none,scalar steps=9"
    )
    assert text.count(command) == 1
    assert "/somewhere" not in text
    assert "metrics_dev.json; left out" in capsys.readouterr().err


def test_trials_that_are_no_grid_are_quoted_one_by_one(script, tmp_path, capsys):
    for gate, seed in (("none", 1), ("scalar", 1), ("scalar", 2)):
        run(tmp_path / f"{gate}{seed}", gate, seed, 0.4)
    script.main([str(tmp_path)])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for gate, seed in (("none", 1), ("scalar", 1), ("scalar", 2)):
        assert (
            f"attendgen train experiment=flickr8k_soft data.root=DIR seed={seed} model.context_gate={gate} steps=9"
            in lines
        )


def test_nothing_to_tabulate_is_a_mistake(script, tmp_path, capsys):
    run(tmp_path / "run", "none", 1, None)
    with pytest.raises(SystemExit) as caught:
        script.main([str(tmp_path)])
    assert caught.value.code == 2
    assert "no run with metrics_dev.json" in capsys.readouterr().err

"""The commands that train runs again."""

from pathlib import Path

import yaml

from attendgen.runs.commands import make_commands
from attendgen.runs.layout import OVERRIDES
from attendgen.runs.listing import RunSummary
from attendgen.runs.status import COMPLETE, RunStatus

MORE = ["+trainer.limit_val_batches=9", "paths.outputs=/somewhere", "hydra/launcher=joblib"]


def make_run(folder: Path, gate: str, seed: int) -> RunSummary:
    overrides = ["experiment=toy", "data.root=/somewhere", f"seed={seed}", f"model.gate={gate}", *MORE]
    (folder / OVERRIDES).parent.mkdir(parents=True)
    (folder / OVERRIDES).write_text(yaml.safe_dump(overrides))
    return RunSummary(folder, "toy", "val/bleu", "max", None, {}, RunStatus(COMPLETE), "", str(seed), {})


def test_all_combinations_are_one_sweep(tmp_path: Path) -> None:
    grid = [(gate, seed) for gate in ("none", "scalar") for seed in (1, 2)]
    runs = [make_run(tmp_path / f"{gate}{seed}", gate, seed) for gate, seed in grid]
    assert make_commands(runs) == [
        "attendgen train -m experiment=toy data.root=DIR seed=1,2 model.gate=none,scalar +trainer.limit_val_batches=9"
    ]
    assert make_commands(runs[1:]) == [
        f"attendgen train experiment=toy data.root=DIR seed={seed} model.gate={gate} +trainer.limit_val_batches=9"
        for gate, seed in grid[1:]
    ]

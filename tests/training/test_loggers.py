"""Loggers of a resumed run keep what they hold."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attendgen.hydra_app.app import run_hydra
from attendgen.training.loggers import make_loggers
from attendgen.utils.errors import UserError
from helpers import tiny_data

IN_RUN = {"save_dir": "${paths.run}", "version": ""}
CSV = {"_target_": "lightning.pytorch.loggers.CSVLogger", "name": "csv", **IN_RUN, "flush_logs_every_n_steps": 1}
BOARD = {"_target_": "lightning.pytorch.loggers.TensorBoardLogger", "name": "tb", **IN_RUN}
SETTINGS = ["logger=mine", "trainer.log_every_n_steps=1", "validate_every=1", "callbacks.samples=null"]
SETTINGS += ["decoding.max_length=4"]


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def train_with(tmp_path: Path) -> Callable[..., Path]:
    """Train with a logger of the user's own config folder."""

    def run(logger: dict, *overrides: str) -> Path:
        (tmp_path / "conf" / "logger").mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / "logger" / "mine.yaml").write_text(yaml.safe_dump(logger))
        given = tiny_data.arguments("toy_chat", tmp_path, *SETTINGS, *overrides)
        run_hydra(["--config-dir", f"{tmp_path}/conf", *given])
        return tmp_path / "run"

    return run


@pytest.mark.parametrize(
    "logger",
    [pytest.param(CSV, id="one", marks=pytest.mark.slow), pytest.param({"csv": CSV, "board": BOARD}, id="by name")],
)
def test_a_resumed_csv_log_keeps_its_lines(train_with: Callable[..., Path], logger: dict) -> None:
    folder = train_with(logger, "epochs=2")
    before = lines(folder / "csv" / "metrics.csv")
    assert before
    run_hydra([f"resume={folder}", "epochs=4"])
    after = lines(folder / "csv" / "metrics.csv")
    # new columns may have been added; the old ones keep their values and their order
    kept = [{key: row[key] for key in old} for old, row in zip(before, after, strict=False)]
    assert kept == before
    steps = [int(row["step"]) for row in after if row["train/loss"]]
    assert steps == sorted(set(steps))
    assert max(steps) > max(int(row["step"]) for row in before)
    if (folder / "tb").exists():
        events = EventAccumulator(str(folder / "tb"))
        events.Reload()
        assert [event.step for event in events.Scalars("train/loss")] == steps


def test_lines_from_after_the_checkpoint_are_written_anew(train_with: Callable[..., Path]) -> None:
    folder = train_with(CSV, "epochs=2")
    path = folder / "csv" / "metrics.csv"
    before = lines(path)
    with path.open("a", newline="") as file:  # as if the run had been killed after its last save
        writer = csv.DictWriter(file, before[0].keys())
        writer.writerow({**dict.fromkeys(before[0], ""), "step": "1000", "train/loss": "99"})
    run_hydra([f"resume={folder}", "epochs=3"])
    after = lines(path)
    assert "1000" not in [row["step"] for row in after]
    assert [{key: row[key] for key in old} for old, row in zip(before, after, strict=False)] == before


def test_a_new_run_deletes_no_lines_of_another_run(train_with: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "logs" / "csv").mkdir(parents=True)
    (tmp_path / "logs" / "csv" / "metrics.csv").write_text("step,loss\n1,2\n")
    logger = {**CSV, "save_dir": str(tmp_path / "logs")}
    with pytest.raises(UserError, match=r"metrics\.csv: holds the log of another run"):
        train_with(logger)
    assert (tmp_path / "logs" / "csv" / "metrics.csv").read_text() == "step,loss\n1,2\n"


def test_loggers_are_one_or_several(tmp_path: Path) -> None:
    one, other = ({**logger, "save_dir": str(tmp_path)} for logger in (CSV, BOARD))
    kinds = [logger["_target_"].rpartition(".")[2] for logger in (one, other)]
    for config in ([one, other], {"a": one, "b": other}, {"a": one, "none": None, "b": other}):
        made = make_loggers(OmegaConf.create(config), step=None)
        assert [type(logger).__name__ for logger in made] == kinds
    assert [type(logger).__name__ for logger in make_loggers(OmegaConf.create(one), step=None)] == kinds[:1]
    assert make_loggers(None, step=None) == make_loggers(OmegaConf.create({}), step=3) == []

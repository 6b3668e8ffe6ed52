"""Loggers of a resumed run keep what they hold."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attendgen.config.resolvers import register_resolvers
from attendgen.hydra_app.app import run_hydra
from attendgen.training.loggers import make_loggers
from attendgen.utils.errors import UserError
from attendgen.utils.resources import get_conf_dir
from helpers import tiny_data
from helpers.errors import refusal

IN_RUN = {"save_dir": "${paths.run}", "version": ""}
CSV = {"_target_": "lightning.pytorch.loggers.CSVLogger", "name": "csv", **IN_RUN, "flush_logs_every_n_steps": 1}
BOARD = {"_target_": "lightning.pytorch.loggers.TensorBoardLogger", "name": "tb", **IN_RUN}
SETTINGS = ["logger=mine", "trainer.log_every_n_steps=1", "validate_every=1", "callbacks.samples=null"]
SETTINGS += ["decoding.max_length=4"]


def lines(path: Path) -> list[dict[str, str]]:
    """Return the lines but the last scores, which a run that goes on writes anew at its end."""
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if not row["final/bleu"]]


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
    [pytest.param({"csv": CSV}, id="one", marks=pytest.mark.slow), pytest.param({"csv": CSV, "tb": BOARD}, id="two")],
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
    folder = train_with({"csv": CSV}, "epochs=2")
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
        train_with({"mine": logger})
    assert (tmp_path / "logs" / "csv" / "metrics.csv").read_text() == "step,loss\n1,2\n"


def test_loggers_have_names(tmp_path: Path) -> None:
    one, other = ({**logger, "save_dir": str(tmp_path)} for logger in (CSV, BOARD))
    made = make_loggers(OmegaConf.create({"a": one, "none": None, "b": other}), tmp_path, step=None)
    assert {name: type(logger).__name__ for name, logger in made.items()} == {
        "a": "CSVLogger",
        "b": "TensorBoardLogger",
    }
    assert make_loggers(None, tmp_path, step=None) == make_loggers(OmegaConf.create({}), tmp_path, step=3) == {}
    for wrong in (one, [one, other]):
        assert "logger: expected loggers by name" in refusal(make_loggers, OmegaConf.create(wrong), tmp_path, step=None)
    wrong = OmegaConf.create({"mine": {"_target_": "collections.OrderedDict"}})
    assert (
        refusal(make_loggers, wrong, tmp_path, None)
        == "logger.mine: OrderedDict is not a logger of Lightning; derive it from one"
    )


@pytest.mark.parametrize(("name", "module"), [("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_missing_package_is_one_line(name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda found: None if found == module else object())
    config = compose_logger(name, tmp_path)
    message = f"{module} is not installed; run pip install 'attendgen[loggers]'"
    assert refusal(make_loggers, config, tmp_path, None) == message


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("many", ["csv", "tensorboard"]),
        ("[tensorboard,csv]", ["csv", "tensorboard"]),
        ("[csv,wandb,mlflow]", ["csv", "mlflow", "wandb"]),
        ("none", []),
    ],
)
def test_groups_are_combined_by_name(choice: str, names: list[str], tmp_path: Path) -> None:
    assert sorted(compose_logger(choice, tmp_path)) == names


def compose_logger(choice: str, folder: Path) -> Any:
    register_resolvers()
    with initialize_config_dir(str(get_conf_dir()), version_base="1.3"):
        config = compose("train", [f"logger={choice}", f"paths.run={folder}", "name=test"])
    return config.logger

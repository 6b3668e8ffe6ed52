"""W&B without a network and MLflow in local files: settings, numbers, samples, images, and resumed runs."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from attendgen.hydra_app.app import run_hydra

SETTINGS = ["trainer.log_every_n_steps=1", "validate_every=1", "decoding.max_length=4", "callbacks.samples.count=2"]
SETTINGS += ["callbacks.samples.figures=1", "+trainer.limit_train_batches=2", "+trainer.limit_val_batches=1"]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_CONSOLE": "off"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.slow
def test_mlflow_has_everything_and_a_resumed_run_continues_it(train: Callable[..., Path]) -> None:
    folder = train("toy_chat", "logger=mlflow", "epochs=2", *SETTINGS)
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"file:{folder}/mlflow")
    run_id = json.loads((folder / "loggers.json").read_text())["mlflow"]
    run = client.get_run(run_id)
    assert (run.data.params["seed"], run.data.params["task.optimizer.lr"]) == ("1", "0.01")
    assert not any(name.startswith(("paths", "callbacks")) for name in run.data.params)
    assert {"train/loss", "val/bleu", "final/bleu"} <= set(run.data.metrics)
    texts = sorted((folder / "mlflow").rglob("samples/*.txt"))
    assert len(texts) == 2
    assert texts[0].read_text(encoding="utf-8").count(" → ") == 2
    assert len(list((folder / "mlflow").rglob("attention/0/*.png"))) == 2
    run_hydra([f"resume={folder}", "epochs=3", "task.optimizer.lr=0.001"])
    assert [run.info.run_id for run in client.search_runs([run.info.experiment_id])] == [run_id]
    steps = [entry.step for entry in client.get_metric_history(run_id, "val/bleu")]
    assert steps == [1, 3, 5]
    assert client.get_run(run_id).data.params == run.data.params  # MLflow keeps the first


@pytest.mark.slow
def test_wandb_has_everything_and_a_resumed_run_continues_it(train: Callable[..., Path]) -> None:
    folder = train("toy_chat", "logger=wandb", "epochs=1", *SETTINGS)
    import wandb

    assert wandb.run is None  # the next training of this process has a run of its own
    run_id = json.loads((folder / "loggers.json").read_text())["wandb"]
    (part,) = (folder / "wandb").glob("offline-run-*")
    assert part.name.endswith(run_id)
    media = part / "files" / "media"
    assert len(list(media.rglob("attention/*.png"))) == 1
    (page,) = media.rglob("samples*.html")
    assert page.read_text(encoding="utf-8").count(" → ") == 2
    file = part / f"run-{run_id}.wandb"
    for _ in range(100):  # a process of W&B writes it, later than this one on a busy machine
        stored = file.read_bytes()
        if b"final/bleu" in stored:
            break
        time.sleep(0.1)
    for name in (b"train/loss", b"val/bleu", b"final/bleu", b"task.optimizer.lr"):
        assert name in stored
    assert f"log: wandb sync {part}" in (folder / "train.log").read_text()
    run_hydra([f"resume={folder}", "epochs=2"])
    parts = folder / "wandb" / f"offline-run-*-{run_id}"  # which `wandb sync` joins by their id
    assert len(list(parts.parent.glob(parts.name))) == 2
    assert f"log: wandb sync {parts}" in (folder / "train.log").read_text()
    assert json.loads((folder / "loggers.json").read_text()) == {"wandb": run_id}

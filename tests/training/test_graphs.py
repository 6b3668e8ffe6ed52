"""`trainer.compile=true` replays training steps and the decoding steps of validations."""

import json
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from attendgen.decoding.graphs import DecodingGraphs
from attendgen.tasks.base import BaseTask
from attendgen.tasks.graphs import GraphedSteps
from attendgen.training import trainer as trainer_module
from attendgen.training.trainer import use_graphs
from helpers.errors import refusal
from helpers.families import make_training
from helpers.rerun import RerunRecorder
from helpers.runs import train


def test_training_and_validation_are_compiled() -> None:
    task = make_training("captioner").task
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy._root_device = torch.device("cuda:0")
    use_graphs(trainer, task)
    assert isinstance(task.graphs, GraphedSteps)
    assert isinstance(task.decoding_graphs, DecodingGraphs)


def test_a_strategy_for_several_devices_is_refused_on_one() -> None:
    trainer = lightning.Trainer(accelerator="cpu", devices=1, strategy="ddp", logger=False, enable_checkpointing=False)
    trainer.strategy.parallel_devices = [torch.device("cuda:0")]
    message = refusal(use_graphs, trainer, make_training("captioner").task)
    assert message == "trainer.compile=true: not with DDPStrategy; use trainer=gpu"


@pytest.mark.slow
def test_validations_see_the_averaged_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = RerunRecorder()

    def use_reruns(trainer: lightning.Trainer, task: BaseTask[Any]) -> None:
        task.decoding_graphs = DecodingGraphs(lambda: recorder)

    monkeypatch.setattr(trainer_module, "use_graphs", use_reruns)
    settings = [
        "trainer.accelerator=cpu",
        "epochs=4",
        "validate_every=2",
        "callbacks=ema",
        "decoding.max_length=8",
        "logger=none",
    ]
    plain, compiled = (
        json.loads(
            (
                train(tmp_path, "toy_chat", *settings, f"trainer.compile={choice}", name=choice) / "metrics_fit.json"
            ).read_text()
        )
        for choice in ("false", "true")
    )
    assert recorder.replayed > recorder.recorded > 0
    scores = [name for name in plain if name.startswith("val/")]
    assert {name: compiled[name] for name in scores} == pytest.approx({name: plain[name] for name in scores}, rel=1e-5)

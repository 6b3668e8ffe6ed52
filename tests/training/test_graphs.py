"""`trainer.compile=true` replays training steps and the decoding steps of validations."""

import lightning
import torch

from attendgen.decoding.graphs import DecodingGraphs
from attendgen.tasks.graphs import GraphedSteps
from attendgen.training.trainer import use_graphs
from helpers.families import make_training


def test_training_and_validation_are_compiled() -> None:
    task = make_training("captioner").task
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy._root_device = torch.device("cuda:0")
    use_graphs(trainer, task)
    assert isinstance(task.graphs, GraphedSteps)
    assert isinstance(task.decoding_graphs, DecodingGraphs)

"""`threads=auto`: the number of threads is chosen by what a training step gains."""

from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from attendgen.data.module import BaseDataModule
from attendgen.runs.run import Run
from attendgen.training import threads
from attendgen.training.components import Components
from attendgen.training.threads import LEAST_GAIN, choose_threads, use_threads
from helpers.families import make_training
from helpers.runs import SharedRuns


def make_components() -> Components:
    task, batch = make_training("captioner")
    data: Any = BaseDataModule()
    data.train_dataloader = lambda: [batch]
    return Components(data, task, task.vocabulary, None)


def choose(monkeypatch: pytest.MonkeyPatch, gain: float, accelerator: str = "cpu", wanted: object = "auto") -> Any:
    """Return the chosen number of threads, and that of torch, where three threads gain so much."""
    monkeypatch.setattr(threads, "time_step", lambda step, count: {1: gain, 3: 1.0}[count])
    config = OmegaConf.create({"threads": wanted, "trainer": {"accelerator": accelerator}})
    with use_threads(3):
        choose_threads(config, make_components())
        return config.threads, torch.get_num_threads()


def test_all_threads_are_used_only_if_they_gain_enough(monkeypatch):
    assert choose(monkeypatch, LEAST_GAIN + 0.01) == (3, 3)
    assert choose(monkeypatch, LEAST_GAIN - 0.01) == (1, 1)
    assert choose(monkeypatch, 0.2, wanted=None) == (None, 3)
    assert choose(monkeypatch, 0.2, accelerator="gpu") == (None, 3)


def test_measuring_leaves_the_task_and_the_random_numbers_alone():
    components = make_components()
    before = {name: value.clone() for name, value in components.task.state_dict().items()}
    config = OmegaConf.create({"threads": "auto", "trainer": {"accelerator": "cpu"}})
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with use_threads(2):
        choose_threads(config, components)
    torch.testing.assert_close(torch.rand(3), expected)
    torch.testing.assert_close(dict(components.task.state_dict()), before)
    assert all(parameter.grad is None for parameter in components.task.parameters())
    assert config.threads in (1, 2)


def test_a_run_keeps_the_number_and_is_the_training_with_that_number(runs: SharedRuns) -> None:
    folder = runs("toy_chat", "threads=auto", "decoding.max_length=4", "callbacks.samples=null")
    count = Run.find(folder).config.threads
    assert count in (None, *range(1, 64))
    plain = runs("toy_chat", f"threads={count or 'null'}", "decoding.max_length=4", "callbacks.samples=null")
    torch.testing.assert_close(*(Run.find(run).load_model().state_dict() for run in (folder, plain)), rtol=0, atol=0)

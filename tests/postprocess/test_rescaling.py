"""Gains of matrices: found where the cross-entropy is least, and put into a run of their own."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attendgen.evaluation.evaluate import evaluate
from attendgen.postprocess import rescaling as calibration
from attendgen.postprocess.rescaling import adjustable, calibrate, fit_gains, multiplied
from attendgen.runs.run import Run
from attendgen.utils.errors import UserError
from helpers import tiny_data

RUNS = {
    "stream": ["novels_lstm", "trainer.max_steps=40", "steps=40"],
    "captions": ["flickr8k_soft"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A run by its name."""
    whole = ["trainer.max_epochs=-1", "trainer.limit_train_batches=1.0"]
    runs = tiny.Runs(tmp_path_factory.mktemp("runs"), RUNS, *whole)
    return lambda name: Run.find(runs(name))


class Reader(nn.Module):
    """A layer that keeps a state and one that does not."""

    def __init__(self, symbols: int = 6, hidden: int = 5) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, hidden, batch_first=True)
        self.output = nn.Linear(hidden, symbols)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.output(self.lstm(inputs)[0])


class Known(nn.Module):
    """A task whose true distribution is that of its model with certain gains: no other has less cross-entropy."""

    def __init__(self, model: nn.Module, gains: dict[str, Tensor]) -> None:
        super().__init__()
        self.model = model
        truth = copy.deepcopy(model)
        truth.load_state_dict(multiplied(dict(truth.named_parameters()), gains), strict=False)
        self.truth = [truth]  # no part of the task's parameters

    def nats(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        found = self.model(inputs).log_softmax(dim=-1)
        truth = self.truth[0](inputs).softmax(dim=-1)
        return -(truth * found).sum(), torch.tensor(found[..., 0].numel())


def sharpened(model: nn.Module) -> nn.Module:
    """Weights large enough that their gains matter."""
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(4)
    return model


def test_a_temperature_is_found():
    torch.manual_seed(1)
    task = Known(nn.Sequential(nn.Linear(4, 7)), {"0.weight": torch.tensor([0.93])})
    inputs = [4 * torch.randn(50, 4) for _ in range(5)]
    assert fit_gains(task, lambda: inputs)["0.weight"].item() == pytest.approx(0.93, abs=2e-3)


def test_each_gate_finds_its_own_gain():
    torch.manual_seed(2)
    gains = {"lstm.weight_hh_l0": torch.tensor([0.95, 1.04, 0.97, 1.05]), "output.weight": torch.tensor([0.95])}
    gains["lstm.weight_ih_l0"] = torch.tensor([1.03, 0.96, 1.05, 0.97])
    task = Known(sharpened(Reader()), gains)
    before = copy.deepcopy(task.model.state_dict())
    inputs = [torch.randn(40, 12, 3) for _ in range(100)]
    found = fit_gains(task, lambda: inputs)
    assert found.keys() == gains.keys()
    for name, gain in gains.items():
        torch.testing.assert_close(found[name], gain, atol=5e-3, rtol=0)
    for name, value in task.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_gain_multiplies_the_rows_of_its_gate():
    weight = torch.arange(12.0).reshape(6, 2)
    found = multiplied({"a": weight, "b": weight}, {"a": torch.tensor([2.0, 1.0, 0.5])})
    assert found.keys() == {"a"}
    assert found["a"].tolist() == [[0, 2], [4, 6], [4, 5], [6, 7], [4, 4.5], [5, 5.5]]


def test_matrices_that_are_trained_have_gains():
    model = nn.ModuleDict({"lstm": nn.LSTM(3, 5, 2), "cell": nn.GRUCell(4, 5), "words": nn.Embedding(6, 5)})
    model["output"] = nn.Linear(5, 6)
    model["output"].weight = model["words"].weight
    model["frozen"] = nn.Linear(2, 2).requires_grad_(False)
    model["picture"] = nn.Conv2d(3, 4, 2)
    recurrent = {f"lstm.weight_{kind}_l{layer}": 4 for kind in ("ih", "hh") for layer in (0, 1)}
    recurrent |= {"cell.weight_ih": 3, "cell.weight_hh": 3}
    assert adjustable(model) == {**recurrent, "words.weight": 1}


@pytest.mark.parametrize("name", ["stream", pytest.param("captions", marks=pytest.mark.slow)])
def test_a_run_is_made_that_predicts_the_split_better(run, tmp_path, name):
    found = run(name)
    before, after = calibrate(found, found.config, tmp_path / "made")
    assert after < before
    score = {"stream": ("bits_per_character", math.log(2)), "captions": ("cross_entropy", 1.0)}[name]
    for folder, nats in ((found.folder, before), (tmp_path / "made", after)):
        there = Run.find(folder)
        scores = evaluate(there, there.config, "val", tmp_path)
        assert scores[score[0]] * score[1] == pytest.approx(nats, abs=1e-5)


def test_a_model_is_left_as_it_is_where_no_gain_helps(run, tmp_path, monkeypatch):
    def worse(task: Any, batches: Any) -> dict[str, Tensor]:
        return {name: torch.full((gates,), -1.0) for name, gates in adjustable(task.model).items()}

    monkeypatch.setattr(calibration, "fit_gains", worse)
    found = run("stream")
    before, after = calibrate(found, found.config, tmp_path / "made")
    assert before == after
    trained, made = found.build().state_dict(), Run.find(tmp_path / "made").build().state_dict()
    assert all(torch.equal(value, made[name]) for name, value in trained.items())


def test_what_cannot_be_calibrated_is_named(run, tmp_path):
    found = run("stream")
    with pytest.raises(UserError, match="--fit dawn: unknown"):
        calibrate(found, found.config, tmp_path / "made", "dawn")
    with pytest.raises(UserError, match="holds a run"):
        calibrate(found, found.config, found.folder)
    with pytest.raises(UserError, match="nowhere"):
        calibrate(found, found.override(["data.root=nowhere"]), tmp_path / "made")
    assert not (tmp_path / "made").exists()

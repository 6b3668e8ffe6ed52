"""Gains of weight matrices are fitted to the least cross-entropy, and written into a new run."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attendgen.data.batch import CaptionBatch
from attendgen.decoding.config import DecodingConfig
from attendgen.evaluation.evaluate import evaluate
from attendgen.postprocess import rescaling
from attendgen.postprocess.rescaling import find_matrices, fit_gains, rescale, scale_rows
from attendgen.runs.run import Run
from attendgen.tasks.base import BaseTask
from attendgen.text.vocabulary import Vocabulary
from helpers.errors import refusal
from helpers.runs import SharedRuns

WHOLE = ("trainer.max_epochs=-1", "trainer.limit_train_batches=1.0")
RUNS = {
    "stream": ("novels_lstm", *WHOLE, "trainer.max_steps=40", "steps=40"),
    "captions": ("flickr8k_soft", *WHOLE),
}


@pytest.fixture
def find_run(runs: SharedRuns) -> Callable[[str], Run]:
    """A run by its name."""
    return lambda name: Run.find(runs(*RUNS[name]))


class Recurrent(nn.Module):
    """A recurrent layer and a linear one."""

    def __init__(self, vocab_size: int = 6, hidden: int = 5) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, hidden, batch_first=True)
        self.output = nn.Linear(hidden, vocab_size)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.output(self.lstm(inputs)[0])


class KnownGains(BaseTask):
    """A task whose targets are distributed as its model predicts with certain gains, which are then the optimum."""

    def __init__(self, model: nn.Module, gains: dict[str, Tensor]) -> None:
        super().__init__(model, Vocabulary("abc"), torch.optim.SGD, lambda step: 1.0, DecodingConfig())
        truth = copy.deepcopy(model)
        truth.load_state_dict(scale_rows(dict(truth.named_parameters()), gains), strict=False)
        self.truth = [truth]  # in a list: not among the task's parameters

    def nll(self, batch: CaptionBatch) -> tuple[Tensor, Tensor]:
        found = self.model(batch.images).log_softmax(dim=-1)
        truth = self.truth[0](batch.images).softmax(dim=-1)
        return -(truth * found).sum(), torch.tensor(found[..., 0].numel())


def make_batches(count: int, *shape: int, scale: float = 1.0) -> list[CaptionBatch]:
    """Return batches of random inputs, which take the place of images."""
    none = torch.zeros(shape[0], 1, 0, dtype=torch.long)
    return [CaptionBatch(torch.arange(shape[0]), scale * torch.randn(shape), none, none) for _ in range(count)]


def sharpen(model: nn.Module) -> nn.Module:
    """Make the weights large enough that their gains matter."""
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(4)
    return model


def test_temperature_is_fitted():
    torch.manual_seed(1)
    task = KnownGains(nn.Sequential(nn.Linear(4, 7)), {"0.weight": torch.tensor([0.93])})
    batches = make_batches(5, 50, 1, 4, scale=4.0)
    assert fit_gains(task, lambda: batches)["0.weight"].item() == pytest.approx(0.93, abs=2e-3)


def test_each_gate_has_a_gain_of_its_own():
    torch.manual_seed(2)
    gains = {"lstm.weight_hh_l0": torch.tensor([0.95, 1.04, 0.97, 1.05]), "output.weight": torch.tensor([0.95])}
    gains["lstm.weight_ih_l0"] = torch.tensor([1.03, 0.96, 1.05, 0.97])
    task = KnownGains(sharpen(Recurrent()), gains)
    before = copy.deepcopy(task.model.state_dict())
    batches = make_batches(100, 40, 12, 3)
    found = fit_gains(task, lambda: batches)
    assert found.keys() == gains.keys()
    for name, gain in gains.items():
        torch.testing.assert_close(found[name], gain, atol=5e-3, rtol=0)
    for name, value in task.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_gain_multiplies_the_rows_of_its_gate():
    weight = torch.arange(12.0).reshape(6, 2)
    found = scale_rows({"a": weight, "b": weight}, {"a": torch.tensor([2.0, 1.0, 0.5])})
    assert found.keys() == {"a"}
    assert found["a"].tolist() == [[0, 2], [4, 6], [4, 5], [6, 7], [4, 4.5], [5, 5.5]]


def test_trained_matrices_have_gains():
    model = nn.ModuleDict({"lstm": nn.LSTM(3, 5, 2), "cell": nn.GRUCell(4, 5), "words": nn.Embedding(6, 5)})
    model["output"] = nn.Linear(5, 6)
    model["output"].weight = model["words"].weight
    model["frozen"] = nn.Linear(2, 2).requires_grad_(False)
    model["image"] = nn.Conv2d(3, 4, 2)
    recurrent = {f"lstm.weight_{kind}_l{layer}": 4 for kind in ("ih", "hh") for layer in (0, 1)}
    recurrent |= {"cell.weight_ih": 3, "cell.weight_hh": 3}
    assert find_matrices(model) == {**recurrent, "words.weight": 1}


@pytest.mark.parametrize("name", ["stream", pytest.param("captions", marks=pytest.mark.slow)])
def test_rescaled_run_predicts_the_split_better(find_run, tmp_path, name):
    found = find_run(name)
    before, after = rescale(found, found.config, tmp_path / "made")
    assert after < before
    score = {"stream": ("bits_per_character", math.log(2)), "captions": ("cross_entropy", 1.0)}[name]
    for folder, nll in ((found.folder, before), (tmp_path / "made", after)):
        there = Run.find(folder)
        scores = evaluate(there, out=tmp_path)
        assert scores[score[0]] * score[1] == pytest.approx(nll, abs=1e-5)


def test_weights_stay_if_no_gains_lower_the_cross_entropy(find_run, tmp_path, monkeypatch):
    def worse(task: Any, batches: Any, _: str) -> dict[str, Tensor]:
        return {name: torch.full((gates,), -1.0) for name, gates in find_matrices(task.model).items()}

    monkeypatch.setattr(rescaling, "fit_gains", worse)
    found = find_run("stream")
    before, after = rescale(found, found.config, tmp_path / "made")
    assert before == after
    trained, made = found.load_model().state_dict(), Run.find(tmp_path / "made").load_model().state_dict()
    assert all(torch.equal(value, made[name]) for name, value in trained.items())


def test_wrong_splits_folders_and_data_are_named(find_run, tmp_path):
    found = find_run("stream")
    assert "--fit dawn: unknown" in refusal(rescale, found, found.config, tmp_path / "made", "dawn")
    assert "holds a run" in refusal(rescale, found, found.config, found.folder)
    assert "nowhere" in refusal(rescale, found, found.override(["data.root=nowhere"]), tmp_path / "made")
    assert not (tmp_path / "made").exists()

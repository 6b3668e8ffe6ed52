"""Weights of ensembles are fitted to the least cross-entropy of a split."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from attendgen.data.batch import PairBatch
from attendgen.decoding.config import DecodingConfig
from attendgen.evaluation.evaluate import evaluate
from attendgen.losses.cross_entropy import masked_cross_entropy
from attendgen.models.ensemble import Ensemble
from attendgen.postprocess import ensembling
from attendgen.postprocess.ensembling import fit_weights, make_ensemble
from attendgen.postprocess.fit import open_task
from attendgen.postprocess.rescaling import cross_entropy
from attendgen.runs.run import Run
from attendgen.tasks.base import BaseTask
from attendgen.text.vocabulary import Vocabulary
from helpers.errors import refusal
from helpers.runs import SharedRuns

LONGER = ["trainer.max_steps=40", "trainer.max_epochs=-1", "trainer.limit_train_batches=1.0", "steps=40"]
LONGER += ["trainer.check_val_every_n_epoch=100"]
TRAINED = ("novels_lstm", *LONGER)
TRAINED_ATTENDING = ("novels_lstm", "model.attention_window=20", "model.ngrams=0", *LONGER)
PAIRS = {
    "chat": [("toy_chat",), ("toy_chat", "model.hidden=12")],
    "captions": [("flickr8k_soft",), ("flickr8k_soft", "model.hidden=12", "model.context_gate=none")],
    "windows": [("novels",), ("novels", "model.hidden=24")],
}
TARGETS, VOCABULARY = 600, 12


@pytest.mark.slow
def test_fitted_weights_predict_a_split_best(runs: SharedRuns, tmp_path: Path) -> None:
    names = [str(runs(*member)) for member in (TRAINED, TRAINED_ATTENDING)]
    found = make_ensemble(names, tmp_path / "fitted", fit="val")
    fitted = Run.find(tmp_path / "fitted")
    assert list(fitted.config.model.weights) == pytest.approx(found)

    def measure_bits(*weights: float) -> float:
        change = f"model.weights=[{','.join(map(repr, weights))}]"
        return evaluate(fitted, overrides=[change], out=tmp_path)["bits_per_character"]

    least = measure_bits(*found)
    for change in ((0.1, 0.0), (-0.1, 0.0), (0.0, 0.1), (0.0, -0.1)):
        assert measure_bits(*np.add(found, change).tolist()) > least
    # the optimum does not depend on the first weights
    task, batches = open_task(fitted, fitted.config, fitted.load_model(), "val")
    task.model.weights = [2.0, -0.5]
    assert fit_weights(task, batches) == pytest.approx(found, abs=0.02)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name != "chat" else []) for name in PAIRS]
)
def test_weights_are_fitted_in_every_family(runs: SharedRuns, tmp_path: Path, name: str) -> None:
    found = make_ensemble([str(runs(*member)) for member in PAIRS[name]], tmp_path / "fitted", fit="val")
    fitted = Run.find(tmp_path / "fitted")
    task, batches = open_task(fitted, fitted.config, fitted.load_model(), "val")
    nll = {}
    for change in ((0.0, 0.0), (0.2, 0.0), (-0.2, 0.0), (0.0, 0.2), (0.0, -0.2)):
        task.model.weights = (torch.tensor(found) + torch.tensor(change)).tolist()
        nll[change] = cross_entropy(task, batches)
    assert min(nll, key=nll.__getitem__) == (0.0, 0.0)


class Lookup(nn.Module):
    """A model whose logits for input i are row i of a table."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table
        self.calls = 0

    def forward(self, source: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return self.table[inputs], torch.zeros(*inputs.shape, 0)


class SyntheticTask(BaseTask):
    """A task of an ensemble of `Lookup` models."""

    def __init__(self, model: Ensemble) -> None:
        super().__init__(model, Vocabulary("abc"), torch.optim.SGD, lambda step: 1.0, DecodingConfig())

    def nll(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        return masked_cross_entropy(self.model(batch.source, batch.inputs)[0], batch.outputs)


class SyntheticMembers:
    """Synthetic members that predict targets which are drawn from the true distribution of each input.

    Args:
        noises: how far each member's logits are from the true ones.
        scale: multiplies all members' logits; above 1 they are overconfident.
    """

    def __init__(self, noises: tuple[float, ...], scale: float = 1.0) -> None:
        truth = 2 * torch.randn(TARGETS, VOCABULARY)
        self.targets = torch.multinomial(truth[:, 1:].softmax(dim=-1), 1).squeeze(1) + 1  # 0 is <pad>
        self.tables = [scale * (truth + noise * torch.randn(TARGETS, VOCABULARY)) for noise in noises]
        self.passes = 0

    def batches(self) -> Iterator[PairBatch]:
        self.passes += 1
        for inputs in torch.arange(TARGETS).view(4, 15, 10):
            outputs = torch.cat([self.targets[inputs], torch.zeros(15, 2, dtype=torch.long)], dim=1)
            yield PairBatch(inputs[:, 0], inputs, functional.pad(inputs, (0, 2)), outputs)

    def fit(self) -> tuple[list[float], Ensemble]:
        model = Ensemble([partial(Lookup, table) for table in self.tables])
        return fit_weights(SyntheticTask(model), self.batches), model

    def nll(self, weights: Tensor | list[float]) -> Tensor:
        """Return the mean negative log-likelihood per target."""
        each = torch.stack([table.double().log_softmax(dim=-1) for table in self.tables], dim=-1)
        return functional.cross_entropy(each @ torch.as_tensor(weights, dtype=torch.double), self.targets)

    def find_optimum(self) -> Tensor:
        """Return the weights that L-BFGS finds."""
        weights = torch.full((len(self.tables),), 1 / len(self.tables), dtype=torch.double, requires_grad=True)
        search = torch.optim.LBFGS(
            [weights], max_iter=500, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            search.zero_grad()
            nll = self.nll(weights)
            nll.backward()
            return nll

        search.step(closure)
        return weights.detach()


@pytest.mark.parametrize(
    ("noises", "scale"),
    [
        ((0.5, 1.0, 2.0), 1.0),
        ((0.5, 1.0, 2.0), 3.0),
        ((0.5, 1.0, 2.0), 6.0),
        ((0.5, 1.0, 2.0), 30.0),  # even a 32nd of the first Newton step goes too far
        ((1.0, 1.0), 2.5),
        ((1.0, 1.0), 3.0),
        ((1.0,) * 5, 3.0),
    ],
)
def test_fitted_weights_equal_those_of_l_bfgs(noises, scale, caplog):
    data = SyntheticMembers(noises, scale)
    found, model = data.fit()
    optimum = data.find_optimum()
    assert float(data.nll(found)) == pytest.approx(float(data.nll(optimum)), rel=1e-4)
    assert found == pytest.approx(optimum.tolist(), abs=1e-3)
    assert model.weights == found
    # each member reads each of the four batches once per pass, however many step lengths are tried
    assert [member.calls for member in model.members] == [4 * data.passes] * len(noises)
    assert not caplog.records


def test_equal_and_uninformative_members_are_fitted(caplog):
    data = SyntheticMembers((1.0, 1.0), scale=3.0)
    alone = data.find_optimum()
    data.tables = [data.tables[0], *[data.tables[1]] * 3, torch.zeros(TARGETS, VOCABULARY)]
    found, _ = data.fit()
    assert found == pytest.approx([float(alone[0]), *[float(alone[1]) / 3] * 3, 1 / 5], abs=1e-3)
    assert not caplog.records


def test_members_that_predict_all_targets_are_fitted(caplog):
    data = SyntheticMembers((1.0, 1.0))
    data.tables = [functional.one_hot(data.targets, VOCABULARY) * 3 + torch.rand(TARGETS, VOCABULARY) for _ in range(2)]
    found, _ = data.fit()  # the larger the weights, the better: there is no optimum
    assert data.nll(found) < 1e-4
    assert not caplog.records


def test_fit_that_does_not_converge_logs_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(ensembling, "ITERATIONS", 1)
    data = SyntheticMembers((0.5, 1.0, 2.0), scale=6.0)
    found, _ = data.fit()
    assert data.nll(found) < data.nll([1 / 3] * 3)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "did not converge in 1 iterations" in record.message
    assert "\n" not in record.message


def test_members_worse_than_chance_or_not_finite_are_refused():
    data = SyntheticMembers((0.5, 1.0), scale=-3.0)
    assert "better than chance" in refusal(data.fit)
    data.tables[1][7, 3] = torch.nan
    assert "not finite" in refusal(data.fit)

"""Runs joined to one run: read, scored and used like any other; what cannot be joined is named."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from attendgen.config.instantiate import instantiate
from attendgen.data.batch import PairBatch
from attendgen.evaluation import evaluate as evaluation
from attendgen.evaluation.evaluate import evaluate
from attendgen.inference.load import load
from attendgen.losses.cross_entropy import masked_cross_entropy
from attendgen.models.ensemble import Ensemble
from attendgen.postprocess import ensembling as ensembles
from attendgen.postprocess.ensembling import fit_weights, make_ensemble
from attendgen.postprocess.rescaling import cross_entropy
from attendgen.runs.bundle import bundle
from attendgen.runs.run import Run, opened, serve
from attendgen.utils import resources
from attendgen.utils.errors import UserError
from helpers import tiny_data

LONGER = ["trainer.max_steps=40", "trainer.max_epochs=-1", "trainer.limit_train_batches=1.0", "steps=40"]
LONGER += ["trainer.check_val_every_n_epoch=100"]
ATTENDING = ["novels_lstm", "model.attention_window=20", "model.ngrams=0"]
RUNS = {
    "chat": ["toy_chat"],
    "chat, wide": ["toy_chat", "model.hidden=12"],
    "chat, other symbols": ["toy_chat_letters", "epochs=1"],
    "stream": ["novels_lstm"],
    "stream, attending": [*ATTENDING, "model.hidden=8"],
    "stream, trained": ["novels_lstm", *LONGER],
    "stream, attending, trained": [*ATTENDING, *LONGER],
    "windows": ["novels"],
    "windows, wide": ["novels", "model.hidden=24"],
    "captions": ["flickr8k_soft"],
    "captions, wide": ["flickr8k_soft", "model.hidden=12", "model.context_gate=none"],
    "captions, other encoder": ["flickr8k_soft", "model.encoder.pretrained=true"],
    "captions, joined maps": ["flickr8k_soft", "model.encoder.extra_stages=[6]"],
    "captions, larger": ["flickr8k_soft", "model.encoder.size=96"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tiny.Runs:
    return tiny.Runs(tmp_path_factory.mktemp("runs"), RUNS)


def refusal(names: list[str | Path], out: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        make_ensemble([str(name) for name in names], out, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_texts_are_continued_and_scored_by_the_product(run, tmp_path):
    members = [run("stream"), run("stream, attending")]
    make_ensemble([str(member) for member in members], tmp_path / "both", [0.6, 0.2])
    model = load(tmp_path / "both")
    made = model.generate("It was the", max_length=20, temperature=1.0, seed=1)[0]
    tasks = [load(member).task for member in members]
    ids = torch.tensor([model.vocabulary.encode("It was the" + made.text)])
    read = [task.model.read(ids[:, :-1], task.model.initial_state(1))[0][0].log_softmax(dim=-1) for task in tasks]
    expected = (0.6 * read[0] + 0.2 * read[1]).log_softmax(dim=-1).gather(1, ids[0, 1:, None])[-20:, 0]
    np.testing.assert_allclose(made.log_probs, expected.detach().numpy(), atol=1e-5)
    each = [load(member).score("It was the", made.text) for member in members]
    np.testing.assert_allclose(made.attention, each[1].attention, atol=1e-5)  # the first does not attend


def test_weights_are_found_that_predict_a_split_best(run, tmp_path):
    members = [str(run("stream, trained")), str(run("stream, attending, trained"))]
    found = make_ensemble(members, tmp_path / "fitted", fit="val")
    fitted = Run.find(tmp_path / "fitted")
    assert list(fitted.config.model.weights) == pytest.approx(found)

    def bits(*weights: float) -> float:
        config = fitted.override([f"model.weights=[{','.join(map(repr, weights))}]"])
        return evaluate(fitted, config, "val", tmp_path)["bits_per_character"]

    least = bits(*found)
    for change in ((0.1, 0.0), (-0.1, 0.0), (0.0, 0.1), (0.0, -0.1)):
        assert bits(*np.add(found, change).tolist()) > least
    # from another beginning
    data = instantiate(fitted.config.data)
    task = fitted.build()
    serve(data, task, fitted.vocabulary)
    data.setup("validate")
    task.model.weights = torch.tensor([2.0, -0.5])
    assert fit_weights(task, data.val_dataloader) == pytest.approx(found, abs=0.02)


TARGETS, SYMBOLS = 600, 12


class Lookup(nn.Module):
    """A model whose logits for input i are row i of a table."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table
        self.calls = 0

    def forward(self, source: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return self.table[inputs], torch.zeros(*inputs.shape, 0)


class Task(nn.Module):
    """What `fit_weights` needs of a task."""

    def __init__(self, model: Ensemble) -> None:
        super().__init__()
        self.model = model

    def nats(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        return masked_cross_entropy(self.model(batch.source, batch.inputs)[0], batch.outputs)


class Predicted:
    """Synthetic members that predict targets which are drawn from the true distribution of each input.

    Args:
        noises: how far each member's logits are from the true ones.
        scale: multiplies all members' logits; above 1 they are too sure of themselves.
    """

    def __init__(self, noises: tuple[float, ...], scale: float = 1.0) -> None:
        truth = 2 * torch.randn(TARGETS, SYMBOLS)
        self.targets = torch.multinomial(truth[:, 1:].softmax(dim=-1), 1).squeeze(1) + 1  # 0 is <pad>
        self.tables = [scale * (truth + noise * torch.randn(TARGETS, SYMBOLS)) for noise in noises]
        self.passes = 0

    def batches(self) -> Iterator[PairBatch]:
        self.passes += 1
        for inputs in torch.arange(TARGETS).view(4, 15, 10):
            outputs = torch.cat([self.targets[inputs], torch.zeros(15, 2, dtype=torch.long)], dim=1)
            yield PairBatch(inputs[:, 0], inputs, functional.pad(inputs, (0, 2)), outputs)

    def fit(self) -> tuple[list[float], Ensemble]:
        model = Ensemble([partial(Lookup, table) for table in self.tables])
        return fit_weights(Task(model), self.batches), model

    def nats(self, weights: Tensor | list[float]) -> Tensor:
        """Nats per target."""
        each = torch.stack([table.double().log_softmax(dim=-1) for table in self.tables], dim=-1)
        return functional.cross_entropy(each @ torch.as_tensor(weights, dtype=torch.double), self.targets)

    def optimum(self) -> Tensor:
        """The weights that L-BFGS finds."""
        weights = torch.full((len(self.tables),), 1 / len(self.tables), dtype=torch.double, requires_grad=True)
        search = torch.optim.LBFGS(
            [weights], max_iter=500, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            search.zero_grad()
            nats = self.nll(weights)
            nats.backward()
            return nats

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
def test_fitted_weights_are_those_that_l_bfgs_finds(noises, scale, caplog):
    data = Predicted(noises, scale)
    found, model = data.fit()
    optimum = data.optimum()
    assert float(data.nll(found)) == pytest.approx(float(data.nll(optimum)), rel=1e-4)
    assert found == pytest.approx(optimum.tolist(), abs=1e-3)
    assert model.weights.tolist() == found
    # each member reads each of the four batches once per pass, however many step lengths are tried
    assert [member.calls for member in model.members] == [4 * data.passes] * len(noises)
    assert not caplog.records


def test_equal_and_useless_members_are_fitted_too(caplog):
    data = Predicted((1.0, 1.0), scale=3.0)
    alone = data.optimum()
    data.tables = [data.tables[0], *[data.tables[1]] * 3, torch.zeros(TARGETS, SYMBOLS)]
    found, _ = data.fit()
    assert found == pytest.approx([float(alone[0]), *[float(alone[1]) / 3] * 3, 1 / 5], abs=1e-3)
    assert not caplog.records


def test_members_that_know_all_targets_are_fitted(caplog):
    data = Predicted((1.0, 1.0))
    data.tables = [functional.one_hot(data.targets, SYMBOLS) * 3 + torch.rand(TARGETS, SYMBOLS) for _ in range(2)]
    found, _ = data.fit()  # the larger the weights, the better: there is no optimum
    assert data.nll(found) < 1e-4
    assert not caplog.records


def test_a_fit_that_ends_early_warns(monkeypatch, caplog):
    monkeypatch.setattr(ensembles, "ITERATIONS", 1)
    data = Predicted((0.5, 1.0, 2.0), scale=6.0)
    found, _ = data.fit()
    assert data.nll(found) < data.nll([1 / 3] * 3)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "did not converge in 1 iterations" in record.message
    assert "\n" not in record.message


def test_members_worse_than_chance_or_not_finite_are_refused():
    data = Predicted((0.5, 1.0), scale=-3.0)
    with pytest.raises(UserError, match="better than chance"):
        data.fit()
    data.tables[1][7, 3] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        data.fit()


@pytest.mark.parametrize(
    "names", [("chat", "chat, wide"), ("captions", "captions, wide"), ("windows", "windows, wide")]
)
def test_weights_are_fitted_in_every_family(run, tmp_path, names):
    found = make_ensemble([str(run(name)) for name in names], tmp_path / "fitted", fit="val")
    fitted = Run.find(tmp_path / "fitted")
    task = fitted.build()
    data = opened(fitted.config, task, fitted.vocabulary, "val")
    nats = {}
    for change in ((0.0, 0.0), (0.2, 0.0), (-0.2, 0.0), (0.0, 0.2), (0.0, -0.2)):
        task.eval().model.weights = torch.tensor(found) + torch.tensor(change)
        nats[change] = cross_entropy(task, data.val_dataloader)
    assert min(nats, key=nats.__getitem__) == (0.0, 0.0)


def test_pictures_are_captioned_through_one_encoder(run, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "java_present", lambda: False)  # METEOR takes its time to start
    members = [run("captions"), run("captions, wide")]
    out = tmp_path / "both"
    make_ensemble([str(member) for member in members], out)
    evaluate(Run.find(out), Run.find(out).override(["decoding.beam_size=3"]), "val", tmp_path)
    captions = {row["image_id"]: row["caption"] for row in json.loads((tmp_path / "captions_val.json").read_text())}
    assert len(captions) == 2
    name, caption = next(iter(captions.items()))
    found = load(out).caption(Path(Run.find(out).config.data.root) / "Images" / name, beam_size=3)[0]
    assert found.text == caption


@pytest.mark.parametrize(
    ("names", "given"), [(("chat", "chat, wide"), "Salut"), (("captions", "captions, wide"), None)]
)
def test_by_consensus_members_are_asked_one_by_one(run, tmp_path, names, given):
    members = [str(run(name)) for name in names]
    source = given or tiny_data.image(tmp_path / "red.jpg", "red")
    options = {"beam": 4, "consensus": 12, "seed": 3, "n_best": 4}

    def ask(name: str | Path) -> list[tuple[str, np.ndarray]]:
        model = load(name)
        found = model.generate(source, max_length=8, **options) if given else model.caption(source, **options)
        return [(one.text, one.log_probs) for one in found]

    alone = [dict(ask(member)) for member in members]
    make_ensemble(members, tmp_path / "second", [0.0, 2.0])
    for (text, found), expected in zip(ask(tmp_path / "second"), alone[1].items(), strict=True):
        assert text == expected[0]
        np.testing.assert_allclose(found, expected[1], atol=1e-5)
    make_ensemble(members, tmp_path / "both")
    chosen = ask(tmp_path / "both")
    assert len({text for text, _ in chosen}) == 4
    for text, found in chosen:  # in the words of a member, as probable as that one holds them to be
        assert any(text in own and np.allclose(found, own[text], atol=1e-5) for own in alone)


def test_a_bundled_ensemble_is_a_run(run, tmp_path, monkeypatch):
    make_ensemble([str(run("captions")), str(run("captions, wide"))], tmp_path / "both")
    data = {"data.root": "data/flickr8k", "data.cache": "data/cache"}
    bundle(Run.find(tmp_path / "both"), "both", tmp_path / "models" / "both", data, bits=8)
    monkeypatch.setattr(resources, "INSTALLED", tmp_path)
    picture = tiny_data.image(tmp_path / "red.jpg", "red")
    found, expected = (load(name).caption(picture)[0] for name in ("both", tmp_path / "both"))
    assert found.text == expected.text
    np.testing.assert_allclose(found.log_probs, expected.log_probs, atol=0.01)
    assert not np.array_equal(found.log_probs, expected.log_probs)


def test_answers_are_the_same_when_all_members_are(run, tmp_path):
    make_ensemble([str(run("chat"))] * 3, tmp_path / "same")
    one, three = load(run("chat")), load(tmp_path / "same")
    texts = ["Tu vas bien ?", "Salut"]
    for alone, together in zip(
        one.generate_all(texts, beam_size=3), three.generate_all(texts, beam_size=3), strict=True
    ):
        assert together[0].text == alone[0].text
        np.testing.assert_allclose(together[0].log_probs, alone[0].log_probs, atol=1e-5)
        np.testing.assert_allclose(together[0].attention, alone[0].attention, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["chat"], ["two runs"]),
        (["chat", "stream"], ["stream", "task", "Seq2SeqTask"]),
        (["chat", "chat, other symbols"], ["other symbols", "vocabulary"]),
        (["stream", "windows"], ["windows", "data.stateful"]),
        (["captions", "captions, other encoder"], ["other encoder", "model.encoder: efficientnet_lite2-64px-"]),
        (["captions", "captions, joined maps"], ["joined maps", "model.encoder: efficientnet_lite2_6-64px-"]),
        (["captions", "captions, larger"], ["larger", "model.encoder: efficientnet_lite2-96px-"]),
    ],
)
def test_what_cannot_be_joined_is_named(run, tmp_path, names, words):
    message = refusal([run(name) for name in names], tmp_path / "both")
    for word in words:
        assert word in message
    assert not (tmp_path / "both").exists()


def test_other_mistakes_are_named(run, tmp_path):
    pair = [run("chat")] * 2
    assert "model.weights" in refusal(pair, tmp_path / "both", weights=[1.0])
    make_ensemble([str(member) for member in pair], tmp_path / "both")
    assert "holds a run" in refusal(pair, tmp_path / "both")
    assert "members" in refusal([tmp_path / "both", *pair], tmp_path / "more")
    assert "--fit tests: unknown; choose one of train" in refusal(pair, tmp_path / "more", fit="tests")
    assert not (tmp_path / "more").exists()

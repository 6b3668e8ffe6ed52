"""Runs joined to one run: read, scored and used like any other; what cannot be joined is named."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from attendgen import evaluation, resources
from attendgen.construction import construct
from attendgen.ensembles import fit_weights, make_ensemble
from attendgen.errors import UserError
from attendgen.evaluation import evaluate
from attendgen.inference import load
from attendgen.runs import Run, bundle, serve

LONGER = ["trainer.max_steps=40", "trainer.max_epochs=-1", "trainer.limit_train_batches=1.0", "steps=40"]
LONGER += ["trainer.check_val_every_n_epoch=100"]
ATTENDING = ["novels_causal", "model.reach=20", "model.ngrams=0"]
RUNS = {
    "chat": ["toy_chat"],
    "chat, wide": ["toy_chat", "model.hidden=12"],
    "chat, other symbols": ["toy_chat_letters", "epochs=1"],
    "stream": ["novels_causal"],
    "stream, attending": [*ATTENDING, "model.hidden=8"],
    "stream, trained": ["novels_causal", *LONGER],
    "stream, attending, trained": [*ATTENDING, *LONGER],
    "carried": ["novels", "model=lm_context_carried", "data.streams=true", "model.window=16"],
    "windows": ["novels"],
    "captions": ["flickr8k_soft"],
    "captions, wide": ["flickr8k_soft", "model.hidden=12", "model.gate=none"],
    "captions, other encoder": ["flickr8k_soft", "model.encoder.pretrained=true"],
    "captions, joined maps": ["flickr8k_soft", "model.encoder.joined=[6]"],
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
    read = [task.model.read(ids[:, :-1], task.model.blank(1))[0][0].log_softmax(dim=-1) for task in tasks]
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
        config = fitted.overridden([f"model.weights=[{','.join(map(repr, weights))}]"])
        return evaluate(fitted, config, "val", tmp_path)["bits_per_character"]

    least = bits(*found)
    for change in ((0.1, 0.0), (-0.1, 0.0), (0.0, 0.1), (0.0, -0.1)):
        assert bits(*np.add(found, change).tolist()) > least
    # from another beginning
    data = construct(fitted.config.data)
    task = fitted.build()
    serve(data, task, fitted.vocabulary)
    data.setup("validate")
    task.model.weights = torch.tensor([2.0, -0.5])
    assert fit_weights(task, data.val_dataloader) == pytest.approx(found, abs=0.02)


def test_pictures_are_captioned_through_one_encoder(run, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "java_present", lambda: False)  # METEOR takes its time to start
    members = [run("captions"), run("captions, wide")]
    out = tmp_path / "both"
    make_ensemble([str(member) for member in members], out)
    evaluate(Run.find(out), Run.find(out).overridden(["decoding.beam=3"]), "val", tmp_path)
    captions = {row["image_id"]: row["caption"] for row in json.loads((tmp_path / "captions_val.json").read_text())}
    assert len(captions) == 2
    name, caption = next(iter(captions.items()))
    found = load(out).caption(Path(Run.find(out).config.data.root) / "Images" / name, beam=3)[0]
    assert found.text == caption


@pytest.mark.parametrize(
    ("names", "given"), [(("chat", "chat, wide"), "Salut"), (("captions", "captions, wide"), None)]
)
def test_by_consensus_members_are_asked_one_by_one(run, tmp_path, names, given):
    members = [str(run(name)) for name in names]
    source = given or tiny.picture(tmp_path / "red.jpg", "red")
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
    picture = tiny.picture(tmp_path / "red.jpg", "red")
    found, expected = (load(name).caption(picture)[0] for name in ("both", tmp_path / "both"))
    assert found.text == expected.text
    np.testing.assert_allclose(found.log_probs, expected.log_probs, atol=0.01)
    assert not np.array_equal(found.log_probs, expected.log_probs)


def test_answers_are_the_same_when_all_members_are(run, tmp_path):
    make_ensemble([str(run("chat"))] * 3, tmp_path / "same")
    one, three = load(run("chat")), load(tmp_path / "same")
    texts = ["Tu vas bien ?", "Salut"]
    for alone, together in zip(one.generate_all(texts, beam=3), three.generate_all(texts, beam=3), strict=True):
        assert together[0].text == alone[0].text
        np.testing.assert_allclose(together[0].log_probs, alone[0].log_probs, atol=1e-5)
        np.testing.assert_allclose(together[0].attention, alone[0].attention, atol=1e-5)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["chat"], ["two runs"]),
        (["chat", "stream"], ["stream", "task", "Seq2SeqTask"]),
        (["chat", "chat, other symbols"], ["other symbols", "vocabulary"]),
        (["stream", "windows"], ["windows", "data.streams"]),
        (["stream", "carried"], ["carried", "CarriedContextLM"]),
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

"""Ensembles are read, scored and used as any other run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from attendgen.evaluation.evaluate import evaluate
from attendgen.inference.load import load
from attendgen.postprocess.ensembling import make_ensemble
from attendgen.runs.bundle import bundle
from attendgen.runs.run import Run
from attendgen.utils import resources
from helpers import tiny_data
from helpers.errors import refusal
from helpers.runs import SharedRuns

CHAT, WIDE_CHAT = ("toy_chat",), ("toy_chat", "model.hidden=12")
CAPTIONS, WIDE_CAPTIONS = ("flickr8k_soft",), ("flickr8k_soft", "model.hidden=12", "model.context_gate=none")
LSTM, ATTENDING_LSTM = ("novels_lstm",), ("novels_lstm", "model.attention_window=20", "model.hidden=8")


def combine(runs: SharedRuns, members: list[tuple[str, ...]], folder: Path, **options: object) -> list[str]:
    """Write an ensemble and return the run directories of its members."""
    names = [str(runs(*member)) for member in members]
    make_ensemble(names, folder, **options)
    return names


def test_texts_are_continued_and_scored_by_the_weighted_product(runs: SharedRuns, tmp_path: Path) -> None:
    names = combine(runs, [LSTM, ATTENDING_LSTM], tmp_path / "both", weights=[0.6, 0.2])
    model = load(tmp_path / "both")
    made = model.generate("It was the", max_length=20, temperature=1.0, seed=1)[0]
    members = [load(name) for name in names]
    ids = torch.tensor([model.vocabulary.encode("It was the" + made.text)])
    read = [one.model.read(ids[:, :-1], one.model.initial_state(1))[0][0].log_softmax(dim=-1) for one in members]
    expected = (0.6 * read[0] + 0.2 * read[1]).log_softmax(dim=-1).gather(1, ids[0, 1:, None])[-20:, 0]
    np.testing.assert_allclose(made.log_probs, expected.detach().numpy(), atol=1e-5)
    attending = members[1].score("It was the", made.text)
    np.testing.assert_allclose(made.attention, attending.attention, atol=1e-5)  # the first member does not attend


def test_images_are_captioned_through_one_encoder(runs: SharedRuns, tmp_path: Path) -> None:
    out = tmp_path / "both"
    combine(runs, [CAPTIONS, WIDE_CAPTIONS], out)
    run = Run.find(out)
    evaluate(run, out=tmp_path, beam_size=3)
    captions = {
        row["image_id"]: row["caption"] for row in json.loads((tmp_path / "captions_val.beam3.json").read_text())
    }
    assert len(captions) == 2
    name, caption = next(iter(captions.items()))
    found = load(out).caption(Path(run.config.data.root) / "Images" / name, beam_size=3)[0]
    assert found.text == caption
    assert sum(name.startswith("encoder.") for name in run.load_model().state_dict()) > 0
    assert not any(".encoder." in name for name in run.load_model().state_dict())


@pytest.mark.parametrize(
    ("members", "text"), [((CHAT, WIDE_CHAT), "Salut"), ((CAPTIONS, WIDE_CAPTIONS), None)], ids=["chat", "captions"]
)
def test_members_have_their_own_beams_in_minimum_bayes_risk_decoding(
    runs: SharedRuns, tmp_path: Path, members, text: str | None
) -> None:
    source = text or tiny_data.image(tmp_path / "red.jpg", "red")
    options = {"beam_size": 4, "mbr_samples": 12, "seed": 3, "n_best": 4}

    def decode(name: str | Path) -> list[tuple[str, np.ndarray]]:
        model = load(name)
        found = model.generate(source, max_length=8, **options) if text else model.caption(source, **options)
        return [(one.text, one.log_probs) for one in found]

    names = combine(runs, list(members), tmp_path / "second", weights=[0.0, 2.0])
    alone = [dict(decode(name)) for name in names]
    for (output, found), expected in zip(decode(tmp_path / "second"), alone[1].items(), strict=True):
        assert output == expected[0]
        np.testing.assert_allclose(found, expected[1], atol=1e-5)
    combine(runs, list(members), tmp_path / "both")
    chosen = decode(tmp_path / "both")
    assert len({output for output, _ in chosen}) == 4
    for output, found in chosen:  # each is a hypothesis of a member, with that member's log-probabilities
        assert any(output in own and np.allclose(found, own[output], atol=1e-5) for own in alone)


def test_bundled_ensemble_is_a_run(runs: SharedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    combine(runs, [CAPTIONS, WIDE_CAPTIONS], tmp_path / "both")
    data = {"data.root": "data/flickr8k", "data.cache": "data/cache"}
    bundle(Run.find(tmp_path / "both"), "both", tmp_path / "models" / "both", data, bits=8)
    monkeypatch.setattr(resources, "INSTALLED", tmp_path)
    image = tiny_data.image(tmp_path / "red.jpg", "red")
    found, expected = (load(name).caption(image)[0] for name in ("both", tmp_path / "both"))
    assert found.text == expected.text
    np.testing.assert_allclose(found.log_probs, expected.log_probs, atol=0.01)
    assert not np.array_equal(found.log_probs, expected.log_probs)


def test_equal_members_generate_as_one_of_them(runs: SharedRuns, tmp_path: Path) -> None:
    combine(runs, [CHAT] * 3, tmp_path / "same")
    one, three = load(runs(*CHAT)), load(tmp_path / "same")
    texts = ["Tu vas bien ?", "Salut"]
    for alone, together in zip(
        one.generate_all(texts, beam_size=3), three.generate_all(texts, beam_size=3), strict=True
    ):
        assert together[0].text == alone[0].text
        np.testing.assert_allclose(together[0].log_probs, alone[0].log_probs, atol=1e-5)
        np.testing.assert_allclose(together[0].attention, alone[0].attention, atol=1e-5)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([LSTM, ("novels",)], ["novels_lstm", "read windows, others streams; see data.stateful"]),
        (
            [CAPTIONS, ("flickr8k_soft", "model.encoder.pretrained=true")],
            ["pretrained=true: model.encoder: efficientnet_lite0-64px-"],
        ),
        pytest.param(
            [CAPTIONS, ("flickr8k_soft", "model.encoder.extra_stages=[6]")],
            ["extra_stages=_6_: model.encoder: efficientnet_lite0_6-64px-"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            [CAPTIONS, ("flickr8k_soft", "model.encoder.size=96")],
            ["size=96: model.encoder: efficientnet_lite0-96px-"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_members_that_read_other_inputs_are_named(runs: SharedRuns, tmp_path: Path, members, words) -> None:
    message = refusal(make_ensemble, [str(runs(*member)) for member in members], tmp_path / "both")
    for word in words:
        assert word in message
    assert not (tmp_path / "both").exists()


def test_wrong_weights_and_splits_are_named(runs: SharedRuns, tmp_path: Path) -> None:
    pair, out = [str(runs(*CHAT))] * 2, tmp_path / "both"
    assert "model.weights: 1 for 2 members" in refusal(make_ensemble, pair, out, weights=[1.0])
    assert "model.weights=[0.0, -1.0]" in refusal(make_ensemble, pair, out, weights=[0.0, -1.0])
    assert "--fit tests: unknown; choose one of train" in refusal(make_ensemble, pair, out, fit="tests")
    assert not out.exists()

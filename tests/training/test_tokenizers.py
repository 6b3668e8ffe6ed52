"""Runs with subwords, and with tokenizers and vocabularies of the user's own, go through every command."""

import json
from pathlib import Path

import pytest
import yaml

from attendgen.inference.load import load
from attendgen.inference.text_generator import TextGenerator
from attendgen.inference.translator import Translator
from attendgen.runs.bundle import bundle
from attendgen.runs.run import Run
from attendgen.text.vocabulary import load_vocabulary
from attendgen.utils.resources import bundled_file
from helpers import tiny_data
from helpers.checkpoints import read
from helpers.errors import Command, assert_mistake, refusal
from helpers.own_package import NAME, forget_package, write_package
from helpers.runs import SharedRuns

TOY = ["callbacks.progress=null", "trainer=smoke", "decoding.max_length=6", "model.hidden=8", "model.embedding_dim=8"]
OWN = {
    "tokenizer": ["data.tokenizer={_target_: mypaper.Chunks, size: 3}"],
    "vocabulary": ["data._target_=mypaper.ShoutedData"],
}


@pytest.mark.parametrize("part", [pytest.param("tokenizer", marks=pytest.mark.slow), "vocabulary"])
def test_an_own_tokenizer_or_vocabulary_goes_through_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attendgen: Command, part: str
) -> None:
    write_package(tmp_path, monkeypatch, trusted=False)
    folder = tmp_path / "run"
    done = attendgen("train", "experiment=toy_chat", *TOY, *OWN[part], f"hydra.run.dir='{folder}'")
    assert done.code == 0, done.err  # a command that the user writes needs no word of trust
    saved = json.loads((folder / "vocabulary.json").read_text("utf-8"))
    if part == "tokenizer":
        assert saved["source"]["tokenizer"] == saved["target"]["tokenizer"] == {"_target_": "mypaper.Chunks", "size": 3}
    else:
        assert [saved[side]["_target_"] for side in ("source", "target")] == [
            "attendgen.text.Vocabulary",
            "mypaper.Shouted",
        ]
    both = tmp_path / "both"
    for arguments in (
        ("evaluate", folder),
        ("generate", folder, "tu vas bien ?"),
        ("generate", folder / "checkpoints" / "best.ckpt", "tu vas bien ?"),
        ("train", f"resume={folder}", "trainer.max_steps=4", "trainer.max_epochs=4"),
        ("ensemble", folder, folder, "--out", both),
        ("generate", both, "tu vas bien ?", "--beam", "3"),
    ):
        forget_package(tmp_path, monkeypatch)
        assert_mistake(attendgen(*arguments), "mypaper.", f"--trust {NAME}")
        done = attendgen(*arguments, "--trust", NAME)
        assert done.code == 0, done.err
    assert read(folder)["global_step"] == 4
    model = load(folder)
    assert isinstance(model, Translator)
    text = "Je vais bien."
    result = model.score("tu vas bien ?", text)
    assert result.text == (text if part == "tokenizer" else text.upper())
    assert "".join(result.tokens[:-1]) == result.text
    if part == "tokenizer":
        assert result.tokens[:2] == ["Je ", "vai"]
    bundle(Run.find(folder), "own", tmp_path / "bundled", {"data.root": ".", "data.train": "toy_chat.tsv"})
    assert load_vocabulary(tmp_path / "bundled" / "vocabulary.json").to_dict() == model.vocabulary.to_dict()
    forget_package(tmp_path, monkeypatch)
    assert f"--trust {NAME}" in refusal(load_vocabulary, folder / "vocabulary.json")


@pytest.mark.parametrize("level", ["bpe", pytest.param("unigram", marks=pytest.mark.slow)])
def test_pairs_of_subwords_are_trained_scored_and_generated(
    runs: SharedRuns, tmp_path: Path, attendgen: Command, level: str
) -> None:
    side = f"[characters,{level}]" if level == "unigram" else level
    folder = runs(
        "toy_chat", f"data.level={side}", "data.vocab_size=[null,80]" if level == "unigram" else "data.vocab_size=80"
    )
    model = load(folder)
    assert isinstance(model, Translator)
    pairs = [line.split("\t") for line in Path(bundled_file("toy_chat.tsv")).read_text("utf-8").splitlines()]
    for source, target in pairs:
        result = model.score(source, target)
        assert result.text == target
        assert result.attention.shape == (len(result.tokens), len(result.source))
        assert len(result.tokens) <= len(target) + 1
    done = attendgen("evaluate", folder, "--out", tmp_path / "scores")
    assert done.code == 0, done.err
    assert len((tmp_path / "scores" / "outputs_val.txt").read_text("utf-8").splitlines()) == len(pairs)
    heat = tmp_path / "a.png"
    done = attendgen("generate", folder, "tu vas bien ?", "--max-length", "9", "--attention", heat)
    assert done.code == 0, done.err
    assert heat.is_file()


def test_a_shared_vocabulary_is_one(runs: SharedRuns) -> None:
    vocabulary = Run.find(
        runs("multi30k_fr_en_words", "data.level=bpe", "data.vocab_size=70", "data.shared_vocabulary=true")
    ).vocabulary
    assert vocabulary.source.to_dict() == vocabulary.target.to_dict()
    assert len(vocabulary.source) == 70
    assert {"ch", "dog"} & set(vocabulary.source.tokens) or len(vocabulary.source.tokenizer.merges) > 5


@pytest.mark.parametrize("experiment", ["novels", "novels_lstm"])
def test_a_language_model_of_subwords_continues_texts(runs: SharedRuns, attendgen: Command, experiment: str) -> None:
    folder = runs(experiment, "data.level=bpe", "data.vocab_size=60", "data.context_len=8", "data.seq_len=8")
    model = load(folder)
    assert isinstance(model, TextGenerator)
    written: list[str] = []
    (result,) = model.generate("It was the", on_token=written.append, max_length=20, temperature=0.0)
    assert len(result.tokens) == 20
    assert "".join(written) == result.text
    assert len(result.text) == sum(len(token) for token in result.tokens)
    done = attendgen("generate", folder, "It was the", "--max-length", "20", "--temperature", "0")
    assert done.out == result.text + "\n"
    if experiment == "novels":
        context = model.vocabulary.to_tokens(model.vocabulary.encode("It was the"))
        assert result.source == context[-len(result.source) :]


def test_captions_of_subwords_are_lower_case_words(runs: SharedRuns, tmp_path: Path) -> None:
    folder = runs("flickr8k_soft", "data.level=unigram", "data.vocab_size=50")
    vocabulary = Run.find(folder).vocabulary
    assert vocabulary.decode(vocabulary.encode("The  RED picture, is here .")) == "the red picture is here"
    assert yaml.safe_load((folder / "config.yaml").read_text("utf-8"))["data"]["level"] == "unigram"
    (result,) = load(folder).caption(tiny_data.image(tmp_path / "x.png", "red"))
    assert result.attention.shape[0] == len(result.tokens)
    assert result.text == vocabulary.join(token for token in result.tokens if token != "<eos>")

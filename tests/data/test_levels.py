"""Tokenizers of the data modules: what may be set, and how many characters tokens stand for."""

import math
from pathlib import Path

import pytest
import torch

from attendgen.data.parallel import ParallelDataModule
from attendgen.data.text_corpus import TextDataModule
from attendgen.decoding.config import DecodingConfig
from attendgen.models.lm.lstm import LSTMLanguageModel
from attendgen.tasks.language_model import LanguageModelTask
from attendgen.text.vocabulary import Vocabulary, count_characters_of_tokens
from helpers.errors import refusal

TEXT = "It was the best of times, it was the worst of times.\n\nIsmaël  ☃. " * 40


class Halves:
    """Loses every second character."""

    unit = "halves"

    def __init__(self, step: int = 2) -> None:
        self.step = step

    def split(self, text: str) -> list[str]:
        return list(text[:: self.step])

    def join(self, tokens) -> str:
        return "".join(tokens)

    def to_dict(self) -> dict:
        return {"step": self.step}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def module(file: Path, **options) -> TextDataModule:
    settings = {"context_len": 3, "seq_len": 5, "min_frequency": 1, "batch_size": 4, "stateful": True, **options}
    return TextDataModule(str(file), cache=str(file.parent / "cache"), **settings)


@pytest.mark.parametrize(
    "options", [{}, {"level": "bpe", "vocab_size": 60}, {"level": "unigram", "vocab_size": 60}], ids=str
)
def test_bits_per_character_are_all_bits_over_all_characters(file: Path, options: dict) -> None:
    data = module(file, min_frequency=50, batch_size=1, **options)  # the snow man and more are unknown
    vocabulary = data.build_vocabulary()
    torch.manual_seed(0)
    model = LSTMLanguageModel(len(vocabulary), 6, 8)
    task = LanguageModelTask(model, vocabulary, torch.optim.Adam, lambda step: 1.0, DecodingConfig())
    logged: dict[str, float] = {}
    task.log_scores = lambda scores, shown=(): logged.update(scores)
    for batch in data.val_dataloader():
        task.validation_step(batch, 0)
    task.on_validation_epoch_end()
    (text,) = data.texts("val")
    (ids,) = data.dataset("val").texts
    assert vocabulary.unknown in ids
    logits = model.read(torch.cat([torch.tensor([1]), ids[:-1].long()])[None], model.initial_state(1))[0]
    nats = torch.nn.functional.cross_entropy(logits[0], ids.long(), reduction="sum").item()
    assert logged["bits_per_character"] == pytest.approx(nats / math.log(2) / len(text), rel=1e-4)
    name = "perplexity_per_token" if options else "perplexity"
    assert logged[name] == pytest.approx(math.exp(nats / len(ids)), rel=1e-4)
    assert set(logged) == {"bits_per_character", name}
    assert data.count_inputs("val")["characters"] == len(text)


def test_a_tokenizer_that_loses_text_is_told(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = module(file, tokenizer=Halves())
    data.setup("validate")
    assert "bits per character count those of the tokens" in caplog.text


def test_entries_of_the_cache_know_their_tokenizer(file: Path) -> None:
    """Two tokenizers with the same tokens share no entry."""
    found = []
    for tokenizer in (Halves(1), Halves(2), Halves(4), None):
        data = module(file, tokenizer=tokenizer)
        data.connect(Vocabulary(sorted(set(TEXT)), tokenizer=tokenizer))
        found.append(data.dataset("train").texts[0])
        again = module(file, tokenizer=tokenizer)
        again.connect(data.require_vocabulary())
        assert torch.equal(again.dataset("train").texts[0], found[-1])
    assert found[0].tolist() == found[3].tolist()
    assert found[1].tolist() == found[0][::2].tolist()
    assert found[2].tolist() == found[0][::4].tolist()


def test_characters_of_tokens() -> None:
    vocabulary = Vocabulary(["abc", "▁", "a "], tokenizer=Halves())
    assert count_characters_of_tokens(vocabulary) == [0, 0, 0, 1, 3, 1, 2]


def test_words_of_a_text_are_refused(file: Path) -> None:
    told = refusal(module, file, level="words")
    assert told == "data.level=words: unknown; choose one of characters, bpe, unigram"


def test_too_few_tokens_are_one_line(file: Path) -> None:
    for cache in (True, False):
        data = module(file, level="bpe", vocab_size=60, seq_len=1500)
        data.cache = data.cache if cache else None
        told = refusal(data.setup, "fit")
        assert "tokens are too few" in told
        assert str(file) in told


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.tsv"
    path.write_text("Un chien dort.\tA dog sleeps.\nUn chat dort.\tA cat sleeps.\n" * 3, encoding="utf-8")
    return path


def test_source_and_target_may_differ(pairs: Path) -> None:
    data = ParallelDataModule(str(pairs), level=["words", "bpe"], vocab_size=[None, 24], tokenizer=[Halves(), None])
    vocabulary = data.build_vocabulary()
    assert vocabulary.source.to_tokens(vocabulary.source.encode("Un chat")) == list("U ht")
    assert len(vocabulary.target) == 24
    data = ParallelDataModule(str(pairs), level=["words", "characters"])
    assert "￭." in data.build_vocabulary().source.tokens
    assert all(len(token) == 1 for token in data.build_vocabulary().target.tokens[4:])


def test_a_shared_vocabulary_knows_both_sides(pairs: Path) -> None:
    for options in ({"level": "words"}, {"level": "bpe", "vocab_size": 40}, {"tokenizer": Halves()}):
        vocabulary = ParallelDataModule(str(pairs), shared_vocabulary=True, **options).build_vocabulary()
        assert vocabulary.source.to_dict() == vocabulary.target.to_dict()
        for text in ("Un chien dort.", "A cat sleeps."):
            assert vocabulary.source.unknown not in vocabulary.source.encode(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": ["bpe", "words"], "vocab_size": [30, None]}, "data.shared_vocabulary=true: source and target need"),
        ({"source_normalizer": "lower"}, "data.shared_vocabulary=true: source and target need"),
        ({"level": ["words"]}, "data.level: 1 values; give one for both sides, or [source,target]"),
        ({"level": "words", "vocab_size": 9}, "data.vocab_size=9: a setting of subwords"),
        ({"level": ["bpe", "words"], "vocab_size": 30}, "data.vocab_size=30: a setting of subwords"),
    ],
)
def test_settings_of_sides_that_do_not_fit_are_one_line(pairs: Path, options: dict, message: str) -> None:
    def build() -> None:
        ParallelDataModule(str(pairs), shared_vocabulary=True, **options).build_vocabulary()

    assert refusal(build).startswith(message)

"""A translator generates from and scores one text as its model does step by step."""

import numpy as np
import pytest
import torch

from attendgen.inference.load import load
from attendgen.inference.translator import Translator
from attendgen.utils.special_tokens import EOS, SOS
from helpers.errors import refusal


@pytest.fixture(scope="module")
def chat() -> Translator:
    model = load("toy-chat")
    assert isinstance(model, Translator)
    return model


def score_stepwise(model: Translator, source: str, ids: list[int]) -> tuple[list[float], list[np.ndarray]]:
    """Return the log-probability of each id, and the attention with which it is predicted."""
    memory, state = model.model.encode(torch.tensor([model.vocabulary.source.encode(source)]))
    log_probs, attention = [], []
    for previous, current in zip([SOS, *ids[:-1]], ids, strict=True):
        scores, alpha, state = model.model.step(torch.tensor([previous]), state, memory)
        log_probs.append(float(scores[0, current]))
        attention.append(alpha[0].numpy())
    return log_probs, attention


@pytest.mark.parametrize("options", [{}, {"beam_size": 3, "n_best": 3}, {"temperature": 1.0, "seed": 2, "n_best": 2}])
@torch.inference_mode()
def test_results_hold_the_models_log_probabilities_and_attention(chat: Translator, options: dict) -> None:
    text = "Tu vas bien ?"
    found = chat.generate(text, max_length=25, **options)
    assert len(found) == options.get("n_best", 1)
    for result in found:
        ids = [chat.vocabulary.target.ids[token] for token in result.tokens]
        log_probs, attention = score_stepwise(chat, text, ids)
        np.testing.assert_allclose(result.log_probs, log_probs, atol=1e-4)
        np.testing.assert_allclose(result.attention, attention, atol=1e-5)
        assert result.score == pytest.approx(sum(log_probs), abs=1e-3)
        assert result.text == "".join(result.tokens).removesuffix("<eos>")
        assert len(result.source) == result.attention.shape[1] == len(chat.vocabulary.source.encode(text))


@torch.inference_mode()
def test_score_includes_the_end_of_the_output(chat: Translator) -> None:
    scored = chat.score("Salut", "Oui, et toi ?")
    ids = [*chat.vocabulary.target.encode("Oui, et toi ?"), EOS]
    log_probs, _ = score_stepwise(chat, "Salut", ids)
    assert scored.tokens[-1] == "<eos>"
    assert scored.score == pytest.approx(sum(log_probs), abs=1e-3)


def test_batch_of_texts_gives_the_outputs_of_each_alone(chat: Translator) -> None:
    texts = ["Tu vas bien ?", "Salut", "Quoi de neuf dans ta vie ?"]
    for together, text in zip(chat.generate_all(texts, beam_size=3), texts, strict=True):
        alone = chat.generate(text, beam_size=3)[0]
        assert together[0].text == alone.text
        assert together[0].source == alone.source
        np.testing.assert_allclose(together[0].attention, alone.attention, atol=1e-5)


def test_texts_without_known_characters_are_refused(chat: Translator) -> None:
    assert "empty text" in refusal(chat.generate, " ")
    assert "жжж" in refusal(chat.generate_all, ["Salut", "жжж"])
    assert "score: empty text" in refusal(chat.score, "Salut", "")


def test_unknown_options_are_refused(chat: Translator) -> None:
    assert "decoding.beam: no such setting; choose one of max_length" in refusal(chat.generate, "Salut", beam=3)

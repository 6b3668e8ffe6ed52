"""Every model with an LSTM runs it in a safe precision under a GPU's autocast, and has precise logits."""

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from torch import nn

from attendgen.layers.attention import AdditiveAttention, DotAttention, GeneralAttention
from attendgen.layers.luong import LuongDecoder
from attendgen.layers.output import OutputLayer
from attendgen.models.lm.context import ContextLanguageModel
from attendgen.models.lm.lstm import LSTMLanguageModel
from attendgen.models.lm.textgenerate import TextGenerateLanguageModel
from attendgen.models.seq2seq import Seq2Seq
from helpers.families import FAMILIES, make_training
from helpers.pretended_gpu import Pretence, autocast, lstm_dtypes, pretend

__all__ = ["lstm_dtypes"]  # a fixture

VOCAB_SIZE = 9
SMALL = {"embedding_dim": 5, "hidden": 6}
REGULARIZED = {**SMALL, "dropout": 0.5}
Seq = partial(Seq2Seq, VOCAB_SIZE, VOCAB_SIZE, dropout=0.5, **SMALL)
MODELS = {
    "seq2seq": partial(Seq, DotAttention),
    "seq2seq, bidirectional": partial(Seq, partial(AdditiveAttention, dim=4), bidirectional=True, layers=2),
    "seq2seq, luong": partial(Seq, GeneralAttention, partial(LuongDecoder, layers=2), bidirectional=True, tied=True),
    "seq2seq, luong, no input feeding": partial(
        Seq, GeneralAttention, partial(LuongDecoder, input_feeding=False), layers=2
    ),
    "context": partial(ContextLanguageModel, VOCAB_SIZE, GeneralAttention, encoder_hidden=4, layers=2, **REGULARIZED),
    "lstm": partial(
        LSTMLanguageModel,
        VOCAB_SIZE,
        ngrams=3,
        ngram_rows=16,
        attention_window=3,
        attention_dim=4,
        tied=True,
        **REGULARIZED,
    ),
    "textgenerate": partial(TextGenerateLanguageModel, VOCAB_SIZE, hidden=6),
}
CONTEXTS = {
    "full": [[3, 4, 5, 6], [7, 3, 3, 8]],
    "padded": [[3, 4, 5, 6], [7, 3, 0, 0]],
}


def predict(model: nn.Module, context: torch.Tensor, tokens: torch.Tensor) -> list[torch.Tensor]:
    """Return the logits of known tokens, and their log-probabilities computed step by step."""
    logits, _ = model(context, tokens)
    memory, state = model.encode(context)
    steps = []
    for token in tokens.unbind(1):
        log_probs, _, state = model.step(token, state, memory)
        steps.append(log_probs)
    return [logits, torch.stack(steps, dim=1)]


def on_cpu(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.held.float() for tensor in tensors]


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
@pytest.mark.parametrize("make_model", MODELS.values(), ids=MODELS)
@torch.no_grad()
def test_no_model_runs_an_lstm_in_float16_under_bfloat16_autocast(
    lstm_dtypes: list[torch.dtype], make_model: Callable[[], nn.Module], context: list[list[int]]
):
    model, source, tokens = make_model().eval(), torch.tensor(context), torch.randint(3, VOCAB_SIZE, (2, 4))
    expected = predict(model, source, tokens)
    pretend(model)
    for dtype, used in ((torch.bfloat16, torch.float32), (torch.float16, torch.float16)):
        lstm_dtypes.clear()
        with Pretence(), autocast(dtype):
            actual = predict(model.eval(), pretend(source), pretend(tokens))
            model.train()(pretend(source), pretend(tokens))
        assert set(lstm_dtypes) == {used}
        torch.testing.assert_close(on_cpu(actual), expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_of_every_model_are_those_of_an_output_layer(name: str) -> None:
    assert sum(isinstance(part, OutputLayer) for part in make_training(name).task.model.modules()) == 1

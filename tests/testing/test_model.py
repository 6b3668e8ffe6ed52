"""Every model computes one function in training and decoding, and the check of it finds mistakes."""

from functools import partial

import pytest
import torch

from attendgen.data.batch import pad
from attendgen.layers import (
    AdditiveAttention,
    BahdanauDecoder,
    CoverageAttention,
    GeneralAttention,
    LuongDecoder,
    MultiHeadAttention,
)
from attendgen.layers.encoder import Features
from attendgen.layers.state import map_tensors
from attendgen.models import (
    Captioner,
    CaptionerEnsemble,
    ContextLanguageModel,
    Ensemble,
    LSTMLanguageModel,
    Seq2Seq,
    SmallCNN,
    StatefulEnsemble,
    TextGenerateLanguageModel,
    TransformerCaptioner,
    TransformerLanguageModel,
    TransformerSeq2Seq,
)
from attendgen.testing import check_model

VOCAB_SIZE, DIM, TIME = 8, 6, 5
CONTEXTS = pad([[3, 4, 5, 6, 2], [7], [5, 5, 3]])
FEATURES = Features(torch.randn(3, 4, DIM), torch.arange(4) < torch.tensor([[4], [1], [3]]))
SMALL = {"dim": 8, "heads": 2, "feed_forward": 10, "dropout": 0.5}
Seq = partial(Seq2Seq, VOCAB_SIZE, VOCAB_SIZE, embedding_dim=5, hidden=6, dropout=0.5)
Context = partial(ContextLanguageModel, VOCAB_SIZE, embedding_dim=5, encoder_hidden=4, hidden=6, dropout=0.5)
LSTM = partial(LSTMLanguageModel, VOCAB_SIZE, embedding_dim=5, hidden=6, dropout=0.5)
Transformer = partial(TransformerLanguageModel, VOCAB_SIZE, layers=2, **SMALL)
TEXTS = {
    "seq2seq": partial(Seq, AdditiveAttention),
    "seq2seq, both directions, tied": partial(Seq, GeneralAttention, bidirectional=True, layers=2, tied=True),
    "seq2seq, luong": partial(Seq, partial(MultiHeadAttention, heads=2), partial(LuongDecoder, layers=2)),
    "seq2seq, coverage": partial(Seq, CoverageAttention, partial(BahdanauDecoder, context_gate="vector")),
    "seq2seq, transformer": partial(TransformerSeq2Seq, VOCAB_SIZE, VOCAB_SIZE, **SMALL),
    "seq2seq, transformer, positions": partial(
        TransformerSeq2Seq, VOCAB_SIZE, VOCAB_SIZE, learned_positions=9, tied=True, **SMALL
    ),
    "context": partial(Context, AdditiveAttention, layers=2),
    "context, coverage": partial(Context, CoverageAttention, decoder=BahdanauDecoder),
    "lstm": partial(LSTM, ngrams=3, ngram_rows=20, ngram_dropout=0.5),
    "lstm, attention": partial(LSTM, layers=2, attention_window=3, attention_dim=4, tied=True),
    "textgenerate": partial(TextGenerateLanguageModel, VOCAB_SIZE, hidden=6),
    "transformer, short window": partial(Transformer, window=2),
    "transformer, long window, tied": partial(Transformer, window=20, tied=True),
}
Caption = partial(Captioner, VOCAB_SIZE, embedding_dim=5, hidden=6)
CAPTIONERS = {
    "captioner": partial(Caption, attention=AdditiveAttention),
    "captioner, hidden dropout, no deep output": partial(
        Caption, attention=GeneralAttention, deep_output=False, word_dropout=0.5, memory_dropout=0.5
    ),
    "captioner, multi-head, vector gate": partial(
        Caption, attention=partial(MultiHeadAttention, heads=2), context_gate="vector", feature_dim=4
    ),
    "captioner, coverage, luong": partial(Caption, attention=CoverageAttention, decoder=LuongDecoder),
    "captioner, transformer": partial(TransformerCaptioner, VOCAB_SIZE, region_layers=1, **SMALL),
    "captioner, transformer, positions": partial(
        TransformerCaptioner, VOCAB_SIZE, learned_positions=9, tied=True, **SMALL
    ),
}
ENSEMBLES = {
    "seq2seq": (Ensemble, ["seq2seq", "seq2seq, transformer"]),
    "language models": (StatefulEnsemble, ["lstm, attention", "transformer, short window"]),
}


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(1, VOCAB_SIZE, (*shape, TIME))


@pytest.mark.parametrize("make", TEXTS.values(), ids=TEXTS)
def test_every_model_of_texts_computes_one_function(make):
    check_model(make(), CONTEXTS, tokens(3))


@pytest.mark.parametrize("make", CAPTIONERS.values(), ids=CAPTIONERS)
def test_every_captioner_computes_one_function(make):
    model = make(encoder=SmallCNN((4, DIM), size=8))
    check_model(model, FEATURES, tokens(3, 2))
    check_model(model, FEATURES.values, tokens(3, 2))
    check_model(model, torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8), tokens(2, 1), half_tolerance=None)


@pytest.mark.parametrize(("kind", "names"), ENSEMBLES.values(), ids=ENSEMBLES)
def test_ensembles_compute_one_function(kind, names):
    check_model(kind([TEXTS[name] for name in names]), CONTEXTS, tokens(3))


def test_an_ensemble_of_captioners_computes_one_function():
    encoder = SmallCNN((4, DIM), size=8)
    members = [partial(CAPTIONERS[name], encoder=encoder) for name in ("captioner", "captioner, transformer")]
    check_model(CaptionerEnsemble(members, encoder=encoder), FEATURES.values, tokens(3, 2))


class OtherStep(Seq2Seq):
    """Decoding leaves something out, as a shortcut of training may."""

    def step(self, tokens, state, memory):
        log_probs, alpha, state = super().step(tokens, state, memory)
        return (1.01 * log_probs).log_softmax(dim=-1), alpha, state


class OtherAttention(Seq2Seq):
    def forward(self, source, inputs):
        logits, alphas = super().forward(source, inputs)
        return logits, alphas.flip(1)


class Seeing(Seq2Seq):
    """Reads the tokens that it predicts."""

    def forward(self, source, inputs):
        logits, alphas = super().forward(source, inputs)
        return logits + inputs.sum(dim=1).view(-1, 1, 1) * torch.arange(VOCAB_SIZE), alphas


class FirstTwo(Seq2Seq):
    """Rows take part in each other's predictions, in all ways of computing."""

    def encode(self, source):
        memory, state = super().encode(source)
        return memory, map_tensors(lambda part: part - part.mean(dim=0), state)


class Padded(Seq2Seq):
    def encode(self, source):
        memory, state = super().encode(source)
        return memory, map_tensors(lambda part: part * source.size(1), state)


class WrongOrder(Seq2Seq):
    """Several hypotheses of one source are taken for hypotheses of the others."""

    def step(self, tokens, state, memory):
        rows = torch.arange(len(tokens)) % len(memory.values)
        repeated = map_tensors(lambda part: part[rows], memory)
        return super().step(tokens, state, repeated)


class InState(Seq2Seq):
    """Rows remember their place."""

    def step(self, tokens, state, memory):
        log_probs, alpha, state = super().step(tokens, state, memory)
        each = len(tokens) // len(memory.values)
        place = 1 + torch.arange(len(memory.values)).repeat_interleave(each).view(-1, 1)
        return log_probs, alpha, state._replace(hidden=state.hidden * place)

    def forward(self, source, inputs):
        memory, state = self.encode(source)
        log_probs, alphas = [], []
        for step in inputs.unbind(1):
            found, alpha, state = self.step(step, state, memory)
            log_probs.append(found)
            alphas.append(alpha)
        return torch.stack(log_probs, dim=1), torch.stack(alphas, dim=1)


class Coarse(Seq2Seq):
    def logits(self, features):
        logits = super().logits(features)
        return logits * (2 if logits.dtype == torch.bfloat16 else 1) + logits.sign() * (logits.dtype == torch.bfloat16)


MISTAKES = [
    (OtherStep, r"step 0 differs from teacher forcing: log-probabilities differs by 0\.\d+ at \(\d, \d\): -"),
    (OtherAttention, "step 0 differs from teacher forcing: attention weights differs by"),
    (Seeing, "step 0 differs from teacher forcing: log-probabilities"),
    (FirstTwo, "row 0 differs from the row alone: log-probabilities differs by"),
    (Padded, "padding has an influence: log-probabilities differs by"),
    (WrongOrder, "step 0: rows that share a memory differ from rows with copies of it: log-probabilities"),
    (InState, "rows that share a memory differ|reordering the rows does not commute with a step"),
    (Coarse, "bfloat16, step 0: log-probabilities differs by"),
]


@pytest.mark.parametrize(("kind", "message"), MISTAKES, ids=[kind.__name__ for kind, _ in MISTAKES])
def test_a_mistake_is_found(kind, message):
    model = kind(VOCAB_SIZE, VOCAB_SIZE, AdditiveAttention, embedding_dim=5, hidden=6)
    with pytest.raises(AssertionError, match=message):
        check_model(model, CONTEXTS, tokens(3))


class Forgetful(LSTMLanguageModel):
    """Starts anew when it is given more than one token."""

    def read(self, inputs, state):
        if inputs.size(1) > 1:
            state = self.initial_state(len(inputs))
        return super().read(inputs, state)

    def encode(self, context):
        memory, _ = super().encode(context)
        return memory, self.initial_state(len(context))


def test_a_language_model_that_forgets_is_found():
    with pytest.raises(AssertionError, match="a text read 2 tokens at a time differs from one pass: logits differs by"):
        check_model(Forgetful(VOCAB_SIZE, embedding_dim=5, hidden=6), CONTEXTS, tokens(3))


class Anticausal(TransformerSeq2Seq):
    def forward(self, source, inputs):
        logits, alphas = super().forward(source, inputs)
        return logits + 0 * alphas.sum() + (inputs[:, -1] % 2).view(-1, 1, 1) * torch.arange(VOCAB_SIZE), alphas

    def step(self, tokens, state, memory):
        raise AssertionError("unused")


def test_teacher_forcing_that_sees_later_tokens_is_found(monkeypatch):
    monkeypatch.setattr("attendgen.testing.model._check_steps", lambda *arguments: None)
    monkeypatch.setattr("attendgen.testing.model._check_rows", lambda *arguments: None)
    with pytest.raises(AssertionError, match="another token 1 changes what is before it: log-probabilities differs by"):
        check_model(Anticausal(VOCAB_SIZE, VOCAB_SIZE, **SMALL), CONTEXTS, tokens(3))

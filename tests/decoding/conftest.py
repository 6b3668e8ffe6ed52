"""Tiny models to decode from: a table whose every probability can be looked up, and the real ones."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from attendgen.data.batch import pad
from attendgen.layers.attention import AdditiveAttention, GeneralAttention
from attendgen.models.captioner import Captioner
from attendgen.models.encoders.small_cnn import SmallCNN
from attendgen.models.lm.context import ContextLanguageModel
from attendgen.models.seq2seq import Seq2Seq
from attendgen.utils.special_tokens import EOS, SOS


class State(NamedTuple):
    prefix: Tensor  # rows: the tokens so far, as the digits of a number


class Memory(NamedTuple):
    which: Tensor  # batch: numbers of the inputs


class Table:
    """p(next | everything before, input) drawn at random for every prefix of up to `length` tokens."""

    def __init__(self, inputs: int = 4, vocab_size: int = 6, length: int = 4, source: int = 3) -> None:
        self.vocab_size = vocab_size
        self.inputs = inputs
        self.log_probs = (1.5 * torch.randn(inputs, 2 * vocab_size**length, vocab_size)).log_softmax(dim=-1)
        self.alphas = torch.randn(inputs, 2 * vocab_size**length, source).softmax(dim=-1)
        self.calls = 0

    def encode(self, which: Iterable[int]) -> tuple[Memory, State]:
        chosen = torch.tensor(list(which))
        return Memory(chosen), State(torch.zeros_like(chosen))

    def step(self, tokens: Tensor, state: State, memory: Memory) -> tuple[Tensor, Tensor, State]:
        self.calls += 1
        which = memory.which.repeat_interleave(len(tokens) // len(memory.which))
        prefix = state.prefix * self.vocab_size + tokens
        return self.log_probs[which, prefix], self.alphas[which, prefix], State(prefix)

    def look_up(self, which: int, tokens: Iterable[int]) -> tuple[list[float], list[list[float]], Tensor]:
        """Return each token's log-probability and attention weights, and the log-probabilities of the next token."""
        prefix, log_probs, alphas = SOS, [], []
        every_log_prob, every_alpha = self.log_probs.numpy(), self.alphas.numpy()  # several times as fast to index
        for token in tokens:
            log_probs.append(float(every_log_prob[which, prefix, token]))
            alphas.append(every_alpha[which, prefix].tolist())
            prefix = prefix * self.vocab_size + token
        return log_probs, alphas, self.log_probs[which, prefix]


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def make_table() -> type[Table]:
    return Table


class Case(NamedTuple):
    """A real model with inputs of different lengths."""

    model: torch.nn.Module
    inputs: list
    collate: Callable[[list], Tensor]

    def encode(self, rows: Iterable[int]) -> tuple:
        return self.model.encode(self.collate([self.inputs[row] for row in rows]))

    def forced(self, row: int, tokens: list[int]) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of next tokens and the attention weights by teacher forcing."""
        inputs = torch.tensor([[SOS, *tokens[:-1]]])
        inputs = inputs.unsqueeze(1) if isinstance(self.model, Captioner) else inputs
        logits, alphas = self.model(self.collate([self.inputs[row]]), inputs)
        return logits.log_softmax(dim=-1).view(len(tokens), -1), alphas.view(len(tokens), -1)


def sharpen(model: torch.nn.Module) -> torch.nn.Module:
    """Move the logits apart, so that outputs differ from input to input."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
        model.output.bias[EOS] += 0.5
    return model.eval()


def seq2seq() -> Case:
    model = Seq2Seq(9, 7, partial(AdditiveAttention, dim=6), embedding_dim=5, hidden=8, bidirectional=True)
    return Case(sharpen(model), [[3, 4, 5, 6, 7], [8], [4, 4, 3], [5, 6]], pad)


def lm() -> Case:
    model = ContextLanguageModel(8, GeneralAttention, embedding_dim=5, encoder_hidden=4, hidden=6, layers=2)
    return Case(sharpen(model), [[3, 4, 5, 6], [], [7], [5, 5]], pad)


def captioner() -> Case:
    model = Captioner(7, SmallCNN((4, 6), size=8), partial(AdditiveAttention, dim=6), embedding_dim=7, hidden=8)
    return Case(sharpen(model), list(torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)), torch.stack)


@pytest.fixture(params=[seq2seq, lm, captioner], ids=lambda make: make.__name__)
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    return request.param()

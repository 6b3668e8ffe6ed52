"""Show, Attend and Tell (Xu et al. 2015): a picture in, a caption out, word by word.

attendgen train experiment=flickr8k_soft data.root=DIR
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from attendgen.errors import UserError
from attendgen.layers.attention import Attention
from attendgen.layers.recurrence import AttentiveLSTM, LSTMState, Memory
from attendgen.layers.selection import LOOKS, Selection
from attendgen.models.encoders import Annotating, GridEncoder
from attendgen.vocabulary import PAD


class Paths(NamedTuple):
    """Each caption's logits, attention and selected weights along some ways of looking."""

    logits: Float[Tensor, "batch captions paths time symbols"]
    alphas: Float[Tensor, "batch captions paths time regions"]
    weights: Float[Tensor, "batch captions paths time regions"]


class Captioner(Annotating, nn.Module):
    """Grid encoder, attention over its annotation vectors, LSTM decoder with deep output.

    Shapes: `batch` pictures of `regions` annotation vectors of `dim` numbers; `captions` a picture, of `time` words;
    `rows` = batch x hypotheses or captions.

    Args:
        symbols: vocabulary size.
        encoder: turns pixels into annotation vectors.
        attention: makes the attention layer from `query` and `memory` sizes.
        embedding, hidden: sizes of the word vectors and of the decoder's state.
        project: size to which the annotation vectors are first reduced (linear and ReLU); null attends to them as
            they are, as the paper does.
        gate: of the context: "none", "scalar" (beta of 4.2.1) or "vector".
        start_layers: of the perceptrons that make the first state of the mean annotation vector, 1 or 2.
        deep_output: predict from [word, state, context] (equation 7), or from the state alone.
        dropout, word_dropout, memory_dropout: on the output layer's input, on word vectors, on annotation vectors.
        look: how decoding makes a context of alpha: "expected" (soft attention), "argmax" or "sampled" (hard).

    Raises:
        UserError: there is no such look, gate, or number of layers; or the attention cannot be hard.
    """

    def __init__(
        self,
        symbols: int,
        encoder: GridEncoder,
        attention: Callable[..., Attention],
        embedding: int = 512,
        hidden: int = 512,
        project: int | None = None,
        gate: str = "scalar",
        start_layers: int = 1,
        deep_output: bool = True,
        dropout: float = 0.5,
        word_dropout: float = 0.0,
        memory_dropout: float = 0.0,
        look: str = "expected",
    ) -> None:
        super().__init__()
        if look not in LOOKS:
            raise UserError(f"model.look={look}: unknown; choose one of {', '.join(LOOKS)}")
        self.hard = look != "expected"
        self.look = LOOKS[look] if self.hard else None  # the attention layer makes the expected context itself
        self.encoder = encoder
        memory = project or encoder.dim
        self.project = nn.Sequential(nn.Linear(encoder.dim, memory), nn.ReLU()) if project else nn.Identity()
        self.embedding = nn.Embedding(symbols, embedding, padding_idx=PAD)
        self.first_hidden = _perceptron(memory, hidden, start_layers)
        self.first_cell = _perceptron(memory, hidden, start_layers)
        self.decoder = AttentiveLSTM(embedding, hidden, memory, attention, gate)
        if self.hard:
            self.decoder.require_weighted_sum()
        self.deep_hidden = nn.Linear(hidden, embedding) if deep_output else None
        self.deep_context = nn.Linear(memory, embedding, bias=False) if deep_output else None
        self.output = nn.Linear(embedding if deep_output else hidden, symbols)
        self.dropout = nn.Dropout(dropout)
        self.held: dict[str, Tensor] | None = None  # factors of features, by layer, while dropout is held
        self.word_dropout = nn.Dropout(word_dropout)
        self.memory_dropout = memory_dropout
        with torch.no_grad():
            self.embedding.weight.uniform_(-0.1, 0.1)
            self.embedding.weight[PAD] = 0.0

    def start(
        self, images: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"]
    ) -> tuple[Memory, LSTMState]:
        """The memory to attend to and the first state, from the mean annotation vector (equations 5 and 6)."""
        values = self.project(self.annotate(images))
        values = functional.dropout(values, self.memory_dropout, self.training or self.held is not None)
        mean = values.mean(dim=1)
        state = LSTMState(torch.tanh(self.first_hidden(mean)), torch.tanh(self.first_cell(mean)))
        return Memory(self.decoder.attention.project(values), values, None), state

    def logits(
        self,
        word: Float[Tensor, "*rows embedding"],
        hidden: Float[Tensor, "*rows hidden"],
        looked: Float[Tensor, "*rows features"],
        paths: int = 1,
    ) -> Float[Tensor, "*rows symbols"]:
        """Deep output L_o(E y + L_h h + L_z z) (equation 7), where `looked` is L_z z; without it L_o h.

        The `paths` rows of a caption share their dropout.
        """
        if self.deep_hidden is None:
            return self.output(self._drop(hidden, paths, "hidden"))
        deep = torch.tanh(word + self.deep_hidden(self._drop(hidden, paths, "hidden")) + looked)
        return self.output(self._drop(deep, paths, "deep"))

    @contextlib.contextmanager
    def hold_dropout(self) -> Iterator[None]:
        """While it lasts, in training or not, the same features of words and of the output layers are left out.

        They are drawn anew each time, once for all rows and steps: what is written and what is scored are one model's.
        `start` leaves out some of the annotation vectors' in training or not; call it once.
        """
        sizes = {
            "word": (self.embedding.embedding_dim, self.word_dropout.p),
            "hidden": (self.decoder.hidden, self.dropout.p),
            "deep": (self.output.in_features, self.dropout.p),
        }
        ones = self.output.weight.new_ones
        self.held = {name: functional.dropout(ones(size), share) for name, (size, share) in sizes.items()}
        try:
            yield
        finally:
            self.held = None

    def _words(self, tokens: Int[Tensor, " rows *time"]) -> Float[Tensor, "rows *time embedding"]:
        vectors = self.embedding(tokens)
        return self.word_dropout(vectors) if self.held is None else vectors * self.held["word"]

    def _drop(self, values: Float[Tensor, "*rows dim"], paths: int, layer: str) -> Float[Tensor, "*rows dim"]:
        """Dropout that treats the paths of a caption alike: they are compared with each other."""
        if self.held is not None:
            return values * self.held[layer]
        if paths == 1 or not self.training:
            return self.dropout(values)
        grouped = values.unflatten(0, (-1, paths))
        return (grouped * self.dropout(torch.ones_like(grouped[:, :1]))).flatten(0, 1)

    def step(
        self, tokens: Int[Tensor, " rows"], state: LSTMState, memory: Memory
    ) -> tuple[Float[Tensor, "rows symbols"], Float[Tensor, "rows regions"], LSTMState]:
        """Log-probabilities of the next word after `tokens`, the weights looked with, and the new state."""
        word = self._words(tokens)
        state, context, _, weights = self.decoder.step(self.decoder.project(word), state, memory, self.look)
        looked = context if self.deep_context is None else self.deep_context(context)
        return self.logits(word, state.hidden, looked).float().log_softmax(dim=-1), weights, state

    def forward(
        self,
        images: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"],
        inputs: Int[Tensor, "batch captions time"],
    ) -> tuple[Float[Tensor, "batch captions time symbols"], Float[Tensor, "batch captions time regions"]]:
        """Teacher forcing with the expected context: logits of each next word given the true ones before it, and alpha.

        A picture is encoded, and its annotation vectors are projected, once for all its captions.
        """
        logits, alphas, _ = self.follow(images, inputs)
        return logits.squeeze(2), alphas.squeeze(2)

    def follow(
        self,
        images: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"],
        inputs: Int[Tensor, "batch captions time"],
        select: Selection | None = None,
        paths: int = 1,
        soft: bool = False,
    ) -> Paths:
        """Teacher forcing along `paths` ways of looking for each caption, drawn by `select`.

        Args:
            soft: add one more path, the last, with the expected context.
        """
        return self.follow_from(*self.start(images), inputs, select, paths, soft)

    def follow_from(
        self,
        memory: Memory,
        state: LSTMState,
        inputs: Int[Tensor, "batch captions time"],
        select: Selection | None = None,
        paths: int = 1,
        soft: bool = False,
    ) -> Paths:
        """`follow` from what `start` gave: with the same annotation vectors left out."""
        captions, rows = inputs.size(1), paths + soft
        state = LSTMState(*(part.repeat_interleave(captions * rows, dim=0) for part in state))
        words = self._words(inputs.flatten(0, 1)).repeat_interleave(rows, dim=0)

        def with_soft(alpha: Tensor) -> Tensor:
            assert select is not None
            grouped = alpha.unflatten(1, (-1, rows))  # batch captions rows regions
            return torch.cat([select(grouped[:, :, :paths]), grouped[:, :, paths:]], dim=2).flatten(1, 2)

        readout = None if self.deep_context is None else self.deep_context.weight
        steps = self.decoder(words, state, memory, with_soft if soft else select, readout)
        logits = self.logits(words, steps.hidden, steps.contexts, rows)
        return Paths(*(part.unflatten(0, (-1, captions, rows)) for part in (logits, steps.alphas, steps.weights)))


def _perceptron(inputs: int, outputs: int, layers: int) -> nn.Module:
    """A linear layer, or two with tanh between; the caller takes tanh of what comes out."""
    if layers not in (1, 2):
        raise UserError(f"model.start_layers={layers}: expected 1 or 2")
    return (
        nn.Linear(inputs, outputs)
        if layers == 1
        else nn.Sequential(nn.Linear(inputs, outputs), nn.Tanh(), nn.Linear(outputs, outputs))
    )

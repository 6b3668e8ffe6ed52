"""Show, Attend and Tell (Xu et al. 2015): a picture in, a caption out, word by word.

attendgen train experiment=flickr8k_soft data.root=DIR
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from attendgen.layers.attention import Attention
from attendgen.layers.recurrence import AttentiveLSTM, LSTMState, Memory
from attendgen.models.encoders import GridEncoder
from attendgen.vocabulary import PAD


class Captioner(nn.Module):
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
        gate: scale the context by beta (4.2.1).
        deep_output: predict from [word, state, context] (equation 7), or from the state alone.
        dropout, word_dropout, memory_dropout: on the output layer's input, on word vectors, on annotation vectors.
    """

    def __init__(
        self,
        symbols: int,
        encoder: GridEncoder,
        attention: Callable[..., Attention],
        embedding: int = 512,
        hidden: int = 512,
        project: int | None = None,
        gate: bool = True,
        deep_output: bool = True,
        dropout: float = 0.5,
        word_dropout: float = 0.0,
        memory_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        memory = project or encoder.dim
        self.project = nn.Sequential(nn.Linear(encoder.dim, memory), nn.ReLU()) if project else nn.Identity()
        self.embedding = nn.Embedding(symbols, embedding, padding_idx=PAD)
        self.first_hidden = nn.Linear(memory, hidden)
        self.first_cell = nn.Linear(memory, hidden)
        self.decoder = AttentiveLSTM(embedding, hidden, memory, attention, gate)
        self.deep_hidden = nn.Linear(hidden, embedding) if deep_output else None
        self.deep_context = nn.Linear(memory, embedding, bias=False) if deep_output else None
        self.output = nn.Linear(embedding if deep_output else hidden, symbols)
        self.dropout = nn.Dropout(dropout)
        self.word_dropout = nn.Dropout(word_dropout)
        self.memory_dropout = nn.Dropout(memory_dropout)
        with torch.no_grad():
            self.embedding.weight.uniform_(-0.1, 0.1)
            self.embedding.weight[PAD] = 0.0

    def annotate(
        self, images: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"]
    ) -> Float[Tensor, "batch regions dim"]:
        """Annotation vectors of pictures; cached ones pass through."""
        return self.encoder(images) if images.ndim == 4 else images

    def start(
        self, images: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"]
    ) -> tuple[Memory, LSTMState]:
        """The memory to attend to and the first state, from the mean annotation vector (equations 5 and 6)."""
        values = self.memory_dropout(self.project(self.annotate(images)))
        mean = values.mean(dim=1)
        state = LSTMState(torch.tanh(self.first_hidden(mean)), torch.tanh(self.first_cell(mean)))
        return Memory(self.decoder.attention.project(values), values, None), state

    def logits(
        self,
        word: Float[Tensor, "*rows embedding"],
        hidden: Float[Tensor, "*rows hidden"],
        context: Float[Tensor, "*rows memory"],
    ) -> Float[Tensor, "*rows symbols"]:
        """Deep output L_o(E y + L_h h + L_z z) (equation 7)."""
        if self.deep_hidden is None or self.deep_context is None:
            return self.output(self.dropout(hidden))
        deep = torch.tanh(word + self.deep_hidden(self.dropout(hidden)) + self.deep_context(context))
        return self.output(self.dropout(deep))

    def step(
        self, tokens: Int[Tensor, " rows"], state: LSTMState, memory: Memory
    ) -> tuple[Float[Tensor, "rows symbols"], Float[Tensor, "rows regions"], LSTMState]:
        """Log-probabilities of the next word after `tokens`, the attention used, and the new state."""
        word = self.embedding(tokens)
        state, context, alpha = self.decoder.step(self.decoder.project(word), state, memory)
        return self.logits(word, state.hidden, context).float().log_softmax(dim=-1), alpha, state

    def forward(
        self,
        images: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"],
        inputs: Int[Tensor, "batch captions time"],
    ) -> tuple[Float[Tensor, "batch captions time symbols"], Float[Tensor, "batch captions time regions"]]:
        """Teacher forcing: logits of each next word given the true ones before it, and the attention.

        A picture is encoded, and its annotation vectors are projected, once for all its captions.
        """
        memory, state = self.start(images)
        captions = inputs.size(1)
        state = LSTMState(*(part.repeat_interleave(captions, dim=0) for part in state))
        words = self.word_dropout(self.embedding(inputs.flatten(0, 1)))
        hidden, contexts, alphas = self.decoder(words, state, memory)
        logits = self.logits(words, hidden, contexts)
        return logits.unflatten(0, (-1, captions)), alphas.unflatten(0, (-1, captions))

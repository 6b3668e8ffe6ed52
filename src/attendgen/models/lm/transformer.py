"""A Transformer language model that reads streams: a decoder without memory, with a window of keys and values.

attendgen train experiment=novels_transformer
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attendgen.layers.lstm import tie_weights
from attendgen.layers.output import OutputLayer
from attendgen.layers.state import EmptyMemory
from attendgen.layers.transformer import FeedForward, SelfAttention, TokenEmbedding
from attendgen.layers.transformer_attention import KeyValues, get_head_size, make_rotation
from attendgen.models.lm.common import StatefulLanguageModel
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import PAD


class WindowState(NamedTuple):
    """Keys and values of the last `window` tokens in each layer, oldest first; `seen` is where there was a token."""

    layers: tuple[KeyValues, ...]
    seen: Bool[Tensor, "rows window"]


class TransformerLanguageModel(StatefulLanguageModel):
    """Each layer attends to a token itself and to the `window` tokens before it, across chunks (Dai et al. 2019, 3.2).

    A token therefore depends on up to layers x window tokens before it. Positions are rotary (Su et al. 2021), so a
    text may have any length. The attention weights are those of the last layer, averaged over its heads, for the
    `window` tokens before each token; what is missing to 1 is the weight of the token itself.

    Shapes: `rows` texts read side by side, `time` characters of each.

    Args:
        vocab_size: size of the vocabulary.
        dim, heads, layers: size of the vectors, number of heads, number of layers.
        feed_forward: size of the feed-forward networks; 4 x dim unless given.
        window: number of tokens before its own that each layer attends to.
        dropout: on embeddings, on the output of each sublayer, and within the feed-forward networks.
        tied: the output layer shares the weights of the embedding (Press and Wolf 2017).

    Raises:
        UserError: there is no layer or window, or the heads are not of one even size.
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int = 256,
        heads: int = 4,
        layers: int = 4,
        feed_forward: int | None = None,
        window: int = 128,
        dropout: float = 0.1,
        tied: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("layers", layers), ("window", window)):
            if value < 1:
                raise UserError(f"model.{name}={value}: expected 1 or more")
        self.heads, self.head_size = heads, get_head_size(dim, heads, rotary=True)
        self.window = window
        self.embedding = TokenEmbedding(vocab_size, dim)
        self.attentions = nn.ModuleList(SelfAttention(dim, heads, dropout) for _ in range(layers))
        self.feed_forwards = nn.ModuleList(FeedForward(dim, feed_forward or 4 * dim, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.output = OutputLayer(dim, vocab_size)
        if tied:
            tie_weights(self.output, self.embedding)
        self.dropout = nn.Dropout(dropout)

    def initial_state(self, batch: int) -> WindowState:
        """Return the state before anything is read: a window without tokens."""
        weight = self.norm.weight
        empty = weight.new_zeros(batch, self.heads, self.window, self.head_size, dtype=torch.float32)
        layers = tuple(KeyValues(empty, empty) for _ in self.attentions)
        return WindowState(layers, weight.new_zeros(batch, self.window, dtype=torch.bool))

    def read(
        self, inputs: Int[Tensor, "rows time"], state: WindowState, mask: Bool[Tensor, "rows time"] | None = None
    ) -> tuple[Float[Tensor, "rows time vocab"], Float[Tensor, "rows time window"], WindowState]:
        """Return logits after each of `inputs`, the weights of the tokens before it, and the new state.

        A long text is read in chunks, so that time and memory grow in proportion to its length.
        """
        features, alphas = [], []
        is_token = inputs != PAD if mask is None else mask
        for chunk, real in zip(inputs.split(2 * self.window, 1), is_token.split(2 * self.window, 1), strict=True):
            part, alpha, state = self._read_chunk(chunk, state, real)
            features.append(part)
            alphas.append(alpha)
        return self.output(torch.cat(features, dim=1)), torch.cat(alphas, dim=1), state

    def _read_chunk(
        self, inputs: Int[Tensor, "rows time"], state: WindowState, mask: Bool[Tensor, "rows time"]
    ) -> tuple[Float[Tensor, "rows time dim"], Float[Tensor, "rows time window"], WindowState]:
        """Return features of the next tokens, the weights of the tokens before each, and the new state."""
        seen = torch.cat([state.seen, mask], dim=1)  # rows window+time
        positions = torch.arange(seen.size(1), device=inputs.device)
        now = torch.arange(inputs.size(1), device=inputs.device).unsqueeze(1)
        within = (positions >= now) & (positions <= now + self.window)  # time window+time
        visible = (within & seen.unsqueeze(1)).unsqueeze(1)
        # from the window's beginning: scores depend on distances alone
        rotation = make_rotation(seen.size(1), self.head_size, inputs.device)
        vectors = self.dropout(self.embedding(inputs))
        layers: list[KeyValues] = []
        alpha = None
        stack = zip(self.attentions, self.feed_forwards, state.layers, strict=True)
        for i, (attention, feed_forward, past) in enumerate(stack):
            vectors, alpha, after = attention(vectors, past, visible, rotation, report=i == len(state.layers) - 1)
            vectors = feed_forward(vectors)
            layers.append(KeyValues(*(part[:, :, -self.window :] for part in after)))
        assert alpha is not None
        slots = now + torch.arange(self.window, device=inputs.device)
        alphas = alpha.gather(2, slots.expand(len(inputs), -1, -1))
        return self.norm(vectors), alphas, WindowState(tuple(layers), seen[:, -self.window :])

    def step(
        self, tokens: Int[Tensor, " rows"], state: WindowState, memory: EmptyMemory
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows window"], WindowState]:
        """Return log-probabilities of the next character after `tokens`, the attention weights, and the new state."""
        logits, alphas, state = self.read(tokens.unsqueeze(1), state)
        return logits[:, 0].float().log_softmax(dim=-1), alphas[:, 0], state

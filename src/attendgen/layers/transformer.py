"""Layers of a Transformer (Vaswani et al. 2017): pre-norm encoder and decoder with a key-value cache.

Each sublayer normalizes its input and adds its output to it (pre-norm, Xiong et al. 2020). The decoder's state holds
the keys and values of the tokens so far, so that a step computes one position.

Shapes: `rows` sequences of `time` vectors; a memory has `batch` rows, each of which serves rows / batch sequences.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from attendgen.layers.transformer_attention import (
    KeyValues,
    MultiHeadAttention,
    Rotation,
    get_head_size,
    make_causal_mask,
    make_rotation,
)
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import PAD


class TransformerMemory(NamedTuple):
    """Keys and values of each decoder layer; `mask` is True where the source is real, None where all of it is."""

    layers: tuple[KeyValues, ...]
    mask: Bool[Tensor, "batch source"] | None


class TransformerState(NamedTuple):
    """Keys and values of the tokens so far, of each decoder layer."""

    layers: tuple[KeyValues, ...]


class SelfAttention(nn.Module):
    """x + attention of norm(x) over norm(x) and what came before it."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, heads)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        inputs: Float[Tensor, "rows time dim"],
        past: KeyValues | None = None,
        mask: Bool[Tensor, "#rows 1 #time source"] | None = None,
        rotation: Rotation | None = None,
        is_causal: bool = False,
        report: bool = False,
    ) -> tuple[Float[Tensor, "rows time dim"], Float[Tensor, "rows time source"] | None, KeyValues]:
        """Return the outputs, the attention weights (see `MultiHeadAttention`), and the keys and values so far.

        Args:
            past: keys and values before the inputs, not rotated.
        """
        vectors = self.norm(inputs)
        memory = self.attention.project(vectors)
        if past is not None:
            memory = KeyValues(*(torch.cat(parts, dim=2) for parts in zip(past, memory, strict=True)))
        outputs, alpha = self.attention(vectors, memory, mask, rotation, is_causal, report)
        return inputs + self.dropout(outputs), alpha, memory


class CrossAttention(nn.Module):
    """x + attention of norm(x) over a memory, which several sequences may share."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, heads)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        inputs: Float[Tensor, "rows time dim"],
        memory: KeyValues,
        mask: Bool[Tensor, "batch source"] | None,
        report: bool = False,
    ) -> tuple[Float[Tensor, "rows time dim"], Float[Tensor, "rows time source"] | None]:
        """Return the outputs, and the attention weights (see `MultiHeadAttention`)."""
        batch = memory.keys.size(0)
        queries = self.norm(inputs).reshape(batch, -1, inputs.size(-1))  # all queries of one memory
        mask = None if mask is None else mask[:, None, None]
        outputs, alpha = self.attention(queries, memory, mask, report=report)
        alpha = None if alpha is None else alpha.reshape(*inputs.shape[:2], -1)
        return inputs + self.dropout(outputs.reshape(inputs.shape)), alpha


class FeedForward(nn.Module):
    """x + W gelu(V norm(x)) (Vaswani et al. 2017, 3.3, with the activation of Hendrycks and Gimpel 2016)."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.inner = nn.Linear(dim, hidden)
        self.outer = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Float[Tensor, "rows time dim"]) -> Float[Tensor, "rows time dim"]:
        """Return the outputs, position by position."""
        hidden = self.dropout(functional.gelu(self.inner(self.norm(inputs))))
        return inputs + self.dropout(self.outer(hidden))


class TransformerEncoder(nn.Module):
    """Self-attention over all real positions, and a feed-forward network, `layers` times.

    Args:
        dim, heads, feed_forward: sizes of the vectors, number of heads, size of the feed-forward networks.
        dropout: on the output of each sublayer, and within the feed-forward networks.
        rotary: rotate queries and keys by their positions; false knows no positions.
    """

    def __init__(
        self, dim: int, heads: int, layers: int, feed_forward: int, dropout: float = 0.0, rotary: bool = True
    ) -> None:
        super().__init__()
        self.head_size = get_head_size(dim, heads, rotary)
        self.rotary = rotary
        self.attentions = nn.ModuleList(SelfAttention(dim, heads, dropout) for _ in range(layers))
        self.feed_forwards = nn.ModuleList(FeedForward(dim, feed_forward, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, inputs: Float[Tensor, "batch source dim"], mask: Bool[Tensor, "batch source"] | None
    ) -> Float[Tensor, "batch source dim"]:
        """Return one vector per position."""
        rotation = make_rotation(inputs.size(1), self.head_size, inputs.device) if self.rotary else None
        mask = None if mask is None else mask[:, None, None]
        for attention, feed_forward in zip(self.attentions, self.feed_forwards, strict=True):
            inputs, _, _ = attention(inputs, mask=mask, rotation=rotation)
            inputs = feed_forward(inputs)
        return self.norm(inputs)


class TransformerDecoder(nn.Module):
    """Self-attention over the tokens so far, attention over a memory, a feed-forward network; `layers` times.

    Args:
        dim, heads, feed_forward, dropout, rotary: see `TransformerEncoder`.
    """

    def __init__(
        self, dim: int, heads: int, layers: int, feed_forward: int, dropout: float = 0.0, rotary: bool = True
    ) -> None:
        super().__init__()
        if layers < 1:
            raise UserError(f"model.layers={layers}: a decoder needs 1 or more")
        self.heads, self.head_size = heads, get_head_size(dim, heads, rotary)
        self.rotary = rotary
        self.self_attentions = nn.ModuleList(SelfAttention(dim, heads, dropout) for _ in range(layers))
        self.cross_attentions = nn.ModuleList(CrossAttention(dim, heads, dropout) for _ in range(layers))
        self.feed_forwards = nn.ModuleList(FeedForward(dim, feed_forward, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def project(
        self, values: Float[Tensor, "batch source dim"], mask: Bool[Tensor, "batch source"] | None
    ) -> TransformerMemory:
        """Return the keys and values of a memory for all layers."""
        layers: list[KeyValues] = [cross.attention.project(values) for cross in self.cross_attentions]  # type: ignore[operator,union-attr]
        return TransformerMemory(tuple(layers), mask)

    def initial_state(self, rows: int) -> TransformerState:
        """Return the state before the first token."""
        empty = self.norm.weight.new_zeros(rows, self.heads, 0, self.head_size)
        return TransformerState(tuple(KeyValues(empty, empty) for _ in self.self_attentions))

    def forward(
        self, inputs: Float[Tensor, "rows time dim"], state: TransformerState, memory: TransformerMemory
    ) -> tuple[Float[Tensor, "rows time dim"], Float[Tensor, "rows time source"], TransformerState]:
        """Return features of the next tokens, the last layer's attention over the memory, and the new state."""
        past, time = count_tokens(state), inputs.size(1)
        rotation = make_rotation(past + time, self.head_size, inputs.device) if self.rotary else None
        mask = make_causal_mask(past, time, inputs.device) if past and time > 1 else None
        layers, alpha = [], None
        stack = (self.self_attentions, self.cross_attentions, self.feed_forwards, state.layers, memory.layers)
        for i, (look_back, look_at, feed_forward, before, memory_layer) in enumerate(zip(*stack, strict=True)):
            inputs, _, after = look_back(inputs, before, mask, rotation, is_causal=not past and time > 1)
            inputs, alpha = look_at(inputs, memory_layer, memory.mask, report=i == len(memory.layers) - 1)
            inputs = feed_forward(inputs)
            layers.append(after)
        assert alpha is not None
        return self.norm(inputs), alpha, TransformerState(tuple(layers))


def count_tokens(state: TransformerState) -> int:
    """Return the number of tokens so far."""
    return state.layers[0].keys.size(2)


class TokenEmbedding(nn.Embedding):
    """sqrt(dim) times a token's embedding (Vaswani et al. 2017, 3.4), plus that of its position if these are learned.

    Args:
        positions: number of learned positions; 0 adds none.
    """

    def __init__(self, vocab_size: int, dim: int, positions: int = 0) -> None:
        super().__init__(vocab_size, dim, padding_idx=PAD)
        self.positions = nn.Parameter(torch.empty(positions, dim).normal_(std=0.02)) if positions else None
        with torch.no_grad():
            self.weight.normal_(std=dim**-0.5)
            self.weight[PAD] = 0.0

    def forward(self, tokens: Int[Tensor, "rows time"], start: int = 0) -> Float[Tensor, "rows time dim"]:
        """Return the vectors of tokens, the first of which is at position `start`.

        Raises:
            UserError: there are more tokens than learned positions.
        """
        vectors = super().forward(tokens) * math.sqrt(self.embedding_dim)
        if self.positions is None:
            return vectors
        end = start + tokens.size(1)
        if end > len(self.positions):
            raise UserError(
                f"model.learned_positions={len(self.positions)}: a sequence has {end} tokens; raise it, or set 0 for "
                "rotary positions"
            )
        return vectors + self.positions[start:end]

"""Multi-head attention of Transformers, and rotary positions.

Shapes: `rows` sequences of `time` vectors, which attend to `source` vectors; `size` numbers per head.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from attendgen.utils.errors import UserError

ROTARY_BASE = 10_000.0  # of the wavelengths, in positions (Su et al. 2021, 3.2.2)


class KeyValues(NamedTuple):
    """Keys and values of one layer."""

    keys: Float[Tensor, "rows heads source size"]
    values: Float[Tensor, "rows heads source size"]


class Rotation(NamedTuple):
    """Cosines and sines of the angles by which queries and keys are rotated."""

    cos: Float[Tensor, "positions half"]
    sin: Float[Tensor, "positions half"]


def make_rotation(positions: int, size: int, device: torch.device) -> Rotation:
    """Return the angles of the first `positions` positions for vectors of `size` numbers."""
    frequency = ROTARY_BASE ** (-torch.arange(0, size, 2, device=device) / size)
    angles = torch.arange(positions, device=device).unsqueeze(1) * frequency
    return Rotation(angles.cos(), angles.sin())


def rotate(vectors: Float[Tensor, "rows heads time size"], rotation: Rotation) -> Float[Tensor, "rows heads time size"]:
    """Rotate pairs of numbers by angles in proportion to the position (Su et al. 2021, equation 34).

    The product of a rotated query and a rotated key depends on their distance alone. The paper pairs neighbors; here
    the first half of the numbers is paired with the second, which is the same up to their order.
    """
    cos, sin = (part.to(vectors.dtype) for part in rotation)
    left, right = vectors.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1)


class MultiHeadAttention(nn.Module):
    """Several heads of scaled dot-product attention, with learned projections (Vaswani et al. 2017, 3.2.2).

    Raises:
        UserError: the size is not a multiple of the number of heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        get_head_size(dim, heads)
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)

    def split(self, vectors: Float[Tensor, "rows time dim"]) -> Float[Tensor, "rows heads time size"]:
        """Split vectors into those of the heads."""
        return vectors.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def project(self, memory: Float[Tensor, "rows source dim"]) -> KeyValues:
        """Return the keys and values of a memory."""
        return KeyValues(self.split(self.key(memory)), self.split(self.value(memory)))

    def forward(
        self,
        inputs: Float[Tensor, "rows time dim"],
        memory: KeyValues,
        mask: Bool[Tensor, "#rows 1 #time source"] | None = None,
        rotation: Rotation | None = None,
        is_causal: bool = False,
        report: bool = False,
    ) -> tuple[Float[Tensor, "rows time dim"], Float[Tensor, "rows time source"] | None]:
        """Return the output of each input, and the attention weights, averaged over heads, if they are to be reported.

        Args:
            mask: True where an input may attend; the output's context is zero where it may attend to nothing.
            rotation: of the memory's positions, the last of which are the inputs'.
            is_causal: inputs and memory are the same sequence, and none attends to a later one.
        """
        query, (keys, values) = self.split(self.query(inputs)), memory
        if rotation is not None:
            query = rotate(query, Rotation(*(part[-inputs.size(1) :] for part in rotation)))
            keys = rotate(keys, rotation)
        query = query.to(keys.dtype)  # weights may be in half precision, and a decoding's memory in single
        contexts, alpha = attend_heads(query, keys, values, mask, is_causal, report)
        merged = contexts.transpose(1, 2).flatten(2).to(inputs.dtype)
        return self.output(merged), None if alpha is None else alpha.mean(dim=1)


def attend_heads(
    query: Float[Tensor, "rows heads time size"],
    keys: Float[Tensor, "rows heads source size"],
    values: Float[Tensor, "rows heads source size"],
    mask: Bool[Tensor, "#rows 1 #time source"] | None,
    is_causal: bool = False,
    report: bool = False,
) -> tuple[Float[Tensor, "rows heads time size"], Float[Tensor, "rows heads time source"] | None]:
    """Return softmax(q . k / sqrt(size)) @ values, by a fused kernel, and the weights if they are to be reported."""
    if is_causal and report:
        mask, is_causal = make_causal_mask(0, query.size(2), query.device), False
    nothing = None if mask is None else ~mask.any(dim=-1, keepdim=True)
    if mask is not None and nothing is not None:
        mask = mask | nothing  # a softmax over no position is not a number
    alpha = None
    if report:
        scores = (query @ keys.transpose(-1, -2)).float() / math.sqrt(query.size(-1))
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        alpha = scores.softmax(dim=-1)
        contexts = alpha.to(values.dtype) @ values
    else:
        contexts = functional.scaled_dot_product_attention(query, keys, values, mask, is_causal=is_causal)
    if nothing is not None:
        contexts = contexts.masked_fill(nothing, 0.0)
        alpha = None if alpha is None else alpha.masked_fill(nothing, 0.0)
    return contexts, alpha


def make_causal_mask(past: int, time: int, device: torch.device) -> Bool[Tensor, "1 1 time source"]:
    """Return which of `past` + `time` positions each of the last `time` may attend to: those up to its own."""
    return torch.ones(1, 1, time, past + time, dtype=torch.bool, device=device).tril(past)


def get_head_size(dim: int, heads: int, rotary: bool = False) -> int:
    """Return the size of a head's queries.

    Raises:
        UserError: the heads have no equal sizes, or the size is odd, but rotary positions need pairs.
    """
    if heads < 1 or dim % heads:
        raise UserError(f"model.dim={dim}: not a multiple of model.heads={heads}; change one of them")
    size = dim // heads
    if rotary and size % 2:
        raise UserError(f"model.dim={dim}: heads of {size} numbers; rotary positions need an even number")
    return size

"""Models of one family and vocabulary that write together: a weighted product of their probabilities.

attendgen ensemble RUN RUN ... --out RUN
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from attendgen.errors import UserError
from attendgen.models.encoders import Annotating, GridEncoder


class Joint(tuple[Any, ...]):
    """The states (or the memories) of several models, field after field; made of `joined` ones only."""

    kinds: tuple[Any, ...]  # each model's named tuple

    def __new__(cls, *parts: Tensor | None) -> "Joint":
        return super().__new__(cls, parts)

    @property
    def each(self) -> list[Any]:
        """Every model's own."""
        parts = iter(self)
        return [kind(*itertools.islice(parts, len(kind._fields))) for kind in self.kinds]

    @property
    def mask(self) -> Tensor | None:
        """What is real of what is attended to, which is the same for all models."""
        return getattr(self.each[0], "mask", None)


@functools.cache
def _joint(kinds: tuple[Any, ...]) -> type[Joint]:
    """The type for named tuples of these kinds."""
    return type("Joint", (Joint,), {"kinds": kinds})


def joined(parts: Sequence[Any]) -> Joint:
    """Several models' states as one: named tuples of tensors, end to end."""
    return _joint(tuple(type(part) for part in parts))(*itertools.chain.from_iterable(parts))


class Ensemble(nn.Module):
    """p(next symbol) is in proportion to the product over m of p_m(next symbol)^w_m: a logarithmic opinion pool
    (Heskes 1998).

    Members whose probabilities are too sure of themselves are cooled down by weights that sum to less than 1. Every
    member reads and writes in its own state; the attention is the weighted mean of the attending members'.

    Args:
        members: make the models from the vocabulary's `sizes`.
        weights: one for each member; their geometric mean unless given.
        sizes: of the vocabulary, as each model takes them.

    Raises:
        UserError: there are no members, or not one weight for each, or no weight is above 0.
    """

    weights: Tensor

    def __init__(
        self, members: Sequence[Callable[..., nn.Module]], weights: Sequence[float] | None = None, **sizes: int
    ) -> None:
        super().__init__()
        given = [1 / len(members)] * len(members) if weights is None and members else list(weights or [])
        if len(given) != len(members) or not members:
            raise UserError(f"model.weights: {len(given)} for {len(members)} members; expected one for each")
        if not all(map(math.isfinite, given)) or max(given) <= 0:
            raise UserError(f"model.weights={given}: expected numbers, some of them above 0")
        self.members = nn.ModuleList(make(**sizes) for make in members)
        self.register_buffer("weights", torch.tensor(given, dtype=torch.float), persistent=False)
        self._recorded: list[Tensor] | None = None

    def mix(self, scores: Sequence[Float[Tensor, "*rows symbols"]]) -> Float[Tensor, "*rows symbols"]:
        """Log-probabilities from the members' logits or log-probabilities."""
        each = torch.stack([score.float().log_softmax(dim=-1) for score in scores], dim=-1)
        if self._recorded is not None:
            self._recorded.append(each)
        return (each @ self.weights.float()).log_softmax(dim=-1)

    @contextmanager
    def recording(self) -> Iterator[list[Tensor]]:
        """Yield a list to which `mix` appends the members' log-probabilities, of shape *rows symbols members.

        They do not depend on the weights, so that one reading of a batch serves to try many weights.
        """
        recorded: list[Tensor] = []
        self._recorded = recorded
        try:
            yield recorded
        finally:
            self._recorded = None

    def apart(self, memory: Joint, state: Joint) -> list[tuple[float, Any, Any, Any]]:
        """Each member's share of the weights above 0, itself, and its own memory and state."""
        return list(zip(self.shares(), self._each(), memory.each, state.each, strict=True))

    def shares(self) -> list[float]:
        """The members' weights, those below 0 as 0, divided by their sum."""
        weights = [max(weight, 0.0) for weight in self.weights.tolist()]
        return [weight / sum(weights) for weight in weights]

    def attention(self, alphas: Sequence[Float[Tensor, "*rows _source"]]) -> Float[Tensor, "*rows source"]:
        """The mean of what members attended to, of those that attend; a shorter reach ends where the longest does."""
        widest = max(alpha.size(-1) for alpha in alphas)
        shares = [share * bool(alpha.size(-1)) for share, alpha in zip(self.shares(), alphas, strict=True)]
        total = sum(shares) or 1.0
        padded = [functional.pad(alpha.float(), (widest - alpha.size(-1), 0)) for alpha in alphas]
        return torch.stack([alpha * (share / total) for share, alpha in zip(shares, padded, strict=True)]).sum(dim=0)

    def start(self, source: Tensor) -> tuple[Joint, Joint]:
        """The members' memories and first states."""
        memories, states = zip(*(member.start(source) for member in self._each()), strict=True)
        return joined(memories), joined(states)

    def step(
        self, tokens: Int[Tensor, " rows"], state: Joint, memory: Joint
    ) -> tuple[Float[Tensor, "rows symbols"], Float[Tensor, "rows source"], Joint]:
        """Log-probabilities of the next symbol after `tokens`, the attention used, and the new states."""
        parts = zip(self._each(), state.each, memory.each, strict=True)
        scores, alphas, states = zip(*(member.step(tokens, *part) for member, *part in parts), strict=True)
        return self.mix(scores), self.attention(alphas), joined(states)

    def forward(
        self, source: Tensor, inputs: Int[Tensor, "*rows time"]
    ) -> tuple[Float[Tensor, "*rows time symbols"], Float[Tensor, "*rows time source"]]:
        """Teacher forcing: log-probabilities of each next symbol given the true ones before it, and the attention."""
        scores, alphas = zip(*(member(source, inputs) for member in self._each()), strict=True)
        return self.mix(scores), self.attention(alphas)

    def _each(self) -> Any:
        """The members; a module list knows them as mere modules."""
        return self.members


class ReaderEnsemble(Ensemble):
    """Language models that read on for ever; see `Ensemble`."""

    def blank(self, rows: int) -> Joint:
        """The states before anything is read."""
        return joined([member.blank(rows) for member in self._each()])

    def read(
        self, inputs: Int[Tensor, "rows time"], state: Joint
    ) -> tuple[Float[Tensor, "rows time symbols"], Float[Tensor, "rows time reach"], Joint]:
        """Log-probabilities after each of `inputs`, the weights of the places before it, and the new states."""
        parts = zip(self._each(), state.each, strict=True)
        scores, alphas, states = zip(*(member.read(inputs, part) for member, part in parts), strict=True)
        return self.mix(scores), self.attention(alphas), joined(states)


class CaptionerEnsemble(Annotating, Ensemble):
    """Captioners that look through one encoder; see `Ensemble`."""

    def __init__(
        self,
        members: Sequence[Callable[..., nn.Module]],
        encoder: GridEncoder,
        weights: Sequence[float] | None = None,
        **sizes: int,
    ) -> None:
        super().__init__([functools.partial(member, encoder=encoder) for member in members], weights, **sizes)
        for member in self._each():
            member.encoder = nn.Identity()  # it is given annotation vectors
        self.encoder = encoder

    def start(
        self, source: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"]
    ) -> tuple[Joint, Joint]:
        """The members' memories and first states."""
        return super().start(self.annotate(source))

    def forward(
        self,
        source: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"],
        inputs: Int[Tensor, "batch captions time"],
    ) -> tuple[Float[Tensor, "batch captions time symbols"], Float[Tensor, "batch captions time regions"]]:
        """Teacher forcing; a picture is encoded once for all members and captions."""
        return super().forward(self.annotate(source), inputs)

"""Models of one family and vocabulary that generate together: a weighted product of their probabilities.

attendgen ensemble RUN RUN ... --out RUN
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from attendgen.layers.encoder import Features, ImageEncoder
from attendgen.layers.fast_paths import stands_for
from attendgen.layers.prepared import prepare_decoding
from attendgen.layers.state import Member
from attendgen.models.encoders.base import ImageModel
from attendgen.utils.errors import UserError

Parts = tuple[Any, ...]  # the memories or the states of all members


class Ensemble(nn.Module):
    """p(next token) is proportional to the product over members m of p_m(next token)^w_m (Heskes 1998).

    This is a logarithmic opinion pool. Weights that sum to less than 1 flatten overconfident members. Every member has
    a memory and a state of its own; the attention is the weighted mean of that of the members that attend.

    Args:
        members: make the models from the vocabulary's `sizes`.
        weights: one per member; the geometric mean unless given.
        sizes: of the vocabulary, as each model takes them.

    Raises:
        UserError: there are no members, there is not one weight per member, or no weight is above 0.

    Attributes:
        weights: of the members. They are not tensors, so that a step does not wait for a GPU to tell them.
    """

    def __init__(
        self, members: Sequence[Callable[..., nn.Module]], weights: Sequence[float] | None = None, **sizes: int
    ) -> None:
        super().__init__()
        given = [1 / len(members)] * len(members) if weights is None and members else list(weights or [])
        if len(given) != len(members) or not members:
            raise UserError(f"model.weights: {len(given)} for {len(members)} members; expected one per member")
        if not all(map(math.isfinite, given)) or max(given) <= 0:
            raise UserError(f"model.weights={given}: expected numbers, some of them above 0")
        self.members = nn.ModuleList(make(**sizes) for make in members)
        self.weights = [float(weight) for weight in given]
        self._recorded: list[Tensor] | None = None

    @property
    def step_numbers(self) -> list[float]:
        """The numbers of a step that are not tensors: a CUDA graph of the step is recorded anew if they change."""
        return self.weights

    @property
    def context_len(self) -> int:
        """Characters that generation with language models of windows reads."""
        return self.models[0].context_len

    @property
    def chunk_len(self) -> int:
        """Characters that generation with language models of windows continues before it reads again."""
        return self.models[0].chunk_len

    @property
    def models(self) -> Any:
        """The members; to type checkers, a module list holds plain modules."""
        return self.members

    def mix(self, scores: Sequence[Float[Tensor, "*rows vocab"]]) -> Float[Tensor, "*rows vocab"]:
        """Return log-probabilities from the members' logits or log-probabilities."""
        log_probs = [score.float().log_softmax(dim=-1) for score in scores]
        if self._recorded is not None:
            self._recorded.append(torch.stack(log_probs, dim=-1))
        weighted = [weight * part for weight, part in zip(self.weights, log_probs, strict=True)]
        return functools.reduce(torch.add, weighted).log_softmax(dim=-1)

    @contextmanager
    def recording(self) -> Iterator[list[Tensor]]:
        """Yield a list to which `mix` appends the members' log-probabilities, shape `*rows vocab members`.

        They do not depend on the weights, so that one reading of a batch serves to try many weights.
        """
        recorded: list[Tensor] = []
        self._recorded = recorded
        try:
            yield recorded
        finally:
            self._recorded = None

    def split_members(self, memory: Parts, state: Parts) -> list[Member]:
        """Return each member with its share, memory and state."""
        parts = zip(self.mixing_weights(), self.models, memory, state, strict=True)
        return [Member(*part) for part in parts]

    def mixing_weights(self) -> list[float]:
        """Return the members' weights, negative ones as 0, divided by their sum."""
        weights = [max(weight, 0.0) for weight in self.weights]
        return [weight / sum(weights) for weight in weights]

    def average_attention(self, alphas: Sequence[Float[Tensor, "*rows _source"]]) -> Float[Tensor, "*rows source"]:
        """Return the weighted mean of the attention of members that attend; widths are aligned at the end."""
        widest = max(alpha.size(-1) for alpha in alphas)
        weights = [weight * bool(alpha.size(-1)) for weight, alpha in zip(self.mixing_weights(), alphas, strict=True)]
        total = sum(weights) or 1.0
        padded = [functional.pad(alpha.float(), (widest - alpha.size(-1), 0)) for alpha in alphas]
        return torch.stack([alpha * (weight / total) for weight, alpha in zip(weights, padded, strict=True)]).sum(dim=0)

    def encode(self, source: Any) -> tuple[Parts, Parts]:
        """Return the members' memories and first states."""
        memories, states = zip(*(member.encode(source) for member in self.models), strict=True)
        return memories, states

    def step(
        self, tokens: Int[Tensor, " rows"], state: Parts, memory: Parts
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows source"], Parts]:
        """Return log-probabilities of the next token after `tokens`, the attention weights, and the new states."""
        return self.step_members(self.models, tokens, state, memory)

    def step_members(
        self, models: Iterable[Any], tokens: Int[Tensor, " rows"], state: Parts, memory: Parts
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows source"], Parts]:
        """Compute `step` with the members, or with what takes their place."""
        parts = zip(models, state, memory, strict=True)
        scores, alphas, states = zip(*(member.step(tokens, *part) for member, *part in parts), strict=True)
        return self.mix(scores), self.average_attention(alphas), states

    def prepare_decoding(self, memory: Parts, tokens: int) -> tuple[Any, Parts]:
        """Return an object with this model's `step`, faster, and its memory; see `layers.prepared.prepare_decoding`."""
        if not stands_for(self, "prepare_decoding", "step"):
            return self, memory
        pairs = zip(self.models, memory, strict=True)
        members, memories = zip(*(prepare_decoding(member, part, tokens) for member, part in pairs), strict=True)
        return PreparedEnsemble(self, members), memories

    def forward(
        self, source: Any, inputs: Int[Tensor, "*rows time"]
    ) -> tuple[Float[Tensor, "*rows time vocab"], Float[Tensor, "*rows time source"]]:
        """Teacher forcing: return log-probabilities of each next token given the true ones before it, and attention."""
        scores, alphas = zip(*(member(source, inputs) for member in self.models), strict=True)
        return self.mix(scores), self.average_attention(alphas)


class PreparedEnsemble:
    """Decodes with an ensemble whose members are prepared."""

    def __init__(self, ensemble: Ensemble, members: Sequence[Any]) -> None:
        self.ensemble, self.members = ensemble, members

    def step(
        self, tokens: Int[Tensor, " rows"], state: Parts, memory: Parts
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows source"], Parts]:
        """Compute the ensemble's `step`."""
        return self.ensemble.step_members(self.members, tokens, state, memory)


class StatefulEnsemble(Ensemble):
    """Language models whose states hold all that they have read; see `Ensemble`."""

    def initial_state(self, batch: int) -> Parts:
        """Return the states before anything is read."""
        return tuple(member.initial_state(batch) for member in self.models)

    def read(
        self, inputs: Int[Tensor, "rows time"], state: Parts
    ) -> tuple[Float[Tensor, "rows time vocab"], Float[Tensor, "rows time window"], Parts]:
        """Return log-probabilities after each of `inputs`, the attention weights, and the new states."""
        parts = zip(self.models, state, strict=True)
        scores, alphas, states = zip(*(member.read(inputs, part) for member, part in parts), strict=True)
        return self.mix(scores), self.average_attention(alphas), states


class CaptionerEnsemble(ImageModel, Ensemble):
    """Captioners that share one encoder; see `Ensemble`."""

    def __init__(
        self,
        members: Sequence[Callable[..., nn.Module]],
        encoder: ImageEncoder,
        weights: Sequence[float] | None = None,
        **sizes: int,
    ) -> None:
        super().__init__([functools.partial(member, encoder=encoder) for member in members], weights, **sizes)
        for member in self.models:
            member.encoder = nn.Identity()  # members receive features
        self.encoder = encoder

    def encode(
        self, source: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"] | Features
    ) -> tuple[Parts, Parts]:
        """Return the members' memories and first states; an image is encoded once."""
        return super().encode(self.encode_images(source))

    def forward(
        self,
        source: UInt8[Tensor, "batch 3 size size"] | Float[Tensor, "batch regions dim"] | Features,
        inputs: Int[Tensor, "batch captions time"],
    ) -> tuple[Float[Tensor, "batch captions time vocab"], Float[Tensor, "batch captions time regions"]]:
        """Teacher forcing; an image is encoded once for all members and captions."""
        return super().forward(self.encode_images(source), inputs)

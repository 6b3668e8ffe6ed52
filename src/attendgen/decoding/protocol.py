"""The interface between decoding algorithms and models, and the result of decoding."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from attendgen.layers.state import Member


@runtime_checkable
class DecodableModel(Protocol):
    """A model to decode from.

    The model's `encode`, which the caller of a decoding algorithm calls, turns a batch of inputs into a memory and a
    first state, both trees of batch-first tensors: tensors, None, and named tuples, tuples, lists and dicts of trees.
    The memory has one row per input and may have a `mask` [batch source]; the state has `hypotheses` rows per input,
    input by input, and is reordered by row.
    """

    def step(
        self, tokens: Int[Tensor, " rows"], state: Any, memory: Any
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows source"], Any]:
        """Return log-probabilities of the next token after `tokens`, the attention weights, and the new state."""


@runtime_checkable
class StatefulModel(DecodableModel, Protocol):
    """A language model whose state holds all that it has read, so that it can read texts of any length.

    Its `encode` reads all but the last token of a context, which is the first that `step` is given.
    """

    def initial_state(self, batch: int) -> Any:
        """Return the state before anything is read."""

    def read(
        self, inputs: Int[Tensor, "rows time"], state: Any
    ) -> tuple[Float[Tensor, "rows time vocab"], Float[Tensor, "rows time window"], Any]:
        """Return logits after each of `inputs`, the weights of the `window` states before it, and the new state."""


@runtime_checkable
class CompositeModel(DecodableModel, Protocol):
    """A model made of others, each of which can be decoded from by itself."""

    def split_members(self, memory: Any, state: Any) -> Sequence[Member]:
        """Return the members with their parts of a memory and a state."""


class Decoded(NamedTuple):
    """The `n` best outputs of each input, best first; positions after <eos> are <pad> with zero attention.

    Attributes:
        tokens: without <sos>, with <eos> where it was emitted.
        scores: what the outputs are ranked by: the sum of log-probabilities, <eos> included, after any penalties, or
            the expected similarity; -inf marks an output that does not exist. With `decoding.facts`, outputs with fewer
            mistakes come first.
        log_probs: of each token, after the processors (zero at <pad>).
        attention: weights with which each token was predicted.
    """

    tokens: Int[Tensor, "batch n length"]
    scores: Float[Tensor, "batch n"]
    log_probs: Float[Tensor, "batch n length"]
    attention: Float[Tensor, "batch n length source"]

    def cut_source(self, length: int) -> "Decoded":
        """Return the outputs with the attention to the first tokens of the sources, without that to padding."""
        return self._replace(attention=self.attention[..., :length])


# Changes the log-probabilities of the next tokens, given the tokens of each output so far. All rows have equally many;
# a row that has ended is dropped, or holds <pad> after <eos>, and which log-probabilities it is given does not matter.
LogitsProcessor = Callable[[Float[Tensor, "rows vocab"], Int[Tensor, "rows length"]], Float[Tensor, "rows vocab"]]

# Decoding of the user's own. It is called with a model, its memory and first state, and the ids that are never chosen;
# for a language model also with `prefix`, the tokens before the first one, and `eos_id`, None for texts without an end.
DecodingFunction = Callable[..., Decoded]

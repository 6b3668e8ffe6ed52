"""What a decoding algorithm asks of a model, and what it gives back."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class Generator(Protocol):
    """A model to decode from.

    `start` (called by the user of a search) encodes a batch of inputs. Memory and state are named tuples of batch-first
    tensors. The memory holds one row an input, reordered only to drop inputs, and may have a `mask` [batch source] of
    what is real; the state's tensors have `hypotheses` rows an input, input by input, and are reordered by row.
    """

    def step(
        self, tokens: Int[Tensor, " rows"], state: Any, memory: Any
    ) -> tuple[Float[Tensor, "rows symbols"], Float[Tensor, "rows source"], Any]:
        """Log-probabilities of the next symbol after `tokens`, the attention used, and the new state."""


@runtime_checkable
class Reader(Generator, Protocol):
    """A generator whose state holds all that it has read, so that it needs no window: it reads on for ever.

    Its `start` reads all but the last symbol of a context, which is the first that `step` is given.
    """

    def blank(self, rows: int) -> Any:
        """The state before anything is read."""

    def read(
        self, inputs: Int[Tensor, "rows time"], state: Any
    ) -> tuple[Float[Tensor, "rows time symbols"], Float[Tensor, "rows time reach"], Any]:
        """Logits after each of `inputs`, the weights of the `reach` places before it, and the new state."""


@runtime_checkable
class PieceReader(Reader, Protocol):
    """A reader whose memory holds the last symbols before a piece, and is to be made anew after `piece` symbols.

    Its `start` may go on from the state that a start before it gave.
    """

    piece: int

    def start(self, context: Int[Tensor, "batch context"], state: Any = None) -> tuple[Any, Any]:
        """Memory and state for going on after a context."""


@runtime_checkable
class Several(Generator, Protocol):
    """A generator made of others, each of which can be asked by itself."""

    def apart(self, memory: Any, state: Any) -> list[tuple[float, Generator, Any, Any]]:
        """Each one's share, from 0 to 1, itself, and what is its own of a memory and a state."""


class Decoded(NamedTuple):
    """The `n` best outputs of each input, best first; positions after <eos> are <pad> with zero attention.

    Attributes:
        tokens: without <sos>, with <eos> where it was emitted.
        scores: what the search ranked by: the sum of log-probabilities, <eos> included, after any penalties, or the
            expected similarity.
        log_probs: of each token (zero at <pad>).
        attention: weights with which each token was predicted.
    """

    tokens: Int[Tensor, "batch n length"]
    scores: Float[Tensor, "batch n"]
    log_probs: Float[Tensor, "batch n length"]
    attention: Float[Tensor, "batch n length source"]


# called with a model, its memory and first state, and the ids that are never chosen; a language model's also with the
# ids `first` before the first one and `stop` of the last one (see `Search`)
SearchFunction = Callable[..., Decoded]


def take_rows(state: Any, rows: Int[Tensor, " rows"]) -> Any:
    """A state or a memory with its tensors' rows chosen (and repeated, and reordered) by index."""
    return type(state)(*(part if part is None else part.index_select(0, rows) for part in state))


def first_tokens(state: Any, token: int) -> Int[Tensor, " rows"]:
    """One token for each row of a state."""
    return torch.full((state[0].size(0),), token, dtype=torch.long, device=state[0].device)


def over_text(alphas: Float[Tensor, "length reach"], read: int) -> Float[Tensor, "length text"]:
    """Weights of the places before each of some outputs as weights over the text: `read` symbols, then the outputs.

    The first output is predicted from the state after the last symbol that was read.
    """
    length, reach = alphas.shape
    slots = torch.arange(reach, device=alphas.device)
    places = read - 1 - reach + torch.arange(length, device=alphas.device).unsqueeze(1) + slots
    text = alphas.new_zeros(length, read + length)
    return text.scatter_add(1, places.clamp(min=0), alphas.masked_fill(places < 0, 0.0))


def pieces_over_text(alphas: Float[Tensor, "length window"], read: int, piece: int) -> Float[Tensor, "length text"]:
    """Weights of the last symbols before each piece of the outputs as weights over the text, as `over_text` has it.

    The text's first symbols are fewer than the window, and stand at its beginning.
    """
    length, window = alphas.shape
    before = read + torch.arange(length, device=alphas.device) // piece * piece
    places = (before - window).clamp(min=0).unsqueeze(1) + torch.arange(window, device=alphas.device)
    text = alphas.new_zeros(length, read + length)
    return text.scatter_add(1, places.clamp(max=read + length - 1), alphas)

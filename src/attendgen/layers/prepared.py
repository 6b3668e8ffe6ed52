"""Products of decoding that are the same for all hypotheses or steps, made once."""

from typing import Any, NamedTuple, TypeGuard

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from attendgen.layers.attention_protocol import has_weighted_sum
from attendgen.layers.bahdanau import BahdanauDecoder
from attendgen.layers.hard_attention import AttentionSampler
from attendgen.layers.state import AttentiveState, Memory, take_rows

DISTINCT = 0.9  # share of rows: with more distinct ones their products save no time
LINE = 16  # numbers of single precision in a cache line
TOKENS = 2  # per memory vector: with fewer the products of the memory save no time


def prepare_decoding(model: Any, memory: Any, tokens: int) -> tuple[Any, Any]:
    """Return a model and its memory in the form in which they decode fastest.

    A model may offer this by a method `prepare_decoding(memory, tokens)`, which returns an object with its `step` and
    the memory that this is given.

    Args:
        tokens: how many are decoded for each input, about: hypotheses times steps.
    """
    prepare = getattr(model, "prepare_decoding", None)
    return (model, memory) if prepare is None else prepare(memory, tokens)


class WordTable:
    """What a linear layer makes of words' embeddings.

    A word's product is made when the word first occurs; on a GPU, where it is not worth to ask, all at once.
    """

    def __init__(self, embedding: nn.Embedding, layer: nn.Linear) -> None:
        self.embedding, self.layer = embedding, layer
        words = embedding.num_embeddings
        self.products = embedding.weight.new_empty(words, layer.out_features)
        self.is_known = torch.zeros(words, dtype=torch.bool, device=embedding.weight.device)
        if self.products.is_cuda:
            self.products = layer(embedding.weight)

    def __call__(self, tokens: Int[Tensor, " rows"]) -> Float[Tensor, "rows outputs"]:
        """Return the products of some words."""
        if not self.products.is_cuda:
            new = tokens[~self.is_known[tokens]].unique()
            if len(new):
                self.products[new] = self.layer(functional.embedding(new, self.embedding.weight))
                self.is_known[new] = True
        return self.products[tokens]


class AlignedOutput:
    """An output layer that returns log-probabilities of its classes.

    On a CPU a product whose rows do not begin at a cache line takes a third as long again, so the classes are padded.
    """

    def __init__(self, layer: nn.Linear) -> None:
        padding = -layer.out_features % LINE
        self.classes = layer.out_features
        self.weight = functional.pad(layer.weight, (0, 0, 0, padding))
        self.bias = functional.pad(layer.bias, (0, padding), value=-torch.inf)

    def __call__(self, features: Float[Tensor, "rows features"]) -> Float[Tensor, "rows classes"]:
        """Return log-probabilities in single precision."""
        return self.multiply(features).log_softmax(dim=-1, dtype=torch.float)[:, : self.classes]

    def multiply(self, features: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows padded"]:
        """Return the logits of the classes, and after them those of the padding, which are minus infinity."""
        return functional.linear(features, self.weight, self.bias)


class DistinctRows(NamedTuple):
    """The distinct rows of a batch: one row of each kind, and for each row the number of its kind."""

    first: Int[Tensor, " distinct"]
    copy_of: Int[Tensor, " rows"]


def find_distinct(origin: Int[Tensor, " rows"]) -> DistinctRows | None:
    """Return the distinct ones of rows that are equal where their numbers are; None if nearly all are distinct.

    A GPU is not asked: it computes all rows faster than it answers.
    """
    if origin.is_cuda:
        return None
    kinds, copy_of = origin.unique(return_inverse=True)
    if len(kinds) > DISTINCT * len(origin):
        return None
    first = torch.empty_like(kinds)
    first[copy_of] = torch.arange(len(origin))
    return DistinctRows(first, copy_of)


class TracedState(NamedTuple):
    """A state, and for each row the number of the row that the step before left: equal rows have equal numbers."""

    state: AttentiveState
    origin: Int[Tensor, " rows"]

    @property
    def hidden(self) -> Float[Tensor, "rows hidden"]:
        """The hidden state."""
        return self.state.hidden


class PreparedDecoder:
    """A `BahdanauDecoder` of words that computes the same as its `attend_step` with fewer products.

    W_x x_t is made once per word, and the products of z_t and h_{t-1} once for all hypotheses that grow from the same
    one. If W_z may be multiplied with the memory, and that saves time, then the memory's vectors become [W_z a, R a]:
    W_z sum_l alpha_l a_l = sum_l alpha_l W_z a_l.

    Args:
        embedding: of the words x.
        memory: of the inputs.
        tokens: how many are decoded for each input, about.
        readout: R, with which the model multiplies the context; the identity unless given.

    Attributes:
        memory: what `step` is given.
    """

    def __init__(
        self,
        decoder: BahdanauDecoder,
        embedding: nn.Embedding,
        memory: Memory,
        tokens: int,
        readout: Float[Tensor, "features memory"] | None = None,
    ) -> None:
        self.decoder, self.readout, self.memory = decoder, readout, memory
        self.words = WordTable(embedding, decoder.input_gates)
        _, source, dim = memory.values.shape
        self.is_projected = decoder.gate_commutes and has_weighted_sum(decoder.attention) and tokens >= TOKENS * source
        self.of_hidden = decoder.recurrent_gates.weight[:, dim:]
        if self.is_projected:
            of_context = decoder.recurrent_gates.weight[:, :dim]
            maps = of_context if readout is None else torch.cat([of_context, readout])
            values = functional.linear(memory.values, maps)
            self.memory = memory._replace(
                values=torch.cat([values, memory.values], dim=-1) if readout is None else values
            )

    def step(
        self,
        tokens: Int[Tensor, " rows"],
        state: AttentiveState | TracedState,
        memory: Memory,
        sampler: AttentionSampler | None = None,
    ) -> tuple[TracedState, Float[Tensor, "rows features"], Float[Tensor, "rows source"]]:
        """Compute one step: the new state, R z_t, and the weights of the sum; see `BahdanauDecoder.attend_step`."""
        gates = self.words(tokens)
        dtype = gates.dtype  # weights may be in half precision; the cell stays in single, which scores are nearer in
        rows = None
        if isinstance(state, TracedState):  # the first state is none
            # sampled locations differ between copies of a row, too
            rows = None if sampler is not None else find_distinct(state.origin)
            state = state.state
        state = state._replace(hidden=state.hidden.to(dtype), cell=state.cell.float())
        if rows is not None and len(rows.first) == len(memory.values):  # one for each input, as after the first step
            attended = self.decoder.attend(take_rows(state, rows.first), memory, sampler)
            context = attended.gated
            attended = take_rows(attended, rows.copy_of)
        else:
            attended = self.decoder.attend(state, memory, sampler)
            context = attended.gated if rows is None else attended.gated[rows.first]
        recurrent, read = self._multiply(context, state.hidden if rows is None else state.hidden[rows.first])
        if rows is not None:
            recurrent, read = recurrent[rows.copy_of], read[rows.copy_of]
        state = self.decoder.update(gates + recurrent, state, attended)
        state = state._replace(hidden=state.hidden.to(dtype))
        origin = torch.arange(len(tokens), device=tokens.device)
        return TracedState(state, origin), read, attended.weights

    def _multiply(
        self,
        context: Float[Tensor, "rows context"],
        hidden: Float[Tensor, "rows hidden"],
    ) -> tuple[Float[Tensor, "rows gates"], Float[Tensor, "rows features"]]:
        """Return W_z z + W_h h and R z."""
        if self.is_projected:
            gates = 4 * self.decoder.hidden
            of_gates, read = context.split([gates, context.size(1) - gates], dim=1)
            return torch.addmm(of_gates, hidden, self.of_hidden.T), read
        read = context if self.readout is None else functional.linear(context, self.readout)
        return self.decoder.recurrent_gates(torch.cat([context, hidden], dim=-1)), read


def can_prepare(decoder: Any) -> TypeGuard[BahdanauDecoder]:
    """Return whether a `PreparedDecoder` computes the same as a decoder, whose class may define its step anew."""
    if not isinstance(decoder, BahdanauDecoder) or not decoder.fast or decoder.training:
        return False
    kind = type(decoder)
    own = (kind.step, kind.attend_step) != (BahdanauDecoder.step, BahdanauDecoder.attend_step)
    return not (own or {"step", "attend_step"} & vars(decoder).keys())

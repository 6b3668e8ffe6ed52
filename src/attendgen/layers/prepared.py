"""Products of decoding that are the same for all hypotheses or steps, made once."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from attendgen.layers.attention_protocol import has_weighted_sum, prepare_keys
from attendgen.layers.bahdanau import BahdanauDecoder
from attendgen.layers.decoder import AttendedStep
from attendgen.layers.fast_paths import are_products, is_unchanged
from attendgen.layers.hard_attention import AttentionSampler
from attendgen.layers.output import OutputLayer
from attendgen.layers.state import AttentiveState, Memory, take_rows

DISTINCT = 0.9  # share of rows: with more distinct ones their products save no time
MOST_TOKENS = 2**31  # of a vocabulary
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

    A word's product is made when the word first occurs; on a GPU, for which the host would wait, all at once.
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
        return functional.embedding(tokens, self.products)


class DistinctRows(NamedTuple):
    """The distinct rows of a batch: one row of each kind, and for each row the number of its kind."""

    first: Int[Tensor, " distinct"]
    copy_of: Int[Tensor, " rows"]


def find_distinct(origin: Int[Tensor, " rows"]) -> DistinctRows | None:
    """Return the distinct ones of rows that are equal where their numbers are; None if nearly all are distinct.

    On a GPU all rows are computed: that is faster than to wait for it.
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


class PreparedStep(NamedTuple):
    """A step of a `PreparedDecoder`; rows with equal states and tokens are computed once.

    Attributes:
        tokens, hidden, context: of the distinct rows: what they read, h_t, and R z_t.
        weights: of the sum, of all rows.
        state: the new one, of all rows.
        equal: the distinct rows, and for each row the number of its kind; None if all are computed.
    """

    tokens: Int[Tensor, " distinct"]
    hidden: Float[Tensor, "distinct hidden"]
    context: Float[Tensor, "distinct features"]
    weights: Float[Tensor, "rows source"]
    state: TracedState
    equal: DistinctRows | None

    def expand(self, values: Tensor) -> Tensor:
        """Return a tensor of the distinct rows for all rows."""
        return values if self.equal is None else values.index_select(0, self.equal.copy_of)


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
        self.decoder, self.readout = decoder, readout
        self.memory = memory._replace(keys=prepare_keys(decoder.attention, memory.keys))
        self.words = WordTable(embedding, decoder.input_gates)
        _, source, dim = memory.values.shape
        self.is_projected = decoder.gate_commutes and has_weighted_sum(decoder.attention) and tokens >= TOKENS * source
        self.of_hidden = decoder.recurrent_gates.weight[:, dim:]
        if self.is_projected:
            of_context = decoder.recurrent_gates.weight[:, :dim]
            maps = of_context if readout is None else torch.cat([of_context, readout])
            values = functional.linear(memory.values, maps)
            self.memory = self.memory._replace(
                values=torch.cat([values, memory.values], dim=-1) if readout is None else values
            )

    def step(
        self,
        tokens: Int[Tensor, " rows"],
        state: AttentiveState | TracedState,
        memory: Memory,
        sampler: AttentionSampler | None = None,
    ) -> PreparedStep:
        """Compute one step, see `BahdanauDecoder.attend_step`."""
        dtype = self.of_hidden.dtype  # weights may be in half precision; the cell stays in single: scores are nearer
        origin = None  # sampled locations differ between copies of a row
        if isinstance(state, TracedState):  # the first state is none
            origin, state = None if sampler is not None else state.origin, state.state
        before: AttentiveState = state._replace(hidden=state.hidden.to(dtype), cell=state.cell.float())
        rows = None if origin is None else find_distinct(origin)
        attended = self._attend(before, memory, sampler, rows)
        weights = attended.weights
        equal = None if origin is None else find_distinct(origin * MOST_TOKENS + tokens)
        if equal is not None:
            tokens, before, attended, origin = take_rows((tokens, before, attended, origin), equal.first)
            rows = find_distinct(origin)
        gates, read = self._multiply_distinct(attended.gated, before.hidden, rows)
        after = self.decoder.update(gates.add_(self.words(tokens)), before, attended)
        after = after._replace(hidden=after.hidden.to(dtype))
        traced = TracedState(after, torch.arange(len(tokens), device=tokens.device))
        if equal is not None:
            traced = take_rows(traced, equal.copy_of)
        return PreparedStep(tokens, after.hidden, read, weights, traced, equal)

    def _attend(
        self,
        state: AttentiveState,
        memory: Memory,
        sampler: AttentionSampler | None,
        rows: DistinctRows | None,
    ) -> AttendedStep:
        """Return what the rows attend to; the rows of an input that are equal, as after the first step, attend once."""
        if rows is None or len(rows.first) != len(memory.values):
            return self.decoder.attend(state, memory, sampler)
        attended: AttendedStep = self.decoder.attend(take_rows(state, rows.first), memory, sampler)
        return take_rows(attended, rows.copy_of)

    def _multiply_distinct(
        self,
        context: Float[Tensor, "rows context"],
        hidden: Float[Tensor, "rows hidden"],
        rows: DistinctRows | None,
    ) -> tuple[Float[Tensor, "rows gates"], Float[Tensor, "rows features"]]:
        """Return W_z z + W_h h and R z, made once for rows that are equal."""
        if rows is None:
            return self._multiply(context, hidden)
        products = self._multiply(*take_rows((context, hidden), rows.first))
        recurrent, read = take_rows(products, rows.copy_of)
        return recurrent, read

    def _multiply(
        self,
        context: Float[Tensor, "rows context"],
        hidden: Float[Tensor, "rows hidden"],
    ) -> tuple[Float[Tensor, "rows gates"], Float[Tensor, "rows features"]]:
        """Return W_z z + W_h h and R z."""
        if self.is_projected:
            gates = 4 * self.decoder.hidden
            of_gates, read = context.split([gates, context.size(1) - gates], dim=1)
            of_gates = of_gates.clone(memory_format=torch.contiguous_format)
            return of_gates.addmm_(hidden, self.of_hidden.T), read
        read = context if self.readout is None else functional.linear(context, self.readout)
        return self.decoder.recurrent_gates(torch.cat([context, hidden], dim=-1)), read


def can_prepare(decoder: Any) -> TypeGuard[BahdanauDecoder]:
    """Return whether a `PreparedDecoder` computes the same as a decoder, whose class may define its step anew."""
    if not isinstance(decoder, BahdanauDecoder) or not decoder.fast or decoder.training:
        return False
    kind = type(decoder)
    own = (kind.step, kind.attend_step) != (BahdanauDecoder.step, BahdanauDecoder.attend_step)
    is_own = own or not {"step", "attend_step"}.isdisjoint(vars(decoder))
    return not is_own and are_products([decoder.recurrent_gates]) and are_products([decoder.input_gates], bias=True)


def has_usual_layers(model: nn.Module, embedding: nn.Module, output: nn.Module, dropouts: Sequence[nn.Module]) -> bool:
    """Return whether a prepared model may multiply with the weights of a model's layers instead of calling them.

    Args:
        dropouts: which are left out; no module may be in training mode, which leaves dropout on in decoding.
    """
    lookup: Any = embedding
    is_usual = is_unchanged(embedding, nn.Embedding) and lookup.max_norm is None
    is_usual = is_usual and (is_unchanged(output, OutputLayer) or are_products([output], bias=True))
    is_usual = is_usual and all(is_unchanged(dropout, nn.Dropout) for dropout in dropouts)
    return is_usual and not any(module.training for module in model.modules())

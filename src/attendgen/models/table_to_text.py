"""A model that writes the text of a table.

attendgen train experiment=e2e
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attendgen.layers.attention_protocol import Attention, prepare_keys, uses_rows
from attendgen.layers.attention_unit import AttentionUnit
from attendgen.layers.copying import Copies, JointCopy, MixtureCopy, find_copies, mix_copies
from attendgen.layers.decoder import Decoder, hands_over_parts
from attendgen.layers.encoder import average_regions
from attendgen.layers.fast_paths import are_products, stands_for
from attendgen.layers.hard_attention import (
    INFERENCE_ATTENTION,
    AllButLastSampler,
    AttentionSampler,
    AttentionSamples,
    drop_alike,
)
from attendgen.layers.lstm import tie_weights
from attendgen.layers.output import OutputLayer
from attendgen.layers.plain import use_plain_autograd
from attendgen.layers.prepared import has_usual_layers
from attendgen.layers.records import RecordEncoder
from attendgen.layers.state import Memory, map_tensors, repeat_rows
from attendgen.layers.tables import Cells
from attendgen.models.prepared import PreparedTableToText
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import PAD

COPYING: dict[str, Callable[..., nn.Module] | None] = {"none": None, "mixture": MixtureCopy, "joint": JointCopy}


class TableMemory(NamedTuple):
    """What a decoder attends to, and what can be copied.

    Attributes:
        keys, values, mask: see `Memory`.
        copies: the words of the cells; None if the model does not copy.
        copy_keys: of `JointCopy`.
    """

    keys: Any
    values: Float[Tensor, "batch cells memory"]
    mask: Bool[Tensor, "batch cells"]
    copies: Copies | None = None
    copy_keys: Float[Tensor, "batch cells memory"] | None = None

    @property
    def attended(self) -> Memory:
        """What the decoder is given."""
        return Memory(self.keys, self.values, self.mask)


class TablePredictions(NamedTuple):
    """What a model computes by teacher forcing.

    Attributes:
        logits: log-probabilities if the model copies.
        switch: log-odds of copying; None if the model does not copy.
    """

    logits: Float[Tensor, "batch time vocab"]
    attention: Float[Tensor, "batch time cells"]
    switch: Float[Tensor, "batch time"] | None


class TableToText(nn.Module):
    """Record encoder, decoder with attention over the cells, output layer, copying.

    Shapes: `batch` tables of `cells`; `rows` = batch x hypotheses.

    Args:
        kind_vocab_size, entity_vocab_size, value_vocab_size, place_vocab_size, target_vocab_size: sizes of the
            vocabularies.
        encoder: makes the encoder of cells from the first four sizes.
        attention: makes the attention layer from `query` and `memory` sizes.
        decoder: makes the decoder from the sizes of its `inputs`, `hidden` and `memory` and from `attention`. Its first
            state is tanh(W mean of the cells' vectors + b).
        embedding_dim, hidden: sizes of the word embeddings and of the decoder's state.
        copy: "none", "mixture" (see `MixtureCopy`) or "joint" (see `JointCopy`).
        dropout: on word embeddings, cells' vectors and the output layer's input.
        tied: the output layer shares the weights of the word embedding (Press and Wolf 2017); a layer reduces the
            decoder's features to their size.
        inference_attention: how decoding attends: "soft", or hard by "argmax" or "sample".
        fast: use the fast paths; false follows the equations, see `attendgen.layers.use_plain_autograd`.

    Raises:
        UserError: there is no such way to copy or to attend, or the decoder cannot attend to sampled cells.
    """

    def __init__(
        self,
        kind_vocab_size: int,
        entity_vocab_size: int,
        value_vocab_size: int,
        place_vocab_size: int,
        target_vocab_size: int,
        encoder: Callable[..., RecordEncoder],
        attention: Callable[..., Attention],
        decoder: Callable[..., Decoder] = AttentionUnit,
        embedding_dim: int = 256,
        hidden: int = 256,
        copy: str = "none",
        dropout: float = 0.0,
        tied: bool = True,
        inference_attention: str = "soft",
        fast: bool = True,
    ) -> None:
        super().__init__()
        for field, chosen, choices in (
            ("copy", copy, COPYING),
            ("inference_attention", inference_attention, INFERENCE_ATTENTION),
        ):
            if chosen not in choices:
                raise UserError(f"model.{field}={chosen}: unknown; choose one of {', '.join(choices)}")
        self.encoder = encoder(
            kind_vocab_size=kind_vocab_size,
            entity_vocab_size=entity_vocab_size,
            value_vocab_size=value_vocab_size,
            place_vocab_size=place_vocab_size,
        )
        memory = self.encoder.dim
        self.embedding = nn.Embedding(target_vocab_size, embedding_dim, padding_idx=PAD)
        self.decoder: Any = decoder(inputs=embedding_dim, hidden=hidden, memory=memory, attention=attention)
        self.hidden = hidden
        layers = self.decoder.layers
        self.first_state = nn.Linear(memory, 2 * layers * hidden) if layers else None
        features = self.decoder.features
        self.readout = nn.Linear(features, embedding_dim) if tied else None
        self.output = OutputLayer(embedding_dim if tied else features, target_vocab_size)
        if tied:
            tie_weights(self.output, self.embedding)
        make_copying = COPYING[copy]
        self.copying = None if make_copying is None else make_copying(features=features, memory=memory)
        self.dropout = nn.Dropout(dropout)
        self.sampler = INFERENCE_ATTENTION[inference_attention]
        if self.sampler is not None:
            self.require_hard_attention()
        if not fast:
            use_plain_autograd(self)

    def require_hard_attention(self) -> None:
        """Check that the decoder can attend to sampled cells.

        Raises:
            UserError: it cannot.
        """
        if not hands_over_parts(self.decoder):
            raise UserError(
                f"model.decoder: {type(self.decoder).__name__} cannot attend to one sampled cell; train soft "
                "attention, or use model/decoder=attention_unit, attention_gru or bahdanau"
            )
        self.decoder.require_weighted_sum()

    def encode(self, cells: Cells) -> tuple[TableMemory, Any]:
        """Encode tables: return the memory to attend to and the decoder's first state."""
        values, mask = self.encoder(cells)
        values = self.dropout(values)
        keys = self.decoder.keys(values, cells.rows) if uses_rows(self.decoder) else self.decoder.keys(values)
        copying: Any = self.copying
        memory = TableMemory(keys, values, mask)
        if copying is not None:
            memory = memory._replace(copies=find_copies(cells.copies), copy_keys=copying.keys(values))
        mean = average_regions(values, mask)
        if self.first_state is None:
            first = mean.new_zeros(len(mean), 2, 0, self.hidden)
        else:
            first = torch.tanh(self.first_state(mean)).unflatten(-1, (2, self.decoder.layers, self.hidden))
        return memory, self.decoder.initial_state(first[:, 0], first[:, 1], memory.attended)

    def step(
        self, tokens: Int[Tensor, " rows"], state: Any, memory: TableMemory
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows cells"], Any]:
        """Return log-probabilities of the next word after `tokens`, the attention weights, and the new state."""
        embedded = self.dropout(self.embedding(tokens))
        if self.sampler is None:
            features, alpha, state = self.decoder.step(embedded, state, memory.attended)
        else:
            state, attended = self.decoder.attend_step(embedded, state, memory.attended, self.sampler)
            features, alpha = torch.cat([state.hidden, attended.gated], dim=-1), attended.weights
        return self.score_words(features, alpha, memory), alpha, state

    def score_words(
        self,
        features: Float[Tensor, "rows features"],
        alpha: Float[Tensor, "rows cells"],
        memory: TableMemory,
        output: Callable[[Tensor], Tensor] | None = None,
    ) -> Float[Tensor, "rows vocab"]:
        """Return log-probabilities of the next words.

        Args:
            output: computes the same as the model's output layer.
        """
        shape = (len(memory.values), -1)  # rows that share a table stand side by side
        grouped = self.dropout(features).unflatten(0, shape), alpha.unflatten(0, shape)
        logits = self.predict(*grouped, memory, output)[0].flatten(0, 1).float()
        return logits.log_softmax(dim=-1) if self.copying is None else logits

    def prepare_decoding(self, memory: TableMemory, tokens: int) -> tuple[Any, TableMemory]:
        """Return an object with this model's `step`, faster, and its memory; see `layers.prepared.prepare_decoding`."""
        decoder = self.decoder
        is_usual = type(decoder) is AttentionUnit and decoder.fast and are_products([decoder.input_maps], bias=True)
        is_usual = is_usual and has_usual_layers(self, self.embedding, self.output, [self.dropout])
        is_own = not {"step", "attend_step"}.isdisjoint(vars(decoder))
        if is_own or not is_usual or not stands_for(self, "prepare_decoding", "step"):
            return self, memory
        return PreparedTableToText(self), memory._replace(keys=prepare_keys(decoder.attention, memory.keys))

    def predict(
        self,
        features: Float[Tensor, "batch query features"],
        alphas: Float[Tensor, "batch query cells"],
        memory: TableMemory,
        output: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Float[Tensor, "batch query vocab"], Float[Tensor, "batch query"] | None]:
        """Return logits, or log-probabilities if the model copies, and the log-odds of copying.

        Args:
            features: after dropout.
            output: computes the same as the output layer.
        """
        read = features if self.readout is None else torch.tanh(self.readout(features))
        logits = (output or self.output)(read)
        if self.copying is None or memory.copies is None:
            return logits, None
        switch = self.copying(features, alphas, logits, memory.copy_keys, memory.copies.can_copy)
        return mix_copies(logits, switch, memory.copies), switch.log_odds

    def force(self, cells: Cells, inputs: Int[Tensor, "batch time"]) -> TablePredictions:
        """Teacher forcing: return what is predicted for each next word given the true ones before it."""
        memory, state = self.encode(cells)
        features, alphas, _ = self.decoder(self.dropout(self.embedding(inputs)), state, memory.attended)
        logits, switch = self.predict(self.dropout(features), alphas, memory)
        return TablePredictions(logits, alphas, switch)

    def forward(
        self, cells: Cells, inputs: Int[Tensor, "batch time"]
    ) -> tuple[Float[Tensor, "batch time vocab"], Float[Tensor, "batch time cells"]]:
        """Teacher forcing: return the logits or log-probabilities of each next word, and the attention weights."""
        predictions = self.force(cells, inputs)
        return predictions.logits, predictions.attention

    def forward_sampled(
        self,
        cells: Cells,
        inputs: Int[Tensor, "batch captions time"],
        sampler: AttentionSampler,
        num_samples: int = 1,
        with_soft: bool = False,
    ) -> AttentionSamples:
        """Teacher forcing with hard attention: `num_samples` sequences of cells per text.

        Words are copied from the sampled cells.

        Args:
            inputs: several texts per table.
            with_soft: add one more sample, the last, with soft attention.
        """
        self.require_hard_attention()
        memory, state = self.encode(cells)
        texts, samples = inputs.size(1), num_samples + with_soft
        words = self.dropout(self.embedding(inputs.flatten(0, 1))).repeat_interleave(samples, dim=0)
        chosen = AllButLastSampler(sampler, samples) if with_soft else sampler
        steps = self.decoder.attend_steps(words, repeat_rows(state, texts * samples), memory.attended, chosen)
        features = drop_alike(self.dropout, torch.cat([steps.hidden, steps.contexts], dim=-1), samples)
        grouped = [part.reshape(len(memory.values), -1, part.size(-1)) for part in (features, steps.weights)]
        logits = self.predict(grouped[0], grouped[1], memory)[0].view(len(features), inputs.size(2), -1)
        parts = (logits, steps.alphas, steps.weights, steps.hidden, steps.relaxed, steps.noise)
        *given, relaxed, noise = map_tensors(lambda part: part.unflatten(0, (-1, texts, samples)), parts)
        logits, alphas, weights, hidden = given
        means = average_regions(memory.values, memory.mask).unsqueeze(1).expand(-1, texts, -1)
        return AttentionSamples(logits, alphas, weights, hidden, means, relaxed, noise)

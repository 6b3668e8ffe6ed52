"""Models that decode with products made once for all steps: their `step` computes the same as that of the model."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from attendgen.layers.fast_tanh import fast_tanh
from attendgen.layers.output import AlignedOutput
from attendgen.layers.prepared import PreparedDecoder, WordTable
from attendgen.layers.state import Memory

if TYPE_CHECKING:
    from attendgen.models.captioner import Captioner
    from attendgen.models.seq2seq import Seq2Seq
    from attendgen.models.table_to_text import TableMemory, TableToText


class PreparedCaptioner:
    """Decodes with a captioner whose products of words and images are made once."""

    def __init__(self, model: "Captioner", decoder: PreparedDecoder) -> None:
        self.model, self.decoder = model, decoder
        self.output = AlignedOutput(model.output)

    def step(
        self, tokens: Int[Tensor, " rows"], state: Any, memory: Memory
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows regions"], Any]:
        """Compute the captioner's `step`."""
        model = self.model
        step = self.decoder.step(tokens, state, memory, model.sampler)
        context = None if model.deep_context is None else step.context
        features = model.read_out(model.embedding(step.tokens), step.hidden, context)
        return step.expand(self.output(features)), step.weights, step.state


class PreparedSeq2Seq:
    """Decodes with a sequence-to-sequence model whose products of tokens and sources are made once."""

    def __init__(self, model: "Seq2Seq", decoder: PreparedDecoder) -> None:
        self.model, self.decoder = model, decoder
        self.output = AlignedOutput(model.output)

    def step(
        self, tokens: Int[Tensor, " rows"], state: Any, memory: Memory
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows source"], Any]:
        """Compute the model's `step`."""
        readout, hidden = self.model.readout, self.model.hidden
        step = self.decoder.step(tokens, state, memory)
        if readout is None:
            features = torch.cat([step.hidden, step.context], dim=-1)
        else:
            of_hidden = functional.linear(step.hidden, readout.weight[:, :hidden], readout.bias)
            features = fast_tanh(of_hidden + step.context)
        return step.expand(self.output(features)), step.weights, step.state


class PreparedTableToText:
    """Decodes with a data-to-text model with an `AttentionUnit`: products of words are made once."""

    def __init__(self, model: "TableToText") -> None:
        self.model = model
        self.words = WordTable(model.embedding, model.decoder.input_maps)
        self.output = AlignedOutput(model.output)

    def step(
        self, tokens: Int[Tensor, " rows"], state: Any, memory: "TableMemory"
    ) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, "rows cells"], Any]:
        """Compute the model's `step`."""
        model, mapped = self.model, self.words(tokens)
        state = state._replace(hidden=state.hidden.to(mapped.dtype))
        state, attended = model.decoder.attend_mapped(mapped, state, memory.attended, model.sampler)
        features = torch.cat([state.hidden, attended.gated], dim=-1)
        return model.score_words(features, attended.weights, memory, self._multiply), attended.weights, state

    def _multiply(self, read: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows vocab"]:
        return self.output.multiply(read)[..., : self.output.classes]

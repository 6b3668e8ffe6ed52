"""Models that decode with products made once for all steps: their `step` computes the same as that of the model."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from attendgen.layers.prepared import AlignedOutput, PreparedDecoder
from attendgen.layers.state import Memory

if TYPE_CHECKING:
    from attendgen.models.captioner import Captioner
    from attendgen.models.seq2seq import Seq2Seq


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
        state, context, weights = self.decoder.step(tokens, state, memory, model.sampler)
        word = model.embedding(tokens)
        features = model.read_out(word, state.hidden, None if model.deep_context is None else context)
        return self.output(features), weights, state


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
        state, context, weights = self.decoder.step(tokens, state, memory)
        if readout is None:
            features = torch.cat([state.hidden, context], dim=-1)
        else:
            of_hidden = functional.linear(state.hidden, readout.weight[:, :hidden], readout.bias)
            features = torch.tanh(of_hidden + context)
        return self.output(features), weights, state

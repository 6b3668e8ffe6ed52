"""The base of language models whose state holds all that they have read."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attendgen.layers.state import EmptyMemory, map_tensors, take_rows
from attendgen.utils.special_tokens import PAD


class StatefulLanguageModel(nn.Module):
    """Encode contexts and score continuations by `initial_state` and `read`, which a subclass defines, beside `step`.

    Shapes: `rows` texts read side by side, `time` characters of each.
    """

    def initial_state(self, batch: int) -> Any:
        """Return the state before anything is read."""
        raise NotImplementedError

    def read(
        self, inputs: Int[Tensor, "rows time"], state: Any
    ) -> tuple[Float[Tensor, "rows time vocab"], Float[Tensor, "rows time window"], Any]:
        """Return logits after each of `inputs`, the weights of the `window` states before it, and the new state."""
        raise NotImplementedError

    def encode(self, context: Int[Tensor, "batch context"]) -> tuple[EmptyMemory, Any]:
        """Read right-padded contexts except their last characters, which `step` is given first."""
        lengths = (context != PAD).sum(dim=1)
        state = self.initial_state(len(context))
        for length in lengths.unique().tolist():
            if length > 1:  # rows of one length at a time: a recurrence must not read padding
                rows = (lengths == length).nonzero().squeeze(1)
                _, _, read = self.read(context[rows, : length - 1], take_rows(state, rows))
                state = put_rows(state, rows, read)
        return EmptyMemory(torch.zeros(len(context), 0, device=context.device)), state

    def forward(
        self, context: Int[Tensor, "batch context"], inputs: Int[Tensor, "batch time"]
    ) -> tuple[Float[Tensor, "batch time vocab"], Float[Tensor, "batch time window"]]:
        """Teacher forcing: return logits of each next character given the true ones before it, and the attention."""
        _, state = self.encode(context)
        logits, alphas, _ = self.read(inputs, state)
        return logits, alphas


def put_rows(state: Any, rows: Int[Tensor, " rows"], values: Any) -> Any:
    """Return a state with some rows replaced."""
    return map_tensors(lambda whole, part: whole.index_copy(0, rows, part.to(whole.dtype)), state, values)

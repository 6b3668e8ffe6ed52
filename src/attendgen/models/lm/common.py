"""The base of language models whose state holds all that they have read."""

import inspect
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attendgen.layers.devices import is_on_gpu
from attendgen.layers.state import EmptyMemory, map_tensors, take_rows
from attendgen.utils.special_tokens import PAD


class StatefulLanguageModel(nn.Module):
    """Encode contexts and score continuations by `initial_state` and `read`, which a subclass defines, beside `step`.

    If `read` also takes a `mask`, False at padding on the left of texts that begin there, then contexts of different
    lengths are read as one batch on a GPU. Otherwise the host waits for the GPU to learn their lengths.

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
        memory = EmptyMemory(torch.zeros(len(context), 0, device=context.device))
        if context.size(1) < 2:
            return memory, self.initial_state(len(context))
        if is_on_gpu(context) and "mask" in inspect.signature(self.read).parameters:
            return memory, read_at_once(self, context)
        return memory, read_by_length(self, context)

    def forward(
        self, context: Int[Tensor, "batch context"], inputs: Int[Tensor, "batch time"]
    ) -> tuple[Float[Tensor, "batch time vocab"], Float[Tensor, "batch time window"]]:
        """Teacher forcing: return logits of each next character given the true ones before it, and the attention."""
        _, state = self.encode(context)
        logits, alphas, _ = self.read(inputs, state)
        return logits, alphas


def read_by_length(model: StatefulLanguageModel, context: Int[Tensor, "batch context"]) -> Any:
    """Return the state after contexts without their last characters; rows of one length are read at a time."""
    state = model.initial_state(len(context))
    lengths = (context != PAD).sum(dim=1)
    for length in lengths.unique().tolist():
        if length > 1:
            rows = (lengths == length).nonzero().squeeze(1)
            _, _, read = model.read(context[rows, : length - 1], take_rows(state, rows))
            state = put_rows(state, rows, read)
    return state


def read_at_once(model: Any, context: Int[Tensor, "batch context"]) -> Any:
    """Return the state after contexts without their last characters; padding is moved to the left and masked."""
    state = model.initial_state(len(context))
    inputs = align_right(context)[:, :-1]
    _, _, read = model.read(inputs, state, mask=inputs != PAD)
    return map_tensors(lambda new, old: new.to(old.dtype), read, state)


def align_right(ids: Int[Tensor, "batch time"]) -> Int[Tensor, "batch time"]:
    """Move the padding of rows from their right to their left."""
    time = torch.arange(ids.size(1), device=ids.device)
    before = time - (ids == PAD).sum(dim=1, keepdim=True)  # negative where the padding goes
    return ids.gather(1, before.clamp(min=0)).masked_fill(before < 0, PAD)


def put_rows(state: Any, rows: Int[Tensor, " rows"], values: Any) -> Any:
    """Return a state with some rows replaced."""
    return map_tensors(lambda whole, part: whole.index_copy(0, rows, part.to(whole.dtype)), state, values)

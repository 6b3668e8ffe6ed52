"""The likeliest tokens at each step of outputs that are already known."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attendgen.decoding.decode import convert_memory
from attendgen.decoding.protocol import DecodableModel
from attendgen.layers.prepared import prepare_decoding
from attendgen.layers.state import fill_tokens, get_device, repeat_rows, to_float32
from attendgen.utils.special_tokens import PAD, SOS


class Alternatives(NamedTuple):
    """The likeliest tokens at each step, likeliest first, with their log-probabilities.

    They are those of the model, before any processors, without tokens that no output may hold.
    """

    tokens: Int[Tensor, "*rows count"]
    log_probs: Float[Tensor, "*rows count"]


def take_likeliest(
    log_probs: Float[Tensor, "*rows vocab"], count: int, suppressed: tuple[int, ...]
) -> Alternatives | None:
    """Return the `count` likeliest tokens of each row, fewer if the vocabulary is smaller; None for a count of 0.

    Args:
        suppressed: ids that are left out.
    """
    if not count:
        return None
    left = log_probs.float().index_fill(-1, torch.tensor(suppressed, device=log_probs.device), -torch.inf)
    best = left.topk(min(count, left.size(-1) - len(suppressed)), dim=-1)
    return Alternatives(best.indices.cpu(), best.values.cpu())


@torch.no_grad()
def find_alternatives(
    model: DecodableModel,
    memory: Any,
    state: Any,
    outputs: Int[Tensor, "batch n length"],
    count: int,
    suppressed: tuple[int, ...] = (PAD, SOS),
    prefix: Int[Tensor, " rows"] | None = None,
) -> Alternatives | None:
    """Return the likeliest tokens at each step of outputs, by reading them once more: [batch, n, length, count].

    A `count` of 0 reads nothing and returns None.

    A model that attends to sampled locations samples other ones than when it wrote the outputs.

    Args:
        memory, state: of the inputs, as `decode` takes them.
        suppressed: ids that no output may hold.
        prefix: the token before the first one; <sos> unless given.
    """
    if not count:
        return None
    _, n, length = outputs.shape
    outputs = outputs.to(get_device(state))
    with torch.autocast(get_device(state).type, enabled=False):
        memory, state = convert_memory(model, memory), to_float32(state)
        reader, memory = prepare_decoding(model, memory, outputs.numel())
        token = fill_tokens(state, SOS) if prefix is None else prefix
        token, state = repeat_rows((token, state), n)
        found = []
        for step in range(length):
            log_probs, _, state = reader.step(token, state, memory)
            found.append(take_likeliest(log_probs, count, suppressed) or ())
            token = outputs[:, :, step].flatten()
    return Alternatives(*(torch.stack(part, dim=1).unflatten(0, (-1, n)) for part in zip(*found, strict=True)))

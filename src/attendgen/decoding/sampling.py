"""Greedy decoding and sampling: one hypothesis a row, token by token."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attendgen.decoding.constraints import constrain
from attendgen.decoding.protocol import Decoded, Generator, first_tokens, take_rows
from attendgen.vocabulary import EOS, PAD, SOS

Choice = Callable[[Float[Tensor, "rows symbols"]], Int[Tensor, " rows"]]


def best(log_probs: Float[Tensor, "rows symbols"]) -> Int[Tensor, " rows"]:
    """The most probable symbol."""
    return log_probs.argmax(dim=-1)


class Sample:
    """Draw a symbol from softmax(log p / temperature), cut to the `top_k` likeliest or the nucleus of mass `top_p`.

    The nucleus (Holtzman et al. 2020, 3.1) is the smallest set of likeliest symbols whose probability reaches `top_p`.

    Args:
        temperature: above 0; 1 samples the model as it is.
        generator: source of randomness, on the device of the log-probabilities.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if temperature <= 0:
            raise ValueError(f"temperature {temperature} is not above 0; use greedy decoding for the likeliest text")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top-k {top_k} leaves no symbol; use at least 1")
        if top_p is not None and not 0 < top_p <= 1:
            raise ValueError(f"top-p {top_p} is not in (0, 1]")
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.generator = generator

    def __call__(self, log_probs: Float[Tensor, "rows symbols"]) -> Int[Tensor, " rows"]:
        probabilities = (log_probs.double() / self.temperature).softmax(dim=-1)
        if self.top_k is None and self.top_p is None:
            return self.draw(probabilities)
        probabilities, symbols = probabilities.sort(dim=-1, descending=True)
        if self.top_k is not None:
            probabilities[:, self.top_k :] = 0.0
        if self.top_p is not None:
            probabilities /= probabilities.sum(dim=-1, keepdim=True)
            before = probabilities.cumsum(dim=-1) - probabilities
            probabilities[before >= self.top_p] = 0.0
        return symbols.gather(1, self.draw(probabilities).unsqueeze(1)).squeeze(1)

    def draw(self, weights: Float[Tensor, "rows symbols"]) -> Int[Tensor, " rows"]:
        """A symbol with a chance in proportion to its weight, by inversion: far faster than `torch.multinomial`."""
        mass = weights.cumsum(dim=-1)
        place = torch.rand(len(mass), 1, dtype=mass.dtype, device=mass.device, generator=self.generator)
        # to the right: a symbol of no weight never comes
        drawn = torch.searchsorted(mass, place * mass[:, -1:], right=True)
        return drawn.clamp(max=mass.size(1) - 1).squeeze(1)


@torch.inference_mode()
def decode(
    model: Generator,
    memory: Any,
    state: Any,
    max_length: int,
    choose: Choice = best,
    first: Int[Tensor, " rows"] | None = None,
    forbidden: tuple[int, ...] = (PAD, SOS),
    stop: int | None = EOS,
    min_length: int = 1,
    no_repeat: int = 0,
) -> Decoded:
    """Choose symbols one by one until every row has emitted `stop` or holds `max_length` of them.

    Rows that have ended are dropped from the batch where all inputs can spare as many.

    Args:
        first: the symbols before the first one; <sos> unless given.
        forbidden, min_length, no_repeat: see `constrain`.
        stop: the id that ends a row; None goes on to `max_length`.
    """
    symbols = first_tokens(state, SOS) if first is None else first
    inputs = memory[0].size(0)
    each = len(symbols) // inputs  # rows of one input stand together
    row = torch.arange(len(symbols), device=symbols.device)  # those still in the batch
    tokens = symbols.new_full((len(symbols), max_length), PAD)
    log_probs = torch.zeros(len(symbols), max_length, device=symbols.device)
    attention: Tensor | None = None
    length = 0
    for length in range(1, max_length + 1):
        scores, alpha, state = model.step(symbols, state, memory)
        if attention is None:
            attention = alpha.new_zeros(*tokens.shape, alpha.size(1))
        scores = constrain(scores, tokens[row, : length - 1], forbidden, stop, min_length, no_repeat)
        ended = (tokens[row, : length - 1] == stop).any(dim=1) if stop is not None else row < 0
        symbols = choose(scores).masked_fill(ended, PAD)
        tokens[row, length - 1] = symbols
        log_probs[row, length - 1] = scores.gather(1, symbols.unsqueeze(1)).squeeze(1).masked_fill(ended, 0.0)
        attention[row, length - 1] = alpha.masked_fill(ended.unsqueeze(1), 0.0)
        if stop is None:
            continue
        open_ = ~(ended | (symbols == stop)).view(-1, each)
        left = open_.sum(dim=1)
        if not bool(left.any()):
            break
        going, widest = (left > 0).nonzero().squeeze(1), int(left.max())
        if len(going) * widest * 8 <= len(row) * 7:  # a smaller batch is worth a copy of its rows
            first_open = open_[going].int().argsort(dim=1, descending=True, stable=True)[:, :widest]
            rows = (going.unsqueeze(1) * each + first_open).flatten()
            each = widest
            if len(going) < len(left):
                memory = take_rows(memory, going)
            state, symbols, row = take_rows(state, rows), symbols[rows], row[rows]
    assert attention is not None
    tokens, log_probs, attention = (part[:, :length].unsqueeze(1) for part in (tokens, log_probs, attention))
    return Decoded(tokens, log_probs.sum(dim=2), log_probs, attention)

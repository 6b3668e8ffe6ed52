"""Greedy decoding and sampling: one hypothesis a row, token by token."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attendgen.decoding.protocol import Decoded, Generator, first_tokens
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
        scores, symbols = (log_probs / self.temperature).log_softmax(dim=-1).sort(dim=-1, descending=True)
        if self.top_k is not None:
            scores[:, self.top_k :] = -torch.inf
        if self.top_p is not None:
            probabilities = scores.softmax(dim=-1)
            before = probabilities.cumsum(dim=-1) - probabilities
            scores[before >= self.top_p] = -torch.inf
        rank = torch.multinomial(scores.softmax(dim=-1), 1, generator=self.generator)
        return symbols.gather(1, rank).squeeze(1)


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
) -> Decoded:
    """Choose symbols one by one until every row has emitted `stop` or holds `max_length` of them.

    Args:
        first: the symbols before the first one; <sos> unless given.
        forbidden: ids never chosen.
        stop: the id that ends a row; None goes on to `max_length`.
    """
    tokens = first_tokens(state, SOS) if first is None else first
    ended = torch.zeros_like(tokens, dtype=torch.bool)
    chosen, log_probs, alphas = [], [], []
    for _ in range(max_length):
        scores, alpha, state = model.step(tokens, state, memory)
        scores[:, list(forbidden)] = -torch.inf
        tokens = choose(scores).masked_fill(ended, PAD)
        chosen.append(tokens)
        log_probs.append(scores.gather(1, tokens.unsqueeze(1)).squeeze(1).masked_fill(ended, 0.0))
        alphas.append(alpha.masked_fill(ended.unsqueeze(1), 0.0))
        if stop is not None:
            ended = ended | (tokens == stop)
            if bool(ended.all()):
                break
    steps = torch.stack(log_probs, dim=1)
    return Decoded(
        torch.stack(chosen, dim=1).unsqueeze(1),
        steps.sum(dim=1, keepdim=True),
        steps.unsqueeze(1),
        torch.stack(alphas, dim=1).unsqueeze(1),
    )

"""Greedy decoding and sampling: one hypothesis per row, token by token."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attendgen.decoding.processors import Constraints, process, read_checked
from attendgen.decoding.protocol import DecodableModel, Decoded, LogitsProcessor
from attendgen.decoding.shared_rows import SharedRows
from attendgen.decoding.waiting import get_interval, is_read, send
from attendgen.layers.state import count_rows, fill_tokens, take_rows
from attendgen.utils.special_tokens import EOS, PAD, SOS

NEAR = 1e-5  # probability: single precision may be wrong about what lies so near to the edge of a token
LEAST = 1e-20  # sum of probabilities: single precision is not exact for what is far smaller
BLOCK = 16  # random numbers of each row that are drawn at once

# chooses a token per row from its log-probabilities; also given the rows' indices at the start of decoding
TokenChoice = Callable[[Float[Tensor, "rows vocab"], Int[Tensor, " rows"]], Int[Tensor, " rows"]]


def argmax_token(log_probs: Float[Tensor, "rows vocab"], rows: Int[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """Return the most probable token of each row."""
    return log_probs.argmax(dim=-1)


class RandomStreams:
    """Uniform random numbers for each row of a batch, which depend on a seed, the row's example and its sample alone.

    Args:
        seed: any whole number from 0.
        examples: the example of each input; an example has the same numbers in any batch and on any device.
        samples: rows per input.
        first_sample: number of each input's first row.
    """

    def __init__(self, seed: int, examples: Sequence[int], samples: int = 1, first_sample: int = 0) -> None:
        numbers = range(first_sample, first_sample + samples)
        self.generators = [np.random.default_rng((seed, example, k)) for example in examples for k in numbers]
        self._numbers: Tensor | None = None  # the first ones of each row
        self._used: Tensor | None = None  # how many of them each row has used
        self._draws = 0

    def draw(self, rows: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """Return the next number of each of some rows, from 0 to below 1."""
        if self._used is None:
            self._used = torch.zeros(len(self.generators), dtype=torch.long, device=rows.device)
        # a row has used no more numbers than there were draws, so the host need not know how many
        if self._numbers is None or self._draws == self._numbers.size(1):
            new = np.empty((len(self.generators), max(BLOCK, self._draws)))
            for generator, line in zip(self.generators, new, strict=True):
                generator.random(out=line)
            block = torch.from_numpy(new).to(rows.device, non_blocking=True)
            self._numbers = block if self._numbers is None else torch.cat([self._numbers, block], dim=1)
        self._draws += 1
        used = self._used[rows]
        self._used[rows] = used + 1
        return self._numbers[rows, used]


class Sampler:
    """Draw a token from softmax(log p / temperature), restricted to the `top_k` most probable or a nucleus.

    The nucleus (Holtzman et al. 2020, 3.1) is the smallest set of most probable tokens whose probability reaches
    `top_p`.

    Args:
        temperature: above 0; 1 samples the model's distribution.
        streams: source of randomness; torch's global stream unless given.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        streams: RandomStreams | None = None,
    ) -> None:
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.streams = streams

    def __call__(self, log_probs: Float[Tensor, "rows vocab"], rows: Int[Tensor, " rows"]) -> Int[Tensor, " rows"]:
        """Draw a token for each row."""
        if log_probs.device.type == "mps":  # which has no double precision
            return self(log_probs.cpu(), rows.cpu()).to(log_probs.device)
        uniform = self._draw_uniform(rows)
        if self.top_k is None and self.top_p is None:
            return self._invert_fast(log_probs, uniform)
        probabilities, tokens = self._soften(log_probs).sort(dim=-1, descending=True)
        if self.top_k is not None:
            probabilities[:, self.top_k :] = 0.0
        if self.top_p is not None:
            probabilities /= probabilities.sum(dim=-1, keepdim=True)
            before = probabilities.cumsum(dim=-1) - probabilities
            probabilities.masked_fill_(before >= self.top_p, 0.0)
        return tokens.gather(1, invert(probabilities, uniform)).squeeze(1)

    def _soften(self, log_probs: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows vocab"]:
        return (log_probs.double() / self.temperature).softmax(dim=-1)

    def _draw_uniform(self, rows: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        if self.streams is None:
            return torch.rand(len(rows), dtype=torch.double, device=rows.device)
        return self.streams.draw(rows)

    def _invert_fast(
        self, log_probs: Float[Tensor, "rows vocab"], uniform: Float[Tensor, " rows"]
    ) -> Int[Tensor, " rows"]:
        """Draw from all tokens: on a CPU in single precision, and again in double where rounding may decide."""
        if log_probs.device.type != "cpu":
            return invert(self._soften(log_probs), uniform).squeeze(1)
        given = log_probs  # processors may leave probabilities whose sum is not 1
        if self.temperature != 1:
            log_probs = (log_probs - log_probs.amax(dim=-1, keepdim=True)) / self.temperature
        mass = log_probs.exp().cumsum(dim=-1)
        total = mass[:, -1:]
        drawn = invert_mass(mass, uniform)
        edges = mass.gather(1, torch.cat([(drawn - 1).clamp(min=0), drawn], dim=1))
        is_near = ((edges - uniform.unsqueeze(1) * total).abs() < NEAR * total).any(dim=1)
        near = (is_near | (total < LEAST).squeeze(1)).nonzero().squeeze(1)
        drawn[near] = invert(self._soften(given[near]), uniform[near])
        return drawn.squeeze(1)


def invert(weights: Float[Tensor, "rows vocab"], uniform: Float[Tensor, " rows"]) -> Int[Tensor, "rows 1"]:
    """Draw an index in proportion to its weight by inverting the cumulative distribution.

    This is much faster than `torch.multinomial`.
    """
    return invert_mass(weights.cumsum(dim=-1), uniform)


def invert_mass(mass: Float[Tensor, "rows vocab"], uniform: Float[Tensor, " rows"]) -> Int[Tensor, "rows 1"]:
    """Return the index at which the cumulative weights exceed a share of their sum."""
    # from the right: an index of weight 0 is never drawn
    drawn = torch.searchsorted(mass, (uniform.unsqueeze(1) * mass[:, -1:]).to(mass.dtype), right=True)
    return drawn.clamp(max=mass.size(1) - 1)


@torch.inference_mode()
def greedy_or_sample(
    model: DecodableModel,
    memory: Any,
    state: Any,
    max_length: int,
    choose: TokenChoice = argmax_token,
    prefix: Int[Tensor, " rows"] | None = None,
    processors: Sequence[LogitsProcessor] = (Constraints(),),
    eos_id: int | None = EOS,
    earlier: Int[Tensor, "rows earlier"] | None = None,
    drop_finished: bool = True,
    samples: int = 1,
) -> Decoded:
    """Choose tokens one by one until every row has emitted `eos_id` or holds `max_length` tokens.

    Args:
        choose: chooses the next token of each row.
        samples: rows for each row of `state`, which are the same before the first token.
        prefix: the token before the first one; <sos> unless given.
        processors: change the log-probabilities of the next tokens, one after the other.
        eos_id: ends a row; None goes on to `max_length`.
        earlier: the parts of the outputs that were decoded before, for the processors.
        drop_finished: fast path: drop finished rows from the batch; the outputs are the same up to rounding.
    """
    last = fill_tokens(state, SOS) if prefix is None else prefix
    shared = SharedRows(model, state, last, samples)
    number = len(last) * samples
    per_input = number // count_rows(memory)  # the rows of one input are neighbors
    row = torch.arange(number, device=last.device)  # the rows that are still in the batch
    ended = row < 0
    interval = get_interval(last.device)
    tokens = last.new_full((number, max_length), PAD)
    log_probs = torch.zeros(number, max_length, device=last.device)
    attention: Tensor | None = None
    longest = 0
    for length in range(1, max_length + 1):
        scores, alpha = shared.step(memory)
        if attention is None:
            attention = alpha.new_zeros(*tokens.shape, alpha.size(1))
        history = tokens[row, : length - 1]
        known = history if earlier is None else torch.cat([earlier[row], history], dim=1)
        scores = process(processors, scores, known)
        last = choose(scores, row).masked_fill(ended, PAD)
        tokens[row, length - 1] = last
        log_probs[row, length - 1] = scores.gather(1, last.unsqueeze(1)).squeeze(1).masked_fill(ended, 0.0)
        attention[row, length - 1] = alpha.masked_fill(ended.unsqueeze(1), 0.0)
        ended = ended if eos_id is None else ended | (last == eos_id)
        at_end = length == max_length
        if not at_end and not is_read(length, interval):
            shared.advance(last, ended, per_input)
            continue
        is_open = ~ended.view(-1, per_input)
        left, longest = _read_open(is_open, tokens[:, :length], eos_id, interval, processors)
        if at_end or not any(left):
            break
        kept, rows = find_open_rows(is_open, left) if drop_finished else None, None
        if kept is not None:
            inputs, rows, per_input = kept
            memory = take_rows(memory, inputs) if len(inputs) < len(is_open) else memory
            last, row, ended = last[rows], row[rows], ended[rows]
        shared.advance(last, ended, per_input, rows)
    assert attention is not None
    tokens, log_probs, attention = (part[:, :longest].unsqueeze(1) for part in (tokens, log_probs, attention))
    return Decoded(tokens, log_probs.sum(dim=2), log_probs, attention)


def _read_open(
    is_open: Bool[Tensor, "batch rows"],
    tokens: Int[Tensor, "all_rows length"],
    eos_id: int | None,
    interval: int,
    processors: Sequence[LogitsProcessor],
) -> tuple[list[int], int]:
    """Return the number of each input's open rows and the length of the longest row; check the processors."""
    if eos_id is None:
        read_checked(tokens.new_empty(0), processors)
        return [is_open.size(1)] * len(is_open), tokens.size(1)
    left = is_open.sum(dim=1)
    if interval == 1:  # the last step was that of a row
        return read_checked(left, processors), tokens.size(1)
    *counts, longest = read_checked(torch.cat([left, _measure_longest(tokens, eos_id).view(1)]), processors)
    return counts, longest


def _measure_longest(tokens: Int[Tensor, "rows length"], eos_id: int) -> Int[Tensor, ""]:
    """Return the length of the longest row, up to its first `eos_id`."""
    is_eos = tokens == eos_id
    return torch.where(is_eos.any(dim=1), is_eos.int().argmax(dim=1) + 1, tokens.size(1)).max()


def find_open_rows(
    is_open: Bool[Tensor, "batch rows"], left: Sequence[int]
) -> tuple[Int[Tensor, " inputs"], Int[Tensor, " kept"], int] | None:
    """Return the inputs with open rows, their rows, and the rows kept per input; None if too few have finished.

    All inputs keep equally many rows, as many as the input with the most open ones.

    Args:
        left: the number of each input's open rows.
    """
    found = [index for index, count in enumerate(left) if count]
    per_input, widest = is_open.size(1), max(left)
    if len(found) * widest * 8 > is_open.numel() * 7:  # the copy would cost more than the smaller batch saves
        return None
    inputs = send(found, is_open.device)
    first_open = is_open[inputs].int().argsort(dim=1, descending=True, stable=True)[:, :widest]
    return inputs, (inputs.unsqueeze(1) * per_input + first_open).flatten(), widest

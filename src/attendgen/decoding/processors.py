"""Processors of log-probabilities: what decoding does to them before it chooses tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attendgen.decoding.protocol import LogitsProcessor
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import EOS, PAD, SOS

ROUNDING = 1e-4  # a log-probability of a certain token may be this much above 0


@dataclass(frozen=True)
class Constraints:
    """Set the log-probabilities of tokens that may not come next to -inf; the others stay the same.

    In a row where the minimum length and the n-gram rule together would leave no token, neither applies.

    Attributes:
        suppress_tokens: ids that are never chosen.
        eos_id: ends an output, and is suppressed until the output has `min_length` tokens, `eos_id` included.
        no_repeat_ngram_size: the n of n-grams that may not occur twice (Paulus et al. 2018, 2.5); 0 turns it off.
    """

    suppress_tokens: tuple[int, ...] = (PAD, SOS)
    eos_id: int | None = EOS
    min_length: int = 1
    no_repeat_ngram_size: int = 0

    def __call__(
        self, log_probs: Float[Tensor, "rows vocab"], history: Int[Tensor, "rows length"]
    ) -> Float[Tensor, "rows vocab"]:
        """Suppress tokens that may not follow `history`; the argument is changed in place."""
        for token in self.suppress_tokens:  # a list as index would be copied to a GPU at each step
            log_probs[:, token].fill_(-torch.inf)
        allowed = log_probs
        if self.eos_id is not None and history.size(1) + 1 < self.min_length:
            allowed = allowed.clone()
            allowed[:, self.eos_id].fill_(-torch.inf)
        if 0 < self.no_repeat_ngram_size <= history.size(1):
            repeated = find_repeats(history, self.no_repeat_ngram_size, log_probs.size(1))
            allowed = allowed.masked_fill(repeated, -torch.inf)
        return log_probs if allowed is log_probs else keep_a_choice(allowed, log_probs)


@dataclass(frozen=True)
class RepetitionPenalty:
    """Multiply the log-probabilities of tokens that the output holds by `penalty`, and normalize again.

    This is the penalized sampling of Keskar et al. (2019, 4.1) on log-probabilities, which have no positive values to
    divide. At 1 nothing changes; they recommend 1.2.

    Raises:
        UserError: the penalty is below 1.
    """

    penalty: float = 1.2

    def __post_init__(self) -> None:
        if not self.penalty >= 1:
            raise UserError(f"decoding.processors: penalty={self.penalty}: expected a number from 1")

    def __call__(
        self, log_probs: Float[Tensor, "rows vocab"], history: Int[Tensor, "rows length"]
    ) -> Float[Tensor, "rows vocab"]:
        """Penalize the tokens of `history`."""
        seen = log_probs.gather(1, history)
        return log_probs.scatter(1, history, seen * self.penalty).log_softmax(dim=-1)


class OwnProcessors:
    """Processors of the user's own, one after the other; where they leave no token, none of them applies."""

    def __init__(self, processors: Sequence[LogitsProcessor]) -> None:
        self.processors = processors
        self.are_valid: list[Tensor] = []  # of each processor, whether all its results so far are log-probabilities

    def __call__(
        self, log_probs: Float[Tensor, "rows vocab"], history: Int[Tensor, "rows length"]
    ) -> Float[Tensor, "rows vocab"]:
        """Apply the processors.

        Raises:
            UserError: the result is of another shape.
        """
        processed, valid = log_probs.clone(), []
        for processor in self.processors:
            processed = processor(processed, history)
            if processed.shape != log_probs.shape:
                sizes = f"{tuple(processed.shape)} for {tuple(log_probs.shape)}"
                name = type(processor).__name__
                raise UserError(
                    f"decoding.processors: {name} returned a tensor of another shape, {sizes}; keep the shape"
                )
            valid.append((processed <= ROUNDING).all())
        before = self.are_valid or valid
        self.are_valid = [one & other for one, other in zip(before, valid, strict=True)]
        return keep_a_choice(processed, log_probs)

    def check(self, are_valid: Sequence[int]) -> None:
        """Check the results so far, given the numbers of `are_valid`.

        The beam ends its search at hypotheses that no other can reach, since log-probabilities only lower a sum.

        Raises:
            UserError: they are not log-probabilities.
        """
        for processor, is_valid in zip(self.processors, are_valid, strict=False):
            if not is_valid:
                raise UserError(
                    f"decoding.processors: {type(processor).__name__} returned NaN or log-probabilities above 0; "
                    "normalize them with log_softmax"
                )


def process(
    processors: Sequence[LogitsProcessor], log_probs: Float[Tensor, "rows vocab"], history: Int[Tensor, "rows length"]
) -> Float[Tensor, "rows vocab"]:
    """Apply processors one after the other."""
    for processor in processors:
        log_probs = processor(log_probs, history)
    return log_probs


def read_checked(numbers: Int[Tensor, " numbers"], processors: Sequence[LogitsProcessor]) -> list[int]:
    """Return numbers of the device, and check with the same wait what processors of the user's own have returned.

    Raises:
        UserError: it is not made of log-probabilities.
    """
    own = [processor for processor in processors if isinstance(processor, OwnProcessors)]
    flags = [flag for processor in own for flag in processor.are_valid]
    read = torch.cat([numbers, torch.stack(flags).to(numbers.dtype)]) if flags else numbers
    found: list[int] = read.tolist() if len(read) else []
    numbers_found, rest = found[: len(numbers)], found[len(numbers) :]
    for processor in own:
        processor.check(rest[: len(processor.are_valid)])
        rest = rest[len(processor.are_valid) :]
    return numbers_found


def keep_a_choice(
    allowed: Float[Tensor, "rows vocab"], otherwise: Float[Tensor, "rows vocab"]
) -> Float[Tensor, "rows vocab"]:
    """Return log-probabilities, with those of `otherwise` in rows where no token is left."""
    nothing: Bool[Tensor, "rows 1"] = (allowed == -torch.inf).all(dim=1, keepdim=True)
    return torch.where(nothing, otherwise, allowed)


def find_repeats(history: Int[Tensor, "rows length"], n: int, vocab: int) -> Bool[Tensor, "rows vocab"]:
    """Return which next tokens would complete an n-gram that `history` holds already."""
    grams = history.unfold(1, n, 1)  # rows, positions, n
    begun = (grams[..., :-1] == history[:, None, history.size(1) - n + 1 :]).all(dim=-1)
    # a position that does not match writes into an extra column, which is cut off
    completed = grams[..., -1].masked_fill(~begun, vocab)
    banned = torch.zeros(len(history), vocab + 1, dtype=torch.bool, device=history.device)
    return banned.scatter_(1, completed, True)[:, :vocab]

"""Beam search over inputs and hypotheses in one set of tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional

from attendgen.decoding.processors import Constraints, process, read_checked
from attendgen.decoding.protocol import DecodableModel, Decoded, LogitsProcessor
from attendgen.decoding.scoring import BeamScorer
from attendgen.decoding.top import find_greatest
from attendgen.decoding.waiting import get_interval, is_read, send
from attendgen.layers.state import count_rows, fill_tokens, get_device, get_mask, repeat_rows, take_rows
from attendgen.utils.special_tokens import EOS, PAD, SOS


class Hypotheses(NamedTuple):
    """Hypotheses of each input; `attention_row` is the row of all steps' attention with which a token was predicted."""

    scores: Float[Tensor, "batch n"]
    tokens: Int[Tensor, "batch n length"]
    log_probs: Float[Tensor, "batch n length"]
    attention_row: Int[Tensor, "batch n length"]


class Expansion(NamedTuple):
    """The best continuations of a beam: hypotheses by log-probability, their scores, and their parents in the beam."""

    hypotheses: Hypotheses
    scores: Float[Tensor, "batch n"]
    parent: Int[Tensor, "batch n"]


@dataclass
class Beam:
    """The state of a beam search.

    Attributes:
        width: number of open hypotheses per input, after the first step.
        inputs: the inputs that are still searched.
        open: hypotheses that can grow, scored by log-probability.
        finished: the best finished ones, scored by the `BeamScorer`; None before the first step.
        model_state, memory: of the model; one row per open hypothesis, one per input.
        attended: attention summed over the steps, for the coverage penalty.
        mask: True where the source is real.
        attention: of every step so far, all rows of it.
    """

    width: int
    inputs: Int[Tensor, " batch"]
    open: Hypotheses
    finished: Hypotheses | None
    model_state: Any
    memory: Any
    attended: Float[Tensor, "batch n source"] | None
    mask: Bool[Tensor, "batch source"] | None
    attention: list[Float[Tensor, "rows source"]]

    @classmethod
    def start(cls, memory: Any, state: Any, width: int) -> "Beam":
        """Return a beam of one empty hypothesis per input."""
        inputs, device = count_rows(state), get_device(state)
        empty = torch.empty(inputs, 1, 0, dtype=torch.long, device=device)
        hypotheses = Hypotheses(torch.zeros(inputs, 1, device=device), empty, empty.float(), empty)
        rows = torch.arange(inputs, device=device)
        return cls(width, rows, hypotheses, None, state, memory, None, get_mask(memory), [])

    def count_candidates(self, vocab: int) -> int:
        """Return the number of continuations that are kept for each input: twice as many as the beam is wide."""
        return min(2 * self.width, self.open.scores.size(1) * vocab)

    def widen(self, *trees: Any) -> tuple[Any, ...]:
        """Add empty hypotheses that cannot grow beside the first one, if it has too few continuations for the beam.

        Returns:
            The trees of tensors with a row for each hypothesis.
        """
        rest = self.width - 1
        scores = functional.pad(self.open.scores, (0, rest), value=-torch.inf)
        self.open = Hypotheses(scores, *(part.expand(-1, self.width, -1) for part in self.open[1:]))
        return tuple(repeat_rows(tree, self.width) for tree in trees)

    def expand(
        self, log_probs: Float[Tensor, "batch n vocab"], alphas: Float[Tensor, "batch n source"], scorer: BeamScorer
    ) -> Expansion:
        """Return the best one-token continuations, twice as many as the beam is wide.

        Even if half of them end, a full beam stays open.
        """
        length, vocab = self.open.tokens.size(2) + 1, log_probs.size(2)
        total = self.open.scores.unsqueeze(-1) + log_probs
        penalty = scorer.length_penalty(length)
        scores = total if penalty == 1.0 else total / penalty
        if scorer.coverage:
            self.attended = alphas if self.attended is None else self.attended + alphas
            mask = None if self.mask is None else self.mask.unsqueeze(1)
            scores = scores + scorer.coverage_penalty(self.attended, mask).unsqueeze(-1)
        best_scores, best = find_greatest(scores.flatten(1), self.count_candidates(vocab))
        parent, token = best // vocab, best % vocab
        batch = torch.arange(len(best), device=best.device).unsqueeze(1)
        row = sum(map(len, self.attention)) + _flat_rows(parent, log_probs.size(1))
        self.attention.append(alphas.flatten(0, 1))
        grown = Hypotheses(
            total.flatten(1).gather(1, best),
            _append(self.open.tokens, parent, token),
            _append(self.open.log_probs, parent, log_probs[batch, parent, token]),
            _append(self.open.attention_row, parent, row),
        )
        return Expansion(grown, best_scores, parent)

    def finish(self, grown: Expansion, ends: Bool[Tensor, "batch n"]) -> None:
        """Keep the best finished hypotheses, `width` per input, with the scores of the `BeamScorer`."""
        # only what falls within the beam may end: a beam of width 1 must not end on its second choice
        scores, ends = grown.scores[:, : self.width], ends[:, : self.width]
        new = Hypotheses(*(part[:, : self.width] for part in grown.hypotheses))
        new = new._replace(scores=scores.masked_fill(~ends, -torch.inf))
        if self.finished is not None:
            pairs = zip(self.finished, new, strict=True)
            new = Hypotheses(*(torch.cat([_pad_length(old, part), part], dim=1) for old, part in pairs))
        scores, best = new.scores.topk(min(self.width, new.scores.size(1)), dim=1)
        self.finished = Hypotheses(scores, *(_pick(part, best) for part in new[1:]))

    def advance(self, grown: Expansion, ends: Bool[Tensor, "batch n"], model_state: Any) -> None:
        """Go on with the best continuations that do not end."""
        hypotheses = self.open.scores.size(1)
        chosen = grown.scores.masked_fill(ends, -torch.inf).topk(self.width, dim=1).indices
        kept = Hypotheses(*(_pick(part, chosen) for part in grown.hypotheses))
        self.open = kept._replace(scores=kept.scores.masked_fill(ends.gather(1, chosen), -torch.inf))
        parent = grown.parent.gather(1, chosen)
        self.model_state = take_rows(model_state, _flat_rows(parent, hypotheses).flatten())
        self.attended = None if self.attended is None else _pick(self.attended, parent)

    def is_done(self, scorer: BeamScorer, n_best: int, max_length: int) -> Bool[Tensor, " batch"]:
        """Return which inputs have `n_best` finished hypotheses that no open one can still beat."""
        assert self.finished is not None
        length = self.open.tokens.size(2)
        bound = scorer.upper_bound(self.open.scores.max(dim=1).values, length, max_length)
        return self.finished.scores[:, n_best - 1] >= bound

    def measure(self, n_best: int, done: Bool[Tensor, " batch"] | None, interval: int) -> Int[Tensor, " batch"]:
        """Return the length of each input's longest output, -1 for an input that is not done; all are if None.

        Where they are read at each step, the lengths stay 0: they are measured once, in the end.
        """
        assert self.finished is not None
        lengths = torch.zeros_like(self.inputs)
        if interval > 1:
            lengths = (self.finished.tokens[:, :n_best] != PAD).sum(dim=2)
            lengths = lengths.masked_fill(self.finished.scores[:, :n_best] == -torch.inf, 0).amax(dim=1)
        return lengths if done is None else lengths.masked_fill(~done, -1)

    def drop(self, done: Sequence[bool]) -> tuple[Tensor, Hypotheses]:
        """Remove inputs from the beam; return their numbers and finished hypotheses."""
        assert self.finished is not None
        device = self.inputs.device
        gone, going = (send([i for i, d in enumerate(done) if d is kind], device) for kind in (True, False))
        dropped = (self.inputs[gone], Hypotheses(*(part[gone] for part in self.finished)))
        rows = _flat_rows(torch.arange(self.width, device=device).expand(len(done), -1), self.width)
        self.inputs = self.inputs[going]
        self.open = Hypotheses(*(part[going] for part in self.open))
        self.finished = Hypotheses(*(part[going] for part in self.finished))
        self.model_state = take_rows(self.model_state, rows[going].flatten())
        self.memory = take_rows(self.memory, going)
        self.attended = None if self.attended is None else self.attended[going]
        self.mask = None if self.mask is None else self.mask[going]
        return dropped


@torch.inference_mode()
def beam_search(
    model: DecodableModel,
    memory: Any,
    state: Any,
    max_length: int,
    width: int = 5,
    n_best: int = 1,
    scorer: BeamScorer | None = None,
    processors: Sequence[LogitsProcessor] = (Constraints(),),
    prefix: Int[Tensor, " batch"] | None = None,
    eos_id: int | None = EOS,
    drop_finished: bool = True,
) -> Decoded:
    """Return the `n_best` outputs of each input that a beam of `width` hypotheses finds.

    Finished hypotheses are kept apart, the best `width` of each input. The search of an input ends when none of its
    open hypotheses can beat its finished ones, or at `max_length`, where open hypotheses count as they are.

    Args:
        scorer: how hypotheses compare; by log-probability unless given.
        processors: change the log-probabilities of the next tokens, one after the other.
        prefix: the token before each input's first one; <sos> unless given.
        eos_id: ends a hypothesis; None goes on to `max_length`.
        drop_finished: fast path: drop finished inputs from the batch; the outputs are the same up to rounding.

    Raises:
        ValueError: `width` is below 1 or below `n_best`.
    """
    if not 1 <= n_best <= width:
        raise ValueError(f"n_best {n_best}: expected 1 to the beam's width {width}")
    scorer = scorer or BeamScorer()
    beam = Beam.start(memory, state, width)
    last = fill_tokens(state, SOS) if prefix is None else prefix
    dropped: list[tuple[Tensor, Hypotheses]] = []
    interval, longest = get_interval(last.device), 0
    for length in range(1, max_length + 1):
        log_probs, alphas, model_state = model.step(last, beam.model_state, beam.memory)
        if length == 1 and beam.count_candidates(log_probs.size(1)) < 2 * width:
            log_probs, alphas, model_state = beam.widen(log_probs, alphas, model_state)
        history = beam.open.tokens.flatten(0, 1)
        log_probs = process(processors, log_probs, history)
        by_input = (len(beam.inputs), -1)
        grown = beam.expand(log_probs.unflatten(0, by_input), alphas.unflatten(0, by_input), scorer)
        token = grown.hypotheses.tokens[..., -1]
        at_end = length == max_length
        ends = torch.full_like(token, at_end, dtype=torch.bool) if eos_id is None else (token == eos_id) | at_end
        beam.finish(grown, ends)
        if not at_end:
            beam.advance(grown, ends, model_state)
        if at_end or is_read(length, interval):
            is_done = None if at_end else beam.is_done(scorer, n_best, max_length)
            lengths = read_checked(beam.measure(n_best, is_done, interval), processors)
            done = [length >= 0 for length in lengths]
            # the copy is worth its time if the batch becomes smaller by an eighth
            is_smaller = drop_finished and sum(done) * 8 >= len(done)
            if all(done) or is_smaller:
                longest = max(longest, *lengths)
            if all(done):
                break
            if is_smaller:
                dropped.append(beam.drop(done))
        last = beam.open.tokens[..., -1].flatten()
    assert beam.finished is not None
    return _collect([*dropped, (beam.inputs, beam.finished)], torch.cat(beam.attention), n_best, longest or None)


def _pick(values: Shaped[Tensor, "batch n *rest"], index: Int[Tensor, "batch chosen"]) -> Tensor:
    """Choose along the second dimension, input by input."""
    rest = values.shape[2:]
    return values.gather(1, index.view(*index.shape, *[1] * len(rest)).expand(*index.shape, *rest))


def _append(values: Tensor, parent: Int[Tensor, "batch n"], new: Tensor) -> Tensor:
    """Append a new last value to the parents' values."""
    return torch.cat([_pick(values, parent), new.unsqueeze(-1)], dim=-1)


def _flat_rows(hypothesis: Int[Tensor, "batch chosen"], width: int) -> Int[Tensor, "batch chosen"]:
    """Return the rows of hypotheses in a batch of inputs x width rows."""
    first = torch.arange(0, len(hypothesis) * width, width, device=hypothesis.device)
    return hypothesis + first.unsqueeze(1)


def _pad_length(values: Tensor, like: Tensor) -> Tensor:
    """Pad the third dimension with zeros (<pad> is 0) to the length of another tensor's."""
    if values.ndim < 3 or values.size(2) == like.size(2):
        return values
    return torch.nn.functional.pad(values, (0, like.size(2) - values.size(2)))


def _collect(
    parts: list[tuple[Tensor, Hypotheses]], attention: Float[Tensor, "rows source"], n_best: int, length: int | None
) -> Decoded:
    """Return the `n_best` hypotheses of all inputs in their original order, with the attention of each token.

    Args:
        length: of the longest one; measured unless given.
    """
    widest = max((part for _, part in parts), key=lambda part: part.tokens.size(2)).tokens
    fields = zip(*(part for _, part in parts), strict=True)
    whole = Hypotheses(*(torch.cat([_pad_length(part, widest) for part in field]) for field in fields))
    order = torch.cat([index for index, _ in parts]).argsort()
    scores, tokens, log_probs, rows = (part[order, :n_best] for part in whole)
    missing: Bool[Tensor, "batch n 1"] = (scores == -torch.inf).unsqueeze(-1)
    tokens = tokens.masked_fill(missing, PAD)
    if length is None:
        length = int((tokens != PAD).sum(dim=-1).max())
    tokens = tokens[..., :length]
    is_pad = tokens == PAD
    alphas = attention[rows[..., :length]].masked_fill(is_pad.unsqueeze(-1), 0.0)
    return Decoded(tokens, scores, log_probs[..., :length].masked_fill(is_pad, 0.0), alphas)

"""A choice of decoding algorithm with its settings, as configs name it."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attendgen.decoding.beam import beam_search
from attendgen.decoding.consensus import by_consensus, gathered, parted
from attendgen.decoding.protocol import Decoded, Generator, Several, take_rows
from attendgen.decoding.ranking import Ranking
from attendgen.decoding.sampling import Choice, Sample, best, decode
from attendgen.errors import UserError
from attendgen.vocabulary import EOS, PAD, SOS

Watcher = Callable[[Int[Tensor, " rows"]], None]


class Search:
    """Beam search if `beam` is above 1, sampling if `temperature` is given, else greedy.

    Args:
        max_length, min_length: of an output in symbols, <eos> included.
        beam: hypotheses an input.
        n_best: outputs an input: of the beam, or samples.
        alpha, average, coverage: the beam's length penalty, one of two kinds, and coverage penalty; see `Ranking`.
        no_repeat: the n of the n-grams that may not come twice in an output; 0 is no rule.
        temperature, top_k, top_p: of sampling.
        seed: of sampling; None draws from torch's global stream, but for a consensus, which then has seed 0.
        consensus: samples drawn of each input, at `temperature` or else 1; the beam's hypotheses are ranked by their
            likeness to these (see `by_consensus`) in place of their probability. 0 is none. Of several models each has
            a beam of its own and draws its share.
        neighbours: the nearest training inputs, whose outputs the caller hands over as `others`; the beam's hypotheses
            are ranked by their likeness to these, too, or to these alone if `consensus` is 0 (Devlin et al. 2015). Both
            have the same say.
    """

    def __init__(
        self,
        max_length: int = 30,
        beam: int = 1,
        n_best: int = 1,
        alpha: float = 0.0,
        average: bool = False,
        coverage: float = 0.0,
        min_length: int = 1,
        no_repeat: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        consensus: int = 0,
        neighbours: int = 0,
    ) -> None:
        if max_length < 1:
            raise ValueError(f"max-length {max_length} leaves no room for an output; use at least 1")
        if not 1 <= min_length <= max_length:
            raise ValueError(f"min-length {min_length} is not between 1 and the max-length {max_length}")
        if no_repeat < 0:
            raise ValueError(f"no-repeat {no_repeat} is below 0; 0 lets n-grams repeat")
        if beam < 1:
            raise ValueError(f"beam {beam} is below 1")
        if temperature is None and (top_k is not None or top_p is not None):
            temperature = 1.0
        if consensus < 0:
            raise ValueError(f"consensus {consensus} is below 0; 0 ranks the beam by probability")
        if neighbours < 0:
            raise ValueError(f"neighbours {neighbours} is below 0; 0 asks none")
        for name, count in (("consensus", consensus), ("neighbours", neighbours)):
            if count and beam == 1:
                raise ValueError(f"{name} {count} chooses among a beam's hypotheses; use --beam 20, say")
        if beam > 1 and temperature is not None and not consensus:
            raise ValueError(f"beam {beam} and sampling exclude each other; leave one out")
        if n_best > beam and (temperature is None or consensus):
            raise ValueError(f"n-best {n_best} is larger than the beam's {beam}; use --beam {n_best}")
        self.max_length = max_length
        self.beam = beam
        self.n_best = n_best
        self.ranking = Ranking(alpha, average, coverage)
        self.min_length = min_length
        self.no_repeat = no_repeat
        self.sampled = temperature is not None
        self.consensus = consensus
        self.neighbours = neighbours
        self.sample = Sample(1.0 if temperature is None else temperature, top_k, top_p)
        self.seed = 0 if consensus and seed is None else seed

    def __call__(
        self,
        model: Generator,
        memory: Any,
        state: Any,
        forbidden: tuple[int, ...] = (PAD, SOS),
        first: Int[Tensor, " rows"] | None = None,
        stop: int | None = EOS,
        watch: Watcher | None = None,
        others: Sequence[Int[Tensor, "_m _length"]] = (),
    ) -> Decoded:
        """Decode from a model's memory and state, in single precision; the ids in `forbidden` are never chosen.

        Args:
            first: the symbols before the first one; <sos> unless given.
            stop: the id that ends an output; None goes on to the maximum length.
            watch: called with each step's symbols as they are chosen.
            others: of each input, the outputs of its `neighbours`.

        Raises:
            ValueError: a beam is watched, whose symbols are known only at the end.
            UserError: neighbours are wanted of a model that is given none.
        """
        if self.neighbours and not others:
            raise UserError(f"decoding.neighbours={self.neighbours}: only captioners know inputs like the one at hand")
        # scores must not depend on the training's precision, and autocast would convert the weights anew at each step
        with torch.autocast(state[0].device.type, enabled=False):
            memory, state = single(memory), single(state)
            rules = {"min_length": self.min_length, "no_repeat": self.no_repeat, "forbidden": forbidden, "stop": stop}
            return self._search(model, memory, state, first, rules, watch, others)

    def _search(
        self,
        model: Generator,
        memory: Any,
        state: Any,
        first: Int[Tensor, " rows"] | None,
        rules: dict[str, Any],
        watch: Watcher | None,
        others: Sequence[Tensor],
    ) -> Decoded:
        if self.beam > 1:
            if watch is not None:
                raise ValueError(f"beam {self.beam} cannot be watched: its symbols are known only at the end")
            if self.consensus or self.neighbours:
                return self._agree(model, memory, state, first, rules, others)
            return beam_search(
                model, memory, state, self.max_length, self.beam, self.n_best, self.ranking, first=first, **rules
            )
        choose: Choice = self._seeded(state) if self.sampled else best
        if watch is not None:
            choose = watched(choose, watch)
        if self.n_best > 1:
            return self._draw(model, memory, state, self.n_best, choose, first, rules)
        return decode(model, memory, state, self.max_length, choose, first, **rules)

    def _agree(
        self,
        model: Generator,
        memory: Any,
        state: Any,
        first: Int[Tensor, " rows"] | None,
        rules: dict[str, Any],
        others: Sequence[Tensor],
    ) -> Decoded:
        """By consensus. Of several models each has a beam of its own, and draws its share of the samples."""
        voices = model.apart(memory, state) if isinstance(model, Several) else [(1.0, model, memory, state)]
        counts = parted(self.consensus, [voice[0] for voice in voices])
        found, drawn = [], []
        for count, (share, one, own, begun) in zip(counts, voices, strict=True):
            if count or (share and not self.consensus):
                size = self.max_length, self.beam, self.beam
                found.append(beam_search(one, own, begun, *size, self.ranking, first=first, **rules))
            if count:
                drawn.append(self._draw(one, own, begun, count, self._seeded(begun), first, rules))
        heard: list[Sequence[Tensor]] = [gathered(drawn).tokens.unbind()] if drawn else []
        if self.neighbours:
            heard.append(others)
        return by_consensus(gathered(found), heard, self.n_best)

    def _seeded(self, state: Any) -> Sample:
        """The sample, from the seed's own stream if there is a seed."""
        if self.seed is not None and self.sample.generator is None:
            self.sample.generator = torch.Generator(state[0].device).manual_seed(self.seed)
        return self.sample

    def _draw(
        self,
        model: Generator,
        memory: Any,
        state: Any,
        count: int,
        choose: Choice,
        first: Int[Tensor, " rows"] | None,
        rules: dict[str, Any],
    ) -> Decoded:
        """Several outputs of each input, which share its memory."""
        inputs = state[0].size(0)
        rows = torch.arange(inputs, device=state[0].device).repeat_interleave(count)
        first = first if first is None else first[rows]
        decoded = decode(model, memory, take_rows(state, rows), self.max_length, choose, first, **rules)
        return Decoded(*(part.squeeze(1).unflatten(0, (inputs, count)) for part in decoded))


def watched(choose: Choice, watch: Watcher) -> Choice:
    """A choice of symbols that `watch` is told of."""

    def choice(log_probs: Float[Tensor, "rows symbols"]) -> Int[Tensor, " rows"]:
        chosen = choose(log_probs)
        watch(chosen)
        return chosen

    return choice


def single(parts: Any) -> Any:
    """A named tuple's floating-point tensors in single precision."""
    return type(parts)(*(part.float() if part is not None and part.is_floating_point() else part for part in parts))

"""Trained language models: a context in, continuations out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from attendgen.decoding.alternatives import Alternatives, find_alternatives, take_likeliest
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import Streamer, decode
from attendgen.decoding.facts import NO_TABLES
from attendgen.decoding.protocol import Decoded, StatefulModel
from attendgen.decoding.sampling import RandomStreams
from attendgen.inference.base import BATCH, TrainedModel, generate_batches, takes_argument
from attendgen.inference.result import Result, concat_parts, make_results, score_forced, spread_attention, to_cpu
from attendgen.layers.state import take_rows
from attendgen.utils.errors import UserError
from attendgen.utils.special_tokens import PAD, SOS


class Part(NamedTuple):
    """A part of each of several texts, and the likeliest tokens at its steps if they are asked for."""

    decoded: Decoded
    likeliest: Alternatives | None


class TextGenerator(TrainedModel):
    """A trained language model, continuing a context.

    A stateful model reads the whole context. A model of windows reads the last tokens that its window holds, and
    after each window of continuation it reads again what is then to its left.
    """

    @property
    def is_stateful(self) -> bool:
        """Whether the model's state holds all that it has read."""
        return isinstance(self.model, StatefulModel)

    def count_outputs(self, **options: Any) -> int:
        """Return the number of continuations that these options ask for.

        Raises:
            UserError: an option is wrong.
        """
        return getattr(self.make_decoding(options), "n_best", 1)

    def make_decoding(self, options: dict[str, Any]) -> Any:
        """Return the run's decoding, changed by the options.

        Raises:
            UserError: an option is wrong, asks for a beam or for facts, or the decoding has no maximum length.
        """
        decoding: Any = super().make_decoding(options)
        if getattr(decoding, "beam_size", 1) > 1:
            raise UserError(
                f"decoding.beam_size={decoding.beam_size}: language models sample or decode greedily; leave it out"
            )
        if getattr(decoding, "facts", False):
            raise UserError(NO_TABLES)
        if not hasattr(decoding, "max_length"):
            raise UserError(f"decoding: {type(decoding).__name__} has no max_length, which continuing a text needs")
        return decoding

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of a context; an empty one begins a text.

        Raises:
            UserError: the text has no known character.
        """
        if text.strip():
            ids: list[int] = self.vocabulary.encode_known(text, "text")
            return ids
        return [index for index in self.vocabulary.encode(text) if index != self.vocabulary.unknown]

    def generate(
        self, text: str, on_token: Callable[[str], None] | None = None, alternatives: int = 0, **options: Any
    ) -> list[Result]:
        """Return `n_best` continuations of a context, best first, made as one batch.

        `attention` holds the weights over `source`: the context of the first window, or the whole text for a stateful
        model.

        Args:
            on_token: called with the text of each token of a single continuation as it is made; with decoding of the
                user's own that does not take `on_token`, with the text of all tokens of a window.
            alternatives: how many of the likeliest tokens at each step each result keeps; they cost one more pass over
                the outputs.
            options: those of `DecodingConfig`.

        Raises:
            UserError: the text has no known character, or an option is wrong.
        """
        decoding = self.make_decoding(options)
        ids = self.encode_text(text)
        return self._continue_all([ids], decoding, alternatives, on_token and self._make_writer(on_token))[0]

    def _continue_all(
        self, texts: Sequence[list[int]], decoding: Any, alternatives: int, on_token: Streamer | None = None
    ) -> list[list[Result]]:
        """Return the continuations of contexts of equal length, best first."""
        samples = getattr(decoding, "n_best", 1)
        context, _ = self._get_window(len(texts[0]), decoding.max_length)
        parts = self._continue(texts, decoding, samples, alternatives, on_token)
        found = []
        for number, ids in enumerate(texts):
            read = [self.vocabulary.tokens[i] for i in ids[-context:]]
            rows = range(number * samples, (number + 1) * samples)
            results = [result for row in rows for result in self._make_results(parts, row, read)]
            found.append(sorted(results, key=lambda result: -result.score))
        return found

    def _make_writer(self, write: Callable[[str], None]) -> Streamer:
        """Return a function that writes the text which a continuation's next tokens add to it."""
        tokens: list[str] = []
        written = ""

        def write_next(chosen: Int[Tensor, " tokens"]) -> None:
            nonlocal written
            tokens.extend(self.vocabulary.tokens[index] for index in chosen.tolist())
            text = self.vocabulary.join(tokens)
            write(text[len(written) :])
            written = text

        return write_next

    @torch.inference_mode()
    def _continue(
        self,
        contexts: Sequence[list[int]],
        decoding: Any,
        samples: int,
        alternatives: int,
        on_token: Streamer | None,
    ) -> list[Part]:
        """Decode `samples` continuations of each of several contexts of equal length, part by part."""
        wanted, length = decoding.max_length, len(contexts[0])
        context, seq_len = self._get_window(length, wanted)
        extra = self._make_extras(decoding, len(contexts), samples, on_token)
        texts = torch.tensor(contexts, dtype=torch.long, device=self.device)
        parts: list[Part] = []
        while (made := texts.size(1) - length) < wanted:
            memory, state = self.model.encode(_get_context(texts, texts.size(1), context))
            if not parts:  # a context is read once, however many continue it
                copies = torch.arange(len(contexts), device=self.device).repeat_interleave(samples)
                texts, state = texts[copies], take_rows(state, copies)
            part = _limit(decoding, min(seq_len, wanted - made))
            suppressed = self.vocabulary.suppressed(eos=True)
            if isinstance(decoding, DecodingConfig):
                extra["earlier"] = texts[:, length:]
            prefix = _shift(texts)[:, -1]
            decoded = decode(self.model, memory, state, part, suppressed, prefix=prefix, eos_id=None, **extra)
            likeliest = find_alternatives(self.model, memory, state, decoded.tokens, alternatives, suppressed, prefix)
            parts.append(Part(to_cpu(decoded), likeliest))
            if on_token is not None and "on_token" not in extra:
                on_token(decoded.tokens[0, 0])
            texts = torch.cat([texts, decoded.tokens[:, 0]], dim=1)
        return parts

    def _make_extras(self, decoding: Any, contexts: int, samples: int, on_token: Streamer | None) -> dict[str, Any]:
        """Return the arguments of decoding that concern all parts of a text."""
        extra: dict[str, Any] = {"graphs": self.graphs}
        is_config = isinstance(decoding, DecodingConfig)
        if is_config and decoding.samples_outputs and decoding.seed is not None:
            extra["streams"] = RandomStreams(decoding.seed, [0] * contexts, samples)
        if on_token is not None and (is_config or takes_argument(decoding, "on_token")):
            extra["on_token"] = on_token
        return extra

    def _get_window(self, context: int, length: int) -> tuple[int, int]:
        """Return how much of a context is read, and how many tokens are continued before reading again."""
        if self.is_stateful:
            return context, length
        return self.model.context_len, self.model.chunk_len

    def _make_results(self, parts: Sequence[Part], row: int, read: list[str]) -> list[Result]:
        """Return a continuation of `read` that was made part by part."""
        decoded = concat_parts([part.decoded for part in parts], first_attention_only=not self.is_stateful)
        found = [part.likeliest for part in parts if part.likeliest is not None]
        likeliest = Alternatives(*(torch.cat(part, dim=2) for part in zip(*found, strict=True))) if found else None
        source = [] if self.is_stateful else read
        results = make_results(decoded, row, self.vocabulary, source, likeliest)
        if self.is_stateful:
            results = [spread_attention(result, read) for result in results]
        return [replace(result, context=read) for result in results]

    def generate_all(
        self,
        texts: Sequence[str],
        on_token: Callable[[str], None] | None = None,
        alternatives: int = 0,
        **options: Any,
    ) -> list[list[Result]]:
        """Return the continuations of each of several contexts; those of equal length are decoded in batches.

        Decoding of the user's own is given one context at a time.

        Args:
            on_token, alternatives, options: see `generate`.

        Raises:
            UserError: a text has no known character, or an option is wrong.
        """
        decoding = self.make_decoding(options)
        if on_token is not None or not isinstance(decoding, DecodingConfig):
            return [self.generate(text, on_token, alternatives, **options) for text in texts]
        by_length: dict[int, list[int]] = {}
        contexts = [self._read_window(self.encode_text(text), decoding) for text in texts]
        for index, ids in enumerate(contexts):
            by_length.setdefault(len(ids), []).append(index)
        return generate_batches(
            contexts, by_length.values(), BATCH, lambda batch: self._continue_all(batch, decoding, alternatives)
        )

    def _read_window(self, ids: list[int], decoding: DecodingConfig) -> list[int]:
        """Return the part of a context that the model reads."""
        return ids[-self._get_window(len(ids), decoding.max_length)[0] :]

    @torch.inference_mode()
    def score(self, text: str, reference: str, alternatives: int = 0) -> Result:
        """Score a given continuation: `score` is its log-probability.

        It is read as `generate` generates: window by window, each with what is to its left as context.

        Args:
            alternatives: how many of the likeliest tokens at each step the result keeps.

        Raises:
            UserError: a text has no known character, or the continuation is empty.
        """
        before = self.encode_text(text)
        after = self.vocabulary.encode_known(reference, "score")
        context, seq_len = self._get_window(len(before), len(after))
        ids = torch.tensor([before + after], device=self.device)
        inputs = _shift(ids)
        suppressed, parts = self.vocabulary.suppressed(eos=True), []
        for begin in range(len(before), ids.size(1), seq_len):
            window = ids[:, begin : begin + seq_len]
            logits, alphas = self.model(_get_context(ids, begin, context), inputs[:, begin : begin + window.size(1)])
            likeliest = take_likeliest(logits.log_softmax(-1).unsqueeze(1), alternatives, suppressed)
            parts.append(Part(score_forced(logits, alphas, window), likeliest))
        return self._make_results(parts, 0, [self.vocabulary.tokens[i] for i in before[-context:]])[0]


def _get_context(texts: Int[Tensor, "texts time"], end: int, most: int) -> Int[Tensor, "texts context"]:
    """Return the last `most` tokens before `end`; one column of <pad> where there is none, as in training."""
    if end == 0:
        return texts.new_full((len(texts), 1), PAD)
    return texts[:, max(0, end - most) : end]


def _shift(texts: Int[Tensor, "texts time"]) -> Int[Tensor, "texts time+1"]:
    """Return texts after <sos>: the token before each of theirs, and their last one."""
    return torch.cat([texts.new_full((len(texts), 1), SOS), texts], dim=1)


def _limit(decoding: Any, length: int) -> Any:
    """Return the decoding of one part of a text, of one continuation per row."""
    if isinstance(decoding, DecodingConfig):
        return replace(decoding, max_length=length, min_length=min(decoding.min_length, length), n_best=1)
    decoding.max_length = length
    if hasattr(decoding, "n_best"):
        decoding.n_best = 1
    return decoding

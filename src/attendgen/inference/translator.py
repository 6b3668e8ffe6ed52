"""Trained sequence-to-sequence models: a source text in, outputs out."""

from collections.abc import Sequence
from typing import Any

import torch

from attendgen.data.batch import pad, shift_targets
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.protocol import DecodingFunction
from attendgen.inference.base import TrainedModel
from attendgen.inference.result import Result, make_results, score_forced, to_cpu

BATCH = 128  # source texts that are decoded together


class Translator(TrainedModel):
    """A trained sequence-to-sequence model."""

    def generate(self, text: str, **options: Any) -> list[Result]:
        """Return the outputs for one source text, best first; `options` are those of `DecodingConfig`.

        Raises:
            UserError: the text is empty or has no known token, or an option is wrong.
        """
        return self.generate_all([text], **options)[0]

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of a source text.

        Raises:
            UserError: the text is empty or has no known token.
        """
        ids: list[int] = self.vocabulary.source.encode_known(text, "text")
        return ids

    def generate_all(self, texts: Sequence[str], **options: Any) -> list[list[Result]]:
        """Return the outputs for each of several source texts; texts of similar length are decoded together.

        Raises:
            UserError: a text is empty or has no known token, or an option is wrong.
        """
        decoding = self.make_decoding(options)
        sources = [self.encode_text(text) for text in texts]
        order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
        found: dict[int, list[Result]] = {}
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            results = self._generate_batch([sources[index] for index in batch], decoding)
            found |= dict(zip(batch, results, strict=True))
        return [found[index] for index in range(len(texts))]

    @torch.inference_mode()
    def _generate_batch(
        self, sources: Sequence[list[int]], decoding: DecodingConfig | DecodingFunction
    ) -> list[list[Result]]:
        memory, state = self.model.encode(pad(sources).to(self.device))
        decoded = to_cpu(decode(self.model, memory, state, decoding, self.vocabulary.target.suppressed()))
        tokens = self.vocabulary.source.tokens
        return [
            make_results(decoded, row, self.vocabulary.target, [tokens[i] for i in source])
            for row, source in enumerate(sources)
        ]

    @torch.inference_mode()
    def score(self, text: str, reference: str) -> Result:
        """Score a given output: `score` is its log-probability, with that of <eos>.

        Raises:
            UserError: a text is empty or has no known token.
        """
        source = self.encode_text(text)
        inputs, outputs = shift_targets([self.vocabulary.target.encode_known(reference, "score")])
        logits, alphas = self.model(pad([source]).to(self.device), inputs.to(self.device))
        tokens = [self.vocabulary.source.tokens[i] for i in source]
        return make_results(score_forced(logits, alphas, outputs), 0, self.vocabulary.target, tokens)[0]

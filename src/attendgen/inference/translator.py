"""Trained sequence-to-sequence models: a source text in, outputs out."""

from collections.abc import Sequence
from typing import Any

import torch

from attendgen.data.batch import pad, shift_targets
from attendgen.decoding.alternatives import find_alternatives, take_likeliest
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.protocol import DecodingFunction
from attendgen.inference.base import TrainedModel, generate_batches
from attendgen.inference.result import Result, make_results, score_forced, to_cpu

BATCH = 128  # source texts that are decoded together


class Translator(TrainedModel):
    """A trained sequence-to-sequence model."""

    def generate(self, text: str, alternatives: int = 0, **options: Any) -> list[Result]:
        """Return the outputs for one source text, best first.

        Args:
            alternatives: how many of the likeliest tokens at each step each result keeps; they cost one more pass over
                the outputs.
            options: those of `DecodingConfig`.

        Raises:
            UserError: the text is empty or has no known token, or an option is wrong.
        """
        return self.generate_all([text], alternatives, **options)[0]

    def encode_text(self, text: str) -> list[int]:
        """Return the ids of a source text.

        Raises:
            UserError: the text is empty or has no known token.
        """
        ids: list[int] = self.vocabulary.source.encode_known(text, "text")
        return ids

    def generate_all(self, texts: Sequence[str], alternatives: int = 0, **options: Any) -> list[list[Result]]:
        """Return the outputs for each of several texts, see `generate`; those of similar length are decoded together.

        Raises:
            UserError: a text is empty or has no known token, or an option is wrong.
        """
        decoding = self.make_decoding(options)
        sources = [self.encode_text(text) for text in texts]
        order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
        return generate_batches(
            sources, [order], BATCH, lambda batch: self._generate_batch(batch, decoding, alternatives)
        )

    @torch.inference_mode()
    def _generate_batch(
        self, sources: Sequence[list[int]], decoding: DecodingConfig | DecodingFunction, alternatives: int
    ) -> list[list[Result]]:
        memory, state = self.model.encode(self.pad_inputs(pad(sources)).to(self.device))
        suppressed = self.vocabulary.target.suppressed()
        decoded = to_cpu(decode(self.model, memory, state, decoding, suppressed, graphs=self.graphs))
        likeliest = find_alternatives(self.model, memory, state, decoded.tokens, alternatives, suppressed)
        tokens = self.vocabulary.source.tokens
        return [
            make_results(decoded, row, self.vocabulary.target, [tokens[i] for i in source], likeliest)
            for row, source in enumerate(sources)
        ]

    @torch.inference_mode()
    def score(self, text: str, reference: str, alternatives: int = 0) -> Result:
        """Score a given output: `score` is its log-probability, with that of <eos>.

        Args:
            alternatives: how many of the likeliest tokens at each step the result keeps.

        Raises:
            UserError: a text is empty or has no known token.
        """
        source = self.encode_text(text)
        inputs, outputs = shift_targets([self.vocabulary.target.encode_known(reference, "score")])
        logits, alphas = self.model(pad([source]).to(self.device), inputs.to(self.device))
        tokens = [self.vocabulary.source.tokens[i] for i in source]
        suppressed = self.vocabulary.target.suppressed()
        likeliest = take_likeliest(logits.log_softmax(-1).unsqueeze(1), alternatives, suppressed)
        return make_results(score_forced(logits, alphas, outputs), 0, self.vocabulary.target, tokens, likeliest)[0]

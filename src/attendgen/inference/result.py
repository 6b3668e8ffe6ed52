"""Outputs of a model as text, with scores and attention."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attendgen.data.batch import is_token
from attendgen.decoding.alternatives import Alternatives
from attendgen.decoding.attention_maps import spread_over_text
from attendgen.decoding.protocol import Decoded
from attendgen.text.protocol import VocabularyProtocol
from attendgen.visualization.regions import Regions

SHOWN = 60  # characters of a text in the short form


@dataclass(frozen=True, repr=False)
class Result:
    """One output.

    Attributes:
        text: the output as text.
        tokens: its tokens, with <eos> where it was emitted: one per row of `attention`.
        score: what outputs are ranked by: the sum of log-probabilities, after any penalties, or the expected
            similarity.
        log_probs: natural log-probability of each token [tokens].
        source: the tokens attended to; empty for an image.
        attention: the weights with which each token was predicted [tokens, source or regions].
        regions: where the regions lie in the image; None if it is not an image, or they have no place in it.
        context: the tokens that a continuation continues, as far as the model read them; empty for other outputs.
        alternatives: the likeliest tokens at each step with their log-probabilities, likeliest first; empty unless
            asked for.
        rows: the number of the row of each cell in `source`, from 1, if that is a table; empty if it is not.
    """

    text: str
    tokens: list[str]
    score: float
    log_probs: Float[np.ndarray, "tokens"]
    source: list[str]
    attention: Float[np.ndarray, "tokens source"]
    regions: Regions = None
    context: list[str] = field(default_factory=list)
    alternatives: list[dict[str, float]] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= SHOWN else f"{self.text[: SHOWN - 3]}..."
        return f"Result({text!r}, score={self.score:.4g}, {len(self.tokens)} tokens)"

    def to_dict(self) -> dict[str, Any]:
        """Return all fields but `regions` as plain data, arrays as lists."""
        plain = {name: value for name, value in vars(self).items() if name != "regions"}
        return {**plain, "log_probs": self.log_probs.tolist(), "attention": self.attention.tolist()}

    def to_json(self) -> str:
        """Return `to_dict` as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)


def to_cpu(decoded: Decoded) -> Decoded:
    """Return outputs on the CPU: a GPU is asked for all of them at once."""
    return Decoded(*(part.cpu() for part in decoded))


def make_results(
    decoded: Decoded,
    row: int,
    vocabulary: VocabularyProtocol,
    source: Sequence[str] = (),
    alternatives: Alternatives | None = None,
) -> list[Result]:
    """Return the n best outputs of one input.

    Args:
        source: the tokens attended to.
        alternatives: of all outputs.
    """
    found = []
    for n in range(decoded.tokens.size(1)):
        ids = decoded.tokens[row, n]
        mask = is_token(ids)
        if not mask.any() or decoded.scores[row, n] == -torch.inf:  # fewer than n were found
            continue
        attention = decoded.attention[row, n][mask].float().cpu().numpy()
        found.append(
            Result(
                vocabulary.decode(ids.tolist()),
                [vocabulary.tokens[i] for i in ids[mask].tolist()],
                float(decoded.scores[row, n]),
                decoded.log_probs[row, n][mask].float().cpu().numpy(),
                list(source),
                attention[:, : len(source)] if source else attention,
                alternatives=[] if alternatives is None else _spell(alternatives, (row, n), mask, vocabulary),
            )
        )
    return found


def _spell(
    alternatives: Alternatives, output: tuple[int, int], mask: Bool[Tensor, " length"], vocabulary: VocabularyProtocol
) -> list[dict[str, float]]:
    """Return the likeliest tokens at each step of one output."""
    ids, log_probs = (part[output][mask.to(part.device)].tolist() for part in alternatives)
    return [
        {vocabulary.tokens[i]: value for i, value in zip(*step, strict=True)}
        for step in zip(ids, log_probs, strict=True)
    ]


def spread_attention(result: Result, read: Sequence[str]) -> Result:
    """Return a continuation by a stateful model with its attention over the whole text, what was read and it itself.

    Args:
        read: the tokens before the continuation.
    """
    if not result.attention.size:  # the model does not attend
        return result
    weights = spread_over_text(torch.from_numpy(result.attention), len(read))
    return replace(result, source=[*read, *result.tokens], attention=weights.numpy())


def score_forced(
    logits: Float[Tensor, "batch time vocab"],
    alphas: Float[Tensor, "batch time source"],
    outputs: Int[Tensor, "batch time"],
) -> Decoded:
    """Return given outputs, with their log-probabilities, as if they had been decoded."""
    outputs = outputs.to(logits.device)
    log_probs = logits.float().log_softmax(dim=-1).gather(2, outputs.unsqueeze(-1)).squeeze(-1)
    log_probs = log_probs.masked_fill(~is_token(outputs), 0.0).unsqueeze(1)
    return Decoded(outputs.unsqueeze(1), log_probs.sum(dim=2), log_probs, alphas.unsqueeze(1))


def concat_parts(parts: Sequence[Decoded], first_attention_only: bool = False) -> Decoded:
    """Concatenate continuations that were decoded part by part.

    Args:
        first_attention_only: set the attention of all parts but the first to zero: they attended to something else.
    """
    tokens, log_probs = (torch.cat(part, dim=2) for part in zip(*((p.tokens, p.log_probs) for p in parts), strict=True))
    first = parts[0].attention
    rest = [
        first.new_zeros(*p.tokens.shape, first.size(-1)) if first_attention_only else p.attention for p in parts[1:]
    ]
    return Decoded(tokens, log_probs.sum(dim=2), log_probs, torch.cat([first, *rest], dim=2))

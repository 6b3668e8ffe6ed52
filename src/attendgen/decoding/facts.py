"""Choosing among hypotheses by the facts of the tables that they are about."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from attendgen.decoding.protocol import Decoded
from attendgen.decoding.waiting import send
from attendgen.layers.tables import Table
from attendgen.metrics.protocol import FactMetric, find_fact_metric

ABSENT = 10**9  # mistakes of an output that does not exist
NO_TABLES = "decoding.facts=true: only models that write about tables have facts to count; leave it out"


class FactCheck(NamedTuple):
    """Counts the mistakes of outputs about the tables of a batch.

    Attributes:
        metric: counts the mistakes of a text.
        tables: one per input.
        spell: returns the text of an output, given the number of its input in the batch and the output's ids.
    """

    metric: FactMetric
    tables: Sequence[Table]
    spell: Callable[[int, Sequence[int]], str]

    def count_mistakes(self, candidates: Decoded) -> Int[Tensor, "batch n"]:
        """Return the number of mistakes of each output."""
        exists: Bool[Tensor, "batch n 1"] = (candidates.scores != -torch.inf).unsqueeze(2)
        found = torch.cat([exists.long(), candidates.tokens], dim=2).tolist()  # one wait for a GPU
        counts = [
            [self.metric.count_mistakes(self.spell(row, ids), table) if real else ABSENT for real, *ids in outputs]
            for row, (outputs, table) in enumerate(zip(found, self.tables, strict=True))
        ]
        return send(counts, candidates.scores.device)


def make_fact_check(
    decoding: Any,
    get_metrics: Callable[[], Sequence[Any]],
    get_tables: Callable[[], Sequence[Table]],
    spell: Callable[[int, Sequence[int]], str],
) -> FactCheck | None:
    """Return what `decode` needs for `decoding.facts=true`; None if the decoding does not ask for it.

    Args:
        get_metrics: returns metrics, of which the first one that counts facts is used; only called if it is needed.
        get_tables: returns one table per input; only called if they are needed.
        spell: see `FactCheck`.

    Raises:
        UserError: no metric counts facts.
    """
    if not getattr(decoding, "facts", False):
        return None
    return FactCheck(find_fact_metric(get_metrics()), get_tables(), spell)


def rerank_by_facts(candidates: Decoded, check: FactCheck, n_best: int) -> Decoded:
    """Return the `n_best` candidates of each input with the fewest mistakes; among equals, those with the best scores.

    This is how TGen chooses (Dusek and Jurcicek 2016, section 4.2), with counted facts in place of a classifier.
    """
    by_score = candidates.scores.argsort(dim=1, descending=True, stable=True)
    mistakes = check.count_mistakes(candidates).gather(1, by_score)
    order = by_score.gather(1, mistakes.argsort(dim=1, stable=True))[:, :n_best]
    batch = torch.arange(len(order), device=order.device).unsqueeze(1)
    return Decoded(*(part[batch, order] for part in candidates))

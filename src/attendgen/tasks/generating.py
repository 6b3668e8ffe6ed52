"""The base of tasks whose validation decodes texts and compares them with references."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from attendgen.data.batch import is_token
from attendgen.data.module import BaseDataModule
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.protocol import DecodingFunction
from attendgen.layers.graphs import MULTIPLE
from attendgen.layers.tables import Table
from attendgen.metrics.bits_per_token import perplexity
from attendgen.metrics.protocol import (
    AnyMetric,
    SignedMetric,
    require_metrics,
    score_texts,
    score_texts_slowly,
)
from attendgen.optim.build import MakeOptimizer, Schedule
from attendgen.tasks.base import BaseTask
from attendgen.tasks.graphs import pad_to_multiple
from attendgen.text.protocol import VocabularyProtocol
from attendgen.text.vocabulary import Vocabulary, VocabularyKind
from attendgen.utils.processes import gather_outputs

UNKNOWN = "unknown_tokens"  # the score that is the share of target tokens that the vocabulary lacks


class GeneratingTask(BaseTask[VocabularyKind]):
    """A task that decodes an output for each example of a validation.

    A subclass defines `generate` and `output_vocabulary`, `predict` and `loss_terms`.

    Args:
        metrics: compare the outputs with their references; the scores of all of them are logged. The family's own
            unless given.

    Raises:
        UserError: a metric cannot be called.

    Attributes:
        default_metrics: makes the metrics of the family.
        shown: names of the scores that the progress bar shows.
        texts: outputs of the current validation, by the index of their example.
    """

    decodes = True
    default_metrics: ClassVar[tuple[type[AnyMetric], ...]]
    shown: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        model: torch.nn.Module,
        vocabulary: VocabularyKind,
        optimizer: MakeOptimizer,
        schedule: Schedule,
        decoding: DecodingConfig | DecodingFunction,
        metrics: Sequence[Any] | None = None,
    ) -> None:
        own: Any = vocabulary  # mypy would check each kind of vocabulary against all of them
        super().__init__(model, own, optimizer, schedule, decoding)
        self.metrics = [kind() for kind in self.default_metrics] if metrics is None else require_metrics(metrics)
        self.texts: dict[int, str] = {}

    @property
    def packages(self) -> Mapping[str, str]:
        """Modules that the metrics need, with the extra of AttendGen that installs each."""
        needed: dict[str, str] = {}
        for metric in self.metrics:
            needed |= getattr(metric, "packages", {})
        return needed

    @property
    def output_vocabulary(self) -> VocabularyProtocol:
        """The vocabulary of the outputs."""
        raise NotImplementedError

    def pad_inputs(self, batch: Any) -> Any:  # noqa: ANN401  # the batches of a subclass
        """Return a batch to decode, padded to one of few lengths if decoding steps are recorded."""
        return batch if self.decoding_graphs is None else pad_to_multiple(batch, MULTIPLE)

    def list_sources(self, batch: Any) -> list[list[str]]:  # noqa: ANN401  # the batches of a subclass
        """Return the tokens that each output of a batch attends to; none if it attends to an image."""
        return [[] for _ in batch.index]

    def restore(self, index: int, text: str) -> str:
        """Return an output with what the data had replaced in the example by placeholders, by the example's index."""
        return text

    def get_references(self, data: BaseDataModule[Any]) -> Mapping[int, Sequence[str]]:
        """Return the texts that an example's output is compared with in the split that is validated, by its index."""
        return data.references(data.eval_split)

    def get_tables(self, data: BaseDataModule[Any]) -> Mapping[int, Table] | None:
        """Return the tables of the split that is validated, by the index of their example; None if it has none."""
        return None

    def sign_scores(self) -> dict[str, str]:
        """Return the signatures of the scores of the metrics that have one."""
        references = self.get_references(self.data)
        chosen = [references[index] for index in self.texts]
        signs = [metric.sign(chosen) for metric in self.metrics if isinstance(metric, SignedMetric)]
        return {name: text for signatures in signs for name, text in signatures.items()}

    def score_slowly(self) -> dict[str, float]:
        """Return the scores of metrics by programs that may fail, as METEOR's."""
        references = self.get_references(self.data)
        return score_texts_slowly(self.metrics, list(self.texts.values()), [references[index] for index in self.texts])

    def score_outputs(self) -> dict[str, float]:
        """Return a bound of the perplexity if targets have unknown tokens.

        The perplexity charges an unknown token only for being unknown. The bound also charges for spelling it in UTF-8,
        with eight bits per byte and for its end.
        """
        vocabulary = self.output_vocabulary
        if not isinstance(vocabulary, Vocabulary) or vocabulary.unknown is None:
            return {}
        references = self.get_references(self.data)
        tokens = [vocabulary.split(text) for index in self.texts for text in references[index]]
        unknown = [token for line in tokens for token in line if token not in vocabulary.ids]
        if not unknown:
            return {}
        spelled = sum(8 * (len(token.encode()) + 1) for token in unknown)
        bits = self.cross_entropy / math.log(2) + spelled / sum(len(line) + 1 for line in tokens)
        return {"perplexity_bound": perplexity(bits)}

    def export_outputs(self) -> list[str] | list[dict[str, Any]]:
        """Return the texts of the last validation, each as one line."""
        return [self.texts[index].replace("\n", " ") for index in sorted(self.texts)]

    def on_validation_epoch_start(self) -> None:
        """Forget the outputs of the last validation."""
        super().on_validation_epoch_start()
        self.texts = {}

    def validation_step(self, batch: Any, batch_index: int) -> None:  # noqa: ANN401  # the batches of a subclass
        """Measure the cross-entropy, and decode."""
        super().validation_step(batch, batch_index)
        if self.output_vocabulary.unknown is not None:
            unknown, tokens = batch.outputs == self.output_vocabulary.unknown, is_token(batch.outputs)
            before, number = self.means.get(UNKNOWN, (0.0, 0.0))
            found, counted = torch.stack([unknown.sum(), tokens.sum()]).tolist()  # one wait for a GPU
            self.means[UNKNOWN] = (before + found, number + counted)
        decoded = self.generate(batch)
        for observe in self.observers:
            observe(batch, decoded)
        for index, tokens in zip(batch.index.tolist(), decoded.tokens[:, 0].tolist(), strict=True):
            self.texts[index] = self.restore(index, self.output_vocabulary.decode(tokens))

    def on_validation_epoch_end(self) -> None:
        """Score all processes' outputs, each counted once.

        Raises:
            UserError: a metric does not return scores by name, or two of them use the same name.
        """
        self.texts = gather_outputs(self.texts)
        references = self.get_references(self.data)
        tables = self.get_tables(self.data)
        scores = score_texts(
            self.metrics,
            list(self.texts.values()),
            [references[index] for index in self.texts],
            None if tables is None else [tables[index] for index in self.texts],
        )
        self.log_scores({**scores, **self.compute_cross_entropy(), **self.compute_means()}, self.shown)

"""Training and scoring a sequence-to-sequence model."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from attendgen.data.batch import PairBatch
from attendgen.data.module import BaseDataModule
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.protocol import Decoded, DecodingFunction
from attendgen.losses.cross_entropy import masked_cross_entropy
from attendgen.metrics.protocol import Metric
from attendgen.metrics.text import PairScores
from attendgen.optim.build import MakeOptimizer, Schedule
from attendgen.tasks.base import LossTerm, Predictions, require_fraction
from attendgen.tasks.generating import GeneratingTask
from attendgen.text.protocol import VocabularyProtocol
from attendgen.text.vocabulary import PairVocabulary
from attendgen.utils.special_tokens import PAD


class Seq2SeqTask(GeneratingTask[PairVocabulary]):
    """Cross-entropy by teacher forcing; validation decodes and compares with the raw targets.

    Args:
        label_smoothing: of the training loss.
        metrics: see `GeneratingTask`.
        tokenize: of the default metrics, see `attendgen.metrics.Bleu`.

    Raises:
        UserError: the label smoothing is not from 0 to below 1.
    """

    family = "seq2seq"
    monitor = ("val/bleu", "max")
    default_metrics: ClassVar[tuple[type[Metric], ...]] = (PairScores,)
    shown = ("exact_match", "bleu")

    def __init__(
        self,
        model: nn.Module,
        vocabulary: PairVocabulary,
        optimizer: MakeOptimizer,
        schedule: Schedule,
        decoding: DecodingConfig | DecodingFunction,
        label_smoothing: float = 0.0,
        metrics: Sequence[Any] | None = None,
        tokenize: str = "auto",
    ) -> None:
        if metrics is None and self.default_metrics == (PairScores,):
            metrics = [PairScores(tokenize)]
        super().__init__(model, vocabulary, optimizer, schedule, decoding, metrics)
        require_fraction("task.label_smoothing", label_smoothing)
        self.label_smoothing = label_smoothing

    @property
    def output_vocabulary(self) -> VocabularyProtocol:
        """The vocabulary of the targets."""
        return self.vocabulary.target

    def predict(self, batch: PairBatch) -> Predictions:
        """Return logits of each target token, and the attention over the source."""
        return Predictions(*self.model(batch.source, batch.inputs))

    def loss_terms(self, batch: PairBatch, predictions: Predictions) -> dict[str, LossTerm]:
        """Return the mean cross-entropy per target token of the step."""
        nll, _ = masked_cross_entropy(predictions.logits, batch.outputs, self.label_smoothing)
        return {"cross_entropy": LossTerm(nll / self.loss_denominators(batch).tokens)}

    def generate(self, batch: PairBatch) -> Decoded:
        """Decode outputs for a batch's sources."""
        memory, state = self.model.encode(self.pad_inputs(batch).source)
        suppressed = self.vocabulary.target.suppressed()
        examples, graphs = batch.index.tolist(), self.decoding_graphs
        decoded = decode(self.model, memory, state, self.decoding, suppressed, examples, graphs=graphs)
        return decoded.cut_source(batch.source.size(1))

    def list_sources(self, batch: PairBatch) -> list[list[str]]:
        """Return the tokens of each source."""
        tokens = self.vocabulary.source.tokens
        return [[tokens[i] for i in source if i != PAD] for source in batch.source.tolist()]

    def get_references(self, data: BaseDataModule[Any]) -> Mapping[int, Sequence[str]]:
        """Return the targets as the vocabulary can spell them: the normalizer "letters" has no accents."""
        target = self.vocabulary.target
        spell: Any = getattr(target, "spell", target.normalize)  # a vocabulary of the user's own may lack it
        references = super().get_references(data)
        return {index: [spell(text) for text in texts] for index, texts in references.items()}

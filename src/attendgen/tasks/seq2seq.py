"""Training and scoring a sequence-to-sequence model."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from attendgen.data.batch import PairBatch
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.protocol import Decoded, DecodingFunction
from attendgen.losses.cross_entropy import masked_cross_entropy
from attendgen.metrics.text import score_pairs
from attendgen.models.ensemble import Ensemble
from attendgen.models.seq2seq import Seq2Seq
from attendgen.optim.build import MakeOptimizer, Schedule
from attendgen.tasks.base import BaseTask, gather_outputs, require_fraction
from attendgen.text.vocabulary import PairVocabulary


class Seq2SeqTask(BaseTask[PairVocabulary]):
    """Cross-entropy by teacher forcing; validation decodes and compares with the raw targets.

    Args:
        label_smoothing: of the training loss.

    Raises:
        UserError: the label smoothing is not from 0 to below 1.
    """

    family = "seq2seq"
    monitor = ("val/bleu", "max")
    packages: ClassVar[Mapping[str, str]] = {"sacrebleu": "translation"}

    def __init__(
        self,
        model: Seq2Seq | Ensemble,
        vocabulary: PairVocabulary,
        optimizer: MakeOptimizer,
        schedule: Schedule,
        decoding: DecodingConfig | DecodingFunction,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(model, vocabulary, optimizer, schedule, decoding)
        require_fraction("task.label_smoothing", label_smoothing)
        self.label_smoothing = label_smoothing
        self.texts: dict[int, str] = {}  # decoded in the current validation, by the pair's index

    def training_step(self, batch: PairBatch, batch_index: int) -> Tensor:
        """Return the mean cross-entropy per target token of the step."""
        logits, _ = self.model(batch.source, batch.inputs)
        nll, _ = masked_cross_entropy(logits, batch.outputs, self.label_smoothing)
        loss = nll / self.loss_denominators(batch).tokens
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def nll(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """Return the summed negative log-likelihood of a batch's targets, and their number of tokens."""
        logits, _ = self.model(batch.source, batch.inputs)
        return masked_cross_entropy(logits, batch.outputs)

    def generate(self, batch: PairBatch) -> Decoded:
        """Decode outputs for a batch's sources."""
        memory, state = self.model.encode(batch.source)
        suppressed = self.vocabulary.target.suppressed()
        return decode(self.model, memory, state, self.decoding, suppressed, batch.index.tolist())

    def on_validation_epoch_start(self) -> None:
        """Forget the outputs of the last validation."""
        self.texts = {}

    def validation_step(self, batch: PairBatch, batch_index: int) -> None:
        """Measure the cross-entropy and decode."""
        self.bits.update(*self.nll(batch))
        for index, tokens in zip(batch.index.tolist(), self.generate(batch).tokens[:, 0].tolist(), strict=True):
            self.texts[index] = self.vocabulary.target.decode(tokens)

    def on_validation_epoch_end(self) -> None:
        """Score all processes' outputs, each counted once."""
        self.texts = gather_outputs(self.texts)
        references = self.data.references(self.data.eval_split)
        # targets as the vocabulary can spell them: the normalizer "letters" has no accents
        normalize: Any = self.vocabulary.target.normalize
        accepted = [[normalize(text) for text in references[index]] for index in self.texts]
        scores = {**score_pairs(list(self.texts.values()), accepted), **self.compute_cross_entropy()}
        self.log_scores(scores, shown=("exact_match", "bleu"))

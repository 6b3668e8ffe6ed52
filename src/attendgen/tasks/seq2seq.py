"""Training and scoring a sequence-to-sequence model."""

import math

import lightning
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from attendgen.data.batch import PairBatch
from attendgen.decoding.protocol import Decoded, SearchFunction
from attendgen.losses.cross_entropy import masked_cross_entropy
from attendgen.metrics.bits import BitsPerSymbol, perplexity
from attendgen.metrics.text import pair_scores
from attendgen.models.ensemble import Ensemble
from attendgen.models.seq2seq import Seq2Seq
from attendgen.tasks.optimisation import Optimiser, Schedule, configure, gather, shares
from attendgen.vocabulary import PairVocabulary


class Seq2SeqTask(lightning.LightningModule):
    """Cross-entropy by teacher forcing; validation decodes and compares with the raw targets.

    Args:
        smoothing: label smoothing of the training loss.
        search: how validation decodes.
    """

    def __init__(
        self,
        model: Seq2Seq | Ensemble,
        vocabulary: PairVocabulary,
        optimiser: Optimiser,
        schedule: Schedule,
        search: SearchFunction,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.vocabulary = vocabulary
        self.optimiser = optimiser
        self.schedule = schedule
        self.search = search
        self.smoothing = smoothing
        self.texts: dict[int, str] = {}  # decoded in the current validation, by the pair's index
        self.bits = BitsPerSymbol()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return configure(self, self.optimiser, self.schedule)

    def training_step(self, batch: PairBatch, batch_index: int) -> Tensor:
        logits, _ = self.model(batch.source, batch.inputs)
        nats, _ = masked_cross_entropy(logits, batch.outputs, self.smoothing)
        loss = nats / shares(self, batch).symbols
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        self.texts = {}

    def decode(self, batch: PairBatch) -> Decoded:
        """Outputs for a batch's sources."""
        memory, state = self.model.start(batch.source)
        return self.search(self.model, memory, state, self.vocabulary.target.forbidden)

    def nats(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy of a batch's targets, and how many symbols they have."""
        logits, _ = self.model(batch.source, batch.inputs)
        return masked_cross_entropy(logits, batch.outputs)

    def validation_step(self, batch: PairBatch, batch_index: int) -> None:
        self.bits.update(*self.nats(batch))
        for index, tokens in zip(batch.index.tolist(), self.decode(batch).tokens[:, 0].tolist(), strict=True):
            self.texts[index] = self.vocabulary.target.decode(tokens)

    def on_validation_epoch_end(self) -> None:
        """Score all processes' outputs, each counted once."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        split = data.eval_split
        self.texts = gather(self.texts)
        references = data.references(split)
        # targets as the vocabulary can write them: `normalise: letters` cannot write an accent
        target = self.vocabulary.target
        accepted = [[target.normalised(text) for text in references[index]] for index in self.texts]
        scores = pair_scores(list(self.texts.values()), accepted)
        bits = float(self.bits.compute())
        self.bits.reset()
        scores |= {"cross_entropy": bits * math.log(2), "perplexity": perplexity(bits)}
        for name, value in scores.items():
            self.log(f"{split}/{name}", float(value), prog_bar=name in ("exact_match", "bleu"))

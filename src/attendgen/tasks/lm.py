"""Training and scoring a character language model."""

import lightning
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from attendgen.data.batch import WindowBatch
from attendgen.decoding.search import Search
from attendgen.losses.cross_entropy import masked_cross_entropy
from attendgen.metrics.bits import BitsPerSymbol, perplexity
from attendgen.models.lm import ContextLM
from attendgen.tasks.optimisation import Optimiser, Schedule, configure, shares
from attendgen.vocabulary import EOS, Vocabulary


class LanguageModelTask(lightning.LightningModule):
    """Cross-entropy by teacher forcing; validation measures bits a character, every character once.

    Args:
        search: how samples are drawn during training.
    """

    def __init__(
        self, model: ContextLM, vocabulary: Vocabulary, optimiser: Optimiser, schedule: Schedule, search: Search
    ) -> None:
        super().__init__()
        self.model = model
        self.vocabulary = vocabulary
        self.optimiser = optimiser
        self.schedule = schedule
        self.search = search
        self.bits = BitsPerSymbol()

    @property
    def forbidden(self) -> tuple[int, ...]:
        """Ids that no output may hold; texts do not end."""
        return (*self.vocabulary.forbidden, EOS)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return configure(self.model, self.optimiser, self.schedule)

    def training_step(self, batch: WindowBatch, batch_index: int) -> Tensor:
        logits, _ = self.model(batch.context, batch.inputs)
        nats, _ = masked_cross_entropy(logits, batch.outputs)
        loss = nats / shares(self, batch).symbols
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def validation_step(self, batch: WindowBatch, batch_index: int) -> None:
        logits, _ = self.model(batch.context, batch.inputs)
        self.bits.update(*masked_cross_entropy(logits, batch.outputs))

    def on_validation_epoch_end(self) -> None:
        """Log bits and perplexity a character over all processes' windows."""
        split = self.trainer.datamodule.eval_split  # type: ignore[attr-defined]
        bits = self.bits.compute()
        self.bits.reset()
        self.log(f"{split}/bits_per_character", bits, prog_bar=True)
        self.log(f"{split}/perplexity", perplexity(float(bits)))

"""Training and scoring a character language model."""

from typing import Any

import lightning
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from attendgen.data.batch import StreamBatch, WindowBatch
from attendgen.decoding.protocol import Reader, SearchFunction
from attendgen.errors import UserError
from attendgen.losses.cross_entropy import masked_cross_entropy
from attendgen.metrics.bits import BitsPerSymbol, perplexity
from attendgen.models.carried_lm import CarriedContextLM
from attendgen.models.causal_lm import CausalLM
from attendgen.models.ensemble import Ensemble
from attendgen.models.lm import ContextLM
from attendgen.models.textgenerate import TextGenerateLM
from attendgen.tasks.optimisation import Optimiser, Schedule, configure, gather, shares
from attendgen.vocabulary import EOS, Vocabulary

LanguageModel = ContextLM | CausalLM | TextGenerateLM | Ensemble


class Carried:
    """The state that each row of a stream hands on from batch to batch, cut off from the gradient."""

    def __init__(self) -> None:
        self.state: Any = None

    def read(self, model: Reader, batch: StreamBatch) -> Float[Tensor, "batch time symbols"]:
        """Logits of a batch's pieces, read on from the pieces before; fresh rows, and all at first, start blank."""
        blank = model.blank(len(batch.fresh))
        state = blank if self.state is None or len(self.state[0]) != len(blank[0]) else self.state
        rows = [batch.fresh.view(-1, *[1] * (part.ndim - 1)) for part in blank]
        parts = (new.where(anew, old.to(new.device)) for new, anew, old in zip(blank, rows, state, strict=True))
        logits, _, state = model.read(batch.inputs, type(blank)(*parts))
        self.state = type(blank)(*(part.detach().to(new.dtype) for part, new in zip(state, blank, strict=True)))
        return logits


class LanguageModelTask(lightning.LightningModule):
    """Cross-entropy by teacher forcing; validation measures bits a character, every character once.

    Args:
        search: how samples are drawn during training.
    """

    def __init__(
        self,
        model: LanguageModel,
        vocabulary: Vocabulary,
        optimiser: Optimiser,
        schedule: Schedule,
        search: SearchFunction,
    ) -> None:
        super().__init__()
        self.model = model
        self.vocabulary = vocabulary
        self.optimiser = optimiser
        self.schedule = schedule
        self.search = search
        self.bits = BitsPerSymbol()
        self.carried = {"train": Carried(), "validate": Carried()}  # a validation within an epoch disturbs nothing

    @property
    def forbidden(self) -> tuple[int, ...]:
        """Ids that no output may hold; texts do not end."""
        return (*self.vocabulary.forbidden, EOS)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return configure(self, self.optimiser, self.schedule)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = self.carried["train"].state
        if state is not None:  # a run that goes on within an epoch reads on where each process was
            checkpoint["carried"] = gather({self.global_rank: list(state)})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.carried["train"].state = checkpoint.get("carried", {}).get(self.global_rank)

    def logits(self, batch: WindowBatch | StreamBatch, stage: str) -> Float[Tensor, "batch time symbols"]:
        """Logits of each next character given the true ones before it.

        Raises:
            UserError: the data are streams, but the model reads windows; or the other way round.
        """
        if isinstance(batch, WindowBatch):
            if isinstance(self.model, CarriedContextLM):
                raise UserError("data.streams=false: this model reads on; use data.streams=true or model=lm_context")
            return self.model(batch.context, batch.inputs)[0]
        if not isinstance(self.model, Reader):
            raise UserError(
                "data.streams=true: this model reads windows; use model=lm_context_carried or data.streams=false"
            )
        return self.carried[stage].read(self.model, batch)

    def training_step(self, batch: WindowBatch | StreamBatch, batch_index: int) -> Tensor:
        nats, _ = masked_cross_entropy(self.logits(batch, "train"), batch.outputs)
        loss = nats / shares(self, batch).symbols
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def nats(self, batch: WindowBatch | StreamBatch) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy of a batch of a validation, and of how many characters; streams come in order."""
        return masked_cross_entropy(self.logits(batch, "validate"), batch.outputs)

    def validation_step(self, batch: WindowBatch | StreamBatch, batch_index: int) -> None:
        self.bits.update(*self.nats(batch))

    def on_validation_epoch_end(self) -> None:
        """Log bits and perplexity a character over all processes' windows."""
        split = self.trainer.datamodule.eval_split  # type: ignore[attr-defined]
        bits = self.bits.compute()
        self.bits.reset()
        self.log(f"{split}/bits_per_character", bits, prog_bar=True)
        self.log(f"{split}/perplexity", perplexity(float(bits)))

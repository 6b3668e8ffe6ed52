"""Training and scoring a captioner with soft attention."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from attendgen.data.batch import CaptionBatch, is_token
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.protocol import Decoded, DecodingFunction
from attendgen.losses.cross_entropy import cross_entropy_per_caption, doubly_stochastic, masked_cross_entropy
from attendgen.metrics.captions import score_captions
from attendgen.models.captioner import Captioner
from attendgen.models.ensemble import CaptionerEnsemble
from attendgen.optim.build import MakeOptimizer, Schedule, build_optimizer
from attendgen.tasks.base import BaseTask, gather_outputs, require_fraction
from attendgen.text.pretrained_embeddings import PretrainedEmbeddings
from attendgen.text.vocabulary import Vocabulary
from attendgen.utils.errors import UserError

REDUCTIONS = ("per_token", "per_caption")


class CaptioningTask(BaseTask[Vocabulary]):
    """Cross-entropy plus the doubly stochastic penalty; validation decodes and scores against the raw references.

    Args:
        doubly_stochastic_weight: of the doubly stochastic penalty. Equation 14 of Xu et al. (2015) adds lambda times
            the penalty to the nats of a caption; here the weight is added to nats per word, so lambda = 1 is a weight
            of 1 / (words per caption), about 0.085 for Flickr8k.
        label_smoothing: of the training loss.
        loss_reduction: "per_token" averages the training loss over words; "per_caption" over captions, which then have
            the same weight, so that the model writes shorter ones.
        pretrained_embeddings: word embeddings with which training begins.
        encoder_lr: learning rate of an encoder that is trained; the optimizer's unless given.

    Raises:
        UserError: there is no such reduction, or the label smoothing is not from 0 to below 1.
    """

    family = "captioner"
    monitor = ("val/cider", "max")
    packages: ClassVar[Mapping[str, str]] = {"pycocoevalcap": "captions"}

    def __init__(
        self,
        model: Captioner | CaptionerEnsemble,
        vocabulary: Vocabulary,
        optimizer: MakeOptimizer,
        schedule: Schedule,
        decoding: DecodingConfig | DecodingFunction,
        doubly_stochastic_weight: float = 1.0,
        label_smoothing: float = 0.0,
        loss_reduction: str = "per_token",
        pretrained_embeddings: PretrainedEmbeddings | None = None,
        encoder_lr: float | None = None,
    ) -> None:
        super().__init__(model, vocabulary, optimizer, schedule, decoding)
        if loss_reduction not in REDUCTIONS:
            raise UserError(f"task.loss_reduction={loss_reduction}: unknown; choose {' or '.join(REDUCTIONS)}")
        self.doubly_stochastic_weight = doubly_stochastic_weight
        require_fraction("task.label_smoothing", label_smoothing)
        self.label_smoothing = label_smoothing
        self.loss_reduction = loss_reduction
        self.pretrained_embeddings = pretrained_embeddings
        self.encoder_lr = encoder_lr
        self.retriever: Any = None  # finds captions of similar training images
        self.captions: dict[int, str] = {}  # decoded in the current validation, by the image's index

    @property
    def captioner(self) -> Captioner:
        """The model, if it is one that can be trained.

        Raises:
            UserError: it is an ensemble.
        """
        if not isinstance(self.model, Captioner):
            raise UserError("model: an ensemble; train its members one by one")
        return self.model

    def setup(self, stage: str) -> None:
        """Initialize the word embeddings, before a checkpoint's weights are restored."""
        if stage == "fit" and self.pretrained_embeddings is not None:
            self.pretrained_embeddings.initialize(self.captioner.embedding, self.vocabulary)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer, with a learning rate of its own for the encoder if there is one."""
        if self.encoder_lr is None:
            return super().configure_optimizers()
        encoder = self.model.encoder
        if encoder.frozen:
            lr = self.encoder_lr
            raise UserError(f"task.encoder_lr={lr}: the encoder is frozen; set model.encoder.unfreeze_stages=N")
        return build_optimizer(  # type: ignore[return-value]
            self, self.optimizer, self.schedule, encoder, self.encoder_lr
        )

    def training_step(self, batch: CaptionBatch, batch_index: int) -> Tensor:
        """Return the cross-entropy with soft attention and the doubly stochastic penalty (4.2)."""
        logits, alphas = self.model(batch.images, batch.inputs)
        totals = self.loss_denominators(batch)
        if self.loss_reduction == "per_caption":
            loss = cross_entropy_per_caption(logits, batch.outputs, self.label_smoothing)[0] / totals.sequences
        else:
            loss = masked_cross_entropy(logits, batch.outputs, self.label_smoothing)[0] / totals.tokens
        self.log("train/cross_entropy", loss, sync_dist=True)
        penalty = doubly_stochastic(alphas, is_token(batch.outputs)).sum() / totals.sequences
        loss = loss + self.doubly_stochastic_weight * penalty
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        self.log("train/doubly_stochastic", penalty, sync_dist=True)
        return loss

    def nll(self, batch: CaptionBatch) -> tuple[Tensor, Tensor]:
        """Return the summed negative log-likelihood of a batch's captions, and their number of words."""
        logits, _ = self.model(batch.images, batch.inputs)
        return masked_cross_entropy(logits, batch.outputs)

    @torch.no_grad()
    def generate(self, batch: CaptionBatch) -> Decoded:
        """Decode captions of a batch's images."""
        features = self.model.encode_images(batch.images)
        retrieved = None if self.retriever is None else self.retriever(features)
        memory, state = self.model.encode(features)
        suppressed = self.vocabulary.suppressed()
        return decode(self.model, memory, state, self.decoding, suppressed, batch.index.tolist(), retrieved)

    def on_validation_epoch_start(self) -> None:
        """Forget the captions of the last validation, and open the retrieval of captions if it is used."""
        self.captions = {}
        number = getattr(self.decoding, "retrieval_captions", 0)
        if number and self.retriever is None:
            self.retriever = self.data.nearest_captions(number)

    def validation_step(self, batch: CaptionBatch, batch_index: int) -> None:
        """Measure the cross-entropy and decode; an image is encoded once for both."""
        batch = batch._replace(images=self.model.encode_images(batch.images))
        self.bits.update(*self.nll(batch))
        decoded = self.generate(batch)
        for index, tokens in zip(batch.index.tolist(), decoded.tokens[:, 0].tolist(), strict=True):
            self.captions[index] = self.vocabulary.decode(tokens)

    def on_validation_epoch_end(self) -> None:
        """Score all processes' captions, each counted once."""
        self.captions = gather_outputs(self.captions)
        references = self.data.references(self.data.eval_split)
        references = {index: references[index] for index in self.captions}
        exact = sum(caption in references[index] for index, caption in self.captions.items()) / len(self.captions)
        scores = {
            **self.compute_cross_entropy(),
            "exact_match": exact,
            **score_captions(self.captions, references),
        }
        self.log_scores(scores, shown=("bleu4", "cider"))

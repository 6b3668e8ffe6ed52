"""Training and scoring a captioner with soft attention."""

import contextlib
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn

from attendgen.data.batch import CaptionBatch, is_token
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.decode import decode
from attendgen.decoding.protocol import Decoded, DecodingFunction
from attendgen.losses.cross_entropy import cross_entropy_per_caption, doubly_stochastic, masked_cross_entropy
from attendgen.metrics.captions import CaptionScores
from attendgen.metrics.protocol import Metric
from attendgen.metrics.tokenization import tokenize
from attendgen.optim.build import MakeOptimizer, Schedule, build_optimizer
from attendgen.tasks.base import LossTerm, Predictions, require_fraction, require_parts
from attendgen.tasks.generating import GeneratingTask
from attendgen.text.pretrained_embeddings import PretrainedEmbeddings
from attendgen.text.protocol import VocabularyProtocol
from attendgen.utils.errors import UserError

REDUCTIONS = ("per_token", "per_caption")


class CaptioningTask(GeneratingTask[VocabularyProtocol]):
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
        metrics: see `GeneratingTask`.

    Raises:
        UserError: the model reads no images, there is no such reduction, or the label smoothing is not from 0 to below
            1.
    """

    family = "captioner"
    monitor = ("val/cider", "max")
    default_metrics: ClassVar[tuple[type[Metric], ...]] = (CaptionScores,)
    shown = ("bleu4", "cider")

    def __init__(
        self,
        model: nn.Module,
        vocabulary: VocabularyProtocol,
        optimizer: MakeOptimizer,
        schedule: Schedule,
        decoding: DecodingConfig | DecodingFunction,
        doubly_stochastic_weight: float = 1.0,
        label_smoothing: float = 0.0,
        loss_reduction: str = "per_token",
        pretrained_embeddings: PretrainedEmbeddings | None = None,
        encoder_lr: float | None = None,
        metrics: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(model, vocabulary, optimizer, schedule, decoding, metrics)
        require_parts(model, "captioning", "encode_images")
        if loss_reduction not in REDUCTIONS:
            raise UserError(f"task.loss_reduction={loss_reduction}: unknown; choose {' or '.join(REDUCTIONS)}")
        self.doubly_stochastic_weight = doubly_stochastic_weight
        require_fraction("task.label_smoothing", label_smoothing)
        self.label_smoothing = label_smoothing
        self.loss_reduction = loss_reduction
        self.pretrained_embeddings = pretrained_embeddings
        self.encoder_lr = encoder_lr
        self.retriever: Any = None  # finds captions of similar training images

    @property
    def output_vocabulary(self) -> VocabularyProtocol:
        """The vocabulary of the captions."""
        return self.vocabulary

    def setup(self, stage: str) -> None:
        """Initialize the word embeddings, before a checkpoint's weights are restored.

        Raises:
            UserError: the model has none.
        """
        if stage == "fit" and self.pretrained_embeddings is not None:
            require_parts(self.model, "task.pretrained_embeddings", "embedding")
            self.pretrained_embeddings.initialize(self.model.embedding, self.vocabulary)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer, with a learning rate of its own for the encoder if there is one."""
        if self.encoder_lr is None:
            return super().configure_optimizers()
        require_parts(self.model, "task.encoder_lr", "encoder")
        encoder = self.model.encoder
        if getattr(encoder, "frozen", False):
            lr = self.encoder_lr
            raise UserError(f"task.encoder_lr={lr}: the encoder is frozen; set model.encoder.unfreeze_stages=N")
        return build_optimizer(  # type: ignore[return-value]
            self, self.optimizer, self.schedule, encoder, self.encoder_lr
        )

    def predict(self, batch: CaptionBatch) -> Predictions:
        """Return logits of each word, and the attention over the regions."""
        return Predictions(*self.model(batch.images, batch.inputs))

    def loss_terms(self, batch: CaptionBatch, predictions: Predictions) -> dict[str, LossTerm]:
        """Return the cross-entropy with soft attention and the doubly stochastic penalty (4.2)."""
        totals = self.loss_denominators(batch)
        logits, alphas = predictions
        if self.loss_reduction == "per_caption":
            nll = cross_entropy_per_caption(logits, batch.outputs, self.label_smoothing)[0] / totals.sequences
        else:
            nll = masked_cross_entropy(logits, batch.outputs, self.label_smoothing)[0] / totals.tokens
        penalty = doubly_stochastic(alphas, is_token(batch.outputs)).sum() / totals.sequences
        return {
            "cross_entropy": LossTerm(nll),
            "doubly_stochastic": LossTerm(penalty, self.doubly_stochastic_weight),
        }

    @torch.no_grad()
    def generate(self, batch: CaptionBatch) -> Decoded:
        """Decode captions of a batch's images."""
        features = self.model.encode_images(batch.images)
        retrieved = None if self.retriever is None else self.retriever(features)
        memory, state = self.model.encode(features)
        suppressed = self.vocabulary.suppressed()
        examples, graphs = batch.index.tolist(), self.decoding_graphs
        return decode(self.model, memory, state, self.decoding, suppressed, examples, retrieved, graphs=graphs)

    def export_outputs(self) -> list[str] | list[dict[str, Any]]:
        """Return the captions of the last validation in the COCO results format."""
        names = self.data.inputs(self.data.eval_split)
        return [{"image_id": names[index], "caption": self.texts[index]} for index in sorted(self.texts)]

    def score_outputs(self) -> dict[str, float]:
        """Return the share of captions that occur word for word in the training set, if that is there."""
        with contextlib.suppress(UserError):  # the training captions may be missing
            train = {tokenize(text) for texts in self.data.references("train").values() for text in texts}
            seen = sum(tokenize(text) in train for text in self.texts.values()) / len(self.texts)
            return {**super().score_outputs(), "seen_in_training": seen}
        return super().score_outputs()

    def on_validation_epoch_start(self) -> None:
        """Forget the captions of the last validation, and open the retrieval of captions if it is used."""
        super().on_validation_epoch_start()
        number = getattr(self.decoding, "retrieval_captions", 0)
        if number and self.retriever is None:
            self.retriever = self.data.nearest_captions(number)

    def validation_step(self, batch: CaptionBatch, batch_index: int) -> None:
        """Measure the cross-entropy and decode; an image is encoded once for both."""
        super().validation_step(batch._replace(images=self.model.encode_images(batch.images)), batch_index)

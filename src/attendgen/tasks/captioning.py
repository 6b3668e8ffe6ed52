"""Training and scoring a captioner."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from attendgen.data.batch import CaptionBatch, real
from attendgen.decoding.protocol import Decoded, SearchFunction
from attendgen.decoding.search import Search
from attendgen.errors import UserError
from attendgen.losses.cross_entropy import (
    cross_entropy_by_caption,
    doubly_stochastic,
    masked_cross_entropy,
    token_nats,
)
from attendgen.losses.reinforce import Estimator, leave_one_out, log_probability, negative_entropy
from attendgen.losses.self_critical import Replay, SelfCritical, self_critical
from attendgen.metrics.bits import BitsPerSymbol, perplexity
from attendgen.metrics.captions import caption_scores
from attendgen.metrics.cider import CiderD
from attendgen.models.captioner import Captioner
from attendgen.models.ensemble import CaptionerEnsemble
from attendgen.tasks.optimisation import Optimiser, Schedule, configure, gather, register_parts, shares
from attendgen.vocabulary import EOS, SOS, Vocabulary
from attendgen.word_vectors import WordVectors


class CaptioningTask(lightning.LightningModule):
    """Cross-entropy plus the doubly stochastic penalty; validation decodes and scores against the raw references.

    Args:
        penalty: weight of the doubly stochastic penalty (lambda of equation 14).
        smoothing: label smoothing of the training loss.
        by_caption: average the training loss over captions, not over words: all captions count the same, and the
            model writes shorter ones.
        search: how validation decodes.
        vectors: pretrained word vectors with which training begins.
        self_critical: train on the reward of sampled captions instead, from the weights of another run.
        encoder_lr: learning rate of an encoder that is not frozen; null is the optimiser's.
        estimator: of the gradient of hard attention; null trains soft attention. Validation looks as `model.look` says.
            Parameters of its own are trained with the model's.
    """

    def __init__(
        self,
        model: Captioner | CaptionerEnsemble,
        vocabulary: Vocabulary,
        optimiser: Optimiser,
        schedule: Schedule,
        search: SearchFunction,
        penalty: float = 1.0,
        smoothing: float = 0.0,
        by_caption: bool = False,
        estimator: Estimator | None = None,
        vectors: WordVectors | None = None,
        self_critical: SelfCritical | None = None,
        encoder_lr: float | None = None,
    ) -> None:
        super().__init__()
        if estimator is not None and isinstance(model, Captioner):
            model.decoder.require_weighted_sum()
        self.model = model
        self.vocabulary = vocabulary
        self.optimiser = optimiser
        self.schedule = schedule
        self.search = search
        self.penalty = penalty
        self.smoothing = smoothing
        self.by_caption = by_caption
        self.estimator = estimator
        register_parts(self, "estimator", estimator)
        self.vectors = vectors
        self.self_critical = self_critical
        self.encoder_lr = encoder_lr
        self.reward: CiderD | None = None
        self.neighbours: Callable[[Tensor], Sequence[Tensor]] | None = None  # captions of pictures like some others
        self.captions: dict[int, str] = {}  # decoded in the current validation, by the picture's index
        self.bits = BitsPerSymbol()

    @property
    def captioner(self) -> Captioner:
        """The one model that is trained.

        Raises:
            UserError: there are several.
        """
        if not isinstance(self.model, Captioner):
            raise UserError("model: an ensemble: train its members one by one")
        return self.model

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.vectors is not None:  # before a checkpoint's weights are restored
            self.vectors.fill(self.captioner.embedding, self.vocabulary)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        if self.encoder_lr is None:
            return configure(self, self.optimiser, self.schedule)
        if self.model.encoder.frozen:
            raise UserError(f"task.encoder_lr={self.encoder_lr}: the encoder is frozen; set model.encoder.trainable=N")
        return configure(self, self.optimiser, self.schedule, self.model.encoder, self.encoder_lr)

    def training_step(self, batch: CaptionBatch, batch_index: int) -> Tensor:
        if self.self_critical is not None:
            return self.self_critical_loss(batch, self.self_critical)
        return self.soft_loss(batch) if self.estimator is None else self.hard_loss(batch, self.estimator)

    def on_fit_start(self) -> None:
        if self.self_critical is not None:
            references = self.trainer.datamodule.references("train")  # type: ignore[attr-defined]
            self.reward = CiderD(references, end=True)

    def soft_loss(self, batch: CaptionBatch) -> Tensor:
        """Cross-entropy with the expected context (4.2)."""
        logits, alphas = self.model(batch.images, batch.inputs)
        total = shares(self, batch)
        if self.by_caption:
            cross_entropy = cross_entropy_by_caption(logits, batch.outputs, self.smoothing)[0] / total.sequences
        else:
            cross_entropy = masked_cross_entropy(logits, batch.outputs, self.smoothing)[0] / total.symbols
        penalty = doubly_stochastic(alphas, real(batch.outputs)).sum() / total.sequences
        loss = cross_entropy + self.penalty * penalty
        self.log("train/loss", loss, prog_bar=True, sync_dist=True)
        self.log("train/cross_entropy", cross_entropy, sync_dist=True)
        self.log("train/doubly_stochastic", penalty, sync_dist=True)
        return loss

    def hard_loss(self, batch: CaptionBatch, estimator: Estimator) -> Tensor:
        """Cross-entropy along drawn places, the estimator's score-function part, and the entropy bonus (4.1)."""
        paths = self.captioner.follow(batch.images, batch.inputs, estimator.select, estimator.paths, estimator.soft)
        logits, alphas, weights = (part.flatten(0, 1) for part in paths)  # captions paths time ...
        mask = real(batch.outputs.flatten(0, 1))  # captions time
        targets = batch.outputs.flatten(0, 1).unsqueeze(1).expand(logits.shape[:-1])
        nats = token_nats(logits, targets, self.smoothing)
        soft = nats[:, -1] if estimator.soft else None
        nats, alphas, weights = (part[:, : estimator.paths] for part in (nats, alphas, weights))
        surrogate = estimator(nats, log_probability(alphas, weights) * mask.unsqueeze(1), mask, soft)
        order = (negative_entropy(alphas) * mask.unsqueeze(1)).sum(dim=-1).mean(dim=-1)
        # all terms are sums over a caption's words, weighted alike
        total = shares(self, batch)
        length = mask.sum(dim=-1)
        weight = (
            1 / (length.clamp(min=1) * total.sequences) if self.by_caption else (1 / total.symbols).expand_as(length)
        )
        cross_entropy = (weight * nats.sum(dim=-1).mean(dim=-1)).sum()
        loss = cross_entropy + (weight * (surrogate + estimator.entropy * order)).sum()
        if self.penalty:
            penalty = doubly_stochastic(alphas, mask.unsqueeze(1).expand(alphas.shape[:-1]))
            loss = loss + self.penalty * penalty.mean(dim=1).sum() / total.sequences
        self.log("train/loss", loss, sync_dist=True)
        self.log("train/cross_entropy", cross_entropy, prog_bar=True, sync_dist=True)
        self.log("train/attention_entropy", -(weight * order).sum(), sync_dist=True)
        return loss

    def self_critical_loss(self, batch: CaptionBatch, settings: SelfCritical) -> Tensor:
        """CIDEr-D of sampled captions as reward; with hard attention the places drawn are rewarded, too.

        Writing and scoring leave out the same features: the model that is scored is the one that wrote the captions.
        """
        assert self.reward is not None
        self.model.eval()
        with self.captioner.hold_dropout():
            memory, state = self.captioner.start(batch.images)
            length = getattr(self.search, "max_length", 30)  # a search of the user's own may know no such limit
            drawing = Search(length, temperature=settings.temperature, n_best=settings.samples)
            drawn = self._write(memory, state, drawing)
            rewards = self._rewards(batch, drawn.tokens)
            if settings.baseline == "greedy":
                written = self._write(memory, state, Search(length))
                baseline = self._rewards(batch, written.tokens)
            else:
                baseline = leave_one_out(rewards)
            inputs = torch.cat([torch.full_like(drawn.tokens[..., :1], SOS), drawn.tokens[..., :-1]], dim=-1)
            hard = self.captioner.hard
            paths = self.captioner.follow_from(memory, state, inputs, Replay(drawn.attention) if hard else None)
        # what may not be drawn must not take part in the softmax: nothing would keep its probability from growing
        logits = paths.logits.squeeze(2).index_fill(-1, self._forbidden(), -torch.inf)
        log_probs = -token_nats(logits / settings.temperature, drawn.tokens).sum(dim=-1)
        if hard:
            looked = log_probability(paths.alphas.squeeze(2), drawn.attention)
            log_probs = log_probs + (looked * real(drawn.tokens)).sum(dim=-1)
        self.model.train()
        loss = self_critical(log_probs, rewards, baseline).sum() / shares(self, batch).examples
        self.log("train/loss", loss, sync_dist=True)
        self.log("train/reward", rewards.mean(), prog_bar=True, sync_dist=True)
        self.log("train/advantage", (rewards - baseline).mean(), sync_dist=True)
        return loss

    @torch.no_grad()
    def _write(self, memory: Any, state: Any, search: SearchFunction, others: Sequence[Tensor] = ()) -> Decoded:
        extra: Any = {"others": others} if len(others) else {}  # a search of the user's own need not know neighbours
        decoded = search(self.model, memory, state, self.vocabulary.forbidden, **extra)
        return Decoded(*(part.clone() for part in decoded))  # decoding's own tensors may not enter a gradient

    def _forbidden(self) -> Tensor:
        return torch.tensor(self.vocabulary.forbidden, device=self.device)

    def _rewards(self, batch: CaptionBatch, tokens: Tensor) -> Tensor:
        """CIDEr-D of each caption; batch, captions."""
        assert self.reward is not None
        scores = [
            [self.reward(index, self.vocabulary.decode(caption), EOS in caption) for caption in captions]
            for index, captions in zip(batch.index.tolist(), tokens.tolist(), strict=True)
        ]
        return torch.tensor(scores, device=tokens.device)

    def on_validation_epoch_start(self) -> None:
        self.captions = {}
        number = getattr(self.search, "neighbours", 0)
        if number and self.neighbours is None:
            self.neighbours = self.trainer.datamodule.neighbours(number)  # type: ignore[attr-defined]

    def decode(self, batch: CaptionBatch) -> Decoded:
        """Captions of a batch's pictures."""
        annotations = self.model.annotate(batch.images)
        others = self.neighbours(annotations) if self.neighbours is not None else ()
        memory, state = self.model.start(annotations)
        return self._write(memory, state, self.search, others)

    def nats(self, batch: CaptionBatch) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy of a batch's captions, and how many words they have."""
        logits, _ = self.model(batch.images, batch.inputs)
        return masked_cross_entropy(logits, batch.outputs)

    def validation_step(self, batch: CaptionBatch, batch_index: int) -> None:
        # annotate once, for the loss and for decoding
        batch = batch._replace(images=self.model.annotate(batch.images))
        self.bits.update(*self.nats(batch))
        decoded = self.decode(batch)
        for index, tokens in zip(batch.index.tolist(), decoded.tokens[:, 0].tolist(), strict=True):
            self.captions[index] = self.vocabulary.decode(tokens)

    def on_validation_epoch_end(self) -> None:
        """Score all processes' captions, each counted once."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        split = data.eval_split
        self.captions = gather(self.captions)
        everything = data.references(split)
        references = {index: everything[index] for index in self.captions}
        bits = float(self.bits.compute())
        self.bits.reset()
        exact = sum(caption in references[index] for index, caption in self.captions.items()) / len(self.captions)
        scores = {
            "cross_entropy": bits * math.log(2),
            "perplexity": perplexity(bits),
            "exact_match": exact,
            **caption_scores(self.captions, references),
        }
        for name, value in scores.items():
            self.log(f"{split}/{name}", float(value), prog_bar=name in ("bleu4", "cider"))

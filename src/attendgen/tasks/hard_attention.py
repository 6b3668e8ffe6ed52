"""Training a captioner with hard attention (Xu et al. 2015, 4.1)."""

from typing import Any

import torch
from torch import Tensor

from attendgen.data.batch import CaptionBatch, is_token
from attendgen.losses.cross_entropy import doubly_stochastic, token_nll
from attendgen.losses.score_function import Estimator, log_probability, negative_entropy
from attendgen.models.captioner import Captioner
from attendgen.tasks.base import register_parts
from attendgen.tasks.captioning import CaptioningTask


class HardAttentionTask(CaptioningTask):
    """Cross-entropy along sampled locations, the estimator's score-function part, and an entropy bonus.

    Validation attends as `model.inference_attention` says.

    Args:
        estimator: of the gradient; its own parameters are trained with the model's.
        options: see `CaptioningTask`.

    Raises:
        UserError: the model's attention cannot be hard.
    """

    def __init__(self, *arguments: Any, estimator: Estimator, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if isinstance(self.model, Captioner):
            self.model.decoder.require_weighted_sum()
        self.estimator = estimator
        register_parts(self, "estimator", estimator)

    def training_step(self, batch: CaptionBatch, batch_index: int) -> Tensor:
        """Return a loss whose gradient is the estimator's; all terms are sums over a caption's words."""
        estimator = self.estimator
        samples = self.captioner.forward_sampled(
            batch.images, batch.inputs, estimator.sampler, estimator.num_samples, estimator.soft
        )
        logits, alphas, weights = (part.flatten(0, 1) for part in samples)  # captions samples time ...
        mask = is_token(batch.outputs.flatten(0, 1))  # captions time
        targets = batch.outputs.flatten(0, 1).unsqueeze(1).expand(logits.shape[:-1])
        nll = token_nll(logits, targets, self.label_smoothing)
        soft = nll[:, -1] if estimator.soft else None
        nll, alphas, weights = (part[:, : estimator.num_samples] for part in (nll, alphas, weights))
        surrogate = estimator(nll, log_probability(alphas, weights) * mask.unsqueeze(1), mask, soft)
        entropy = -(negative_entropy(alphas) * mask.unsqueeze(1)).sum(dim=-1).mean(dim=-1)
        weight = self._weigh_captions(batch, mask)
        cross_entropy = (weight * nll.sum(dim=-1).mean(dim=-1)).sum()
        loss = cross_entropy + (weight * (surrogate - estimator.entropy * entropy)).sum()
        if self.doubly_stochastic_weight:
            penalty = doubly_stochastic(alphas, mask.unsqueeze(1).expand(alphas.shape[:-1])).mean(dim=1).sum()
            loss = loss + self.doubly_stochastic_weight * penalty / self.loss_denominators(batch).sequences
        self.log("train/loss", loss, sync_dist=True)
        self.log("train/cross_entropy", cross_entropy, prog_bar=True, sync_dist=True)
        self.log("train/attention_entropy", (weight * entropy).sum(), sync_dist=True)
        return loss

    def _weigh_captions(self, batch: CaptionBatch, mask: Tensor) -> Tensor:
        """Return the weight of each caption's sum over its words."""
        totals = self.loss_denominators(batch)
        length = mask.sum(dim=-1)
        if self.loss_reduction == "per_caption":
            return 1 / (length.clamp(min=1) * totals.sequences)
        return (1 / totals.tokens).expand_as(length).to(torch.float)

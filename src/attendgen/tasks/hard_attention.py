"""Training a captioner with hard attention (Xu et al. 2015, 4.1)."""

from typing import Any

import torch
from torch import Tensor

from attendgen.data.batch import CaptionBatch, is_token
from attendgen.layers.state import map_tensors
from attendgen.losses.cross_entropy import doubly_stochastic, token_nll
from attendgen.losses.score_function import Estimator, Samples, attention_entropy, log_probability
from attendgen.models.captioner import AttentionSamples
from attendgen.tasks.base import LossTerm, register_parts, require_parts
from attendgen.tasks.captioning import CaptioningTask


class HardAttentionTask(CaptioningTask):
    """The loss of a gradient estimator over sampled locations, and the doubly stochastic penalty.

    Validation attends as `model.inference_attention` says.

    Args:
        estimator: of the gradient; its own parameters are trained with the model's.
        options: see `CaptioningTask`.

    Raises:
        UserError: the model's attention cannot be hard.
    """

    shown_terms = ("cross_entropy",)

    def __init__(self, *arguments: Any, estimator: Estimator, **options: Any) -> None:
        super().__init__(*arguments, **options)
        require = getattr(self.model, "require_hard_attention", None)
        if require is not None:
            require()
        self.estimator = estimator
        register_parts(self, "estimator", estimator)

    def setup(self, stage: str) -> None:
        """Check that the model can sample locations.

        Raises:
            UserError: it has no `forward_sampled`.
        """
        super().setup(stage)
        if stage == "fit":
            require_parts(self.model, "hard attention", "forward_sampled")

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Tell the estimator that all batches of a step have been seen."""
        end_step = getattr(self.estimator, "end_step", None)
        if end_step is not None:
            end_step()

    def predict_training(self, batch: CaptionBatch) -> AttentionSamples:
        """Return predictions along sampled locations."""
        estimator = self.estimator
        return self.model.forward_sampled(
            batch.images, batch.inputs, estimator.sampler, estimator.num_samples, estimator.soft
        )

    def loss_terms(self, batch: CaptionBatch, predictions: AttentionSamples) -> dict[str, LossTerm]:  # type: ignore[override]  # of other predictions
        """Return the estimator's loss, and what is logged beside it; all are sums over a caption's words."""
        samples = self.collect_samples(batch, predictions)
        weight = self._weigh_captions(batch, samples.mask)
        terms = {
            "estimator": LossTerm((weight * self.estimator(samples)).sum()),
            "cross_entropy": LossTerm((weight * samples.nll.sum(dim=-1).mean(dim=-1)).sum(), 0.0),
            "attention_entropy": LossTerm((weight * attention_entropy(samples)).sum(), 0.0),
        }
        alphas, mask = samples.alphas, samples.mask
        if self.doubly_stochastic_weight:
            penalty = doubly_stochastic(alphas, mask.unsqueeze(1).expand(alphas.shape[:-1])).mean(dim=1).sum()
            penalty = penalty / self.loss_denominators(batch).sequences
            terms["doubly_stochastic"] = LossTerm(penalty, self.doubly_stochastic_weight)
        return terms

    def collect_samples(self, batch: CaptionBatch, predictions: AttentionSamples) -> Samples:
        """Return what the estimator is given; captions of all images stand side by side."""
        parts = map_tensors(lambda part: part.flatten(0, 1), predictions)
        mask = is_token(batch.outputs.flatten(0, 1))  # captions time
        targets = batch.outputs.flatten(0, 1).unsqueeze(1).expand(parts.logits.shape[:-1])
        nll = token_nll(parts.logits, targets, self.label_smoothing)
        number = self.estimator.num_samples  # without the sample of soft attention, which is the last
        taken = (nll, parts.alphas, parts.weights, parts.hidden, parts.relaxed, parts.noise)
        drawn, alphas, weights, hidden, relaxed, noise = map_tensors(lambda part: part[:, :number], taken)
        log_alpha = log_probability(alphas, weights) * mask.unsqueeze(1)
        soft = nll[:, -1] if self.estimator.soft else None
        return Samples(drawn, log_alpha, mask, alphas, weights, hidden, parts.features, soft, relaxed, noise)

    def _weigh_captions(self, batch: CaptionBatch, mask: Tensor) -> Tensor:
        """Return the weight of each caption's sum over its words."""
        totals = self.loss_denominators(batch)
        length = mask.sum(dim=-1)
        if self.loss_reduction == "per_caption":
            return 1 / (length.clamp(min=1) * totals.sequences)
        return (1 / totals.tokens).expand_as(length).to(torch.float)

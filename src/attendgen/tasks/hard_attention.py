"""Training with hard attention (Xu et al. 2015, 4.1), to regions of images or to cells of tables."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attendgen.data.batch import CaptionBatch, TableBatch, is_token
from attendgen.layers.hard_attention import AttentionSamples
from attendgen.layers.state import map_tensors
from attendgen.losses.cross_entropy import doubly_stochastic, token_nll
from attendgen.losses.score_function import Estimator, Samples, attention_entropy, log_probability
from attendgen.tasks.base import BaseTask, LossTerm, register_parts, require_parts
from attendgen.tasks.captioning import CaptioningTask
from attendgen.tasks.table_to_text import TableTask
from attendgen.text.protocol import VocabularyProtocol
from attendgen.text.table_vocabulary import TableVocabulary
from attendgen.text.vocabulary import VocabularyKind


class SampledAttentionTask(BaseTask[VocabularyKind]):
    """What tasks with a gradient estimator share, beside the task of soft attention from which each is also derived.

    Validation attends as `model.inference_attention` says.

    Args:
        estimator: of the gradient; its own parameters are trained with the model's.
        options: of the task of soft attention.

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

    def sample(self, source: Any, inputs: Int[Tensor, "batch captions time"]) -> AttentionSamples:
        """Return predictions along sampled locations.

        Args:
            source: images, or cells of tables.
        """
        estimator = self.estimator
        return self.model.forward_sampled(source, inputs, estimator.sampler, estimator.num_samples, estimator.soft)

    def collect(
        self, outputs: Int[Tensor, "batch captions time"], predictions: AttentionSamples, label_smoothing: float
    ) -> Samples:
        """Return what the estimator is given; texts of all inputs stand side by side."""
        parts = map_tensors(lambda part: part.flatten(0, 1), predictions)
        mask = is_token(outputs.flatten(0, 1))  # captions time
        targets = outputs.flatten(0, 1).unsqueeze(1).expand(parts.logits.shape[:-1])
        nll = token_nll(parts.logits, targets, label_smoothing)
        number = self.estimator.num_samples  # without the sample of soft attention, which is the last
        taken = (nll, parts.alphas, parts.weights, parts.hidden, parts.relaxed, parts.noise)
        drawn, alphas, weights, hidden, relaxed, noise = map_tensors(lambda part: part[:, :number], taken)
        log_alpha = log_probability(alphas, weights) * mask.unsqueeze(1)
        soft = nll[:, -1] if self.estimator.soft else None
        return Samples(drawn, log_alpha, mask, alphas, weights, hidden, parts.features, soft, relaxed, noise)

    def estimate_terms(self, samples: Samples, weight: Float[Tensor, " captions"]) -> dict[str, LossTerm]:
        """Return the estimator's loss, and what is logged beside it; all are sums over a text's words.

        Args:
            weight: of each text.
        """
        return {
            "estimator": LossTerm((weight * self.estimator(samples)).sum()),
            "cross_entropy": LossTerm((weight * samples.nll.sum(dim=-1).mean(dim=-1)).sum(), 0.0),
            "attention_entropy": LossTerm((weight * attention_entropy(samples)).sum(), 0.0),
        }


class HardAttentionTask(SampledAttentionTask[VocabularyProtocol], CaptioningTask):
    """The loss of a gradient estimator over sampled regions, and the doubly stochastic penalty.

    See `SampledAttentionTask` and `CaptioningTask` for the arguments.
    """

    def predict_training(self, batch: CaptionBatch) -> AttentionSamples:
        """Return predictions along sampled locations."""
        return self.sample(batch.images, batch.inputs)

    def loss_terms(self, batch: CaptionBatch, predictions: AttentionSamples) -> dict[str, LossTerm]:  # type: ignore[override]  # of other predictions
        """Return the terms of the estimator, and the penalty."""
        samples = self.collect_samples(batch, predictions)
        terms = self.estimate_terms(samples, self._weigh_captions(batch, samples.mask))
        alphas, mask = samples.alphas, samples.mask
        if self.doubly_stochastic_weight:
            penalty = doubly_stochastic(alphas, mask.unsqueeze(1).expand(alphas.shape[:-1])).mean(dim=1).sum()
            penalty = penalty / self.loss_denominators(batch).sequences
            terms["doubly_stochastic"] = LossTerm(penalty, self.doubly_stochastic_weight)
        return terms

    def collect_samples(self, batch: CaptionBatch, predictions: AttentionSamples) -> Samples:
        """Return what the estimator is given."""
        return self.collect(batch.outputs, predictions, self.label_smoothing)

    def _weigh_captions(self, batch: CaptionBatch, mask: Tensor) -> Tensor:
        """Return the weight of each caption's sum over its words."""
        totals = self.loss_denominators(batch)
        length = mask.sum(dim=-1)
        if self.loss_reduction == "per_caption":
            return 1 / (length.clamp(min=1) * totals.sequences)
        return (1 / totals.tokens).expand_as(length).to(torch.float)


class HardTableTask(SampledAttentionTask[TableVocabulary], TableTask):
    """The loss of a gradient estimator over sampled cells of tables.

    See `SampledAttentionTask` and `TableTask` for the arguments.
    """

    def predict_training(self, batch: TableBatch) -> AttentionSamples:  # type: ignore[override]  # others
        """Return predictions along sampled cells."""
        return self.sample(batch.cells, batch.inputs.unsqueeze(1))

    def loss_terms(self, batch: TableBatch, predictions: AttentionSamples) -> dict[str, LossTerm]:  # type: ignore[override]  # of other predictions
        """Return the terms of the estimator."""
        samples = self.collect(batch.outputs.unsqueeze(1), predictions, self.label_smoothing)
        tokens = self.loss_denominators(batch).tokens
        return self.estimate_terms(samples, (1 / tokens).expand(len(samples.mask)).to(torch.float))

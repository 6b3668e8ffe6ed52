"""The base of all tasks: model, vocabulary, optimizer and decoding, and what every training and validation shares."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, NamedTuple

import lightning
import torch
from jaxtyping import Float
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from attendgen.data.batch import Batch, StepTotals, count_targets
from attendgen.data.module import BaseDataModule, require_data_module
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.graphs import DecodingGraphs
from attendgen.decoding.protocol import Decoded, DecodingFunction
from attendgen.losses.cross_entropy import masked_cross_entropy
from attendgen.metrics.bits_per_token import BitsPerToken, perplexity
from attendgen.optim.build import MakeOptimizer, Schedule, build_optimizer
from attendgen.tasks.graphs import GraphedSteps
from attendgen.text.vocabulary import VocabularyKind
from attendgen.utils.errors import UserError
from attendgen.utils.processes import add_up, average, gather_parts


def require_fraction(field: str, value: object) -> None:
    """Check a setting.

    Raises:
        UserError: it is not a number from 0 to below 1.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise UserError(f"{field}={value}: expected a number from 0 to below 1")


class Predictions(NamedTuple):
    """What a model computes by teacher forcing: logits of each target, and the attention weights they depend on."""

    logits: Float[Tensor, "batch *captions time vocab"]
    attention: Float[Tensor, "batch *captions time source"]


class LossTerm(NamedTuple):
    """A term of a training loss, and the weight with which it is added; a term of weight 0 is only logged."""

    value: Float[Tensor, ""]
    weight: float = 1.0


class BaseTask(lightning.LightningModule, Generic[VocabularyKind]):
    """A model, how it is trained, and how its validation decodes and scores.

    A subclass defines `predict` and `loss_terms`, and what validation logs. The other methods call these two, so a
    subclass of a task changes the loss by `loss_terms` alone, and adds scores by `validation_means`.

    Args:
        model: what is trained.
        vocabulary: of the model.
        optimizer: makes the optimizer from parameter groups.
        schedule: factor of the learning rate by step.
        decoding: how validation decodes.

    Attributes:
        shown_terms: names of the terms that the progress bar shows; "loss" is their sum.
        family: which interface of `attendgen.inference` serves the model; saved with a run.
        monitor: the score that selects the best checkpoint, and whether the best is its "min" or "max".
        observers: called with each batch of a validation and what was decoded for it.
        decodes: whether a validation decodes outputs.
        graphs: computes training steps by replaying them as CUDA graphs.
        decoding_graphs: replay the decoding steps of validations.
        can_be_graphed: whether a training step can be recorded as a CUDA graph.
        is_adaptable: whether dynamic evaluation can score the model, because its batches are texts in order.
    """

    family: ClassVar[str]
    monitor: ClassVar[tuple[str, str]]
    shown_terms: ClassVar[tuple[str, ...]] = ("loss",)
    decodes: ClassVar[bool] = False
    is_adaptable: ClassVar[bool] = False
    can_be_graphed: ClassVar[bool] = True

    def __init__(
        self,
        model: nn.Module,
        vocabulary: VocabularyKind,
        optimizer: MakeOptimizer,
        schedule: Schedule,
        decoding: DecodingConfig | DecodingFunction,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.vocabulary: VocabularyKind = vocabulary
        self.optimizer = optimizer
        self.schedule = schedule
        self.decoding = decoding
        self.bits = BitsPerToken()
        self.observers: list[Callable[[Any, Decoded], None]] = []
        self.means: dict[str, tuple[float, float]] = {}  # sums and counts of the current validation
        self.graphs: GraphedSteps | None = None  # `trainer.compile=true` sets both
        self.decoding_graphs: DecodingGraphs | None = None

    @property
    def packages(self) -> Mapping[str, str]:
        """Modules that scoring needs, with the extra of AttendGen that installs each."""
        return {}

    @property
    def data(self) -> BaseDataModule[Any]:
        """The data module of the trainer.

        Raises:
            UserError: it is not a `BaseDataModule`.
        """
        return require_data_module(self.trainer.datamodule)  # type: ignore[attr-defined]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer of all trainable parameters, with the schedule."""
        return build_optimizer(self, self.optimizer, self.schedule)  # type: ignore[return-value]

    def predict(self, batch: Any) -> Predictions:  # noqa: ANN401  # the batches of a subclass
        """Return the model's predictions for a batch's targets, given the targets before each."""
        raise NotImplementedError

    def predict_training(self, batch: Any) -> Any:  # noqa: ANN401  # what the loss of a subclass needs
        """Return what `loss_terms` computes the loss from; `predict` unless training differs from validation."""
        return self.predict(batch)

    def loss_terms(self, batch: Any, predictions: Any) -> dict[str, LossTerm]:  # noqa: ANN401  # see predict_training
        """Return the terms of the training loss by name.

        Args:
            predictions: what `predict_training` returned.
        """
        raise NotImplementedError

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the weighted sum of the loss terms, and log it as `train/loss`, and each term as `train/<name>`.

        A term that is the whole loss is not logged twice. In the steps that are written, the values are those of all
        processes; the progress bar shows the values of the first process in between.
        """
        terms = None if self.graphs is None else self.graphs(batch)
        if terms is None:
            terms, loss = self.compute_loss(batch)
        else:
            loss = sum_terms(terms)
        whole = sum(term.weight != 0 for term in terms.values()) == 1
        logged = {name: term.value for name, term in terms.items() if not (whole and term.weight == 1)}
        values = {name: value.detach() for name, value in {"loss": loss, **logged}.items()}
        # a reduction in each step would make processes wait for each other
        if self._trainer is not None and is_logged_step(self._trainer):
            values = average(values)
        for name, value in values.items():
            self.log(f"train/{name}", value, prog_bar=name in self.shown_terms)
        return loss

    def compute_loss(self, batch: Any) -> tuple[dict[str, LossTerm], Tensor]:  # noqa: ANN401  # see predict
        """Return the terms of a batch's loss, and their weighted sum."""
        terms = self.loss_terms(batch, self.predict_training(batch))
        return terms, sum_terms(terms)

    def get_carried(self, batch: Any) -> Any:  # noqa: ANN401  # see predict
        """Return the state, a tree of tensors, that a training batch continues; None if it continues nothing."""
        return None

    def set_carried(self, state: Any) -> None:  # noqa: ANN401  # a tree of tensors
        """Set the state that the next training batch continues."""

    def backward(self, loss: Tensor, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # Lightning's
        """Back-propagate; the gradients of a replayed graph are there already."""
        batches = 1 if self._trainer is None else self._trainer.accumulate_grad_batches  # by which Lightning divides
        if self.graphs is None or not self.graphs.hand_over_gradients(batches):
            super().backward(loss, *arguments, **options)

    def generate(self, batch: Any) -> Decoded:  # noqa: ANN401  # the batches of a subclass
        """Decode outputs for a batch."""
        raise NotImplementedError

    def nll(self, batch: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401  # the batches of a subclass
        """Return the summed negative log-likelihood in nats of a batch's targets, and their number."""
        return masked_cross_entropy(self.predict(batch).logits, batch.outputs)

    def validation_means(self, batch: Any, predictions: Predictions) -> dict[str, tuple[Tensor, Tensor]]:  # noqa: ANN401
        """Return sums and counts of scores by name; validation logs each score's mean as `<split>/<name>`."""
        return {}

    def on_validation_epoch_start(self) -> None:
        """Forget what the last validation collected."""
        self.means = {}

    def validation_step(self, batch: Any, batch_index: int) -> None:  # noqa: ANN401  # the batches of a subclass
        """Measure the cross-entropy, and the scores of `validation_means`."""
        predictions = self.predict(batch)
        self.measure_cross_entropy(batch, *masked_cross_entropy(predictions.logits, batch.outputs))
        for name, (total, count) in self.validation_means(batch, predictions).items():
            before, number = self.means.get(name, (0.0, 0.0))
            self.means[name] = (before + total.item(), number + count.item())

    def measure_cross_entropy(self, batch: Any, nll: Tensor, tokens: Tensor) -> None:  # noqa: ANN401  # see predict
        """Add a batch's summed negative log-likelihood, and its number of tokens, to those of the validation."""
        self.bits.update(nll, tokens)

    def compute_means(self) -> dict[str, float]:
        """Return the scores of `validation_means` over all batches of all processes."""
        parts = gather_parts(self.means)
        means = {}
        for name in dict.fromkeys(name for part in parts for name in part):
            total, count = map(sum, zip(*(part[name] for part in parts if name in part), strict=True))
            means[name] = total / count if count else math.nan
        return means

    def export_outputs(self) -> list[str] | list[dict[str, Any]]:
        """Return the outputs of the last validation, in the order of their examples.

        `attendgen evaluate` writes texts one per line, and dicts as JSON; nothing is written for an empty list.
        """
        return []

    def sign_scores(self) -> dict[str, str]:
        """Return the signatures of scores by name: how they were computed."""
        return {}

    def score_outputs(self) -> dict[str, float]:
        """Return scores of the last validation that `attendgen evaluate` computes, but no validation in training."""
        return {}

    def score_slowly(self) -> dict[str, float]:
        """Return scores by programs that may fail; `attendgen evaluate` computes them after all else is written."""
        return {}

    def loss_denominators(self, batch: Batch) -> StepTotals:
        """Return what a training batch divides its summed losses by: the mean totals of the batches of a step.

        Processes average their gradients, and Lightning the losses of accumulated batches. With these denominators the
        average is the loss of all examples of the step in one batch, however they are split.
        """
        totals = batch.totals or count_targets(batch.outputs)
        trainer = self._trainer  # None if the task is used alone
        if trainer is None:
            return totals
        counts = add_up(torch.stack(totals))
        return StepTotals(*(counts / (trainer.world_size * trainer.accumulate_grad_batches)).unbind())

    def compute_cross_entropy(self) -> dict[str, float]:
        """Return cross-entropy (nats per token) and perplexity of the validation so far, and reset them."""
        bits = float(self.bits.compute())
        self.bits.reset()
        self.cross_entropy = bits * math.log(2)  # of the last validation
        return {"cross_entropy": self.cross_entropy, "perplexity": perplexity(bits)}

    def log_scores(self, scores: dict[str, float], shown: tuple[str, ...] = ()) -> None:
        """Log validation scores under the name of the split.

        Args:
            shown: names of the scores that the progress bar shows.
        """
        for name, value in scores.items():
            self.log(f"{self.data.eval_split}/{name}", float(value), prog_bar=name in shown)


def sum_terms(terms: Mapping[str, LossTerm]) -> Tensor:
    """Return the sum of the terms times their weights.

    Raises:
        UserError: no term has a weight, or one has the name of the sum.
    """
    if "loss" in terms:
        raise UserError("task: a term of the loss is called 'loss', which is the name of their sum; rename it")
    weighted = [term.value * term.weight for term in terms.values() if term.weight]
    if not weighted:
        raise UserError(
            f"task: no term of the loss has a weight: {', '.join(terms) or 'there is none'}; set one above 0"
        )
    return functools.reduce(torch.add, weighted)


def register_parts(task: nn.Module, name: str, part: object) -> None:
    """Register the modules and parameters that a plain object holds, so that they are moved, trained and saved.

    A module registers its own when it is assigned to the task.
    """
    if isinstance(part, nn.Module) or not hasattr(part, "__dict__"):
        return
    for field, value in vars(part).items():
        if isinstance(value, nn.Module):
            task.add_module(f"{name}_{field}", value)
        elif isinstance(value, nn.Parameter):
            task.register_parameter(f"{name}_{field}", value)


def is_logged_step(trainer: lightning.Trainer) -> bool:
    """Return whether Lightning writes what is logged in the optimizer step that is being taken."""
    # it counts steps from one
    return (trainer.global_step + 1) % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]


def require_parts(model: nn.Module, needed_by: str, *names: str) -> None:
    """Check that a model has what a task uses.

    Args:
        needed_by: what the message names.
        names: methods and attributes.

    Raises:
        UserError: one is missing.
    """
    missing = [name for name in names if not hasattr(model, name)]
    if missing:
        raise UserError(f"model: {type(model).__name__} has no {', '.join(missing)}, which {needed_by} needs")

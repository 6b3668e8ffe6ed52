"""The base of all tasks: model, vocabulary, optimizer and decoding, and what every training and validation shares."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Generic

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from attendgen.data.batch import Batch, StepTotals, count_targets
from attendgen.data.module import BaseDataModule
from attendgen.decoding.config import DecodingConfig
from attendgen.decoding.protocol import DecodingFunction
from attendgen.metrics.bits_per_token import BitsPerToken, perplexity
from attendgen.optim.build import MakeOptimizer, Schedule, build_optimizer
from attendgen.text.vocabulary import VocabularyKind
from attendgen.utils.errors import UserError


def require_fraction(field: str, value: object) -> None:
    """Check a setting.

    Raises:
        UserError: it is not a number from 0 to below 1.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise UserError(f"{field}={value}: expected a number from 0 to below 1")


class BaseTask(lightning.LightningModule, Generic[VocabularyKind]):
    """A model, how it is trained, and how its validation decodes and scores.

    A subclass defines `training_step`, `nll` and what validation logs.

    Args:
        model: what is trained.
        vocabulary: of the model.
        optimizer: makes the optimizer from parameter groups.
        schedule: factor of the learning rate by step.
        decoding: how validation decodes.

    Attributes:
        family: which interface of `attendgen.inference` serves the model; saved with a run.
        packages: modules that scoring needs, with the extra of AttendGen that installs each.
        monitor: the score that selects the best checkpoint, and whether the best is its "min" or "max".
    """

    family: ClassVar[str]
    monitor: ClassVar[tuple[str, str]]
    packages: ClassVar[Mapping[str, str]] = {}

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

    @property
    def data(self) -> BaseDataModule[Any]:
        """The data module of the trainer.

        Raises:
            UserError: it is not a `BaseDataModule`.
        """
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, BaseDataModule):
            raise UserError(f"data: {type(data).__name__} is not derived from attendgen.data.BaseDataModule")
        return data

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer of all trainable parameters, with the schedule."""
        return build_optimizer(self, self.optimizer, self.schedule)  # type: ignore[return-value]

    def nll(self, batch: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401  # the batches of a subclass
        """Return the summed negative log-likelihood in nats of a batch's targets, and their number."""
        raise NotImplementedError

    def loss_denominators(self, batch: Batch) -> StepTotals:
        """Return what a training batch divides its summed losses by: the mean totals of the batches of a step.

        Processes average their gradients, and Lightning the losses of accumulated batches. With these denominators the
        average is the loss of all examples of the step in one batch, however they are split.
        """
        totals = batch.totals or count_targets(batch.outputs)
        trainer = self._trainer  # None if the task is used alone
        if trainer is None:
            return totals
        counts = torch.stack(totals)
        if trainer.world_size > 1:
            torch.distributed.all_reduce(counts)
        return StepTotals(*(counts / (trainer.world_size * trainer.accumulate_grad_batches)).unbind())

    def compute_cross_entropy(self) -> dict[str, float]:
        """Return cross-entropy (nats per token) and perplexity of the validation so far, and reset them."""
        bits = float(self.bits.compute())
        self.bits.reset()
        return {"cross_entropy": bits * math.log(2), "perplexity": perplexity(bits)}

    def log_scores(self, scores: dict[str, float], shown: tuple[str, ...] = ()) -> None:
        """Log validation scores under the name of the split.

        Args:
            shown: names of the scores that the progress bar shows.
        """
        for name, value in scores.items():
            self.log(f"{self.data.eval_split}/{name}", float(value), prog_bar=name in shown)


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


def gather_outputs(outputs: dict[int, Any]) -> dict[int, Any]:
    """Return the union of all processes' outputs by example, so that each example counts once."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return outputs
    parts: list[dict[int, Any]] = [{} for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(parts, outputs)
    return {index: output for part in parts for index, output in part.items()}

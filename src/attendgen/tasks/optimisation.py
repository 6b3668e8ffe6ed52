"""What every task does the same way: build the optimiser, weigh its losses, gather decoded outputs."""

from collections.abc import Callable
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn

from attendgen.data.batch import Batch, Totals, count

Optimiser = Callable[..., torch.optim.Optimizer]
Schedule = Callable[[int], float]


def configure(
    task: nn.Module, optimiser: Optimiser, schedule: Schedule, part: nn.Module | None = None, rate: float = 0.0
) -> OptimizerLRScheduler:
    """The optimiser over all trainable parameters of a task, its rate scaled by the schedule at each step.

    The model's parameters keep the names that they have in the model; others, as an estimator's, those in the task.

    Args:
        part: of the task, with a learning rate of its own.
    """
    own = set(part.parameters()) if part is not None else set()
    named = [(name.removeprefix("model."), parameter) for name, parameter in task.named_parameters()]
    trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [(name, parameter) for name, parameter in trained if parameter not in own]}
    ]
    if own:
        groups.append({"params": [(name, parameter) for name, parameter in trained if parameter in own], "lr": rate})
    built = optimiser(groups)
    # a plain function: LambdaLR would keep an object's settings in the checkpoint, over those of a resumed run
    scheduler = torch.optim.lr_scheduler.LambdaLR(built, lambda step: schedule(step))
    return {"optimizer": built, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "learning_rate"}}


def register_parts(task: nn.Module, name: str, part: Any) -> None:
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


def shares(task: lightning.LightningModule, batch: Batch) -> Totals:
    """What a training batch divides its summed losses by: the mean counts of all batches of the training step.

    Processes average their gradients, and Lightning the losses of accumulated batches; so divided, the averages are
    the loss and the gradient of all the step's examples in one batch, however many symbols each of the batches has.
    """
    totals = batch.totals or count(batch.outputs)
    trainer = task._trainer  # None where there is a task alone
    if trainer is None:
        return totals
    counts = torch.stack(totals)
    if trainer.world_size > 1:
        torch.distributed.all_reduce(counts)
    return Totals(*(counts / (trainer.world_size * trainer.accumulate_grad_batches)).unbind())


def gather(outputs: dict[int, Any]) -> dict[int, Any]:
    """The union of all processes' outputs by example, so that each example counts once."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return outputs
    parts: list[dict[int, Any]] = [{} for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(parts, outputs)
    return {index: output for part in parts for index, output in part.items()}

"""Optimizers with a schedule, as Lightning expects them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from attendgen.utils.errors import UserError

MakeOptimizer = Callable[..., torch.optim.Optimizer]
Schedule = Callable[[int], float]


def build_optimizer(
    task: nn.Module, optimizer: MakeOptimizer, schedule: Schedule, part: nn.Module | None = None, lr: float = 0.0
) -> dict[str, Any]:
    """Build the optimizer of all trainable parameters of a task; the schedule scales its learning rate at each step.

    The model's parameters are named as in the model; others, such as an estimator's, as in the task.

    Args:
        part: of the task, with a learning rate of its own.
        lr: the learning rate of the part.

    Raises:
        UserError: the optimizer refuses a setting.
    """
    own = set(part.parameters()) if part is not None else set()
    named = [(name.removeprefix("model."), parameter) for name, parameter in task.named_parameters()]
    trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [(name, parameter) for name, parameter in trained if parameter not in own]}
    ]
    if own:
        groups.append({"params": [(name, parameter) for name, parameter in trained if parameter in own], "lr": lr})
    try:
        built = optimizer(groups)
    except (TypeError, ValueError) as error:
        raise UserError(f"task.optimizer: {' '.join(str(error).split())}") from error
    # a plain function: LambdaLR would keep an object's settings in the checkpoint, over those of a resumed run
    scheduler = torch.optim.lr_scheduler.LambdaLR(built, lambda step: schedule(step))
    return {"optimizer": built, "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "learning_rate"}}

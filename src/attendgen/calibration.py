"""A trained model's matrices turned up or down, one gain each, until it predicts a held-out split best.

attendgen calibrate RUN --out RUN
"""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader
from tqdm import tqdm

from attendgen.errors import UserError
from attendgen.runs import Run, opened, require_new, require_split, save_made

PASSES = 3  # over the split, at least
STEPS = 60  # at least; a small split is passed over more often
RATE = 0.004  # of Adam, and so about how far a gain goes in a step; it falls to 0


def calibrate(run: Run, config: DictConfig, folder: Path, split: str = "val") -> tuple[float, float]:
    """Make a run directory of a trained model whose matrices are multiplied by the gains that suit a split best.

    Args:
        split: what was not learnt from; the model's score on it is no score of unseen data any more.

    Returns:
        The cross-entropy of the split in nats a symbol, before and after. If no gains lower it, the model is as it was.

    Raises:
        UserError: there is no such split, or the folder holds a run.
    """
    require_split("--fit", split)
    require_new(folder)
    task: Any = run.build(config)
    data = opened(config, task, run.vocabulary, split)
    before = cross_entropy(task, data.val_dataloader)
    trained = {name: value.detach().clone() for name, value in task.model.named_parameters()}
    gains = fit_gains(task, data.val_dataloader)
    task.model.load_state_dict(multiplied(trained, gains), strict=False)
    after = cross_entropy(task, data.val_dataloader)
    if not after < before:
        task.model.load_state_dict(trained, strict=False)
        after = before
    save_made(folder, config, run.vocabulary, task.model)
    return before, after


def fit_gains(task: Any, batches: Callable[[], DataLoader[Any]]) -> dict[str, Float[Tensor, " gates"]]:
    """The gains of a task's matrices with which it predicts batches best, by Adam from 1; the weights stay as they are.

    The output layer's gain is temperature scaling (Guo et al. 2017); those of a recurrent layer, one for each of its
    gates, set how much of the past its state keeps.

    Args:
        batches: all of the split, anew at each call.

    Returns:
        By the parameter's name in the model.
    """
    model: nn.Module = task.eval().model
    weights = {name: value.detach() for name, value in model.named_parameters()}
    gains = {name: torch.ones(gates, requires_grad=True) for name, gates in adjustable(model).items()}
    if not gains:
        return {}
    task.requires_grad_(False)
    optimiser = torch.optim.Adam(gains.values(), lr=RATE, betas=(0.8, 0.95))  # short memory: few steps
    count = len(batches())
    steps = max(PASSES, math.ceil(STEPS / count)) * count
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    predictions = Predictions(task)
    with tqdm(total=steps, desc="gains", leave=False) as progress:
        while progress.n < steps:
            for batch in batches():
                scaled = {f"task.model.{name}": value for name, value in multiplied(weights, gains).items()}
                nats, symbols = functional_call(predictions, scaled, (batch,))
                optimiser.zero_grad()
                (nats / symbols.clamp(min=1)).backward()
                optimiser.step()
                schedule.step()
                progress.update()
    return {name: gain.detach() for name, gain in gains.items()}


def adjustable(model: nn.Module) -> dict[str, int]:
    """The names of a model's matrices that are trained, each with how many gains it has: a recurrent layer's one for
    each gate, others one.
    """
    trained = {name for name, value in model.named_parameters() if value.requires_grad and value.ndim == 2}
    found = {}
    for prefix, module in model.named_modules():
        for name, value in module.named_parameters(prefix, recurse=False):
            if name in trained:  # which names a tied weight once
                recurrent = isinstance(module, nn.RNNBase | nn.RNNCellBase)
                found[name] = len(value) // module.hidden_size if recurrent else 1
    return found


def multiplied(weights: Mapping[str, Tensor], gains: Mapping[str, Float[Tensor, " gates"]]) -> dict[str, Tensor]:
    """Matrices by name, the rows of each of a matrix's equal parts multiplied by their gain."""
    return {
        name: weights[name] * gain.repeat_interleave(len(weights[name]) // len(gain)).unsqueeze(1)
        for name, gain in gains.items()
    }


def cross_entropy(task: Any, batches: Callable[[], Iterable[Any]]) -> float:
    """Nats a symbol.

    Raises:
        UserError: there is nothing to predict.
    """
    nats, symbols = 0.0, 0.0
    with torch.inference_mode():
        for batch in tqdm(batches(), desc="predictions", leave=False):
            more, count = task.nats(batch)
            nats, symbols = nats + float(more), symbols + float(count)
    if not symbols:
        raise UserError("--fit: the split is empty")
    return nats / symbols


class Predictions(nn.Module):
    """A task's summed cross-entropy as what a module returns, so that it can be called with other weights."""

    def __init__(self, task: Any) -> None:
        super().__init__()
        self.task = task

    def forward(self, batch: Any) -> tuple[Tensor, Tensor]:
        return self.task.nats(batch)

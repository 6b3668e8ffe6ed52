"""Rescaling a trained model: one gain per weight matrix, fitted on a held-out split.

attendgen rescale RUN --out RUN
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.func import functional_call

from attendgen.data.batch import Batch
from attendgen.data.module import require_split
from attendgen.postprocess.fit import Batches, get_device, open_task
from attendgen.runs.run import Run
from attendgen.runs.save import require_new, save_model_as_run
from attendgen.tasks.base import BaseTask
from attendgen.utils.devices import find_device
from attendgen.utils.errors import UserError
from attendgen.utils.precision import autocast, require_precision, set_matmul_precision
from attendgen.utils.progress import Progress, track

PASSES = 3  # over the split, at least
STEPS = 60  # at least; a small split is passed over more often
RATE = 0.004  # learning rate of Adam; it decreases to 0


def rescale(
    run: Run,
    config: DictConfig,
    folder: Path,
    split: str = "val",
    device: str | torch.device = "auto",
    precision: str = "32",
) -> tuple[float, float]:
    """Write a run directory of a trained model whose matrices are multiplied by fitted gains.

    Args:
        split: not the training split; the model's score on it is then not a score of unseen data.
        device, precision: of fitting, see `attendgen.utils.devices` and `precision`.

    Returns:
        The cross-entropy of the split in nats per token, before and after; the model is unchanged if no gains
        lower it.

    Raises:
        UserError: there is no such split, device or precision, or the folder holds a run.
    """
    place, precision = find_device(device), require_precision(precision)
    require_split("--fit", split)
    require_new(folder)
    set_matmul_precision(place)
    model = run.load_model(config).to(place)
    task, batches = open_task(run, config, model, split)
    before = cross_entropy(task, batches, precision)
    trained = {name: value.detach().clone() for name, value in model.named_parameters()}
    gains = fit_gains(task, batches, precision)
    model.load_state_dict(scale_rows(trained, gains), strict=False)
    after = cross_entropy(task, batches, precision)
    if not after < before:
        model.load_state_dict(trained, strict=False)
        after = before
    save_model_as_run(folder, config, run.family, run.vocabulary, model.cpu())
    return before, after


def fit_gains(task: BaseTask[Any], batches: Batches, precision: str = "32") -> dict[str, Float[Tensor, " gates"]]:
    """Fit the gains of a task's matrices by Adam, starting from 1; the weights do not change.

    The output layer's gain is temperature scaling (Guo et al. 2017). A recurrent layer has one gain per gate; gains
    below 1 reduce the overconfidence of the recurrent state.

    Returns:
        By the parameter's name in the model.
    """
    model: nn.Module = task.eval().model
    weights = {name: value.detach() for name, value in model.named_parameters()}
    device = get_device(task)
    gains = {name: torch.ones(n, requires_grad=True, device=device) for name, n in find_matrices(model).items()}
    if not gains:
        return {}
    task.requires_grad_(False)
    optimizer = torch.optim.Adam(gains.values(), lr=RATE, betas=(0.8, 0.95))  # short memory: few steps
    count = sum(1 for _ in batches())
    steps = max(PASSES, math.ceil(STEPS / count)) * count
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    predictions = Predictions(task)
    # cuDNN's recurrences have no gradient outside training mode
    without_cudnn = torch.backends.cudnn.flags(enabled=False)
    with Progress("gains", "steps", steps) as progress, without_cudnn:
        while progress.done < steps:
            for batch in batches():
                scaled = {f"task.model.{name}": value for name, value in scale_rows(weights, gains).items()}
                with autocast(device, precision):
                    nll, tokens = functional_call(predictions, scaled, (batch,))
                optimizer.zero_grad()
                (nll / tokens.clamp(min=1)).backward()
                optimizer.step()
                schedule.step()
                progress.add(1)
    return {name: gain.detach() for name, gain in gains.items()}


def find_matrices(model: nn.Module) -> dict[str, int]:
    """Return the names of a model's trained matrices with their number of gains: one per gate of a recurrent layer."""
    trained = {name for name, value in model.named_parameters() if value.requires_grad and value.ndim == 2}
    found = {}
    for prefix, module in model.named_modules():
        for name, value in module.named_parameters(prefix, recurse=False):
            if name in trained:  # which names a tied weight once
                is_recurrent = isinstance(module, nn.RNNBase | nn.RNNCellBase)
                found[name] = len(value) // module.hidden_size if is_recurrent else 1
    return found


def scale_rows(weights: Mapping[str, Tensor], gains: Mapping[str, Float[Tensor, " gates"]]) -> dict[str, Tensor]:
    """Return the matrices with gains, the rows of each of a matrix's equal parts multiplied by its gain."""
    return {
        name: weights[name] * gain.repeat_interleave(len(weights[name]) // len(gain)).unsqueeze(1)
        for name, gain in gains.items()
    }


def cross_entropy(task: BaseTask[Any], batches: Batches, precision: str = "32") -> float:
    """Return the cross-entropy in nats per token.

    Raises:
        UserError: there is nothing to predict.
    """
    nll, tokens = 0.0, 0.0
    with torch.inference_mode(), autocast(get_device(task), precision):
        for batch in track(batches(), "predictions", "batches"):
            more, count = task.nll(batch)
            nll, tokens = nll + float(more), tokens + float(count)
    if not tokens:
        raise UserError("--fit: the split is empty; choose another split")
    return nll / tokens


class Predictions(nn.Module):
    """The summed negative log-likelihood of a task as a module, which can be called with other weights."""

    def __init__(self, task: BaseTask[Any]) -> None:
        super().__init__()
        self.task = task

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the task's `nll`."""
        return self.task.nll(batch)

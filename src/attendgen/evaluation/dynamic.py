"""Dynamic evaluation: a language model is adapted to the text on which it is scored (Krause et al. 2018)."""

import copy
import math
from collections.abc import Iterable
from typing import Any

import torch

from attendgen.data.batch import StreamBatch, WindowBatch
from attendgen.metrics.bits_per_token import BitsPerToken
from attendgen.tasks.base import BaseTask
from attendgen.utils.errors import UserError
from attendgen.utils.progress import track
from attendgen.utils.special_tokens import PAD


def measure_dynamic_bits(
    task: BaseTask[Any],
    batches: Iterable[WindowBatch | StreamBatch],
    lr: float,
    decay: float = 0.0,
    clip: float = 1.0,
) -> float:
    """Return bits per character of texts read one by one, each chunk scored by weights adapted to those before it.

    After each chunk theta <- theta - lr g + decay (theta_0 - theta), by gradient descent on the chunk's mean loss
    (Krause et al. 2018, 3; theta_0 are the trained weights). Each text starts from the trained weights, which are also
    restored at the end. There is no dropout.

    Args:
        batches: of one row each, in order; see `data.batch_size`.
        clip: largest norm of a gradient.

    Raises:
        UserError: the rate or the decay is out of range.
    """
    if not (lr > 0 and math.isfinite(lr)):
        raise UserError(f"--dynamic-eval-lr {lr}: a learning rate above 0 is needed, such as 0.05")
    if not 0 <= decay < 1:
        raise UserError(f"--dynamic-decay {decay}: must be from 0 to below 1")
    device = next(task.model.parameters()).device
    model, bits = task.model.eval(), BitsPerToken().to(device)
    count_characters: Any = getattr(task, "count_characters", None)  # a task of the user's own may count tokens
    trained = copy.deepcopy(model.state_dict())
    weights = dict(model.named_parameters())
    # cuDNN's recurrences have no gradient outside training mode
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        for given in track(batches, "dynamic evaluation", "batches"):
            batch = task.transfer_batch_to_device(given, device, 0)
            if bool(begins_text(batch).any()):
                model.load_state_dict(trained)
            nll, count = task.nll(batch)
            bits.update(nll.detach(), count if count_characters is None else count_characters(batch.outputs))
            if not int(count):
                continue
            gradients: Any = torch.autograd.grad(nll / count, list(weights.values()), allow_unused=True)
            norm = float(torch.nn.utils.get_total_norm([gradient for gradient in gradients if gradient is not None]))
            scale = lr * min(1.0, clip / max(norm, 1e-12))
            with torch.no_grad():
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                    if decay:
                        weight.lerp_(trained[name], decay)
                    if gradient is not None:
                        weight.sub_(gradient, alpha=scale)
    model.load_state_dict(trained)
    return float(bits.compute())


def begins_text(batch: WindowBatch | StreamBatch) -> torch.Tensor:
    """Return which rows begin a text."""
    return batch.reset if isinstance(batch, StreamBatch) else (batch.context == PAD).all(dim=1)

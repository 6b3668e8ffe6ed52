"""Dynamic evaluation: a language model goes on learning from the text that it is scored on."""

import copy
import math
from collections.abc import Iterable

import torch
from tqdm import tqdm

from attendgen.data.batch import StreamBatch, WindowBatch
from attendgen.errors import UserError
from attendgen.metrics.bits import BitsPerSymbol
from attendgen.tasks.lm import LanguageModelTask
from attendgen.vocabulary import PAD


def dynamic_bits(
    task: LanguageModelTask,
    batches: Iterable[WindowBatch | StreamBatch],
    rate: float,
    decay: float = 0.0,
    clip: float = 1.0,
) -> float:
    """Bits a character of texts read one by one, each piece scored by weights that have learnt from those before it.

    After each piece theta <- theta - rate g + decay (theta_0 - theta), by gradient descent on the piece's mean loss
    (Krause et al. 2018, 3; theta_0 are the trained weights). Each text starts from the trained weights again, which are
    in place afterwards, too; nothing is dropped out.

    Args:
        batches: of one row each, in order; see `data.batch_size`.
        clip: the largest norm of a gradient.

    Raises:
        UserError: the rate or the decay is out of range.
    """
    if not (rate > 0 and math.isfinite(rate)):
        raise UserError(f"--dynamic {rate}: a learning rate above 0 is needed, such as 0.05")
    if not 0 <= decay < 1:
        raise UserError(f"--dynamic-decay {decay}: must be from 0 to below 1")
    model, bits = task.model.eval(), BitsPerSymbol()
    trained = copy.deepcopy(model.state_dict())
    weights = dict(model.named_parameters())
    # cuDNN's recurrences have no gradient outside training mode
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        for batch in tqdm(batches, desc="dynamic", leave=False):
            if bool(begins(batch).any()):
                model.load_state_dict(trained)
            nats, count = task.nats(batch)
            bits.update(nats.detach(), count)
            if not int(count):
                continue
            gradients = torch.autograd.grad(nats / count, list(weights.values()), allow_unused=True)
            norm = math.sqrt(sum(float(g.square().sum()) for g in gradients if g is not None))
            scale = rate * min(1.0, clip / max(norm, 1e-12))
            with torch.no_grad():
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                    if decay:
                        weight.lerp_(trained[name], decay)
                    if gradient is not None:
                        weight.sub_(gradient, alpha=scale)
    model.load_state_dict(trained)
    return float(bits.compute())


def begins(batch: WindowBatch | StreamBatch) -> torch.Tensor:
    """Which rows begin a text."""
    return batch.fresh if isinstance(batch, StreamBatch) else (batch.context == PAD).all(dim=1)

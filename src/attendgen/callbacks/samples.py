"""Decoded samples and attention heat maps in TensorBoard at each validation."""

from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from attendgen import plotting
from attendgen.data.batch import Batch, CaptionBatch, PairBatch, StreamBatch, WindowBatch
from attendgen.data.images import open_image
from attendgen.decoding.protocol import Decoded, PieceReader, over_text, pieces_over_text
from attendgen.vocabulary import PAD, Vocabulary


class Samples(lightning.Callback):
    """Texts decoded for the first validation batch, and the attention of the first `figures` of them.

    Args:
        count: texts shown.
        figures: heat maps drawn; each takes some tenths of a second.
    """

    def __init__(self, count: int = 4, figures: int = 1) -> None:
        self.count = count
        self.figures = figures
        self.batch: Batch | None = None

    def on_validation_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx == 0:
            parts: dict[str, Any] = {name: part for name, part in batch._asdict().items() if isinstance(part, Tensor)}
            self.batch = batch._replace(**{name: part[: self.count] for name, part in parts.items()})

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not isinstance(trainer.logger, TensorBoardLogger) or self.batch is None or not trainer.is_global_zero:
            return
        if isinstance(self.batch, PairBatch):
            texts, figures = self._pairs(pl_module, self.batch)
        elif isinstance(self.batch, WindowBatch):
            texts, figures = self._windows(pl_module, self.batch)
        elif isinstance(self.batch, StreamBatch):
            texts, figures = self._streams(pl_module, self.batch)
        else:
            texts, figures = self._captions(trainer, pl_module, self.batch)
        writer, step = trainer.logger.experiment, trainer.global_step
        writer.add_text("samples", "\n\n".join(texts), step)
        for i, figure in enumerate(figures):
            writer.add_image(f"attention/{i}", plotting.to_array(figure), step, dataformats="HWC")

    def _pairs(self, task: Any, batch: PairBatch) -> tuple[list[str], list[Figure]]:
        vocabulary = task.vocabulary
        decoded: Decoded = task.decode(batch)
        texts: list[str] = []
        figures: list[Figure] = []
        for i, source in enumerate(batch.source.tolist()):
            tokens = symbols(vocabulary.target, decoded.tokens[i, 0])
            asked = vocabulary.source.tokens(source)
            texts.append(f"{vocabulary.source.join(asked)} → {vocabulary.target.decode(decoded.tokens[i, 0].tolist())}")
            if i < self.figures:
                figures.append(plotting.alignment(asked, tokens, numbers(decoded, i)[:, : len(asked)]))
        return texts, figures

    def _windows(self, task: Any, batch: WindowBatch) -> tuple[list[str], list[Figure]]:
        vocabulary = task.vocabulary
        memory, state = task.model.start(batch.context)
        decoded = task.search(task.model, memory, state, task.forbidden, first=batch.inputs[:, 0], stop=None)
        texts: list[str] = []
        figures: list[Figure] = []
        for i, context in enumerate(batch.context.tolist()):
            before = vocabulary.tokens(context)
            after = symbols(vocabulary, decoded.tokens[i, 0])
            texts.append(f"{''.join(before)[-60:]!r} → {''.join(after)!r}")
            if before and len(figures) < self.figures:  # the first window of a text has no context
                shown = after[:60]
                figures.append(plotting.alignment(before, shown, numbers(decoded, i)[: len(shown), : len(before)]))
        return texts, figures

    def _streams(self, task: Any, batch: StreamBatch) -> tuple[list[str], list[Figure]]:
        """The first piece of each stream read and continued."""
        vocabulary = task.vocabulary
        memory, state = task.model.start(batch.inputs)
        last = (batch.inputs != PAD).sum(dim=1, keepdim=True) - 1
        first = batch.inputs.gather(1, last.clamp(min=0)).squeeze(1)
        decoded = task.search(task.model, memory, state, task.forbidden, first=first, stop=None)
        texts: list[str] = []
        figures: list[Figure] = []
        for i, context in enumerate(batch.inputs.tolist()):
            before = [vocabulary.symbols[index] for index in context if index != PAD]  # <sos>, too, has been read
            after = symbols(vocabulary, decoded.tokens[i, 0])
            texts.append(f"{vocabulary.decode(context)[-60:]!r} → {''.join(after)!r}")
            if decoded.attention.size(-1) and len(figures) < self.figures:
                shown = after[:60]
                alphas = decoded.attention[i, 0, : len(shown)].float().cpu()
                if isinstance(task.model, PieceReader):
                    weights = pieces_over_text(alphas, len(before), len(shown))  # one memory for all
                else:
                    weights = over_text(alphas, len(before))
                figures.append(plotting.alignment([*before, *shown], shown, weights.numpy()))
        return texts, figures

    def _captions(self, trainer: lightning.Trainer, task: Any, batch: CaptionBatch) -> tuple[list[str], list[Figure]]:
        data = trainer.datamodule  # type: ignore[attr-defined]
        rows = data.rows(data.eval_split)
        decoded: Decoded = task.decode(batch)
        texts: list[str] = []
        figures: list[Figure] = []
        for i, index in enumerate(batch.index.tolist()):
            words = symbols(task.vocabulary, decoded.tokens[i, 0])
            texts.append(f"{rows[index].path.name}: {' '.join(words)}")
            if i < self.figures:
                image: Image.Image = open_image(rows[index].path)
                figures.append(plotting.caption_panels(image, words, numbers(decoded, i)[: len(words)]))
        return texts, figures


def symbols(vocabulary: Vocabulary, tokens: Tensor) -> list[str]:
    """The decoded symbols with <eos>, without <pad>: one for each row of the attention."""
    return [vocabulary.symbols[token] for token in tokens.tolist() if token != PAD]


def numbers(decoded: Decoded, row: int) -> np.ndarray:
    """The best hypothesis's attention at its real positions [length, source]."""
    real = decoded.tokens[row, 0] != PAD
    return decoded.attention[row, 0][real].float().cpu().numpy()

"""Decoded samples and attention heat maps in TensorBoard at each validation."""

from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from jaxtyping import Float
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from attendgen.data.batch import Batch, CaptionBatch, PairBatch, StreamBatch, WindowBatch
from attendgen.data.captions.images import open_image
from attendgen.decoding.attention_maps import spread_over_text
from attendgen.decoding.decode import decode
from attendgen.inference.result import Result, make_results
from attendgen.utils.special_tokens import PAD

SHOWN = 60  # characters of a text


class LoggedSample(NamedTuple):
    """A sample: what is shown of its input, its result, and the image if there is one."""

    label: str
    result: Result
    image: Any = None


class LogSamples(lightning.Callback):
    """Log outputs for the first validation batch, and attention heat maps of the first few of them.

    Args:
        count: number of outputs.
        figures: number of heat maps; each takes some tenths of a second.
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
        """Keep the first rows of the first batch."""
        if batch_idx == 0:
            parts: dict[str, Any] = {name: part for name, part in batch._asdict().items() if isinstance(part, Tensor)}
            self.batch = batch._replace(**{name: part[: self.count] for name, part in parts.items()})

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Decode and log."""
        if not isinstance(trainer.logger, TensorBoardLogger) or self.batch is None or not trainer.is_global_zero:
            return
        from attendgen.visualization import plotting

        samples = self._make_samples(trainer, pl_module, self.batch)
        writer, step = trainer.logger.experiment, trainer.global_step
        writer.add_text("samples", "\n\n".join(sample.label for sample in samples), step)
        drawn = [sample for sample in samples if sample.result.attention.size][: self.figures]
        for i, (_, result, image) in enumerate(drawn):
            if image is None:
                tokens = result.tokens[:SHOWN] if isinstance(self.batch, WindowBatch | StreamBatch) else result.tokens
                figure = plotting.plot_alignment(result.source, tokens, result.attention[: len(tokens)])
            else:
                figure = plotting.plot_caption(open_image(image), result.tokens, result.attention)
            writer.add_image(f"attention/{i}", plotting.to_array(figure), step, dataformats="HWC")

    def _make_samples(self, trainer: lightning.Trainer, task: Any, batch: Batch) -> list[LoggedSample]:
        if isinstance(batch, PairBatch):
            return show_pairs(task, batch)
        if isinstance(batch, CaptionBatch):
            return show_captions(task, batch)
        return show_windows(task, batch) if isinstance(batch, WindowBatch) else show_streams(task, batch)


def show_pairs(task: Any, batch: PairBatch) -> list[LoggedSample]:
    """Decode the sources of a batch."""
    vocabulary, decoded, samples = task.vocabulary, task.generate(batch), []
    for row, ids in enumerate(batch.source.tolist()):
        source = vocabulary.source.to_tokens(ids)
        for result in make_results(decoded, row, vocabulary.target, source)[:1]:
            samples.append(LoggedSample(f"{vocabulary.source.join(source)} → {result.text}", result))
    return samples


def show_captions(task: Any, batch: CaptionBatch) -> list[LoggedSample]:
    """Caption the images of a batch."""
    rows = task.data.rows(task.data.eval_split)
    decoded, samples = task.generate(batch), []
    for row, index in enumerate(batch.index.tolist()):
        for result in make_results(decoded, row, task.vocabulary)[:1]:
            path = rows[index].path
            samples.append(LoggedSample(f"{path.name}: {' '.join(result.tokens)}", result, path))
    return samples


def show_windows(task: Any, batch: WindowBatch) -> list[LoggedSample]:
    """Continue the contexts of a batch."""
    vocabulary = task.vocabulary
    memory, state = task.model.encode(batch.context)
    suppressed = vocabulary.suppressed(eos=True)
    decoded = decode(task.model, memory, state, task.decoding, suppressed, prefix=batch.inputs[:, 0], eos_id=None)
    samples = []
    for row, ids in enumerate(batch.context.tolist()):
        context = vocabulary.to_tokens(ids)
        for result in make_results(decoded, row, vocabulary, context)[:1]:
            label = f"{''.join(context)[-SHOWN:]!r} → {result.text!r}"
            # the first window of a text has no context to attend to
            attention = result.attention if context else result.attention[:, :0]
            samples.append(LoggedSample(label, _replace_attention(result, context, attention)))
    return samples


def show_streams(task: Any, batch: StreamBatch) -> list[LoggedSample]:
    """Read the first chunk of each stream and continue it."""
    vocabulary = task.vocabulary
    memory, state = task.model.encode(batch.inputs)
    last = (batch.inputs != PAD).sum(dim=1, keepdim=True) - 1
    prefix = batch.inputs.gather(1, last.clamp(min=0)).squeeze(1)
    suppressed = vocabulary.suppressed(eos=True)
    decoded = decode(task.model, memory, state, task.decoding, suppressed, prefix=prefix, eos_id=None)
    samples = []
    for row, ids in enumerate(batch.inputs.tolist()):
        read = [vocabulary.tokens[index] for index in ids if index != PAD]  # <sos> has been read, too
        for result in make_results(decoded, row, vocabulary)[:1]:
            label = f"{vocabulary.decode(ids)[-SHOWN:]!r} → {result.text!r}"
            shown = result.tokens[:SHOWN]
            attention = result.attention[: len(shown)]
            if attention.size:  # else the model does not attend
                attention = spread_over_text(torch.from_numpy(attention), len(read)).numpy()
            samples.append(LoggedSample(label, _replace_attention(result, [*read, *shown], attention)))
    return samples


def _replace_attention(result: Result, source: list[str], attention: Float[np.ndarray, "tokens source"]) -> Result:
    return Result(result.text, result.tokens, result.score, result.log_probs, source, attention)

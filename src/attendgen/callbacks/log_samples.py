"""Decoded samples, attention heat maps and the attention page in the loggers at each validation."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import lightning
import torch

from attendgen.callbacks.guard import Guard
from attendgen.callbacks.media import can_show, show_image, show_page, show_text
from attendgen.data.batch import Batch, CaptionBatch, PairBatch, StreamBatch, TableBatch, WindowBatch
from attendgen.data.captions.images import open_image
from attendgen.inference.regions import locate_in_image
from attendgen.inference.report import make_data
from attendgen.inference.result import Result, make_results, spread_attention
from attendgen.layers.state import map_tensors
from attendgen.utils.special_tokens import PAD
from attendgen.visualization.attention_page import render_page

SHOWN = 60  # characters of a text


class LoggedSample(NamedTuple):
    """A sample: what is shown of its input, its result, and the image if there is one."""

    label: str
    result: Result
    image: Any = None


class LogSamples(lightning.Callback):
    """Log outputs for the first validation batch, their attention page, and heat maps of the first few of them.

    They go to each logger that shows texts, images or pages (`callbacks.media`). What fails is left out with a warning.

    Args:
        count: number of outputs.
        figures: number of heat maps; each takes some tenths of a second.
    """

    def __init__(self, count: int = 4, figures: int = 1) -> None:
        self.count = count
        self.figures = figures
        self.batch: Batch | None = None
        self.guard = Guard("samples and their attention are")

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
            self.batch = map_tensors(lambda part: part[: self.count], batch._replace(totals=None))

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Decode and log."""
        loggers = [logger for logger in trainer.loggers if can_show(logger)]
        if not loggers or self.batch is None or not trainer.is_global_zero:
            return
        with self.guard():
            samples = make_samples(pl_module, self.batch)
            text = "\n\n".join(sample.label for sample in samples)
            for logger in loggers:
                show_text(logger, "samples", text, trainer.global_step)
            page = make_page(samples, trainer.global_step)
            for logger in loggers:
                show_page(logger, "attention", page, trainer.global_step)
            drawn = [sample for sample in samples if sample.result.attention.size][: self.figures]
            for number, sample in enumerate(drawn):
                pixels = draw(sample)
                for logger in loggers:
                    show_image(logger, f"attention/{number}", pixels, trainer.global_step)


def make_samples(task: Any, batch: Batch) -> list[LoggedSample]:
    """Decode the inputs of a batch by the task."""
    show: dict[type[Any], Callable[..., LoggedSample]] = {
        PairBatch: show_pair,
        CaptionBatch: show_caption,
        WindowBatch: show_window,
        StreamBatch: show_stream,
        TableBatch: show_table,
    }
    vocabulary = getattr(task.vocabulary, "target", task.vocabulary)
    decoded, samples = task.generate(batch), []
    for row in range(len(decoded.tokens)):
        for result in make_results(decoded, row, vocabulary)[:1]:
            samples.append(show[type(batch)](task, batch, row, result))
    return samples


def show_pair(task: Any, batch: PairBatch, row: int, result: Result) -> LoggedSample:
    """Return an output beside its source."""
    vocabulary = task.vocabulary.source
    source = vocabulary.to_tokens(batch.source[row].tolist())
    result = replace(result, source=source, attention=result.attention[:, : len(source)])
    return LoggedSample(f"{vocabulary.join(source)} → {result.text}", result)


def show_caption(task: Any, batch: CaptionBatch, row: int, result: Result) -> LoggedSample:
    """Return the caption of an image."""
    path = task.data.rows(task.data.eval_split)[int(batch.index[row])].path
    label = f"{path.name}: {result.text}"
    if getattr(task.model.encoder, "reads_features", False):  # where the image is, and its regions, is not known
        return LoggedSample(label, replace(result, attention=result.attention[:, :0]))
    regions = locate_in_image(task.model.encoder, path, task.device)
    return LoggedSample(label, replace(result, regions=regions), path)


def show_window(task: Any, batch: WindowBatch, row: int, result: Result) -> LoggedSample:
    """Return the continuation of a context."""
    context = task.vocabulary.to_tokens(batch.context[row].tolist())
    # the first window of a text has no context to attend to
    result = replace(result, source=context, attention=result.attention[:, : len(context)], context=context)
    result = _shorten(result)
    return LoggedSample(f"{task.vocabulary.join(context)[-SHOWN:]!r} → {result.text!r}", result)


def show_stream(task: Any, batch: StreamBatch, row: int, result: Result) -> LoggedSample:
    """Return the continuation of the first chunk of a stream."""
    ids = batch.inputs[row].tolist()
    read = [task.vocabulary.tokens[index] for index in ids if index != PAD]  # <sos> has been read, too
    label = f"{task.vocabulary.decode(ids)[-SHOWN:]!r} → {result.text!r}"
    return LoggedSample(label, replace(spread_attention(_shorten(result), read), context=read))


def show_table(task: Any, batch: TableBatch, row: int, result: Result) -> LoggedSample:
    """Return the text about a table beside its cells."""
    cells = task.list_sources(batch)[row]
    text = task.restore(int(batch.index[row]), result.text)
    rows = batch.cells.rows[row, : len(cells)].tolist()
    result = replace(result, text=text, source=cells, rows=rows, attention=result.attention[:, : len(cells)])
    return LoggedSample(f"{', '.join(cells)} → {text}", result)


def make_page(samples: Sequence[LoggedSample], step: int) -> str:
    """Return the attention page of samples."""
    images = [sample.image for sample in samples if sample.image is not None]
    return render_page(f"Attention at step {step}", make_data({"": [[sample.result] for sample in samples]}, images))


def draw(sample: LoggedSample) -> Any:
    """Return the pixels of a sample's attention."""
    from attendgen.visualization import plotting

    result = sample.result
    if sample.image is None:
        figure = plotting.plot_alignment(result.source, result.tokens, result.attention, groups=result.rows)
    else:
        image = open_image(sample.image)
        figure = plotting.plot_caption(image, result.tokens, result.attention, result.regions)
    return plotting.to_array(figure)


def _shorten(result: Result) -> Result:
    """Return a continuation whose tokens a heat map has room for; its text stays whole."""
    return replace(
        result, tokens=result.tokens[:SHOWN], log_probs=result.log_probs[:SHOWN], attention=result.attention[:SHOWN]
    )

"""Score a trained model on a split or on any text files."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import TQDMProgressBar
from omegaconf import DictConfig

from attendgen.config.instantiate import instantiate
from attendgen.data.captions.features import get_image_encoder
from attendgen.data.module import BaseDataModule, open_data, require_split
from attendgen.evaluation.dynamic import measure_dynamic_bits
from attendgen.metrics.bits_per_token import perplexity
from attendgen.runs.layout import CAPTIONS, METRICS, OUTPUTS
from attendgen.runs.run import Run
from attendgen.tasks.base import BaseTask
from attendgen.utils.errors import UserError
from attendgen.utils.files import temporary_folder, write_json, write_text
from attendgen.utils.logging import silence_warnings
from attendgen.utils.packages import require_packages


@dataclass(frozen=True)
class DynamicEvaluation:
    """The settings of dynamic evaluation: a learning rate, and the decay towards the trained weights per step."""

    lr: float
    decay: float = 0.0


def evaluate(
    run: Run,
    config: DictConfig,
    split: str = "val",
    out: Path | None = None,
    texts: Sequence[Path] = (),
    dynamic: DynamicEvaluation | None = None,
) -> dict[str, float]:
    """Score a run's model; write the scores and its outputs into `out` or the run directory.

    `metrics_<split>.json` holds the scores, `captions_<split>.json` captions in the COCO results format,
    `outputs_<split>.txt` one line per sentence pair. The scores of captions include the share of them that occurs word
    for word in the training set, and METEOR if Java works; METEOR is computed last, after all else is written.

    Args:
        texts: score a language model on these files; the split is then called "text".
        dynamic: score a language model by dynamic evaluation, too.

    Raises:
        UserError: the split or the data does not exist, or `texts` or `dynamic` do not fit the family.
    """
    require_split("--split", split)
    folder = out or run.folder
    if folder is None:
        raise UserError(f"{run.checkpoint}: a checkpoint has no run directory to write to; give --out DIR")
    with temporary_folder(folder):  # the scores can be written at the end of a long evaluation
        pass
    silence_warnings()
    task: BaseTask[Any] = instantiate(config.task, "task", model=run.load_model(config), vocabulary=run.vocabulary)
    require_packages(task.packages)
    data = open_data(config.data, run.vocabulary, get_image_encoder(task.model))
    if dynamic is not None and not task.is_adaptable:
        raise UserError("--dynamic-eval-lr: only language models are scored by dynamic evaluation")
    if texts:
        split = "text"
        data.read_files(texts)
    data.open_split(split)
    scores = {**run_validation(task, data), **data.count_inputs(split), **task.score_outputs()}
    if dynamic is not None:
        scores |= score_dynamically(task, data, dynamic)
    write_outputs(task.export_outputs(), folder, split)
    metrics = folder / METRICS.format(split=split)
    write_json(metrics, scores)
    if slow := task.score_slowly():  # a program that fails or is interrupted must not cost the other scores
        scores |= slow
        write_json(metrics, scores)
    return scores


def run_validation(task: BaseTask[Any], data: BaseDataModule[Any]) -> dict[str, float]:
    """Return the scores that a task logs in a validation, without the split in their names."""
    trainer = lightning.Trainer(
        accelerator="auto",
        devices=1,
        logger=False,
        callbacks=[TQDMProgressBar(leave=False)],
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.validate(task, datamodule=data, verbose=False)
    return {name.partition("/")[2]: float(value) for name, value in trainer.callback_metrics.items()}


def score_dynamically(task: BaseTask[Any], data: BaseDataModule[Any], dynamic: DynamicEvaluation) -> dict[str, float]:
    """Return the scores of dynamic evaluation."""
    single: Any = copy.copy(data)
    single.batch_size = 1  # a text is adapted to its own past alone
    bits = measure_dynamic_bits(task.cpu(), single.val_dataloader(), dynamic.lr, dynamic.decay)
    return {"dynamic_bits_per_character": bits, "dynamic_perplexity": perplexity(bits)}


def write_outputs(outputs: list[Any], folder: Path, split: str) -> None:
    """Write outputs: texts one per line, dicts in the COCO results format."""
    if outputs and isinstance(outputs[0], dict):
        write_json(folder / CAPTIONS.format(split=split), outputs)
    elif outputs:
        write_text(folder / OUTPUTS.format(split=split), "".join(f"{line}\n" for line in outputs))

"""Score a trained model on a split or on any text files."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import TQDMProgressBar
from omegaconf import DictConfig

from attendgen.config.instantiate import instantiate
from attendgen.data.captions.features import get_image_encoder
from attendgen.data.captions.module import CaptionDataModule
from attendgen.data.module import BaseDataModule, open_data, require_split
from attendgen.data.text_corpus import TextDataModule
from attendgen.evaluation.dynamic import measure_dynamic_bits
from attendgen.metrics.bits_per_token import perplexity
from attendgen.metrics.meteor import MeteorError, is_java_present, meteor
from attendgen.metrics.tokenization import tokenize
from attendgen.runs.layout import CAPTIONS, METRICS, OUTPUTS
from attendgen.runs.run import Run
from attendgen.tasks.base import BaseTask
from attendgen.tasks.captioning import CaptioningTask
from attendgen.tasks.language_model import LanguageModelTask
from attendgen.tasks.seq2seq import Seq2SeqTask
from attendgen.utils.errors import UserError
from attendgen.utils.files import temporary_folder, write_json, write_text
from attendgen.utils.logging import silence_warnings
from attendgen.utils.packages import require_packages

log = logging.getLogger(__name__)


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
    if dynamic is not None and not isinstance(task, LanguageModelTask):
        raise UserError("--dynamic-eval-lr: only language models are scored by dynamic evaluation")
    if texts:
        if not isinstance(data, TextDataModule):
            raise UserError("--text: only language models score text files")
        split = "text"
        data.read_files(texts)
    data.open_split(split)
    scores = run_validation(task, data)
    if isinstance(data, TextDataModule):
        scores |= data.character_counts(split)
        if dynamic is not None and isinstance(task, LanguageModelTask):
            scores |= score_dynamically(task, data, dynamic)
    if isinstance(task, CaptioningTask) and isinstance(data, CaptionDataModule):
        scores |= write_captions(task, data, folder / CAPTIONS.format(split=split))
    if isinstance(task, Seq2SeqTask):
        lines = (task.texts[index].replace("\n", " ") for index in sorted(task.texts))
        write_text(folder / OUTPUTS.format(split=split), "".join(f"{line}\n" for line in lines))
    metrics = folder / METRICS.format(split=split)
    write_json(metrics, scores)
    if isinstance(task, CaptioningTask) and isinstance(data, CaptionDataModule):
        # a Java program that fails or is interrupted must not cost the other scores
        scores |= score_meteor(task.texts, data.references(data.eval_split))
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


def score_dynamically(task: LanguageModelTask, data: TextDataModule, dynamic: DynamicEvaluation) -> dict[str, float]:
    """Return the scores of dynamic evaluation."""
    data.batch_size = 1  # a text is adapted to its own past alone
    bits = measure_dynamic_bits(task.cpu(), data.val_dataloader(), dynamic.lr, dynamic.decay)
    return {"dynamic_bits_per_character": bits, "dynamic_perplexity": perplexity(bits)}


def write_captions(task: CaptioningTask, data: CaptionDataModule, path: Path) -> dict[str, float]:
    """Write decoded captions in the COCO results format; return the share of them that occurs in training."""
    names = data.image_ids(data.eval_split)
    captions: list[dict[str, Any]] = [
        {"image_id": names[index], "caption": task.texts[index]} for index in sorted(task.texts)
    ]
    write_json(path, captions)
    with contextlib.suppress(UserError):  # the training captions may be missing
        train = {tokenize(text) for texts in data.references("train").values() for text in texts}
        seen = sum(tokenize(text) in train for text in task.texts.values())
        return {"seen_in_training": seen / len(names)}
    return {}


def score_meteor(captions: Mapping[int, str], references: Mapping[int, Sequence[str]]) -> dict[str, float]:
    """Return METEOR by its name, or nothing if Java is missing; log a warning if it fails."""
    if not is_java_present():
        log.info("METEOR is left out: it needs Java")
        return {}
    try:
        return {"meteor": meteor(captions, references)}
    except MeteorError as error:
        log.warning("METEOR is left out: %s", error)
        return {}

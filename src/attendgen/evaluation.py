"""Score a trained model on a split or on any text files."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import TQDMProgressBar
from omegaconf import DictConfig

from attendgen.construction import construct
from attendgen.data.captions import CaptionDataModule
from attendgen.data.novels import NovelDataModule
from attendgen.errors import UserError
from attendgen.files import write_json, write_text
from attendgen.metrics.bits import perplexity
from attendgen.metrics.captions import tokenise
from attendgen.metrics.meteor import MeteorError, java_present, meteor
from attendgen.runs import Run, open_split, require_split, serve
from attendgen.tasks.captioning import CaptioningTask
from attendgen.tasks.dynamic import dynamic_bits
from attendgen.tasks.lm import LanguageModelTask
from attendgen.tasks.seq2seq import Seq2SeqTask
from attendgen.training import quiet

log = logging.getLogger(__name__)


def evaluate(
    run: Run,
    config: DictConfig,
    split: str = "val",
    out: Path | None = None,
    texts: Sequence[Path] = (),
    dynamic: float | None = None,
    dynamic_decay: float = 0.0,
) -> dict[str, float]:
    """Scores of a run's model; written, with its outputs, into `out` or the run directory.

    Of captions also the share that stands word for word in the training set, and METEOR where Java works: METEOR comes
    last, after everything else is written; if it fails, a warning says why and it is left out.

    `metrics_<split>.json` holds the scores, `captions_<split>.json` captions in the COCO results format,
    `outputs_<split>.txt` one line a sentence pair. With `texts`, a language model is scored on these files and the
    split is called "text". `dynamic` is the learning rate with which a language model is scored once more by dynamic
    evaluation, reported apart.

    Raises:
        UserError: the split or the data does not exist, or `texts` or `dynamic` do not fit the family.
    """
    require_split("--split", split)
    folder = out or run.folder
    if folder is None:
        raise UserError(f"{run.checkpoint}: a checkpoint has no run directory to write to; give --out DIR")
    quiet()
    data = construct(config.data)
    task = run.build(config)
    serve(data, task, run.vocabulary)
    if dynamic is not None and not isinstance(task, LanguageModelTask):
        raise UserError("--dynamic: only language models are scored by dynamic evaluation")
    extra: dict[str, float] = {}
    if texts:
        if not isinstance(data, NovelDataModule):
            raise UserError("--text: only language models score text files")
        split = "text"
        data.read_files(texts)
    open_split(data, split)
    if isinstance(data, NovelDataModule):
        extra |= data.coverage(split)
    trainer = lightning.Trainer(
        accelerator="auto",
        devices=1,
        logger=False,
        callbacks=[TQDMProgressBar(leave=False)],
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.validate(task, datamodule=data, verbose=False)
    scores = {name.partition("/")[2]: float(value) for name, value in trainer.callback_metrics.items()} | extra
    if dynamic is not None and isinstance(task, LanguageModelTask):
        data.batch_size = 1  # a text learns from its own past alone
        bits = dynamic_bits(task.cpu(), data.val_dataloader(), dynamic, dynamic_decay)
        scores |= {"dynamic_bits_per_character": bits, "dynamic_perplexity": perplexity(bits)}
    if isinstance(task, CaptioningTask) and isinstance(data, CaptionDataModule):
        names = data.image_ids(split)
        captions: list[dict[str, Any]] = [
            {"image_id": names[index], "caption": task.captions[index]} for index in sorted(task.captions)
        ]
        with contextlib.suppress(UserError):  # the training captions may not be here
            train = {tokenise(text) for texts in data.references("train").values() for text in texts}
            scores["seen_in_training"] = sum(tokenise(text) in train for text in task.captions.values()) / len(names)
        write_json(folder / f"captions_{split}.json", captions)
    if isinstance(task, Seq2SeqTask):
        lines = (task.texts[index].replace("\n", " ") for index in sorted(task.texts))
        write_text(folder / f"outputs_{split}.txt", "".join(f"{line}\n" for line in lines))
    metrics = folder / f"metrics_{split}.json"
    write_json(metrics, scores)
    if isinstance(task, CaptioningTask) and isinstance(data, CaptionDataModule):
        # METEOR comes last: a Java program that fails or is interrupted must not cost the other scores
        scores |= meteor_scores(task.captions, data.references(split))
        write_json(metrics, scores)
    return scores


def meteor_scores(captions: Mapping[int, str], references: Mapping[int, Sequence[str]]) -> dict[str, float]:
    """Return METEOR by its name, or nothing where Java is missing; log a warning where it fails."""
    if not java_present():
        log.info("METEOR is left out: it needs Java")
        return {}
    try:
        return {"meteor": meteor(captions, references)}
    except MeteorError as error:
        log.warning("METEOR is left out: %s", error)
        return {}

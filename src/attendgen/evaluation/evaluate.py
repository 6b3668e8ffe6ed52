"""Score a trained model on a split or on any text files."""

import contextlib
import copy
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from attendgen.callbacks.progress import ValidationProgress
from attendgen.config.instantiate import instantiate
from attendgen.config.trust import trust as trust_packages
from attendgen.data.captions.features import get_image_encoder
from attendgen.data.loader import BatchSizes
from attendgen.data.module import BaseDataModule, advise_root, open_data, require_split
from attendgen.decoding.config import describe_search
from attendgen.decoding.graphs import DecodingGraphs
from attendgen.evaluation.dynamic import measure_dynamic_bits
from attendgen.evaluation.options import (
    DynamicEvaluation,
    EvaluationOptions,
    describe_evaluation,
    require_own_vocabulary,
    settle_search,
)
from attendgen.evaluation.pointing import make_pointing_game
from attendgen.evaluation.recorder import AttentionSpool, Recorder
from attendgen.evaluation.scores import Scores
from attendgen.inference.result import Result
from attendgen.metrics.bits_per_token import perplexity
from attendgen.runs.layout import CAPTIONS, METRICS, OUTPUTS, SETTINGS, SIGNATURE
from attendgen.runs.run import Run, convert_precision
from attendgen.tasks.base import BaseTask
from attendgen.utils.devices import find_device
from attendgen.utils.errors import UserError
from attendgen.utils.files import temporary_folder, write_json, write_text
from attendgen.utils.logging import silence_warnings
from attendgen.utils.packages import require_packages
from attendgen.utils.precision import require_precision, set_matmul_precision


class DataSource:
    """Opens data modules; runs with the same data settings and vocabulary, one after the other, share one."""

    def __init__(self) -> None:
        self.key: str | None = None
        self.data: BaseDataModule[Any] | None = None

    def open(self, config: DictConfig, run: Run, model: nn.Module) -> BaseDataModule[Any]:
        """Return the data module of a run.

        Raises:
            UserError: see `open_data`.
        """
        encoder = get_image_encoder(model)
        settings = OmegaConf.to_container(config.data, resolve=True)
        key = json.dumps([settings, run.vocabulary.to_dict()], sort_keys=True, default=str)
        if self.data is None or key != self.key or encoder is not None:  # a data module keeps a model's features
            self.key, self.data = key, open_data(config.data, run.vocabulary, encoder)
        return self.data


def evaluate(
    run: str | Path | Run,
    split: str = "val",
    *,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    tag: str | None = None,
    texts: Sequence[str | Path] = (),
    attention: str | Path | None = None,
    boxes: str | Path | None = None,
    trust: Sequence[str] = (),
    device: str = "auto",
    precision: str = "32",
    compile: bool = False,  # noqa: A002  # as the option of the command
    **decoding: Any,  # noqa: ANN401  # the settings of a search
) -> Scores:
    """Score a run on a split, as `attendgen evaluate` does, and return its scores, outputs and attention.

    Args:
        run: a run directory, a `.ckpt` file, the name of a bundled model, or an opened run.
        split: "train", "val" (or "dev") or "test".
        overrides: changes of the run's config, as `key=value`.
        out: the folder of all files; the run directory unless given.
        tag: a part of the names of the files; made from the changed settings unless given.
        texts: score a language model on these files instead of the split.
        attention: an `.npz` file for the attention weights of the split.
        boxes: a JSON file of the boxes of words, with which the attention of captions is compared; "own" takes those
            that the data has.
        trust: Python packages of the user's own, whose classes the run may name.
        device: "cpu", "cuda", "cuda:N", or "auto", a GPU if there is one.
        precision: of the weights: "32", or "bf16", which is faster and rounds log-probabilities.
        compile: replay decoding steps as CUDA graphs, which needs a GPU.
        decoding: settings of the search, such as `beam_size=5`.

    Raises:
        UserError: the run, the split or the data does not exist, or a setting is wrong.
    """
    trust_packages(trust)
    changes = [*overrides, *(f"decoding.{name}={json.dumps(value)}" for name, value in decoding.items())]
    options = EvaluationOptions(
        split,
        changes,
        out=None if out is None else Path(out),
        tag=tag,
        texts=tuple(Path(text) for text in texts),
        attention=None if attention is None else Path(attention),
        device=device,
        precision=precision,
        boxes=None if boxes is None else str(boxes),
        compiles=compile,
    )
    return evaluate_run(run if isinstance(run, Run) else Run.find(run), options, keep_results=True)


def evaluate_many(names: Sequence[str], options: EvaluationOptions) -> Iterator[tuple[str, Scores | Exception]]:
    """Score several runs one after the other; yield each one's name with its scores, or with the error that ended it.

    Raises:
        UserError: the runs would write the same files.
    """
    if len(names) > 1 and (options.out is not None or options.attention is not None):
        option = "--out" if options.out is not None else "--save-attention"
        raise UserError(f"{option}: {len(names)} runs would write the same files; leave it out, or evaluate one run")
    if len(names) > 1 and options.devices > 1:  # each device's process runs the whole command
        raise UserError(f"--devices {options.devices}: evaluates one run; give one, or use one device")
    source = DataSource()
    for name in names:
        try:
            yield name, evaluate_run(Run.find(name), options, source)
        except Exception as error:
            yield name, error


def evaluate_run(
    run: Run, options: EvaluationOptions, source: DataSource | None = None, keep_results: bool = False
) -> Scores:
    """Score a run's model; write the scores, their settings and the outputs into a folder.

    The files are `metrics_<split>.json`, `settings_<split>.json`, and what the task exports: `captions_<split>.json`
    or `outputs_<split>.txt`. If settings of the run are changed, a tag follows the split, as in
    `metrics_val.beam5.json`. Scores of programs that may fail, as METEOR, are computed last, after all else is written.

    Args:
        source: opens the data; a new one unless given.
        keep_results: return the outputs with their attention, too.

    Returns:
        The scores; none in the further processes of several devices, which write nothing.

    Raises:
        UserError: the split or the data does not exist, or an option does not fit the family.
    """
    require_split("--split", options.split)
    device, precision = find_device(options.device), require_precision(options.precision)
    options.require_devices(device)
    folder = options.out or run.folder
    if folder is None:
        raise UserError(f"{run.checkpoint}: a checkpoint has no run directory to write to; give --out DIR")
    with temporary_folder(folder):  # the scores can be written at the end of a long evaluation
        pass
    silence_warnings()
    started = time.monotonic()
    config = settle_search(run, list(options.overrides))
    label = options.make_label(run, config)
    model = convert_precision(run.load_model(config), precision)
    task: BaseTask[Any] = instantiate(config.task, "task", model=model, vocabulary=run.vocabulary)
    task.decoding_graphs = DecodingGraphs() if options.compiles else None
    require_packages(task.packages)
    data = (source or DataSource()).open(config, run, task.model)
    require_own_vocabulary(run, config, data.vocabulary_fields)
    _require_options(task, options)
    if options.texts:
        data.read_files(options.texts)
    split = label.partition(".")[0]
    with advise_root(config.data):
        data.open_split(split)
    results: dict[int, Result] = {}
    game = None if options.boxes is None else make_pointing_game(task, data, options.boxes)
    keepers = [results.__setitem__] * keep_results + ([] if game is None else [game.add])
    with _record(task, data, options.attention, keepers):
        validated = run_validation(task, data, device, options.devices)
        if not task.trainer.is_global_zero:
            return Scores({}, {})
        scores = bound_bits({**validated, **data.count_inputs(split), **task.score_outputs()})
    if game is not None:
        scores |= game.compute()
    if options.dynamic is not None:
        scores |= score_dynamically(task.to(device), data, options.dynamic)
    signatures = {f"{name}{SIGNATURE}": text for name, text in task.sign_scores().items()}
    write_outputs(task.export_outputs(), folder, label)
    settings = describe_evaluation(run, config, options, label, time.monotonic() - started)
    if task.decodes:
        settings["search"] = describe_search(task.decoding)
    write_json(folder / SETTINGS.format(split=label), settings)
    write_json(folder / METRICS.format(split=label), {**scores, **signatures})
    if slow := task.score_slowly():  # a program that fails or is interrupted must not cost the other scores
        scores |= slow
        write_json(folder / METRICS.format(split=label), {**scores, **signatures})
    order = sorted(results)
    inputs = data.inputs(data.eval_split) if results else []
    return Scores(scores, settings, [results[index] for index in order], [inputs[index] for index in order])


def bound_bits(scores: dict[str, float]) -> dict[str, float]:
    """Return scores with a bound of the bits per character if the vocabulary lacks some characters.

    The bits charge an unknown character only for being unknown; the bound also names it among all of Unicode.
    """
    unknown, characters = scores.get("unknown_characters", 0), scores.get("characters", 0)
    if not unknown or not characters or "bits_per_character" not in scores:
        return scores
    more = math.log2(sys.maxunicode + 1) * unknown / characters
    return {**scores, "bits_per_character_bound": scores["bits_per_character"] + more}


def _require_options(task: BaseTask[Any], options: EvaluationOptions) -> None:
    if options.dynamic is not None and not task.is_adaptable:
        raise UserError("--dynamic-eval-lr: only language models are scored by dynamic evaluation")
    if options.dynamic is not None and options.precision != "32":
        raise UserError("--dynamic-eval-lr: small steps of the weights need --precision 32")
    if options.attention is not None and not task.decodes:
        raise UserError("--save-attention: a language model decodes nothing in an evaluation; leave it out")
    if options.compiles and not task.decodes:
        raise UserError("--compile: a language model decodes nothing in an evaluation; leave it out")


@contextlib.contextmanager
def _record(
    task: BaseTask[Any], data: BaseDataModule[Any], path: Path | None, keepers: Sequence[Callable[[int, Result], None]]
) -> Iterator[None]:
    """Record the outputs of a validation in the block: in a file, and by functions."""
    if not task.decodes or (path is None and not keepers):
        yield
        return
    with AttentionSpool() as spool:
        keepers = [*keepers, *([] if path is None else [spool.add])]
        task.observers += [Recorder(task, keep) for keep in keepers]
        yield
        if path is not None:
            spool.write(path, data.inputs(data.eval_split))


def run_validation(
    task: BaseTask[Any], data: BaseDataModule[Any], device: torch.device, devices: int = 1
) -> dict[str, float]:
    """Return the scores that a task logs in a validation, without the split in their names."""
    trainer = lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index] if device.type == "cuda" and devices == 1 else devices,
        strategy="auto" if devices == 1 else "ddp",
        use_distributed_sampler=False,  # the data modules shard their own batches
        logger=False,
        callbacks=[ValidationProgress()],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    set_matmul_precision(trainer.strategy.root_device)
    trainer.validate(task, datamodule=data, verbose=False)
    return {name.partition("/")[2]: float(value) for name, value in trainer.callback_metrics.items()}


def score_dynamically(task: BaseTask[Any], data: BaseDataModule[Any], dynamic: DynamicEvaluation) -> dict[str, float]:
    """Return the scores of dynamic evaluation."""
    single: Any = copy.copy(data)
    single.sizes = BatchSizes(1)  # a text is adapted to its own past alone
    bits = measure_dynamic_bits(task, single.val_dataloader(), dynamic.lr, dynamic.decay)
    scores = {"dynamic_bits_per_character": bits}
    if getattr(task, "is_by_character", False):
        scores["dynamic_perplexity"] = perplexity(bits)
    return scores


def write_outputs(outputs: list[Any], folder: Path, label: str) -> None:
    """Write outputs: texts one per line, dicts in the COCO results format."""
    if outputs and isinstance(outputs[0], dict):
        write_json(folder / CAPTIONS.format(split=label), outputs)
    elif outputs:
        write_text(folder / OUTPUTS.format(split=label), "".join(f"{line}\n" for line in outputs))

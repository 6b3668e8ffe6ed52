"""What a training is made of: data, model and task."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf

from attendgen.config.instantiate import instantiate
from attendgen.data.captions.features import get_image_encoder
from attendgen.data.module import BaseDataModule, advise_root, require_data_module
from attendgen.runs.checkpoint import SavedCheckpoint, find_newest_checkpoint
from attendgen.runs.layout import CHECKPOINTS
from attendgen.runs.run import Run
from attendgen.tasks.base import BaseTask
from attendgen.text.vocabulary import AnyVocabulary
from attendgen.training.checks import require_own_checkpoints
from attendgen.utils.errors import UserError
from attendgen.utils.packages import require_packages


class Components(NamedTuple):
    """What a training is made of; `resumed` is the checkpoint that it continues from."""

    data: BaseDataModule[Any]
    task: BaseTask[Any]
    vocabulary: AnyVocabulary
    resumed: SavedCheckpoint | None


def build_components(config: DictConfig, folder: Path, resume: bool) -> Components:
    """Build data, model and task, and connect them.

    Raises:
        UserError: the config or the data is wrong.
    """
    data = require_data_module(instantiate(config.data, "data"))
    resumed = find_newest_checkpoint(folder / CHECKPOINTS) if resume else None
    if resumed is not None:
        require_own_checkpoints(resumed)
    first = Run.find(config.init_from) if config.get("init_from") else None
    if resume:
        vocabulary = Run.find(folder, trained=False).vocabulary
    else:
        with advise_root(config.data):
            vocabulary = data.build_vocabulary() if first is None else first.vocabulary
    try:
        model = instantiate(config.model, "model", **vocabulary.sizes())
    except UserError as error:
        if first is None or vocabulary is not first.vocabulary:
            raise
        what = f"a {first.family}, whose vocabulary does not fit; give a run of the same family"
        raise UserError(f"init_from={config.init_from}: {what}: {error}") from error
    if first is not None and resumed is None:
        load_weights_of(model, first)
    task = instantiate(config.task, "task", model=model, vocabulary=vocabulary)
    if not isinstance(task, BaseTask):
        raise UserError(f"task: {type(task).__name__}; expected a class derived from attendgen.tasks.BaseTask")
    require_packages(task.packages)
    data.connect(vocabulary, get_image_encoder(model))
    OmegaConf.set_struct(config, False)
    config.family = task.family
    if config.monitor.metric is None:
        config.monitor.metric, config.monitor.mode = task.monitor
    return Components(data, task, vocabulary, resumed)


def load_weights_of(model: torch.nn.Module, run: Run) -> None:
    """Give a model another run's weights.

    Raises:
        UserError: they are of another model.
    """
    try:
        model.load_state_dict(run.load_model().state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(
            f"init_from={run.checkpoint}: weights of another model: {reason}; "
            "use the settings of its model, or leave init_from out"
        ) from error

"""Writing run directories."""

from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from attendgen.config.saved import record_config
from attendgen.runs.folder import require_free
from attendgen.runs.layout import BEST, CHECKPOINTS, CONFIG, ENVIRONMENT, RECORD, VOCABULARY
from attendgen.runs.provenance import describe_environment
from attendgen.text.vocabulary import AnyVocabulary, save_vocabulary
from attendgen.utils.files import replacing, write_json, write_text


def save_run(folder: Path, config: dict[str, Any], vocabulary: AnyVocabulary) -> None:
    """Write what a run needs beside its weights."""
    save_vocabulary(vocabulary, folder / VOCABULARY)
    write_json(folder / ENVIRONMENT, describe_environment(folder))
    save_config(folder, config)


def save_config(folder: Path, config: dict[str, Any]) -> None:
    """Write the settings with which a run was started or last resumed."""
    write_text(folder / CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def save_model_as_run(
    folder: Path, config: DictConfig, family: str, vocabulary: AnyVocabulary, model: torch.nn.Module
) -> None:
    """Write a run directory of a model that was made without training.

    Raises:
        UserError: the folder holds a run.
    """
    require_new(folder)
    OmegaConf.set_struct(config, False)
    config.family = family
    config.paths.run = str(folder.absolute())
    config.paths.cache = str(Path(config.paths.cache).absolute())
    record = record_config(config)
    save_run(folder, record, vocabulary)
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    with replacing(folder / CHECKPOINTS / BEST) as temporary:
        torch.save({RECORD: {"config": record, "vocabulary": vocabulary.to_dict()}, "state_dict": state}, temporary)


def require_new(folder: Path) -> None:
    """Check that a run can be written into a folder.

    Raises:
        UserError: the folder holds a run, or files of the names that a run has.
    """
    require_free(folder, "--out")

"""Writing run directories."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from attendgen.config.saved import record_config
from attendgen.runs.folder import require_free
from attendgen.runs.layout import (
    BEST,
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    LIKE,
    RECORD,
    VOCABULARY,
    read_arguments,
    read_settings,
)
from attendgen.runs.provenance import describe_environment
from attendgen.runs.status import NOT_TRAINED, RunStatus, begin_session, end_session
from attendgen.text.saved import describe
from attendgen.text.vocabulary import AnyVocabulary, save_vocabulary
from attendgen.utils.files import read_json, replacing, write_json, write_text


def save_run(folder: Path, config: dict[str, Any], vocabulary: AnyVocabulary) -> None:
    """Write what a run needs beside its weights, and begin its history."""
    save_vocabulary(vocabulary, folder / VOCABULARY)
    write_json(folder / ENVIRONMENT, describe_environment(folder, config))
    begin_session(folder, list_settings(folder))
    save_config(folder, config)


def list_settings(folder: Path) -> list[str]:
    """Return the settings of a run that starts, with those of the run that it is made like."""
    arguments = read_arguments(folder)
    like = [argument.removeprefix(LIKE) for argument in arguments if argument.startswith(LIKE)]
    inherited = read_settings(Path(like[0])) if like and Path(like[0]).is_dir() else []
    return [*inherited, *(argument for argument in arguments if not argument.startswith(LIKE))]


def save_resumed(folder: Path, config: dict[str, Any], changes: Sequence[str], step: int) -> None:
    """Write the settings of a run that is resumed, and a session into its history.

    Args:
        changes: settings from the command line.
        step: after which the run goes on.
    """
    now = describe_environment(folder, config, ["resume=" + str(folder), *changes])
    first = read_json(folder / ENVIRONMENT) if (folder / ENVIRONMENT).is_file() else {}
    other = {key: value for key, value in now.items() if key != "started" and first.get(key) != value}
    begin_session(folder, list(changes), step, environment=other)
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
    end_session(folder, RunStatus(NOT_TRAINED))
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    with replacing(folder / CHECKPOINTS / BEST) as temporary:
        torch.save({RECORD: {"config": record, "vocabulary": describe(vocabulary)}, "state_dict": state}, temporary)


def require_new(folder: Path) -> None:
    """Check that a run can be written into a folder.

    Raises:
        UserError: the folder holds a run, or files of the names that a run has.
    """
    require_free(folder, "--out")

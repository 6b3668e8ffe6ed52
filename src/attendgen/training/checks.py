"""Checks that a run writes and deletes in its own folder alone."""

import os
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from attendgen.config.saved import to_plain_dict
from attendgen.config.trust import iterate_values
from attendgen.runs.checkpoint import SavedCheckpoint
from attendgen.runs.layout import LOG, is_run_folder
from attendgen.utils.errors import UserError

PATH_FIELDS = ("dirpath", "folder", "save_dir", "root_dir", "default_root_dir", "log_dir", "dir")


def require_own_folder(config: DictConfig, folder: Path) -> None:
    """Check that a run writes into its own folder: a saved run's config names the folder of that run.

    Raises:
        UserError: `paths.run` is another folder.
    """
    if os.path.realpath(config.paths.run) != os.path.realpath(folder):
        raise UserError(
            f"paths.run={config.paths.run}: not the folder of this run, {folder}; train with the settings of another "
            "run by attendgen train like=RUN"
        )
    for field, value in _iterate_paths(config, folder):
        path = Path(value).resolve()
        if path.is_relative_to(folder.resolve()):  # whatever the folder lies in
            continue
        other = next((place for place in (path, *path.parents) if is_run_folder(place)), None)
        if other is not None:
            raise UserError(f"{field}={value}: in the folder of another run, {other}; give another folder")


def require_training(config: DictConfig, source: Path) -> None:
    """Check that a run has the settings of a training; what was made without training lacks them.

    Raises:
        UserError: it has none.
    """
    for key in ("trainer", "callbacks", "paths", "monitor"):
        if not isinstance(OmegaConf.select(config, key), DictConfig):
            raise UserError(f"{source}: {key}: missing, or not a group of fields; the run cannot be trained, only used")


def _iterate_paths(config: DictConfig, source: Path) -> Iterator[tuple[str, str]]:
    """Yield the folders that callbacks, loggers and the trainer write into, by field."""
    groups = {
        group: value for group, value in to_plain_dict(config).items() if group in ("callbacks", "logger", "trainer")
    }
    for field, value in iterate_values(groups, source):
        if field.rpartition(".")[2] in PATH_FIELDS and value:
            yield field, str(value)


def require_own_paths(config: DictConfig, folder: Path, given: list[str], source: Path) -> None:
    """Check that a run with saved settings, which may come from someone else, writes and deletes in its own folder.

    Args:
        given: fields from the command line; the user's own word is taken.
        source: the file of the settings.

    Raises:
        UserError: a callback, a logger or the trainer names another folder, or a file of the run is a link.
    """
    own = os.path.realpath(folder)
    for field, value in _iterate_paths(config, source):
        if any(f"{field}.".startswith(f"{key}.") for key in given):
            continue
        if os.path.commonpath([own, os.path.realpath(value)]) != own:
            raise UserError(
                f"{source}: {field}={value}: not in the run's own folder; if it is meant, say so on "
                f"the command line: {field}={value}"
            )
    if (folder / LOG).is_symlink():
        raise UserError(
            f"{folder / 'train.log'}: a link to another file, to which a resumed run would write; remove the link"
        )


def require_own_checkpoints(checkpoint: SavedCheckpoint) -> None:
    """Check that the older checkpoints that a resumed run would delete are files beside the new ones.

    Raises:
        UserError: the checkpoint names others.
    """
    states = checkpoint.callbacks
    for state in states.values() if isinstance(states, dict) else ():
        if not isinstance(state, dict) or "dirpath" not in state:
            continue
        models = state.get("best_k_models") or {}
        names = [*models, *(state.get(f"{kind}_model_path") for kind in ("kth_best", "last", "best"))]
        for name in filter(None, names):
            if Path(name).resolve().parent != Path(state["dirpath"]).resolve() or Path(name).is_dir():
                raise UserError(
                    f"{checkpoint.path}: names {name} as a checkpoint of its own, which it is not; "
                    "copy the run's folder as a whole"
                )

"""A new training with the settings of a saved run: attendgen train like=RUN [key=value ...].

Hydra chooses the folder, sets up the log and expands a sweep. The settings come from the run. Changes of them travel
through Hydra below the key `changes`, because Hydra does not know the run's config.
"""

import logging
import re
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from attendgen.config.overrides import expand_profiler
from attendgen.runs.folder import names_bundled
from attendgen.runs.layout import CHANGES, CONFIG, HYDRA, LIKE, clean_argument, is_run_folder
from attendgen.runs.run import Run
from attendgen.runs.status import read_history
from attendgen.training.checks import require_own_paths, require_training
from attendgen.utils.errors import UserError
from attendgen.utils.files import exists

log = logging.getLogger(__name__)


def is_like(arguments: list[str]) -> bool:
    """Return whether arguments ask for a training with the settings of a saved run."""
    return any(argument.startswith(LIKE) for argument in arguments)


def make_hydra_overrides(overrides: list[str]) -> list[str]:
    """Return overrides for Hydra that carry a run and changes of its settings through it.

    Raises:
        UserError: there is no such run, it was made without training, or a change is not of the form key=value.
    """
    name = next(clean_argument(override) for override in overrides if override.startswith(LIKE)).removeprefix(LIKE)
    run = Run.find(name, trained=False)
    require_training(run.config, _get_source(run))
    is_path = exists(name) and not names_bundled(name)
    path = str(Path(name).absolute() if is_path else name).replace("\\", "\\\\").replace("'", "\\'")
    given = [f"{LIKE}'{path}'", f"hydra.job.name={_get_folder_name(run)}"]
    for override in overrides:
        if override.startswith(LIKE):
            continue
        key, equals, _ = override.partition("=")
        is_hydras = re.match(r"\+*hydra[./]", key) or override.startswith(CHANGES)
        if not is_hydras and (not equals or "/" in key or key.startswith("~")):
            raise UserError(f"{override}: a saved run has single settings, no groups; give KEY=VALUE")
        if is_hydras or key == "paths.outputs":  # Hydra chooses the folder
            given.append(override)
        else:
            given.append(CHANGES + override.lstrip("+"))
    return given


def restore_config(composed: DictConfig, folder: Path) -> DictConfig:
    """Return the config of the run that a composed config names, with the changes of this training.

    Args:
        folder: of the new training.

    Raises:
        UserError: a change names an unknown field, or a part of the run writes into another folder.
    """
    run = Run.find(composed.like, trained=False)
    overrides = [clean_argument(override) for override in HydraConfig.get().overrides.task]
    changes = [override for override in overrides if not override.startswith(LIKE)]
    config = run.override(changes)
    source = _get_source(run)
    require_training(config, source)
    if run.folder is not None and any(session.get("changes") for session in read_history(run.folder)[1:]):
        log.warning("%s: resumed with other settings than at its start; the new run has the last ones", run.folder)
    OmegaConf.set_struct(config, False)
    config.like = composed.like
    config.paths.outputs, config.paths.run = composed.paths.outputs, str(folder.absolute())
    expand_profiler(config)
    require_own_paths(config, folder, [change.partition("=")[0] for change in changes], source)
    return config


def refuse_folder_of_run(*folders: str | None) -> None:
    """Check that Hydra is not given a run's folder for configs: such a training would write into that run.

    Raises:
        UserError: one of the folders is that of a run.
    """
    for name in filter(None, folders):
        folder = Path(name).absolute()
        run = folder.parent if folder.name == HYDRA else folder
        if is_run_folder(run):
            raise UserError(f"{name}: the folder of a run; train with its settings by attendgen train like={run}")


def _get_source(run: Run) -> Path:
    return run.checkpoint if run.folder is None else run.folder / CONFIG


def _get_folder_name(run: Run) -> str:
    """Return the name of the folder of new runs, as far as it is one."""
    return re.sub(r"[^\w.-]", "_", str(run.config.get("name") or "custom"))

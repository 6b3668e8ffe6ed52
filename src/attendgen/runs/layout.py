"""The names of all files in a run directory, and what Hydra and sweeps write into it."""

from pathlib import Path

from attendgen.config.literals import unquote
from attendgen.utils.files import exists, read_json, read_yaml

CONFIG = "config.yaml"  # the settings with which a run was started or last resumed
VOCABULARY = "vocabulary.json"
ENVIRONMENT = "environment.json"  # versions, commit, device, command of the first start
HISTORY = "history.json"  # the first start and each time that the run was resumed: when, with which changes, its end
METRICS = "metrics_{split}.json"  # here and below, a split may be followed by a tag, as in "val.beam5"
SIGNATURE = "_signature"  # ends the names of what is not a number in it: how the score of that name was computed
SETTINGS = "settings_{split}.json"  # how the scores of that split were made
FIT_METRICS = METRICS.format(split="fit")  # the best monitored score, and the cost of the training
CAPTIONS = "captions_{split}.json"  # in the COCO results format
OUTPUTS = "outputs_{split}.txt"  # one line per input
LOG = "train.log"
ERROR = "error.json"  # why a trial of a sweep failed

CHECKPOINTS = "checkpoints"
BEST = "best.ckpt"
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"  # a run resumes from the last, or from the previous if that is broken
RECORD = "attendgen"  # a checkpoint's key of the config, the vocabulary and the seconds of training
FIT_SECONDS = "fit_seconds"
WEIGHTS = "weights.safetensors"  # of a bundled model
LOGGERS = "loggers.json"  # the ids of the runs of W&B and MLflow, which a resumed run continues
TENSORBOARD = "tensorboard"
LOGS = (TENSORBOARD, "csv", "wandb", "mlflow")  # of loggers

HYDRA = ".hydra"
OVERRIDES = Path(HYDRA, "overrides.yaml")
TRIAL = Path(HYDRA, "trial.yaml")  # the config of a sweep's trial, which the trial's process reads

FILES = (LOG, CONFIG, VOCABULARY, ENVIRONMENT, HISTORY, FIT_METRICS, LOGGERS)  # that a training writes
FOLDERS = (HYDRA, CHECKPOINTS, *LOGS)
BEFORE_CONFIG = (HYDRA, LOG, VOCABULARY, ENVIRONMENT, HISTORY)  # written before the config


LIKE = "like="  # begins the argument that names the run whose settings a new one takes
CHANGES = "++changes."  # begins a change of these settings in what Hydra is given; see hydra_app/like.py


def is_run_folder(folder: Path) -> bool:
    """Return whether a folder holds a run."""
    return all(exists(folder / name) for name in (CONFIG, VOCABULARY))


def has_checkpoint(folder: Path) -> bool:
    """Return whether a run has saved a checkpoint."""
    return any((folder / CHECKPOINTS).glob("*.ckpt"))


def clean_argument(argument: str) -> str:
    """Return an argument of `attendgen train` as the user wrote it, from what Hydra was given."""
    key, equals, value = argument.removeprefix(CHANGES).partition("=")
    return f"{key}{equals}{unquote(value)}"


def read_arguments(folder: Path) -> list[str]:
    """Return a run's command line without Hydra's own settings; empty if the run has none.

    Raises:
        UserError: the file is broken.
    """
    path = folder / OVERRIDES
    return [clean_argument(str(argument)) for argument in read_yaml(path) or []] if path.is_file() else []


def read_settings(folder: Path) -> list[str]:
    """Return a run's settings as arguments, those of the run that it was made like first.

    Raises:
        UserError: a file of the run is broken.
    """
    history = read_json(folder / HISTORY) if (folder / HISTORY).is_file() else None
    if isinstance(history, list) and history and isinstance(history[0], dict):
        return [str(change) for change in history[0].get("changes", [])]
    return read_arguments(folder)


def read_overrides(folder: Path) -> dict[str, str]:
    """Return a run's settings by key; without those of the default config."""
    pairs = (argument.partition("=") for argument in read_settings(folder))
    return {key.lstrip("+~"): value for key, _, value in pairs}
